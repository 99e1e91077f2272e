"""Plugins for LocalStack 4.14 in host mode. Nothing here is imported by Marquee itself."""

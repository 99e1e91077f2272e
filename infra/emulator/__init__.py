"""LocalStack in host mode, and our plugins for it."""

"""Kafka log lines to Arrow tables."""

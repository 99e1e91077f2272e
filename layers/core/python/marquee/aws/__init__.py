"""The edges: the only package that knows AWS, Kafka and Delta Lake."""

"""The broker: embedded, or Apache Kafka."""

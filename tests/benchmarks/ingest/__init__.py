"""The drain beside a bare consumer and beside one line at a time, on Apache Kafka."""

//! An embedded Kafka broker.

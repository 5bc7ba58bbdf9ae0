//! The suites on real Apache Kafka, with Kafka's own tools and Java client as independent witnesses.

mod clients;
mod embedded;
mod harness;
mod protocol;

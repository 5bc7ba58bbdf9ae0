//! The suites on real Apache Kafka, with Kafka's own tools and Java client as independent witnesses.

mod admin;
mod admin_versions;
mod bad_input;
mod clients;
mod consumer_faults;
mod consumer_protocol;
mod embedded;
mod embedded_admin;
mod exactly_once;
mod foreign;
mod groups;
mod harness;
mod jobs;
mod kills;
mod producer_faults;
mod protocol;
mod replicas;
mod sasl;
mod schemas;
mod secured;
mod share;
mod support;
mod telemetry;
mod tls;
mod tokens;
mod transactions;

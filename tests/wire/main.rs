//! The client's public API against the embedded broker, over TCP.

mod admin;
mod cancel;
mod cancel_reads;
mod close;
mod connections;
mod consumer_groups;
mod consumer_offsets;
mod consumer_reads;
mod metrics;
mod names;
mod producer_custom;
mod producer_rig;
mod producer_send;
mod producer_transactions;
mod quiet;
mod quotas;
mod readme;
mod resilience;
mod rights;
mod share;
mod slow_reader;
mod times;
mod tls;

// Without any async runtime, as an application may be.
use futures_executor::block_on;
use kafka_wire::Admin;
use kafka_wire::config::ClientConfig;
use tidewater_broker::{EmbeddedBroker, Options};

/// An embedded broker.
fn broker(options: Options) -> EmbeddedBroker {
    EmbeddedBroker::start(options).expect("an embedded broker")
}

/// An admin client of it, in no hurry.
fn admin(broker: &EmbeddedBroker) -> Admin {
    Admin::new(ClientConfig::bootstrap(&broker.bootstrap()).expect("addresses")).expect("an admin client")
}

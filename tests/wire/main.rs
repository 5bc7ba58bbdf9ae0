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

/// Runs a future without any async runtime, as an application of ours may.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

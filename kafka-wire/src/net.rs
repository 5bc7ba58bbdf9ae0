//! The rim: sockets, clocks, threads. Layer 10, and the only part that names tokio.
//!
//! Each handle has a thread of its own that drives one engine, so that a handle works from any thread and
//! under any async runtime or none.

pub(crate) mod admin;
mod buffers;
pub(crate) mod consumer;
mod dial;
pub(crate) mod driver;
#[cfg(feature = "tls")]
pub(crate) mod http;
mod login;
mod producer;
#[cfg(feature = "metrics")]
mod publish;
pub(crate) mod share;
pub(crate) mod signal;
#[cfg(feature = "tls")]
mod tls;
mod token;

pub use producer::{DeliveryCallback, Producer, ProducerBuilder, TransactionalProducer};

//! Looks at records on their way, and at their fate.

use std::fmt;

use super::receipt::BatchMetadata;
use super::record::{OwnedRecord, Record};
use crate::error::{Result, shielded};

/// Looks at every record before it is sent, may change it, and hears of every batch's fate; Java's
/// `ProducerInterceptor`. A panic in one is logged, and the record goes on as it was left.
///
/// With at least one interceptor each record is copied before it is sent; without, nothing is.
pub trait ProducerInterceptor: Send + Sync {
    /// A record is about to be sent, on the thread that sends it and before its partition is chosen. A
    /// record that [`try_enqueue`](crate::Producer::try_enqueue) has no room for was seen all the same.
    fn on_send(&self, record: &mut OwnedRecord) {
        let _ = record;
    }

    /// The fate of a batch, on the client's I/O thread, which it must not block; or why a record was refused
    /// before it came into a batch, on the thread that sent it or dropped the future that was to do so.
    fn on_acknowledgement(&self, fate: &Result<BatchMetadata>) {
        let _ = fate;
    }
}

/// A producer's interceptors, in their order.
#[derive(Default)]
pub(crate) struct Interceptors(Vec<Box<dyn ProducerInterceptor>>);

impl Interceptors {
    pub(crate) fn push(&mut self, interceptor: impl ProducerInterceptor + 'static) {
        self.0.push(Box::new(interceptor));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn on_send(&self, record: &Record<'_>) -> OwnedRecord {
        let mut record = OwnedRecord::from(record);
        for interceptor in &self.0 {
            shielded("an interceptor's on_send", || interceptor.on_send(&mut record));
        }
        record
    }

    pub(crate) fn on_acknowledgement(&self, fate: &Result<BatchMetadata>) {
        for interceptor in &self.0 {
            shielded("an interceptor's on_acknowledgement", || interceptor.on_acknowledgement(fate));
        }
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} interceptors", self.0.len())
    }
}

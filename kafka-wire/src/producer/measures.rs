//! What a producer counts, per batch and request.

use std::time::Instant;

use super::batch::Batch;
use crate::metrics::{Recent, Report, Sink, millis};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Measures {
    records: u64,
    bytes: u64,
    retries: u64,
    errors: u64,
    splits: u64,
    /// Bytes.
    batch_size: Recent,
    /// Milliseconds from a batch's first record to its first request.
    queue_time: Recent,
    records_per_request: Recent,
}

impl Measures {
    /// A batch goes out for the first time.
    pub(super) fn sent(&mut self, now: Instant, batch: &Batch) {
        self.records += u64::from(batch.records.records());
        self.bytes += batch.records.size_bytes() as u64;
        self.batch_size.record(now, batch.records.size_bytes() as f64);
        self.queue_time.record(now, millis(now.saturating_duration_since(batch.created)));
    }

    /// A request goes out with so many records.
    pub(super) fn requested(&mut self, now: Instant, records: u32) {
        self.records_per_request.record(now, f64::from(records));
    }

    /// So many records are to be sent again.
    pub(super) fn retried(&mut self, records: u32) {
        self.retries += u64::from(records);
    }

    /// So many records have failed for good.
    pub(super) fn failed(&mut self, records: u32) {
        self.errors += u64::from(records);
    }

    /// A batch was too large for the broker.
    pub(super) fn split(&mut self) {
        self.splits += 1;
    }

    pub(super) fn report(&self, now: Instant, sink: &mut Sink<'_>) {
        let mut report = Report::new("producer-metrics", &[], sink);
        report.total("record-send-total", self.records);
        report.total("byte-total", self.bytes);
        report.total("record-retry-total", self.retries);
        report.total("record-error-total", self.errors);
        report.total("batch-split-total", self.splits);
        report.recent("batch-size-avg", "batch-size-max", &self.batch_size, now);
        report.recent("record-queue-time-avg", "record-queue-time-max", &self.queue_time, now);
        report.recent("records-per-request-avg", "records-per-request-max", &self.records_per_request, now);
    }
}

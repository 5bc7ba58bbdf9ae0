//! What a job counts about itself. Layer 1.
//!
//! Workers add once per batch, never per record; anyone may take a snapshot at any time.

mod histogram;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use histogram::{Histogram, Quantiles};
use serde::Serialize;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        // Relaxed here and below: figures are shown, nothing is decided by them.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down; none until it is set.
#[derive(Debug)]
pub struct Gauge(AtomicI64);

impl Default for Gauge {
    fn default() -> Self {
        Self(AtomicI64::new(UNSET))
    }
}

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it was set to last.
    pub fn value(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&value| value != UNSET)
    }
}

/// The figures of one job, over its restarts. Shared by its workers.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Records read by the sources.
    pub records_in: Counter,
    /// Records handed to the sinks.
    pub records_out: Counter,
    /// Bytes read by the sources.
    pub bytes_in: Counter,
    /// Records that came after their window was gone.
    pub late_records: Counter,
    /// Records that could not be read and were skipped or set aside.
    pub poison_records: Counter,
    /// Epochs committed.
    pub epochs_committed: Counter,
    /// State bytes made durable.
    pub state_bytes_written: Counter,
    /// Times the job began again from its manifest.
    pub restarts: Counter,
    /// Event time in milliseconds that all sources have reached.
    pub watermark_ms: Gauge,
    /// Records that the sources have yet to read, to the end of the log as last seen.
    pub lag_records: Gauge,
    /// From the end of an epoch until it is committed.
    pub commit_latency: Histogram,
    frontier_holder: Mutex<Option<String>>,
}

impl Metrics {
    /// Says who holds the watermark back, such as `clicks-3`; none when nobody does. Set it when it changes, not per batch.
    pub fn set_frontier_holder(&self, holder: Option<String>) {
        *self.frontier_holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
    }

    /// All figures as they are now; each is exact, together they may be a batch apart.
    pub fn snapshot(&self) -> MetricsSnapshot {
        MetricsSnapshot {
            records_in: self.records_in.value(),
            records_out: self.records_out.value(),
            bytes_in: self.bytes_in.value(),
            late_records: self.late_records.value(),
            poison_records: self.poison_records.value(),
            epochs_committed: self.epochs_committed.value(),
            state_bytes_written: self.state_bytes_written.value(),
            restarts: self.restarts.value(),
            watermark_ms: self.watermark_ms.value(),
            lag_records: self.lag_records.value(),
            commit_latency: self.commit_latency.quantiles(),
            frontier_holder: self.frontier_holder.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The figures of a job at one moment; what `status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MetricsSnapshot {
    /// Records read by the sources.
    pub records_in: u64,
    /// Records handed to the sinks.
    pub records_out: u64,
    /// Bytes read by the sources.
    pub bytes_in: u64,
    /// Records that came after their window was gone.
    pub late_records: u64,
    /// Records that could not be read and were skipped or set aside.
    pub poison_records: u64,
    /// Epochs committed.
    pub epochs_committed: u64,
    /// State bytes made durable.
    pub state_bytes_written: u64,
    /// Times the job began again from its manifest.
    pub restarts: u64,
    /// Event time in milliseconds that all sources have reached.
    pub watermark_ms: Option<i64>,
    /// Records that the sources have yet to read.
    pub lag_records: Option<i64>,
    /// From the end of an epoch until it is committed; none before the first.
    pub commit_latency: Option<Quantiles>,
    /// Who holds the watermark back.
    pub frontier_holder: Option<String>,
}

impl MetricsSnapshot {
    /// Records read a second since `earlier`, which was taken `elapsed` before this one; 0 for no time at all.
    pub fn records_per_second(&self, earlier: &Self, elapsed: Duration) -> f64 {
        let records = self.records_in.saturating_sub(earlier.records_in);
        if elapsed.is_zero() { 0.0 } else { records as f64 / elapsed.as_secs_f64() }
    }
}

/// No event time or lag is this one.
const UNSET: i64 = i64::MIN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_holds_what_was_counted() {
        let metrics = Metrics::default();
        let before = metrics.snapshot();
        assert_eq!((before.records_in, before.watermark_ms, before.commit_latency), (0, None, None));
        metrics.records_in.add(1_000);
        metrics.records_in.add(500);
        metrics.late_records.add(2);
        metrics.watermark_ms.set(-7);
        metrics.commit_latency.record(Duration::from_millis(20));
        metrics.set_frontier_holder(Some("clicks-3".into()));
        let after = metrics.snapshot();
        assert_eq!((after.records_in, after.late_records, after.watermark_ms), (1_500, 2, Some(-7)));
        assert_eq!(after.frontier_holder.as_deref(), Some("clicks-3"));
        assert_eq!(after.commit_latency.unwrap().count, 1);
        assert_eq!(after.records_per_second(&before, Duration::from_millis(500)), 3_000.0);
        assert_eq!(after.records_per_second(&before, Duration::ZERO), 0.0);
        let json = serde_json::to_string(&after).unwrap();
        assert!(
            json.contains("\"records_in\":1500") && json.contains("\"frontier_holder\":\"clicks-3\""),
            "{json}"
        );
    }

    #[test]
    fn workers_count_together() {
        let metrics = Metrics::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| metrics.records_out.add(3)));
            }
        });
        assert_eq!(metrics.snapshot().records_out, 12_000);
    }
}

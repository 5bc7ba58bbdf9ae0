//! How a job runs.

use std::time::Duration;

use crate::config::Config;
use crate::source::StartAt;

/// How a job runs. Every field has a default with a reason; none is needed to get going.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many workers (threads) share the work. Default 1. A job may be restarted with another number.
    pub workers: usize,
    /// How long an epoch lasts, and so how late output may be. Default 200 ms: five transactions a second
    /// cost a broker little.
    pub epoch_interval: Duration,
    /// An epoch that has read this many records ends before its time. Default one million.
    pub epoch_records: u64,
    /// An epoch that has read this many bytes ends before its time. Default 16 MiB, so that several fit into
    /// `buffer_bytes`.
    pub epoch_bytes: u64,
    /// How many bytes may be under way between the sources and their consumers. Default 64 MiB.
    pub buffer_bytes: usize,
    /// Where the first start begins to read. Default: at the oldest record.
    pub start: StartAt,
    /// Begin anew, as if the job had never run: its manifest and state are left behind. Default false.
    pub fresh: bool,
    /// Read the input to where it ends at the first start, commit all of it, and end. Default false.
    pub bounded: bool,
    /// How often in a row a job that fails for a reason that may pass is restarted from its manifest before
    /// it gives up. A run that commits anything but its start begins the count anew. Default 10.
    pub max_restarts: u32,
    /// The wait before the first restart; it doubles with each that follows, up to 10 s. Default 100 ms.
    pub restart_backoff: Duration,
    /// What the job's clients are configured with, where its state is kept, and its id.
    pub config: Config,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let default = Self::default();
        Self {
            workers: config.parallelism.unwrap_or(default.workers),
            epoch_interval: config.epoch_interval.unwrap_or(default.epoch_interval),
            epoch_records: config.epoch_max_records.unwrap_or(default.epoch_records),
            epoch_bytes: config.epoch_max_bytes.unwrap_or(default.epoch_bytes),
            buffer_bytes: config.max_buffered_bytes.unwrap_or(default.buffer_bytes),
            max_restarts: config.max_restarts.unwrap_or(default.max_restarts),
            config: config.clone(),
            ..default
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            epoch_interval: Duration::from_millis(200),
            epoch_records: 1_000_000,
            epoch_bytes: 16 * 1024 * 1024,
            buffer_bytes: 64 * 1024 * 1024,
            start: StartAt::Earliest,
            fresh: false,
            bounded: false,
            max_restarts: 10,
            restart_backoff: Duration::from_millis(100),
            config: Config::default(),
        }
    }
}

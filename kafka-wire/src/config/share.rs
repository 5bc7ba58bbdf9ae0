use std::time::Duration;

use super::parse::Reader;
use super::{ClientConfig, Properties};
use crate::error::{Error, ErrorKind, Result};
use crate::time::bound;

/// Who says what has become of a record (`share.acknowledgement.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AcknowledgementMode {
    /// A record that was handed out is accepted by the next poll or commit. Java's default, and ours.
    #[default]
    Implicit,
    /// The application, for each record before it polls again.
    Explicit,
}

/// How many records are acquired at a time (`share.acquire.mode`, KIP-1206).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AcquireMode {
    /// Whole batches of the log, which may exceed `max.poll.records`: cheaper for the broker. Java's default, and
    /// ours.
    #[default]
    BatchOptimized,
    /// At most `max.poll.records`. Needs brokers from 4.2.
    RecordLimit,
}

/// What a share consumer can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConsumerConfig {
    /// What every client needs.
    pub client: ClientConfig,
    /// `group.id`: the share group. Required.
    pub group_id: Option<String>,
    /// `share.acknowledgement.mode`. Default implicit.
    pub acknowledgement_mode: AcknowledgementMode,
    /// `share.acquire.mode`. Default `batch_optimized`.
    pub acquire_mode: AcquireMode,
    /// `max.poll.records`: how many records a broker hands over in one answer, and so how many of one broker are
    /// locked while they wait here. Default 500.
    pub max_poll_records: i32,
    /// `max.poll.interval.ms`: an application that does not poll for so long is taken for stuck, and its member
    /// leaves the group until it polls again. Default 300 s.
    pub max_poll_interval: Duration,
    /// `fetch.min.bytes`. Default 1.
    pub fetch_min_bytes: i32,
    /// `fetch.max.wait.ms`: how long a broker waits for records while the application does. Default 500 ms.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`: the most one answer holds (a larger first batch comes whole). Default 2 MiB, as for the
    /// consumer of partitions; this times the number of brokers is the most that is buffered.
    pub fetch_max_bytes: i32,
    /// `check.crcs`: verify each batch's checksum. Default `true`.
    pub check_crcs: bool,
}

impl Default for ShareConsumerConfig {
    fn default() -> Self {
        Self {
            client: ClientConfig::default(),
            group_id: None,
            acknowledgement_mode: AcknowledgementMode::Implicit,
            acquire_mode: AcquireMode::BatchOptimized,
            max_poll_records: 500,
            max_poll_interval: Duration::from_secs(300),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 2 << 20,
            check_crcs: true,
        }
    }
}

impl ShareConsumerConfig {
    /// Reads the properties that concern a share consumer.
    ///
    /// # Errors
    /// `Config`, naming the property, its value and what is allowed.
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        let reader = Reader::new(properties);
        let default = Self::default();
        Ok(Self {
            client: ClientConfig::read(&reader)?,
            group_id: reader.text("group.id").filter(|id| !id.is_empty()).map(str::to_owned),
            acknowledgement_mode: reader.choice(
                "share.acknowledgement.mode",
                default.acknowledgement_mode,
                &[("implicit", AcknowledgementMode::Implicit), ("explicit", AcknowledgementMode::Explicit)],
            )?,
            acquire_mode: reader.choice(
                "share.acquire.mode",
                default.acquire_mode,
                &[
                    ("batch_optimized", AcquireMode::BatchOptimized),
                    ("record_limit", AcquireMode::RecordLimit),
                ],
            )?,
            max_poll_records: reader.number("max.poll.records", default.max_poll_records, 1..=i32::MAX)?,
            max_poll_interval: reader.millis("max.poll.interval.ms", default.max_poll_interval, 1)?,
            fetch_min_bytes: reader.number("fetch.min.bytes", default.fetch_min_bytes, 0..=i32::MAX)?,
            fetch_max_wait: reader.millis("fetch.max.wait.ms", default.fetch_max_wait, 0)?,
            fetch_max_bytes: reader.number("fetch.max.bytes", default.fetch_max_bytes, 1..=64 << 20)?,
            check_crcs: reader.boolean("check.crcs", default.check_crcs)?,
        })
    }

    /// See [`ClientConfig::with_finite_times`].
    #[cfg_attr(
        not(feature = "net"),
        allow(dead_code, reason = "the handle bounds what applications give it")
    )]
    pub(crate) fn with_finite_times(mut self) -> Self {
        bound([&mut self.fetch_max_wait]);
        Self { client: self.client.with_finite_times(), ..self }
    }

    /// The group.
    ///
    /// # Errors
    /// `Config` without one.
    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "the handle asks"))]
    pub(crate) fn group(&self) -> Result<&str> {
        self.group_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| {
            Error::new(ErrorKind::Config, "read as a share consumer without a group.id")
                .with_hint("set group.id")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_named_as_in_java() {
        let mut properties = Properties::new();
        for entry in [
            "bootstrap.servers=localhost:9092",
            "group.id=workers",
            "share.acknowledgement.mode=EXPLICIT",
            "share.acquire.mode=record_limit",
            "max.poll.records=7",
            "max.poll.interval.ms=60000",
        ] {
            properties.set_entry(entry).unwrap();
        }
        let config = ShareConsumerConfig::from_properties(&properties).unwrap();
        assert_eq!(config.group().unwrap(), "workers");
        assert_eq!(config.acknowledgement_mode, AcknowledgementMode::Explicit);
        assert_eq!((config.acquire_mode, config.max_poll_records), (AcquireMode::RecordLimit, 7));
        assert_eq!(config.max_poll_interval, Duration::from_secs(60));
        assert_eq!(ShareConsumerConfig::default().group().unwrap_err().kind(), ErrorKind::Config);
    }
}

use std::time::Duration;

use super::parse::Reader;
use super::{ClientConfig, GroupConfig, OffsetReset, Properties};
use crate::error::Result;
use crate::time::bound;
use crate::types::Isolation;

/// What a consumer can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// What every client needs.
    pub client: ClientConfig,
    /// `group.id`: whose committed offsets are read and written.
    pub group_id: Option<String>,
    /// How this consumer is a member of that group, when it subscribes.
    pub group: GroupConfig,
    /// `auto.offset.reset`. Default latest.
    pub auto_offset_reset: OffsetReset,
    /// `isolation.level`. Default `read_committed`, unlike Java: what an aborted transaction wrote was never
    /// meant to be seen.
    pub isolation: Isolation,
    /// `enable.auto.commit`. Default `false`, unlike Java: a commit on a timer covers records that nobody has
    /// dealt with yet.
    pub enable_auto_commit: bool,
    /// `auto.commit.interval.ms`. Default 5 s.
    pub auto_commit_interval: Duration,
    /// `fetch.min.bytes`: a broker waits for this many bytes, up to `fetch_max_wait`. Default 1.
    pub fetch_min_bytes: i32,
    /// `fetch.max.wait.ms`. Default 500 ms.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`: the most one answer holds (a larger first batch comes whole). Default 2 MiB, less
    /// than Java's 50: about five answers are in memory at a time (arriving, waiting, being worked on), and
    /// larger ones measured no faster, with 36 MiB resident instead of 24.
    pub fetch_max_bytes: i32,
    /// `max.partition.fetch.bytes`: the most of one partition in an answer. Default 1 MiB.
    pub max_partition_fetch_bytes: i32,
    /// `queued.max.bytes`: memory of what was fetched and waits for the application; when it is reached,
    /// fetching pauses. A name of our own: Java bounds it only by what one round of fetches brings. An answer
    /// counts as a whole until its last batch is taken, and batches are decompressed only then, one at a time.
    /// Half is for what is here, half for what is on its way. Default 8 MiB.
    pub queued_max_bytes: usize,
    /// `max.poll.records`: the most records that one `poll` gives. Default: no limit, unlike Java's 500: a
    /// poll gives whole batches, and records of a batch cost nothing until they are looked at.
    pub max_poll_records: Option<usize>,
    /// `check.crcs`: verify each batch's checksum. Default `true`.
    pub check_crcs: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            client: ClientConfig::default(),
            group_id: None,
            group: GroupConfig::default(),
            auto_offset_reset: OffsetReset::Latest,
            isolation: Isolation::ReadCommitted,
            enable_auto_commit: false,
            auto_commit_interval: Duration::from_secs(5),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 2 << 20,
            max_partition_fetch_bytes: 1 << 20,
            queued_max_bytes: 8 << 20,
            max_poll_records: None,
            check_crcs: true,
        }
    }
}

impl ConsumerConfig {
    /// Reads the properties that concern a consumer.
    ///
    /// # Errors
    /// `Config`, naming the property, its value and what is allowed.
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        let reader = Reader::new(properties);
        let default = Self::default();
        if !reader.boolean("exclude.internal.topics", true)? {
            let allowed = "true: no pattern means Kafka's own topics, which can be subscribed to by name";
            return Err(reader.invalid("exclude.internal.topics", allowed));
        }
        Ok(Self {
            client: ClientConfig::read(&reader)?,
            group_id: reader.text("group.id").filter(|id| !id.is_empty()).map(str::to_owned),
            group: GroupConfig::read(&reader)?,
            auto_offset_reset: OffsetReset::read(&reader)?,
            isolation: reader.choice(
                "isolation.level",
                default.isolation,
                &[
                    ("read_committed", Isolation::ReadCommitted),
                    ("read_uncommitted", Isolation::ReadUncommitted),
                ],
            )?,
            enable_auto_commit: reader.boolean("enable.auto.commit", default.enable_auto_commit)?,
            auto_commit_interval: reader.millis(
                "auto.commit.interval.ms",
                default.auto_commit_interval,
                1,
            )?,
            fetch_min_bytes: reader.number("fetch.min.bytes", default.fetch_min_bytes, 0..=i32::MAX)?,
            fetch_max_wait: reader.millis("fetch.max.wait.ms", default.fetch_max_wait, 0)?,
            fetch_max_bytes: reader.number("fetch.max.bytes", default.fetch_max_bytes, 1..=64 << 20)?,
            max_partition_fetch_bytes: reader.number(
                "max.partition.fetch.bytes",
                default.max_partition_fetch_bytes,
                1..=64 << 20,
            )?,
            queued_max_bytes: reader.number("queued.max.bytes", default.queued_max_bytes, 1..=1 << 40)?,
            max_poll_records: reader.optional_number("max.poll.records", 1..=usize::MAX >> 1)?,
            check_crcs: reader.boolean("check.crcs", default.check_crcs)?,
        })
    }

    /// See [`ClientConfig::with_finite_times`].
    #[cfg_attr(
        not(feature = "net"),
        allow(dead_code, reason = "the handles bound what applications give them")
    )]
    pub(crate) fn with_finite_times(mut self) -> Self {
        bound([
            &mut self.group.session_timeout,
            &mut self.group.heartbeat_interval,
            &mut self.group.max_poll_interval,
            &mut self.auto_commit_interval,
            &mut self.fetch_max_wait,
        ]);
        Self { client: self.client.with_finite_times(), ..self }
    }
}

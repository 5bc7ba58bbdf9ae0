//! The topic configuration that this broker knows: Kafka 4.3's names, defaults and types.
//!
//! Enforced: `max.message.bytes`, `message.timestamp.type`, `retention.bytes`, `retention.ms` (where
//! `cleanup.policy` has `delete`), and where it has `compact`, `delete.retention.ms`, `min.cleanable.dirty.ratio` and
//! `min.compaction.lag.ms`. The rest is stored and described: there are no segments to roll, and nothing is replicated.

use std::collections::BTreeMap;

use crate::config_table::{Kind, Known, Table, known};
use crate::log::Rules;

/// By name.
pub(crate) const KNOWN: &[Known] = &[
    Known { values: &["delete", "compact"], ..known("cleanup.policy", "delete", Kind::List) },
    known("compression.gzip.level", "-1", Kind::Int),
    known("compression.lz4.level", "9", Kind::Int),
    Known {
        values: &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"],
        ..known("compression.type", "producer", Kind::Text)
    },
    known("compression.zstd.level", "3", Kind::Int),
    known("delete.retention.ms", "86400000", Kind::Long),
    known("file.delete.delay.ms", "60000", Kind::Long),
    known("flush.messages", "9223372036854775807", Kind::Long),
    known("flush.ms", "9223372036854775807", Kind::Long),
    known("follower.replication.throttled.replicas", "", Kind::List),
    known("index.interval.bytes", "4096", Kind::Int),
    known("leader.replication.throttled.replicas", "", Kind::List),
    known("local.retention.bytes", "-2", Kind::Long),
    known("local.retention.ms", "-2", Kind::Long),
    known("max.compaction.lag.ms", "9223372036854775807", Kind::Long),
    known("max.message.bytes", "1048588", Kind::Int),
    known("message.timestamp.after.max.ms", "3600000", Kind::Long),
    known("message.timestamp.before.max.ms", "9223372036854775807", Kind::Long),
    Known {
        values: &["CreateTime", "LogAppendTime"],
        ..known("message.timestamp.type", "CreateTime", Kind::Text)
    },
    known("min.cleanable.dirty.ratio", "0.5", Kind::Double),
    known("min.compaction.lag.ms", "0", Kind::Long),
    known("min.insync.replicas", "1", Kind::Int),
    known("preallocate", "false", Kind::Boolean),
    known("remote.storage.enable", "false", Kind::Boolean),
    known("retention.bytes", "-1", Kind::Long),
    known("retention.ms", "604800000", Kind::Long),
    known("segment.bytes", "1073741824", Kind::Int),
    known("segment.index.bytes", "10485760", Kind::Int),
    known("segment.jitter.ms", "0", Kind::Long),
    known("segment.ms", "604800000", Kind::Long),
    known("unclean.leader.election.enable", "false", Kind::Boolean),
];

/// Looks a name up.
pub(crate) fn find(name: &str) -> Option<&'static Known> {
    Table::TOPIC.find(name)
}

/// A topic's entries that differ from the defaults, and what they mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicConfig {
    pub(crate) entries: BTreeMap<String, String>,
}

impl TopicConfig {
    /// The value that holds for `name`.
    pub(crate) fn value(&self, name: &str) -> &str {
        match self.entries.get(name) {
            Some(value) => value,
            None => find(name).map_or("", |known| known.default),
        }
    }

    fn number(&self, name: &str) -> i64 {
        self.value(name).trim().parse().unwrap_or(-1)
    }

    pub(crate) fn message_bytes_max(&self) -> usize {
        usize::try_from(self.number("max.message.bytes")).unwrap_or(usize::MAX)
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.value("message.timestamp.type") == "LogAppendTime"
    }

    /// Bytes to keep per partition, where there is a limit.
    pub(crate) fn retention_bytes(&self) -> Option<u64> {
        self.deletes().then(|| u64::try_from(self.number("retention.bytes")).ok()).flatten()
    }

    /// How old records may get in milliseconds, where there is a limit.
    pub(crate) fn retention_ms(&self) -> Option<i64> {
        self.deletes().then(|| self.number("retention.ms")).filter(|&ms| ms >= 0)
    }

    /// How records are compacted now, where they are.
    pub(crate) fn compaction(&self, now_unix_ms: i64) -> Option<Rules> {
        self.is_compacted().then(|| Rules {
            newest_unix_ms: now_unix_ms
                .saturating_sub(self.number("min.compaction.lag.ms"))
                .saturating_add(1),
            tombstones_before_unix_ms: now_unix_ms.saturating_sub(self.number("delete.retention.ms")),
        })
    }

    pub(crate) fn is_compacted(&self) -> bool {
        self.value("cleanup.policy").contains("compact")
    }

    /// The share of new bytes from which on compaction is worth it.
    pub(crate) fn dirty_ratio_min(&self) -> f64 {
        self.value("min.cleanable.dirty.ratio").trim().parse().unwrap_or(0.5)
    }

    fn deletes(&self) -> bool {
        self.value("cleanup.policy").contains("delete")
    }
}

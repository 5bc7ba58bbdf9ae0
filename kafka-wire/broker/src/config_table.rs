//! The configuration that each type of resource knows: Kafka 4.3's names, defaults and types.
//!
//! What is set on nodes, groups and client metrics is kept and described; topics have [`crate::topic_config`].

use kafka_wire::ErrorCode;

use crate::error::{Failure, fail};
use crate::topic_config;

/// Kafka's numbers for the types of values, as `DescribeConfigs` tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Text,
    Int,
    Long,
    Double,
    List,
}

impl Kind {
    pub(crate) const fn to_wire(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }
}

/// One entry that a resource may set.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: Kind,
    /// What a text, or each item of a list, may be; empty where anything goes.
    pub(crate) values: &'static [&'static str],
}

pub(crate) const fn known(name: &'static str, default: &'static str, kind: Kind) -> Known {
    Known { name, default, kind, values: &[] }
}

/// All that one type of resource knows.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    /// What the resource is called in errors.
    noun: &'static str,
    pub(crate) entries: &'static [Known],
}

impl Table {
    pub(crate) const TOPIC: Self = Self { noun: "topic", entries: topic_config::KNOWN };
    pub(crate) const BROKER: Self = Self { noun: "broker", entries: BROKER };
    pub(crate) const GROUP: Self = Self { noun: "group", entries: GROUP };
    pub(crate) const CLIENT_METRICS: Self = Self { noun: "client metrics", entries: CLIENT_METRICS };

    /// Looks a name up.
    pub(crate) fn find(self, name: &str) -> Option<&'static Known> {
        self.entries.binary_search_by(|known| known.name.cmp(name)).ok().map(|index| &self.entries[index])
    }

    /// As [`Table::find`].
    ///
    /// # Errors
    /// `INVALID_CONFIG` for an unknown name.
    pub(crate) fn expect(self, name: &str) -> Result<&'static Known, Failure> {
        self.find(name).ok_or_else(|| Failure {
            code: ErrorCode::INVALID_CONFIG,
            text: format!("unknown {} config name: {name}", self.noun).into(),
        })
    }

    /// Checks one entry.
    ///
    /// # Errors
    /// `INVALID_CONFIG` for unknown names and for values of another type.
    pub(crate) fn check(self, name: &str, value: &str) -> Result<(), Failure> {
        let known = self.expect(name)?;
        let is_among = |item: &str| known.values.is_empty() || known.values.contains(&item);
        let fits = match known.kind {
            Kind::Boolean => matches!(value, "true" | "false"),
            Kind::Int => value.trim().parse::<i32>().is_ok(),
            Kind::Long => value.trim().parse::<i64>().is_ok(),
            Kind::Double => value.trim().parse::<f64>().is_ok(),
            Kind::Text => is_among(value),
            Kind::List => value.split(',').all(|item| item.is_empty() || is_among(item.trim())),
        };
        if fits {
            return Ok(());
        }
        fail(ErrorCode::INVALID_CONFIG, format!("invalid value {value} for configuration {name}"))
    }
}

/// What can be set on a node, or on all of them, while they run.
const BROKER: &[Known] = &[
    known("background.threads", "10", Kind::Int),
    Known {
        values: &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"],
        ..known("compression.type", "producer", Kind::Text)
    },
    known("follower.replication.throttled.rate", "9223372036854775807", Kind::Long),
    known("leader.replication.throttled.rate", "9223372036854775807", Kind::Long),
    known("log.cleaner.backoff.ms", "15000", Kind::Long),
    known("log.cleaner.delete.retention.ms", "86400000", Kind::Long),
    known("log.cleaner.max.compaction.lag.ms", "9223372036854775807", Kind::Long),
    known("log.cleaner.min.cleanable.ratio", "0.5", Kind::Double),
    known("log.cleaner.min.compaction.lag.ms", "0", Kind::Long),
    known("log.cleaner.threads", "1", Kind::Int),
    Known { values: &["delete", "compact"], ..known("log.cleanup.policy", "delete", Kind::List) },
    known("log.flush.interval.messages", "9223372036854775807", Kind::Long),
    known("log.index.interval.bytes", "4096", Kind::Int),
    known("log.message.timestamp.after.max.ms", "3600000", Kind::Long),
    known("log.message.timestamp.before.max.ms", "9223372036854775807", Kind::Long),
    Known {
        values: &["CreateTime", "LogAppendTime"],
        ..known("log.message.timestamp.type", "CreateTime", Kind::Text)
    },
    known("log.preallocate", "false", Kind::Boolean),
    known("log.retention.bytes", "-1", Kind::Long),
    known("log.retention.ms", "604800000", Kind::Long),
    known("log.segment.bytes", "1073741824", Kind::Int),
    known("log.segment.delete.delay.ms", "60000", Kind::Long),
    known("max.connection.creation.rate", "2147483647", Kind::Int),
    known("max.connections", "2147483647", Kind::Int),
    known("max.connections.per.ip", "2147483647", Kind::Int),
    known("max.connections.per.ip.overrides", "", Kind::Text),
    known("message.max.bytes", "1048588", Kind::Int),
    known("min.insync.replicas", "1", Kind::Int),
    known("num.io.threads", "8", Kind::Int),
    known("num.network.threads", "3", Kind::Int),
    known("num.recovery.threads.per.data.dir", "2", Kind::Int),
    known("num.replica.fetchers", "1", Kind::Int),
    known("producer.id.expiration.ms", "86400000", Kind::Int),
    known("transaction.partition.verification.enable", "true", Kind::Boolean),
    known("unclean.leader.election.enable", "false", Kind::Boolean),
];

const GROUP: &[Known] = &[
    known("consumer.assignment.interval.ms", "1000", Kind::Int),
    known("consumer.heartbeat.interval.ms", "5000", Kind::Int),
    known("consumer.session.timeout.ms", "45000", Kind::Int),
    known("share.assignment.interval.ms", "1000", Kind::Int),
    known("share.auto.offset.reset", "latest", Kind::Text),
    known("share.delivery.count.limit", "5", Kind::Int),
    known("share.heartbeat.interval.ms", "5000", Kind::Int),
    Known {
        values: &["read_committed", "read_uncommitted"],
        ..known("share.isolation.level", "read_uncommitted", Kind::Text)
    },
    known("share.partition.max.record.locks", "2000", Kind::Int),
    known("share.record.lock.duration.ms", "30000", Kind::Int),
    known("share.renew.acknowledge.enable", "true", Kind::Boolean),
    known("share.session.timeout.ms", "45000", Kind::Int),
    known("streams.assignment.interval.ms", "1000", Kind::Int),
    known("streams.heartbeat.interval.ms", "5000", Kind::Int),
    known("streams.initial.rebalance.delay.ms", "3000", Kind::Int),
    known("streams.num.standby.replicas", "0", Kind::Int),
    known("streams.session.timeout.ms", "45000", Kind::Int),
];

const CLIENT_METRICS: &[Known] = &[
    known("interval.ms", "300000", Kind::Int),
    known("match", "", Kind::List),
    known("metrics", "", Kind::List),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_defaults_fit() {
        for table in [Table::TOPIC, Table::BROKER, Table::GROUP, Table::CLIENT_METRICS] {
            for known in table.entries {
                assert!(table.find(known.name).is_some(), "{} is out of order", known.name);
                assert_eq!(table.check(known.name, known.default), Ok(()), "{}", known.name);
            }
        }
    }

    #[test]
    fn values_of_another_type_and_unknown_names_are_refused() {
        let topic = Table::TOPIC;
        assert!(topic.check("retention.ms", "soon").is_err());
        assert!(topic.check("cleanup.policy", "compact,delete").is_ok());
        assert!(topic.check("cleanup.policy", "shred").is_err());
        assert!(topic.check("retention.millis", "1").is_err());
        assert!(Table::GROUP.check("share.isolation.level", "read_most").is_err());
    }
}

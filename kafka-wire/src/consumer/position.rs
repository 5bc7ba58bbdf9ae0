use crate::types::{CommittedOffset, LeaderEpoch};

/// Where to read a partition from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At `offset`.
    Offset {
        /// The offset of the next record to read.
        offset: i64,
        /// The leader epoch of the record before it, where it is known: lets the broker find out that the
        /// log was truncated since (KIP-320; brokers from 2.3).
        leader_epoch: Option<LeaderEpoch>,
    },
    /// At the first record that is still there.
    Beginning,
    /// After the last record; under `read_committed` at the last stable offset.
    End,
    /// At the first record whose timestamp is at least this, in milliseconds since 1970; at the end where
    /// there is none.
    Timestamp(i64),
    /// Where the group (`group.id`) committed; where it has not, as `auto.offset.reset` says.
    Committed,
}

impl From<i64> for Position {
    fn from(offset: i64) -> Self {
        Self::Offset { offset, leader_epoch: None }
    }
}

impl From<OffsetAndEpoch> for Position {
    fn from(at: OffsetAndEpoch) -> Self {
        Self::Offset { offset: at.offset, leader_epoch: at.leader_epoch }
    }
}

/// A place in a partition's log, as it is kept and committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndEpoch {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, where it is known.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl From<OffsetAndEpoch> for CommittedOffset {
    fn from(at: OffsetAndEpoch) -> Self {
        Self { offset: at.offset, leader_epoch: at.leader_epoch, metadata: String::new() }
    }
}

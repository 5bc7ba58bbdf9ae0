//! Share groups (KIP-932): members share the records of a partition, one by one, as workers share a queue. Layer 9.
//!
//! A broker hands out records and locks them for the member; each is acknowledged, or comes back to the group when
//! its lock ends. The [`ShareMachine`] keeps the membership and one session per broker, and fetches into
//! [`SharedDeliveries`]; the [`Ledger`] is the application's side: what was handed out to it, and what it says about
//! that.

mod batch;
mod deliveries;
mod ledger;
mod machine;
mod member;
mod session;

pub use batch::{ShareBatch, ShareRecord, ShareRecordIter};
pub use ledger::AcknowledgeType;

pub(crate) use deliveries::SharedDeliveries;
pub(crate) use ledger::Ledger;
pub(crate) use machine::{Command, ShareMachine};

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::types::TopicPartition;

/// What became of the acknowledged records of one partition.
#[derive(Clone, Debug)]
pub struct AcknowledgementResult {
    /// Which partition.
    pub partition: TopicPartition,
    /// Which records: offsets without a hole, in order.
    pub offsets: Vec<RangeInclusive<i64>>,
    /// An error says that the group will have the records again, or that nobody knows (`Network`, `Timeout`):
    /// `INVALID_RECORD_STATE` that a lock had ended before.
    pub result: Result<()>,
}

impl AcknowledgementResult {
    /// How many records.
    pub fn count(&self) -> u64 {
        self.offsets.iter().map(|run| run.end().abs_diff(*run.start()) + 1).sum()
    }
}

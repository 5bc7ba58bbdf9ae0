//! One partition's way through the accumulator, and what a batch is on it: open, closed, sealed, ready.

use std::sync::Arc;
use std::time::Instant;

use crate::producer::receipt::Completion;
use crate::record::{BatchBuilder, SealedBatch};
use crate::types::{BrokerId, TopicPartition};

/// A closed batch on its way through the compressor.
#[derive(Debug)]
pub(crate) struct SealJob {
    /// How many batches were closed before it.
    pub(super) place: u64,
    pub(super) builder: BatchBuilder,
}

impl SealJob {
    /// Compresses; takes a while, so not under the lock.
    pub(crate) fn run(self) -> Sealed {
        Sealed { place: self.place, batch: self.builder.seal() }
    }
}

/// A compressed batch on its way back.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(super) place: u64,
    pub(super) batch: SealedBatch,
}

/// A batch that is ready to be sent.
#[derive(Debug)]
pub(crate) struct ReadyBatch {
    pub(crate) partition: TopicPartition,
    pub(crate) batch: SealedBatch,
    /// When its first record came.
    pub(crate) created: Instant,
    pub(crate) completion: Arc<Completion>,
    pub(crate) lease: Lease,
}

/// A batch's memory and its place among the unfinished: to be given to [`Accumulator::release`].
#[derive(Debug)]
pub(crate) struct Lease {
    pub(super) number: u64,
    pub(super) lane: usize,
    pub(super) bytes: usize,
    /// Who led the partition when the batch was closed.
    pub(super) broker: Option<BrokerId>,
}

/// One partition's way through the accumulator.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: TopicPartition,
    pub(super) leader: Option<BrokerId>,
    pub(super) open: Option<Open>,
    /// How large the last batch became: what to reserve for the next.
    pub(super) expected: usize,
    /// Closed batches whose fate is open.
    pub(super) unacknowledged: usize,
}

impl Lane {
    pub(super) fn new(partition: TopicPartition) -> Self {
        Self { partition, leader: None, open: None, expected: FIRST_BATCH_BYTES, unacknowledged: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) builder: BatchBuilder,
    pub(super) completion: Arc<Completion>,
    pub(super) number: u64,
    pub(super) created: Instant,
    /// Bytes taken from the pool.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Closed {
    pub(super) lane: usize,
    pub(super) created: Instant,
    pub(super) completion: Arc<Completion>,
    pub(super) number: u64,
    pub(super) bytes: usize,
    pub(super) broker: Option<BrokerId>,
    /// `None` while it is being compressed.
    pub(super) batch: Option<SealedBatch>,
}

/// What a partition's first batch reserves: Java's `batch.size`.
pub(super) const FIRST_BATCH_BYTES: usize = 16 << 10;

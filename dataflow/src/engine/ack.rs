//! What operators acknowledge to the commit operator, epoch by epoch.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checkpoint::StateObject;

/// A part of a source that is read in order by one worker: a partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SplitId {
    /// The topic, file or whatever the split is a part of.
    pub topic: String,
    /// Its number in there.
    pub partition: i32,
}

impl SplitId {
    /// The worker that reads it: neighbours go to different workers, and every worker finds the same answer alone.
    pub fn worker(&self, workers: usize) -> usize {
        let start = xxhash_rust::xxh3::xxh3_64(self.topic.as_bytes()) as usize;
        start.wrapping_add(self.partition as usize) % workers
    }
}

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic \"{}\" partition {}", self.topic, self.partition)
    }
}

/// Where reading goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, where there is one (KIP-320: detects truncation).
    pub leader_epoch: Option<i32>,
}

/// Where a split stands: what a restart needs to go on as if nothing had happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitState {
    /// Which split.
    pub split: SplitId,
    /// Where reading goes on.
    pub position: Position,
    /// The watermark of this split, in the domain of [`crate::time`].
    pub watermark: u64,
    /// Whether it is left out of the source's watermark because nothing has come for long.
    pub idle: bool,
    /// For a bounded run the offset to stop before, fixed at the job's first start for ever.
    pub end: Option<i64>,
}

/// One operator's word that its part of an epoch is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ack {
    /// A source has read all that belongs to the epoch.
    Source {
        /// The source's number in the graph, and the worker.
        source: u32,
        worker: u32,
        /// The splits whose state changed.
        splits: Vec<SplitState>,
        /// Records read in the epoch.
        records: u64,
        /// Every split of this worker has reached its bounded end.
        ended: bool,
    },
    /// Changed state is durable.
    State { object: StateObject },
    /// A sink's output is in the epoch's transaction.
    Sink { records: u64 },
}

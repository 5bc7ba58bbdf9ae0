//! Sources: what a job reads, in splits that are each read in order by one worker. Layer 5.

pub mod kafka;
pub mod memory;

pub use kafka::KafkaSource;
pub use memory::MemorySource;

pub use crate::engine::ack::{Position, SplitId, SplitState};

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::commit::CommitStore;
use crate::config::Config;
use crate::engine::control::BoxFuture;
use crate::engine::operator::source::{ErasedReader, ReadParcel};
use crate::engine::parcel::{Data, Meta, Origin, Parcel};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::time::WatermarkStrategy;

/// Something to read from: names its splits, and opens a reader for a share of them on each worker.
pub trait Source: Send + Sync + 'static {
    /// What it yields.
    type Item: Data;

    /// The source's name, unique in its job and the same at every start: positions are kept under it.
    fn uid(&self) -> &str;

    /// How its event times become watermarks.
    fn watermarks(&self) -> WatermarkStrategy;

    /// Where a job that reads from here commits, unless something else is said.
    fn commit_store(&self) -> Option<Arc<dyn CommitStore>> {
        None
    }

    /// Finds out which splits there are and where each begins. Called once at each start of the job, with the
    /// splits that the manifest has, before any reader is opened. A split that the manifest lacks begins at its
    /// start if there is a manifest.
    fn prepare(&self, start: SourceStart) -> BoxFuture<'_, Result<Prepared>>;

    /// Opens a reader on a worker's own thread.
    ///
    /// # Errors
    /// When the reader cannot be made; the job fails then.
    fn open(&self, assignment: Assignment) -> Result<Box<dyn Reader<Item = Self::Item>>>;
}

/// Reads a share of the splits, on a worker's thread. It never blocks.
pub trait Reader {
    /// What it yields.
    type Item;

    /// The next batch of one split, decoded; pending when there is none now, and then the context's waker is
    /// woken when there is.
    ///
    /// A batch without records is a word about a split: its position moved across what holds no records, or it
    /// has ended. `hint` names the split whose event time is furthest behind: reading that first
    /// bounds the windows that are open at a time. A split that was not assigned has been found while the
    /// job runs; a reader takes those that [`SplitId::worker`] gives to its worker.
    ///
    /// # Errors
    /// An error fails the job. It names the split and offset where it can.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        hint: Option<&SplitId>,
    ) -> Poll<Result<ReadBatch<Self::Item>>>;

    /// Whether, as far as is known now, the position of `split` equals both its last stable offset and its high
    /// watermark: a split for which this holds long enough is idle and no longer holds the watermark. False
    /// when it is not known, because the broker is down, and behind an open transaction.
    fn is_caught_up(&self, split: &SplitId) -> bool;

    /// How many records are there and not read yet, over all splits, as last seen. For metrics; none if not known.
    fn lag_records(&self) -> Option<u64> {
        None
    }
}

/// A batch of one split.
#[derive(Clone, Debug)]
pub struct ReadBatch<T> {
    /// The split it was read from.
    pub split: SplitId,
    /// The items, in the order of the split.
    pub items: Vec<T>,
    /// The event time of each in milliseconds since 1970.
    pub times_ms: Vec<i64>,
    /// The offset of each, for messages.
    pub offsets: Vec<i64>,
    /// Where reading goes on behind this batch: the job resumes here when the batch has been committed.
    pub position: Position,
    /// How much memory the batch holds: what the job's bound on bytes under way counts.
    pub bytes: usize,
    /// The bounded end is reached: nothing more comes from this split.
    pub ended: bool,
}

/// What a start of the job asks of a source.
#[derive(Clone, Debug)]
pub struct SourceStart {
    /// The job's configuration, for the clients of a source.
    pub config: Arc<Config>,
    /// The job's id.
    pub job: Arc<str>,
    /// The splits as the newest manifest has them; `None` at the first start.
    pub restored: Option<Vec<SplitState>>,
    /// Where the first start begins.
    pub at: StartAt,
    /// The job begins anew, and whatever was committed before is left behind.
    pub fresh: bool,
    /// Read to the end as it is at the first start, and then end.
    pub bounded: bool,
}

/// Where the first start of a job begins to read. Later ones go on from the manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest record that there is: nothing is left out.
    #[default]
    Earliest,
    /// Behind the newest record that there is.
    Latest,
    /// At the first record of this time (milliseconds since 1970) or later.
    Timestamp(i64),
    /// At the offsets that the job's consumer group has committed: to take over from another program.
    Group,
}

/// What a source reads from this start on.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The topics, each with the id that tells it from one of the same name created anew.
    pub topics: Vec<(String, Option<String>)>,
    /// All splits, with their positions and, in a bounded run, their ends.
    pub splits: Vec<SplitState>,
}

/// A worker's share of a source.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The job's figures: a source counts the poison records that it skips.
    pub metrics: Arc<Metrics>,
    /// The job's configuration, for the clients of a source.
    pub config: Arc<Config>,
    /// The job's id.
    pub job: Arc<str>,
    /// The worker's number.
    pub worker: usize,
    /// How many workers there are.
    pub workers: usize,
    /// The splits to read, from these positions on.
    pub splits: Vec<SplitState>,
    /// Whether the run is bounded: no split is looked for that is not assigned.
    pub bounded: bool,
}

/// A source of any item type.
pub(crate) trait AnySource: Send + Sync {
    fn uid(&self) -> &str;
    fn watermarks(&self) -> WatermarkStrategy;
    fn commit_store(&self) -> Option<Arc<dyn CommitStore>>;
    fn prepare(&self, start: SourceStart) -> BoxFuture<'_, Result<Prepared>>;
    fn open(&self, assignment: Assignment) -> Result<Box<dyn ErasedReader>>;
}

impl<S: Source> AnySource for S {
    fn uid(&self) -> &str {
        Source::uid(self)
    }

    fn watermarks(&self) -> WatermarkStrategy {
        Source::watermarks(self)
    }

    fn commit_store(&self) -> Option<Arc<dyn CommitStore>> {
        Source::commit_store(self)
    }

    fn prepare(&self, start: SourceStart) -> BoxFuture<'_, Result<Prepared>> {
        Source::prepare(self, start)
    }

    fn open(&self, assignment: Assignment) -> Result<Box<dyn ErasedReader>> {
        Ok(Box::new(Erased(Source::open(self, assignment)?)))
    }
}

struct Erased<T>(Box<dyn Reader<Item = T>>);

impl<T: Data> ErasedReader for Erased<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, hint: Option<&SplitId>) -> Poll<Result<ReadParcel>> {
        self.0.poll_read(cx, hint).map_ok(|batch| {
            let origin = Origin { split: batch.split.clone(), offsets: batch.offsets };
            let meta = Meta { times: batch.times_ms, origin: Some(origin) };
            ReadParcel {
                parcel: Parcel::new(batch.items, meta, None),
                split: batch.split,
                position: batch.position,
                bytes: batch.bytes,
                ended: batch.ended,
            }
        })
    }

    fn is_caught_up(&self, split: &SplitId) -> bool {
        self.0.is_caught_up(split)
    }

    fn lag_records(&self) -> Option<u64> {
        self.0.lag_records()
    }
}

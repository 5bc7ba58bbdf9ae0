//! Sinks: where a job writes, one transaction per epoch. Layer 5.

pub mod kafka;
pub mod memory;
pub mod print;

pub use kafka::KafkaSink;
pub use memory::MemorySink;
pub use print::PrintSink;

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::commit::CommitStore;
use crate::config::Config;
use crate::engine::control::BoxFuture;
use crate::engine::operator::sink::ErasedWriter;
use crate::engine::parcel::{Data, Parcel};
use crate::error::Result;
use crate::metrics::Metrics;

/// Something to write to. Its output becomes visible with the commit of the epoch, and not otherwise.
pub trait Sink: Send + Sync + 'static {
    /// What it takes.
    type Item: Data;

    /// The sink's name, unique in its job and the same at every start.
    fn uid(&self) -> &str;

    /// Where a job that writes here commits, unless something else is said.
    fn commit_store(&self) -> Option<Arc<dyn CommitStore>> {
        None
    }

    /// Finds out what is written to. Called once at each start, before any writer is opened.
    fn prepare(&self, start: SinkStart) -> BoxFuture<'_, Result<Vec<OutputTopic>>>;

    /// Opens a writer on a worker's own thread.
    ///
    /// # Errors
    /// When the writer cannot be made; the job fails then.
    fn open(&self, context: SinkContext) -> Result<Box<dyn Writer<Item = Self::Item>>>;
}

/// Writes one worker's share of the output, on the worker's thread. It never blocks.
pub trait Writer {
    /// What it takes.
    type Item;

    /// Takes (encodes, buffers) output of `epoch`. Epochs overlap: records of a later one may come before an
    /// earlier one is sent. `times_ms` has the event time of each item.
    ///
    /// # Errors
    /// An error fails the job.
    fn write(&mut self, epoch: u64, items: Vec<Self::Item>, times_ms: &[i64]) -> Result<()>;

    /// Puts all output of `epoch` into its transaction; ready when all of it has been acknowledged.
    ///
    /// Called only when the epoch is complete and every earlier one is committed, again and again until
    /// ready; when pending, the context's waker is woken to be called again.
    ///
    /// # Errors
    /// An error fails the job, which restarts from its manifest if the error is retriable.
    fn poll_send(&mut self, epoch: u64, cx: &mut Context<'_>) -> Poll<Result<()>>;
}

/// What a start of the job asks of a sink.
#[derive(Clone)]
pub struct SinkStart {
    /// The job's configuration, for the clients of a sink.
    pub config: Arc<Config>,
    /// The job's id.
    pub job: Arc<str>,
    /// The transaction that the job commits, as its commit store hands it out.
    pub transaction: Transaction,
}

/// What a writer is opened with.
#[derive(Clone)]
pub struct SinkContext {
    /// The job's figures: a sink counts the records that it sets aside.
    pub metrics: Arc<Metrics>,
    /// The job's configuration, for the clients of a sink.
    pub config: Arc<Config>,
    /// The job's id.
    pub job: Arc<str>,
    /// The worker's number.
    pub worker: usize,
    /// How many workers there are.
    pub workers: usize,
    /// The transaction that the job commits, as its commit store hands it out.
    pub transaction: Transaction,
}

/// A commit store's transaction, of a type that its own sinks know: a sink for Kafka finds Kafka's producer here.
pub type Transaction = Arc<dyn Any + Send + Sync>;

/// A topic that a job writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputTopic {
    /// Its name.
    pub topic: String,
    /// What tells it from a topic of the same name that was created anew.
    pub topic_id: Option<String>,
    /// How many partitions keys are spread over until the job is started again.
    pub partitions: u32,
}

/// A sink of any item type.
pub(crate) trait AnySink: Send + Sync {
    fn uid(&self) -> &str;
    fn commit_store(&self) -> Option<Arc<dyn CommitStore>>;
    fn prepare(&self, start: SinkStart) -> BoxFuture<'_, Result<Vec<OutputTopic>>>;
    fn open(&self, context: SinkContext) -> Result<Box<dyn ErasedWriter>>;
}

impl<S: Sink> AnySink for S {
    fn uid(&self) -> &str {
        Sink::uid(self)
    }

    fn commit_store(&self) -> Option<Arc<dyn CommitStore>> {
        Sink::commit_store(self)
    }

    fn prepare(&self, start: SinkStart) -> BoxFuture<'_, Result<Vec<OutputTopic>>> {
        Sink::prepare(self, start)
    }

    fn open(&self, context: SinkContext) -> Result<Box<dyn ErasedWriter>> {
        Ok(Box::new(Erased(Sink::open(self, context)?)))
    }
}

struct Erased<T>(Box<dyn Writer<Item = T>>);

impl<T: Data> ErasedWriter for Erased<T> {
    fn write(&mut self, epoch: u64, mut parcel: Parcel) -> Result<()> {
        let items = parcel.take()?;
        self.0.write(epoch, items, &parcel.meta.times)
    }

    fn poll_send(&mut self, epoch: u64, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.poll_send(epoch, cx)
    }
}

//! The commit of an epoch: one transaction with all output, the positions of the sources and the manifest
//! (design D5). Layer 5.

pub(crate) mod coordinator;
pub mod kafka;
pub mod manifest;
pub mod memory;

pub use coordinator::{Committed, Observer};
pub use kafka::KafkaStore;
pub use manifest::Manifest;
pub use memory::MemoryStore;

use std::any::Any;
use std::sync::Arc;

use crate::config::Config;
use crate::engine::control::BoxFuture;
use crate::error::Result;

/// Where a job commits: the manifest lives where the output is, in the same transaction.
pub trait CommitStore: Send + Sync + 'static {
    /// Begins a run of a job: fences every earlier run, waits out a commit that it may have left pending,
    /// and only then reads the newest committed manifest.
    ///
    /// # Errors
    /// When the store cannot be reached, or another instance of the job has taken over.
    fn start(&self, start: CommitStart) -> BoxFuture<'_, Result<Session>>;

    /// Whether what is committed outlives the process: the state of operators must do so too, then.
    fn is_durable(&self) -> bool {
        true
    }
}

/// What a run of a job is begun with.
#[derive(Clone, Debug)]
pub struct CommitStart {
    /// The job's configuration, for the store's clients.
    pub config: Arc<Config>,
    /// The job's id.
    pub job: Arc<str>,
    /// The run's own name: manifests bear it, and so it is known who has taken over from whom.
    pub instance: Arc<str>,
}

/// A started run of a job, as its commit store sees it.
pub struct Session {
    /// The newest committed manifest; none before the first start.
    pub manifest: Option<Manifest>,
    /// The id of the cluster that the store is on, where it has one.
    pub cluster: Option<String>,
    /// What the store's own sinks write into: the transaction that `commits` commits.
    pub transaction: Arc<dyn Any + Send + Sync>,
    /// Commits epochs.
    pub commits: Arc<dyn Commits>,
}

/// Commits the epochs of one started run, one at a time and in order.
pub trait Commits: Send + Sync + 'static {
    /// Commits the transaction that the sinks have written to, together with the manifest: all or nothing.
    /// When this is called, all output of the epoch has been acknowledged and its state is durable.
    ///
    /// # Errors
    /// Any error leaves the outcome open: the job restarts, and [`CommitStore::start`] finds out.
    fn commit(&self, manifest: Manifest) -> BoxFuture<'static, Result<()>>;
}

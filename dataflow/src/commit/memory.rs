//! Commits to a [`MemoryLog`].

use std::sync::Arc;

use crate::commit::{CommitStart, CommitStore, Commits, Manifest, Session};
use crate::engine::control::BoxFuture;
use crate::error::Result;
use crate::memory::{MemoryLog, MemoryTransaction};

/// Commits a job's epochs to a [`MemoryLog`], together with what a [`crate::sink::MemorySink`] of the same log wrote.
pub struct MemoryStore {
    log: MemoryLog,
}

impl MemoryStore {
    /// A store in `log`.
    pub fn new(log: &MemoryLog) -> Self {
        Self { log: log.clone() }
    }

    fn session(&self, job: &str) -> Result<Session> {
        let transaction = Arc::new(MemoryTransaction::start(&self.log, job));
        let manifest = self.log.manifest(job).map(|bytes| Manifest::decode(&bytes, "the memory log"));
        Ok(Session {
            manifest: manifest.transpose()?,
            cluster: None,
            transaction: Arc::clone(&transaction) as _,
            commits: Arc::new(MemoryCommits(transaction)),
        })
    }
}

impl CommitStore for MemoryStore {
    fn start(&self, start: CommitStart) -> BoxFuture<'_, Result<Session>> {
        Box::pin(std::future::ready(self.session(&start.job)))
    }

    fn is_durable(&self) -> bool {
        false
    }
}

struct MemoryCommits(Arc<MemoryTransaction>);

impl Commits for MemoryCommits {
    fn commit(&self, manifest: Manifest) -> BoxFuture<'static, Result<()>> {
        let transaction = Arc::clone(&self.0);
        Box::pin(async move { transaction.commit(manifest.encode()?) })
    }
}

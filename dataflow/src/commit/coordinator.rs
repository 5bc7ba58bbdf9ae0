//! Turns the acknowledgements of an epoch into its manifest, and decides whether there is one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::checkpoint::{Collector, StateStore, live};
use crate::commit::manifest::{PartitionState, SourceState};
use crate::commit::{Commits, Manifest};
use crate::engine::ack::{Ack, Position, SplitId, SplitState};
use crate::engine::control::BoxFuture;
use crate::engine::operator::commit::Committer;
use crate::error::Result;
use crate::state::SnapshotKind;
use crate::time::{START, time_of, watermark_of};

/// What an observer of a job is told after each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The epoch.
    pub epoch: u64,
    /// Records read in it, and in those before it that had nothing else to commit.
    pub records_in: u64,
    /// Records written in it.
    pub records_out: u64,
    /// Whether this was the last epoch of a bounded run.
    pub finished: bool,
}

/// Called after each commit, on a worker's thread: it should not take long.
pub type Observer = Arc<dyn Fn(&Committed) + Send + Sync>;

/// What a run of a job commits with.
pub(crate) struct Coordinator {
    /// The newest manifest, brought up to date as acknowledgements come. At first that of the start.
    pub manifest: Manifest,
    pub commits: Arc<dyn Commits>,
    pub observers: Vec<Observer>,
    /// The sources' uids, by their numbers in the graph.
    pub sources: Vec<String>,
    pub workers: usize,
    pub store: StateStore,
    pub collector: Collector,
    /// The source operators, by source and worker, that are at their bounded end.
    pub ended: BTreeSet<(u32, u32)>,
    /// What was read and written since the last commit.
    pub open: Committed,
}

impl Coordinator {
    fn apply(&mut self, ack: Ack) {
        match ack {
            Ack::Source { source, worker, splits, records, ended } => {
                self.open.records_in += records;
                if ended {
                    self.ended.insert((source, worker));
                }
                let Some(uid) = self.sources.get(source as usize) else { return };
                for split in &splits {
                    put_split(&mut self.manifest.sources, uid, split);
                }
            }
            Ack::State { object } => self.manifest.state.push(object),
            Ack::Sink { records } => self.open.records_out += records,
        }
    }
}

impl Committer for Coordinator {
    fn close(&mut self, epoch: u64, acks: Vec<Ack>) -> Option<BoxFuture<'static, Result<()>>> {
        let objects = self.manifest.state.len();
        acks.into_iter().for_each(|ack| self.apply(ack));
        let added = self.manifest.state.get(objects..).unwrap_or_default();
        let has_state = !added.is_empty();
        if added.iter().any(|object| object.kind == SnapshotKind::Base) {
            self.manifest.state = live(std::mem::take(&mut self.manifest.state));
        }
        self.manifest.finished = self.ended.len() == self.sources.len() * self.workers;
        self.open.finished = self.manifest.finished;
        if self.open.records_in == 0 && self.open.records_out == 0 && !has_state && !self.open.finished {
            return None;
        }
        self.manifest.epoch = epoch;
        self.open.epoch = epoch;
        Some(self.commits.commit(self.manifest.clone()))
    }

    fn committed(&mut self) -> Option<BoxFuture<'static, ()>> {
        let committed = std::mem::take(&mut self.open);
        tracing::debug!(?committed, "epoch committed");
        self.observers.iter().for_each(|observer| observer(&committed));
        let garbage = self.collector.committed(&self.manifest.state);
        if garbage.is_empty() {
            return None;
        }
        let store = self.store.clone();
        Some(Box::pin(async move {
            if let Err(error) = store.delete(&garbage).await {
                tracing::warn!(%error, "old state is left; it is collected after the next start");
            }
        }))
    }

    fn is_finished(&self) -> bool {
        self.manifest.finished
    }
}

/// Brings one split of the source named `uid` up to date.
fn put_split(sources: &mut Vec<SourceState>, uid: &str, split: &SplitState) {
    let topic = &split.split.topic;
    let known = sources.iter().position(|state| state.uid == uid && state.topic == *topic);
    let index = known.unwrap_or(sources.len());
    if known.is_none() {
        let (uid, topic) = (uid.to_owned(), topic.clone());
        sources.push(SourceState { uid, topic, topic_id: None, partitions: Vec::new() });
    }
    let partitions = &mut sources[index].partitions;
    let partition = to_partition(split);
    match partitions.binary_search_by_key(&partition.partition, |known| known.partition) {
        Ok(index) => partitions[index] = partition,
        Err(index) => partitions.insert(index, partition),
    }
}

/// A split as the manifest has it.
pub(crate) fn to_partition(split: &SplitState) -> PartitionState {
    PartitionState {
        partition: split.split.partition,
        offset: split.position.offset,
        leader_epoch: split.position.leader_epoch,
        watermark_ms: (split.watermark != START).then(|| time_of(split.watermark)),
        idle: split.idle,
        end: split.end,
    }
}

/// A split as the engine has it.
pub(crate) fn to_split(topic: &str, partition: &PartitionState) -> SplitState {
    SplitState {
        split: SplitId { topic: topic.to_owned(), partition: partition.partition },
        position: Position { offset: partition.offset, leader_epoch: partition.leader_epoch },
        watermark: partition.watermark_ms.map_or(START, watermark_of),
        idle: partition.idle,
        end: partition.end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_survives_the_manifest() {
        let split = SplitState {
            split: SplitId { topic: "clicks".into(), partition: 2 },
            position: Position { offset: 7, leader_epoch: Some(1) },
            watermark: watermark_of(-5),
            idle: true,
            end: Some(9),
        };
        assert_eq!(to_split("clicks", &to_partition(&split)), split);
        let unread = SplitState { watermark: START, ..split };
        assert_eq!(to_split("clicks", &to_partition(&unread)), unread);
    }
}

//! Where a source begins: the manifest's positions, and for the first start those that were asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::{Admin, ErrorCode, Isolation, OffsetSpec, TopicDescription, TopicPartition};

use crate::commit::kafka::{admin, failed};
use crate::engine::ack::{Position, SplitId, SplitState};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Prepared, SourceStart, StartAt};
use crate::time::START;

/// Finds the splits of `topic`, with where each begins and, in a bounded run, ends.
pub(super) async fn prepare(topic: Arc<str>, start: SourceStart) -> Result<Prepared> {
    let admin = admin(&start.config)?;
    let opening = Opening { admin, topic, start };
    opening.prepare().await
}

struct Opening {
    admin: Admin,
    topic: Arc<str>,
    start: SourceStart,
}

/// Offsets by partition.
type Offsets = BTreeMap<i32, i64>;

impl Opening {
    async fn prepare(self) -> Result<Prepared> {
        let found = self.describe().await?;
        let mut splits = self.start.restored.clone().unwrap_or_default();
        let known: Vec<i32> = splits.iter().map(|state| state.split.partition).collect();
        let unread: Vec<i32> = (0..found.partitions.len() as i32).filter(|p| !known.contains(p)).collect();
        let committed = self.group_offsets().await?;
        self.compare(&splits, &committed);
        for (partition, offset) in self.first_offsets(&unread, &committed).await? {
            splits.push(SplitState {
                split: SplitId { topic: self.topic.to_string(), partition },
                position: Position { offset, leader_epoch: None },
                watermark: START,
                idle: false,
                end: None,
            });
        }
        self.set_ends(&mut splits).await?;
        let id = found.id.is_some().then(|| found.id.to_string());
        Ok(Prepared { topics: vec![(self.topic.to_string(), id)], splits })
    }

    async fn describe(&self) -> Result<TopicDescription> {
        let attempted = || format!("read topic \"{}\"", self.topic);
        let described = self.admin.describe_topics([&*self.topic]).await;
        let described = described.map_err(|error| failed(attempted(), error))?;
        match described.into_iter().next() {
            Some((_, Ok(topic))) => Ok(topic),
            Some((_, Err(error))) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                Err(Error::new(ErrorKind::Connector, format!("{}: it does not exist", attempted()))
                    .with_hint("create it first, or check its name and the cluster"))
            }
            Some((_, Err(error))) => Err(failed(attempted(), error)),
            None => Err(Error::new(ErrorKind::Connector, attempted()).with_retriable(true)),
        }
    }

    /// What the job's group has committed for this topic.
    async fn group_offsets(&self) -> Result<Offsets> {
        let group = &*self.start.job;
        let committed =
            self.admin.list_committed_offsets(group).await.map_err(|error| {
                failed(format!("look up the committed offsets of group \"{group}\""), error)
            })?;
        let of_topic = committed.into_iter().filter(|(partition, _)| *partition.topic == *self.topic);
        Ok(of_topic.map(|(partition, committed)| (partition.partition, committed.offset)).collect())
    }

    /// The manifest wins; somebody who has moved the group's offsets should know.
    fn compare(&self, splits: &[SplitState], committed: &Offsets) {
        for state in splits {
            if let Some(&offset) = committed.get(&state.split.partition)
                && offset != state.position.offset
            {
                tracing::warn!(
                    group = %self.start.job,
                    split = %state.split,
                    manifest = state.position.offset,
                    group_offset = offset,
                    "the group's committed offset is not the manifest's: the manifest's is used"
                );
            }
        }
    }

    async fn first_offsets(&self, partitions: &[i32], committed: &Offsets) -> Result<Offsets> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        if self.start.restored.is_some() {
            // Found since the last start: nothing of it may be left out.
            return self.list(partitions, OffsetSpec::Earliest).await;
        }
        if !committed.is_empty() && !self.start.fresh && self.start.at != StartAt::Group {
            let (group, topic) = (&self.start.job, &self.topic);
            let attempted = format!(
                "start job \"{group}\": group \"{group}\" has committed offsets for topic \"{topic}\", but there is \
                 no manifest"
            );
            return Err(Error::new(ErrorKind::Refused, attempted).with_hint(
                "to go on from these offsets use --start group; to begin anew use --fresh, or another --group",
            ));
        }
        match self.start.at {
            StartAt::Earliest => self.list(partitions, OffsetSpec::Earliest).await,
            StartAt::Latest => self.list(partitions, OffsetSpec::Latest).await,
            StartAt::Timestamp(time_ms) => {
                let mut offsets = self.list(partitions, OffsetSpec::Latest).await?;
                offsets.extend(self.list(partitions, OffsetSpec::Timestamp(time_ms)).await?);
                Ok(offsets)
            }
            StartAt::Group => {
                let mut offsets = self.list(partitions, OffsetSpec::Earliest).await?;
                offsets.extend(committed.iter().filter(|(partition, _)| partitions.contains(partition)));
                Ok(offsets)
            }
        }
    }

    /// Partitions without an offset of that kind are left out.
    async fn list(&self, partitions: &[i32], spec: OffsetSpec) -> Result<Offsets> {
        let attempted = || format!("look up offsets of topic \"{}\"", self.topic);
        let wanted = partitions.iter().map(|p| (TopicPartition::new(Arc::clone(&self.topic), *p), spec));
        let listed = self.admin.list_offsets(wanted, Isolation::ReadCommitted).await;
        let mut offsets = Offsets::new();
        for (partition, listed) in listed.map_err(|error| failed(attempted(), error))? {
            if let Some(offset) = listed.map_err(|error| failed(attempted(), error))?.offset {
                offsets.insert(partition.partition, offset);
            }
        }
        Ok(offsets)
    }

    /// The ends of a bounded run are the last stable offsets at its first start, for ever.
    async fn set_ends(&self, splits: &mut [SplitState]) -> Result<()> {
        if !self.start.bounded {
            splits.iter_mut().for_each(|state| state.end = None);
            return Ok(());
        }
        let open: Vec<i32> =
            splits.iter().filter(|state| state.end.is_none()).map(|state| state.split.partition).collect();
        if open.is_empty() {
            return Ok(());
        }
        let ends = self.list(&open, OffsetSpec::Latest).await?;
        for state in splits.iter_mut().filter(|state| state.end.is_none()) {
            state.end = ends.get(&state.split.partition).copied();
        }
        Ok(())
    }
}

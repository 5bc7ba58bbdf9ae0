//! A worker's share of a topic: fetched in the background, decoded on the worker from the fetched bytes.

use std::sync::Arc;
use std::task::{Context, Poll};

use kafka_wire::config::{ConsumerConfig, OffsetReset};
use kafka_wire::{Consumer, FetchedBatch, LeaderEpoch, TopicPartition};

use super::EventTime;
use super::discovery::Discovery;
use crate::commit::kafka::failed;
use crate::engine::ack::{Position, SplitId, SplitState};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Decode, FormatError, PoisonPolicy};
use crate::metrics::Metrics;
use crate::source::{Assignment, ReadBatch, Reader};

pub(super) struct KafkaReader<D: Decode> {
    topic: Arc<str>,
    format: D,
    event_time: Option<EventTime<D::Item>>,
    poison: PoisonPolicy,
    metrics: Arc<Metrics>,
    consumer: Consumer,
    splits: Vec<ReadSplit>,
    /// None in a bounded run: what is found later lies behind its end.
    discovery: Option<Discovery>,
}

struct ReadSplit {
    id: SplitId,
    partition: TopicPartition,
    end: Option<i64>,
    /// As of the last answer of a broker. One comes, without records, when only the ends have moved.
    caught_up: bool,
}

impl ReadSplit {
    fn new(topic: &Arc<str>, partition: i32, end: Option<i64>) -> Self {
        let id = SplitId { topic: topic.to_string(), partition };
        Self { id, partition: TopicPartition::new(Arc::clone(topic), partition), end, caught_up: false }
    }
}

impl<D: Decode> KafkaReader<D> {
    pub(super) fn open(
        topic: Arc<str>,
        format: D,
        event_time: Option<EventTime<D::Item>>,
        poison: PoisonPolicy,
        assignment: &Assignment,
    ) -> Result<Self> {
        let attempted = || format!("read topic \"{topic}\"");
        let mut config = ConsumerConfig::from_properties(&assignment.config.kafka)
            .map_err(|error| failed("read the configuration", error))?;
        // Positions are the manifest's: what is gone is an error, and nobody else keeps them.
        config.auto_offset_reset = OffsetReset::None;
        config.enable_auto_commit = false;
        config.group_id = None;
        config.client.metadata_max_age = config.client.metadata_max_age.min(Discovery::METADATA_MAX_AGE);
        let mut consumer = Consumer::new(config).map_err(|error| failed(attempted(), error))?;
        let unread = assignment.splits.iter().filter(|state| !is_at_end(state));
        let positions: Vec<_> = unread.map(|state| position_of(&topic, state)).collect();
        consumer.assign(positions).map_err(|error| failed(attempted(), error))?;
        let splits = assignment.splits.iter();
        let splits = splits.map(|state| ReadSplit::new(&topic, state.split.partition, state.end)).collect();
        let discovery = (!assignment.bounded).then(|| Discovery::new(&topic, assignment));
        let metrics = Arc::clone(&assignment.metrics);
        Ok(Self { topic, format, event_time, poison, metrics, consumer, splits, discovery })
    }

    /// Takes the new partitions that are this worker's, from their first record on.
    fn find_partitions(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let Some(discovery) = &mut self.discovery else { return Ok(()) };
        let Poll::Ready(found) = discovery.poll_partitions(&self.consumer, cx) else { return Ok(()) };
        for number in found {
            if self.splits.iter().any(|split| split.id.partition == number) {
                continue;
            }
            let split = ReadSplit::new(&self.topic, number, None);
            tracing::info!(split = %split.id, "new partition");
            self.consumer
                .incremental_assign([(split.partition.clone(), kafka_wire::Position::Beginning)])
                .map_err(|error| failed(format!("read {}", split.id), error))?;
            self.splits.push(split);
        }
        Ok(())
    }

    fn read(&mut self, fetched: &FetchedBatch) -> Result<ReadBatch<D::Item>> {
        let partition = fetched.topic_partition().partition;
        let split = self.splits.iter_mut().find(|split| split.id.partition == partition);
        let Some(split) = split else {
            let attempted = format!("read {}: it was not assigned", fetched.topic_partition());
            return Err(Error::new(ErrorKind::Usage, attempted));
        };
        let end = split.end.unwrap_or(i64::MAX);
        let position = Position {
            offset: fetched.next_offset().min(end),
            leader_epoch: fetched.leader_epoch().map(|LeaderEpoch(epoch)| epoch),
        };
        let (next, stable) = (fetched.next_offset(), fetched.last_stable_offset());
        split.caught_up = next >= fetched.high_watermark() && (stable < 0 || next >= stable);
        let batch = ReadBatch {
            split: split.id.clone(),
            items: Vec::new(),
            times_ms: Vec::new(),
            offsets: Vec::new(),
            position,
            bytes: 0,
            ended: split.end.is_some() && position.offset >= end,
        };
        let batch = self.decode(fetched, end, batch)?;
        if batch.ended {
            let stopped = self.consumer.incremental_unassign([fetched.topic_partition().clone()]);
            stopped.map_err(|error| failed(format!("read {}", batch.split), error))?;
        }
        Ok(batch)
    }

    fn decode(
        &mut self,
        fetched: &FetchedBatch,
        end: i64,
        mut batch: ReadBatch<D::Item>,
    ) -> Result<ReadBatch<D::Item>> {
        let records = fetched.len();
        batch.items.reserve_exact(records);
        batch.times_ms.reserve_exact(records);
        batch.offsets.reserve_exact(records);
        let mut skipped = 0u64;
        for record in fetched.iter().take_while(|record| record.offset < end) {
            let item = match self.format.decode(record.value) {
                Ok(item) => item,
                Err(error) => {
                    self.refuse(&batch.split, record.offset, error, skipped == 0)?;
                    skipped += 1;
                    continue;
                }
            };
            let time_ms = match &self.event_time {
                Some(event_time) => event_time(&item),
                None => record.timestamp_ms,
            };
            batch.bytes += record.value.map_or(0, <[u8]>::len) + size_of::<D::Item>();
            batch.items.push(item);
            batch.times_ms.push(time_ms);
            batch.offsets.push(record.offset);
        }
        self.metrics.poison_records.add(skipped);
        if skipped > 1 {
            tracing::warn!(split = %batch.split, skipped, "records of this batch could not be read");
        }
        Ok(batch)
    }

    /// What becomes of a record that cannot be read. `is_first` of its batch: that one is shown.
    fn refuse(&self, split: &SplitId, offset: i64, error: FormatError, is_first: bool) -> Result<()> {
        if self.poison == PoisonPolicy::Skip {
            if is_first {
                tracing::warn!(%split, offset, %error, "record skipped");
            }
            return Ok(());
        }
        Err(Error::new(ErrorKind::Format, format!("read {split} offset {offset}"))
            .with_cause(error)
            .with_hint(
                "correct what writes such records; to go on without them, let the source skip them, or keep \
                 them for a dead-letter topic (or_poison)",
            ))
    }
}

impl<D: Decode> Reader for KafkaReader<D> {
    type Item = D::Item;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        hint: Option<&SplitId>,
    ) -> Poll<Result<ReadBatch<D::Item>>> {
        self.find_partitions(cx)?;
        if let Some(hinted) = hint.and_then(|hint| self.splits.iter().find(|split| split.id == *hint)) {
            self.consumer.prefer(&hinted.partition);
        }
        match self.consumer.poll_batch(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(fetched)) => Poll::Ready(self.read(&fetched)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(lost(&self.topic, error))),
        }
    }

    fn is_caught_up(&self, id: &SplitId) -> bool {
        let split = self.splits.iter().find(|split| split.id == *id);
        split.is_some_and(|split| split.caught_up && self.consumer.is_in_contact(&split.partition))
    }
}

/// An error of the consumer; where data is gone, what to do about it.
fn lost(topic: &str, error: kafka_wire::Error) -> Error {
    let error = failed(format!("read topic \"{topic}\""), error);
    if error.kind() != ErrorKind::DataLoss {
        return error;
    }
    error.with_hint(
        "records that the job has not read are gone from Kafka; to go on without them, start with --fresh, or \
         move the job to another --group",
    )
}

fn is_at_end(state: &SplitState) -> bool {
    state.end.is_some_and(|end| state.position.offset >= end)
}

fn position_of(topic: &Arc<str>, state: &SplitState) -> (TopicPartition, kafka_wire::Position) {
    let partition = TopicPartition::new(Arc::clone(topic), state.split.partition);
    let leader_epoch = state.position.leader_epoch.map(LeaderEpoch);
    (partition, kafka_wire::Position::Offset { offset: state.position.offset, leader_epoch })
}

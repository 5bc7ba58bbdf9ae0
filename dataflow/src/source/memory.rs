//! Reads a topic of a [`MemoryLog`].

use std::marker::PhantomData;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::engine::ack::{Position, SplitId, SplitState};
use crate::engine::control::BoxFuture;
use crate::engine::parcel::Data;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{MemoryLog, decode};
use crate::source::{Assignment, Prepared, ReadBatch, Reader, Source, SourceStart, StartAt};
use crate::time::{START, WatermarkStrategy};

/// Reads a topic of a [`MemoryLog`].
pub struct MemorySource<T> {
    log: MemoryLog,
    topic: String,
    strategy: WatermarkStrategy,
    batch_records: usize,
    item: PhantomData<fn() -> T>,
}

impl<T: Data> MemorySource<T> {
    /// A source that reads values of `T` from `topic`, in batches of 1024 records.
    pub fn new(log: &MemoryLog, topic: impl Into<String>) -> Self {
        Self {
            log: log.clone(),
            topic: topic.into(),
            strategy: WatermarkStrategy::default(),
            batch_records: 1024,
            item: PhantomData,
        }
    }

    /// How far a record may be behind the newest of its partition and still be on time.
    #[must_use]
    pub fn bounded_disorder(mut self, disorder: Duration) -> Self {
        self.strategy.disorder = disorder;
        self
    }

    /// How event times become watermarks.
    #[must_use]
    pub fn watermark_strategy(mut self, strategy: WatermarkStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The most records that a batch has.
    #[must_use]
    pub fn batch_records(mut self, records: usize) -> Self {
        self.batch_records = records.max(1);
        self
    }

    /// The log has no consumer groups: a job that takes one over begins at the start.
    fn offset_at(&self, partition: usize, at: StartAt) -> i64 {
        match at {
            StartAt::Earliest | StartAt::Group => 0,
            StartAt::Latest => self.log.end_offset(&self.topic, partition),
            StartAt::Timestamp(time_ms) => self.log.offset_of_time(&self.topic, partition, time_ms),
        }
    }

    fn split(&self, partition: usize) -> SplitId {
        SplitId { topic: self.topic.clone(), partition: partition as i32 }
    }
}

impl<T: Data> Source for MemorySource<T> {
    type Item = T;

    fn uid(&self) -> &str {
        &self.topic
    }

    fn watermarks(&self) -> WatermarkStrategy {
        self.strategy
    }

    fn prepare(&self, start: SourceStart) -> BoxFuture<'_, Result<Prepared>> {
        let is_first = start.restored.is_none();
        let mut splits = start.restored.unwrap_or_default();
        for partition in 0..self.log.partitions(&self.topic) {
            let split = self.split(partition);
            if !splits.iter().any(|known| known.split == split) {
                let offset = if is_first { self.offset_at(partition, start.at) } else { 0 };
                let position = Position { offset, leader_epoch: None };
                splits.push(SplitState { split, position, watermark: START, idle: false, end: None });
            }
        }
        for state in &mut splits {
            let partition = usize::try_from(state.split.partition).unwrap_or_default();
            let now = self.log.end_offset(&self.topic, partition);
            state.end = start.bounded.then(|| state.end.unwrap_or(now));
        }
        let prepared = if splits.is_empty() {
            let attempted = format!("read topic \"{}\" of the memory log: it does not exist", self.topic);
            Err(Error::new(ErrorKind::Connector, attempted))
        } else {
            Ok(Prepared { topics: vec![(self.topic.clone(), None)], splits })
        };
        Box::pin(std::future::ready(prepared))
    }

    fn open(&self, assignment: Assignment) -> Result<Box<dyn Reader<Item = T>>> {
        let splits = assignment.splits.iter().map(|state| ReadSplit {
            id: state.split.clone(),
            offset: state.position.offset,
            end: state.end,
            reported_end: false,
        });
        Ok(Box::new(MemoryReader {
            log: self.log.clone(),
            topic: self.topic.clone(),
            batch_records: self.batch_records,
            splits: splits.collect(),
            next: 0,
            assignment,
            item: PhantomData,
        }))
    }
}

struct MemoryReader<T> {
    log: MemoryLog,
    topic: String,
    batch_records: usize,
    assignment: Assignment,
    splits: Vec<ReadSplit>,
    next: usize,
    item: PhantomData<fn() -> T>,
}

struct ReadSplit {
    id: SplitId,
    offset: i64,
    end: Option<i64>,
    /// Whether the engine knows that this split is at its bounded end.
    reported_end: bool,
}

impl<T: Data> Reader for MemoryReader<T> {
    type Item = T;

    fn poll_read(&mut self, cx: &mut Context<'_>, hint: Option<&SplitId>) -> Poll<Result<ReadBatch<T>>> {
        self.find_new_splits();
        let hinted = hint.and_then(|hint| self.splits.iter().position(|split| split.id == *hint));
        let round = (self.next..self.splits.len()).chain(0..self.next);
        let order: Vec<usize> = hinted.into_iter().chain(round).collect();
        for index in order {
            if let Some(batch) = self.read(index, cx)? {
                self.next = (index + 1) % self.splits.len();
                return Poll::Ready(Ok(batch));
            }
        }
        Poll::Pending
    }

    fn is_caught_up(&self, id: &SplitId) -> bool {
        let partition = usize::try_from(id.partition).unwrap_or_default();
        let end = self.log.end_offset(&self.topic, partition);
        self.splits.iter().any(|split| split.id == *id && split.offset == end)
    }

    fn lag_records(&self) -> Option<u64> {
        let lag = |split: &ReadSplit| {
            let partition = usize::try_from(split.id.partition).unwrap_or_default();
            u64::try_from(self.log.end_offset(&self.topic, partition) - split.offset).unwrap_or_default()
        };
        Some(self.splits.iter().map(lag).sum())
    }
}

impl<T: Data> MemoryReader<T> {
    fn find_new_splits(&mut self) {
        if self.assignment.bounded {
            return;
        }
        for partition in 0..self.log.partitions(&self.topic) {
            let id = SplitId { topic: self.topic.clone(), partition: partition as i32 };
            let is_ours = id.worker(self.assignment.workers) == self.assignment.worker;
            if is_ours && !self.splits.iter().any(|split| split.id == id) {
                self.splits.push(ReadSplit { id, offset: 0, end: None, reported_end: false });
            }
        }
    }

    fn read(&mut self, index: usize, cx: &Context<'_>) -> Result<Option<ReadBatch<T>>> {
        let Some(split) = self.splits.get_mut(index) else { return Ok(None) };
        let left = split.end.map_or(self.batch_records, |end| {
            usize::try_from(end - split.offset).unwrap_or_default().min(self.batch_records)
        });
        let partition = usize::try_from(split.id.partition).unwrap_or_default();
        let records = self.log.fetch(&self.topic, partition, split.offset, left, cx.waker())?;
        let is_at_end = split.end.is_some_and(|end| split.offset >= end);
        if records.is_empty() && (split.reported_end || !is_at_end) {
            return Ok(None);
        }
        let mut batch = ReadBatch {
            split: split.id.clone(),
            items: Vec::with_capacity(records.len()),
            times_ms: Vec::with_capacity(records.len()),
            offsets: Vec::with_capacity(records.len()),
            position: Position::default(),
            bytes: 0,
            ended: false,
        };
        for record in records {
            let item = decode(&record.value).map_err(|error| {
                let attempted = format!("read {} offset {}", split.id, split.offset);
                Error::new(ErrorKind::Format, attempted).with_cause(error)
            })?;
            batch.items.push(item);
            batch.times_ms.push(record.time_ms);
            batch.offsets.push(split.offset);
            batch.bytes += record.value.len() + size_of::<T>();
            split.offset += 1;
        }
        batch.position.offset = split.offset;
        batch.ended = split.end.is_some_and(|end| split.offset >= end);
        split.reported_end = batch.ended;
        Ok(Some(batch))
    }
}

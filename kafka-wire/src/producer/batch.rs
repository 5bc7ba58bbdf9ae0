//! A sealed batch with whoever waits for its fate.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::BytesMut;

use super::receipt::BatchMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::record::SealedBatch;
use crate::types::TopicPartition;

/// What became of a batch, or of a part of one that was too large for the broker and was split.
#[derive(Debug)]
pub struct Fate {
    /// Which record of the batch, as it was before a split, is the part's first.
    pub first: u32,
    /// How many records the part has.
    pub records: u32,
    /// Where they went.
    pub outcome: Result<BatchMetadata>,
    /// No other part of the batch is without its fate.
    pub is_last: bool,
    /// The batch's memory, unless somebody still reads it.
    pub buffer: Option<BytesMut>,
}

/// Called exactly once with a batch's fate, or once with that of each part. Dropped uncalled, it answers
/// `Closed`: nobody waits for ever.
pub struct Done {
    first: u32,
    records: u32,
    shared: Option<Arc<Mutex<Shared<Call>>>>,
}

type Call = dyn FnMut(Fate) + Send;

struct Shared<F: ?Sized> {
    /// Parts without their fate.
    open: u32,
    call: F,
}

impl Done {
    /// Calls `done`, on the thread that runs the machine, for a batch of so many records.
    pub fn new(records: u32, done: impl FnMut(Fate) + Send + 'static) -> Self {
        Self { first: 0, records, shared: Some(Arc::new(Mutex::new(Shared { open: 1, call: done }))) }
    }

    /// One for the first `at` records, and one for the rest.
    fn split(mut self, at: u32) -> (Self, Self) {
        let shared = self.shared.take();
        if let Some(shared) = &shared {
            shared.lock().unwrap_or_else(PoisonError::into_inner).open += 1;
        }
        let front = Self { first: self.first, records: at, shared: shared.clone() };
        (front, Self { first: self.first + at, records: self.records - at, shared })
    }

    fn call(&mut self, outcome: Result<BatchMetadata>, buffer: Option<BytesMut>) {
        if let Some(shared) = self.shared.take() {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.open -= 1;
            let is_last = shared.open == 0;
            let Self { first, records, .. } = *self;
            (shared.call)(Fate { first, records, outcome, is_last, buffer });
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        // It may have been on the wire: who drops a whole client cannot know.
        if self.shared.is_some() {
            let error =
                Error::new(ErrorKind::Closed, "the producer was closed before the records were acknowledged");
            self.call(Err(error.with_possibly_written()), None);
        }
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Done")
    }
}

/// A sealed batch for a partition.
#[derive(Debug)]
pub struct Batch {
    /// Where it goes.
    pub partition: TopicPartition,
    /// What is in it.
    pub records: SealedBatch,
    /// When its first record came: `delivery.timeout.ms` counts from here.
    pub created: Instant,
    /// Who is told of its fate.
    pub done: Done,
}

impl Batch {
    /// What is attempted, for the text of an error.
    pub(crate) fn describe(&self) -> String {
        format!("produce {} records ({} bytes)", self.records.records(), self.records.size_bytes())
    }

    /// Two batches of about half the bytes each; only itself, when it has a single record.
    pub(crate) fn split(self) -> (Self, Option<Self>) {
        let Some((front, back)) = self.records.split() else { return (self, None) };
        let Self { partition, created, done, .. } = self;
        let (done_front, done_back) = done.split(front.records());
        let front = Self { partition: partition.clone(), records: front, created, done: done_front };
        (front, Some(Self { partition, records: back, created, done: done_back }))
    }

    pub(crate) fn succeed(mut self, base_offset: Option<i64>, append_time_ms: Option<i64>) {
        let metadata = BatchMetadata {
            partition: self.partition,
            records: self.records.records(),
            base_offset,
            append_time_ms,
        };
        self.done.call(Ok(metadata), self.records.into_buffer());
    }

    pub(crate) fn fail(mut self, error: Error) {
        self.done.call(Err(error), self.records.into_buffer());
    }
}

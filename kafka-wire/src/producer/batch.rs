//! A sealed batch with whoever waits for its fate.

use std::fmt;
use std::time::Instant;

use bytes::BytesMut;

use super::receipt::BatchMetadata;
use crate::error::{Error, ErrorKind, Result};
use crate::record::SealedBatch;
use crate::types::TopicPartition;

/// Called exactly once with a batch's fate, and with its memory unless somebody still reads it. Dropped
/// uncalled, it answers `Closed`: nobody waits for ever.
pub struct Done(Option<Call>);

type Call = Box<dyn FnOnce(Result<BatchMetadata>, Option<BytesMut>) + Send>;

impl Done {
    /// Calls `done`, on the thread that runs the machine.
    pub fn new(done: impl FnOnce(Result<BatchMetadata>, Option<BytesMut>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    fn call(mut self, outcome: Result<BatchMetadata>, buffer: Option<BytesMut>) {
        if let Some(done) = self.0.take() {
            done(outcome, buffer);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            // It may have been on the wire: who drops a whole client cannot know.
            let error =
                Error::new(ErrorKind::Closed, "the producer was closed before the records were acknowledged");
            done(Err(error.with_possibly_written()), None);
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

    pub(crate) fn succeed(self, base_offset: Option<i64>, append_time_ms: Option<i64>) {
        let metadata = BatchMetadata {
            partition: self.partition,
            records: self.records.records(),
            base_offset,
            append_time_ms,
        };
        self.done.call(Ok(metadata), self.records.into_buffer());
    }

    pub(crate) fn fail(self, error: Error) {
        self.done.call(Err(error), self.records.into_buffer());
    }
}

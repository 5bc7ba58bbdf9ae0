//! Writes a topic of a [`MemoryLog`], in the transactions of a job whose commit store is the same log.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::control::BoxFuture;
use crate::engine::parcel::Data;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{MemoryLog, MemoryRecord, MemoryTransaction, encode};
use crate::sink::{OutputTopic, Sink, SinkContext, SinkStart, Transaction, Writer};

/// Writes a topic of a [`MemoryLog`]; each worker writes the partition of its number.
pub struct MemorySink<T> {
    log: MemoryLog,
    topic: String,
    item: PhantomData<fn() -> T>,
}

impl<T: Data> MemorySink<T> {
    /// A sink that writes values of `T` to `topic`.
    pub fn new(log: &MemoryLog, topic: impl Into<String>) -> Self {
        Self { log: log.clone(), topic: topic.into(), item: PhantomData }
    }

    fn transaction(&self, transaction: Transaction) -> Result<Arc<MemoryTransaction>> {
        transaction.downcast().map_err(|_| {
            let attempted =
                format!("write topic \"{}\" of a memory log: the job commits elsewhere", self.topic);
            Error::new(ErrorKind::Usage, attempted).with_hint("give the job a MemoryStore of this log")
        })
    }
}

impl<T: Data> Sink for MemorySink<T> {
    type Item = T;

    fn uid(&self) -> &str {
        &self.topic
    }

    fn prepare(&self, start: SinkStart) -> BoxFuture<'_, Result<Vec<OutputTopic>>> {
        let partitions = self.log.partitions(&self.topic) as u32;
        let topic = OutputTopic { topic: self.topic.clone(), topic_id: None, partitions };
        Box::pin(std::future::ready(self.transaction(start.transaction).map(|_| vec![topic])))
    }

    fn open(&self, context: SinkContext) -> Result<Box<dyn Writer<Item = T>>> {
        let partitions = self.log.partitions(&self.topic).max(1);
        Ok(Box::new(MemoryWriter {
            transaction: self.transaction(context.transaction)?,
            topic: self.topic.clone(),
            partition: context.worker % partitions,
            buffered: BTreeMap::new(),
            item: PhantomData,
        }))
    }
}

struct MemoryWriter<T> {
    transaction: Arc<MemoryTransaction>,
    topic: String,
    partition: usize,
    buffered: BTreeMap<u64, Vec<MemoryRecord>>,
    item: PhantomData<fn() -> T>,
}

impl<T: Data> Writer for MemoryWriter<T> {
    type Item = T;

    fn write(&mut self, epoch: u64, items: Vec<T>, times_ms: &[i64]) -> Result<()> {
        let buffer = self.buffered.entry(epoch).or_default();
        for (item, time_ms) in items.iter().zip(times_ms) {
            buffer.push(MemoryRecord { time_ms: *time_ms, value: encode(item)? });
        }
        Ok(())
    }

    fn poll_send(&mut self, epoch: u64, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        for record in self.buffered.remove(&epoch).unwrap_or_default() {
            self.transaction.produce(&self.topic, self.partition, record)?;
        }
        Poll::Ready(Ok(()))
    }
}

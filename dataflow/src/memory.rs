//! A log in memory with transactions and fencing: a broker's promises without a broker. Layer 1.
//!
//! It stands behind the memory source, sink and commit store: for tests of one's own jobs, for examples,
//! and for the simulation, which needs every promise of the real one and none of its timing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// Topics of partitions of records, and one manifest per job. Clones are handles to the same log.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    topics: BTreeMap<String, Vec<Vec<MemoryRecord>>>,
    manifests: BTreeMap<String, Vec<u8>>,
    /// By job: which producer epoch may write, and what it has written since its last commit.
    producers: BTreeMap<String, Producer>,
    readers: Vec<Waker>,
}

#[derive(Default)]
struct Producer {
    epoch: u64,
    staged: Vec<(String, usize, MemoryRecord)>,
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRecord {
    /// Event time, milliseconds since 1970.
    pub time_ms: i64,
    /// The value's postcard encoding.
    pub value: Vec<u8>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a topic, or partitions to one that is there.
    pub fn create_topic(&self, topic: &str, partitions: usize) {
        let mut inner = self.lock();
        let existing = inner.topics.entry(topic.to_owned()).or_default();
        existing.resize_with(partitions.max(existing.len()), Vec::new);
        inner.wake();
    }

    /// Appends a record outside of any transaction.
    ///
    /// # Errors
    /// When the partition does not exist or the value cannot be encoded.
    pub fn append<T: Serialize>(&self, topic: &str, partition: usize, time_ms: i64, value: &T) -> Result<()> {
        let record = MemoryRecord { time_ms, value: encode(value)? };
        let mut inner = self.lock();
        let log = inner.partition(topic, partition)?;
        log.push(record);
        inner.wake();
        Ok(())
    }

    /// All committed records of a topic, partition by partition, with their event times.
    ///
    /// # Errors
    /// When there is no such topic, or its values are of another type.
    pub fn read<T: DeserializeOwned>(&self, topic: &str) -> Result<Vec<Vec<(i64, T)>>> {
        let inner = self.lock();
        let partitions = inner.topics.get(topic).ok_or_else(|| missing(topic, 0))?;
        let decode = |record: &MemoryRecord| Ok((record.time_ms, decode(&record.value)?));
        partitions.iter().map(|partition| partition.iter().map(decode).collect()).collect()
    }

    /// How many partitions a topic has; 0 if there is none of that name.
    pub fn partitions(&self, topic: &str) -> usize {
        self.lock().topics.get(topic).map_or(0, Vec::len)
    }

    /// The offset behind the last record of a partition.
    pub fn end_offset(&self, topic: &str, partition: usize) -> i64 {
        self.lock().partition(topic, partition).map_or(0, |records| records.len() as i64)
    }

    /// The offset of the first record of this event time or later.
    pub(crate) fn offset_of_time(&self, topic: &str, partition: usize, time_ms: i64) -> i64 {
        let mut inner = self.lock();
        let Ok(records) = inner.partition(topic, partition) else { return 0 };
        records.iter().position(|record| record.time_ms >= time_ms).unwrap_or(records.len()) as i64
    }

    /// Records from `offset` on, at most `limit`. At the end, `waker` is woken when more may be there.
    pub(crate) fn fetch(
        &self,
        topic: &str,
        partition: usize,
        offset: i64,
        limit: usize,
        waker: &Waker,
    ) -> Result<Vec<MemoryRecord>> {
        let mut inner = self.lock();
        let records = inner.partition(topic, partition)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found: Vec<MemoryRecord> = records.iter().skip(from).take(limit).cloned().collect();
        if found.is_empty() && !inner.readers.iter().any(|other| other.will_wake(waker)) {
            inner.readers.push(waker.clone());
        }
        Ok(found)
    }

    /// Fences every earlier producer of `job` and drops what it had not committed.
    fn init_producer(&self, job: &str) -> u64 {
        let mut inner = self.lock();
        let producer = inner.producers.entry(job.to_owned()).or_default();
        producer.staged.clear();
        producer.epoch += 1;
        producer.epoch
    }

    /// Adds a record to the open transaction of `job`.
    fn produce(
        &self,
        job: &str,
        producer_epoch: u64,
        topic: &str,
        partition: usize,
        record: MemoryRecord,
    ) -> Result<()> {
        let mut inner = self.lock();
        inner.partition(topic, partition)?;
        let producer = inner.producer(job, producer_epoch)?;
        producer.staged.push((topic.to_owned(), partition, record));
        Ok(())
    }

    /// Commits the open transaction of `job`, with its manifest: all of it or nothing.
    fn commit(&self, job: &str, producer_epoch: u64, manifest: Vec<u8>) -> Result<()> {
        let mut inner = self.lock();
        let staged = std::mem::take(&mut inner.producer(job, producer_epoch)?.staged);
        for (topic, partition, record) in staged {
            inner.partition(&topic, partition)?.push(record);
        }
        inner.manifests.insert(job.to_owned(), manifest);
        inner.wake();
        Ok(())
    }

    /// The newest committed manifest of `job`.
    pub(crate) fn manifest(&self, job: &str) -> Option<Vec<u8>> {
        self.lock().manifests.get(job).cloned()
    }
}

/// The transactions of one start of a job. A later start fences it.
pub struct MemoryTransaction {
    log: MemoryLog,
    job: String,
    producer_epoch: u64,
}

impl MemoryTransaction {
    /// Fences the job's earlier transactions and drops what they had not committed.
    pub(crate) fn start(log: &MemoryLog, job: &str) -> Self {
        Self { log: log.clone(), job: job.to_owned(), producer_epoch: log.init_producer(job) }
    }

    /// Adds a record to the open transaction.
    pub(crate) fn produce(&self, topic: &str, partition: usize, record: MemoryRecord) -> Result<()> {
        self.log.produce(&self.job, self.producer_epoch, topic, partition, record)
    }

    /// Commits the open transaction with its manifest.
    pub(crate) fn commit(&self, manifest: Vec<u8>) -> Result<()> {
        self.log.commit(&self.job, self.producer_epoch, manifest)
    }
}

#[cfg(test)]
impl MemoryLog {
    /// The jobs that have committed here.
    pub(crate) fn jobs(&self) -> Vec<String> {
        self.lock().manifests.keys().cloned().collect()
    }
}

impl Inner {
    fn partition(&mut self, topic: &str, partition: usize) -> Result<&mut Vec<MemoryRecord>> {
        let found = self.topics.get_mut(topic).and_then(|partitions| partitions.get_mut(partition));
        found.ok_or_else(|| missing(topic, partition))
    }

    fn producer(&mut self, job: &str, epoch: u64) -> Result<&mut Producer> {
        let producer = self.producers.entry(job.to_owned()).or_default();
        if producer.epoch != epoch {
            let attempted =
                format!("write for job \"{job}\" with producer epoch {epoch}: {} is newer", producer.epoch);
            return Err(Error::new(ErrorKind::Fenced, attempted));
        }
        Ok(producer)
    }

    fn wake(&mut self) {
        self.readers.drain(..).for_each(Waker::wake);
    }
}

fn missing(topic: &str, partition: usize) -> Error {
    Error::new(
        ErrorKind::Connector,
        format!("use topic \"{topic}\" partition {partition}: it does not exist"),
    )
    .with_hint("create it first with MemoryLog::create_topic")
}

/// A value as the log stores it.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(value)
        .map_err(|error| Error::new(ErrorKind::Format, "encode a value for the memory log").with_cause(error))
}

/// A value that the log stores.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes)
        .map_err(|error| Error::new(ErrorKind::Format, "decode a value of the memory log").with_cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_seen_whole_or_not_at_all_and_zombies_are_fenced() {
        let log = MemoryLog::new();
        log.create_topic("out", 1);
        let record = || MemoryRecord { time_ms: 5, value: encode(&1u32).unwrap() };
        let first = log.init_producer("job");
        log.produce("job", first, "out", 0, record()).unwrap();
        assert!(log.read::<u32>("out").unwrap()[0].is_empty());

        let second = log.init_producer("job");
        assert_eq!(log.produce("job", first, "out", 0, record()).unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(log.commit("job", first, vec![1]).unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(log.manifest("job"), None);

        log.produce("job", second, "out", 0, record()).unwrap();
        log.commit("job", second, vec![2]).unwrap();
        assert_eq!(log.read::<u32>("out").unwrap(), [vec![(5, 1)]]);
        assert_eq!(log.manifest("job"), Some(vec![2]));
    }
}

//! What tests put into a cluster, and look for in it, without a client of their own.

use std::io;

use bytes::Bytes;
use kafka_wire::Compression;
use kafka_wire::protocol::limits::Limits;
use kafka_wire::record::{BatchBuilder, batches};

use super::{Cluster, Now};
use crate::topics::Partition;

/// A record as it lies in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970, as its producer or the broker set it; −1 when it has none.
    pub timestamp_ms: i64,
    /// Its key, where there is one.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Its headers, in order, repeated keys included.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Cluster {
    /// Appends a record to a partition, as if somebody had produced it now: for the code under test to find. Its
    /// offset.
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 1))?;
    /// let offset = broker.control(|cluster, now| cluster.append(now, "orders", 0, Some(b"42"), Some(b"paid")))?;
    /// assert_eq!(offset, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such partition, the record has a gigabyte, or the file cannot be written.
    pub fn append(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> io::Result<i64> {
        let mut batch = BatchBuilder::new(Compression::NONE, 64);
        batch.append(now.unix_ms, key, value, &[]).map_err(io::Error::other)?;
        let batch = batch.seal().to_bytes(None, 0, false);
        let is_stamped = self.topics.get(topic).is_some_and(|topic| topic.config.is_log_append_time());
        let found = self
            .topics
            .partition_mut(topic, partition)
            .ok_or_else(|| not_found("write", topic, partition))?;
        let offset = found
            .log
            .append(&batch, found.leader_epoch, is_stamped.then_some(now.unix_ms))
            .map_err(|failure| io::Error::other(failure.text))?;
        self.grow(topic, partition);
        self.settle(now);
        Ok(offset)
    }

    /// The records of a partition, as a consumer with `isolation.level=read_committed` sees them: what the code under
    /// test has produced.
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// # let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 1))?;
    /// # broker.control(|cluster, now| cluster.append(now, "orders", 0, Some(b"42"), Some(b"paid")))?;
    /// let records = broker.control(|cluster, _| cluster.records("orders", 0))?;
    /// assert_eq!(records.len(), 1);
    /// assert_eq!(records[0].value.as_deref(), Some(&b"paid"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such partition, or its file cannot be read.
    pub fn records(&self, topic: &str, partition: i32) -> io::Result<Vec<StoredRecord>> {
        let found =
            self.topics.partition(topic, partition).ok_or_else(|| not_found("read", topic, partition))?;
        let mut records = Vec::new();
        for batch in found.log.committed()? {
            read(found, batch, &mut records)?;
        }
        Ok(records)
    }

    /// The offset that a group has committed for a partition; `None` where it has not.
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// # let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 1))?;
    /// assert_eq!(broker.control(|cluster, _| cluster.committed_offset("billing", "orders", 0)), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        Some(self.groups.get(group)?.offset(topic, partition)?.offset)
    }
}

fn read(partition: &Partition, batch: Bytes, records: &mut Vec<StoredRecord>) -> io::Result<()> {
    let copy = Bytes::copy_from_slice;
    for batch in batches(batch) {
        let opened = batch.and_then(|batch| batch.open(&Limits::DEFAULT)).map_err(io::Error::other)?;
        let stored = opened.iter().filter(|record| record.offset >= partition.log.start_offset());
        records.extend(stored.map(|record| StoredRecord {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(copy),
            value: record.value.map(copy),
            headers: record.headers().map(|header| (copy(header.key), header.value.map(copy))).collect(),
        }));
    }
    Ok(())
}

fn not_found(attempted: &str, topic: &str, partition: i32) -> io::Error {
    let text = format!(
        "{attempted} partition {partition} of topic '{topic}': there is none; create the topic first"
    );
    io::Error::new(io::ErrorKind::NotFound, text)
}

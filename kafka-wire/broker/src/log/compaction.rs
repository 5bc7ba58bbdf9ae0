//! Compaction (`cleanup.policy=compact`): of each key only the newest record stays, and a tombstone goes when it is
//! old enough. Offsets stay as they are, so gaps are left.
//!
//! Where it differs from Kafka's cleaner: it works batch by batch instead of by segments, and never on the last batch;
//! what was compressed is written back uncompressed; a tombstone's time runs from its own timestamp on, not from its
//! first compaction; end markers stay for ever.

use std::collections::{HashMap, HashSet};
use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_wire::protocol::limits::Limits;
use kafka_wire::record::{RecordRef, batches};

use super::{Batch, Log};
use crate::batch::{HEADER_BYTES, Header, checksum};

/// Attribute bits that say how a batch is compressed.
const CODEC_BITS: i16 = 0b111;
/// The attribute bit that says that the header's largest timestamp is that of all records.
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;

/// What stays where it is, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Records from then on are too new to be touched (`min.compaction.lag.ms`), in milliseconds since 1970.
    pub(crate) newest_unix_ms: i64,
    /// Tombstones from before then go (`delete.retention.ms`).
    pub(crate) tombstones_before_unix_ms: i64,
}

/// The newest offset of each key.
type Newest = HashMap<Bytes, i64>;

impl Log {
    /// Bytes that were appended since the last compaction, of all that there are.
    pub(crate) fn dirty_ratio(&self) -> f64 {
        let first = self.batches.partition_point(|batch| batch.last_offset < self.compacted_to);
        let dirty: usize = self.batches.range(first..).map(|batch| batch.size).sum();
        if self.size_bytes == 0 { 0.0 } else { dirty as f64 / self.size_bytes as f64 }
    }

    /// Compacts all but the last batch, open transactions, and what is too new; says whether anything went.
    ///
    /// # Errors
    /// When the file cannot be read or replaced; the log is as before then.
    pub(crate) fn compact(&mut self, rules: Rules) -> io::Result<bool> {
        let stable = self.last_stable_offset();
        let is_settled =
            |batch: &&Batch| batch.last_offset < stable && batch.max_timestamp < rules.newest_unix_ms;
        let settled =
            self.batches.iter().take(self.batches.len().saturating_sub(1)).take_while(is_settled).count();
        let mut all = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            all.push(self.storage.read(&batch.place, batch.size)?);
        }
        // What comes later supersedes, too, if it is committed.
        let mut newest = Newest::new();
        for (bytes, batch) in all.iter().zip(&self.batches).filter(|(_, batch)| batch.last_offset < stable) {
            if !self.is_aborted(bytes, batch) {
                note_keys(bytes, &mut newest)?;
            }
        }
        let last_of_producers = last_of_producers(&all);
        let mut kept = Vec::with_capacity(all.len());
        for (index, bytes) in all.iter().enumerate() {
            let is_aborted = self.is_aborted(bytes, &self.batches[index]);
            let left = if index < settled {
                retain(bytes, &newest, rules, is_aborted)?
            } else {
                Some(bytes.clone())
            };
            // The last batch of a producer stays, even without records: it has the producer's sequence.
            let left =
                left.or_else(|| last_of_producers.contains(&index).then(|| rebuild(bytes, &Kept::default())));
            kept.extend(left);
        }
        self.compacted_to = self.batches.get(settled).map_or(self.end_offset, |batch| batch.base_offset);
        if kept == all {
            return Ok(false);
        }
        self.replace(&kept)?;
        Ok(true)
    }

    /// Puts other batches, of the same offsets, in the place of all.
    fn replace(&mut self, kept: &[Bytes]) -> io::Result<()> {
        let places = self.storage.rewrite(kept)?;
        self.batches.clear();
        self.size_bytes = 0;
        for (bytes, place) in kept.iter().zip(places) {
            let header = Header::parse(bytes).map_err(|failure| io::Error::other(failure.text))?;
            self.size_bytes += header.size as u64;
            self.batches.push_back(Batch::new(&header, place));
        }
        self.unsynced = true;
        Ok(())
    }

    pub(super) fn is_aborted(&self, bytes: &Bytes, batch: &Batch) -> bool {
        Header::parse(bytes).is_ok_and(|header| {
            let aborted = self.producers.aborted(batch.base_offset, batch.last_offset + 1);
            header.is_transactional()
                && !header.is_control()
                && aborted
                    .iter()
                    .any(|it| it.producer_id == header.producer_id && it.first_offset <= batch.base_offset)
        })
    }
}

fn records_of(bytes: &Bytes, mut each: impl FnMut(&RecordRef<'_>)) -> io::Result<()> {
    for batch in batches(bytes.clone()) {
        let records = batch.and_then(|batch| batch.open(&Limits::DEFAULT)).map_err(io::Error::other)?;
        records.iter().for_each(|record| each(&record));
    }
    Ok(())
}

fn note_keys(bytes: &Bytes, newest: &mut Newest) -> io::Result<()> {
    if Header::parse(bytes).is_ok_and(|header| header.is_control()) {
        return Ok(());
    }
    records_of(bytes, |record| {
        if let Some(key) = record.key {
            newest.insert(Bytes::copy_from_slice(key), record.offset);
        }
    })
}

/// What stays of a batch; `None` where no record does.
fn retain(bytes: &Bytes, newest: &Newest, rules: Rules, is_aborted: bool) -> io::Result<Option<Bytes>> {
    let header = Header::parse(bytes).map_err(|failure| io::Error::other(failure.text))?;
    if header.is_control() {
        return Ok(Some(bytes.clone()));
    }
    let base_timestamp = i64::from_be_bytes(bytes[27..35].try_into().map_err(io::Error::other)?);
    let mut kept = Kept::default();
    records_of(bytes, |record| {
        // A record without key has no successor, and no place here.
        let is_newest = record.key.is_some_and(|key| newest.get(key) == Some(&record.offset));
        let is_over = record.value.is_none() && record.timestamp_ms < rules.tombstones_before_unix_ms;
        if is_newest && !is_over && !is_aborted {
            put_record(&mut kept.body, record, header.base_offset, base_timestamp);
            kept.max_timestamp = kept.max_timestamp.max(record.timestamp_ms);
            kept.count += 1;
        }
    })?;
    if kept.count == header.count {
        return Ok(Some(bytes.clone()));
    }
    Ok((kept.count > 0).then(|| rebuild(bytes, &kept)))
}

/// The records of a batch that stay, encoded.
struct Kept {
    body: BytesMut,
    count: i32,
    max_timestamp: i64,
}

impl Default for Kept {
    fn default() -> Self {
        Self { body: BytesMut::new(), count: 0, max_timestamp: -1 }
    }
}

/// The batch with other records; offsets, times and sequences stay.
fn rebuild(bytes: &Bytes, kept: &Kept) -> Bytes {
    let mut batch = BytesMut::from(&bytes[..HEADER_BYTES]);
    let length = (HEADER_BYTES - 12 + kept.body.len()) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let attributes = i16::from_be_bytes([batch[21], batch[22]]) & !CODEC_BITS;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    if attributes & LOG_APPEND_TIME_BIT == 0 {
        batch[35..43].copy_from_slice(&kept.max_timestamp.to_be_bytes());
    }
    batch[57..61].copy_from_slice(&kept.count.to_be_bytes());
    batch.put_slice(&kept.body);
    let checksum = checksum(&batch);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch.freeze()
}

/// Where the last batch of each producer is.
fn last_of_producers(all: &[Bytes]) -> HashSet<usize> {
    let mut last = HashMap::new();
    for (index, bytes) in all.iter().enumerate() {
        if let Ok(header) = Header::parse(bytes)
            && header.has_producer()
            && !header.is_control()
        {
            last.insert(header.producer_id, index);
        }
    }
    last.into_values().collect()
}

fn put_record(body: &mut BytesMut, record: &RecordRef<'_>, base_offset: i64, base_timestamp: i64) {
    let mut fields = BytesMut::new();
    fields.put_u8(0);
    put_varint(&mut fields, record.timestamp_ms.wrapping_sub(base_timestamp));
    put_varint(&mut fields, record.offset - base_offset);
    put_bytes(&mut fields, record.key);
    put_bytes(&mut fields, record.value);
    let headers: Vec<_> = record.headers().collect();
    put_varint(&mut fields, headers.len() as i64);
    for header in headers {
        put_bytes(&mut fields, Some(header.key));
        put_bytes(&mut fields, header.value);
    }
    put_varint(body, fields.len() as i64);
    body.put_slice(&fields);
}

/// Length and bytes; −1 for none.
fn put_bytes(buffer: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varint(buffer, bytes.map_or(-1, |bytes| bytes.len() as i64));
    buffer.put_slice(bytes.unwrap_or_default());
}

/// Zigzag, then seven bits a byte.
fn put_varint(buffer: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        buffer.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    buffer.put_u8(rest as u8);
}

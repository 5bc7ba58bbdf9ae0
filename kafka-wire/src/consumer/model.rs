//! A partition's log as a model for tests: it writes its bytes by itself, and knows what a reader must see.

use bytes::{BufMut as _, Bytes, BytesMut};
use proptest::prelude::*;

use crate::protocol::fetch::AbortedTransaction;
use crate::types::Isolation;

/// One thing that happens to a log.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A batch of `records`; compaction has removed those whose bit is set in `removed`.
    Append { producer: Option<i64>, records: u8, removed: u8, log_append_time: bool },
    /// The producer's transaction ends.
    End { producer: i64, commit: bool },
    /// Compaction has removed whole batches.
    Gap { offsets: u8 },
    /// Another leader from here on.
    NewLeader,
}

pub(super) fn events() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(event(), 0..40)
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let producer = || prop_oneof![Just(None), (1..4i64).prop_map(Some)];
    let append = (producer(), 1..7u8, prop_oneof![2 => Just(0), 1 => any::<u8>()], any::<bool>()).prop_map(
        |(producer, records, removed, log_append_time)| Event::Append {
            producer,
            records,
            removed,
            log_append_time,
        },
    );
    prop_oneof![
        6 => append,
        3 => (1..4i64, any::<bool>()).prop_map(|(producer, commit)| Event::End { producer, commit }),
        1 => (1..20u8).prop_map(|offsets| Event::Gap { offsets }),
        1 => Just(Event::NewLeader),
    ]
}

/// A record as a reader must see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) value: Vec<u8>,
}

struct Batch {
    bytes: Bytes,
    next_offset: i64,
    producer: Option<i64>,
    records: Vec<Seen>,
}

struct Transaction {
    producer: i64,
    first: i64,
    /// The marker's offset, and whether it commits.
    end: Option<(i64, bool)>,
}

#[derive(Default)]
pub(super) struct ModelLog {
    batches: Vec<Batch>,
    transactions: Vec<Transaction>,
    end_offset: i64,
    epoch: i32,
}

/// What a broker answers about a partition.
pub(super) struct Answer {
    pub(super) records: Bytes,
    pub(super) aborted: Vec<AbortedTransaction>,
    pub(super) high_watermark: i64,
    pub(super) last_stable_offset: i64,
}

impl ModelLog {
    pub(super) fn new(events: &[Event]) -> Self {
        let mut log = Self::default();
        for event in events {
            log.apply(event);
        }
        log
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match *event {
            Event::Append { producer, records, removed, log_append_time } => {
                self.append(producer, records, removed, log_append_time);
            }
            Event::End { producer, commit } => self.end(producer, commit),
            Event::Gap { offsets } => self.end_offset += i64::from(offsets),
            Event::NewLeader => self.epoch += 1,
        }
    }

    fn append(&mut self, producer: Option<i64>, records: u8, removed: u8, log_append_time: bool) {
        let base = self.end_offset;
        if let Some(producer) = producer
            && !self.transactions.iter().any(|t| t.producer == producer && t.end.is_none())
        {
            self.transactions.push(Transaction { producer, first: base, end: None });
        }
        let timestamp = |offset: i64| 1_700_000_000_000 + offset * 10;
        let last = base + i64::from(records) - 1;
        let mut body = BytesMut::new();
        let mut seen = Vec::new();
        for delta in 0..records {
            if removed & (1 << delta) != 0 {
                continue;
            }
            let offset = base + i64::from(delta);
            let value = format!("value {offset}").into_bytes();
            put_record(&mut body, i64::from(delta) * 10, i64::from(delta), None, &value);
            let timestamp_ms = timestamp(if log_append_time { last } else { offset });
            seen.push(Seen { offset, timestamp_ms, value });
        }
        let attributes = if producer.is_some() { 0x10 } else { 0 } | if log_append_time { 0x08 } else { 0 };
        self.push(attributes, producer, i32::from(records) - 1, timestamp, seen, &body);
    }

    fn end(&mut self, producer: i64, commit: bool) {
        let open = self.transactions.iter_mut().find(|t| t.producer == producer && t.end.is_none());
        let Some(open) = open else { return };
        open.end = Some((self.end_offset, commit));
        let mut body = BytesMut::new();
        put_record(&mut body, 0, 0, Some(&[0, 0, 0, u8::from(commit)]), &[0, 0, 0, 0, 0, 0]);
        self.push(0x30, Some(producer), 0, |_| 1_700_000_000_000, Vec::new(), &body);
        // The marker is a record, but no reader's.
    }

    fn push(
        &mut self,
        attributes: i16,
        producer: Option<i64>,
        last_delta: i32,
        timestamp: impl Fn(i64) -> i64,
        records: Vec<Seen>,
        body: &[u8],
    ) {
        let base = self.end_offset;
        let last = base + i64::from(last_delta);
        let count = if attributes & 0x20 == 0 { records.len() as i32 } else { 1 };
        let mut bytes = BytesMut::new();
        bytes.put_i64(base);
        bytes.put_i32(49 + body.len() as i32);
        bytes.put_i32(self.epoch);
        bytes.put_u8(2);
        bytes.put_u32(0);
        bytes.put_i16(attributes);
        bytes.put_i32(last_delta);
        bytes.put_i64(timestamp(base));
        bytes.put_i64(timestamp(last));
        bytes.put_i64(producer.unwrap_or(-1));
        bytes.put_i16(if producer.is_some() { 0 } else { -1 });
        bytes.put_i32(-1);
        bytes.put_i32(count);
        bytes.put_slice(body);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        self.end_offset = last + 1;
        self.batches.push(Batch { bytes: bytes.freeze(), next_offset: last + 1, producer, records });
    }

    pub(super) fn high_watermark(&self) -> i64 {
        self.end_offset
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn last_stable_offset(&self) -> i64 {
        let open = self.transactions.iter().filter(|t| t.end.is_none()).map(|t| t.first);
        open.min().unwrap_or(self.end_offset)
    }

    fn readable_end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// What a reader from `offset` on must see, in order.
    pub(super) fn expected(&self, offset: i64, isolation: Isolation) -> Vec<Seen> {
        let end = self.readable_end(isolation);
        let decided = |batch: &&Batch| batch.next_offset <= end;
        let visible = |batch: &&Batch| {
            let Some(producer) = batch.producer.filter(|_| isolation == Isolation::ReadCommitted) else {
                return true;
            };
            let committed = |t: &Transaction| match t.end {
                Some((marker, true)) => t.first < batch.next_offset && batch.next_offset <= marker,
                _ => false,
            };
            self.transactions.iter().filter(|t| t.producer == producer).any(committed)
        };
        let records = self.batches.iter().filter(decided).filter(visible).flat_map(|batch| &batch.records);
        records.filter(|record| record.offset >= offset).cloned().collect()
    }

    /// From the batch that holds `offset` on; whole batches within `max_bytes`, at least one, and the start
    /// of the next.
    pub(super) fn fetch(&self, offset: i64, max_bytes: usize, isolation: Isolation) -> Answer {
        let end = self.readable_end(isolation);
        let mut records = BytesMut::new();
        let mut upper = offset;
        for batch in self.batches.iter().filter(|b| b.next_offset > offset && b.next_offset <= end) {
            if !records.is_empty() && records.len() + batch.bytes.len() > max_bytes {
                let partial = max_bytes.saturating_sub(records.len()).min(batch.bytes.len());
                records.extend_from_slice(&batch.bytes[..partial]);
                break;
            }
            records.extend_from_slice(&batch.bytes);
            upper = batch.next_offset;
        }
        let overlapping = |t: &&Transaction| match t.end {
            Some((marker, false)) => marker >= offset && t.first < upper,
            _ => false,
        };
        let aborted = self.transactions.iter().filter(overlapping);
        Answer {
            records: records.freeze(),
            aborted: aborted
                .map(|t| AbortedTransaction { producer_id: t.producer, first_offset: t.first })
                .collect(),
            high_watermark: self.high_watermark(),
            last_stable_offset: self.last_stable_offset(),
        }
    }
}

fn put_record(
    into: &mut BytesMut,
    timestamp_delta: i64,
    offset_delta: i64,
    key: Option<&[u8]>,
    value: &[u8],
) {
    let mut record = BytesMut::new();
    record.put_u8(0);
    put_varint(&mut record, timestamp_delta);
    put_varint(&mut record, offset_delta);
    match key {
        Some(key) => {
            put_varint(&mut record, key.len() as i64);
            record.put_slice(key);
        }
        None => put_varint(&mut record, -1),
    }
    put_varint(&mut record, value.len() as i64);
    record.put_slice(value);
    put_varint(&mut record, 0);
    put_varint(into, record.len() as i64);
    into.put_slice(&record);
}

fn put_varint(into: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        into.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.put_u8(rest as u8);
}

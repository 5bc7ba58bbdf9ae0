//! Properties over generated records and damage, and agreement with `kafka-protocol`'s record codec.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::header::CRC_START;
use super::super::*;
use super::{CODECS, open_all};
use crate::protocol::limits::Limits;
use crate::protocol::messages::{StrBytes, reference};
use crate::types::ProducerIdentity;

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn append_to(&self, builder: &mut BatchBuilder) -> Result<u32, crate::Error> {
        let headers: Vec<_> =
            self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        builder.append(self.timestamp_ms, self.key.as_deref(), self.value.as_deref(), &headers)
    }
}

impl From<RecordRef<'_>> for Owned {
    fn from(record: RecordRef<'_>) -> Self {
        let headers = record.headers().map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)));
        Self {
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }
}

prop_compose! {
    fn owned()(
        timestamp_ms in prop_oneof![Just(-1), 0..2_000_000_000_000i64, Just(i64::MAX - 1)],
        key in option::of(vec(any::<u8>(), 0..20)),
        value in option::of(vec(any::<u8>(), 0..300)),
        headers in vec((vec(any::<u8>(), 0..5), option::of(vec(any::<u8>(), 0..70))), 0..4),
    ) -> Owned {
        Owned { timestamp_ms, key, value, headers }
    }
}

fn encode(records: &[Owned], compression: Compression) -> BytesMut {
    let mut builder = BatchBuilder::new(compression, 0);
    for record in records {
        record.append_to(&mut builder).unwrap();
    }
    builder.seal().to_bytes(Some(ProducerIdentity { id: 1, epoch: 2 }), 3, false)
}

fn decode(set: impl Into<Bytes>) -> Vec<Owned> {
    open_all(set).unwrap().iter().flatten().map(Owned::from).collect()
}

fn to_reference(records: &[Owned]) -> Vec<reference::Record> {
    let text = |key: &[u8]| StrBytes::from_string(String::from_utf8(key.to_vec()).unwrap());
    let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().map(Bytes::from);
    records
        .iter()
        .enumerate()
        .map(|(index, record)| reference::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 1,
            producer_epoch: 2,
            timestamp_type: reference::TimestampType::Creation,
            offset: index as i64,
            sequence: 3 + index as i32,
            timestamp: record.timestamp_ms,
            key: bytes(&record.key),
            value: bytes(&record.value),
            headers: record.headers.iter().map(|(key, value)| (text(key), bytes(value))).collect(),
        })
        .collect()
}

/// The records that `kafka-protocol` can carry: header keys are text, each once.
fn as_reference_can(mut records: Vec<Owned>) -> Vec<Owned> {
    for record in &mut records {
        for (index, (key, _)) in record.headers.iter_mut().enumerate() {
            *key = format!("{index}{}", key.escape_ascii()).into_bytes();
        }
        record.timestamp_ms = record.timestamp_ms.min(1 << 50);
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_goes_in_comes_out(records in vec(owned(), 1..40), codec in select(&CODECS[..])) {
        let set = encode(&records, Compression::new(codec, None).unwrap());
        prop_assert_eq!(decode(set), records);
    }

    #[test]
    fn the_reference_reads_what_we_write(records in vec(owned(), 1..20)) {
        let records = as_reference_can(records);
        let mut set = encode(&records, Compression::NONE).freeze();
        let sets = reference::RecordBatchDecoder::decode_all(&mut set).unwrap();
        let read: Vec<_> = sets.into_iter().flat_map(|set| set.records).collect();
        prop_assert_eq!(read, to_reference(&records));
    }

    #[test]
    fn we_read_what_the_reference_writes(records in vec(owned(), 1..20)) {
        let records = as_reference_can(records);
        let mut set = BytesMut::new();
        let options = reference::RecordEncodeOptions { version: 2, compression: reference::Compression::None };
        reference::RecordBatchEncoder::encode(&mut set, &to_reference(&records), &options).unwrap();
        prop_assert_eq!(decode(set), records);
    }

    /// Damage behind a mended checksum ends in an error or in records, never in a panic.
    #[test]
    fn damage_is_survived(
        records in vec(owned(), 1..20),
        codec in select(&CODECS[..]),
        damage in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in option::of(any::<Index>()),
    ) {
        let mut set = encode(&records, Compression::new(codec, None).unwrap());
        for (at, byte) in damage {
            let at = at.index(set.len());
            set[at] = byte;
        }
        if let Some(cut) = cut {
            set.truncate(cut.index(set.len()).max(CRC_START));
        }
        let crc = crc32c::crc32c(&set[CRC_START..]);
        set[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
        let limits = Limits { batch_decompressed_max_bytes: 1 << 20, ..Limits::DEFAULT };
        for batch in batches(set.freeze()).flatten() {
            let _ = batch.control();
            let Ok(records) = batch.open(&limits) else { continue };
            prop_assert_eq!(records.iter().count(), records.len());
            for record in &records {
                prop_assert_eq!(record.headers().count(), record.headers().len());
            }
        }
    }
}

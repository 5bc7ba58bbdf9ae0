//! Bytes that no honest peer sends, and odd ones that honest peers do: each with what it must become.
//! What Java makes of most of them was measured with kafka-clients 4.2.0.

use bytes::{Bytes, BytesMut};

use super::super::compression;
use super::super::header::{BatchHeader, CRC_START};
use super::super::varint::Head;
use super::super::*;
use super::{CODECS, open_all, sealed};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::limits::Limits;
use crate::types::{Codec, ProducerIdentity};

const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

/// One record with null key and value "v", as bytes of the format's documentation.
const GOOD: &str =
    "0000000000000000 00000039 00000000 02 d3f2ac75 0000 00000000 0000018bcfe56800 0000018bcfe56800
                    ffffffffffffffff ffff ffffffff 00000001 0e00000001027600";

const RECORD: &[u8] = &[0x0e, 0, 0, 0, 1, 2, b'v', 0];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn header() -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        length: 0,
        partition_leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: 0,
        base_timestamp: BASE_TIMESTAMP,
        max_timestamp: BASE_TIMESTAMP,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        count: 1,
    }
}

/// A batch with a right length and checksum around whatever the header and the records say.
fn batch(change: impl FnOnce(&mut BatchHeader), records: &[u8]) -> Vec<u8> {
    let mut header = header();
    header.length = (49 + records.len()) as i32;
    change(&mut header);
    header.crc = crc32c::crc32c_append(crc32c::crc32c(&header.write()[CRC_START..]), records);
    [&header.write()[..], records].concat()
}

/// A record of these pieces with its length in front.
fn record(timestamp_delta: i64, offset_delta: i32, rest: &[u8]) -> Vec<u8> {
    let mut head = Head::new();
    head.byte(0);
    head.varlong(timestamp_delta);
    head.varint(offset_delta);
    let body = [head.as_slice(), rest].concat();
    let mut length = Head::new();
    length.varint(body.len() as i32);
    [length.as_slice(), &body].concat()
}

fn with_headers(headers: &str) -> Vec<u8> {
    batch(|_| (), &record(0, 0, &[&[1, 2, b'v'][..], &hex(headers)].concat()))
}

#[track_caller]
fn refused(set: Vec<u8>, kind: ErrorKind, words: &str) -> Error {
    let error = open_all(set).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(words), "{text:?} should contain {words:?}");
    error
}

#[track_caller]
fn corrupt(set: Vec<u8>, words: &str) {
    let error = refused(set, ErrorKind::CorruptRecords, words);
    assert!(error.offset().is_some(), "no offset: {error}");
}

#[track_caller]
fn one(set: Vec<u8>) -> Records {
    let [records] = open_all(set).unwrap().try_into().unwrap();
    records
}

#[test]
fn a_good_batch() {
    let good = hex(GOOD);
    assert_eq!(good.len(), 69);
    assert_eq!(batch(|_| (), RECORD), good);
    let records = one(good);
    let [record] = records.iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((record.offset, record.timestamp_ms), (0, BASE_TIMESTAMP));
    assert_eq!((record.key, record.value, record.headers().count()), (None, Some(&b"v"[..]), 0));
}

#[test]
fn lengths_that_cannot_be() {
    for length in ["80000000", "0000000e", "7fffffff", "00000030", "00000000", "ffffffff"] {
        let mut set = hex(GOOD);
        set[8..12].copy_from_slice(&hex(length));
        corrupt(set, "its length is");
    }
}

#[test]
fn a_partial_batch_at_the_end_is_left_for_the_next_fetch() {
    let good = hex(GOOD);
    for partial in 0..good.len() {
        let set = Bytes::from([&good[..], &good[..partial]].concat());
        let mut batches = batches(set);
        assert!(batches.next().unwrap().is_ok());
        assert!(batches.next().is_none(), "{partial} bytes of a second batch");
        assert_eq!(batches.bytes_read(), good.len());
    }
}

#[test]
fn after_an_error_there_is_nothing_more_to_read() {
    let mut bad = hex(GOOD);
    bad[8..12].copy_from_slice(&hex("80000000"));
    let set = Bytes::from([hex(GOOD), bad, hex(GOOD)].concat());
    let mut batches = batches(set);
    assert!(batches.next().unwrap().is_ok());
    assert!(batches.next().unwrap().is_err());
    assert!(batches.next().is_none());
    assert_eq!(batches.bytes_read(), 69);
}

#[test]
fn other_formats_are_named() {
    for (magic, words) in [(3, "a newer broker"), (0xff, "format v255")] {
        let mut set = hex(GOOD);
        set[16] = magic;
        refused(set, ErrorKind::Unsupported, words);
    }
}

#[test]
fn a_wrong_checksum() {
    let mut set = hex(GOOD);
    set[20] += 1;
    corrupt(set, "its CRC32C is d3f2ac76 but its bytes sum up to d3f2ac75");
}

#[test]
fn counts_that_do_not_match_the_records() {
    for count in [-1, i32::MAX, 2, i32::MIN] {
        corrupt(batch(|header| header.count = count, RECORD), "not enough bytes for that many records");
    }
    let two = [RECORD, &record(0, 1, &[1, 2, b'w', 0])].concat();
    corrupt(batch(|header| header.last_offset_delta = 1, &two), "bytes are left after the last record");
    let long = [1, 40].iter().chain(&[b'v'; 20]).chain(&[0]).copied().collect::<Vec<_>>();
    corrupt(batch(|header| header.count = 2, &record(0, 0, &long)), "record 1 of 2: the data ends");
}

#[test]
fn an_empty_compacted_batch_still_moves_the_position() {
    let change = |header: &mut BatchHeader| {
        (header.base_offset, header.last_offset_delta, header.count) = (100, 4, 0);
    };
    let records = one(batch(change, &[]));
    assert!(records.is_empty());
    assert_eq!(records.header().next_offset(), 105);
}

#[test]
fn gaps_that_compaction_left() {
    let body = [RECORD, &record(0, 2, &[1, 2, b'w', 0])].concat();
    let change = |header: &mut BatchHeader| {
        (header.base_offset, header.last_offset_delta, header.count) = (50, 2, 2);
    };
    let records = one(batch(change, &body));
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [50, 52]);
    assert_eq!(records.header().next_offset(), 53);
}

#[test]
fn offsets_out_of_order() {
    let same = [RECORD, RECORD].concat();
    corrupt(batch(|header| (header.count, header.last_offset_delta) = (2, 1), &same), "out of order");
    corrupt(batch(|_| (), &record(0, 1, &[1, 2, b'v', 0])), "out of order");
    corrupt(batch(|_| (), &record(0, -1, &[1, 2, b'v', 0])), "out of order");
}

#[test]
fn codec_5_and_reserved_attributes() {
    refused(batch(|header| header.attributes = 5, RECORD), ErrorKind::Unsupported, "codec 5");
    assert_eq!(one(batch(|header| header.attributes = 0x7f00, RECORD)).len(), 1);
}

#[test]
fn headers_of_a_record() {
    corrupt(with_headers("feffffff0f"), "not enough bytes for that many headers");
    corrupt(with_headers("01"), "header count is negative");
    corrupt(with_headers("0201 01"), "key is null");
    corrupt(with_headers("0202 61"), "the data ends inside a record");
    corrupt(with_headers("00 00"), "its length and its content differ");
    corrupt(with_headers(""), "header count is negative or missing");
    let records = one(with_headers("0204c32801"));
    let headers: Vec<_> = records.iter().next().unwrap().headers().collect();
    assert_eq!(headers, [Header { key: b"\xc3\x28", value: None }]);
    let records = one(with_headers("04 0261 0231 0261 0232"));
    let headers: Vec<_> = records.iter().next().unwrap().headers().collect();
    assert_eq!(headers, [Header { key: b"a", value: Some(b"1") }, Header { key: b"a", value: Some(b"2") }]);
}

#[test]
fn more_headers_than_the_limit() {
    let limits = Limits { record_headers_max: 1, ..Limits::DEFAULT };
    let mut read = batches(with_headers("04 0261 0231 0261 0232").into());
    let error = read.next().unwrap().unwrap().open(&limits).unwrap_err();
    assert!(error.to_string().contains("record_headers_max"), "{error}");
}

#[test]
fn lengths_inside_a_record() {
    corrupt(batch(|_| (), &record(0, 0, &[3, 2, b'v', 0])), "a length below −1");
    corrupt(batch(|_| (), &record(0, 0, &[1, 0xd0, 0x0f, b'v', 0])), "the data ends");
    corrupt(batch(|_| (), &[&[0x09][..], &RECORD[1..]].concat()), "its length is negative");
    corrupt(batch(|_| (), &[&hex("80808080 08"), &RECORD[1..]].concat()), "the data ends");
    corrupt(batch(|_| (), &[&hex("808080808001"), &RECORD[1..]].concat()), "varint too long");
}

#[test]
fn numbers_that_overflow() {
    let change = |header: &mut BatchHeader| {
        (header.base_offset, header.last_offset_delta) = (i64::MAX, 1);
    };
    corrupt(batch(change, &record(0, 1, &[1, 2, b'v', 0])), "cannot be");
    corrupt(batch(|header| header.base_offset = i64::MAX, RECORD), "cannot be");
    corrupt(batch(|header| header.base_offset = -1, RECORD), "cannot be");
    corrupt(batch(|header| header.last_offset_delta = -1, RECORD), "cannot be");
    let late = record(1, 0, &[1, 2, b'v', 0]);
    corrupt(batch(|header| header.base_timestamp = i64::MAX, &late), "its timestamp overflows");
}

#[test]
fn timestamps() {
    let days_40 = 40 * 24 * 3_600_000;
    let at = |records: Records| records.iter().next().unwrap().timestamp_ms;
    let body = record(days_40, 0, &[1, 2, b'v', 0]);
    assert_eq!(at(one(batch(|_| (), &body))), BASE_TIMESTAMP + days_40);
    assert_eq!(at(one(batch(|header| header.base_timestamp = -1, RECORD))), -1);
    let append_time = |header: &mut BatchHeader| {
        (header.attributes, header.max_timestamp) = (8, BASE_TIMESTAMP + 9_999);
    };
    assert_eq!(at(one(batch(append_time, &record(5, 0, &[1, 2, b'v', 0])))), BASE_TIMESTAMP + 9_999);
}

fn control(key: &[u8], more: &[u8], count: i32) -> Result<Option<ControlMarker>> {
    let mut body = Head::new();
    body.varint(key.len() as i32);
    let rest = [body.as_slice(), key, &[0x0c, 0, 0, 0, 0, 0, 0, 0]].concat();
    let records = [&record(0, 0, &rest), more].concat();
    let change = |header: &mut BatchHeader| {
        (header.attributes, header.count, header.last_offset_delta) = (0x30, count, count - 1);
    };
    let batch = batches(batch(change, &records).into()).next().unwrap().unwrap();
    assert!(batch.header.is_control() && batch.header.is_transactional());
    batch.control()
}

#[test]
fn control_batches() {
    assert_eq!(control(&[0, 0, 0, 1], &[], 1).unwrap(), Some(ControlMarker::Commit));
    assert_eq!(control(&[0, 0, 0, 0], &[], 1).unwrap(), Some(ControlMarker::Abort));
    assert_eq!(control(&[0, 0, 0, 9], &[], 1).unwrap(), Some(ControlMarker::Other(9)));
    let abort = record(0, 1, &[8, 0, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(control(&[0, 0, 0, 1], &abort, 2).unwrap(), Some(ControlMarker::Commit));
    let error = control(&[0, 0], &[], 1).unwrap_err();
    assert!(error.to_string().contains("shorter than 4 bytes"), "{error}");
    assert!(control(&[0xff, 0xff, 0, 1], &[], 1).is_err());
    let compressed = batch(|header| header.attributes = 0x34, RECORD);
    assert!(batches(compressed.into()).next().unwrap().unwrap().control().is_err());
    let emptied = batch(|header| (header.attributes, header.count) = (0x30, 0), &[]);
    assert_eq!(batches(emptied.into()).next().unwrap().unwrap().control().unwrap(), None);
    let data = batches(hex(GOOD).into()).next().unwrap().unwrap();
    assert_eq!(data.control().unwrap(), None);
}

#[test]
fn a_transaction_s_end_marker_is_read_back() {
    let producer = ProducerIdentity { id: 1234, epoch: 5 };
    for (commit, marker) in [(true, ControlMarker::Commit), (false, ControlMarker::Abort)] {
        let bytes = end_transaction_marker(producer, commit, 7, 99).unwrap();
        let batch = batches(bytes.freeze()).next().unwrap().unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(batch.header.producer(), Some(producer));
        assert_eq!((batch.header.attributes, batch.header.base_sequence), (0x30, -1));
        assert_eq!(batch.control().unwrap(), Some(marker));
        let records = batch.open(&Limits::default()).unwrap();
        assert_eq!(records.iter().next().unwrap().value, Some(&[0, 0, 0, 0, 0, 7][..]));
    }
}

fn compressed(codec: Codec, payload: &[u8]) -> Vec<u8> {
    batch(|header| header.attributes = codec.to_attributes(), payload)
}

/// The records part of a sealed batch, as its codec left it.
fn payload(codec: Codec, records: usize) -> Vec<u8> {
    sealed(codec, records).to_bytes(None, 0, false)[BATCH_HEADER_BYTES..].to_vec()
}

#[test]
fn snappy_frames_that_lie() {
    let start = "82534e4150505900 00000001 00000001";
    let snappy = |rest: &str| compressed(Codec::Snappy, &hex(&[start, rest].concat()));
    corrupt(snappy("7fffffff"), "a snappy block is cut off");
    corrupt(snappy("ffffffff"), "size is negative");
    corrupt(snappy("00000005 ffffffff0f"), "claims more bytes than it can hold");
    corrupt(snappy("0000"), "size is cut off");
    corrupt(snappy(""), "not enough bytes for that many records");
    corrupt(compressed(Codec::Snappy, &hex("82534e4150505900 0000")), "a snappy header is cut off");
}

#[test]
fn a_raw_snappy_block_is_read_too() {
    let raw = snap::raw::Encoder::new().compress_vec(RECORD).unwrap();
    assert_eq!(one(compressed(Codec::Snappy, &raw)).len(), 1);
}

#[test]
fn zstd_frames_that_lie() {
    let zstd = |frame: &str| compressed(Codec::Zstd, &hex(frame));
    // 8 GiB of content claimed, without and with a block; a window of 2 GiB.
    corrupt(zstd("28b52ffdc000 0000000002000000"), "Truncated");
    corrupt(zstd("28b52ffdc000 0000000002000000 010000"), "claims more bytes than it can hold");
    corrupt(zstd("28b52ffd00a8 010000"), "window is larger than 128 MiB");
    corrupt(zstd("ffffffff"), "decompress a record batch (zstd, 4 bytes)");
}

#[test]
fn lz4_frames_that_lie() {
    let good = payload(Codec::Lz4, 10);
    let mut wrong_header = good.clone();
    wrong_header[6] ^= 1;
    corrupt(compressed(Codec::Lz4, &wrong_header), "HeaderChecksumError");
    let mut wrong_magic = good.clone();
    wrong_magic[0] ^= 1;
    corrupt(compressed(Codec::Lz4, &wrong_magic), "magic");
    corrupt(compressed(Codec::Lz4, &good[..good.len() - 4]), "an lz4 frame is cut off");
}

#[test]
fn compressed_data_that_is_cut_anywhere_is_an_error() {
    for codec in CODECS {
        let whole = payload(codec, 40);
        let change = |header: &mut BatchHeader| {
            header.attributes = codec.to_attributes();
            (header.count, header.last_offset_delta, header.base_timestamp) = (40, 39, 1000);
        };
        assert_eq!(one(batch(change, &whole)).len(), 40);
        for cut in 0..whole.len() {
            assert!(open_all(batch(change, &whole[..cut])).is_err(), "{codec:?} cut at {cut}");
        }
    }
}

#[test]
fn members_one_after_the_other_are_one_stream() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let parts = [RECORD.to_vec(), record(0, 1, &[1, 2, b'w', 0])].map(|part| {
            let mut bytes = BytesMut::from(&part[..]);
            let compression = Compression::new(codec, None).unwrap();
            assert_eq!(compression::compress(compression, &mut bytes), codec);
            bytes
        });
        let change = |header: &mut BatchHeader| {
            header.attributes = codec.to_attributes();
            (header.count, header.last_offset_delta) = (2, 1);
        };
        let records = one(batch(change, &parts.concat()));
        let values: Vec<_> = records.iter().map(|record| record.value.unwrap()).collect();
        assert_eq!(values, [b"v", b"w"], "{codec:?}");
    }
}

#[test]
fn a_bomb_stops_at_the_limit_and_names_it() {
    let mut limits = Limits::default();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(Compression::new(codec, None).unwrap(), 0);
        builder.append(0, None, Some(&vec![0; 3 << 20]), &[]).unwrap();
        let exact = builder.size_bytes() - BATCH_HEADER_BYTES;
        let set = builder.seal().to_bytes(None, 0, false).freeze();
        let batch = batches(set).next().unwrap().unwrap();
        limits.batch_decompressed_max_bytes = exact;
        assert_eq!(batch.clone().open(&limits).unwrap().len(), 1);
        for max_bytes in [exact - 1, 1 << 20, 0] {
            limits.batch_decompressed_max_bytes = max_bytes;
            let error = batch.clone().open(&limits).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptRecords);
            let words = format!("exceeds `batch_decompressed_max_bytes` = {max_bytes}");
            assert!(error.to_string().contains(&words), "{codec:?}: {error}");
        }
    }
}

#[test]
fn a_codec_s_level_is_checked() {
    for (codec, level) in [
        (Codec::None, 1),
        (Codec::Gzip, 0),
        (Codec::Gzip, 10),
        (Codec::Snappy, 1),
        (Codec::Lz4, 0),
        (Codec::Lz4, 18),
        (Codec::Zstd, 23),
        (Codec::Zstd, -131_073),
    ] {
        let error = Compression::new(codec, Some(level)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    for (codec, level) in
        [(Codec::Gzip, -1), (Codec::Gzip, 9), (Codec::Lz4, 17), (Codec::Zstd, 22), (Codec::Zstd, -7)]
    {
        let compression = Compression::new(codec, Some(level)).unwrap();
        let mut builder = BatchBuilder::new(compression, 0);
        builder.append(0, Some(b"k"), Some(&[b'x'; 10_000]), &[]).unwrap();
        let set = builder.seal().to_bytes(None, 0, false);
        assert_eq!(open_all(set).unwrap()[0].len(), 1);
    }
}

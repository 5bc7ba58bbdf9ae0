//! Formats v0 and v1, hostile and odd. What honest peers wrote is compared with Kafka's own classes in
//! `tests/vectors`.

use proptest::prelude::*;

use super::super::compression;
use super::*;
use crate::error::Error;

const TIMESTAMP: i64 = 1_700_000_000_000;

/// A message of format `magic` as it lies in a log; v1 with a timestamp.
fn message(magic: u8, attributes: u8, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![magic, attributes];
    if magic == 1 {
        body.extend((TIMESTAMP + offset).to_be_bytes());
    }
    for field in [key, value] {
        body.extend(field.map_or(-1, |field| field.len() as i32).to_be_bytes());
        body.extend(field.unwrap_or_default());
    }
    sealed_body(offset, &body)
}

/// With the checksum that `body` has.
fn sealed_body(offset: i64, body: &[u8]) -> Vec<u8> {
    let mut set = [&offset.to_be_bytes()[..], &(body.len() as i32 + 4).to_be_bytes(), &[0; 4], body].concat();
    let crc = crate::record::legacy::crc(&set);
    set[12..16].copy_from_slice(&crc.to_be_bytes());
    set
}

fn wrapper(magic: u8, codec: Codec, offset: i64, set: &[u8]) -> Vec<u8> {
    let mut value = BytesMut::from(set);
    compression::compress(Compression::new(codec, None).unwrap(), &mut value);
    message(magic, codec.to_attributes() as u8, offset, None, Some(&value))
}

/// Offset, timestamp and value of each record.
fn read(set: Vec<u8>) -> Result<Vec<(i64, i64, Vec<u8>)>> {
    let opened = open_all(set)?;
    let records = opened.iter().flat_map(Records::iter);
    Ok(records.map(|r| (r.offset, r.timestamp_ms, r.value.unwrap_or_default().to_vec())).collect())
}

fn offsets(set: Vec<u8>) -> Vec<i64> {
    read(set).unwrap().into_iter().map(|(offset, ..)| offset).collect()
}

#[track_caller]
fn corrupt(set: Vec<u8>, words: &str) -> Error {
    let error = read(set).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptRecords, "{error}");
    assert!(error.to_string().contains(words) && error.offset().is_some(), "{error}");
    error
}

#[test]
fn the_checksum_is_that_of_zlib() {
    // The check value of CRC-32/ISO-HDLC.
    assert_eq!(crate::record::legacy::crc(&[&[0; 16][..], b"123456789"].concat()), 0xcbf4_3926);
}

#[test]
fn all_formats_may_follow_each_other_in_one_set() {
    let mut v2 = sealed(Codec::None, 2).to_bytes(None, 0, false);
    v2[..8].copy_from_slice(&30_i64.to_be_bytes());
    let set = [
        message(0, 0, 10, Some(b"k"), Some(b"a")),
        message(1, 0, 11, None, None),
        wrapper(0, Codec::Gzip, 21, &[message(0, 0, 20, None, None), message(0, 0, 21, None, None)].concat()),
        wrapper(1, Codec::Snappy, 25, &[message(1, 0, 0, None, None), message(1, 0, 2, None, None)].concat()),
        v2.to_vec(),
    ];
    assert_eq!(offsets(set.concat()), [10, 11, 20, 21, 23, 25, 30, 31]);
}

#[test]
fn a_cut_off_message_is_left_for_the_next_fetch() {
    let good = message(1, 0, 3, Some(b"k"), Some(b"v"));
    for cut in 0..good.len() {
        let set = [&good[..], &good[..cut]].concat();
        let mut batches = batches(Bytes::from(set));
        assert!(batches.next().unwrap().is_ok());
        assert!(batches.next().is_none());
        assert_eq!(batches.bytes_read(), good.len());
    }
}

#[test]
fn lengths_and_offsets_that_cannot_be() {
    let mut body = vec![1, 0];
    body.extend(TIMESTAMP.to_be_bytes());
    let with = |rest: &[u8]| sealed_body(5, &[&body[..], rest].concat());
    corrupt(with(&[0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0]), "a length below −1");
    corrupt(with(&[0, 0, 0, 9, 0, 0, 0, 0]), "ends inside");
    corrupt(with(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]), "ends inside");
    corrupt(with(&[0, 0, 0, 0, 0, 0, 0, 0, 7]), "bytes are left");
    corrupt(message(0, 0, -1, None, None), "its offset cannot be");
    corrupt(message(0, 0, i64::MAX, None, None), "its offset cannot be");
    let mut short = message(1, 0, 3, None, None);
    short[8..12].copy_from_slice(&21_i32.to_be_bytes());
    corrupt(short, "its length is 21, below 22");
}

#[test]
fn a_wrong_checksum_is_an_error() {
    let mut set = message(1, 0, 3, Some(b"k"), Some(b"v"));
    *set.last_mut().unwrap() ^= 1;
    corrupt(set, "its CRC32 is");
}

#[test]
fn wrappers_that_cannot_be() {
    let inner = |magic, offset| message(magic, 0, offset, None, Some(b"v"));
    corrupt(message(1, 1, 5, None, None), "a wrapper without a value");
    corrupt(wrapper(1, Codec::Gzip, 5, &[]), "a wrapper of nothing");
    corrupt(wrapper(1, Codec::Gzip, 5, &inner(0, 0)), "another format");
    corrupt(wrapper(0, Codec::Gzip, 5, &inner(0, 6)), "pass its own");
    corrupt(wrapper(1, Codec::Gzip, 5, &inner(1, 6)), "pass its own");
    corrupt(wrapper(1, Codec::Gzip, 5, &wrapper(1, Codec::Gzip, 5, &inner(1, 0))), "a wrapper in a wrapper");
    corrupt(wrapper(1, Codec::Gzip, 5, &[inner(1, 2), inner(1, 1)].concat()), "out of order");
    corrupt(wrapper(0, Codec::Gzip, 5, &[inner(0, 5), inner(0, 5)].concat()), "out of order");
    corrupt(wrapper(1, Codec::Gzip, 5, &inner(1, 0)[..20]), "cut off");
    corrupt(wrapper(1, Codec::Gzip, 5, &[0; 11]), "ends inside");
    corrupt(wrapper(1, Codec::Zstd, 5, &inner(1, 0)), "old formats know no zstd");
    let far = [inner(0, 5), inner(0, 5 + (1 << 31))].concat();
    corrupt(wrapper(0, Codec::Gzip, 5 + (1 << 31), &far), "out of order");
}

#[test]
fn what_a_wrapper_inflates_to_is_limited() {
    let bomb = wrapper(1, Codec::Gzip, 5, &message(1, 0, 0, None, Some(&vec![0; 1 << 20])));
    assert!(bomb.len() < 10_000);
    let batch = batches(Bytes::from(bomb)).next().unwrap().unwrap();
    let limits = Limits { batch_decompressed_max_bytes: 1 << 16, ..Limits::DEFAULT };
    let error = batch.open(&limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptRecords);
    assert!(error.to_string().contains("batch_decompressed_max_bytes"), "{error}");
}

#[test]
fn the_checksum_of_an_lz4_header_counts_from_v1_on() {
    for (magic, is_read) in [(0, true), (1, false)] {
        let inner = message(magic, 0, 0, None, Some(b"v"));
        let good = wrapper(magic, Codec::Lz4, 0, &inner);
        assert_eq!(read(good.clone()).unwrap().len(), 1);
        let frame = good.windows(4).position(|window| window == [4, 0x22, 0x4d, 0x18]).unwrap();
        let mut body = good[16..].to_vec();
        // After magic, flags and block descriptor.
        body[frame - 16 + 6] ^= 0x55;
        assert_eq!(read(sealed_body(0, &body)).is_ok(), is_read, "v{magic}");
    }
}

#[test]
fn a_wrapper_stamped_by_the_broker_stamps_what_it_wraps() {
    let inner = [message(1, 0, 0, None, None), message(1, 0, 1, None, None)].concat();
    let mut body = wrapper(1, Codec::Gzip, 8, &inner)[16..].to_vec();
    body[1] |= 0x08;
    let times: Vec<i64> = read(sealed_body(8, &body)).unwrap().into_iter().map(|(_, time, _)| time).collect();
    assert_eq!(times, [TIMESTAMP + 8; 2]);
}

proptest! {
    /// Damage anywhere ends in records or in an error, never in a panic, with or without the checksum.
    #[test]
    fn damage_is_survived(at in 0usize..400, to in any::<u8>(), codec in 0usize..4, magic in 0u8..2) {
        let inner: Vec<u8> = (0..8).flat_map(|i| message(magic, 0, i, Some(b"k"), Some(b"value"))).collect();
        let mut set = match codec {
            0 => inner,
            codec => wrapper(magic, CODECS[codec], 7, &inner),
        };
        let at = at % set.len();
        set[at] = to;
        for batch in batches(Bytes::from(set)).flatten() {
            let _ = (batch.verify_crc(), batch.control());
            if let Ok(records) = batch.open(&Limits::DEFAULT) {
                assert_eq!(records.iter().count(), records.len());
            }
        }
    }
}

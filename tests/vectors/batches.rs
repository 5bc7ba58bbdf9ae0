//! Record batches, both ways: Kafka's own classes (`Batches.java`, kafka-clients 4.3.0) read what this
//! client seals, and this client reads what they write, with each codec.

use std::fmt::Write as _;
use std::fs;

use bytes::Bytes;
use kafka_wire::protocol::limits::Limits;
use kafka_wire::record::{
    BatchBuilder, BatchHeader, ControlMarker, RecordRef, batches, end_transaction_marker,
};
use kafka_wire::{Codec, Compression, Header, ProducerIdentity};
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Version};

use crate::program;

/// Enough for several blocks of each codec.
const MANY: usize = 3000;
/// The number in the checked-in file.
const FEW: usize = 9;

const PRODUCER: ProducerIdentity = ProducerIdentity { id: 77, epoch: 5 };
const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

/// One record as both programs describe it.
struct Described {
    timestamp_ms: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(&'static str, Option<&'static str>)>,
}

fn record(index: usize) -> Described {
    Described {
        timestamp_ms: BASE_TIMESTAMP + index as i64 * 7 - (index % 3 * 100) as i64,
        key: (!index.is_multiple_of(3)).then(|| format!("key-{index}")),
        value: (index % 4 != 1).then(|| format!("value of record {index} ").repeat(index % 5)),
        headers: [("a", Some("1")), ("a", None), ("é", Some(""))][..index % 4].to_vec(),
    }
}

fn seal(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression, 0);
    for record in (0..MANY).map(record) {
        let header = |(key, value): &(&'static str, Option<&'static str>)| Header {
            key: key.as_bytes(),
            value: value.map(str::as_bytes),
        };
        let headers: Vec<_> = record.headers.iter().map(header).collect();
        let bytes = |text: &'_ Option<String>| text.clone().map(String::into_bytes);
        let (key, value) = (bytes(&record.key), bytes(&record.value));
        builder.append(record.timestamp_ms, key.as_deref(), value.as_deref(), &headers).expect("append");
    }
    builder.seal().to_bytes(Some(PRODUCER), 42, true).freeze()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("write to a string");
        text
    })
}

fn quoted(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| format!("'{}'", hex(bytes)))
}

/// The line that `Batches.java` prints for a batch.
fn describe_batch(name: &str, header: &BatchHeader) -> String {
    let (id, epoch) = (header.producer_id, header.producer_epoch);
    format!(
        "{name} {} {id}/{epoch} {} {} {} {} {}",
        header.codec().expect("a codec").name(),
        header.base_sequence,
        header.next_offset(),
        header.is_transactional(),
        header.is_control(),
        header.max_timestamp
    )
}

/// The line that `Batches.java` prints for a record.
fn describe(record: RecordRef<'_>) -> String {
    let (key, value) = (quoted(record.key), quoted(record.value));
    let mut text = format!("{} {} {key} {value}", record.offset, record.timestamp_ms);
    for header in record.headers() {
        write!(text, " {}={}", hex(header.key), quoted(header.value)).expect("write to a string");
    }
    text
}

/// The lines that a batch of the described records must give, whoever wrote it; with the time of append
/// in place of their own timestamps, where there is one.
fn expected(name: &str, codec: Codec, count: usize, append_time: Option<i64>) -> Vec<String> {
    let records: Vec<_> = (0..count).map(record).collect();
    let latest = records.iter().map(|record| record.timestamp_ms).max().expect("a record");
    let max_timestamp = append_time.unwrap_or(latest);
    let mut lines = vec![format!("{name} {} 77/5 42 {count} true false {max_timestamp}", codec.name())];
    for (offset, record) in records.iter().enumerate() {
        let bytes = |text: Option<&str>| quoted(text.map(str::as_bytes));
        let timestamp = append_time.unwrap_or(record.timestamp_ms);
        let (key, value) = (bytes(record.key.as_deref()), bytes(record.value.as_deref()));
        let headers = record.headers.iter();
        let headers = headers.map(|(key, value)| format!(" {}={}", hex(key.as_bytes()), bytes(*value)));
        lines.push(format!("{offset} {timestamp} {key} {value}{}", headers.collect::<String>()));
    }
    lines
}

/// Reads the lines that `Batches.java` wrote, each a batch of `count` records or a marker.
fn read_what_java_wrote(lines: &str, count: usize) {
    let mut names = 0;
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        names += 1;
        let (name, bytes) = line.split_once(' ').expect("a name and bytes");
        let bytes = super::messages::bytes_of(bytes);
        let mut set = batches(bytes.clone());
        let batch = set.next().expect("a batch").expect("a readable batch");
        assert!(set.next().is_none() && set.bytes_read() == bytes.len(), "{name}");
        batch.verify_crc().expect(name);
        let marker = batch.control().expect(name);
        if let Some(marker) = marker {
            assert_eq!(marker, if name == "commit" { ControlMarker::Commit } else { ControlMarker::Abort });
            let ours = end_transaction_marker(PRODUCER, name == "commit", 9, BASE_TIMESTAMP);
            assert_eq!(hex(&ours.expect("a marker")), hex(&bytes), "{name}");
            continue;
        }
        let records = batch.open(&Limits::DEFAULT).expect(name);
        let codec = records.header().codec().expect(name);
        assert!(name.starts_with(codec.name()) || name == "append-time", "{name} is {codec:?}");
        let mut read = vec![describe_batch(name, records.header())];
        read.extend(records.iter().map(describe));
        // Java stamps with its clock, which is past what the records say.
        let append_time = (name == "append-time").then_some(records.header().max_timestamp);
        assert!(append_time.is_none_or(|time| time > BASE_TIMESTAMP + 10_000_000), "{append_time:?}");
        assert_eq!(read, expected(name, codec, count, append_time));
    }
    assert_eq!(names, 11);
}

#[test]
fn batches_that_java_has_written_are_read() {
    read_what_java_wrote(include_str!("batches.txt"), FEW);
}

#[test]
fn batches_that_java_writes_now_are_read() {
    if !real_kafka::available() {
        return;
    }
    let libs = real_kafka::jars(Version::V4_3);
    for count in [1, MANY] {
        let written = java::run(&libs, &program("Batches.java"), &["write", &count.to_string()]);
        read_what_java_wrote(&written, count);
    }
}

#[test]
fn java_reads_our_batches() {
    if !real_kafka::available() {
        return;
    }
    let cases = [
        ("none", Codec::None, None),
        ("gzip", Codec::Gzip, None),
        ("gzip-1", Codec::Gzip, Some(1)),
        ("snappy", Codec::Snappy, None),
        ("lz4", Codec::Lz4, None),
        ("zstd", Codec::Zstd, None),
        ("zstd--5", Codec::Zstd, Some(-5)),
        ("zstd-19", Codec::Zstd, Some(19)),
    ];
    let mut lines = String::new();
    let mut right = Vec::new();
    for (name, codec, level) in cases {
        let batch = seal(Compression::new(codec, level).expect("a level of the codec"));
        writeln!(lines, "{name} {}", hex(&batch)).expect("write to a string");
        right.extend(expected(name, codec, MANY, None));
    }
    for (name, commit) in [("COMMIT", true), ("ABORT", false)] {
        let marker = end_transaction_marker(PRODUCER, commit, 9, BASE_TIMESTAMP).expect("a marker");
        writeln!(lines, "{name} {}", hex(&marker)).expect("write to a string");
        right.push(format!("{name} none 77/5 -1 1 true true {BASE_TIMESTAMP}"));
        right.push(format!("{name} 9"));
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), lines).expect("write the batches");
    let path = file.path().to_str().expect("a path of text");
    let read = java::run(&real_kafka::jars(Version::V4_3), &program("Batches.java"), &["read", path]);
    for (read, right) in read.lines().zip(&right) {
        assert_eq!(read, right);
    }
    assert_eq!(read.lines().count(), right.len());
}

/// What `Batches.java` puts into a set of an old format, as this client is to see it.
fn expected_legacy(name: &str, count: usize) -> Vec<String> {
    let step = if name.ends_with("-gaps") { 3 } else { 1 };
    let lines = (0..count).map(record).enumerate().map(|(index, record)| {
        let timestamp = match name {
            _ if name.starts_with("v0") => -1,
            _ if name.ends_with("-append-time") => 1_700_000_111_000,
            _ => record.timestamp_ms,
        };
        let bytes = |text: Option<&str>| quoted(text.map(str::as_bytes));
        let (key, value) = (bytes(record.key.as_deref()), bytes(record.value.as_deref()));
        format!("{} {timestamp} {key} {value}", 1000 + index * step)
    });
    lines.collect()
}

/// Reads the lines of "legacy", each a set of `count` records.
fn read_legacy(lines: &str, count: usize) {
    let mut names = 0;
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        names += 1;
        let (name, bytes) = line.split_once(' ').expect("a name and bytes");
        let mut read = Vec::new();
        let mut next_offset = 0;
        for batch in batches(super::messages::bytes_of(bytes)) {
            let batch = batch.expect(name);
            batch.verify_crc().expect(name);
            assert_eq!(batch.control().expect(name), None);
            assert!(name.starts_with(&format!(
                "v{}-{}",
                batch.header.magic,
                batch.header.codec().expect(name).name()
            )));
            assert!(batch.header.next_offset() > next_offset, "{name}");
            next_offset = batch.header.next_offset();
            let records = batch.open(&Limits::DEFAULT).expect(name);
            assert_eq!(records.header().next_offset(), next_offset, "{name}");
            read.extend(records.iter().map(describe));
        }
        assert_eq!(read, expected_legacy(name, count), "{name}");
    }
    assert_eq!(names, 20);
}

#[test]
fn messages_of_old_formats_that_java_has_written_are_read() {
    read_legacy(include_str!("legacy.txt"), FEW);
}

#[test]
fn messages_of_old_formats_that_java_writes_now_are_read() {
    if !real_kafka::available() {
        return;
    }
    let libs = real_kafka::jars(Version::V4_3);
    for count in [1, MANY] {
        let written = java::run(&libs, &program("Batches.java"), &["legacy", &count.to_string()]);
        read_legacy(&written, count);
    }
}

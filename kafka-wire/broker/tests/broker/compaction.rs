//! Compaction: what stays of each key, where, and in transactions.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::protocol::limits::Limits;
use kafka_wire::record::{BatchBuilder, batches};
use kafka_wire::{Compression, ErrorCode, ProducerIdentity};
use tidewater_broker::{Cluster, Options};

use crate::harness::*;
use crate::records::set_config;
use crate::transactions::{end, init};

fn keyed(records: &[(&str, Option<&str>)], at_ms: i64, producer: Option<(ProducerIdentity, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE, 1024);
    for (key, value) in records {
        builder.append(at_ms, Some(key.as_bytes()), value.map(str::as_bytes), &[]).unwrap();
    }
    let (identity, sequence) = producer.unzip();
    builder.seal().to_bytes(identity, sequence.unwrap_or(0), false).freeze()
}

/// Offset, key and value of each record from `offset` on; a batch without records is told by its offsets.
fn compacted(it: &mut Harness, offset: i64) -> Vec<String> {
    let mut found = Vec::new();
    for batch in batches(it.fetch(0, offset, false).records.unwrap()) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        let records = batch.open(&Limits::DEFAULT).unwrap();
        if records.is_empty() {
            found.push("empty".to_owned());
        }
        for record in records.iter() {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"-")).into_owned();
            found.push(format!("{} {}={}", record.offset, text(record.key), text(record.value)));
        }
    }
    found
}

#[test]
fn compaction_keeps_the_newest_of_each_key_and_leaves_gaps() {
    let folder = tempfile::tempdir().unwrap();
    for data in [None, Some(folder.path().to_owned())] {
        let mut it = Harness::new(Options { data: data.clone(), ..Options::default() });
        set_config(&mut it, "cleanup.policy", "compact");
        let now = it.now.unix_ms;
        let producer = ProducerIdentity { id: 7, epoch: 0 };
        for batch in [
            keyed(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))], now, None),
            keyed(&[("a", Some("2"))], now, Some((producer, 0))),
            keyed(&[("b", None)], now, None),
            keyed(&[("a", Some("3"))], now, None),
        ] {
            assert_eq!(it.produce(9, 0, batch).error_code, 0);
        }
        it.advance(Duration::from_secs(1));
        it.cluster.compact(it.now, TOPIC, 0).unwrap();
        let left = ["2 c=1", "empty", "4 b=-", "5 a=3"];
        assert_eq!(compacted(&mut it, 0), left, "the producer's last batch keeps its place, as in Kafka");
        assert_eq!(compacted(&mut it, 3), left[1..], "from within a gap");
        it.advance(Duration::from_secs(24 * 3600));
        it.produce(9, 0, keyed(&[("d", Some("1"))], now, None));
        it.cluster.compact(it.now, TOPIC, 0).unwrap();
        let left = ["2 c=1", "empty", "5 a=3", "6 d=1"];
        assert_eq!(compacted(&mut it, 0), left, "the tombstone is a day old");
        if let Some(data) = data {
            let options = Options { data: Some(data), ..Options::default() };
            drop(std::mem::replace(&mut it.cluster, Cluster::new(it.now, Options::default(), 1).unwrap()));
            it.cluster = Cluster::new(it.now, options, 2).unwrap();
            assert_eq!(compacted(&mut it, 0), left);
            let next = it.produce(9, 0, keyed(&[("e", Some("1"))], now, Some((producer, 1))));
            assert_eq!((next.error_code, next.base_offset), (0, 7), "the sequence goes on");
        }
    }
}

#[test]
fn compaction_stops_before_an_open_transaction_and_drops_what_was_aborted() {
    let mut it = Harness::new(Options::default());
    set_config(&mut it, "cleanup.policy", "compact");
    let plain = keyed(&[("a", Some("committed"))], 1000, None);
    it.produce(9, 0, plain.clone());
    let first = init(&mut it).unwrap();
    let transactional = |producer| {
        let mut builder = BatchBuilder::new(Compression::NONE, 1024);
        builder.append(1000, Some(b"a"), Some(b"aborted"), &[]).unwrap();
        builder.seal().to_bytes(Some(producer), 0, true).freeze()
    };
    assert_eq!(it.produce_in_transaction(12, "job", 0, transactional(first)), 0);
    let next = end(&mut it, 5, first, false);
    let second = ProducerIdentity { id: next.producer_id.0, epoch: next.producer_epoch };
    assert_eq!(it.produce_in_transaction(12, "job", 0, transactional(second)), 0);
    it.produce(9, 0, plain);
    it.advance(Duration::from_secs(1));
    it.cluster.compact(it.now, TOPIC, 0).unwrap();
    let keys = |it: &mut Harness| {
        let bytes = it.fetch(0, 0, false).records;
        records(&bytes)
    };
    let found = |offset, value: &str| (offset, value.to_owned());
    assert_eq!(
        keys(&mut it),
        [found(0, "committed"), found(3, "aborted"), found(4, "committed")],
        "the marker at 2 is left out by this reader"
    );
}

#[test]
fn a_record_without_key_is_refused_where_it_would_be_dropped() {
    let mut it = Harness::new(Options::default());
    assert_eq!(it.produce(9, 0, batch(&["no key"], None, false)).error_code, 0);
    set_config(&mut it, "cleanup.policy", "compact");
    let refused = it.produce(9, 0, batch(&["no key"], None, false)).error_code;
    assert_eq!(refused, ErrorCode::INVALID_RECORD.code());
    assert_eq!(it.produce(9, 0, keyed(&[("a", Some("1"))], 1000, None)).error_code, 0);
}

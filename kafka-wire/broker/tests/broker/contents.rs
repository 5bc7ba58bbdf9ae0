//! What tests put into a cluster and find in it without a client.

use std::time::Duration;

use kafka_wire::record::{BatchBuilder, Header};
use kafka_wire::{Codec, Compression, ErrorCode};
use tidewater_broker::{Options, StoredRecord};

use crate::harness::*;
use crate::restart::{kill_and_restart, persistent};
use crate::transactions::{commit_offset, end, init};

fn found(it: &Harness) -> Vec<(i64, String)> {
    let records = it.cluster.records(TOPIC, 0).unwrap();
    let text = |it: &StoredRecord| String::from_utf8(it.value.clone().unwrap().to_vec()).unwrap();
    records.iter().map(|record| (record.offset, text(record))).collect()
}

#[test]
fn what_is_put_there_is_fetched_and_wakes_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    for options in
        [Options::default(), Options { data: Some(folder.path().to_owned()), ..Options::default() }]
    {
        let mut it = Harness::new(options);
        assert!(matches!(it.send(0, 12, fetch_request(12, uuid::Uuid::nil(), 0, 0)), Outcome::Waiting));
        assert_eq!(it.cluster.append(it.now, TOPIC, 0, Some(b"k"), Some(b"a")).unwrap(), 0);
        assert!(matches!(it.outcome(), Outcome::Answered(_)));
        assert_eq!(it.cluster.append(it.now, TOPIC, 0, None, Some(b"b")).unwrap(), 1);
        assert_eq!(records(&it.fetch(0, 0, true).records), [(0, "a".to_owned()), (1, "b".to_owned())]);
        assert_eq!(found(&it), [(0, "a".to_owned()), (1, "b".to_owned())]);
        let first = &it.cluster.records(TOPIC, 0).unwrap()[0];
        assert_eq!((first.key.as_deref(), first.timestamp_ms), (Some(&b"k"[..]), it.now.unix_ms));
        assert_eq!(it.cluster.records(TOPIC, 1).unwrap(), []);
        let error = it.cluster.append(it.now, TOPIC, 7, None, None).unwrap_err();
        assert!(error.to_string().contains("partition 7 of topic 'orders'"), "{error}");
        assert!(it.cluster.records("nowhere", 0).is_err());
    }
}

#[test]
fn topics_come_grow_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = persistent(folder.path(), Duration::ZERO);
    it.cluster.append(it.now, TOPIC, 0, None, Some(b"old")).unwrap();
    it.cluster.add_partitions(it.now, TOPIC, 3).unwrap();
    for count in [-1, 3, i32::MAX] {
        let error = it.cluster.add_partitions(it.now, TOPIC, count).unwrap_err();
        assert!(error.to_string().ends_with("it has 3"), "{error}");
    }
    assert!(it.cluster.add_partitions(it.now, "nowhere", 3).is_err());
    it.cluster.create_topic(it.now, "other", 1).unwrap();
    let id = it.topic_id();
    let left = kill_and_restart(&mut it, folder.path());
    it.cluster.append(it.now, TOPIC, 2, None, Some(b"in the last")).unwrap();
    it.cluster.delete_topic(it.now, "other").unwrap();
    it.cluster.delete_topic(it.now, TOPIC).unwrap();
    assert!(it.cluster.delete_topic(it.now, TOPIC).is_err());
    it.cluster.create_topic(it.now, TOPIC, 1).unwrap();
    let left = kill_and_restart(&mut it, left.path());
    assert_ne!(it.topic_id(), id);
    assert_eq!(found(&it), []);
    assert!(it.cluster.records("other", 0).is_err());

    // However often the cluster starts without any topic.
    let id = it.topic_id();
    it.cluster.delete_topic(it.now, TOPIC).unwrap();
    let left = kill_and_restart(&mut it, left.path());
    let _left = kill_and_restart(&mut it, left.path());
    for _ in 0..4 {
        it.cluster.create_topic(it.now, TOPIC, 1).unwrap();
        assert_ne!(it.topic_id(), id);
        it.cluster.delete_topic(it.now, TOPIC).unwrap();
    }
}

#[test]
fn what_is_found_is_what_readers_of_committed_records_see() {
    let mut it = Harness::new(Options::default());
    let mut builder = BatchBuilder::new(Compression::new(Codec::Lz4, None).unwrap(), 64);
    let headers = [Header { key: b"h", value: Some(b"1") }, Header { key: b"h", value: None }];
    for value in ["deleted", "a"] {
        builder.append(5, None, Some(value.as_bytes()), &headers).unwrap();
    }
    it.produce(9, 0, builder.seal().to_bytes(None, 0, false).freeze());
    it.cluster.delete_records(it.now, TOPIC, 0, 1);

    let mut producer = init(&mut it).unwrap();
    for (value, commit) in [("committed", true), ("aborted", false)] {
        assert_eq!(it.produce_in_transaction(12, "job", 0, batch(&[value], Some((producer, 0)), true)), 0);
        assert_eq!(commit_offset(&mut it, producer, if commit { 42 } else { 99 }), 0);
        producer.epoch = end(&mut it, 5, producer, commit).producer_epoch;
        it.advance(Duration::ZERO);
    }
    assert_eq!(it.produce_in_transaction(12, "job", 0, batch(&["open"], Some((producer, 0)), true)), 0);
    assert_eq!(found(&it), [(1, "a".to_owned()), (2, "committed".to_owned())]);
    let headers = it.cluster.records(TOPIC, 0).unwrap()[0].headers.clone();
    assert_eq!(headers, [("h".into(), Some("1".into())), ("h".into(), None)]);
    assert_eq!(it.cluster.committed_offset("group", TOPIC, 0), Some(42));
    assert_eq!(it.cluster.committed_offset("group", TOPIC, 1), None);
    assert_eq!(it.cluster.committed_offset("nobody", TOPIC, 0), None);
    assert_eq!(ErrorCode::check(end(&mut it, 5, producer, true).error_code), Ok(()));
    assert_eq!(found(&it).last(), Some(&(6, "open".to_owned())));
}

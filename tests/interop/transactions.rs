//! Transactions through lost and late answers, fencing and timeouts, under both of Kafka's protocols: 4.3 speaks
//! version 2 (KIP-890), 3.9 version 1.

use std::sync::Arc;
use std::time::Duration;

use kafka_wire::{
    CommittedOffset, ErrorKind, GroupMetadata, Isolation, NewTopic, OffsetSpec, Producer, Record,
    TopicPartition,
};
use tidewater_tests::proxy::{Fault, Gate};
use tidewater_tests::real_kafka::{self, Cluster, Version};

use crate::support::{
    admin, committed_values, create, on_shared, producer_config, read_all, values_that_java_reads, wait_until,
};

const PRODUCE: i16 = 0;
const INIT_PRODUCER_ID: i16 = 22;
const ADD_PARTITIONS_TO_TXN: i16 = 24;
const ADD_OFFSETS_TO_TXN: i16 = 25;
const END_TXN: i16 = 26;
const TXN_OFFSET_COMMIT: i16 = 28;

/// The test below, on each protocol.
macro_rules! on_both_protocols {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        mod protocol_1 {
            $($(#[$doc])* #[test] fn $name() { super::on_shared(super::Version::V3_9, super::$name); })*
        }
        mod protocol_2 {
            $($(#[$doc])* #[test] fn $name() { super::on_shared(super::Version::V4_3, super::$name); })*
        }
    };
}

on_both_protocols! {
    lost_answers_and_requests_change_nothing;
    an_end_that_arrives_late_does_not_touch_the_next_transaction;
    a_fenced_producer_writes_nothing_more;
    a_transaction_that_timed_out_is_aborted_and_the_next_one_works;
    what_is_aborted_is_seen_by_nobody_and_empty_transactions_do_no_harm;
}

/// 2.4 has neither KIP-447, which a group without a member does not need, nor KIP-360: there a producer whose
/// transaction was too slow is fenced, as Java's, and one that is in doubt ends.
#[test]
fn all_of_it_on_old_kafka() {
    for version in real_kafka::old_versions().iter().copied() {
        if version == Version::V2_4 {
            on_shared(version, after_doubt_a_producer_ends_and_another_goes_on);
        } else {
            on_shared(version, lost_answers_and_requests_change_nothing);
            on_shared(version, an_end_that_arrives_late_does_not_touch_the_next_transaction);
            on_shared(version, a_transaction_that_timed_out_is_aborted_and_the_next_one_works);
        }
        on_shared(version, a_fenced_producer_writes_nothing_more);
        on_shared(version, what_is_aborted_is_seen_by_nobody_and_empty_transactions_do_no_harm);
    }
}

async fn transactional(cluster: &Cluster, id: &str, client_id: &str) -> Producer {
    let mut config = producer_config(cluster, client_id);
    config.transactional_id = Some(id.to_owned());
    config.client.request_timeout = Duration::from_secs(3);
    Producer::new(config).expect("a producer")
}

async fn send(producer: &Producer, topic: &str, value: &str) -> kafka_wire::Result<()> {
    producer.send(Record::to(topic).value(value)).await.map(drop)
}

fn offset(topic: &str, offset: i64) -> (TopicPartition, CommittedOffset) {
    let offset = CommittedOffset { offset, leader_epoch: None, metadata: "by a transaction".into() };
    (TopicPartition::new(topic, 0), offset)
}

async fn committed_offset(cluster: &Cluster, group: &str, topic: &str) -> Option<i64> {
    let offsets = admin(cluster).list_committed_offsets(group).await.expect("list committed offsets");
    offsets.get(&TopicPartition::new(topic, 0)).map(|committed| committed.offset)
}

/// Each of the calls is lost on its way, done without an answer, or answered in part: what is committed is there
/// once, the group's offsets with it, and what is aborted is not.
async fn lost_answers_and_requests_change_nothing(cluster: &'static Cluster) {
    const NAME: &str = "lost-transactions";
    create(cluster, NewTopic::new(NAME, 1)).await;
    let proxy = cluster.proxy();
    let mut calls = vec![INIT_PRODUCER_ID, PRODUCE, TXN_OFFSET_COMMIT, END_TXN];
    if cluster.version() != Version::V4_3 {
        calls.extend([ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN]);
    }
    for api in calls {
        proxy.rule_for(NAME, api, 0, 1, Fault::LoseAnswer);
        if api != INIT_PRODUCER_ID {
            for (skip, fault) in [
                (1, Fault::LoseRequest),
                (1, Fault::CutAnswer(6)),
                (0, Fault::LoseAnswer),
                (1, Fault::LoseAnswer),
                (0, Fault::LoseRequest),
            ] {
                proxy.rule_for(NAME, api, skip, 1, fault);
            }
        }
    }
    let producer = transactional(cluster, NAME, NAME).await;
    producer.init_transactions().await.expect("init");
    let (mut number, mut expected, mut committed) = (0, Vec::new(), None);
    wait_until("all faults have happened", async || {
        number += 1;
        producer.begin_transaction().await.expect("begin");
        let values = [format!("{number} a"), format!("{number} b")];
        for value in &values {
            send(&producer, NAME, value).await.expect("send");
        }
        let group = GroupMetadata::without_member(NAME);
        let offsets = vec![offset(NAME, number)];
        producer.send_offsets_to_transaction(group, offsets).await.expect("send offsets");
        if number % 3 == 0 {
            producer.abort_transaction().await.expect("abort");
        } else {
            producer.commit_transaction().await.expect("commit");
            expected.extend(values);
            committed = Some(number);
        }
        proxy.pending_for(NAME) == 0
    })
    .await;
    assert_eq!(committed_values(cluster, NAME).await, expected);
    assert_eq!(committed_offset(cluster, NAME, NAME).await, committed);
}

/// KAFKA-17754: an EndTxn that was given up and repeated arrives when the next transaction is open. It must
/// neither commit nor abort that one.
async fn an_end_that_arrives_late_does_not_touch_the_next_transaction(cluster: &'static Cluster) {
    for (name, commit_first) in [("late-commit", true), ("late-abort", false)] {
        create(cluster, NewTopic::new(name, 1)).await;
        let producer = transactional(cluster, name, name).await;
        producer.init_transactions().await.expect("init");
        let late = Arc::new(Gate::default());
        cluster.proxy().rule_for(name, END_TXN, 0, 1, Fault::HoldUntil(Arc::clone(&late)));
        producer.begin_transaction().await.expect("begin");
        send(&producer, name, "first").await.expect("send");
        end(&producer, commit_first).await;

        producer.begin_transaction().await.expect("begin");
        send(&producer, name, "second").await.expect("send");
        tokio::task::spawn_blocking(move || late.open()).await.expect("the late request arrives");
        send(&producer, name, "third").await.expect("send");
        end(&producer, !commit_first).await;
        let expected = if commit_first { vec!["first"] } else { vec!["second", "third"] };
        assert_eq!(committed_values(cluster, name).await, expected, "{name}");
    }
}

/// As above where the epoch cannot be raised but for a new producer.
async fn after_doubt_a_producer_ends_and_another_goes_on(cluster: &'static Cluster) {
    const NAME: &str = "in-doubt";
    create(cluster, NewTopic::new(NAME, 1)).await;
    let producer = transactional(cluster, NAME, NAME).await;
    producer.init_transactions().await.expect("init");
    let late = Arc::new(Gate::default());
    cluster.proxy().rule_for(NAME, END_TXN, 0, 1, Fault::HoldUntil(Arc::clone(&late)));
    producer.begin_transaction().await.expect("begin");
    send(&producer, NAME, "first").await.expect("send");
    end(&producer, true).await;

    producer.begin_transaction().await.expect("begin");
    let error = send(&producer, NAME, "of none").await.expect_err("the epoch is in doubt");
    assert!(error.kind() == ErrorKind::Closed && error.is_fatal(), "{error}");
    let producer = transactional(cluster, NAME, NAME).await;
    producer.init_transactions().await.expect("init");
    producer.begin_transaction().await.expect("begin");
    send(&producer, NAME, "second").await.expect("send");
    tokio::task::spawn_blocking(move || late.open()).await.expect("the late request arrives");
    end(&producer, false).await;
    assert_eq!(committed_values(cluster, NAME).await, ["first"]);
}

async fn end(producer: &Producer, commit: bool) {
    if commit {
        producer.commit_transaction().await.expect("commit");
    } else {
        producer.abort_transaction().await.expect("abort");
    }
}

/// A second producer of the same id takes over: the first one's open transaction is aborted, and whatever it tries
/// fails as fenced.
async fn a_fenced_producer_writes_nothing_more(cluster: &'static Cluster) {
    const NAME: &str = "fenced";
    create(cluster, NewTopic::new(NAME, 1)).await;
    let mut first = Vec::new();
    for attempt in ["send", "offsets", "commit", "abort"] {
        let producer = transactional(cluster, NAME, NAME).await;
        producer.init_transactions().await.expect("init");
        producer.begin_transaction().await.expect("begin");
        send(&producer, NAME, &format!("of a zombie before its {attempt}")).await.expect("send");
        let second = transactional(cluster, NAME, NAME).await;
        second.init_transactions().await.expect("init");
        let error = match attempt {
            "send" => send(&producer, NAME, "of a zombie").await,
            "offsets" => {
                let offsets = vec![offset(NAME, 666)];
                producer.send_offsets_to_transaction(GroupMetadata::without_member(NAME), offsets).await
            }
            "commit" => producer.commit_transaction().await,
            _ => producer.abort_transaction().await,
        }
        .expect_err("it is fenced");
        assert_eq!(error.kind(), ErrorKind::Fenced, "{attempt}: {error}");
        assert!(error.is_fatal() && !error.is_abortable() && !error.possibly_written(), "{attempt}: {error}");
        let again = producer.commit_transaction().await.expect_err("it stays fenced");
        assert_eq!(again.kind(), ErrorKind::Fenced, "{attempt}: {again}");
        second.begin_transaction().await.expect("begin");
        send(&second, NAME, attempt).await.expect("send");
        second.commit_transaction().await.expect("commit");
        first.push(producer);
    }
    assert_eq!(committed_values(cluster, NAME).await, ["send", "offsets", "commit", "abort"]);
    assert_eq!(committed_offset(cluster, NAME, NAME).await, None);
}

/// The coordinator aborts what is open for longer than `transaction.timeout.ms`: the commit that comes too late
/// fails, nothing of the transaction is seen, and the same producer goes on with the next.
async fn a_transaction_that_timed_out_is_aborted_and_the_next_one_works(cluster: &'static Cluster) {
    const NAME: &str = "timed-out";
    create(cluster, NewTopic::new(NAME, 1)).await;
    let mut config = producer_config(cluster, NAME);
    config.transactional_id = Some(NAME.to_owned());
    config.transaction_timeout = Duration::from_secs(1);
    let producer = Producer::new(config).expect("a producer");
    producer.init_transactions().await.expect("init");
    producer.begin_transaction().await.expect("begin");
    send(&producer, NAME, "too late").await.expect("send");
    wait_until("the coordinator has aborted it", async || {
        let partition = TopicPartition::new(NAME, 0);
        let latest = [(partition, OffsetSpec::Latest)];
        let listed =
            admin(cluster).list_offsets(latest, Isolation::ReadCommitted).await.expect("list offsets");
        // The record and the marker are both behind the last stable offset.
        listed[0].1.as_ref().expect("an offset").offset == Some(2)
    })
    .await;
    let error = producer.commit_transaction().await.expect_err("it is aborted");
    assert!(error.is_abortable() && !error.possibly_written() && !error.is_fatal(), "{error:?}");
    assert!(error.to_string().contains("transaction.timeout.ms=1000"), "{error}");
    producer.abort_transaction().await.expect("abort");
    producer.begin_transaction().await.expect("begin");
    send(&producer, NAME, "in time").await.expect("send");
    producer.commit_transaction().await.expect("commit");
    assert_eq!(committed_values(cluster, NAME).await, ["in time"]);
}

/// Transactions with and without records and offsets, committed and aborted; Kafka's own client sees the same as
/// ours.
async fn what_is_aborted_is_seen_by_nobody_and_empty_transactions_do_no_harm(cluster: &'static Cluster) {
    const NAME: &str = "seen-by-java";
    create(cluster, NewTopic::new(NAME, 1)).await;
    let producer = transactional(cluster, NAME, NAME).await;
    producer.init_transactions().await.expect("init");
    let mut expected = Vec::new();
    for number in 0..24_i64 {
        let (commit, has_records, has_offsets) = (number % 2 == 0, number % 3 > 0, number % 4 < 2);
        producer.begin_transaction().await.expect("begin");
        if has_records {
            let value = format!("value-{number}");
            send(&producer, NAME, &value).await.expect("send");
            expected.extend(commit.then_some(value));
        }
        if has_offsets {
            let offsets = vec![offset(NAME, number)];
            let group = GroupMetadata::without_member(NAME);
            producer.send_offsets_to_transaction(group, offsets).await.expect("send offsets");
        }
        end(&producer, commit).await;
    }
    assert_eq!(committed_values(cluster, NAME).await, expected);
    assert_eq!(committed_offset(cluster, NAME, NAME).await, Some(20));
    assert!(read_all(cluster, NAME, Isolation::ReadUncommitted).await.len() > expected.len());
    assert_eq!(values_that_java_reads(cluster, NAME).await, expected);
}

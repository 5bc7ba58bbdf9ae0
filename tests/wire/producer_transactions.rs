//! Transactions, under both protocols.

use std::thread;
use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig};
use kafka_wire::record::BatchBuilder;
use kafka_wire::{
    CommittedOffset, Compression, Consumer, ErrorKind, GroupMetadata, Producer, Record, TopicPartition,
    TransactionalProducer,
};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule, TransactionVersion};

use crate::producer_rig::{config, values};
use crate::{block_on, broker};

fn clusters() -> impl Iterator<Item = EmbeddedBroker> {
    [TransactionVersion::V0, TransactionVersion::V2].into_iter().map(|transaction_version| {
        let marker_delay = Duration::from_millis(5);
        let options = Options { nodes: 2, transaction_version, marker_delay, ..Options::default() };
        broker(options.with_topic("out", 4).with_topic("in", 1))
    })
}

fn transactional(broker: &EmbeddedBroker) -> TransactionalProducer {
    let producer = TransactionalProducer::new(&config(broker, &[("transactional.id", "job")])).unwrap();
    block_on(producer.init()).unwrap();
    producer
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("out", partition)
}

fn batch(values: &[&str]) -> kafka_wire::record::SealedBatch {
    let mut builder = BatchBuilder::new(Compression::NONE, 100);
    for value in values {
        builder.append(1, None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.seal()
}

#[test]
fn what_is_committed_is_seen_and_what_is_aborted_is_not() {
    for broker in clusters() {
        let producer = transactional(&broker);
        for round in 0..3 {
            producer.begin().unwrap();
            producer.produce(at(0), batch(&[&format!("kept {round}")])).unwrap();
            block_on(producer.commit()).unwrap();
            producer.begin().unwrap();
            let receipt = producer.produce(at(0), batch(&[&format!("dropped {round}")])).unwrap();
            block_on(receipt).unwrap();
            block_on(producer.abort()).unwrap();
        }
        assert_eq!(values(&broker, &at(0)), ["kept 0", "kept 1", "kept 2"]);
    }
}

#[test]
fn the_next_transaction_may_be_filled_while_the_last_one_commits() {
    for broker in clusters() {
        let producer = transactional(&broker);
        let commits: Vec<_> = (0..20)
            .map(|round| {
                producer.begin().unwrap();
                producer.produce(at(round % 4), batch(&[&format!("{round}")])).unwrap();
                producer.commit()
            })
            .collect();
        commits.into_iter().for_each(|commit| block_on(commit).unwrap());
        for partition in 0..4 {
            let expected: Vec<_> = (partition..20).step_by(4).map(|round| round.to_string()).collect();
            assert_eq!(values(&broker, &at(partition)), expected);
        }
    }
}

#[test]
fn many_threads_share_a_transaction_and_each_partition_keeps_its_order() {
    for broker in clusters() {
        let producer = transactional(&broker);
        for epoch in 0..2 {
            producer.begin().unwrap();
            let writers: Vec<_> = (0..4)
                .map(|partition| {
                    let producer = producer.clone();
                    thread::spawn(move || {
                        for index in 0..30 {
                            let value = format!("{epoch}/{index}");
                            producer.produce(at(partition), batch(&[&value, &value])).unwrap();
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            block_on(producer.commit()).unwrap();
        }
        let each = (0..2).flat_map(|epoch| (0..30).map(move |index| format!("{epoch}/{index}")));
        let expected: Vec<_> = each.flat_map(|value| [value.clone(), value]).collect();
        for partition in 0..4 {
            assert_eq!(values(&broker, &at(partition)), expected);
        }
    }
}

#[test]
fn lost_answers_of_every_call_change_nothing() {
    for broker in clusters() {
        let apis = [
            ApiKey::InitProducerId,
            ApiKey::Produce,
            ApiKey::AddPartitionsToTxn,
            ApiKey::AddOffsetsToTxn,
            ApiKey::TxnOffsetCommit,
            ApiKey::EndTxn,
        ];
        for api in apis {
            for action in [Action::ApplyThenDisconnect, Action::Disconnect] {
                broker.add_rule(Rule::new(action).api(api).times(2));
            }
        }
        let producer = transactional(&broker);
        for round in 0..5 {
            producer.begin().unwrap();
            producer.produce(at(0), batch(&[&format!("{round}")])).unwrap();
            let offset =
                CommittedOffset { offset: round, leader_epoch: None, metadata: format!("e={round}") };
            let group = GroupMetadata::without_member("job");
            block_on(producer.send_offsets(group, vec![(TopicPartition::new("in", 0), offset)])).unwrap();
            block_on(producer.commit()).unwrap();
        }
        assert_eq!(values(&broker, &at(0)), ["0", "1", "2", "3", "4"]);
        let client = ClientConfig::bootstrap(&broker.bootstrap()).unwrap();
        let group = ConsumerConfig { client, group_id: Some("job".to_owned()), ..ConsumerConfig::default() };
        let consumer = Consumer::new(group).unwrap();
        let committed = block_on(consumer.committed([TopicPartition::new("in", 0)])).unwrap();
        let committed = committed[0].1.as_ref().unwrap();
        assert_eq!((committed.offset, committed.metadata.as_str()), (4, "e=4"));
    }
}

#[test]
fn a_successor_fences_and_the_old_one_writes_nothing_more() {
    for broker in clusters() {
        let old = transactional(&broker);
        old.begin().unwrap();
        let receipt = old.produce(at(0), batch(&["old, never committed"])).unwrap();
        block_on(receipt).unwrap();
        let new = transactional(&broker);
        let zombie = old.produce(at(1), batch(&["zombie"])).unwrap();
        let refused = block_on(old.commit()).unwrap_err();
        assert!(block_on(zombie).is_err());
        let last =
            if refused.kind() == ErrorKind::Fenced { refused } else { block_on(old.abort()).unwrap_err() };
        assert!(last.kind() == ErrorKind::Fenced && last.is_fatal(), "{last:?}");
        new.begin().unwrap();
        new.produce(at(0), batch(&["new"])).unwrap();
        block_on(new.commit()).unwrap();
        assert_eq!(values(&broker, &at(0)), ["new"]);
        assert!(values(&broker, &at(1)).is_empty());
    }
}

#[test]
fn calls_outside_a_transaction_are_refused() {
    let broker = broker(Options::default().with_topic("out", 1));
    let producer = transactional(&broker);
    let error = block_on(producer.produce(at(0), batch(&["x"])).unwrap()).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.hint() == Some("begin one first"), "{error}");
    assert_eq!(block_on(producer.commit()).unwrap_err().kind(), ErrorKind::Usage);
    let plain = Producer::new(config(&broker, &[])).unwrap();
    let error = block_on(plain.begin_transaction()).unwrap_err();
    assert_eq!(error.hint(), Some("set transactional.id"));
}

#[test]
fn an_application_sends_records_and_offsets_in_transactions() {
    for broker in clusters() {
        let producer =
            Producer::new(config(&broker, &[("transactional.id", "app"), ("linger.ms", "1000")])).unwrap();
        block_on(producer.init_transactions()).unwrap();
        for round in 0..4 {
            block_on(producer.begin_transaction()).unwrap();
            for index in 0..100 {
                let value = format!("{round}/{index}");
                block_on(producer.enqueue(Record::to("out").partition(2).value(&value))).unwrap();
            }
            if round % 2 == 0 {
                block_on(producer.commit_transaction()).unwrap();
            } else {
                block_on(producer.abort_transaction()).unwrap();
            }
        }
        let each = [0, 2].into_iter().flat_map(|round| (0..100).map(move |index| format!("{round}/{index}")));
        assert_eq!(values(&broker, &at(2)), each.collect::<Vec<_>>());
    }
}

/// Elsewhere such a producer is fenced by its own coordinator, and of no more use.
#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_the_next_begins() {
    for broker in clusters() {
        let settings = [("transactional.id", "slow"), ("transaction.timeout.ms", "50")];
        let producer = Producer::new(config(&broker, &settings)).unwrap();
        block_on(producer.init_transactions()).unwrap();
        for round in 0..2 {
            block_on(producer.begin_transaction()).unwrap();
            block_on(producer.send(Record::to("out").partition(0).value("too late"))).unwrap();
            // Read to its end, which it has when the coordinator has aborted.
            assert_eq!(values(&broker, &at(0)), vec!["in time"; round]);
            let error = if round == 0 {
                block_on(producer.send(Record::to("out").partition(1).value("later still"))).unwrap_err();
                block_on(producer.commit_transaction()).unwrap_err()
            } else {
                block_on(producer.commit_transaction()).unwrap_err()
            };
            assert!(
                error.is_abortable() && error.to_string().contains("transaction.timeout.ms=50"),
                "{error:?}"
            );
            block_on(producer.abort_transaction()).unwrap();
            block_on(producer.begin_transaction()).unwrap();
            block_on(producer.enqueue(Record::to("out").partition(0).value("in time"))).unwrap();
            block_on(producer.commit_transaction()).unwrap();
        }
        assert_eq!(values(&broker, &at(0)), ["in time", "in time"]);
        assert!(values(&broker, &at(1)).is_empty());
    }
}

#[test]
fn closing_aborts_what_is_open() {
    for broker in clusters() {
        let producer = transactional(&broker);
        producer.begin().unwrap();
        block_on(producer.produce(at(0), batch(&["open"])).unwrap()).unwrap();
        block_on(producer.close(Duration::from_secs(30))).unwrap();
        // Nothing holds up readers: the last stable offset has passed it.
        assert!(values(&broker, &at(0)).is_empty());
        let next = transactional(&broker);
        next.begin().unwrap();
        next.produce(at(0), batch(&["next"])).unwrap();
        block_on(next.commit()).unwrap();
        assert_eq!(values(&broker, &at(0)), ["next"]);
    }
}

/// The transaction behind a commit begins when that is done, be the producer closed meanwhile.
#[test]
fn closing_aborts_what_was_begun_behind_a_commit() {
    for broker in clusters() {
        let producer = transactional(&broker);
        producer.begin().unwrap();
        producer.produce(at(0), batch(&["kept"])).unwrap();
        let kept = producer.commit();
        producer.begin().unwrap();
        let open = producer.produce(at(0), batch(&["open"])).unwrap();
        block_on(producer.close(Duration::from_secs(30))).unwrap();
        block_on(kept).unwrap();
        let written = block_on(open).is_ok();
        assert_eq!(values(&broker, &at(0)), ["kept"], "written: {written}");
    }
}

//! Reads that are dropped before they are done: whatever becomes of a poll, each record comes once.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_wire::config::{AcknowledgementMode, ConsumerConfig, GroupProtocol, OffsetReset, Strategy};
use kafka_wire::{
    AcknowledgeType, Consumer, FetchedBatch, Isolation, OffsetSpec, Position, Producer, Record,
};
use tidewater_broker::Options;

use crate::cancel::{LONG, at, at_every_step, committed, dropped_at};
use crate::consumer_reads::{consumer, partition, write};
use crate::producer_rig::config;
use crate::{block_on, broker, share};

fn offsets(batch: &FetchedBatch) -> impl Iterator<Item = i64> {
    batch.iter().map(|record| record.offset)
}

/// Reads to offset `end` by polls that are dropped at ever later steps.
fn read_in_pieces(consumer: &mut Consumer, end: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    // Every poll that ends begins the round anew.
    for step in (0..6).cycle() {
        if let Some(batch) = dropped_at(step, consumer.poll(Duration::from_millis(20))) {
            seen.extend(offsets(&batch.unwrap()));
        }
        if seen.last().is_some_and(|last| *last >= end - 1) {
            break;
        }
    }
    seen
}

#[test]
fn polls_that_were_dropped_lose_nothing() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..200);
    let few = |config: &mut ConsumerConfig| {
        config.max_partition_fetch_bytes = 300;
        config.queued_max_bytes = 1000;
    };
    let mut assigned = consumer(&broker, few);
    assigned.assign([(partition("t"), Position::Beginning)]).unwrap();
    assert_eq!(read_in_pieces(&mut assigned, 200), (0..200).collect::<Vec<_>>());
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut member = consumer(&broker, |config| {
            few(config);
            config.group_id = Some(format!("{protocol:?}"));
            config.group.protocol = protocol;
            config.auto_offset_reset = OffsetReset::Earliest;
        });
        member.subscribe(["t"]).unwrap();
        assert_eq!(read_in_pieces(&mut member, 200), (0..200).collect::<Vec<_>>(), "{protocol:?}");
        block_on(member.close()).unwrap();
    }
}

#[test]
fn questions_of_a_consumer_that_were_dropped_leave_it_as_it_was() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..10);
    let group = |config: &mut ConsumerConfig| config.group_id = Some("g".to_owned());
    at_every_step(|step| {
        let mut consumer = consumer(&broker, group);
        consumer.assign([(at(0), Position::Beginning)]).unwrap();
        let known = dropped_at(step, consumer.position(&at(0)));
        assert_eq!(block_on(consumer.position(&at(0))).unwrap().offset, 0);
        known.is_some()
    });
    let consumer = consumer(&broker, group);
    at_every_step(|step| {
        let asked = dropped_at(step, consumer.commit_offsets([(at(0), committed(step))]));
        // What was dropped may be on its way still, behind the question.
        let told = block_on(consumer.committed([at(0)])).unwrap();
        let told = told[0].1.as_ref().map(|at| at.offset);
        assert!(
            told == Some(step as i64) || asked.is_none() && told == step.checked_sub(1).map(|it| it as i64)
        );
        block_on(consumer.commit_offsets([(at(0), committed(step))])).unwrap();
        asked.is_some()
    });
    at_every_step(|step| {
        let asked = dropped_at(step, consumer.committed([at(0)]));
        assert!(block_on(consumer.committed([at(0)])).unwrap()[0].1.is_some());
        asked.is_some()
    });
    at_every_step(|step| {
        let ask = || consumer.list_offsets([(at(0), OffsetSpec::Latest)], Isolation::ReadCommitted);
        let asked = dropped_at(step, ask());
        assert_eq!(block_on(ask()).unwrap()[0].1.offset, Some(10));
        asked.is_some()
    });
}

#[test]
fn polls_and_commits_of_a_share_consumer_that_were_dropped_lose_nothing() {
    let broker = share::broker(1, &[]);
    for first in (0..100).step_by(5) {
        share::write(&broker, first..first + 5);
    }
    let mut member = share::member(&broker, AcknowledgementMode::Implicit);
    let mut seen = Vec::new();
    for step in (0..6).cycle() {
        if let Some(batch) = dropped_at(step, member.poll(LONG)) {
            seen.extend(batch.unwrap().iter().map(|shared| (shared.record.offset, shared.delivery_count)));
        }
        // What was handed out is told, whoever listens.
        drop(dropped_at(step, member.commit()));
        if seen.len() >= 100 {
            break;
        }
    }
    assert_eq!(seen, (0..100).map(|offset| (offset, 1)).collect::<Vec<_>>());
    share::commit(&mut member);
    block_on(member.close(LONG)).unwrap();
    share::write(&broker, 100..101);
    let mut other = share::member(&broker, AcknowledgementMode::Implicit);
    let batch = block_on(other.poll(LONG)).unwrap();
    assert_eq!(batch.iter().map(|shared| shared.record.offset).collect::<Vec<_>>(), [100]);
}

#[test]
fn a_close_of_a_member_that_was_dropped_leaves_its_partitions_to_others() {
    let broker = share::broker(1, &[]);
    share::write(&broker, 0..3);
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        at_every_step(|step| {
            let mut member = consumer(&broker, |config| {
                config.group_id = Some(format!("{protocol:?}"));
                config.group.protocol = protocol;
                config.auto_offset_reset = OffsetReset::Earliest;
                // So that the next one reads from the beginning, too.
                config.enable_auto_commit = false;
            });
            member.subscribe(["t"]).unwrap();
            // It gets the partition when the one before has left; its session would be kept for 45 s.
            assert!(!block_on(member.poll(LONG)).unwrap().is_empty(), "{protocol:?}, step {step}");
            dropped_at(step, member.close()).is_some()
        });
    }
    at_every_step(|step| {
        let mut member = share::member(&broker, AcknowledgementMode::Explicit);
        let batch = block_on(member.poll(LONG)).unwrap();
        assert_eq!(batch.len(), 3, "step {step}");
        for shared in &batch {
            // So that the limit of deliveries is not what ends it.
            let kind = if step < 4 { AcknowledgeType::Release } else { AcknowledgeType::Accept };
            member.acknowledge(&at(0), shared.record.offset, kind).unwrap();
        }
        dropped_at(step, member.close(LONG)).is_some() || step == 4
    });
}

#[test]
fn dropped_polls_during_rebalances_neither_lose_nor_repeat_records() {
    const PARTITIONS: i32 = 4;
    const EACH: i64 = 100;
    let ways = [
        (GroupProtocol::Classic, Strategy::Range),
        (GroupProtocol::Classic, Strategy::CooperativeSticky),
        (GroupProtocol::Consumer, Strategy::Range),
    ];
    for (protocol, strategy) in ways {
        let broker = broker(Options {
            consumer_heartbeat_interval: Duration::from_millis(50),
            ..Options::default().with_topic("t", PARTITIONS)
        });
        let producer = Producer::new(config(&broker, &[])).unwrap();
        for index in 0..EACH * i64::from(PARTITIONS) {
            let record = Record::to("t").partition((index % i64::from(PARTITIONS)) as i32).value("x");
            drop(block_on(producer.enqueue(record)).unwrap());
        }
        block_on(producer.flush());
        let member = || {
            let mut member = consumer(&broker, |config| {
                config.group_id = Some("g".to_owned());
                config.group.protocol = protocol;
                config.group.strategies = vec![strategy];
                config.group.heartbeat_interval = Duration::from_millis(50);
                config.auto_offset_reset = OffsetReset::Earliest;
                config.enable_auto_commit = true;
                config.max_poll_records = Some(3);
            });
            member.subscribe(["t"]).unwrap();
            member
        };
        // What is handed out is committed when a partition is let go of (enable.auto.commit).
        let (mut members, mut seen) = (vec![member()], Vec::new());
        for step in (0..6).cycle().take(5000) {
            for member in &mut members {
                if let Some(batch) = dropped_at(step, member.poll(Duration::from_millis(5))) {
                    let batch = batch.unwrap();
                    let partition = batch.topic_partition().partition;
                    seen.extend(offsets(&batch).map(|offset| (partition, offset)));
                }
            }
            // A third of the way one more comes, after two thirds the first one goes.
            let total = EACH as usize * PARTITIONS as usize;
            if members.len() == 1 && (total / 3..total * 2 / 3).contains(&seen.len()) {
                members.push(member());
            }
            if members.len() == 2 && seen.len() >= total * 2 / 3 {
                block_on(members.remove(0).close()).unwrap();
            }
            if seen.len() >= total {
                break;
            }
        }
        let set: BTreeSet<_> = seen.iter().copied().collect();
        assert_eq!((set.len(), seen.len()), (400, 400), "{protocol:?}, {strategy:?}");
    }
}

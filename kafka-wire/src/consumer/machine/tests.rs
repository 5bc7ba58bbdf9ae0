//! The machine in an engine, against a scripted cluster and a clock that the test moves.

mod followers;
mod nonsense;
mod quiet;
mod random;
mod validation;
mod world;

use std::time::Duration;

use super::*;
use crate::consumer::model::Event;
use crate::error::ErrorCode;
use crate::time::Backoff;
use world::{NODES, PARTITIONS, Part, Unreadable, World, partition};

#[test]
fn a_session_names_only_what_changes_and_survives_long_silence() {
    let mut world = World::new(|_| {});
    world.append(0, 3);
    world.assign_all(Position::Beginning);
    world.settle();
    assert_eq!(world.full_fetches, NODES as usize);
    assert!(world.incremental_fetches > 10);
    assert_eq!(world.seen[0].len(), 3);
}

#[test]
fn nothing_is_fetched_while_the_application_takes_nothing() {
    let mut world = World::new(|_| {});
    (0..400).for_each(|i| world.append(i % 3, 6));
    world.assign_all(Position::Beginning);
    for _ in 0..300 {
        world.serve();
        world.pass(Duration::from_millis(10));
    }
    assert!(world.pending.is_empty(), "no request is on its way");
    let buffered = world.buffers.lock().buffered_bytes();
    assert!(buffered <= world.config.queued_max_bytes, "{buffered}");
    world.settle();
    assert_eq!(world.seen.iter().map(Vec::len).sum::<usize>(), 2400);
}

#[test]
fn a_gap_is_an_error_that_names_it_where_no_reset_is_allowed() {
    let mut world = World::new(|config| config.auto_offset_reset = OffsetReset::None);
    world.append(0, 7);
    world.parts[0].start = 5;
    world.assign(0, 2);
    world.settle();
    let error = world.errors.first().expect("an error");
    assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(2)));
    assert!(error.to_string().contains("the log starts at offset 5, offsets 2 to 4 are gone"), "{error}");
    assert!(world.seen[0].is_empty());
    world.assign(0, 5);
    world.errors.clear();
    world.settle();
    assert_eq!((world.errors.len(), world.seen[0].len()), (0, 2));
}

#[test]
fn out_of_range_resets_where_that_is_allowed() {
    for (reset, seen, position) in [
        (OffsetReset::Earliest, 2, 7),
        (OffsetReset::Latest, 0, 7),
        (OffsetReset::ByDuration(Duration::from_secs(7200)), 2, 7),
        (OffsetReset::ByDuration(Duration::from_secs(60)), 0, 7),
        (OffsetReset::ByDuration(Duration::MAX), 2, 7),
    ] {
        let mut world = World::new(|config| config.auto_offset_reset = reset);
        world.append(0, 7);
        world.parts[0].start = 5;
        world.assign(0, 99);
        world.settle();
        assert_eq!((world.errors.len(), world.seen[0].len()), (0, seen), "{reset:?}");
        let at = world.buffers.lock().position(&partition(0)).unwrap().unwrap();
        assert_eq!(at.offset, position);
    }
}

#[test]
fn truncation_stops_a_reader_that_must_not_lose_data() {
    for reset in [OffsetReset::None, OffsetReset::Latest] {
        let mut world = World::new(|config| config.auto_offset_reset = reset);
        world.append(0, 6);
        world.assign(0, Position::Beginning);
        world.settle();
        assert_eq!(world.seen[0].len(), 6);
        world.parts[0].truncated = Some((0, 4));
        world.move_leader(0);
        world.settle();
        if reset == OffsetReset::None {
            let error = world.errors.first().expect("an error");
            assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(6)));
            assert!(error.to_string().contains("truncated to offset 4"), "{error}");
        } else {
            let reread: Vec<i64> = world.seen[0].iter().map(|seen| seen.offset).collect();
            assert_eq!(reread, [0, 1, 2, 3, 4, 5, 4, 5], "what the new leader has from 4 on");
        }
    }
}

#[test]
fn a_topic_created_anew_is_not_read_on() {
    let mut world = World::new(|config| config.auto_offset_reset = OffsetReset::None);
    world.append(0, 3);
    world.assign(0, Position::Beginning);
    world.settle();
    world.topic_id = 2;
    world.parts[0] = Part { leader: 1, ..Part::default() };
    world.append(0, 5);
    world.pass(Duration::from_secs(301));
    world.settle();
    let error = world.errors.first().expect("an error");
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.to_string().contains("'t' was deleted and created anew"), "{error}");
    assert_eq!(world.seen[0].len(), 3);
}

#[test]
fn damage_that_stays_is_an_error_with_its_offset_after_three_fetches() {
    let mut world = World::new(|_| {});
    world.append(0, 3);
    world.append(0, 3);
    world.assign(0, Position::Beginning);
    for _ in 0..400 {
        let second = world.parts[0].log.fetch(3, 1, Isolation::ReadCommitted).records.len();
        let whole = world.parts[0].log.fetch(0, 10_000, Isolation::ReadCommitted).records.len();
        // The last byte of the second batch, wherever the answer begins.
        let at = world.buffers.lock().position(&partition(0)).flatten();
        world.flip = Some(if at.is_some_and(|at| at.offset == 3) { second - 1 } else { whole - 1 });
        world.serve();
        world.take(1);
        world.pass(Duration::from_millis(20));
    }
    assert_eq!(world.seen[0].len(), 3, "what was good before it");
    let error = world.errors.first().expect("an error");
    assert_eq!((error.kind(), error.offset()), (ErrorKind::CorruptRecords, Some(3)));
    assert!(error.to_string().contains("t-0") && error.to_string().contains("fetched 3 times"), "{error}");
}

#[test]
fn a_batch_larger_than_all_limits_is_read() {
    let mut world = World::new(|config| {
        config.max_partition_fetch_bytes = 50;
        config.fetch_max_bytes = 50;
        config.queued_max_bytes = 100;
    });
    (0..5).for_each(|_| world.append(0, 7));
    world.assign(0, Position::Beginning);
    world.settle();
    assert_eq!(world.seen[0].len(), 35);
}

#[test]
fn an_unknown_partition_is_an_error_that_names_it_in_bounded_time() {
    let mut world = World::new(|_| {});
    let unknown = TopicPartition::new("t", 9);
    let generation = world.buffers.lock().assign_at(&unknown, Position::Beginning);
    world.command(Command::Assign(vec![(unknown, generation, Position::Beginning)]));
    for _ in 0..200 {
        world.serve();
        world.pass(Duration::from_millis(100));
    }
    let error = world.buffers.lock().take().expect("an error").unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(error.to_string().contains("partition 9 of topic 't'"), "{error}");
}

/// An outage that is longer than any call may take, before the first record: Java's consumer waits it out, too.
#[test]
fn an_outage_at_the_start_is_told_and_survived() {
    for position in [Position::Beginning, Position::Offset { offset: 0, leader_epoch: None }] {
        let mut world = World::new(|_| {});
        world.append(0, 3);
        world.assign_all(position);
        for _ in 0..200 {
            // Nobody serves.
            world.pass(Duration::from_secs(1));
            world.take(1);
        }
        assert!(!world.errors.is_empty() && world.errors.len() < 20, "{:?}", world.errors);
        assert!(world.errors.iter().all(|error| error.kind() == ErrorKind::Timeout), "{:?}", world.errors);
        world.errors.clear();
        world.settle();
        assert_eq!(world.seen[0], world.parts[0].log.expected(0, world.config.isolation));
        assert!(world.errors.is_empty(), "{:?}", world.errors);
    }
}

/// A start that cannot be looked up now is looked up again later, and not in the same instant.
#[test]
fn a_client_without_patience_or_backoff_still_lets_time_pass_between_attempts() {
    let none = Backoff { initial: Duration::ZERO, max: Duration::ZERO };
    for (patience, unreadable) in
        [(Duration::ZERO, Unreadable::No), (Duration::from_secs(60), Unreadable::AtAll)]
    {
        let mut world = World::new(|config| {
            config.client.retry_backoff = none;
            config.client.default_api_timeout = patience;
        });
        world.unreadable = unreadable;
        world.assign_all(Position::Beginning);
        for _ in 0..20 {
            while world.serve() {}
            world.take(10);
            world.pass(Duration::from_millis(5));
        }
        assert!(!world.errors.is_empty());
    }
}

/// Rights may be given again: Java's consumer, too, says so at each poll and goes on.
#[test]
fn a_right_that_is_taken_away_is_told_again_and_again_and_reading_goes_on_when_it_is_back() {
    for (is_new, unreadable) in [
        (false, Unreadable::ButDescribed),
        (false, Unreadable::AtAll),
        (true, Unreadable::ButDescribed),
        (true, Unreadable::AtAll),
    ] {
        let mut world = World::new(|_| {});
        world.append(0, 3);
        if is_new {
            world.unreadable = unreadable;
        }
        world.assign_all(Position::Beginning);
        if !is_new {
            world.settle();
            world.append(0, 3);
            world.unreadable = unreadable;
        }
        for _ in 0..300 {
            world.serve();
            world.take(1);
            world.pass(Duration::from_millis(100));
        }
        let codes: Vec<_> = world.errors.iter().map(Error::code).collect();
        let refused = Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        assert!(codes.iter().all(|code| *code == refused), "{:?}", world.errors);
        // In 30 s, of each of the partitions: neither never nor all the time.
        assert!((1..200).contains(&codes.len()), "{} errors", codes.len());
        world.errors.clear();
        world.unreadable = Unreadable::No;
        world.pass(Duration::from_secs(300));
        world.settle();
        assert_eq!(world.seen[0], world.parts[0].log.expected(0, world.config.isolation));
    }
}

#[test]
fn a_topic_that_grows_into_the_partition_is_read_then() {
    let mut world = World::new(|_| {});
    let last = world.parts.pop().unwrap();
    world.assign_all(Position::Beginning);
    for _ in 0..200 {
        world.serve();
        world.take(1);
        world.pass(Duration::from_millis(100));
    }
    assert!(!world.errors.is_empty(), "it is told");
    world.errors.clear();
    world.parts.push(last);
    world.append(2, 3);
    world.pass(Duration::from_secs(300));
    world.settle();
    assert_eq!(world.seen[2], world.parts[2].log.expected(0, world.config.isolation));
}

#[test]
fn positions_at_the_end_and_idle_partitions_are_told() {
    let mut world = World::new(|_| {});
    world.append(1, 4);
    world.assign_all(Position::End);
    world.settle();
    for number in 0..PARTITIONS {
        let end = world.parts[number as usize].log.high_watermark();
        assert_eq!(world.next[number as usize], Some(end), "partition {number} told where it stands");
    }
    world.append(1, 2);
    world.settle();
    assert_eq!(world.seen[1].iter().map(|seen| seen.offset).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn a_consumer_that_closes_leaves_no_session_behind() {
    for answers in [true, false] {
        let mut world = World::new(|_| {});
        world.assign_all(Position::Beginning);
        world.settle();
        assert_eq!(world.sessions.len(), NODES as usize);
        let (sender, closed) = std::sync::mpsc::channel();
        let reply = Reply::new(move |answer| sender.send(answer).unwrap());
        let (deadline, operation) = (world.now + Duration::from_secs(30), GroupMembershipOperation::Default);
        world.command(Command::Close { deadline, operation, reply });
        assert!(closed.try_recv().is_err(), "the brokers have not answered");
        if answers {
            while world.serve() {}
            assert!(world.sessions.is_empty());
        } else {
            world.pass(2 * crate::consumer::fetcher::CLOSE_PATIENCE);
        }
        closed.try_recv().expect("an answer").expect("closed");
        assert!(world.engine.is_closed());
    }
}

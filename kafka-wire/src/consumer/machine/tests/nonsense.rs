//! Answers that can be read and that no broker sends: each entry that makes no sense is passed over, and the rest of
//! its answer counts.

use super::*;
use crate::protocol::messages::fetch_response::{LeaderIdAndEpoch, NodeEndpoint, PartitionData};
use crate::protocol::messages::metadata_response::MetadataResponseTopic;
use crate::protocol::messages::{
    self, FetchResponse, ListOffsetsResponse, MetadataResponse, StrBytes, TopicName,
};

/// A node that is not there.
const NOBODY: messages::BrokerId = messages::BrokerId(99);

impl World {
    fn assert_all_seen(&self, what: &str, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            let expected = self.parts[number].log.expected(0, self.config.isolation);
            assert_eq!(self.seen[number], expected, "{what}: partition {number}");
        }
        assert!(self.errors.is_empty(), "{what}: {:?}", self.errors);
    }
}

fn partitions(answer: &mut FetchResponse) -> impl Iterator<Item = &mut PartitionData> {
    answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions)
}

/// The entries of partition 0, which are the ones that are spoiled.
fn first(answer: &mut FetchResponse) -> impl Iterator<Item = &mut PartitionData> {
    partitions(answer).filter(|partition| partition.partition_index == 0)
}

/// Tells of a leader that is not there, and where it would be.
fn leads_to_nobody(answer: &mut FetchResponse, host: &'static str, port: i32) {
    first(answer).for_each(|partition| {
        partition.error_code = ErrorCode::NOT_LEADER_OR_FOLLOWER.code();
        partition.records = None;
        partition.current_leader =
            LeaderIdAndEpoch::default().with_leader_id(NOBODY).with_leader_epoch(i32::MAX);
    });
    let host = StrBytes::from_static_str(host);
    let endpoint = NodeEndpoint::default().with_node_id(NOBODY).with_host(host).with_port(port);
    answer.node_endpoints.push(endpoint);
}

type Spoil<T> = (&'static str, fn(&mut T));

/// Of no consequence.
const HARMLESS_FETCHES: [Spoil<FetchResponse>; 5] = [
    ("a negative throttle time", |answer| answer.throttle_time_ms = i32::MIN),
    ("another topic", |answer| {
        let mut others = answer.responses.clone();
        for topic in &mut others {
            topic.topic_id = uuid::Uuid::from_bytes([9; 16]);
            topic.topic = TopicName(StrBytes::from_static_str("nobody's"));
        }
        answer.responses.splice(0..0, others);
    }),
    ("partitions that were not asked for", |answer| {
        for topic in &mut answer.responses {
            let of = |index| topic.partitions[0].clone().with_partition_index(index);
            if !topic.partitions.is_empty() {
                topic.partitions.splice(0..0, [of(2), of(99), of(-1), of(i32::MAX)]);
            }
        }
    }),
    ("everything twice", |answer| {
        answer.responses.iter_mut().for_each(|topic| topic.partitions.extend(topic.partitions.clone()));
        answer.responses.extend(answer.responses.clone());
    }),
    ("impossible ends of the log", |answer| {
        for partition in partitions(answer).filter(|it| it.records.as_ref().is_none_or(|it| it.is_empty())) {
            partition.high_watermark = i64::MIN;
            partition.last_stable_offset = i64::MAX;
            partition.log_start_offset = i64::MIN;
        }
    }),
];

/// Partition 0 is not read meanwhile.
const FETCHES_OF_ONE: [Spoil<FetchResponse>; 4] = [
    ("a preferred replica that is not there", |answer| {
        first(answer).for_each(|partition| {
            partition.preferred_read_replica = NOBODY;
            partition.records = None;
        });
    }),
    ("a leader that is not there", |answer| {
        leads_to_nobody(answer, "", 0);
        answer.node_endpoints.clear();
    }),
    ("a leader behind an impossible port", |answer| leads_to_nobody(answer, "h", 70_000)),
    ("a leader without a host", |answer| leads_to_nobody(answer, "", 9099)),
];

#[test]
fn entries_of_a_fetch_that_make_no_sense_cost_nothing() {
    for (is_harmless, (what, spoil)) in
        HARMLESS_FETCHES.map(|it| (true, it)).into_iter().chain(FETCHES_OF_ONE.map(|it| (false, it)))
    {
        let mut world = World::new(|_| {});
        world.append(2, 1);
        (0..2).for_each(|number| world.assign(number, Position::Beginning));
        world.settle();
        world.spoil_fetch = Some(spoil);
        (0..6).for_each(|index| world.append(index % 2, 3));
        world.settle();
        // Each partition is told of anew, also where there is nothing to read.
        world.disconnect_all();
        world.settle();
        world.assert_all_seen(what, if is_harmless { 0..2 } else { 1..2 });
        world.buffers.lock().report(&mut |_| {});
        world.spoil_fetch = None;
        world.settle();
        world.append(0, 3);
        world.settle();
        world.assert_all_seen(what, 0..2);
        assert!(world.seen[2].is_empty(), "{what}: it was not asked for");
    }
}

impl World {
    /// A reader that has caught up, before three more records and so many answers that end after their header.
    fn with_bodiless_fetches(count: u32) -> Self {
        let mut world = Self::new(|_| {});
        world.append(0, 3);
        world.assign(0, Position::Beginning);
        world.settle();
        world.bodiless_fetches = count;
        world.append(0, 3);
        world.settle();
        assert_eq!(world.bodiless_fetches, 0);
        world
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_fetched_again() {
    let mut world = World::with_bodiless_fetches(2);
    world.assert_all_seen("no body", 0..1);
    world.bodiless_fetches = 2;
    world.append(0, 3);
    world.settle();
    world.assert_all_seen("no body, later", 0..1);
}

#[test]
fn a_broker_that_cannot_be_understood_stops_its_partitions() {
    let mut world = World::with_bodiless_fetches(3);
    let error = world.errors.pop().expect("an error");
    assert_eq!((error.kind(), world.seen[0].len()), (ErrorKind::Protocol, 3));
    world.errors.clear();
    world.assign(0, 3);
    world.settle();
    assert_eq!((world.seen[0].len(), world.errors.len()), (6, 0), "until they are assigned anew");
}

#[test]
fn a_broker_that_asks_for_an_endless_pause_is_fetched_from_again() {
    let mut world = World::new(|_| {});
    world.assign_all(Position::Beginning);
    world.settle();
    world.spoil_fetch = Some(|answer| answer.throttle_time_ms = i32::MAX);
    world.append(0, 3);
    world.settle();
    world.spoil_fetch = None;
    world.append(0, 3);
    assert!(world.seen[0].len() < 6, "it gets its pause");
    world.pass(Duration::from_secs(300));
    world.settle();
    world.assert_all_seen("a pause", 0..1);
}

/// Of what was asked, or of others.
const NO_OFFSETS: [Spoil<ListOffsetsResponse>; 3] = [
    ("nothing", |answer| answer.topics.clear()),
    ("no partition", |answer| answer.topics[0].partitions.clear()),
    ("others", |answer| answer.topics[0].partitions.iter_mut().for_each(|it| it.partition_index = 99)),
];

#[test]
fn a_start_that_is_not_answered_is_asked_for_again() {
    for (what, spoil) in NO_OFFSETS {
        let mut world = World::new(|_| {});
        world.spoil_offsets = Some(spoil);
        world.append(0, 3);
        world.assign_all(Position::Beginning);
        world.settle();
        world.assert_all_seen(what, 0..0);
        // In the end the application hears of it, and the answer is still waited for.
        (0..5).for_each(|_| world.settle());
        assert!(world.errors.iter().all(|error| error.kind() == ErrorKind::Timeout), "{:?}", world.errors);
        assert_eq!(world.errors.drain(..).count(), 3, "{what}");
        world.spoil_offsets = None;
        world.settle();
        world.assert_all_seen(what, 0..3);
    }
}

/// That a partition is left out does not say that nothing is committed, after which reading starts elsewhere.
#[test]
fn committed_offsets_that_are_not_told_are_asked_for_again() {
    let mut world = World::new(|config| {
        config.group_id = Some("g".to_owned());
        config.auto_offset_reset = OffsetReset::Earliest;
    });
    world.forgets_commits = true;
    world.append(0, 5);
    world.assign(0, Position::Committed);
    world.settle();
    world.assert_all_seen("no offsets", 1..3);
    assert!(world.seen[0].is_empty());
    world.forgets_commits = false;
    world.settle();
    assert_eq!(world.seen[0].iter().map(|seen| seen.offset).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn a_position_that_is_not_validated_is_asked_about_again() {
    let mut world = World::new(|_| {});
    world.fetch_version = 11;
    world.append(0, 3);
    world.assign(0, Position::Beginning);
    world.settle();
    world.spoil_epochs = Some(|answer| answer.topics.clear());
    world.move_leader(0);
    world.append(0, 3);
    world.settle();
    assert!(world.epoch_questions > 1 && world.seen[0].len() == 3);
    world.spoil_epochs = None;
    world.settle();
    world.assert_all_seen("no epochs", 0..1);
}

fn topics(answer: &mut MetadataResponse) -> impl Iterator<Item = &mut MetadataResponseTopic> {
    answer.topics.iter_mut()
}

/// Of no consequence.
const HARMLESS_METADATA: [Spoil<MetadataResponse>; 4] = [
    ("throttle times", |answer| answer.throttle_time_ms = i32::MIN),
    ("topics that nobody asked for", |answer| {
        let other = TopicName(StrBytes::from_static_str("nobody's"));
        let mut others = answer.topics.clone();
        others.iter_mut().for_each(|topic| topic.name = Some(other.clone()));
        answer.topics.extend(others);
    }),
    ("everything twice", |answer| {
        topics(answer).for_each(|topic| topic.partitions.extend(topic.partitions.clone()));
        answer.topics.extend(answer.topics.clone());
        answer.brokers.extend(answer.brokers.clone());
    }),
    ("a broker that cannot be reached", |answer| {
        let nobody = answer.brokers[0].clone().with_node_id(NOBODY);
        answer.brokers.push(nobody.clone().with_port(70_000));
        answer.brokers.push(nobody.with_host(StrBytes::new()));
    }),
];

/// Partition 0, or the topic, cannot be read meanwhile.
const METADATA_OF_USE_TO_NOBODY: [(bool, Spoil<MetadataResponse>); 5] = [
    (
        true,
        ("a leader that is not there", |answer| {
            topics(answer).for_each(|topic| topic.partitions[0].leader_id = NOBODY);
        }),
    ),
    (
        true,
        ("a leader behind an impossible port", |answer| {
            let nobody = answer.brokers[0].clone().with_node_id(NOBODY);
            answer.brokers.push(nobody.with_port(70_000));
            topics(answer).for_each(|topic| topic.partitions[0].leader_id = NOBODY);
        }),
    ),
    (
        false,
        ("a number that leaves a gap", |answer| {
            topics(answer).for_each(|topic| topic.partitions[1].partition_index = 7);
        }),
    ),
    (
        false,
        ("a number that is none", |answer| {
            topics(answer).for_each(|topic| topic.partitions[1].partition_index = i32::MIN);
        }),
    ),
    (false, ("no brokers", |answer| answer.brokers.clear())),
];

#[test]
fn entries_of_metadata_that_make_no_sense_cost_nothing() {
    let harmless = HARMLESS_METADATA.map(|it| (true, true, it)).into_iter();
    let others = METADATA_OF_USE_TO_NOBODY.map(|(only_one, it)| (false, only_one, it));
    for (is_harmless, only_one, (what, spoil)) in harmless.chain(others) {
        let mut world = World::new(|config| config.client.metadata_max_age = Duration::from_secs(5));
        world.spoil_metadata = Some(spoil);
        (0..6).for_each(|index| world.append(index % 3, 3));
        world.assign_all(Position::Beginning);
        world.settle();
        let readable = if is_harmless {
            0..3
        } else if only_one {
            1..3
        } else {
            0..0
        };
        world.assert_all_seen(what, readable);
        world.spoil_metadata = None;
        world.settle();
        world.assert_all_seen(what, 0..3);
        // Of a topic that is known, such news changes nothing for long.
        world.spoil_metadata = Some(spoil);
        world.append(1, 3);
        world.settle();
        world.assert_all_seen(what, 1..3);
        world.spoil_metadata = None;
        world.append(0, 3);
        world.settle();
        world.assert_all_seen(what, 0..3);
    }
}

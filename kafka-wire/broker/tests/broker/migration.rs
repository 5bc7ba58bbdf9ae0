//! Groups that move from the classic protocol to KIP-848 and back: what time does to them. What their members are told
//! is compared with Kafka's answers in `tests/interop/embedded/groups/migration.rs`.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_wire::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::protocol::messages::*;
use tidewater_broker::Options;

use crate::classic_groups::{GROUP, Group, REBALANCE, SESSION, group};
use crate::harness::*;

const TO_JOIN_AGAIN: i16 = 27;

/// Both partitions of the topic, as consumers assign them.
fn all() -> Bytes {
    let rest = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
    Bytes::from([&[0, 0, 0, 0, 0, 1, 0, 6][..], TOPIC.as_bytes(), &rest].concat())
}

fn beat(it: &mut Harness, epoch: i32, owned: Option<&[i32]>) -> ConsumerGroupHeartbeatResponse {
    let topic_id = it.topic_id();
    let owned = owned.map(|partitions| {
        vec![TopicPartitions::default().with_topic_id(topic_id).with_partitions(partitions.to_vec())]
    });
    let mut request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("m"))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_topic_partitions(owned);
    if epoch == 0 {
        request = request
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(vec![topic_name()]))
            .with_topic_partitions(Some(Vec::new()));
    }
    it.call(1, request)
}

fn sync(it: &mut Harness, member: &str, generation: i32, own: Bytes) -> SyncGroupResponse {
    let assignment = SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(own);
    let request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_assignments(vec![assignment]);
    it.call(3, request)
}

/// A classic member that had all, and one of KIP-848 that is to have half of it.
fn of_both() -> (Group, String) {
    let mut it = Group::new(Options::default());
    let member = it.fresh_id();
    it.join(&member);
    assert_eq!(it.joined(&member).generation_id, 1);
    assert_eq!(sync(&mut it.it, &member, 1, all()).error_code, 0);
    let told = beat(&mut it.it, 0, None);
    assert_eq!((told.error_code, told.member_epoch), (0, 2));
    assert!(told.assignment.is_some_and(|it| it.topic_partitions.is_empty()), "nothing is free yet");
    assert_eq!(it.heartbeat(&member, 1), TO_JOIN_AGAIN);
    (it, member)
}

/// How many partitions a member of KIP-848 is told to have.
fn count(told: &ConsumerGroupHeartbeatResponse) -> Option<usize> {
    let assignment = told.assignment.as_ref()?;
    Some(assignment.topic_partitions.iter().map(|topic| topic.partitions.len()).sum())
}

/// Lets time pass in steps in which members are heard of.
fn pass(it: &mut Group, time: Duration, mut step: impl FnMut(&mut Group)) {
    let end = it.it.now.instant + time;
    while it.it.now.instant < end {
        it.it.advance(SESSION / 2);
        step(it);
    }
}

#[test]
fn a_member_that_does_not_join_again_is_gone_though_it_is_heard_of() {
    let (mut it, member) = of_both();
    pass(&mut it, REBALANCE - SESSION / 2, |it| {
        assert_eq!(it.heartbeat(&member, 1), TO_JOIN_AGAIN);
        assert_eq!(count(&beat(&mut it.it, 2, Some(&[]))), None, "it still has all");
    });
    it.it.advance(SESSION / 2);
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID.code();
    assert_eq!(it.heartbeat(&member, 1), unknown);
    let told = beat(&mut it.it, 2, Some(&[]));
    assert_eq!((told.member_epoch, count(&told)), (3, Some(2)));
}

#[test]
fn a_member_that_does_not_ask_for_its_part_is_gone() {
    let (mut it, member) = of_both();
    it.join(&member);
    assert_eq!(it.joined(&member).generation_id, 2);
    pass(&mut it, REBALANCE - SESSION / 2, |it| {
        assert_eq!(it.heartbeat(&member, 2), 0);
        beat(&mut it.it, 2, None);
    });
    it.it.advance(SESSION / 2);
    assert_eq!(it.heartbeat(&member, 2), ErrorCode::UNKNOWN_MEMBER_ID.code());

    // One that does stays, until it is not heard of for its own session timeout.
    let (mut it, member) = of_both();
    it.join(&member);
    assert_eq!(it.joined(&member).generation_id, 2);
    assert_eq!(sync(&mut it.it, &member, 2, Bytes::new()).assignment.len(), 26, "one partition");
    assert_eq!(count(&beat(&mut it.it, 2, Some(&[]))), Some(1));
    pass(&mut it, 2 * REBALANCE, |it| {
        assert_eq!(it.heartbeat(&member, 2), 0);
        beat(&mut it.it, 2, None);
    });
    it.it.advance(SESSION);
    assert_eq!(it.heartbeat(&member, 2), ErrorCode::UNKNOWN_MEMBER_ID.code());
}

#[test]
fn when_the_last_member_of_kip_848_falls_silent_the_others_go_on_as_a_classic_group() {
    let (mut it, member) = of_both();
    it.join(&member);
    assert_eq!(it.joined(&member).generation_id, 2);
    assert_eq!(sync(&mut it.it, &member, 2, Bytes::new()).error_code, 0);
    assert_eq!(it.state().0, "Dead", "no classic group");
    pass(&mut it, Duration::from_secs(40), |it| assert_eq!(it.heartbeat(&member, 2), 0));
    it.it.advance(Duration::from_secs(5));
    assert_eq!(it.state(), ("PreparingRebalance".to_owned(), 1));
    assert_eq!(it.heartbeat(&member, 2), TO_JOIN_AGAIN);
    it.join(&member);
    let told = it.joined(&member);
    assert_eq!((told.generation_id, told.members.len(), told.leader.as_str()), (3, 1, member.as_str()));
    assert_eq!(sync(&mut it.it, &member, 3, all()).assignment, all());
    assert_eq!(it.state(), ("Stable".to_owned(), 1));
    let late = beat(&mut it.it, 2, Some(&[]));
    assert_eq!(late.error_code, ErrorCode::GROUP_ID_NOT_FOUND.code());
}

#[test]
fn who_waits_in_a_classic_group_is_told_to_join_the_other() {
    let mut it = Group::new(Options::default());
    let (member, second) = (it.fresh_id(), it.fresh_id());
    it.join(&member);
    assert_eq!(it.joined(&member).generation_id, 1);
    assert_eq!(sync(&mut it.it, &member, 1, all()).error_code, 0);
    it.join(&second);
    assert!(it.answer::<JoinGroupRequest>(&second, 9).is_none(), "waits for the first");
    assert_eq!(beat(&mut it.it, 0, None).error_code, 0);
    assert_eq!(it.joined(&second).error_code, TO_JOIN_AGAIN);
    it.join(&second);
    assert_eq!((it.joined(&second).error_code, it.it.cluster.group_members(GROUP).len()), (0, 3));

    // All of it is in the log: another coordinator goes on where this one was.
    it.it.cluster.move_group_coordinator(GROUP, 0);
    assert_eq!(it.heartbeat(&member, 1), TO_JOIN_AGAIN);
}

//! Truncation found by asking a new leader, where Fetch does not tell it (KIP-320 before Kafka 2.7).

use super::*;
use crate::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use crate::protocol::messages::{
    ApiKey, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, StrBytes, TopicName,
};
use crate::types::LeaderEpoch;

impl World {
    pub(super) fn ends_of_epochs(
        &mut self,
        node: i32,
        request: &OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
        assert_eq!(request.replica_id.0, -1, "a client");
        let mut answer = OffsetForLeaderTopicResult::default();
        for asked in &request.topics[0].partitions {
            self.epoch_questions += 1;
            let part = &mut self.parts[asked.partition as usize];
            let refusal = match asked.current_leader_epoch - part.log.epoch() {
                _ if part.leader != node => Some(6),
                1.. => Some(75),
                ..0 => Some(74),
                0 => self.epoch_refusals.pop(),
            };
            let (epoch, end) = match refusal {
                Some(_) => (-1, -1),
                None => {
                    let whole = (asked.leader_epoch, part.log.high_watermark());
                    part.truncated.take().unwrap_or(whole)
                }
            };
            let end = EpochEndOffset::default().with_leader_epoch(epoch).with_end_offset(end);
            let end = end.with_partition(asked.partition).with_error_code(refusal.unwrap_or(0));
            answer.partitions.push(end);
        }
        let answer = answer.with_topic(TopicName(StrBytes::from_static_str("t")));
        OffsetForLeaderEpochResponse::default().with_topics(vec![answer])
    }
}

/// A reader of all six records of partition 0, whose brokers fetch in `fetch_version` at most.
fn world(fetch_version: i16, reset: OffsetReset) -> World {
    let mut world = World::new(|config| config.auto_offset_reset = reset);
    world.fetch_version = fetch_version;
    world.keeps_sessions = fetch_version >= 7;
    world.append(0, 6);
    world.assign(0, Position::Beginning);
    world.settle();
    assert_eq!((world.seen[0].len(), world.epoch_questions), (6, 0), "the leader has not changed");
    world
}

fn offsets(world: &World) -> Vec<i64> {
    world.seen[0].iter().map(|seen| seen.offset).collect()
}

fn assert_lost(world: &World, at: i64, text: &str) {
    let error = world.errors.first().expect("an error");
    assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(at)));
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn a_new_leader_is_asked_once_where_fetches_do_not_tell() {
    for (fetch_version, asked) in [(6, 0), (11, 1), (12, 0), (17, 0)] {
        let mut world = world(fetch_version, OffsetReset::None);
        world.move_leader(0);
        world.settle();
        world.append(0, 3);
        world.settle();
        assert!(world.errors.is_empty(), "{:?}", world.errors);
        assert_eq!(offsets(&world), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(world.epoch_questions, asked, "Fetch {fetch_version}");
    }
}

#[test]
fn truncation_is_told_or_followed_as_configured() {
    let mut strict = world(11, OffsetReset::None);
    strict.parts[0].truncated = Some((0, 4));
    strict.move_leader(0);
    strict.settle();
    assert_lost(&strict, 6, "truncated to offset 4");
    let mut lenient = world(11, OffsetReset::Latest);
    lenient.parts[0].truncated = Some((0, 4));
    lenient.move_leader(0);
    lenient.settle();
    assert_eq!((offsets(&lenient), lenient.errors.len()), (vec![0, 1, 2, 3, 4, 5, 4, 5], 0));
}

#[test]
fn an_epoch_that_the_leader_cannot_place_is_a_loss_or_a_reset() {
    let mut strict = world(11, OffsetReset::None);
    strict.parts[0].truncated = Some((-1, -1));
    strict.move_leader(0);
    strict.settle();
    assert_lost(&strict, 6, "nothing of leader epoch 0");
    let mut lenient = world(11, OffsetReset::Earliest);
    lenient.parts[0].truncated = Some((-1, -1));
    lenient.move_leader(0);
    lenient.settle();
    assert_eq!((offsets(&lenient).len(), lenient.errors.len()), (12, 0));
}

#[test]
fn a_kept_position_is_compared_though_the_first_fetch_is_sent_before_versions_are_known() {
    let mut world = World::new(|config| config.auto_offset_reset = OffsetReset::None);
    world.fetch_version = 11;
    world.append(0, 6);
    world.move_leader(0);
    world.append(0, 6);
    world.parts[0].truncated = Some((0, 4));
    world.assign(0, Position::Offset { offset: 6, leader_epoch: Some(LeaderEpoch(0)) });
    world.settle();
    assert_lost(&world, 6, "truncated to offset 4");
    assert!(offsets(&world).is_empty(), "nothing of the other log was handed out");
    // Of the epoch that the leader is in nothing can be truncated.
    world.errors.clear();
    world.assign(0, Position::Offset { offset: 6, leader_epoch: Some(LeaderEpoch(1)) });
    world.settle();
    assert_eq!((offsets(&world).len(), world.epoch_questions), (6, 1));
}

#[test]
fn refusals_are_asked_again_and_a_forbidden_topic_is_an_error() {
    // Leader not available, unknown and fenced epoch, storage error, and an error of which nothing is known.
    let mut patient = world(11, OffsetReset::None);
    patient.epoch_refusals = vec![5, 75, 74, 56, -1];
    patient.move_leader(0);
    patient.append(0, 1);
    patient.settle();
    assert_eq!((offsets(&patient).len(), patient.errors.len(), patient.epoch_questions), (7, 0, 6));
    let mut forbidden = world(11, OffsetReset::None);
    forbidden.epoch_refusals = vec![29];
    forbidden.move_leader(0);
    forbidden.settle();
    let error = forbidden.errors.first().expect("an error");
    assert_eq!(error.code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
}

#[test]
fn a_lost_question_is_asked_again_of_whoever_leads_by_then() {
    let mut world = world(11, OffsetReset::None);
    world.move_leader(0);
    for _ in 0..200 {
        if world.pending.iter().any(|(_, request)| request.api == ApiKey::OffsetForLeaderEpoch) {
            break;
        }
        if !world.serve() {
            world.pass(Duration::from_millis(50));
        }
    }
    assert!(world.pending.iter().any(|(_, request)| request.api == ApiKey::OffsetForLeaderEpoch));
    world.disconnect_all();
    world.parts[0].truncated = Some((0, 4));
    world.move_leader(0);
    world.settle();
    assert_lost(&world, 6, "truncated to offset 4");
}

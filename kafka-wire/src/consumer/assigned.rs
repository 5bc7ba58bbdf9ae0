//! One partition that is read, and how it stands.

use std::time::{Duration, Instant};

use super::buffers::{Generation, SharedBuffers, is_tried_again};
use super::fetched::{LogEnds, Step};
use super::lookup::{UNKNOWN_TOPIC_PATIENCE, is_unknown, refused_topic, unknown_topic};
use super::position::{OffsetAndEpoch, Position};
use crate::engine::Core;
use crate::error::{Error, ErrorKind};
use crate::protocol::fetch::DivergingEpoch;
use crate::types::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

/// What a partition is at.
#[derive(Debug)]
pub(super) enum State {
    /// Where to start has to be looked up.
    Start(Position),
    /// That is being done.
    LookingUp,
    /// The broker has no such offset: which ones it has is being looked up.
    OutOfRange { at: OffsetAndEpoch, asked: bool, earliest: Option<i64>, latest: Option<i64> },
    /// Records from here on are fetched.
    Fetch(OffsetAndEpoch),
    /// It has failed, and waits for a seek.
    Failed,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) generation: Generation,
    pub(super) state: State,
    /// Of the topic as it was first seen.
    pub(super) topic_id: Option<TopicId>,
    pub(super) leader: Option<(BrokerId, Option<LeaderEpoch>)>,
    /// The leader's epoch under which the position was found to be in the leader's log.
    pub(super) validated: Option<LeaderEpoch>,
    /// The leader has been asked.
    pub(super) is_validating: bool,
    /// The replica that the leader sent this client to, and until when that holds (KIP-392).
    pub(super) preferred: Option<(BrokerId, Instant)>,
    /// Whose fetch session it is in.
    pub(super) fetched_from: Option<BrokerId>,
    /// As the assignment's clock has it.
    pub(super) timer: Option<Instant>,
    pub(super) paused: bool,
    /// Refusals in a row.
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    /// Fetches in a row that brought the batch at the position damaged.
    pub(super) damaged: u32,
    pub(super) max_bytes: i32,
    /// The ends of the log as the application was last told.
    pub(super) reported: Option<LogEnds>,
    /// The place that was given up, while another is looked up.
    moved_from: Option<OffsetAndEpoch>,
    /// When it was assigned, until its topic is first found.
    not_found_since: Option<Instant>,
    unknown_since: Option<Instant>,
}

const ENDS_NOT_TOLD: LogEnds = LogEnds { high_watermark: -1, last_stable_offset: -1, log_start_offset: -1 };

impl Assigned {
    pub(super) fn new(now: Instant, generation: Generation, position: Position, max_bytes: i32) -> Self {
        let state = match position {
            Position::Offset { offset, leader_epoch } => {
                State::Fetch(OffsetAndEpoch { offset, leader_epoch })
            }
            other => State::Start(other),
        };
        Self {
            generation,
            state,
            topic_id: None,
            leader: None,
            validated: None,
            is_validating: false,
            preferred: None,
            fetched_from: None,
            timer: None,
            paused: false,
            failures: 0,
            retry_at: None,
            damaged: 0,
            max_bytes,
            reported: None,
            moved_from: None,
            not_found_since: Some(now),
            unknown_since: None,
        }
    }

    /// Where records are fetched from, if they are.
    pub(super) fn fetches_at(&self) -> Option<OffsetAndEpoch> {
        match self.state {
            State::Fetch(at) => Some(at),
            _ => None,
        }
    }

    /// Moves on, past whatever was difficult.
    pub(super) fn advance(&mut self, to: OffsetAndEpoch, max_bytes: i32) {
        self.state = State::Fetch(to);
        self.damaged = 0;
        self.max_bytes = max_bytes;
    }

    /// What was fetched from here on could not be kept.
    pub(super) fn rewind(&mut self, to: OffsetAndEpoch) {
        if self.fetches_at().is_some() {
            self.state = State::Fetch(to);
            self.reported = None;
        }
    }

    /// No answer comes now: what is known of the log's ends may have become wrong.
    pub(super) fn lose_contact(&mut self, buffers: &SharedBuffers, partition: &TopicPartition) {
        self.reported = None;
        buffers.lock().set_contact(partition, self.generation, false);
    }

    /// Nothing more comes of this partition until it is assigned anew.
    pub(super) fn fail(&mut self, buffers: &SharedBuffers, partition: &TopicPartition, error: Error) {
        self.state = State::Failed;
        buffers.lock().fail(partition, self.generation, error);
        buffers.wake();
    }

    /// The application is told of something that may pass, and is waited for.
    pub(super) fn complain(&self, buffers: &SharedBuffers, partition: &TopicPartition, error: Error) {
        buffers.lock().fail(partition, self.generation, error);
        buffers.wake();
    }

    /// Waits before it tries again.
    pub(super) fn try_later(&mut self, now: Instant, core: &mut Core) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + core.retry_delay(self.failures));
    }

    /// The place to go on at has been looked up.
    pub(super) fn resolved(
        &mut self,
        buffers: &SharedBuffers,
        partition: &TopicPartition,
        at: OffsetAndEpoch,
    ) {
        self.state = State::Fetch(at);
        match self.moved_from.take() {
            None => buffers.lock().resolve(partition, self.generation, at),
            Some(from) => {
                let step = Step { batch: None, from: from.offset, next: at, ends: ENDS_NOT_TOLD };
                buffers.lock().push(partition, self.generation, vec![step]);
            }
        }
        buffers.wake();
    }

    pub(super) fn out_of_range(&mut self) {
        if let State::Fetch(at) = self.state {
            self.state = State::OutOfRange { at, asked: false, earliest: None, latest: None };
        }
    }

    /// One end of the log of a partition that is out of range; with the other one it is clear what happened.
    pub(super) fn learn_range(
        &mut self,
        buffers: &SharedBuffers,
        partition: &TopicPartition,
        ends: (Option<i64>, Option<i64>),
        reset: Option<Position>,
    ) {
        let State::OutOfRange { at, earliest, latest, .. } = &mut self.state else { return };
        *earliest = ends.0.or(*earliest);
        *latest = ends.1.or(*latest);
        let (at, Some(earliest), Some(latest)) = (*at, *earliest, *latest) else { return };
        if (earliest..=latest).contains(&at.offset) {
            // It has come back, or the broker could not place the leader epoch: fetched without one.
            self.state = State::Fetch(OffsetAndEpoch { offset: at.offset, leader_epoch: None });
            return;
        }
        let error = out_of_range_error(partition, at.offset, earliest, latest);
        self.lost(buffers, partition, at, error, reset);
    }

    /// The leader's log is not the one that was read. What to tell the application, if it goes on.
    pub(super) fn truncated(
        &mut self,
        buffers: &SharedBuffers,
        partition: &TopicPartition,
        diverging: DivergingEpoch,
        may_reset: bool,
    ) -> Option<Step> {
        let at = self.fetches_at()?;
        let end = diverging.end_offset.min(at.offset);
        let error = Error::new(
            ErrorKind::DataLoss,
            format!(
                "read on at offset {}: the log was truncated to offset {end}: data lost in Kafka",
                at.offset
            ),
        )
        .with_partition(partition.clone())
        .with_offset(at.offset)
        .with_hint(format!("what was read from {end} on is not in Kafka any more; seek to {end} to go on"));
        if !may_reset {
            self.fail(buffers, partition, error);
            return None;
        }
        tracing::warn!(%error, "going on at the truncation point");
        let next = OffsetAndEpoch { offset: end, leader_epoch: diverging.epoch };
        self.state = State::Fetch(next);
        Some(Step { batch: None, from: at.offset, next, ends: self.reported.unwrap_or(ENDS_NOT_TOLD) })
    }

    /// The place is gone for good: goes on where `auto.offset.reset` says, or not at all.
    pub(super) fn lost(
        &mut self,
        buffers: &SharedBuffers,
        partition: &TopicPartition,
        at: OffsetAndEpoch,
        error: Error,
        reset: Option<Position>,
    ) {
        let Some(position) = reset else { return self.fail(buffers, partition, error) };
        tracing::warn!(%error, ?position, "going on elsewhere, as auto.offset.reset says");
        self.moved_from = Some(at);
        self.state = State::Start(position);
    }

    /// Looks at what metadata says of the partition now.
    pub(super) fn refresh(
        &mut self,
        now: Instant,
        buffers: &SharedBuffers,
        partition: &TopicPartition,
        reset: Option<Position>,
        core: &Core,
    ) {
        if matches!(self.state, State::Failed) {
            return;
        }
        let leader = core.cluster().leader(partition);
        if leader.map(|(broker, _)| broker) != self.leader.map(|(broker, _)| broker) {
            self.lose_contact(buffers, partition);
        }
        if leader != self.leader {
            // A new leader may know of a truncation, of which the replica says nothing.
            self.preferred = None;
        }
        self.leader = leader;
        self.preferred = self.preferred.filter(|(replica, _)| core.cluster().broker(*replica).is_some());
        if let Some(topic) = core.cluster().topic(&partition.topic) {
            self.not_found_since = None;
            let first_seen = *self.topic_id.get_or_insert(topic.id);
            if first_seen != topic.id && first_seen.is_some() && topic.id.is_some() {
                self.topic_id = Some(topic.id);
                self.recreated(buffers, partition, first_seen, topic.id, reset);
            }
            self.topic_id = Some(topic.id);
        }
        if is_unknown(core, partition) {
            self.unknown_since.get_or_insert(now);
        } else {
            self.unknown_since = None;
        }
        match self.not_found(now, partition, core) {
            None => {}
            Some(error) if is_tried_again(&error) => {
                // It may come yet: told once, or again and again of what brokers say.
                self.not_found_since = None;
                self.unknown_since = self.unknown_since.map(|_| now);
                self.complain(buffers, partition, error);
            }
            Some(error) => self.fail(buffers, partition, error),
        }
    }

    fn recreated(
        &mut self,
        buffers: &SharedBuffers,
        partition: &TopicPartition,
        old: TopicId,
        new: TopicId,
        reset: Option<Position>,
    ) {
        let State::Fetch(at) = self.state else { return };
        let error = Error::new(
            ErrorKind::DataLoss,
            format!(
                "read on at offset {}: topic '{}' was deleted and created anew (id {old}, now {new})",
                at.offset, partition.topic
            ),
        )
        .with_partition(partition.clone())
        .with_offset(at.offset)
        .with_hint("offsets of the old topic mean nothing in the new one; seek to its beginning to read it");
        self.lost(buffers, partition, at, error, reset);
    }

    /// Why it is no use to wait any longer for the topic.
    fn not_found(&self, now: Instant, partition: &TopicPartition, core: &Core) -> Option<Error> {
        if self.unknown_since.is_some_and(|since| now >= since + UNKNOWN_TOPIC_PATIENCE) {
            return Some(unknown_topic(core, partition));
        }
        if let Some(refused) = refused_topic(core, partition) {
            return Some(refused);
        }
        let since = self.not_found_since?;
        if let Some(error) = core.connect_error().filter(|error| !error.is_retriable()) {
            return Some(error.clone());
        }
        let patience = core.config().default_api_timeout;
        if now < since + patience {
            return None;
        }
        let attempted = format!("find topic '{}' for {} ms", partition.topic, patience.as_millis());
        let error = Error::new(ErrorKind::Timeout, attempted);
        Some(match core.connect_error() {
            Some(cause) => error.with_cause(cause.clone()),
            None => error,
        })
    }

    /// Whether its topic is known, so that nothing needs to be done until metadata changes.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Failed)
            || (self.not_found_since.is_none() && self.unknown_since.is_none())
    }

    /// Whom to fetch from: the replica that the leader prefers, else the leader.
    pub(super) fn source(&self) -> Option<(BrokerId, Option<LeaderEpoch>)> {
        let (leader, epoch) = self.leader?;
        Some((self.preferred.map_or(leader, |(replica, _)| replica), epoch))
    }

    /// When to look at it again, without anything else happening.
    pub(super) fn poll_timeout(&self, patience: Duration) -> Option<Instant> {
        if matches!(self.state, State::Failed) {
            return None;
        }
        let tries = match self.state {
            State::Fetch(_) => !self.paused && self.leader.is_some(),
            State::Start(_) | State::OutOfRange { asked: false, .. } => true,
            _ => false,
        };
        let retry_at = self.retry_at.filter(|_| tries);
        let unknown = self.unknown_since.map(|since| since + UNKNOWN_TOPIC_PATIENCE);
        let not_found = self.not_found_since.map(|since| since + patience);
        let preferred_until = self.preferred.map(|(_, until)| until);
        [retry_at, unknown, not_found, preferred_until].into_iter().flatten().min()
    }
}

fn out_of_range_error(partition: &TopicPartition, at: i64, earliest: i64, latest: i64) -> Error {
    let (attempted, hint) = if at < earliest {
        (
            format!(
                "read from offset {at}: the log starts at offset {earliest}, offsets {at} to {} are gone",
                earliest - 1
            ),
            format!(
                "retention or DeleteRecords removed them; seek to {earliest} to accept the loss, or set \
                 auto.offset.reset"
            ),
        )
    } else {
        (
            format!("read from offset {at}: the log ends at offset {latest}"),
            format!(
                "it was truncated or created anew, or the offset was never written; seek to {latest} to \
                 accept that, or set auto.offset.reset"
            ),
        )
    };
    Error::new(ErrorKind::DataLoss, attempted)
        .with_partition(partition.clone())
        .with_offset(at)
        .with_hint(hint)
}

//! What brokers answer in a session.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use foldhash::HashMap;

use super::super::deliveries::Delivery;
use super::super::ledger::{Acknowledgement, GAP, RETURN};
use super::super::session::{Flight, FlightKind, Slot};
use super::ShareMachine;
use crate::engine::{Core, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::LeaderHint;
use crate::protocol::messages::StrBytes;
use crate::protocol::request::Response;
use crate::protocol::share::{
    AcquiredRecords, ShareAcknowledgeResponse, ShareFetchResponse, SharedPartition,
};
use crate::record::{self, RawBatch};
use crate::types::{BrokerId, TopicId, TopicPartition};

impl ShareMachine {
    /// Takes the answer to the request that is under way in a session.
    pub(super) fn answered(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core) {
        let asked = |flight: &Option<Flight>| flight.as_ref().is_some_and(|flight| flight.token == token);
        let found = self.sessions.iter_mut().find(|(_, session)| asked(&session.flight));
        let Some((node, session)) = found else { return };
        let (node, Some(flight)) = (*node, session.flight.take()) else { return };
        match flight.kind {
            FlightKind::Fetch(_) => {
                let answer = result.and_then(|response| ShareFetchResponse::decode(&response));
                self.fetched(now, node, flight, answer, core);
            }
            FlightKind::Acknowledge | FlightKind::Close => {
                let answer = result.and_then(|response| ShareAcknowledgeResponse::decode(&response));
                self.told(now, node, flight, answer, core);
            }
        }
    }

    fn fetched(
        &mut self,
        now: Instant,
        node: BrokerId,
        flight: Flight,
        answer: Result<ShareFetchResponse>,
        core: &mut Core,
    ) {
        let answer =
            match answer.and_then(|answer| check(answer.error, &answer.error_message).map(|()| answer)) {
                Ok(answer) => answer,
                Err(error) => return self.session_failed(now, node, flight, error, core),
            };
        let mut awaited = match &flight.kind {
            FlightKind::Fetch(partitions) => partitions.clone(),
            _ => BTreeSet::new(),
        };
        if let Some(session) = self.sessions.get_mut(&node) {
            session.advance();
            session.partitions.clone_from(&awaited);
            session.is_flowing = false;
        }
        self.counts.fetches += 1;
        core.learn_brokers(&answer.endpoints);
        let errors = errors(&answer.topics, |partition| (partition.index, partition.acknowledge_error));
        self.settle(now, node, flight, &errors, core);
        self.deliveries.lock().set_lock_timeout(answer.lock_timeout);
        let locked_until = now + answer.lock_timeout;
        let mut is_refused = false;
        for (id, partitions) in answer.topics {
            let Some(topic) = core.cluster().topic_name(id).map(Arc::clone) else { continue };
            for partition in partitions {
                // What was not asked for, or comes twice, would be handed out twice.
                if !awaited.remove(&(id, partition.index)) {
                    continue;
                }
                let at = TopicPartition { topic: Arc::clone(&topic), partition: partition.index };
                if let Some(code) = partition.error {
                    is_refused = true;
                    self.partition_refused(now, node, &at, code, partition.leader, core);
                }
                self.deliver(now, node, id, at, partition, locked_until);
            }
        }
        // Brokers answer at once where they refuse. With records the application sets the pace.
        if let Some(session) =
            self.sessions.get_mut(&node).filter(|session| is_refused && !session.is_flowing)
        {
            session.failures = session.failures.saturating_add(1);
            session.retry_at = Some(now + core.retry_delay(session.failures));
        }
        self.deliveries.wake();
    }

    fn deliver(
        &mut self,
        now: Instant,
        node: BrokerId,
        topic_id: TopicId,
        partition: TopicPartition,
        answer: SharedPartition,
        locked_until: Instant,
    ) {
        if answer.acquired.is_empty() {
            return;
        }
        let acquired = answer.acquired.iter();
        let acquired = acquired.map(|range| range.last_offset.abs_diff(range.first_offset).saturating_add(1));
        self.counts.records = self.counts.records.saturating_add(acquired.fold(0, u64::saturating_add));
        self.counts.bytes += answer.records.len() as u64;
        let Divided { batches, gaps, error } = divide(answer);
        if let Some(session) = self.sessions.get_mut(&node) {
            if !gaps.is_empty() {
                let mut acknowledgement = Acknowledgement::new(node, topic_id, partition.clone());
                let kind = if error.is_some() { RETURN } else { GAP };
                gaps.iter().for_each(|gap| acknowledgement.add((gap.first_offset, gap.last_offset), kind));
                session.add(now, acknowledgement);
            }
            session.is_flowing = true;
        }
        // One answer is on its way to the application: what it wanted. More comes when it has taken that.
        self.is_wanted &= batches.is_empty();
        let mut deliveries = self.deliveries.lock();
        if let Some(error) = error {
            deliveries.report(error.with_partition(partition.clone()));
        }
        let check_crc = self.config.check_crcs;
        deliveries.push(batches.into_iter().map(|(batch, acquired)| Delivery {
            node,
            topic_id,
            partition: partition.clone(),
            batch,
            acquired,
            check_crc,
            locked_until,
        }));
    }

    fn partition_refused(
        &self,
        now: Instant,
        node: BrokerId,
        partition: &TopicPartition,
        code: ErrorCode,
        leader: Option<LeaderHint>,
        core: &mut Core,
    ) {
        learn_leader(now, partition, leader, core);
        let error =
            Error::broker(code, "fetch shared records").with_partition(partition.clone()).with_broker(node);
        tracing::debug!(%error, "no shared records");
        if !code.is_retriable() {
            self.deliveries.lock().report(error);
        }
    }

    fn told(
        &mut self,
        now: Instant,
        node: BrokerId,
        flight: Flight,
        answer: Result<ShareAcknowledgeResponse>,
        core: &mut Core,
    ) {
        let answer =
            match answer.and_then(|answer| check(answer.error, &answer.error_message).map(|()| answer)) {
                Ok(answer) => answer,
                Err(error) => return self.session_failed(now, node, flight, error, core),
            };
        if let Some(session) = self.sessions.get_mut(&node) {
            match flight.kind {
                FlightKind::Close => session.reset(),
                _ => session.advance(),
            }
        }
        core.learn_brokers(&answer.endpoints);
        if let Some(timeout) = answer.lock_timeout {
            self.deliveries.lock().set_lock_timeout(timeout);
        }
        for (id, partitions) in &answer.topics {
            let Some(topic) = core.cluster().topic_name(*id).map(Arc::clone) else { continue };
            for partition in partitions.iter().filter(|partition| partition.error.is_some_and(is_moved)) {
                let at = TopicPartition { topic: Arc::clone(&topic), partition: partition.index };
                learn_leader(now, &at, partition.leader, core);
            }
        }
        let errors = errors(&answer.topics, |partition| (partition.index, partition.error));
        self.settle(now, node, flight, &errors, core);
        self.deliveries.wake();
    }

    /// Sorts out what has become of what was acknowledged: what the broker could not take now is told again, as
    /// Java does, until it takes it, the lock ends, or `default.api.timeout.ms` is over.
    fn settle(&mut self, now: Instant, node: BrokerId, flight: Flight, errors: &Errors, core: &mut Core) {
        let Some(session) = self.sessions.get_mut(&node) else { return };
        let deadline = now + core.config().default_api_timeout;
        let mut settled = Vec::new();
        let mut is_put_back = false;
        for mut said in flight.acknowledged {
            let result = verdict(errors, &said);
            let give_up_at = *said.give_up_at.get_or_insert(deadline);
            let is_passing = result.as_ref().is_err_and(|error| error.code().is_some_and(is_passing));
            if is_passing && now < give_up_at && self.closing.is_none() && session.may_put_back(&said) {
                session.put_back(now, said);
                is_put_back = true;
            } else {
                settled.push((said, result));
            }
        }
        if is_put_back {
            session.refusals = session.refusals.saturating_add(1);
            session.retry_at = Some(now + core.retry_delay(session.refusals));
            let (before, after) = ((node, flight.sequence), (node, session.sequence));
            for commit in self.commits.iter_mut().filter(|commit| commit.waits_for.contains(&before)) {
                commit.waits_for.insert(after);
                session.is_commit_wanted = true;
            }
        } else {
            session.refusals = 0;
        }
        self.acknowledged(node, flight.sequence, settled);
    }

    /// The broker has left the cluster: a request would wait for its return.
    pub(super) fn lost(&mut self, now: Instant, node: BrokerId, core: &mut Core) {
        let Some(session) = self.sessions.get_mut(&node) else { return };
        if let Some(flight) = session.flight.take() {
            core.cancel(flight.token);
            let error =
                Error::new(ErrorKind::Network, format!("hear of broker {node}: it has left the cluster"));
            self.session_failed(now, node, flight, error, core);
        } else if session.is_open() {
            session.reset();
            self.deliveries.lock().withdraw(|delivery| delivery.node == node);
        }
    }

    /// The session is gone, or nobody knows: the locks are, too, and the next request opens another.
    fn session_failed(
        &mut self,
        now: Instant,
        node: BrokerId,
        flight: Flight,
        error: Error,
        core: &mut Core,
    ) {
        if error.kind() == ErrorKind::Unsupported && matches!(flight.kind, FlightKind::Acknowledge) {
            // A renewal that this broker cannot be told: it has not been sent.
            return self.acknowledged(node, flight.sequence, all(flight.acknowledged, &error));
        }
        if let Some(session) = self.sessions.get_mut(&node) {
            session.reset();
            session.failures = session.failures.saturating_add(1);
            session.retry_at = Some(now + core.retry_delay(session.failures));
        }
        tracing::debug!(%error, %node, "the share session ended");
        let mut deliveries = self.deliveries.lock();
        deliveries.withdraw(|delivery| delivery.node == node);
        if !error.is_retriable() && error.kind() != ErrorKind::Protocol {
            deliveries.report(error.clone());
        }
        drop(deliveries);
        let fate = match error.code() {
            Some(_) => error,
            None => Error::new(error.kind(), "acknowledge records").with_cause(error).with_possibly_written(),
        };
        self.acknowledged(node, flight.sequence, all(flight.acknowledged, &fate));
        core.request_metadata(now);
        self.deliveries.wake();
    }
}

fn check(error: Option<ErrorCode>, said: &Option<StrBytes>) -> Result<()> {
    let Some(code) = error else { return Ok(()) };
    let said = said.as_ref().filter(|said| !said.is_empty());
    let said = said.map_or_else(String::new, |said| format!(" (the broker says: {said})"));
    Err(Error::broker(code, format!("go on with the share session{said}")))
}

/// The same has become of all.
pub(super) fn all(said: Vec<Acknowledgement>, error: &Error) -> Vec<(Acknowledgement, Result<()>)> {
    said.into_iter().map(|said| (said, Err(error.clone()))).collect()
}

/// What an answer says of what was acknowledged, by partition.
type Errors = HashMap<Slot, Option<ErrorCode>>;

/// `read` gives a partition's number and its error. Of a partition that is named twice the last word counts.
fn errors<T>(topics: &[(TopicId, Vec<T>)], read: impl Fn(&T) -> (i32, Option<ErrorCode>)) -> Errors {
    let partitions = topics.iter().flat_map(|(id, partitions)| partitions.iter().map(move |it| (*id, it)));
    let errors = partitions.map(|(id, partition)| {
        let (index, error) = read(partition);
        ((id, index), error)
    });
    errors.collect()
}

/// The partition is led by somebody else, or is gone: its locks are, too.
fn is_moved(code: ErrorCode) -> bool {
    [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::UNKNOWN_TOPIC_ID,
    ]
    .contains(&code)
}

/// The lock still holds, and the broker may take the same later: where it writes down the group's state, for one,
/// somebody else is taking over.
fn is_passing(code: ErrorCode) -> bool {
    code.is_retriable() && !is_moved(code)
}

fn learn_leader(now: Instant, partition: &TopicPartition, hint: Option<LeaderHint>, core: &mut Core) {
    let news = hint.and_then(|hint| Some((hint.leader, hint.epoch?)));
    if !news.is_some_and(|(leader, epoch)| core.learn_leader(partition, leader, epoch)) {
        core.request_metadata(now);
    }
}

/// What has become of what was `said`.
fn verdict(errors: &Errors, said: &Acknowledgement) -> Result<()> {
    match errors.get(&(said.topic_id, said.partition.partition)) {
        Some(None) => Ok(()),
        Some(Some(ErrorCode::INVALID_RECORD_STATE)) => {
            Err(Error::broker(ErrorCode::INVALID_RECORD_STATE, "acknowledge records").with_hint(
                "their lock had ended (group.share.record.lock.duration.ms), and others may have them",
            ))
        }
        Some(Some(code)) => Err(Error::broker(*code, "acknowledge records")),
        None => Err(Error::new(
            ErrorKind::Protocol,
            "acknowledge records: the broker's answer does not name the partition",
        )
        .with_possibly_written()),
    }
}

/// An answer's records by batch.
#[derive(Debug, Default)]
struct Divided {
    batches: Vec<(RawBatch, Vec<AcquiredRecords>)>,
    /// Acquired offsets for which there is no batch of data.
    gaps: Vec<AcquiredRecords>,
    /// Why the rest could not be read: then `gaps` are no gaps.
    error: Option<Error>,
}

/// Each batch accounts for what was acquired after the one before it and up to its end, so that offsets that
/// compaction has taken are noticed.
fn divide(answer: SharedPartition) -> Divided {
    let mut divided = Divided::default();
    let mut left = answer.acquired;
    left.sort_by_key(|range| range.first_offset);
    // No broker hands out an offset twice: of ranges with one in common the first counts.
    let mut end = -1;
    left.retain(|range| {
        let is_apart = end < range.first_offset && range.first_offset <= range.last_offset;
        end = if is_apart { range.last_offset } else { end };
        is_apart
    });
    let mut left = VecDeque::from(left);
    for batch in record::batches(answer.records) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                divided.gaps.clear();
                divided.error = Some(error);
                break;
            }
        };
        let end = batch.header.last_offset();
        let mut acquired = Vec::new();
        while let Some(range) = left.pop_front() {
            if range.first_offset > end {
                left.push_front(range);
                break;
            }
            acquired.push(AcquiredRecords { last_offset: range.last_offset.min(end), ..range });
            if range.last_offset > end {
                left.push_front(AcquiredRecords { first_offset: end + 1, ..range });
                break;
            }
        }
        if acquired.is_empty() {
            continue;
        }
        if batch.header.is_control() {
            divided.gaps.extend(acquired);
        } else {
            divided.batches.push((batch, acquired));
        }
    }
    divided.gaps.extend(left);
    divided
}

//! One fetch loop per broker, each with a session of its own and one request on its way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use super::aborted::AbortedFilter;
use super::assigned::{Assigned, State};
use super::assignment::Assignment;
use super::buffers::{Generation, SharedBuffers, is_tried_again};
use super::fetched::{LogEnds, Step, WalkEnd, walk};
use super::position::OffsetAndEpoch;
use super::session::{FINAL, FetchSession, PartitionFetch, SessionRequest};
use crate::config::{ConsumerConfig, OffsetReset};
use crate::engine::{Core, Lane, Target, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, ForgottenTopic,
};
use crate::protocol::request::Response;
use crate::types::{BrokerId, Isolation, TopicId, TopicPartition};

/// How often a damaged batch is fetched before it counts as damaged in the broker's log too; and an answer that cannot
/// be read, before the broker counts as one that this client does not understand.
const DAMAGED_FETCHES_MAX: u32 = 3;

/// A partition's share of an answer grows up to this when not one whole batch fits: the largest frame that
/// is taken is 100 MiB.
const PARTITION_FETCH_MAX_BYTES: i32 = 64 << 20;

/// How long to wait for a broker to take the request that closes a session, and again for its answer: a session
/// that stays is forgotten when the broker needs its place.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Fetcher {
    config: Arc<ConsumerConfig>,
    rack: Arc<str>,
    buffers: SharedBuffers,
    loops: BTreeMap<BrokerId, FetchLoop>,
    calls: HashMap<Token, BrokerId>,
    /// Requests that close sessions, once there are some: then nothing is fetched any more.
    closing: Option<HashSet<Token>>,
}

#[derive(Debug)]
struct FetchLoop {
    session: FetchSession,
    in_flight: bool,
    failures: u32,
    /// Answers in a row that could not be read.
    damaged: u32,
    retry_at: Option<Instant>,
}

impl FetchLoop {
    fn new() -> Self {
        Self { session: FetchSession::new(), in_flight: false, failures: 0, damaged: 0, retry_at: None }
    }

    fn is_due(&self) -> bool {
        !self.in_flight && self.retry_at.is_none() && self.session.is_wanted()
    }
}

/// What an answer brought for the buffers.
struct Delivery {
    partition: TopicPartition,
    generation: Generation,
    from: OffsetAndEpoch,
    steps: Vec<Step>,
}

impl Fetcher {
    pub(super) fn new(config: Arc<ConsumerConfig>, buffers: SharedBuffers) -> Self {
        let rack = config.client.client_rack.as_deref().unwrap_or_default().into();
        Self { config, rack, buffers, loops: BTreeMap::new(), calls: HashMap::new(), closing: None }
    }

    /// When [`drive`](Self::drive) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.loops.values().filter(|each| !each.in_flight).filter_map(|each| each.retry_at).min()
    }

    /// Sends a fetch to every broker that has none and leads a partition that is wanted, if there is room.
    pub(super) fn drive(&mut self, now: Instant, assignment: &mut Assignment, core: &mut Core) {
        for each in self.loops.values_mut() {
            // Also where nothing is wanted any more, lest that time is due for ever.
            each.retry_at = each.retry_at.filter(|at| *at > now);
        }
        self.update_sessions(now, assignment, core);
        if self.closing.is_some() {
            return;
        }
        let brokers = self.loops.values().filter(|each| each.session.is_wanted()).count();
        let due: Vec<BrokerId> =
            self.loops.iter().filter(|(_, each)| each.is_due()).map(|(id, _)| *id).collect();
        if due.is_empty() || !self.buffers.lock().has_room() {
            return;
        }
        for broker in due {
            self.fetch(now, broker, brokers, core);
        }
    }

    /// Tells the sessions what has changed.
    fn update_sessions(&mut self, now: Instant, assignment: &mut Assignment, core: &Core) {
        for (broker, partition) in assignment.take_dropped() {
            if let Some(each) = self.loops.get_mut(&broker) {
                each.session.forget(&partition);
            }
        }
        let patience = core.config().default_api_timeout;
        for partition in assignment.touched() {
            let Some(assigned) = assignment.get_mut(&partition) else { continue };
            let wants = assigned.wants(now, &partition, core);
            let broker = wants.as_ref().map(|(broker, _)| *broker);
            if let Some(before) = std::mem::replace(&mut assigned.fetched_from, broker)
                && Some(before) != broker
                && let Some(each) = self.loops.get_mut(&before)
            {
                each.session.forget(&partition);
            }
            if let Some((broker, fetch)) = wants {
                self.loops.entry(broker).or_insert_with(FetchLoop::new).session.want(fetch);
            }
            assignment.rearm(&partition, patience);
        }
        assignment.untouch_all();
    }

    fn fetch(&mut self, now: Instant, broker: BrokerId, brokers: usize, core: &mut Core) {
        let Some(each) = self.loops.get_mut(&broker) else { return };
        each.in_flight = true;
        let session = each.session.request();
        let request = to_request(&self.config, &self.rack, session, brokers);
        let timeout = core.config().request_timeout + self.config.fetch_max_wait;
        let to = Target::Broker { id: broker, lane: Lane::Fetch };
        let token = core.call(now, to, Box::new(request), timeout);
        self.calls.insert(token, broker);
    }

    /// Fetches no more, and gives the sessions back that brokers keep for this client, where they answer.
    pub(super) fn close(&mut self, now: Instant, core: &mut Core) {
        let mut closing = HashSet::new();
        for (broker, each) in self.loops.iter_mut().filter(|(_, each)| each.failures == 0) {
            let Some(id) = each.session.close() else { continue };
            let request = SessionRequest { id, epoch: FINAL, fetch: Vec::new(), forget: Vec::new() };
            // Not behind a fetch that waits in the broker: a session belongs to no connection.
            let to = Target::Broker { id: *broker, lane: Lane::Control };
            let request = to_request(&self.config, &self.rack, request, 1);
            closing.insert(core.call(now, to, Box::new(request), CLOSE_PATIENCE));
        }
        self.closing = Some(closing);
    }

    /// Whether [`close`](Self::close) waits for a broker.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| !closing.is_empty())
    }

    /// Takes the answer if it was asked for here.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        assignment: &mut Assignment,
        core: &mut Core,
    ) -> Option<Result<Response>> {
        if self.closing.as_mut().is_some_and(|closing| closing.remove(&token)) {
            return None;
        }
        let Some(broker) = self.calls.remove(&token) else {
            return Some(result);
        };
        let each = self.loops.get_mut(&broker)?;
        each.in_flight = false;
        let decoded = |response: Response| Ok((FetchResponse::decode(&response)?, response.version));
        match result.and_then(decoded) {
            Ok(response) => self.accept(now, broker, response, assignment, core),
            Err(error) => self.failed(now, broker, &error, assignment, core),
        }
        None
    }

    /// Nobody knows whether the broker has seen the request.
    fn failed(
        &mut self,
        now: Instant,
        broker: BrokerId,
        error: &Error,
        assignment: &mut Assignment,
        core: &mut Core,
    ) {
        let Some(each) = self.loops.get_mut(&broker) else { return };
        tracing::debug!(%broker, %error, "a fetch failed");
        each.session.restart();
        each.failures = each.failures.saturating_add(1);
        each.retry_at = Some(now + core.retry_delay(each.failures));
        each.damaged += u32::from(error.kind() == ErrorKind::Protocol);
        let stops = match error.kind() {
            ErrorKind::Protocol => each.damaged >= DAMAGED_FETCHES_MAX,
            _ => !error.is_retriable(),
        };
        core.request_metadata(now);
        if error.is_fatal() {
            self.buffers.lock().fail_all(error.clone());
            self.buffers.wake();
            return;
        }
        for partition in assignment.all() {
            let source = assignment.get(&partition).and_then(Assigned::source);
            if source.is_some_and(|(source, _)| source == broker)
                && let Some(assigned) = assignment.get_mut(&partition)
            {
                assigned.lose_contact(&self.buffers, &partition);
                assigned.preferred = None;
                if stops {
                    assigned.fail(&self.buffers, &partition, error.clone());
                }
            }
        }
    }

    fn accept(
        &mut self,
        now: Instant,
        broker: BrokerId,
        (response, version): (FetchResponse, i16),
        assignment: &mut Assignment,
        core: &mut Core,
    ) {
        let Some(each) = self.loops.get_mut(&broker) else { return };
        if let Some(code) = response.error {
            tracing::debug!(%broker, %code, "a fetch was refused");
            each.session.refused(code);
            // A session that is lost is nothing to wait for; the second refusal in a row is.
            each.failures = each.failures.saturating_add(1);
            if each.failures > 1 {
                each.retry_at = Some(now + core.retry_delay(each.failures));
                core.request_metadata(now);
            }
            return;
        }
        (each.failures, each.damaged) = (0, 0);
        each.session.accepted(response.session_id);
        core.learn_brokers(&response.endpoints);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        self.buffers.lock().begin_answer(partitions.map(|partition| partition.records.len()).sum());
        let mut deliveries = Vec::new();
        for topic in response.topics {
            let Some(name) = assignment.topic_name(&topic.topic) else { continue };
            for answer in topic.partitions {
                let partition = TopicPartition { topic: Arc::clone(&name), partition: answer.index };
                let Some(asked) = self.loops.get(&broker).and_then(|each| each.session.asked(&partition))
                else {
                    continue;
                };
                let Some(assigned) = assignment.get_mut(&partition) else { continue };
                // Else it was moved since it was asked for.
                let is_here = assigned.fetches_at().is_some_and(|at| at.offset == asked.offset);
                if is_here && !assigned.may_have_diverged(broker, version, core) {
                    deliveries.extend(self.accept_partition(now, broker, partition, answer, assigned, core));
                }
            }
        }
        self.deliver(deliveries, assignment);
    }

    fn deliver(&self, deliveries: Vec<Delivery>, assignment: &mut Assignment) {
        if deliveries.is_empty() {
            return;
        }
        let mut buffers = self.buffers.lock();
        for Delivery { partition, generation, from, steps } in deliveries {
            if !buffers.push(&partition, generation, steps)
                && let Some(assigned) = assignment.get_mut(&partition)
            {
                assigned.rewind(from);
            }
        }
        drop(buffers);
        self.buffers.wake();
    }

    fn accept_partition(
        &self,
        now: Instant,
        broker: BrokerId,
        partition: TopicPartition,
        answer: FetchedPartition,
        assigned: &mut Assigned,
        core: &mut Core,
    ) -> Option<Delivery> {
        let from = assigned.fetches_at()?;
        if answer.error.is_some() {
            self.partition_refused(now, broker, &partition, &answer, assigned, core);
            return None;
        }
        assigned.failures = 0;
        if let Some(replica) = answer.preferred_read_replica.filter(|replica| *replica != broker) {
            // Comes without records.
            if core.cluster().broker(replica).is_some() {
                assigned.preferred = Some((replica, now + core.config().metadata_max_age));
            } else {
                core.request_metadata(now);
                assigned.retry_at = Some(now + core.retry_delay(1));
            }
        }
        if let Some(diverging) = answer.diverging {
            let may_reset = self.config.auto_offset_reset != OffsetReset::None;
            let step = assigned.truncated(&self.buffers, &partition, diverging, may_reset)?;
            return Some(Delivery { partition, generation: assigned.generation, from, steps: vec![step] });
        }
        let ends = LogEnds {
            high_watermark: answer.high_watermark,
            last_stable_offset: answer.last_stable_offset,
            log_start_offset: answer.log_start_offset,
        };
        let filter = match self.config.isolation {
            Isolation::ReadCommitted => Some(AbortedFilter::new(answer.aborted)),
            Isolation::ReadUncommitted => None,
        };
        let walked = walk(answer.records, from, ends, filter, self.config.check_crcs);
        let mut steps = walked.steps;
        if steps.is_empty() && assigned.reported != Some(ends) {
            steps.push(Step { batch: None, from: from.offset, next: from, ends });
        }
        if assigned.reported.is_none() {
            self.buffers.lock().set_contact(&partition, assigned.generation, true);
        }
        assigned.reported = Some(ends);
        if walked.next != from {
            assigned.advance(walked.next, self.config.max_partition_fetch_bytes);
        }
        match walked.end {
            WalkEnd::Complete => {}
            WalkEnd::TooShort => {
                assigned.max_bytes = assigned.max_bytes.saturating_mul(2).min(PARTITION_FETCH_MAX_BYTES);
            }
            WalkEnd::Corrupt(error) => {
                let generation = assigned.generation;
                let delivery = Delivery { partition: partition.clone(), generation, from, steps };
                // First what was good before it.
                self.deliver_one(delivery, assigned);
                self.damaged(now, &partition, error, assigned, core);
                return None;
            }
        }
        (!steps.is_empty()).then_some(Delivery { partition, generation: assigned.generation, from, steps })
    }

    fn deliver_one(&self, delivery: Delivery, assigned: &mut Assigned) {
        let Delivery { partition, generation, from, steps } = delivery;
        if !self.buffers.lock().push(&partition, generation, steps) {
            assigned.rewind(from);
        }
        self.buffers.wake();
    }

    /// Damage in transit is gone with the next fetch; damage in the log stays.
    fn damaged(
        &self,
        now: Instant,
        partition: &TopicPartition,
        error: Error,
        assigned: &mut Assigned,
        core: &mut Core,
    ) {
        assigned.damaged += 1;
        if error.kind() != ErrorKind::CorruptRecords || assigned.damaged >= DAMAGED_FETCHES_MAX {
            let hint = format!(
                "fetched {} times; seek past the batch to give it up, or read it from a replica that has it whole",
                assigned.damaged
            );
            let error = error.with_partition(partition.clone());
            let error = if error.kind() == ErrorKind::CorruptRecords { error.with_hint(hint) } else { error };
            assigned.fail(&self.buffers, partition, error);
            return;
        }
        tracing::warn!(%partition, %error, "fetching a damaged batch again");
        assigned.retry_at = Some(now + core.retry_delay(assigned.damaged));
    }

    fn partition_refused(
        &self,
        now: Instant,
        broker: BrokerId,
        partition: &TopicPartition,
        answer: &FetchedPartition,
        assigned: &mut Assigned,
        core: &mut Core,
    ) {
        let Some(code) = answer.error else { return };
        tracing::debug!(%partition, %code, "a fetch was refused");
        assigned.lose_contact(&self.buffers, partition);
        if assigned.preferred.take_if(|(replica, _)| *replica == broker).is_some()
            && code == ErrorCode::OFFSET_OUT_OF_RANGE
        {
            // A follower may lag behind: only the leader knows what is in range.
            assigned.retry_at = Some(now + core.retry_delay(1));
            return;
        }
        if code == ErrorCode::OFFSET_OUT_OF_RANGE {
            assigned.out_of_range();
            return;
        }
        let error = Error::broker(code, "fetch").with_partition(partition.clone());
        if code == ErrorCode::CORRUPT_MESSAGE {
            let at = assigned.fetches_at().map_or(-1, |at| at.offset);
            let error = Error::new(ErrorKind::CorruptRecords, "fetch: the broker's log is damaged");
            self.damaged(now, partition, error.with_offset(at), assigned, core);
            return;
        }
        if !error.is_retriable() && code != ErrorCode::UNKNOWN_SERVER_ERROR {
            if !is_tried_again(&error) {
                return assigned.fail(&self.buffers, partition, error);
            }
            assigned.complain(&self.buffers, partition, error);
        }
        let hint = answer.leader.and_then(|hint| Some((hint.leader, hint.epoch?)));
        if hint.is_some_and(|(leader, epoch)| core.learn_leader(partition, leader, epoch)) {
            return; // The new leader can be asked at once.
        }
        core.request_metadata(now);
        assigned.try_later(now, core);
    }
}

fn to_request(
    config: &ConsumerConfig,
    rack: &Arc<str>,
    session: SessionRequest,
    brokers: usize,
) -> FetchRequest {
    // What is here and what is on its way from all brokers share the bytes allowed.
    let share = config.queued_max_bytes / 2 / brokers.max(1);
    let share = i32::try_from(share).unwrap_or(i32::MAX).max(1);
    FetchRequest {
        max_wait_ms: i32::try_from(config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: config.fetch_min_bytes,
        max_bytes: config.fetch_max_bytes.min(share),
        isolation: config.isolation,
        session_id: session.id,
        session_epoch: session.epoch,
        topics: fetch_topics(session.fetch),
        forgotten: forgotten_topics(session.forget),
        rack: Arc::clone(rack),
    }
}

/// In the order given; partitions of one topic that follow each other share an entry.
fn fetch_topics(fetches: Vec<PartitionFetch>) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for fetch in fetches {
        let partition = FetchPartition {
            index: fetch.partition.partition,
            current_leader_epoch: fetch.leader_epoch,
            fetch_offset: fetch.offset,
            last_fetched_epoch: fetch.last_fetched_epoch,
            max_bytes: fetch.max_bytes,
        };
        match topics.last_mut().filter(|topic| topic.topic == fetch.partition.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic: fetch.partition.topic,
                id: fetch.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn forgotten_topics(forget: Vec<(TopicId, TopicPartition)>) -> Vec<ForgottenTopic> {
    let mut topics: Vec<ForgottenTopic> = Vec::new();
    for (id, TopicPartition { topic, partition }) in forget {
        match topics.last_mut().filter(|last| last.topic == topic && last.id == id) {
            Some(last) => last.partitions.push(partition),
            None => topics.push(ForgottenTopic { topic, id, partitions: vec![partition] }),
        }
    }
    topics
}

impl Assigned {
    /// What to ask of whom, if this partition can be fetched now.
    fn wants(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        core: &Core,
    ) -> Option<(BrokerId, PartitionFetch)> {
        self.preferred = self.preferred.filter(|(_, until)| *until > now);
        let State::Fetch(at) = self.state else { return None };
        if self.paused || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.retry_at = None;
        if self.must_be_validated(core) {
            return None;
        }
        let (source, leader_epoch) = self.source()?;
        let fetch = PartitionFetch {
            partition: partition.clone(),
            topic_id: self.topic_id.unwrap_or(TopicId::NONE),
            offset: at.offset,
            leader_epoch,
            last_fetched_epoch: at.leader_epoch,
            max_bytes: self.max_bytes,
        };
        Some((source, fetch))
    }
}

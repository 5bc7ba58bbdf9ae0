//! The consumer as a role of the engine: commands in, fetched batches into the buffers.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _};

use super::assigned::{Assigned, State};
use super::assignment::Assignment;
use super::buffers::{Generation, SharedBuffers, is_tried_again};
use super::fetcher::Fetcher;
use super::group_offsets::{Committed, GroupOffsets};
use super::lookup::{
    LookupId, OffsetLookup, UNKNOWN_TOPIC_PATIENCE, is_unknown, refused_topic, unknown_topic,
};
use super::membership::{Membership, Wanted};
use super::position::{OffsetAndEpoch, Position};
use super::rebalance::SharedRebalances;
use super::validation::Validation;
use crate::cluster::Topic;
use crate::config::{ConsumerConfig, OffsetReset};
use crate::engine::{Core, Role, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::group::GroupMembershipOperation;
use crate::metrics::{Groups, Sink, ThrottleTime};
use crate::protocol::request::Response;
use crate::reply::Reply;
use crate::time::WallClock;
use crate::types::{CommittedOffset, Isolation, ListedOffset, OffsetSpec, TopicPartition};

/// Partitions and the offsets looked up for them, in the order asked.
pub(crate) type Listed = Vec<(TopicPartition, ListedOffset)>;

/// What the application asks of the machine. Buffers and positions it changes by itself.
#[derive(Debug)]
pub(crate) enum Command {
    /// Read these from now on, from there; with a generation that the buffers gave.
    Assign(Vec<(TopicPartition, Generation, Position)>),
    /// Read these no longer.
    Unassign(Vec<TopicPartition>),
    /// Fetch these no more, or again.
    Pause(Vec<TopicPartition>, bool),
    /// There is room in the buffers again.
    Room,
    /// Wake the waiting application then; an earlier wish is forgotten, since it waits for one thing at a time.
    WakeAt(Instant),
    ListOffsets(Vec<(TopicPartition, OffsetSpec)>, Isolation, Reply<Listed>),
    Commit(Vec<(TopicPartition, CommittedOffset)>, Reply<()>),
    Committed(Vec<TopicPartition>, Reply<Committed>),
    /// Be a member of the group, and read what it assigns.
    Subscribe(Wanted),
    /// Be none any more, once what was asked to be committed before this is.
    Unsubscribe,
    /// The application has let go of what it was told to; the same goes for commits.
    LetGo,
    /// The application has polled, which was waited for.
    Polled,
    /// Commit what was asked for, end the membership, and finish, by then at the latest.
    Close {
        deadline: Instant,
        operation: GroupMembershipOperation,
        reply: Reply<()>,
    },
    /// Describe a topic.
    Describe(Arc<str>, Reply<Topic>),
}

/// What a lookup is for.
#[derive(Debug)]
enum Purpose {
    Start(TopicPartition, Generation, Position),
    Earliest(TopicPartition, Generation),
    Latest(TopicPartition, Generation),
    Question(u64, usize),
}

#[derive(Debug)]
struct Question {
    offsets: Vec<(TopicPartition, Option<ListedOffset>)>,
    missing: usize,
    reply: Reply<Listed>,
}

#[derive(Debug)]
struct Description {
    topic: Arc<str>,
    asked_at: Instant,
    unknown_since: Option<Instant>,
    reply: Reply<Topic>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ConsumerMachine {
    config: Arc<ConsumerConfig>,
    clock: WallClock,
    buffers: SharedBuffers,
    assignment: Assignment,
    fetcher: Fetcher,
    validation: Validation,
    lookup: OffsetLookup,
    group_offsets: GroupOffsets,
    membership: Membership,
    purposes: HashMap<LookupId, Purpose>,
    questions: BTreeMap<u64, Question>,
    last_question: u64,
    descriptions: Vec<Description>,
    /// Of the cluster, when partitions were last compared with it.
    seen_generation: u64,
    wake_at: Option<Instant>,
}

impl Drop for ConsumerMachine {
    fn drop(&mut self) {
        self.buffers.lock().fail_all(Error::new(ErrorKind::Closed, "the consumer is closed"));
        self.buffers.wake();
    }
}

impl ConsumerMachine {
    /// A consumer that fetches into `buffers`.
    pub(crate) fn new(config: ConsumerConfig, clock: WallClock, buffers: SharedBuffers) -> Self {
        let config = Arc::new(config);
        let require_stable = config.isolation == Isolation::ReadCommitted;
        Self {
            fetcher: Fetcher::new(Arc::clone(&config), buffers.clone()),
            validation: Validation::new(buffers.clone()),
            lookup: OffsetLookup::new(),
            group_offsets: GroupOffsets::new(config.group_id.as_deref().map(Arc::from), require_stable),
            membership: Membership::new(Arc::clone(&config)),
            config,
            clock,
            buffers,
            assignment: Assignment::new(),
            purposes: HashMap::new(),
            questions: BTreeMap::new(),
            last_question: 0,
            descriptions: Vec::new(),
            seen_generation: 0,
            wake_at: None,
        }
    }

    /// Where the application learns of rebalances.
    pub(crate) fn rebalances(&self) -> SharedRebalances {
        self.membership.shared().clone()
    }

    /// Brings everything forward as far as it goes now.
    fn drive(&mut self, now: Instant, core: &mut Core) {
        let (is_committing, is_closing) = (self.group_offsets.is_committing(), self.fetcher.is_closing());
        self.membership.drive(now, is_committing, is_closing, core);
        self.assignment.fire(now);
        self.refresh(now, core);
        self.describe_topics(now, core);
        self.start_partitions(now, core);
        self.lookup.drive(now, core);
        self.group_offsets.drive(now, &self.membership, core);
        while self.take_answers(now, core) {
            self.start_partitions(now, core);
            self.lookup.drive(now, core);
        }
        self.validation.drive(now, &mut self.assignment, core);
        self.fetcher.drive(now, &mut self.assignment, core);
        self.membership.publish(&self.buffers);
    }

    /// Where a partition goes on that has no position, or lost it; `None`: not at all.
    fn reset_position(&self, now: Instant) -> Option<Position> {
        match self.config.auto_offset_reset {
            OffsetReset::Earliest => Some(Position::Beginning),
            OffsetReset::Latest => Some(Position::End),
            OffsetReset::ByDuration(age) => {
                let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Some(Position::Timestamp(self.clock.unix_ms(now).saturating_sub(age_ms).max(0)))
            }
            OffsetReset::None => None,
        }
    }

    /// Compares partitions with metadata: all when it has changed, else those that wait for it.
    fn refresh(&mut self, now: Instant, core: &Core) {
        let generation = core.cluster().generation();
        let is_new = std::mem::replace(&mut self.seen_generation, generation) != generation;
        let partitions = if is_new { self.assignment.all() } else { self.assignment.unsettled() };
        let reset = self.reset_position(now);
        for partition in partitions {
            let Some(assigned) = self.assignment.get_mut(&partition) else { continue };
            assigned.refresh(now, &self.buffers, &partition, reset, core);
            if let Some(id) = assigned.topic_id {
                self.assignment.name_topic(id, &partition.topic);
            }
            self.assignment.settle(&partition);
        }
    }

    /// Looks up what partitions need to know before they can be fetched.
    fn start_partitions(&mut self, now: Instant, core: &Core) {
        let give_up_at = now + core.config().default_api_timeout;
        let isolation = self.config.isolation;
        let mut committed = Vec::new();
        let mut lookups = Vec::new();
        for p in self.assignment.touched() {
            let Some(assigned) = self.assignment.get_mut(&p) else { continue };
            let generation = assigned.generation;
            let waits = assigned.retry_at.is_some_and(|at| at > now);
            match &mut assigned.state {
                State::Start(_) | State::OutOfRange { .. } if waits => {}
                State::Start(position) => {
                    let position = *position;
                    assigned.state = State::LookingUp;
                    let spec = match position {
                        Position::Beginning => OffsetSpec::Earliest,
                        Position::End => OffsetSpec::Latest,
                        Position::Timestamp(timestamp_ms) => OffsetSpec::Timestamp(timestamp_ms),
                        Position::Committed | Position::Offset { .. } => {
                            committed.push((p, generation));
                            continue;
                        }
                    };
                    lookups.push((spec, isolation, Purpose::Start(p, generation, position)));
                }
                State::OutOfRange { asked, .. } if !*asked => {
                    *asked = true;
                    let all = Isolation::ReadUncommitted;
                    lookups.push((OffsetSpec::Earliest, all, Purpose::Earliest(p.clone(), generation)));
                    lookups.push((OffsetSpec::Latest, all, Purpose::Latest(p, generation)));
                }
                _ => {}
            }
        }
        for (spec, isolation, purpose) in lookups {
            let (Purpose::Start(partition, ..)
            | Purpose::Earliest(partition, _)
            | Purpose::Latest(partition, _)) = &purpose
            else {
                continue;
            };
            let id = self.lookup.start(partition.clone(), spec, isolation, give_up_at);
            self.purposes.insert(id, purpose);
        }
        if !committed.is_empty() {
            self.group_offsets.find_start(committed, give_up_at);
        }
    }

    /// Passes on what was looked up; whether there was something.
    fn take_answers(&mut self, now: Instant, core: &mut Core) -> bool {
        let mut any = false;
        while let Some((id, result)) = self.lookup.next_answer() {
            any = true;
            match self.purposes.remove(&id) {
                Some(Purpose::Question(question, index)) => self.answer_question(question, index, result),
                Some(purpose) => self.looked_up(now, purpose, result, core),
                None => {}
            }
        }
        while let Some((partitions, result)) = self.group_offsets.next_start() {
            any = true;
            self.found_committed(now, &partitions, result, core);
        }
        if any {
            self.group_offsets.drive(now, &self.membership, core);
        }
        any
    }

    fn looked_up(&mut self, now: Instant, purpose: Purpose, result: Result<ListedOffset>, core: &mut Core) {
        let (Purpose::Start(partition, generation, _)
        | Purpose::Earliest(partition, generation)
        | Purpose::Latest(partition, generation)) = &purpose
        else {
            return;
        };
        let reset = self.reset_position(now);
        let Some(assigned) = self.assignment.get_mut(partition).filter(|a| a.generation == *generation)
        else {
            return;
        };
        let listed = match result {
            Ok(listed) => listed,
            Err(error) if is_tried_again(&error) => {
                match (&purpose, &mut assigned.state) {
                    (Purpose::Start(_, _, position), state @ State::LookingUp) => {
                        *state = State::Start(*position);
                    }
                    (_, State::OutOfRange { asked, .. }) => *asked = false,
                    _ => {}
                }
                assigned.try_later(now, core);
                return assigned.complain(&self.buffers, partition, error);
            }
            Err(error) => return assigned.fail(&self.buffers, partition, error),
        };
        match (&purpose, listed.offset) {
            (Purpose::Start(..), Some(offset)) => {
                let at = OffsetAndEpoch { offset, leader_epoch: listed.leader_epoch };
                assigned.resolved(&self.buffers, partition, at);
            }
            // No record is that young.
            (Purpose::Start(_, _, Position::Timestamp(_)), None) => {
                assigned.state = State::Start(Position::End);
            }
            (Purpose::Earliest(..), Some(offset)) => {
                assigned.learn_range(&self.buffers, partition, (Some(offset), None), reset);
            }
            (Purpose::Latest(..), Some(offset)) => {
                assigned.learn_range(&self.buffers, partition, (None, Some(offset)), reset);
            }
            _ => {
                let error = Error::new(ErrorKind::Protocol, "look up an offset: the broker answered none");
                assigned.fail(&self.buffers, partition, error.with_partition(partition.clone()));
            }
        }
    }

    fn found_committed(
        &mut self,
        now: Instant,
        partitions: &[(TopicPartition, Generation)],
        result: Result<Committed>,
        core: &mut Core,
    ) {
        for (index, (partition, generation)) in partitions.iter().enumerate() {
            // It may have been assigned anew since: then more may have been committed, too.
            let is_current = |assigned: &&mut Assigned| {
                assigned.generation == *generation && matches!(assigned.state, State::LookingUp)
            };
            let Some(assigned) = self.assignment.get_mut(partition).filter(is_current) else { continue };
            match &result {
                Ok(committed) => {
                    let committed = committed.get(index).and_then(|(_, committed)| committed.clone());
                    self.start_at_committed(now, partition, committed);
                }
                Err(error) if is_tried_again(error) => {
                    assigned.state = State::Start(Position::Committed);
                    assigned.try_later(now, core);
                    assigned.complain(&self.buffers, partition, error.clone());
                }
                Err(error) => assigned.fail(&self.buffers, partition, error.clone()),
            }
        }
    }

    fn start_at_committed(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        committed: Option<CommittedOffset>,
    ) {
        let reset = self.reset_position(now);
        let Some(assigned) = self.assignment.get_mut(partition) else { return };
        match (committed, reset) {
            (Some(committed), _) => {
                let at = OffsetAndEpoch { offset: committed.offset, leader_epoch: committed.leader_epoch };
                assigned.resolved(&self.buffers, partition, at);
            }
            (None, Some(position)) => assigned.state = State::Start(position),
            (None, None) => {
                let group = self.config.group_id.as_deref().unwrap_or_default();
                let error = Error::new(
                    ErrorKind::DataLoss,
                    format!("start where group '{group}' committed: it has committed nothing"),
                )
                .with_partition(partition.clone())
                .with_hint("set auto.offset.reset, or assign a position");
                assigned.fail(&self.buffers, partition, error);
            }
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        wanted: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
        reply: Reply<Listed>,
        core: &Core,
    ) {
        if wanted.is_empty() {
            return reply.send(Ok(Vec::new()));
        }
        let give_up_at = now + core.config().default_api_timeout;
        self.last_question += 1;
        let question = self.last_question;
        let mut offsets = Vec::with_capacity(wanted.len());
        for (index, (partition, spec)) in wanted.into_iter().enumerate() {
            let id = self.lookup.start(partition.clone(), spec, isolation, give_up_at);
            self.purposes.insert(id, Purpose::Question(question, index));
            offsets.push((partition, None));
        }
        let missing = offsets.len();
        self.questions.insert(question, Question { offsets, missing, reply });
    }

    fn answer_question(&mut self, id: u64, index: usize, result: Result<ListedOffset>) {
        let Some(mut question) = self.questions.remove(&id) else { return };
        match result {
            Err(error) => question.reply.send(Err(error)),
            Ok(listed) => {
                if let Some((_, offset)) = question.offsets.get_mut(index) {
                    *offset = Some(listed);
                }
                question.missing -= 1;
                if question.missing > 0 {
                    self.questions.insert(id, question);
                    return;
                }
                let listed =
                    question.offsets.into_iter().filter_map(|(partition, offset)| Some((partition, offset?)));
                question.reply.send(Ok(listed.collect()));
            }
        }
    }

    fn describe_topics(&mut self, now: Instant, core: &mut Core) {
        for mut description in std::mem::take(&mut self.descriptions) {
            let any = TopicPartition { topic: Arc::clone(&description.topic), partition: 0 };
            core.watch_topics(now, [Arc::clone(&description.topic)]);
            if let Some(topic) = core.cluster().topic(&description.topic) {
                description.reply.send(Ok(topic.clone()));
                continue;
            }
            if is_unknown(core, &any) {
                description.unknown_since.get_or_insert(now);
            }
            if description.unknown_since.is_some_and(|since| now >= since + UNKNOWN_TOPIC_PATIENCE) {
                description.reply.send(Err(unknown_topic(core, &any)));
            } else if let Some(error) = refused_topic(core, &any) {
                description.reply.send(Err(error));
            } else if let Some(error) = core.connect_error().filter(|error| !error.is_retriable()) {
                description.reply.send(Err(error.clone()));
            } else if now >= description.asked_at + core.config().default_api_timeout {
                let attempted = format!("describe topic '{}' in the time allowed", description.topic);
                let error = Error::new(ErrorKind::Timeout, attempted);
                description.reply.send(Err(match core.connect_error() {
                    Some(cause) => error.with_cause(cause.clone()),
                    None => error,
                }));
            } else {
                self.descriptions.push(description);
            }
        }
    }

    fn assign(
        &mut self,
        now: Instant,
        partitions: Vec<(TopicPartition, Generation, Position)>,
        core: &mut Core,
    ) {
        for (partition, generation, position) in partitions {
            core.watch_topics(now, [Arc::clone(&partition.topic)]);
            let before = self.assignment.remove(&partition);
            let max_bytes = self.config.max_partition_fetch_bytes;
            let mut assigned = Assigned::new(now, generation, position, max_bytes);
            assigned.paused = before.is_some_and(|before| before.paused);
            self.assignment.insert(partition, assigned);
        }
    }

    fn unassign(&mut self, partitions: &[TopicPartition], core: &mut Core) {
        for partition in partitions {
            self.assignment.remove(partition);
        }
        let topics: BTreeSet<&Arc<str>> = partitions.iter().map(|partition| &partition.topic).collect();
        for topic in topics {
            let still_read = self.assignment.has_topic(topic);
            let still_asked = self.membership.watches(topic)
                || self.lookup.topics().any(|other| other == topic)
                || self.descriptions.iter().any(|description| description.topic == *topic);
            if !still_read && !still_asked {
                core.unwatch_topics([&**topic]);
            }
        }
    }
}

impl Role for ConsumerMachine {
    type Command = Command;
    const METRIC_GROUPS: Groups = Groups { client: "consumer-metrics", node: "consumer-node-metrics" };
    const THROTTLE_TIME: Option<ThrottleTime> = Some(ThrottleTime {
        group: "consumer-fetch-manager-metrics",
        average: "fetch-throttle-time-avg",
        max: "fetch-throttle-time-max",
    });

    fn handle_command(&mut self, now: Instant, command: Command, core: &mut Core) {
        match command {
            Command::Assign(partitions) => self.assign(now, partitions, core),
            Command::Unassign(partitions) => self.unassign(&partitions, core),
            Command::Pause(partitions, paused) => {
                for partition in partitions {
                    if let Some(assigned) = self.assignment.get_mut(&partition) {
                        assigned.paused = paused;
                    }
                }
            }
            Command::Room => {}
            Command::WakeAt(at) => {
                self.wake_at = Some(at);
                return;
            }
            Command::ListOffsets(wanted, isolation, reply) => self.ask(now, wanted, isolation, reply, core),
            Command::Commit(offsets, reply) => {
                let give_up_at = now + core.config().default_api_timeout;
                self.group_offsets.commit(offsets, give_up_at, reply);
            }
            Command::Committed(partitions, reply) => {
                let give_up_at = now + core.config().default_api_timeout;
                self.group_offsets.committed(partitions, give_up_at, reply);
            }
            Command::Subscribe(wanted) => self.membership.subscribe(now, wanted, core),
            Command::Unsubscribe => self.membership.unsubscribe(core),
            Command::LetGo => self.membership.let_go(),
            Command::Polled => {}
            Command::Close { deadline, operation, reply } => {
                self.membership.close(deadline, operation, reply);
                self.fetcher.close(now, core);
            }
            Command::Describe(topic, reply) => {
                self.descriptions.push(Description { topic, asked_at: now, unknown_since: None, reply });
            }
        }
        self.drive(now, core);
    }

    fn handle_response(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core) {
        let result = self.fetcher.handle_response(now, token, result, &mut self.assignment, core);
        let Some(result) = result else {
            return self.drive(now, core);
        };
        let reset = self.reset_position(now);
        let assignment = &mut self.assignment;
        let result = self.validation.handle_response(now, token, result, assignment, reset, core);
        let result = result.and_then(|result| self.lookup.handle_response(now, token, result, core));
        let result = result.and_then(|result| self.membership.handle_response(now, token, result, core));
        if let Some(result) = result {
            self.group_offsets.handle_response(now, token, result, core);
        }
        self.drive(now, core);
    }

    fn handle_progress(&mut self, now: Instant, core: &mut Core) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.buffers.wake();
        }
        self.drive(now, core);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let patience = self.config.client.default_api_timeout;
        let describing = self.descriptions.iter().flat_map(|description| {
            [
                Some(description.asked_at + patience),
                description.unknown_since.map(|since| since + UNKNOWN_TOPIC_PATIENCE),
            ]
        });
        let own = [
            self.wake_at,
            self.assignment.poll_timeout(),
            self.fetcher.poll_timeout(),
            self.lookup.poll_timeout(),
            self.group_offsets.poll_timeout(),
            self.membership.poll_timeout(),
        ];
        own.into_iter().chain(describing).flatten().min()
    }

    fn is_closed(&self) -> bool {
        self.membership.is_closed() // Otherwise it ends with its handle, which stops the driver.
    }

    fn measure(&self, _now: Instant, sink: &mut Sink<'_>) {
        self.buffers.lock().report(sink);
    }
}

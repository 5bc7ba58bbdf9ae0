//! Offsets looked up by their leaders (ListOffsets), many partitions in one request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};

use crate::engine::{Core, Lane, Target, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::{self, ListOffsetsRequest, ListOffsetsResponse, StrBytes, TopicName};
use crate::protocol::request::{Plain, Response};
use crate::types::{BrokerId, Isolation, LeaderEpoch, ListedOffset, OffsetSpec, TopicPartition};

/// How long a topic may be unknown to the brokers before that is an error. A topic just created is known to
/// all of them within a second or so.
pub(super) const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(10);

/// Names one lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LookupId(u64);

/// Lookups in progress. Each is answered once by [`OffsetLookup::next_answer`]. One that waits costs nothing until
/// something has changed that it may wait for.
#[derive(Debug)]
pub(super) struct OffsetLookup {
    items: HashMap<LookupId, Item>,
    /// To be looked at.
    pending: BTreeSet<LookupId>,
    /// Not asked, and to be looked at when the cluster has changed, or when their time has come.
    waiting: BTreeSet<LookupId>,
    /// When to look at those that have not been asked.
    timers: BTreeSet<(Instant, LookupId)>,
    /// Of the cluster, when those that wait were last looked at, and why none can be reached.
    seen: (u64, Option<ErrorKind>),
    calls: HashMap<Token, Vec<LookupId>>,
    answers: Vec<(LookupId, Result<ListedOffset>)>,
    last_id: u64,
}

#[derive(Debug)]
struct Item {
    partition: TopicPartition,
    spec: OffsetSpec,
    isolation: Isolation,
    /// As the clock has it.
    timer: Option<Instant>,
    retry_at: Option<Instant>,
    failures: u32,
    give_up_at: Instant,
    unknown_since: Option<Instant>,
    last_error: Option<Error>,
}

impl OffsetLookup {
    pub(super) fn new() -> Self {
        Self {
            items: HashMap::new(),
            pending: BTreeSet::new(),
            waiting: BTreeSet::new(),
            timers: BTreeSet::new(),
            seen: (0, None),
            calls: HashMap::new(),
            answers: Vec::new(),
            last_id: 0,
        }
    }

    /// Looks `spec` up; takes effect with the next [`drive`](Self::drive).
    pub(super) fn start(
        &mut self,
        partition: TopicPartition,
        spec: OffsetSpec,
        isolation: Isolation,
        give_up_at: Instant,
    ) -> LookupId {
        self.last_id += 1;
        let id = LookupId(self.last_id);
        let item = Item {
            partition,
            spec,
            isolation,
            timer: None,
            retry_at: None,
            failures: 0,
            give_up_at,
            unknown_since: None,
            last_error: None,
        };
        self.items.insert(id, item);
        self.pending.insert(id);
        id
    }

    pub(super) fn next_answer(&mut self) -> Option<(LookupId, Result<ListedOffset>)> {
        self.answers.pop()
    }

    /// When [`drive`](Self::drive) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The topics that are waited for.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.items.values().map(|item| &item.partition.topic)
    }

    /// Sends what can be sent, and gives up what has waited too long.
    pub(super) fn drive(&mut self, now: Instant, core: &mut Core) {
        self.wake_waiting(now, core);
        // A request may name a partition once: a second question about it waits for the first one's answer.
        let mut by_leader: BTreeMap<(BrokerId, bool, i16), BTreeMap<TopicPartition, LookupId>> =
            BTreeMap::new();
        for id in std::mem::take(&mut self.pending) {
            self.disarm(id);
            let Some(item) = self.items.get_mut(&id) else { continue };
            if let Some(error) = item.hopeless(now, core) {
                self.finish(id, Err(error));
                continue;
            }
            item.retry_at = item.retry_at.filter(|at| *at > now);
            core.watch_topics(now, [Arc::clone(&item.partition.topic)]);
            let leader = core.cluster().leader(&item.partition);
            if is_unknown(core, &item.partition) {
                item.unknown_since.get_or_insert(now);
            } else if leader.is_some() {
                item.unknown_since = None;
            }
            let Some((leader, _)) = leader.filter(|_| item.retry_at.is_none()) else {
                self.wait(id);
                continue;
            };
            let committed = item.isolation == Isolation::ReadCommitted;
            let together = by_leader.entry((leader, committed, item.spec.first_version())).or_default();
            if *together.entry(item.partition.clone()).or_insert(id) != id {
                self.wait(id);
            }
        }
        let timeout = core.config().request_timeout;
        for ((leader, committed, first_version), together) in by_leader {
            let ids: Vec<LookupId> = together.into_values().collect();
            let request = self.request(committed, &ids, core);
            let versions = first_version..=10;
            let to = Target::Broker { id: leader, lane: Lane::Control };
            let token = core.call(now, to, Box::new(Plain::in_versions(request, versions)), timeout);
            self.calls.insert(token, ids);
        }
    }

    /// Those whose time has come are to be looked at, and all that wait when something has changed.
    fn wake_waiting(&mut self, now: Instant, core: &Core) {
        let seen = (core.cluster().generation(), core.connect_error().map(Error::kind));
        if std::mem::replace(&mut self.seen, seen) != seen {
            self.pending.append(&mut self.waiting);
        }
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            self.waiting.remove(&id);
            self.pending.insert(id);
        }
    }

    /// Not asked now: to be looked at when something has changed, or at its time.
    fn wait(&mut self, id: LookupId) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let unknown = item.unknown_since.map(|since| since + UNKNOWN_TOPIC_PATIENCE);
        let timer = [item.retry_at, Some(item.give_up_at), unknown].into_iter().flatten().min();
        item.timer = timer;
        self.timers.extend(timer.map(|at| (at, id)));
        self.waiting.insert(id);
    }

    fn disarm(&mut self, id: LookupId) {
        if let Some(at) = self.items.get_mut(&id).and_then(|item| item.timer.take()) {
            self.timers.remove(&(at, id));
        }
    }

    fn finish(&mut self, id: LookupId, result: Result<ListedOffset>) {
        self.items.remove(&id);
        self.answers.push((id, result));
    }

    /// Takes the answer if it was asked for here.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        core: &mut Core,
    ) -> Option<Result<Response>> {
        let Some(ids) = self.calls.remove(&token) else {
            return Some(result);
        };
        // A second question about a partition waited for this.
        self.pending.append(&mut self.waiting);
        match result.and_then(Response::decode::<ListOffsetsRequest>) {
            Ok(response) => self.accept(now, &ids, &response, core),
            Err(error) => {
                core.request_metadata(now);
                for id in ids {
                    self.settle(now, id, Err(error.clone()), core);
                }
            }
        }
        None
    }

    fn request(&self, committed: bool, ids: &[LookupId], core: &Core) -> ListOffsetsRequest {
        let mut topics: BTreeMap<&Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for item in ids.iter().filter_map(|id| self.items.get(id)) {
            let epoch = core.cluster().leader(&item.partition).and_then(|(_, epoch)| epoch);
            let partition = ListOffsetsPartition::default()
                .with_partition_index(item.partition.partition)
                .with_current_leader_epoch(LeaderEpoch::to_wire(epoch))
                .with_timestamp(item.spec.to_wire());
            topics.entry(&item.partition.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            let name = TopicName(StrBytes::from_string(name.to_string()));
            ListOffsetsTopic::default().with_name(name).with_partitions(partitions)
        });
        ListOffsetsRequest::default()
            .with_replica_id(messages::BrokerId(-1))
            .with_isolation_level(i8::from(committed))
            .with_topics(topics.collect())
    }

    fn accept(&mut self, now: Instant, ids: &[LookupId], response: &ListOffsetsResponse, core: &mut Core) {
        let mut answers = HashMap::new();
        for topic in &response.topics {
            let answered =
                topic.partitions.iter().map(|answer| ((&*topic.name.0, answer.partition_index), answer));
            answers.extend(answered);
        }
        for &id in ids {
            let Some(item) = self.items.get(&id) else { continue };
            let answer = answers.get(&(&*item.partition.topic, item.partition.partition));
            let result = match answer {
                None => Err(Error::new(ErrorKind::Protocol, "look up an offset: the answer lacks it")),
                Some(answer) => match ErrorCode::from_wire(answer.error_code) {
                    Some(code) => Err(Error::broker(code, "look up an offset")),
                    None => Ok(ListedOffset {
                        offset: Some(answer.offset).filter(|offset| *offset >= 0),
                        timestamp_ms: Some(answer.timestamp).filter(|timestamp| *timestamp >= 0),
                        leader_epoch: LeaderEpoch::from_wire(answer.leader_epoch),
                    }),
                },
            };
            self.settle(now, id, result, core);
        }
    }

    /// Answers, or asks again later.
    fn settle(&mut self, now: Instant, id: LookupId, result: Result<ListedOffset>, core: &mut Core) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let error = match result {
            // What makes no sense counts as no answer.
            Err(error) if error.is_retriable() || error.kind() == ErrorKind::Protocol => error,
            result => {
                let result = result.map_err(|error| item.describe(error));
                return self.finish(id, result);
            }
        };
        core.request_metadata(now);
        item.failures = item.failures.saturating_add(1);
        item.retry_at = Some(now + core.retry_delay(item.failures));
        item.last_error = Some(error);
        self.wait(id);
    }
}

impl Item {
    /// Why it is no use to wait any longer.
    fn hopeless(&self, now: Instant, core: &Core) -> Option<Error> {
        if self.unknown_since.is_some_and(|since| now >= since + UNKNOWN_TOPIC_PATIENCE) {
            return Some(unknown_topic(core, &self.partition));
        }
        if now >= self.give_up_at {
            return Some(self.timed_out(core));
        }
        if let Some(error) = core.connect_error().filter(|error| !error.is_retriable()) {
            return Some(self.describe(error.clone()));
        }
        refused_topic(core, &self.partition)
    }

    fn describe(&self, error: Error) -> Error {
        error.with_partition(self.partition.clone())
    }

    fn timed_out(&self, core: &Core) -> Error {
        let error = Error::new(ErrorKind::Timeout, "look up an offset in the time allowed")
            .with_partition(self.partition.clone());
        match self.last_error.as_ref().or_else(|| core.connect_error()) {
            Some(cause) => error.with_cause(cause.clone()),
            None => error,
        }
    }
}

/// Whether the brokers say that there is no such partition.
pub(super) fn is_unknown(core: &Core, partition: &TopicPartition) -> bool {
    let cluster = core.cluster();
    match cluster.topic(&partition.topic) {
        Some(_) => cluster.partition(&partition.topic, partition.partition).is_none(),
        None => cluster.topic_error(&partition.topic) == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

/// What to say when there is no such partition for good.
pub(super) fn unknown_topic(core: &Core, partition: &TopicPartition) -> Error {
    let seconds = UNKNOWN_TOPIC_PATIENCE.as_secs();
    let attempted = match core.cluster().topic(&partition.topic) {
        Some(topic) => format!(
            "find partition {} of topic '{}' for {seconds} s: it has {} partitions",
            partition.partition,
            partition.topic,
            topic.partitions.len()
        ),
        None => format!("find topic '{}' for {seconds} s", partition.topic),
    };
    Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, attempted)
        .with_hint("check the name, or create the topic first")
}

/// A refusal of the topic that time does not heal, as of authorization.
pub(super) fn refused_topic(core: &Core, partition: &TopicPartition) -> Option<Error> {
    let code = core.cluster().topic_error(&partition.topic).filter(|code| !code.is_retriable())?;
    Some(Error::broker(code, format!("ask for metadata of topic '{}'", partition.topic)))
}

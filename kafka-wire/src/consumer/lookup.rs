//! Offsets looked up by their leaders (ListOffsets), many partitions in one request.

use std::collections::BTreeMap;
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

/// Lookups in progress. Each is answered once by [`OffsetLookup::next_answer`].
#[derive(Debug)]
pub(super) struct OffsetLookup {
    items: BTreeMap<LookupId, Item>,
    calls: HashMap<Token, Vec<LookupId>>,
    answers: Vec<(LookupId, Result<ListedOffset>)>,
    last_id: u64,
}

#[derive(Debug)]
struct Item {
    partition: TopicPartition,
    spec: OffsetSpec,
    isolation: Isolation,
    asked: bool,
    retry_at: Option<Instant>,
    failures: u32,
    give_up_at: Instant,
    unknown_since: Option<Instant>,
    last_error: Option<Error>,
}

impl OffsetLookup {
    pub(super) fn new() -> Self {
        Self { items: BTreeMap::new(), calls: HashMap::new(), answers: Vec::new(), last_id: 0 }
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
            asked: false,
            retry_at: None,
            failures: 0,
            give_up_at,
            unknown_since: None,
            last_error: None,
        };
        self.items.insert(id, item);
        id
    }

    pub(super) fn next_answer(&mut self) -> Option<(LookupId, Result<ListedOffset>)> {
        self.answers.pop()
    }

    /// When [`drive`](Self::drive) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = |item: &Item| {
            let unknown = item.unknown_since.map(|since| since + UNKNOWN_TOPIC_PATIENCE);
            [item.retry_at, Some(item.give_up_at), unknown].into_iter().flatten().min()
        };
        self.items.values().filter(|item| !item.asked).filter_map(due).min()
    }

    /// The topics that are waited for.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.items.values().map(|item| &item.partition.topic)
    }

    /// Sends what can be sent, and gives up what has waited too long.
    pub(super) fn drive(&mut self, now: Instant, core: &mut Core) {
        self.give_up(now, core);
        // A request may name a partition once: a second question about it waits for the first one's answer.
        let mut by_leader: BTreeMap<(BrokerId, bool, i16), BTreeMap<TopicPartition, LookupId>> =
            BTreeMap::new();
        for (id, item) in &mut self.items {
            if item.asked || item.retry_at.is_some_and(|at| at > now) {
                continue;
            }
            item.retry_at = None;
            let topic = &item.partition.topic;
            core.watch_topics(now, [Arc::clone(topic)]);
            if let Some((leader, _)) = core.cluster().leader(&item.partition) {
                item.unknown_since = None;
                let committed = item.isolation == Isolation::ReadCommitted;
                let together = by_leader.entry((leader, committed, item.spec.first_version())).or_default();
                together.entry(item.partition.clone()).or_insert(*id);
            } else if is_unknown(core, &item.partition) {
                item.unknown_since.get_or_insert(now);
            }
        }
        let timeout = core.config().request_timeout;
        for ((leader, committed, first_version), together) in by_leader {
            let ids: Vec<LookupId> = together.into_values().collect();
            let request = self.request(committed, &ids, core);
            let versions = first_version..=10;
            let to = Target::Broker { id: leader, lane: Lane::Control };
            let token = core.call(now, to, Box::new(Plain::in_versions(request, versions)), timeout);
            for id in &ids {
                if let Some(item) = self.items.get_mut(id) {
                    item.asked = true;
                }
            }
            self.calls.insert(token, ids);
        }
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
            Err(error) if error.is_retriable() => error,
            result => {
                let result = result.map_err(|error| item.describe(error));
                self.items.remove(&id);
                self.answers.push((id, result));
                return;
            }
        };
        core.request_metadata(now);
        item.asked = false;
        item.failures = item.failures.saturating_add(1);
        item.retry_at = Some(now + core.retry_delay(item.failures));
        item.last_error = Some(error);
    }

    fn give_up(&mut self, now: Instant, core: &Core) {
        let mut given_up = Vec::new();
        for (id, item) in self.items.iter().filter(|(_, item)| !item.asked) {
            let unknown = item.unknown_since.is_some_and(|since| now >= since + UNKNOWN_TOPIC_PATIENCE);
            if unknown {
                given_up.push((*id, unknown_topic(core, &item.partition)));
            } else if now >= item.give_up_at {
                given_up.push((*id, item.timed_out(core)));
            } else if let Some(error) = core.connect_error().filter(|error| !error.is_retriable()) {
                given_up.push((*id, item.describe(error.clone())));
            } else if let Some(error) = refused_topic(core, &item.partition) {
                given_up.push((*id, error));
            }
        }
        for (id, error) in given_up {
            self.items.remove(&id);
            self.answers.push((id, Err(error)));
        }
    }
}

impl Item {
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

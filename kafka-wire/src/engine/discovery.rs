//! Metadata and coordinators: when they are asked for, and what becomes of the answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _};

use super::Core;
use super::call::Target;
use super::core::Purpose;
use crate::cluster::{Broker, CoordinatorKind, Partition, Topic, TopicUpdate};
use crate::config::{HostPort, MetadataRecovery};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::NodeEndpoint;
use crate::protocol::messages::{FindCoordinatorRequest, StrBytes};
use crate::protocol::metadata::{MetadataRequest, MetadataResponse, TopicMetadata};
use crate::protocol::request::{ByVersion, Response};
use crate::types::BrokerId;

/// When to ask for what.
#[derive(Debug)]
pub(super) struct Discovery {
    watched: BTreeSet<Arc<str>>,
    metadata: Schedule,
    coordinators: HashMap<(CoordinatorKind, Arc<str>), Schedule>,
}

/// One question that is asked again and again, never twice at once.
#[derive(Debug, Default)]
struct Schedule {
    in_flight: bool,
    /// Something happened after the question was sent: its answer may be too old.
    again: bool,
    /// Somebody wants to know before it is due; `next` has been moved forward.
    hastened: bool,
    next: Option<Instant>,
    last: Option<Instant>,
    failures: u32,
    /// Since when there has been no answer.
    failing_since: Option<Instant>,
}

impl Discovery {
    pub(super) fn new(_now: Instant) -> Self {
        Self { watched: BTreeSet::new(), metadata: Schedule::default(), coordinators: HashMap::new() }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let schedules = self.coordinators.values().chain([&self.metadata]);
        schedules.filter(|schedule| !schedule.in_flight).filter_map(|schedule| schedule.next).min()
    }
}

impl Core {
    /// Sees to it that metadata of these topics is known and kept fresh (`metadata.max.age.ms`). Topics
    /// that do not exist (yet) are asked for again, at most every `retry.backoff.max.ms`.
    pub fn watch_topics(&mut self, now: Instant, topics: impl IntoIterator<Item = Arc<str>>) {
        let mut new = false;
        for topic in topics {
            new |= self.discovery.watched.insert(topic);
        }
        if new {
            let schedule = &mut self.discovery.metadata;
            schedule.again |= schedule.in_flight;
            schedule.next = Some(now);
        }
    }

    /// Stops watching topics.
    pub fn unwatch_topics<'a>(&mut self, topics: impl IntoIterator<Item = &'a str>) {
        for topic in topics {
            self.discovery.watched.remove(topic);
            self.cluster.forget_topic(topic);
        }
    }

    /// Something contradicts the metadata (a leader refuses, a broker does not answer): it is asked for
    /// again soon, but not more often than `retry.backoff.ms` allows.
    pub fn request_metadata(&mut self, now: Instant) {
        let (backoff, rng) = (self.config.retry_backoff, &mut self.rng);
        let schedule = &mut self.discovery.metadata;
        if schedule.in_flight {
            schedule.again = true;
            return;
        }
        if std::mem::replace(&mut schedule.hastened, true) {
            return;
        }
        let failures = schedule.failures.max(1);
        let earliest = schedule.last.map_or(now, |last| (last + backoff.delay(failures, rng)).max(now));
        schedule.next = Some(schedule.next.map_or(earliest, |next| next.min(earliest)));
    }

    pub(super) fn find_coordinator(&mut self, now: Instant, kind: CoordinatorKind, key: &Arc<str>) {
        let schedule = self.discovery.coordinators.entry((kind, Arc::clone(key))).or_default();
        schedule.next.get_or_insert(now);
    }

    /// Asks what is due; whether there was anything.
    pub(super) fn discover(&mut self, now: Instant) -> bool {
        let timeout = self.config.request_timeout;
        let is_due = |schedule: &Schedule| !schedule.in_flight && schedule.next.is_some_and(|at| at <= now);
        let asks_metadata = is_due(&self.discovery.metadata);
        if asks_metadata {
            let schedule = &mut self.discovery.metadata;
            schedule.in_flight = true;
            schedule.hastened = false;
            schedule.last = Some(now);
            let request = MetadataRequest {
                topics: Some(self.discovery.watched.iter().cloned().collect()),
                allow_auto_topic_creation: self.config.allow_auto_create_topics,
            };
            self.call_for(now, Purpose::Metadata, Target::Any, Box::new(request), timeout);
        }
        let due: Vec<(CoordinatorKind, Arc<str>)> = self
            .discovery
            .coordinators
            .iter_mut()
            .filter(|(_, schedule)| is_due(schedule))
            .map(|((kind, key), schedule)| {
                schedule.in_flight = true;
                (*kind, Arc::clone(key))
            })
            .collect();
        let asks = asks_metadata || !due.is_empty();
        for (kind, key) in due {
            let request = Box::new(find_coordinator(kind, &key));
            self.call_for(now, Purpose::FindCoordinator(kind, key), Target::Any, request, timeout);
        }
        asks
    }

    pub(super) fn handle_metadata(&mut self, now: Instant, result: Result<Response>) {
        let outcome =
            result.and_then(|response| MetadataResponse::decode(&response)).and_then(
                |metadata| match metadata.error {
                    Some(code) => Err(Error::broker(code, "ask for metadata")),
                    None => Ok(metadata),
                },
            );
        let outcome = outcome.map(|metadata| self.learn(metadata));
        let (max_age, backoff) = (self.config.metadata_max_age, self.config.retry_backoff);
        let schedule = &mut self.discovery.metadata;
        schedule.in_flight = false;
        let again = std::mem::take(&mut schedule.again);
        let has_news = outcome.is_ok();
        match outcome {
            Ok(true) => {
                schedule.failures = 0;
                schedule.failing_since = None;
                let soon = backoff.delay(1, &mut self.rng).min(max_age);
                schedule.next = Some(now + if again { soon } else { max_age });
            }
            // Topics or leaders are missing: that is for the role to judge, but it may heal.
            Ok(false) => {
                schedule.failing_since = None;
                schedule.failures = schedule.failures.saturating_add(1);
                schedule.next = Some(now + backoff.delay(schedule.failures, &mut self.rng).min(max_age));
            }
            Err(error) => {
                schedule.failures = schedule.failures.saturating_add(1);
                schedule.next = Some(now + backoff.delay(schedule.failures, &mut self.rng));
                tracing::debug!(%error, "no metadata");
                let since = *schedule.failing_since.get_or_insert(now);
                let is_time = now.saturating_duration_since(since) >= self.config.rebootstrap_trigger;
                if is_time || error.code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED) {
                    self.rebootstrap(now);
                } else if !error.is_retriable() {
                    let known_by_metadata = |target: &Target| !matches!(target, Target::Any);
                    self.fail_unrouted(now, &error, known_by_metadata);
                }
            }
        }
        if has_news {
            self.fail_calls_to_the_gone(now);
        }
        if again && self.discovery.metadata.next.is_none_or(|next| next > now) {
            self.request_metadata(now);
        }
    }

    /// A call to a broker that the newest metadata does not name, as Kafka names none that is down, would wait for
    /// nothing: whoever made it has to look for another.
    fn fail_calls_to_the_gone(&mut self, now: Instant) {
        let there: BTreeSet<BrokerId> = self.cluster.brokers().map(|broker| broker.id).collect();
        // A broker that has just started knows of nobody yet.
        if there.is_empty() {
            return;
        }
        let error = Error::new(ErrorKind::Network, "the broker is not in the cluster's metadata any more");
        self.fail_unrouted(
            now,
            &error,
            |target| matches!(target, Target::Broker { id, .. } if !there.contains(id)),
        );
    }

    /// Brokers that an answer of Produce or Fetch names beside its hints of leaders (KIP-951): a hint counts
    /// only when its leader can be found.
    pub(crate) fn learn_brokers(&mut self, endpoints: &[NodeEndpoint]) {
        let before = self.cluster.generation();
        for endpoint in endpoints {
            self.cluster.add_broker(read_broker(endpoint));
        }
        if self.cluster.generation() != before {
            self.brokers_changed();
        }
    }

    /// Starts again from the bootstrap servers, as if nothing were known of brokers (KIP-1102).
    fn rebootstrap(&mut self, now: Instant) {
        self.discovery.metadata.failing_since = None;
        if self.config.metadata_recovery == MetadataRecovery::None || self.cluster.brokers().len() == 0 {
            return;
        }
        tracing::info!("the brokers that are known are of no use: asking the bootstrap servers anew");
        self.cluster.forget_brokers();
        self.close_all(now, &Error::new(ErrorKind::Network, "starting again from the bootstrap servers"));
    }

    /// Puts an answer into the cluster; whether it was complete.
    fn learn(&mut self, metadata: MetadataResponse) -> bool {
        let text = |bytes: &StrBytes| -> Arc<str> { Arc::from(bytes.as_str()) };
        let brokers = metadata.brokers.iter().map(read_broker);
        let mut complete = !metadata.brokers.is_empty();
        self.cluster.update_brokers(metadata.cluster_id.as_ref().map(text), brokers, metadata.controller);
        self.brokers_changed();
        for topic in metadata.topics {
            let name = match self.discovery.watched.get(topic.name.as_str()) {
                Some(name) => Arc::clone(name),
                // Not asked for, or not any more.
                None => continue,
            };
            let result = read_topic(topic);
            complete &=
                result.as_ref().is_ok_and(|topic| topic.partitions.iter().all(|p| p.leader.is_some()));
            self.cluster.update_topic(TopicUpdate { name, result });
        }
        complete
    }

    pub(super) fn handle_coordinator(
        &mut self,
        now: Instant,
        kind: CoordinatorKind,
        key: Arc<str>,
        result: Result<Response>,
    ) {
        match result.and_then(|response| read_coordinator(response, kind, &key)) {
            Ok(broker) => {
                self.discovery.coordinators.remove(&(kind, Arc::clone(&key)));
                let id = broker.id;
                self.cluster.add_broker(broker);
                self.cluster.set_coordinator(kind, key, id);
            }
            Err(error) if error.is_retriable() => {
                let target = Target::Coordinator { kind, key: Arc::clone(&key) };
                if !self.is_wanted(&target) {
                    self.discovery.coordinators.remove(&(kind, key));
                    return;
                }
                let backoff = self.config.retry_backoff;
                let schedule = self.discovery.coordinators.entry((kind, key)).or_default();
                schedule.in_flight = false;
                schedule.failures = schedule.failures.saturating_add(1);
                schedule.next = Some(now + backoff.delay(schedule.failures, &mut self.rng));
                tracing::debug!(%error, "no coordinator");
            }
            Err(error) => {
                self.discovery.coordinators.remove(&(kind, Arc::clone(&key)));
                let this = Target::Coordinator { kind, key };
                self.fail_unrouted(now, &error, |target| *target == this);
            }
        }
    }
}

fn read_broker(node: &NodeEndpoint) -> Broker {
    Broker {
        id: node.id,
        address: HostPort { host: node.host.to_string(), port: node.port },
        rack: node.rack.as_ref().map(|rack| Arc::from(rack.as_str())),
    }
}

pub(crate) fn read_topic(topic: TopicMetadata) -> Result<Topic, ErrorCode> {
    if let Some(code) = topic.error {
        return Err(code);
    }
    let mut partitions = vec![None; topic.partitions.len()];
    for partition in topic.partitions {
        let index = usize::try_from(partition.index).ok();
        // A number that leaves a gap makes the whole answer useless; the next may be better.
        let place =
            index.and_then(|index| partitions.get_mut(index)).ok_or(ErrorCode::LEADER_NOT_AVAILABLE)?;
        *place = Some(Partition {
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas,
            in_sync_replicas: partition.in_sync,
        });
    }
    // One that comes twice counts once.
    let found = partitions.iter().flatten().count();
    partitions.truncate(found);
    let partitions: Option<Vec<Partition>> = partitions.into_iter().collect();
    let partitions = partitions.ok_or(ErrorCode::LEADER_NOT_AVAILABLE)?;
    Ok(Topic { id: topic.id, is_internal: topic.is_internal, partitions })
}

/// FindCoordinator names its keys in one field up to version 3, in another from 4 (KIP-699).
fn find_coordinator(kind: CoordinatorKind, key: &str) -> ByVersion<FindCoordinatorRequest> {
    let key = StrBytes::from_string(key.to_owned());
    ByVersion::new(1..=6, move |version| {
        let request = FindCoordinatorRequest::default().with_key_type(kind.to_wire());
        if version >= 4 {
            request.with_coordinator_keys(vec![key.clone()])
        } else {
            request.with_key(key.clone())
        }
    })
}

fn read_coordinator(response: Response, kind: CoordinatorKind, key: &str) -> Result<Broker> {
    let attempted = || match kind {
        CoordinatorKind::Group => format!("find the coordinator of group {key:?}"),
        CoordinatorKind::Transaction => format!("find the coordinator of transactional id {key:?}"),
    };
    let version = response.version;
    let answer = response.decode::<FindCoordinatorRequest>()?;
    let (code, id, host, port) = if version >= 4 {
        let found = answer.coordinators.into_iter().find(|found| found.key.as_str() == key);
        let found = found.ok_or_else(|| {
            Error::new(ErrorKind::Protocol, attempted()).with_hint("the answer names other keys only")
        })?;
        (found.error_code, found.node_id.0, found.host, found.port)
    } else {
        (answer.error_code, answer.node_id.0, answer.host, answer.port)
    };
    ErrorCode::check(code).map_err(|code| Error::broker(code, attempted()))?;
    match u16::try_from(port) {
        Ok(port) if port != 0 && (1..=255).contains(&host.len()) && id >= 0 => {
            let address = HostPort { host: host.to_string(), port };
            Ok(Broker { id: BrokerId(id), address, rack: None })
        }
        // As a broker does that knows of no coordinator yet.
        _ => Err(Error::broker(ErrorCode::COORDINATOR_NOT_AVAILABLE, attempted())),
    }
}

//! The connections: one per broker and lane, dialled when a call needs it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _};

use super::call::Lane;
use super::traffic::Past;
use super::{ConnectionId, Token};
use crate::cluster::Cluster;
use crate::config::HostPort;
use crate::connection::Connection;
use crate::error::Error;
use crate::protocol::api_versions;
use crate::protocol::messages::ApiKey;
use crate::time::{Backoff, Rng};
use crate::types::BrokerId;

/// Whom a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Broker(BrokerId),
    /// The bootstrap server at this index, whose id is not known.
    Bootstrap(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SlotKey {
    pub(super) endpoint: Endpoint,
    pub(super) lane: Lane,
}

/// The place of one connection, and the calls that wait for it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) waiting: VecDeque<Token>,
    pub(super) link: Option<Link>,
    pub(super) throttled_until: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) address: HostPort,
    pub(super) connection: Connection,
}

/// How an endpoint has behaved; shared by its lanes.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) failures: u32,
    pub(super) dial_at: Option<Instant>,
    /// Which ApiVersions version it was last asked in with success.
    pub(super) question_version: i16,
    /// Why waiting will not help with it: what it speaks, or who it says it is.
    pub(super) refusal: Option<Error>,
}

impl Default for Health {
    fn default() -> Self {
        Self { failures: 0, dial_at: None, question_version: api_versions::NEWEST, refusal: None }
    }
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) slots: BTreeMap<SlotKey, Slot>,
    pub(super) by_connection: HashMap<ConnectionId, SlotKey>,
    pub(super) past: Past,
    health: HashMap<Endpoint, Health>,
    next_connection: u64,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            by_connection: HashMap::new(),
            past: Past::default(),
            health: HashMap::new(),
            next_connection: 0,
        }
    }

    pub(super) fn slot(&mut self, key: SlotKey) -> &mut Slot {
        self.slots.entry(key).or_default()
    }

    pub(super) fn health(&mut self, endpoint: Endpoint) -> &mut Health {
        self.health.entry(endpoint).or_default()
    }

    /// Whether a broker that is connected offers the API.
    pub(super) fn offers(&self, api: ApiKey) -> bool {
        let links = self.slots.values().filter_map(|slot| slot.link.as_ref());
        let mut tables = links.filter_map(|link| link.connection.versions());
        tables.any(|versions| versions.range(api).is_some())
    }

    /// When the endpoint may be dialled; `None` is at once.
    pub(super) fn dial_at(&self, endpoint: Endpoint) -> Option<Instant> {
        self.health.get(&endpoint)?.dial_at
    }

    fn may_dial(&self, now: Instant, endpoint: Endpoint) -> bool {
        self.dial_at(endpoint).is_none_or(|at| at <= now)
    }

    /// Whether every endpoint that any call could go to has been refused; then it is forgotten that they were, so that
    /// the next call tries them all again.
    pub(super) fn all_refused(&mut self, cluster: &Cluster, bootstrap_servers: usize) -> bool {
        let bootstrap = (0..bootstrap_servers).map(Endpoint::Bootstrap);
        let brokers = cluster.brokers().map(|broker| Endpoint::Broker(broker.id));
        let refused = |endpoint| self.health.get(&endpoint).is_some_and(|health| health.refusal.is_some());
        let all = bootstrap.chain(brokers).all(refused);
        if all {
            self.health.values_mut().for_each(|health| health.refusal = None);
        }
        all
    }

    /// Why one of the endpoints was refused.
    pub(super) fn a_refusal(&self) -> Option<&Error> {
        self.health.values().find_map(|health| health.refusal.as_ref())
    }

    /// Makes the endpoint wait before it is dialled again.
    pub(super) fn failed(&mut self, now: Instant, endpoint: Endpoint, backoff: Backoff, rng: &mut Rng) {
        let health = self.health(endpoint);
        health.failures = health.failures.saturating_add(1);
        health.dial_at = Some(now + backoff.delay(health.failures, rng));
    }

    pub(super) fn link(&mut self, id: ConnectionId) -> Option<(SlotKey, &mut Link)> {
        let key = *self.by_connection.get(&id)?;
        let link = self.slots.get_mut(&key)?.link.as_mut()?;
        Some((key, link))
    }

    /// Takes the connection out of its slot.
    pub(super) fn unlink(&mut self, id: ConnectionId) -> Option<(SlotKey, Link)> {
        let key = self.by_connection.remove(&id)?;
        let link = self.slots.get_mut(&key)?.link.take()?;
        self.past.add(key.endpoint, link.connection.traffic());
        Some((key, link))
    }

    pub(super) fn next_id(&mut self) -> ConnectionId {
        self.next_connection += 1;
        self.past.dialled += 1;
        ConnectionId(self.next_connection)
    }

    /// The endpoint that should answer what anybody can: connected before not, idle before busy, a broker
    /// before a bootstrap server. `None` while all must be left alone.
    pub(super) fn choose(
        &self,
        now: Instant,
        cluster: &Cluster,
        bootstrap_servers: usize,
        rebootstraps: bool,
        rng: &mut Rng,
    ) -> Option<Endpoint> {
        // A broker that the metadata names no more is not asked for news of the others.
        let on_control = |key: &SlotKey| {
            let is_known = match key.endpoint {
                Endpoint::Broker(id) => cluster.broker(id).is_some(),
                Endpoint::Bootstrap(_) => true,
            };
            key.lane == Lane::Control && is_known
        };
        let linked = self.slots.iter().filter(|(key, _)| on_control(key)).filter_map(|(key, slot)| {
            let connection = &slot.link.as_ref()?.connection;
            let throttled = slot.throttled_until.is_some_and(|until| until > now);
            Some((
                !connection.is_ready(),
                throttled,
                connection.in_flight() + slot.waiting.len(),
                key.endpoint,
            ))
        });
        if let Some((.., endpoint)) = linked.min() {
            return Some(endpoint);
        }
        let allowed = |endpoint: &Endpoint| self.may_dial(now, *endpoint);
        let brokers: Vec<Endpoint> =
            cluster.brokers().map(|broker| Endpoint::Broker(broker.id)).filter(allowed).collect();
        // Brokers that fail are not the only hope: the bootstrap servers are asked again as soon as no
        // broker of the last metadata is in good health (KIP-899).
        let healthy = |endpoint: &&Endpoint| self.health.get(*endpoint).is_none_or(|h| h.failures == 0);
        let sound: Vec<Endpoint> = brokers.iter().filter(healthy).copied().collect();
        if !sound.is_empty() {
            return Some(sound[rng.below(sound.len())]);
        }
        // Without rebootstrap, they are asked only as long as no broker is known.
        let bootstrap_servers =
            if rebootstraps || cluster.brokers().len() == 0 { bootstrap_servers } else { 0 };
        let bootstrap = (0..bootstrap_servers).map(Endpoint::Bootstrap).filter(allowed);
        let candidates: Vec<Endpoint> = bootstrap.chain(brokers).collect();
        let is_refused =
            |endpoint: &&Endpoint| self.health.get(*endpoint).is_some_and(|h| h.refusal.is_some());
        let others: Vec<Endpoint> =
            candidates.iter().filter(|endpoint| !is_refused(endpoint)).copied().collect();
        let candidates = if others.is_empty() { candidates } else { others };
        (!candidates.is_empty()).then(|| candidates[rng.below(candidates.len())])
    }

    /// When an endpoint that must be left alone now may be dialled again, at the earliest.
    pub(super) fn next_dial(&self, now: Instant) -> Option<Instant> {
        self.health.values().filter_map(|health| health.dial_at).filter(|at| *at > now).min()
    }

    /// Names the connections to bootstrap servers after the brokers that have their addresses, so that
    /// they serve on.
    pub(super) fn adopt(&mut self, cluster: &Cluster) {
        for broker in cluster.brokers() {
            let key = SlotKey { endpoint: Endpoint::Broker(broker.id), lane: Lane::Control };
            if self.slots.get(&key).is_some_and(|slot| slot.link.is_some() || !slot.waiting.is_empty()) {
                continue;
            }
            let same = self.slots.iter().find(|(key, slot)| {
                let link = slot.link.as_ref().filter(|link| link.address == broker.address);
                matches!(key.endpoint, Endpoint::Bootstrap(_)) && link.is_some()
            });
            let Some(from) = same.map(|(key, _)| *key) else { continue };
            let Some(slot) = self.slots.remove(&from) else { continue };
            if let Some(link) = &slot.link {
                self.by_connection.insert(link.id, key);
            }
            self.slots.insert(key, slot);
        }
    }

    /// Forgets the slots that serve nobody: of brokers that are gone, of connections that were closed.
    pub(super) fn prune(&mut self, cluster: &Cluster) {
        self.slots.retain(|_, slot| {
            slot.link.is_some() || !slot.waiting.is_empty() || slot.throttled_until.is_some()
        });
        self.health.retain(|endpoint, _| match endpoint {
            Endpoint::Broker(id) => cluster.broker(*id).is_some(),
            Endpoint::Bootstrap(_) => true,
        });
    }
}

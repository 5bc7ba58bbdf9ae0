//! Calls: from a role, over a connection, back to the role.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use foldhash::{HashMap, HashMapExt as _};

use super::call::{Call, Lane, Target, is_read_only};
use super::discovery::Discovery;
use super::pool::{Endpoint, Link, Pool, SlotKey};
use super::telemetry::Telemetry;
use super::{ConnectionId, Output, Token, throttle};
use crate::cluster::{Cluster, CoordinatorKind};
use crate::config::{ClientConfig, HostPort, MetadataRecovery};
use crate::connection::{Connection, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Recent, millis};
use crate::protocol::messages::ApiKey;
use crate::protocol::request::{Request, Response};
use crate::protocol::versions::VersionTable;
use crate::security::Exchange;
use crate::time::Rng;
use crate::types::{BrokerId, LeaderEpoch, TopicPartition};

/// The most calls that may be unanswered. Roles work per broker, and admin in batches: who reaches it has
/// lost count.
const CALLS_MAX: usize = 65_536;

/// Whose call it is.
#[derive(Debug)]
pub(super) enum Purpose {
    Role,
    Metadata,
    FindCoordinator(CoordinatorKind, Arc<str>),
    Telemetry,
}

/// What a role may use: calls to brokers, and what is known of the cluster.
pub struct Core {
    pub(super) config: Arc<ClientConfig>,
    pub(super) cluster: Cluster,
    pub(super) discovery: Discovery,
    pub(super) rng: Rng,
    pub(super) telemetry: Option<Telemetry>,
    /// An instant, and what time it was then, in nanoseconds since 1970.
    pub(super) wall_clock: Option<(Instant, u64)>,
    /// What brokers asked for in their answers, in milliseconds.
    pub(super) throttle_time: Recent,
    pool: Pool,
    client_id: Arc<str>,
    /// Every call without an answer.
    open: HashMap<Token, Purpose>,
    /// Those of them that have not been sent.
    calls: BTreeMap<Token, Call>,
    /// Those of them that no connection has been chosen for.
    unrouted: VecDeque<Token>,
    /// When to look for a broker again for those of them that any can answer.
    route_at: Option<Instant>,
    answers: VecDeque<(Token, Result<Response>)>,
    outputs: VecDeque<Output>,
    next_token: u64,
    /// Why the last dial failed, until one succeeds.
    connect_error: Option<Error>,
    progress: bool,
    seen_generation: u64,
}

impl Core {
    pub(crate) fn new(now: Instant, config: &ClientConfig, seed: u64) -> Self {
        Self {
            config: Arc::new(config.clone()),
            cluster: Cluster::default(),
            discovery: Discovery::new(now),
            rng: Rng::new(seed),
            telemetry: config.enable_metrics_push.then(|| Telemetry::new(now)),
            wall_clock: None,
            throttle_time: Recent::default(),
            pool: Pool::new(),
            client_id: config.client_id.as_str().into(),
            open: HashMap::new(),
            calls: BTreeMap::new(),
            unrouted: VecDeque::new(),
            route_at: None,
            answers: VecDeque::new(),
            outputs: VecDeque::new(),
            next_token: 0,
            connect_error: None,
            progress: false,
            seen_generation: 0,
        }
    }

    /// Asks `to`. The answer comes through [`Role::handle_response`](super::Role::handle_response), once,
    /// unless the call is cancelled.
    ///
    /// `timeout` counts twice: the call may wait so long to be sent, and its answer may then take so long.
    /// An answer that is overdue ends the connection, as in Java: nothing else tells a slow broker from a
    /// dead line. A dial that fails fails the calls to that broker; those to any broker, the controller or
    /// a coordinator look for another.
    pub fn call(&mut self, now: Instant, to: Target, request: Box<dyn Request>, timeout: Duration) -> Token {
        self.call_for(now, Purpose::Role, to, request, timeout)
    }

    pub(super) fn call_for(
        &mut self,
        now: Instant,
        purpose: Purpose,
        target: Target,
        request: Box<dyn Request>,
        timeout: Duration,
    ) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        let full = self.open.len() >= CALLS_MAX;
        self.open.insert(token, purpose);
        if full {
            let text = format!("call a broker while {CALLS_MAX} calls are unanswered");
            self.answer(now, token, Err(Error::new(ErrorKind::Usage, text)));
            return token;
        }
        let call = Call { target, api: request.api(), timeout, send_by: now + timeout, request };
        self.calls.insert(token, call);
        self.unrouted.push_back(token);
        token
    }

    /// Forgets a call: it is not sent any more, or its answer is not waited for. No answer comes.
    pub fn cancel(&mut self, token: Token) {
        self.open.remove(&token);
        self.calls.remove(&token);
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What is known of the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The settings.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Random numbers of the engine's seed.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// How long to wait before a request is repeated that has failed so often in a row (`retry.backoff.ms`).
    pub fn retry_delay(&mut self, failures: u32) -> Duration {
        self.config.retry_backoff.delay(failures, &mut self.rng)
    }

    /// Why the last dial failed, until one succeeds; the reason to give when something did not happen in
    /// its time. When it is not [retriable](Error::is_retriable), waiting will not help.
    pub fn connect_error(&self) -> Option<&Error> {
        self.connect_error.as_ref()
    }

    /// Which versions and features a broker has, while one of its connections is up.
    pub fn versions(&self, broker: BrokerId) -> Option<&VersionTable> {
        let lanes = [Lane::Control, Lane::Coordinator, Lane::Data, Lane::Fetch, Lane::Membership];
        lanes.into_iter().find_map(|lane| {
            let slot = self.pool.slots.get(&SlotKey { endpoint: Endpoint::Broker(broker), lane })?;
            slot.link.as_ref()?.connection.versions()
        })
    }

    /// The coordinator has changed, as an answer said (`NOT_COORDINATOR`): it is looked up again by the
    /// next call to it.
    pub fn forget_coordinator(&mut self, kind: CoordinatorKind, key: &Arc<str>) {
        self.cluster.forget_coordinator(kind, key);
    }

    /// A broker told who leads a partition now (KIP-951). Older news, and leaders that are not known, are
    /// passed over. Whether it was news.
    pub fn learn_leader(&mut self, partition: &TopicPartition, leader: BrokerId, epoch: LeaderEpoch) -> bool {
        self.cluster.update_leader(partition, leader, epoch)
    }

    /// A broker asks for a pause (`throttle_time_ms`) in an answer whose layout the core does not know:
    /// Produce. Shortened to 5 minutes.
    pub fn throttle(&mut self, now: Instant, broker: BrokerId, lane: Lane, pause: Duration) {
        self.pause(now, SlotKey { endpoint: Endpoint::Broker(broker), lane }, pause.min(throttle::LONGEST));
    }

    /// Leaves a connection alone. Its broker does not read it meanwhile (KIP-219): what is in flight is answered as
    /// much later.
    fn pause(&mut self, now: Instant, key: SlotKey, pause: Duration) {
        self.throttle_time.record(now, millis(pause));
        if pause.is_zero() {
            return;
        }
        let slot = self.pool.slot(key);
        slot.throttled_until = Some(now + pause);
        if let Some(link) = &mut slot.link {
            link.connection.put_off(pause);
        }
    }

    pub(super) fn handle_connected(&mut self, now: Instant, id: ConnectionId) {
        let Some((key, _)) = self.pool.link(id) else { return };
        let version = self.pool.health(key.endpoint).question_version;
        let Some((_, link)) = self.pool.link(id) else { return };
        match link.connection.start(now, version) {
            Ok(chunks) => self.outputs.push_back(Output::Transmit { connection: id, chunks, confirm: None }),
            Err(error) => self.close(now, id, error),
        }
    }

    pub(super) fn handle_bytes(&mut self, now: Instant, id: ConnectionId, buffer: &mut BytesMut) -> usize {
        let Some((key, link)) = self.pool.link(id) else {
            // It was closed while these bytes were on their way.
            buffer.clear();
            return 1;
        };
        let mut events = Vec::new();
        let result = link.connection.handle_bytes(now, buffer, &mut events);
        for event in events {
            match event {
                Event::Ready => self.connection_ready(id, key),
                Event::Login => self.outputs.push_back(self.login(id)),
                Event::Transmit(chunks) => {
                    self.outputs.push_back(Output::Transmit { connection: id, chunks, confirm: None });
                }
                Event::Response(token, response) => {
                    if let Some(pause) = throttle::throttle_time(&response) {
                        self.pause(now, key, pause);
                    }
                    self.answer(now, token, Ok(response));
                }
            }
        }
        match result {
            Ok(missing) => missing,
            Err(error) => {
                self.close(now, id, error);
                buffer.clear();
                1
            }
        }
    }

    fn login(&self, connection: ConnectionId) -> Output {
        Output::Login { connection, timeout: self.config.connection_setup_timeout }
    }

    pub(super) fn handle_login(&mut self, now: Instant, id: ConnectionId, credentials: Result<Exchange>) {
        let Some((_, link)) = self.pool.link(id) else { return };
        match credentials.and_then(|exchange| link.connection.authenticate(now, exchange)) {
            Ok(chunks) => self.outputs.push_back(Output::Transmit { connection: id, chunks, confirm: None }),
            Err(error) => self.close(now, id, error),
        }
    }

    fn connection_ready(&mut self, id: ConnectionId, key: SlotKey) {
        let Some((_, link)) = self.pool.link(id) else { return };
        let question_version = link.connection.question_version();
        let health = self.pool.health(key.endpoint);
        health.failures = 0;
        health.dial_at = None;
        health.refusal = None;
        health.question_version = question_version.unwrap_or(health.question_version);
        self.connect_error = None;
        self.progress = true;
    }

    pub(super) fn handle_transmitted(&mut self, now: Instant, id: ConnectionId, token: Token) {
        let Some((_, link)) = self.pool.link(id) else { return };
        if let Some(response) = link.connection.transmitted(token) {
            self.answer(now, token, Ok(response));
        }
    }

    /// Closes a connection from this side.
    fn close(&mut self, now: Instant, id: ConnectionId, error: Error) {
        self.outputs.push_back(Output::Close { connection: id });
        self.handle_disconnected(now, id, error);
    }

    pub(super) fn close_all(&mut self, now: Instant, error: &Error) {
        let open: Vec<ConnectionId> = self.pool.by_connection.keys().copied().collect();
        for id in open {
            self.close(now, id, error.clone());
        }
    }

    pub(super) fn handle_disconnected(&mut self, now: Instant, id: ConnectionId, error: Error) {
        let Some((key, link)) = self.pool.unlink(id) else { return };
        let backoff = self.config.reconnect_backoff;
        self.pool.failed(now, key.endpoint, backoff, &mut self.rng);
        let error = describe(key, &link, error);
        tracing::debug!(%error, "disconnected");
        let was_ready = link.connection.is_ready();
        for lost in link.connection.abandon() {
            let overdue = lost.deadline <= now;
            let kind = if overdue { ErrorKind::Timeout } else { ErrorKind::Network };
            let attempted =
                if overdue { "no answer in time" } else { "the connection ended before the answer" };
            let mut failure = Error::new(kind, attempted).with_api(lost.api.name()).with_cause(error.clone());
            if let Endpoint::Broker(broker) = key.endpoint {
                failure = failure.with_broker(broker);
            }
            if !is_read_only(lost.api) {
                failure = failure.with_possibly_written();
            }
            self.answer(now, lost.token, Err(failure));
        }
        if !was_ready {
            self.dial_failed(now, key, error);
        }
        if let Endpoint::Broker(broker) = key.endpoint {
            self.cluster.forget_coordinators_on(broker);
            self.request_metadata(now);
        }
        self.progress = true;
    }

    /// Finds another way for the calls that waited for a connection, or fails them.
    ///
    /// A server that cannot be believed or understood may be one bad name in a list: others are asked before anybody
    /// hears of it. Wrong credentials are wrong everywhere.
    fn dial_failed(&mut self, now: Instant, key: SlotKey, error: Error) {
        let is_final = error.kind() == ErrorKind::Authentication
            || !error.is_retriable() && {
                self.pool.health(key.endpoint).refusal = Some(error.clone());
                self.pool.all_refused(&self.cluster, self.config.bootstrap_servers.len())
            };
        let waiting = std::mem::take(&mut self.pool.slot(key).waiting);
        for token in waiting {
            let Some(call) = self.calls.get(&token) else { continue };
            let elsewhere = match call.target {
                Target::Any => !is_final,
                Target::Broker { .. } => false,
                Target::Controller | Target::Coordinator { .. } => error.is_retriable(),
            };
            if elsewhere {
                self.unrouted.push_back(token);
            } else {
                self.calls.remove(&token);
                self.answer(now, token, Err(error.clone()));
            }
        }
        if is_final || error.is_retriable() {
            self.connect_error = Some(error);
        } else {
            tracing::warn!(%error, "this server is passed over while there are others");
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.expire_waiting(now);
        self.expire_connections(now);
    }

    fn expire_waiting(&mut self, now: Instant) {
        let late: Vec<Token> =
            self.calls.iter().filter(|(_, call)| call.send_by <= now).map(|(token, _)| *token).collect();
        for token in late {
            let Some(call) = self.calls.remove(&token) else { continue };
            let text =
                format!("not sent within {} ms: {}", call.timeout.as_millis(), self.obstacle(&call.target));
            let mut error = Error::new(ErrorKind::Timeout, text).with_api(call.api.name());
            if let Some(cause) = self.pool.a_refusal().or(self.connect_error.as_ref()) {
                error = error.with_cause(cause.clone());
            }
            self.answer(now, token, Err(error));
        }
        if self.calls.is_empty() {
            self.unrouted.clear();
        }
    }

    fn obstacle(&self, target: &Target) -> String {
        match target {
            Target::Any => "no broker could be reached".to_owned(),
            Target::Controller => "the controller is not known or could not be reached".to_owned(),
            Target::Broker { id, .. } if self.cluster.broker(*id).is_none() => {
                format!("metadata names no broker {id}")
            }
            Target::Broker { id, .. } => format!("broker {id} could not be reached"),
            Target::Coordinator { key, .. } => {
                format!("the coordinator of {key:?} is not known or could not be reached")
            }
        }
    }

    fn expire_connections(&mut self, now: Instant) {
        let max_idle = self.config.connections_max_idle;
        let due: Vec<(ConnectionId, bool)> = self
            .pool
            .slots
            .values()
            .filter_map(|slot| slot.link.as_ref())
            .filter(|link| link.connection.deadline(max_idle).is_some_and(|deadline| deadline <= now))
            .map(|link| (link.id, link.connection.is_ready() && link.connection.in_flight() == 0))
            .collect();
        for (id, idle) in due {
            if idle {
                self.pool.unlink(id);
                self.outputs.push_back(Output::Close { connection: id });
            } else {
                self.close(now, id, Error::new(ErrorKind::Timeout, "a request was not answered in time"));
            }
        }
        self.pool.prune(&self.cluster);
    }

    /// Routes, dials and sends what can be; called after every input.
    pub(super) fn advance(&mut self, now: Instant) {
        self.ask_about_figures(now);
        // Routing finds out what must be looked up, and a lookup is a call to be routed.
        self.route_all(now);
        while self.discover(now) {
            self.route_all(now);
        }
        let keys: Vec<SlotKey> = self
            .pool
            .slots
            .iter()
            .filter(|(_, slot)| !slot.waiting.is_empty())
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.serve(now, key);
        }
        if self.cluster.generation() != self.seen_generation {
            self.seen_generation = self.cluster.generation();
            self.progress = true;
        }
    }

    /// Asks which figures the cluster wants, once somebody can be asked.
    fn ask_about_figures(&mut self, now: Instant) {
        let Some(telemetry) = self.telemetry.as_mut().filter(|telemetry| telemetry.wants_to_ask(now)) else {
            return;
        };
        if self.pool.offers(ApiKey::GetTelemetrySubscriptions)
            && let Some(request) = telemetry.ask(now)
        {
            let timeout = self.config.request_timeout;
            self.call_for(now, Purpose::Telemetry, Target::Any, request, timeout);
        }
    }

    fn route_all(&mut self, now: Instant) {
        self.route_at = None;
        for _ in 0..self.unrouted.len() {
            let Some(token) = self.unrouted.pop_front() else { return };
            let Some(call) = self.calls.get(&token) else { continue };
            let (target, api) = (call.target.clone(), call.api);
            match self.route(now, &target, api) {
                Some(key) => self.pool.slot(key).waiting.push_back(token),
                None => {
                    self.unrouted.push_back(token);
                    if target == Target::Any {
                        self.route_at = self.pool.next_dial(now);
                    }
                }
            }
        }
    }

    /// Which connection serves `target`; `None` while that is not known, and is being found out.
    fn route(&mut self, now: Instant, target: &Target, api: ApiKey) -> Option<SlotKey> {
        let (endpoint, lane) = match target {
            Target::Any => {
                let servers = self.config.bootstrap_servers.len();
                let rebootstraps = self.config.metadata_recovery == MetadataRecovery::Rebootstrap;
                let chosen = self.pool.choose(now, &self.cluster, servers, rebootstraps, &mut self.rng);
                (chosen?, Lane::Control)
            }
            Target::Controller => match self.cluster.controller() {
                Some(id) => (Endpoint::Broker(id), Lane::Control),
                None => {
                    self.request_metadata(now);
                    return None;
                }
            },
            Target::Broker { id, lane } => {
                if self.cluster.broker(*id).is_none() {
                    self.request_metadata(now);
                    return None;
                }
                (Endpoint::Broker(*id), *lane)
            }
            Target::Coordinator { kind, key } => match self.cluster.coordinator(*kind, key) {
                Some(id) => (Endpoint::Broker(id), Lane::to_coordinator(api)),
                None => {
                    self.find_coordinator(now, *kind, key);
                    return None;
                }
            },
        };
        Some(SlotKey { endpoint, lane })
    }

    /// Sends what waits for a slot, or dials.
    fn serve(&mut self, now: Instant, key: SlotKey) {
        let Some(slot) = self.pool.slots.get_mut(&key) else { return };
        let calls = &self.calls;
        slot.waiting.retain(|token| calls.contains_key(token));
        if slot.waiting.is_empty() {
            return;
        }
        slot.throttled_until = slot.throttled_until.filter(|until| *until > now);
        if slot.link.is_none() {
            self.dial(now, key);
            return;
        }
        if slot.throttled_until.is_some() {
            return;
        }
        let Some(link) = slot.link.as_mut().filter(|link| link.connection.is_ready()) else { return };
        if link.connection.renew(now) {
            let id = link.id;
            self.outputs.push_back(self.login(id));
            return;
        }
        let mut failed = Vec::new();
        while let Some(token) = slot.waiting.pop_front() {
            let Some(call) = self.calls.remove(&token) else { continue };
            match link.connection.send(now, token, &*call.request, call.timeout) {
                Ok(chunks) => {
                    let confirm = (!call.request.expects_response()).then_some(token);
                    self.outputs.push_back(Output::Transmit { connection: link.id, chunks, confirm });
                }
                Err(error) => failed.push((token, error)),
            }
        }
        for (token, mut error) in failed {
            if let Endpoint::Broker(broker) = key.endpoint {
                error = error.with_broker(broker);
            }
            self.answer(now, token, Err(error));
        }
    }

    fn dial(&mut self, now: Instant, key: SlotKey) {
        if self.pool.dial_at(key.endpoint).is_some_and(|at| at > now) {
            return;
        }
        let Some(address) = self.address(key.endpoint) else {
            // The broker left the metadata: its calls look for it anew.
            let waiting = std::mem::take(&mut self.pool.slot(key).waiting);
            self.unrouted.extend(waiting);
            return;
        };
        let id = self.pool.next_id();
        let renewal_permille = 850 + self.rng.below(101) as u32;
        let connection = Connection::new(now, &self.config, Arc::clone(&self.client_id), renewal_permille);
        self.pool.by_connection.insert(id, key);
        self.pool.slot(key).link = Some(Link { id, address: address.clone(), connection });
        let timeout = self.setup_timeout(key.endpoint);
        self.outputs.push_back(Output::Dial { connection: id, address, timeout });
    }

    /// Doubles with each failure: a line that is slow, and not dead, gets its connection in the end (KIP-601).
    fn setup_timeout(&mut self, endpoint: Endpoint) -> Duration {
        let (first, longest) =
            (self.config.connection_setup_timeout, self.config.connection_setup_timeout_max);
        let doublings = self.pool.health(endpoint).failures.min(16);
        first.saturating_mul(1 << doublings).min(longest.max(first))
    }

    fn address(&self, endpoint: Endpoint) -> Option<HostPort> {
        match endpoint {
            Endpoint::Broker(id) => self.cluster.broker(id).map(|broker| broker.address.clone()),
            Endpoint::Bootstrap(index) => self.config.bootstrap_servers.get(index).cloned(),
        }
    }

    /// Gives the one answer of a call to whoever made it.
    pub(super) fn answer(&mut self, now: Instant, token: Token, result: Result<Response>) {
        match self.open.remove(&token) {
            None => {}
            Some(Purpose::Role) => self.answers.push_back((token, result)),
            Some(Purpose::Metadata) => self.handle_metadata(now, result),
            Some(Purpose::FindCoordinator(kind, key)) => self.handle_coordinator(now, kind, key, result),
            Some(Purpose::Telemetry) => {
                if let Some(telemetry) = &mut self.telemetry {
                    telemetry.answered(now, result, &mut self.rng);
                }
            }
        }
    }

    /// Whether a call waits for this target.
    pub(super) fn is_wanted(&self, target: &Target) -> bool {
        self.calls.values().any(|call| call.target == *target)
    }

    /// Fails the calls that wait for something that will not come.
    pub(super) fn fail_unrouted(&mut self, now: Instant, error: &Error, which: impl Fn(&Target) -> bool) {
        for token in std::mem::take(&mut self.unrouted) {
            match self.calls.get(&token) {
                Some(call) if which(&call.target) => {
                    self.calls.remove(&token);
                    self.answer(now, token, Err(error.clone()));
                }
                _ => self.unrouted.push_back(token),
            }
        }
    }

    /// The brokers may have other addresses now: connections to the old ones end when they are idle, and
    /// bootstrap connections go on under the broker's name.
    pub(super) fn brokers_changed(&mut self) {
        self.pool.adopt(&self.cluster);
        self.pool.prune(&self.cluster);
    }

    pub(super) fn next_answer(&mut self) -> Option<(Token, Result<Response>)> {
        self.answers.pop_front()
    }

    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let max_idle = self.config.connections_max_idle;
        let slots = self.pool.slots.iter().flat_map(|(key, slot)| {
            let waits = !slot.waiting.is_empty();
            let dial = if waits && slot.link.is_none() { self.pool.dial_at(key.endpoint) } else { None };
            let resume = slot.throttled_until.filter(|_| waits);
            let deadline = slot.link.as_ref().and_then(|link| link.connection.deadline(max_idle));
            [dial, resume, deadline]
        });
        let calls = self.calls.values().map(|call| Some(call.send_by));
        let telemetry = self.telemetry.as_ref().and_then(|telemetry| {
            telemetry.poll_timeout(!self.pool.offers(ApiKey::GetTelemetrySubscriptions))
        });
        slots.chain(calls).chain([self.route_at, self.discovery.poll_timeout(), telemetry]).flatten().min()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("open", &self.open.len())
            .field("waiting", &self.calls.len())
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Says which connection failed, where the error does not say it yet.
fn describe(key: SlotKey, link: &Link, error: Error) -> Error {
    let stage = if link.connection.is_ready() {
        "connection to"
    } else if link.connection.is_negotiating() {
        "negotiate versions with"
    } else if link.connection.is_authenticating() {
        "authenticate to"
    } else {
        "connect to"
    };
    let who = match key.endpoint {
        Endpoint::Broker(id) => format!("{stage} broker {id} ({})", link.address),
        Endpoint::Bootstrap(_) => format!("{stage} {}", link.address),
    };
    let silent = link.connection.is_negotiating() && error.is_retriable() && error.hint().is_none();
    let unheard = link.connection.is_unheard() && error.is_retriable() && error.hint().is_none();
    let described = Error::new(error.kind(), who).with_cause(error);
    if unheard {
        described.with_hint("if it stays so, this listener may want SASL: check security.protocol")
    } else if silent {
        described.with_hint(
            "if it stays so, no Kafka listener has this port, or it speaks TLS or SASL: check bootstrap.servers \
             and security.protocol",
        )
    } else {
        described
    }
}

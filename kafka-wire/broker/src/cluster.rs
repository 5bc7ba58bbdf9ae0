//! The cluster as a value: requests and time in, answers out.
//!
//! Call `handle_*`, then [`Cluster::poll_output`] until it is empty, then [`Cluster::poll_timeout`].
//! Inside is no socket, clock, thread or random source; with a data folder there are files.

mod authentication;
mod commands;
mod connection;
mod contents;
mod members;
mod replicas;
mod restore;
mod shares;
mod telemetry;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::protocol::header::read_request;
use kafka_wire::{ErrorCode, TopicId};

use crate::api::fetch::Pending;
use crate::api::{self, Answer, Context};
use crate::authorizer::Authorizer;
use crate::batch::end_marker;
use crate::config_table::Table;
use crate::error::{Failure, fail};
use crate::faults::{Action, Asked, Fault, Faults};
use crate::features::Features;
use crate::groups::Groups;
use crate::journal::{Entry, Journal};
use crate::options::Options;
use crate::quotas::Quotas;
use crate::sasl::jwks::Jwks;
use crate::sessions::FetchSessions;
use crate::setting::ConfigOwner;
use crate::shares::Shares;
use crate::tokens::Tokens;
use crate::topic_config::TopicConfig;
use crate::topics::{Topics, check_name};
use crate::transactions::{Completion, Transactions};
use crate::users::Users;

use self::connection::Connection;
pub use self::connection::Peer;
pub(crate) use self::connection::millis;
pub use self::contents::StoredRecord;
pub(crate) use self::members::GROUP;
pub use self::telemetry::PushedMetrics;

/// How often the size of partitions is looked at: memory is short sooner than disks.
const RETENTION_INTERVAL: Duration = Duration::from_secs(1);
/// How often the age of records is looked at, as `log.retention.check.interval.ms`. Records that tests stamp
/// with small timestamps live that long.
const AGE_INTERVAL: Duration = Duration::from_secs(300);

/// Partitions of a topic at most.
pub(crate) const PARTITIONS_MAX: i32 = 100_000;

/// How often topics are looked at for compaction (`log.cleaner.backoff.ms`).
const COMPACTION_INTERVAL: Duration = Duration::from_secs(15);

/// The time of a call: both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For timestamps: milliseconds since 1970.
    pub unix_ms: i64,
}

/// A client's connection to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What is to be done with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this frame, in pieces, its length first; then the next request may be handled.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// The frame.
        frame: Vec<Bytes>,
    },
    /// The request is not answered (`acks=0`); the next one may be handled.
    Continue {
        /// Whose request it was.
        connection: ConnectionId,
    },
    /// Close it.
    Close {
        /// Which.
        connection: ConnectionId,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `broker.rack`.
    pub(crate) rack: Option<String>,
    pub(crate) is_up: bool,
    /// Whether it hangs: connections stay, and nothing is answered.
    pub(crate) is_paused: bool,
    /// Whether the cluster counts on it, up or not.
    pub(crate) is_registered: bool,
}

/// A request that is not answered yet; a connection has at most one, as in Kafka.
#[derive(Debug)]
struct Parked {
    until: Option<Instant>,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    /// A fetch, for records or its deadline.
    Fetch(Context, Box<Pending>),
    /// A fault delays the request.
    Request(Bytes),
    /// A member of a group, for its group's decision; what a fault does to the answer.
    Group(Context, Option<Action>),
    /// A share fetch, for records or its deadline.
    SharedFetch(Context, Box<api::share_fetch::Pending>),
    /// The connection pauses, or its node hangs: the request is not looked at yet.
    Unheard(Bytes),
    /// A fault delays the answer.
    Answer(Option<Vec<Bytes>>),
    /// A fault swallowed the request.
    Forever,
    /// The connection is one too many.
    Close,
}

/// A cluster of embedded brokers.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) options: Options,
    pub(crate) cluster_id: String,
    pub(crate) nodes: BTreeMap<i32, Node>,
    pub(crate) topics: Topics,
    pub(crate) transactions: Transactions,
    pub(crate) groups: Groups,
    pub(crate) shares: Shares,
    pub(crate) sessions: FetchSessions,
    pub(crate) faults: Faults,
    /// Shared with the requests that wait.
    pub(crate) authorizer: Arc<Authorizer>,
    /// What is set on resources other than topics.
    pub(crate) configs: BTreeMap<ConfigOwner, BTreeMap<String, String>>,
    pub(crate) quotas: Quotas,
    pub(crate) users: Users,
    pub(crate) tokens: Tokens,
    /// The public keys of who issues tokens of OAUTHBEARER.
    jwks: Jwks,
    pub(crate) features: Features,
    /// What clients have pushed.
    metrics: VecDeque<PushedMetrics>,
    /// Reassignments that are held, with the nodes that partitions are to have.
    pub(crate) reassignments: BTreeMap<(String, i32), Vec<i32>>,
    holds_reassignments: bool,
    /// The node that is the controller.
    pub(crate) controller: i32,
    /// Raised whenever another one becomes it.
    pub(crate) controller_epoch: i32,
    /// APIs that are served in other versions than by default, or not at all.
    pub(crate) api_versions: BTreeMap<i16, Option<(i16, i16)>>,
    /// How many requests came in, by API.
    requests: BTreeMap<i16, u64>,
    /// How many facts were written down since the start.
    pub(crate) facts_recorded: i64,
    /// Coordinators that were moved, by key type and key.
    coordinators: BTreeMap<(i8, String), i32>,
    connections: BTreeMap<ConnectionId, Connection>,
    parked: BTreeMap<ConnectionId, Parked>,
    output: VecDeque<Output>,
    journal: Journal,
    /// Held while this cluster owns its folder.
    lock: Option<File>,
    /// Why the disk cannot be trusted any more: nothing is acknowledged from then on.
    broken: Option<String>,
    /// Partitions whose readers may have something to read now.
    grown: Vec<(Arc<str>, i32)>,
    seed: u64,
    /// Of this run, where `seed` is of the cluster; never written down.
    run_seed: u64,
    names_made: u64,
    topics_created: u64,
    next_connection: u64,
    next_retention: Instant,
    next_age_check: Instant,
    next_compaction: Instant,
}

impl Cluster {
    /// Notes where a node can be reached, for the clients.
    pub fn set_address(&mut self, node: i32, host: impl Into<String>, port: u16) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.host = host.into();
            node.port = port;
        }
    }

    /// Where a node is (`broker.rack`), as clients are told; nowhere in particular by default.
    pub fn set_rack(&mut self, node: i32, rack: impl Into<String>) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.rack = Some(rack.into());
        }
    }

    /// Whether the node runs; a stopped one takes no connections.
    pub fn is_up(&self, node: i32) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.is_up)
    }

    /// A client connected to `node`, from this machine and without a certificate.
    pub fn handle_connected(&mut self, node: i32) -> ConnectionId {
        self.handle_connected_from(node, Peer::default())
    }

    /// A client connected to `node`.
    pub fn handle_connected_from(&mut self, node: i32, peer: Peer) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let session = self.new_session();
        self.connections.insert(connection, Connection::new(node, peer, session));
        connection
    }

    /// A client is gone.
    pub fn handle_disconnected(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.parked.remove(&connection);
        self.close_share_sessions(connection);
    }

    /// A request, without its length. The next one of the same connection has to wait for this one's output.
    pub fn handle_request(&mut self, now: Now, connection: ConnectionId, frame: Bytes) {
        self.receive(now, connection, frame, true);
        self.settle(now);
    }

    /// Time passed: to be called at [`Cluster::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        let due: Vec<ConnectionId> = self
            .parked
            .iter()
            .filter(|(_, parked)| parked.until.is_some_and(|until| until <= now.instant))
            .map(|(&connection, _)| connection)
            .collect();
        for connection in due {
            match self.parked.remove(&connection).map(|parked| parked.wait) {
                Some(Wait::Fetch(context, pending)) => {
                    let answer = api::fetch::complete(self, &context, &pending);
                    self.deliver(now, &context, answer, None);
                }
                Some(Wait::SharedFetch(context, pending)) => {
                    let answer = api::share_fetch::give_up(self, &context, &pending);
                    self.deliver(now, &context, answer, None);
                }
                Some(Wait::Request(frame)) => self.receive(now, connection, frame, false),
                Some(Wait::Unheard(frame)) => self.receive(now, connection, frame, true),
                Some(Wait::Answer(frame)) => self.send(connection, frame),
                Some(Wait::Close) => self.close(connection),
                Some(Wait::Forever | Wait::Group(..)) | None => {}
            }
        }
        self.apply_retention(now);
        self.settle(now);
    }

    /// What is to be sent or closed.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// When [`Cluster::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let parked = self.parked.values().filter_map(|parked| parked.until).min();
        let retention = self.topics.iter().next().map(|_| self.next_retention);
        let (transactions, groups) = (self.transactions.poll_timeout(), self.groups.poll_timeout());
        [parked, transactions, groups, self.shares.poll_timeout(), retention].into_iter().flatten().min()
    }

    fn receive(&mut self, now: Now, connection: ConnectionId, frame: Bytes, judge: bool) {
        let Some(from) = self.connections.get(&connection) else { return };
        let node = from.node;
        if self.is_paused(node) {
            return self.park(connection, None, Wait::Unheard(frame));
        }
        if let Some(until) = self.refused_until(now, connection) {
            return self.park(connection, Some(until), Wait::Close);
        }
        if let Some(until) = self.muted_until(now, connection) {
            return self.park(connection, Some(until), Wait::Unheard(frame));
        }
        let request = match read_request(&frame) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, node, "a request cannot be read, its connection is closed");
                return self.close(connection);
            }
        };
        *self.requests.entry(request.api as i16).or_default() += u64::from(judge);
        if !self.may_ask(now, connection, request.api) {
            tracing::info!(api = ?request.api, node, "a client that is not known (any more) is closed");
            return self.close(connection);
        }
        let fault = if judge && !self.faults.is_empty() {
            let names = if self.faults.need_names() { api::named(self, &request) } else { Vec::new() };
            let client_id = request.client_id.as_deref();
            let group = if self.faults.need_group() { api::group_of(&request) } else { None };
            let group = group.as_deref();
            self.faults.judge(Asked { node, api: request.api, client_id, group }, &names)
        } else {
            None
        };
        let (injected, action) = match fault {
            Some(Fault::Inject(injected)) => (Some(injected), None),
            Some(Fault::Other(action)) => (None, Some(action)),
            None => (None, None),
        };
        match action {
            Some(Action::Disconnect) => return self.close(connection),
            Some(Action::Ignore) => return self.park(connection, None, Wait::Forever),
            Some(Action::Delay(delay)) => {
                return self.park(connection, Some(now.instant + delay), Wait::Request(frame));
            }
            _ => {}
        }
        let Some(mut context) = self.context(now, connection, &request, injected) else { return };
        let action = match action {
            Some(Action::Throttle(pause)) => {
                self.throttle(&context, pause);
                None
            }
            Some(Action::CorruptRecords) => {
                context.corrupts_records = true;
                None
            }
            action => action,
        };
        self.charge_request(&context);
        let answer = api::handle(self, &context, request);
        self.deliver(now, &context, answer, action);
    }

    /// Hands on an answer, unless a fault on the request says otherwise.
    fn deliver(&mut self, now: Now, context: &Context, answer: Answer, action: Option<Action>) {
        let connection = context.connection;
        let mut frame = match answer {
            Answer::Send(frame) => Some(frame),
            Answer::Nothing => None,
            Answer::Close => return self.close(connection),
            Answer::Await if action == Some(Action::ApplyThenDisconnect) => return self.close(connection),
            Answer::Await => return self.park(connection, None, Wait::Group(context.clone(), action)),
            Answer::WaitShared(pending) if action.is_none() => {
                let until = Some(pending.deadline);
                return self.park(connection, until, Wait::SharedFetch(context.clone(), pending));
            }
            Answer::WaitShared(pending) => match api::share_fetch::give_up(self, context, &pending) {
                Answer::Send(frame) => Some(frame),
                _ => return self.close(connection),
            },
            Answer::Wait(pending) if action.is_none() => {
                let until = Some(pending.deadline);
                return self.park(connection, until, Wait::Fetch(context.clone(), pending));
            }
            // With a fault on it a fetch is answered at once: its answer is lost or late anyway.
            Answer::Wait(pending) => match api::fetch::complete(self, context, &pending) {
                Answer::Send(frame) => Some(frame),
                _ => return self.close(connection),
            },
        };
        self.begin_pause(now, context, frame.as_deref_mut().unwrap_or_default());
        if action == Some(Action::Corrupt) {
            connection::corrupt(frame.as_deref_mut().unwrap_or_default());
        }
        match action {
            Some(Action::ApplyThenDisconnect) => self.close(connection),
            Some(Action::ApplyThenDelay(delay)) => {
                self.park(connection, Some(now.instant + delay), Wait::Answer(frame));
            }
            _ => self.send(connection, frame),
        }
    }

    fn park(&mut self, connection: ConnectionId, until: Option<Instant>, wait: Wait) {
        self.parked.insert(connection, Parked { until, wait });
    }

    fn send(&mut self, connection: ConnectionId, frame: Option<Vec<Bytes>>) {
        if self.connections.get(&connection).is_some_and(|from| self.is_paused(from.node)) {
            return self.park(connection, None, Wait::Answer(frame));
        }
        self.output.push_back(match frame {
            Some(frame) => Output::Send { connection, frame },
            None => Output::Continue { connection },
        });
        if self.connections.get(&connection).is_some_and(|connection| connection.closes) {
            self.close(connection);
        }
    }

    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.handle_disconnected(connection);
        self.output.push_back(Output::Close { connection });
    }

    /// Brings everything to rest after a change: transactions complete, readers wake, disks are in step.
    fn settle(&mut self, now: Now) {
        self.expire_transactions(now);
        self.write_due_markers(now);
        self.settle_groups(now);
        self.save_members();
        let touched = std::mem::take(&mut self.grown);
        if !touched.is_empty() {
            self.wake_fetches(now, &touched);
        }
        self.settle_shares(now, !touched.is_empty());
        if self.options.fsync {
            self.sync(&touched);
        }
        if self.journal.is_bloated() {
            self.rewrite_journal();
        }
        if self.broken.is_some() {
            // What was answered in this round may not be on the disk: nobody is to believe it.
            for output in &mut self.output {
                if let Output::Send { connection, .. } | Output::Continue { connection } = *output {
                    *output = Output::Close { connection };
                }
            }
        }
    }

    fn sync(&mut self, touched: &[(Arc<str>, i32)]) {
        let mut result = self.journal.sync();
        for (topic, partition) in touched {
            if let Some(partition) = self.topics.partition_mut(topic, *partition) {
                result = result.and_then(|()| partition.log.sync());
            }
        }
        if let Err(error) = result {
            self.give_up("fsync", &error);
        }
    }

    fn wake_fetches(&mut self, now: Now, touched: &[(Arc<str>, i32)]) {
        let ready: Vec<ConnectionId> = self
            .parked
            .iter()
            .filter(|(_, parked)| match &parked.wait {
                Wait::Fetch(context, pending) => {
                    pending.reads_any(touched) && api::fetch::is_ready(self, context, pending)
                }
                _ => false,
            })
            .map(|(&connection, _)| connection)
            .collect();
        for connection in ready {
            if let Some(Parked { wait: Wait::Fetch(context, pending), .. }) = self.parked.remove(&connection)
            {
                let answer = api::fetch::complete(self, &context, &pending);
                self.deliver(now, &context, answer, None);
            }
        }
    }

    fn expire_transactions(&mut self, now: Now) {
        for id in self.transactions.expire(now.instant) {
            tracing::info!(transactional_id = id, "a transaction timed out and is aborted");
            self.save_transaction(&id);
        }
    }

    fn write_due_markers(&mut self, now: Now) {
        for completion in self.transactions.due(now.instant) {
            if self.write_markers(now, &completion).is_err() {
                return self.give_up("write transaction markers", &io::Error::other("see above"));
            }
            for (group, offsets) in completion.offsets {
                if completion.commit && !offsets.is_empty() {
                    self.commit_offsets(&group, offsets);
                }
            }
            self.transactions.complete(&completion.id);
            self.save_transaction(&completion.id);
        }
    }

    fn write_markers(&mut self, now: Now, completion: &Completion) -> Result<(), Failure> {
        let marker = end_marker(completion.producer, completion.commit, now.unix_ms)?;
        for (topic, index) in &completion.partitions {
            let Some(partition) = self.topics.partition_mut(topic, *index) else { continue };
            partition.log.append(&marker, partition.leader_epoch, None)?;
            self.grow(topic, *index);
        }
        Ok(())
    }

    /// Notes that a partition has more to read than before.
    pub(crate) fn grow(&mut self, topic: &str, partition: i32) {
        if let Some(topic) = self.topics.get(topic) {
            self.grown.push((Arc::clone(&topic.name), partition));
        }
    }

    fn apply_retention(&mut self, now: Now) {
        if now.instant < self.next_retention {
            return;
        }
        self.next_retention = now.instant + RETENTION_INTERVAL;
        let checks_age = now.instant >= self.next_age_check;
        if checks_age {
            self.next_age_check = now.instant + AGE_INTERVAL;
        }
        let mut moved = Vec::new();
        for topic in self.topics.iter_mut() {
            let bytes = topic.config.retention_bytes();
            let age = topic.config.retention_ms().filter(|_| checks_age);
            for (index, partition) in (0..).zip(&mut topic.partitions) {
                let by_size = bytes.is_some_and(|bytes| partition.log.retain_bytes(bytes));
                let by_age = age.is_some_and(|age| partition.log.retain_since(now.unix_ms - age));
                if by_size || by_age {
                    moved.push((topic.name.to_string(), index, partition.log.start_offset()));
                }
            }
        }
        for (topic, partition, offset) in moved {
            self.record(Entry::LogStart { topic, partition, offset });
        }
        if now.instant >= self.next_compaction {
            self.next_compaction = now.instant + COMPACTION_INTERVAL;
            self.compact_all(now);
        }
    }

    /// Compacts what has enough that is new.
    fn compact_all(&mut self, now: Now) {
        let mut result = Ok(false);
        for topic in self.topics.iter_mut() {
            let Some(rules) = topic.config.compaction(now.unix_ms) else { continue };
            let least = topic.config.dirty_ratio_min();
            for partition in
                topic.partitions.iter_mut().filter(|partition| partition.log.dirty_ratio() >= least)
            {
                result = result.and_then(|_| partition.log.compact(rules));
            }
        }
        if let Err(error) = result {
            self.give_up("compact", &error);
        }
    }

    /// Writes a fact down; when that fails, nothing is acknowledged any more.
    pub(crate) fn record(&mut self, entry: Entry) {
        self.facts_recorded += 1;
        if let Err(error) = self.journal.append(&entry) {
            self.give_up("write the journal", &error);
        }
    }

    /// Deletes a partition's records below `offset`; where it begins now.
    pub(crate) fn delete_before(&mut self, topic: &str, partition: i32, offset: i64) -> i64 {
        let Some(found) = self.topics.partition_mut(topic, partition) else { return -1 };
        found.log.delete_before(offset);
        let offset = found.log.start_offset();
        self.record(Entry::LogStart { topic: topic.to_owned(), partition, offset });
        self.grow(topic, partition);
        offset
    }

    pub(crate) fn save_transaction(&mut self, id: &str) {
        if !self.journal.is_persistent() {
            return;
        }
        if let Some(transaction) = self.transactions.get(id) {
            let entry = Entry::Transaction(Box::new(transaction.clone()));
            let next = self.transactions.next_producer_id();
            self.record(Entry::ProducerIds { next });
            self.record(entry);
        }
    }

    pub(crate) fn commit_offsets(&mut self, group: &str, offsets: Vec<crate::groups::CommittedOffset>) {
        if self.journal.is_persistent() {
            self.record(Entry::Offsets { group: group.to_owned(), offsets: offsets.clone() });
        }
        self.groups.commit(group, offsets);
    }

    pub(crate) fn give_up(&mut self, attempted: &str, error: &io::Error) {
        tracing::error!(%error, attempted, "the broker's disk failed: nothing is acknowledged until a restart");
        self.broken.get_or_insert_with(|| format!("{attempted}: {error}"));
    }

    /// Creates a topic that a request, a command or the options ask for.
    pub(crate) fn create(
        &mut self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        entries: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<TopicId, Failure> {
        check_name(name)?;
        if self.topics.get(name).is_some() {
            return fail(ErrorCode::TOPIC_ALREADY_EXISTS, format!("topic '{name}' already exists"));
        }
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return fail(
                ErrorCode::INVALID_PARTITIONS,
                format!("number of partitions was set to {partitions}, allowed are 1 to {PARTITIONS_MAX}"),
            );
        }
        let nodes = self.nodes.len() as i16;
        if !(1..=nodes).contains(&replication_factor) {
            return fail(
                ErrorCode::INVALID_REPLICATION_FACTOR,
                format!("replication factor {replication_factor}, but there are {nodes} brokers"),
            );
        }
        for (entry, value) in &entries {
            Table::TOPIC.check(entry, value)?;
        }
        if validate_only {
            return Ok(TopicId::NONE);
        }
        let id = self.next_topic_id();
        self.add_topic(name, id, partitions, replication_factor, TopicConfig { entries: entries.clone() })?;
        self.record(Entry::Topic {
            number: self.topics_created,
            name: name.to_owned(),
            id: id.0,
            partitions,
            replication_factor,
            configs: entries.into_iter().collect(),
        });
        Ok(id)
    }

    /// Deletes a topic with its records, its offsets and its place in transactions.
    pub(crate) fn remove_topic(&mut self, name: &str) -> Result<(), Failure> {
        self.record(Entry::Deleted { name: name.to_owned() });
        for index in 0..self.topics.get(name).map_or(0, |topic| topic.partitions.len()) {
            self.grow(name, index as i32);
        }
        self.groups.forget_topic(name);
        if let Some(id) = self.topics.get(name).map(|topic| topic.id) {
            self.shares.forget(|(_, topic, _)| *topic == id);
        }
        self.transactions.forget_topic(name);
        self.reassignments.retain(|(topic, _), _| topic != name);
        self.topics.remove(name).map_err(|error| Failure {
            code: ErrorCode::KAFKA_STORAGE_ERROR,
            text: format!("delete the logs of topic '{name}': {error}").into(),
        })
    }

    fn add_topic(
        &mut self,
        name: &str,
        id: TopicId,
        partitions: i32,
        replication_factor: i16,
        config: TopicConfig,
    ) -> Result<(), Failure> {
        self.topics.insert(Arc::from(name), id, partitions, replication_factor, config).map_err(|error| {
            Failure {
                code: ErrorCode::KAFKA_STORAGE_ERROR,
                text: format!("create the logs of topic '{name}': {error}").into(),
            }
        })
    }

    /// Unique in this run and, by its seed, among runs and clusters: a topic that is gone leaves nothing in the journal.
    fn next_topic_id(&mut self) -> TopicId {
        self.topics_created += 1;
        let high = mix(self.run_seed ^ self.topics_created.rotate_left(32));
        let low = mix(high ^ self.run_seed);
        TopicId((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// What tells this cluster from others, for ever; it is also the key of its delegation tokens.
    pub(crate) fn identity(&self) -> u64 {
        self.seed
    }

    /// 16 bytes that were never made before and cannot be guessed from outside.
    pub(crate) fn unique_bytes(&mut self) -> [u8; 16] {
        self.names_made += 1;
        let high = mix(self.run_seed ^ self.names_made.rotate_left(32));
        let low = mix(high ^ self.run_seed.rotate_left(17));
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    /// A name that was never made before.
    pub(crate) fn unique_name(&mut self) -> String {
        TopicId(self.unique_bytes()).to_string()
    }

    /// The node that coordinates a group (key type 0) or a transactional id (1).
    pub(crate) fn coordinator(&self, key_type: i8, key: &str) -> i32 {
        let count = self.nodes.len() as i32;
        let preferred = self.coordinators.get(&(key_type, key.to_owned())).copied().unwrap_or_else(|| {
            let hash = key.bytes().fold(u64::from(key_type as u8), |hash, byte| mix(hash ^ u64::from(byte)));
            (hash % count as u64) as i32
        });
        (0..count).map(|turn| (preferred + turn) % count).find(|&node| self.is_up(node)).unwrap_or(preferred)
    }

    /// Refuses a request to a node that does not coordinate `key`.
    pub(crate) fn check_coordinator(
        &self,
        context: &Context,
        key_type: i8,
        key: &str,
    ) -> Result<(), Failure> {
        if let Some(code) = context.injected_for_request() {
            return Err(code.into());
        }
        if self.coordinator(key_type, key) == context.node {
            Ok(())
        } else {
            Err(ErrorCode::NOT_COORDINATOR.into())
        }
    }
}

/// The finalizer of splitmix64: spreads a number over all 64 bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

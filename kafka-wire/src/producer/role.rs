//! The producer as a role of the engine: transactions and sender on top of the core.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};

use super::accumulator::TopicShape;
use super::batch::Batch;
use super::sender::{CallId, PartitionAnswer, ProduceCall, Route, Sender, SenderConfig};
use crate::cluster::{Cluster, Topic};
use crate::config::ProducerConfig;
use crate::engine::{Core, Lane, Role, Target, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Groups, Sink, ThrottleTime};
use crate::protocol::TopicRef;
use crate::protocol::produce::{PartitionRecords, ProduceRequest, ProduceResponse, TopicRecords};
use crate::protocol::request::{FrameBuilder, Response};
use crate::reply::Reply;
use crate::txn::{GroupMetadata, Protocol, Transactions, TransactionsConfig};
use crate::types::{Acks, BrokerId, CommittedOffset, ProducerIdentity, TopicId, TopicPartition};

/// What the application asks of a producer. Commands take effect in the order in which they come.
#[derive(Debug)]
pub enum Command {
    /// Watch the metadata of a topic; what is known of it comes through the role's topic listener.
    Watch(Arc<str>),
    /// Send a batch.
    Send(Batch),
    /// Get a producer id; fences older producers of the transactional id.
    Init(Reply<ProducerIdentity>),
    /// Begin a transaction; behind a commit it waits for its end.
    Begin(Reply<()>),
    /// Add consumed offsets to the transaction.
    SendOffsets {
        /// Whose.
        group: GroupMetadata,
        /// Per partition.
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        /// When the coordinator has them.
        reply: Reply<()>,
    },
    /// End the transaction.
    End {
        /// Or abort.
        commit: bool,
        /// The outcome.
        reply: Reply<()>,
    },
    /// Give up batches that have no fate yet.
    Purge(Purge, Reply<()>),
    /// Send what is there, until the deadline at most, and finish.
    Close {
        /// What is not acknowledged by then fails.
        deadline: Instant,
        /// When it has finished.
        reply: Reply<()>,
    },
}

/// Which records [`Producer::purge`](crate::Producer::purge) gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Those that are not on their way to a broker: for sure not written, unless an earlier attempt was made.
    Queued,
    /// All of them: those on their way may be written all the same.
    QueuedAndInFlight,
}

/// Is told what metadata says of the watched topics.
pub type TopicListener = Box<dyn FnMut(&str, Result<TopicShape>) + Send>;

/// See the module.
pub struct ProducerRole {
    acks: Acks,
    request_timeout: Duration,
    /// Where records without a key are to stay (`partitioner.rack.aware`).
    rack: Option<String>,
    sender: Sender,
    transactions: Transactions,
    /// What the cluster spoke when it was last asked.
    protocol: Protocol,
    /// Whom the sender was last told to write as.
    identity: Option<ProducerIdentity>,
    calls: HashMap<Token, CallId>,
    transaction_call: Option<Token>,
    topics: HashMap<Arc<str>, Option<Result<TopicShape, Error>>>,
    listener: TopicListener,
    /// What was announced last: the metadata, and why there may be none.
    seen: Option<(u64, Option<ErrorKind>)>,
    /// Commands behind a commit or an abort, which decides about them.
    behind: VecDeque<Command>,
    closing: Option<(Instant, Option<Reply<()>>)>,
    is_closed: bool,
}

impl fmt::Debug for ProducerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerRole")
            .field("sender", &self.sender)
            .field("transactions", &self.transactions)
            .finish_non_exhaustive()
    }
}

impl ProducerRole {
    /// A producer with this configuration, which was checked. `seed` determines its jitter.
    pub fn new(config: &ProducerConfig, seed: u64, listener: TopicListener) -> Self {
        let transactional_id: Option<Arc<str>> = config.transactional_id.as_deref().map(Into::into);
        Self {
            acks: config.acks,
            request_timeout: config.client.request_timeout,
            rack: config.client.client_rack.clone().filter(|_| config.partitioner_rack_aware),
            sender: Sender::new(SenderConfig {
                is_idempotent: config.enable_idempotence,
                is_transactional: transactional_id.is_some(),
                max_in_flight: config.max_in_flight_requests_per_connection,
                max_request_size: config.max_request_size,
                retries: config.retries,
                delivery_timeout: config.delivery_timeout,
                retry_backoff: config.client.retry_backoff,
                seed,
            }),
            transactions: Transactions::new(TransactionsConfig {
                transactional_id,
                timeout: config.transaction_timeout,
                patience: config.max_block,
                retry_backoff: config.client.retry_backoff,
                seed: seed.wrapping_add(1),
            }),
            protocol: Protocol::V1,
            identity: None,
            calls: HashMap::new(),
            transaction_call: None,
            topics: HashMap::new(),
            listener,
            seen: None,
            behind: VecDeque::new(),
            closing: None,
            is_closed: false,
        }
    }

    fn is_transactional(&self) -> bool {
        self.transactions.transactional_id().is_some()
    }

    fn execute(&mut self, now: Instant, command: Command, core: &mut Core) {
        match command {
            Command::Watch(topic) => self.watch(now, topic, core),
            Command::Send(batch) => self.push(now, batch, core),
            Command::Init(reply) => self.transactions.init(now, reply),
            Command::Begin(reply) => {
                let protocol = self.protocol(core);
                let begun = self.transactions.begin(now, protocol);
                if begun.is_ok() {
                    self.sender.resume();
                }
                reply.send(begun);
            }
            Command::SendOffsets { group, offsets, reply } => {
                self.transactions.send_offsets(group, offsets, reply);
            }
            Command::End { commit, reply } => self.end(commit, reply),
            Command::Purge(what, reply) => {
                let purged = Error::new(ErrorKind::Usage, "produce records that the application purged");
                match what {
                    Purge::Queued => self.sender.fail_queued(&purged),
                    Purge::QueuedAndInFlight => self.sender.fail_all(&purged),
                }
                reply.send(Ok(()));
            }
            Command::Close { deadline, reply } => self.closing = Some((deadline, Some(reply))),
        }
    }

    fn end(&mut self, commit: bool, reply: Reply<()>) {
        if !commit {
            let aborted = Error::new(ErrorKind::Usage, "produce in a transaction that was aborted");
            self.sender.give_up(&aborted);
        }
        self.transactions.end(commit, reply);
    }

    fn push(&mut self, now: Instant, batch: Batch, core: &mut Core) {
        if self.is_transactional()
            && let Err(error) = self.transactions.check_open()
        {
            let error = error.with_partition(batch.partition.clone());
            return batch.fail(error);
        }
        if !self.topics.contains_key(&batch.partition.topic) {
            self.watch(now, Arc::clone(&batch.partition.topic), core);
        }
        self.sender.push(batch);
    }

    fn watch(&mut self, now: Instant, topic: Arc<str>, core: &mut Core) {
        core.watch_topics(now, [Arc::clone(&topic)]);
        self.topics.entry(topic).or_insert(None);
        self.seen = None;
    }

    /// What the cluster's transactions speak: the feature is the cluster's, so any broker that is connected
    /// may tell; with none at this moment, it is what was told last.
    fn protocol(&mut self, core: &Core) -> Protocol {
        let told = core.cluster().brokers().find_map(|broker| core.versions(broker.id));
        if let Some(versions) = told {
            let level = versions.finalized_feature("transaction.version");
            self.protocol = if level >= 2 { Protocol::V2 } else { Protocol::V1 };
        }
        self.protocol
    }

    /// Tells the listener what is new about the topics.
    fn announce(&mut self, core: &Core) {
        let cluster = core.cluster();
        let seen = Some((cluster.generation(), core.connect_error().map(Error::kind)));
        if self.seen == seen {
            return;
        }
        self.seen = seen;
        for (name, told) in &mut self.topics {
            let news = match (cluster.topic(name), cluster.topic_error(name)) {
                (Some(topic), _) => Ok(shape(cluster, topic, self.rack.as_deref())),
                (None, Some(code)) => {
                    Err(Error::broker(code, format!("find the partitions of topic {name}"))
                        .with_api("Metadata"))
                }
                (None, None) => match core.connect_error() {
                    Some(error) => Err(error.clone()),
                    None => continue,
                },
            };
            let is_known = match (&told, &news) {
                (Some(Ok(told)), Ok(news)) => told == news,
                (Some(Err(told)), Err(news)) => told.kind() == news.kind(),
                _ => false,
            };
            if !is_known {
                (self.listener)(name, news.clone());
                *told = Some(news);
            }
        }
    }

    /// Lets sender and transactions do all that they can.
    fn advance(&mut self, now: Instant, core: &mut Core) {
        self.announce(core);
        self.sender.expire(now);
        loop {
            self.abort_at_close();
            self.advance_transactions(now, core);
            self.send(now, core);
            if self.transactions.is_ending() || self.behind.is_empty() {
                break;
            }
            if let Some(command) = self.behind.pop_front() {
                self.execute(now, command, core);
            }
        }
        self.finish(now, core);
    }

    /// What nobody committed before the producer was closed must not wait for transaction.timeout.ms: it holds up
    /// readers. That goes for the transaction behind a commit, too, which begins when the outcome is known.
    fn abort_at_close(&mut self) {
        let is_open = self.transactions.check_open().is_ok() || self.transactions.is_doomed();
        if self.closing.is_some() && self.behind.is_empty() && is_open && !self.transactions.is_ending() {
            self.end(false, Reply::new(|_| {}));
        }
    }

    fn advance_transactions(&mut self, now: Instant, core: &mut Core) {
        self.sender.follow(core.cluster().generation(), self.transactions.admission());
        if let Some(failure) = self.sender.take_failure()
            && self.is_transactional()
        {
            self.transactions.doom(now, failure);
        }
        if let Some(error) = self.transactions.broken() {
            let error = error.clone();
            self.sender.give_up(&error);
        } else if self.transactions.is_doomed() {
            let error =
                Error::new(ErrorKind::Usage, "produce in a transaction of which another batch failed");
            self.sender.give_up(&error.with_abortable());
        }
        // A producer without transactions asks for its id when it first has something to send.
        if !self.is_transactional() && self.sender.needs_identity() {
            if self.identity.is_some() && self.transactions.identity() == self.identity {
                self.transactions.renew(now);
            } else if !self.sender.is_empty() {
                self.transactions.start_idempotent(now);
            }
        }
        if self.is_transactional() {
            let waiting: Vec<_> = self.sender.waiting().cloned().collect();
            for partition in waiting {
                self.transactions.admit(&partition);
            }
        }
        let is_drained = self.sender.is_empty() && self.sender.is_quiet();
        if let Some((target, request)) = self.transactions.poll_call(now, is_drained) {
            if let Some(stale) = self.transaction_call.take() {
                core.cancel(stale);
            }
            self.transaction_call = Some(core.call(now, target, request, self.request_timeout));
        }
        let identity = self.transactions.identity();
        if identity.is_some() && identity != self.identity {
            self.identity = identity;
            identity.into_iter().for_each(|identity| self.sender.identify(identity));
        }
    }

    fn send(&mut self, now: Instant, core: &mut Core) {
        self.sender.route(now, &mut |partition| route(&mut self.transactions, core.cluster(), partition));
        while let Some(call) = self
            .sender
            .poll_call(now, &mut |partition| route(&mut self.transactions, core.cluster(), partition))
        {
            let id = call.id;
            self.transactions.wrote();
            let target = Target::Broker { id: call.broker, lane: Lane::Data };
            let request =
                produce_request(call, self.acks, self.request_timeout, core.cluster(), &self.transactions);
            let token = core.call(now, target, Box::new(request), self.request_timeout);
            self.calls.insert(token, id);
        }
        if self.sender.take_metadata_stale() {
            core.request_metadata(now);
        }
    }

    fn handle_produced(&mut self, now: Instant, id: CallId, result: Result<Response>, core: &mut Core) {
        let answer = result.and_then(|response| {
            if self.acks == Acks::None {
                return Ok(None);
            }
            ProduceResponse::decode(&response).map(Some)
        });
        let answers = match answer {
            // Written to the socket is all that can be said.
            Ok(None) => Ok(self.sender.partitions_of(id).map(PartitionAnswer::unanswered).collect()),
            Ok(Some(answer)) => {
                if let Some(broker) = self.sender.broker_of(id) {
                    core.throttle(now, broker, Lane::Data, answer.throttle);
                }
                Ok(self.read(answer, core))
            }
            Err(error) => Err(error),
        };
        if answers.as_ref().is_ok_and(|answers| answers.iter().any(|answer| answer.error.is_none())) {
            self.transactions.written();
        }
        self.sender.handle_answer(now, id, answers);
    }

    /// Finds the names of the topics, and learns of leaders on the way (KIP-951).
    fn read(&self, answer: ProduceResponse, core: &mut Core) -> Vec<PartitionAnswer> {
        core.learn_brokers(&answer.endpoints);
        let mut answers = Vec::new();
        for produced in answer.topics {
            let name: Option<Arc<str>> = match &produced.topic {
                TopicRef::Name(name) => {
                    let watched = self.topics.get_key_value::<str>(name);
                    watched.map(|(name, _)| Arc::clone(name))
                }
                TopicRef::Id(id) => core.cluster().topic_name(*id).cloned(),
            };
            // A topic that is gone from the metadata meanwhile: its batches are answered as not answered.
            let Some(name) = name else { continue };
            for partition in produced.partitions {
                let at = TopicPartition::new(Arc::clone(&name), partition.index);
                if let Some(hint) = partition.leader
                    && let Some(epoch) = hint.epoch
                {
                    core.learn_leader(&at, hint.leader, epoch);
                }
                let of_record = partition.record_errors.first().map(|record| {
                    let message = record.message.as_deref().unwrap_or("refused");
                    format!("record {} of the batch: {message}", record.index)
                });
                answers.push(PartitionAnswer {
                    partition: at,
                    error: partition.error,
                    base_offset: partition.base_offset,
                    append_time_ms: partition.log_append_time_ms,
                    message: of_record.or_else(|| partition.error_message.map(|message| message.to_string())),
                });
            }
        }
        answers
    }

    fn finish(&mut self, now: Instant, core: &mut Core) {
        let Some((deadline, reply)) = &mut self.closing else { return };
        let is_over = *deadline <= now;
        let is_busy = !self.sender.is_empty() || self.transactions.is_ending();
        if is_busy && !is_over {
            return;
        }
        let reply = reply.take();
        if is_over {
            let error =
                Error::new(ErrorKind::Closed, "the producer was closed before the records were acknowledged");
            self.sender.fail_all(&error);
        }
        self.transactions.break_down(Error::new(ErrorKind::Closed, "the producer was closed"));
        self.behind.clear();
        for (token, _) in self.calls.drain() {
            core.cancel(token);
        }
        self.is_closed = true;
        if let Some(reply) = reply {
            reply.send(Ok(()));
        }
    }
}

impl Role for ProducerRole {
    type Command = Command;
    const METRIC_GROUPS: Groups = Groups { client: "producer-metrics", node: "producer-node-metrics" };
    const THROTTLE_TIME: Option<ThrottleTime> = Some(ThrottleTime {
        group: "producer-metrics",
        average: "produce-throttle-time-avg",
        max: "produce-throttle-time-max",
    });

    fn handle_command(&mut self, now: Instant, command: Command, core: &mut Core) {
        // What comes after a commit belongs to the next transaction, which nobody may write to before the
        // commit's outcome, and with it the producer's next epoch, is known.
        let is_about_transactions =
            !matches!(command, Command::Watch(_) | Command::Purge(..) | Command::Close { .. });
        if is_about_transactions && (self.transactions.is_ending() || !self.behind.is_empty()) {
            self.behind.push_back(command);
        } else {
            self.execute(now, command, core);
        }
        self.advance(now, core);
    }

    fn handle_response(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core) {
        if let Some(id) = self.calls.remove(&token) {
            self.handle_produced(now, id, result, core);
        } else if self.transaction_call == Some(token) {
            self.transaction_call = None;
            if let Some((kind, key)) = self.transactions.handle_response(now, result) {
                core.forget_coordinator(kind, &key);
            }
        }
        self.advance(now, core);
    }

    fn handle_progress(&mut self, now: Instant, core: &mut Core) {
        self.advance(now, core);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let closing = self.closing.as_ref().filter(|_| !self.is_closed).map(|(deadline, _)| *deadline);
        [self.sender.poll_timeout(), self.transactions.poll_timeout(), closing].into_iter().flatten().min()
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn measure(&self, now: Instant, sink: &mut Sink<'_>) {
        self.sender.measures().report(now, sink);
    }
}

fn shape(cluster: &Cluster, topic: &Topic, rack: Option<&str>) -> TopicShape {
    let is_near = |leader: BrokerId| {
        let broker = cluster.broker(leader);
        broker.is_some_and(|broker| broker.rack.is_some() && broker.rack.as_deref() == rack)
    };
    let near =
        topic.partitions.iter().enumerate().filter(|(_, partition)| partition.leader.is_some_and(is_near));
    TopicShape {
        leaders: topic.partitions.iter().map(|partition| partition.leader).collect(),
        near: near.map(|(index, _)| index as i32).collect(),
    }
}

/// Where a partition's batches may go now.
fn route(transactions: &mut Transactions, cluster: &Cluster, partition: &TopicPartition) -> Route {
    if !transactions.admit(partition) {
        return Route::Hold;
    }
    match cluster.leader(partition) {
        Some((leader, _)) => Route::Leader(leader),
        None => Route::NoLeader,
    }
}

fn produce_request(
    call: ProduceCall,
    acks: Acks,
    timeout: Duration,
    cluster: &Cluster,
    transactions: &Transactions,
) -> ProduceRequest {
    let mut topics: Vec<TopicRecords> = Vec::new();
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    for batch in call.batches {
        let mut frame = FrameBuilder::new();
        let (producer, base_sequence) = match batch.stamp {
            Some(stamp) => (Some(stamp.identity), stamp.base_sequence),
            None => (None, -1),
        };
        batch.records.write(producer, base_sequence, transactions.transactional_id().is_some(), &mut frame);
        let records = PartitionRecords { index: batch.partition.partition, records: frame.finish() };
        let name = batch.partition.topic;
        let place = *places.entry(Arc::clone(&name)).or_insert_with(|| {
            let id = cluster.topic(&name).map_or(TopicId::NONE, |topic| topic.id);
            topics.push(TopicRecords { topic: name, id, partitions: Vec::new() });
            topics.len() - 1
        });
        topics[place].partitions.push(records);
    }
    ProduceRequest {
        transactional_id: transactions.transactional_id().cloned(),
        transaction_v2: transactions.protocol() == Protocol::V2,
        acks,
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topics,
    }
}

//! One operation on many things: each thing is asked of whoever is in charge of it, and asked again where
//! the refusal is passing.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Job;
use crate::cluster::Cluster;
use crate::engine::{Core, Reply, Target, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::request::{Request, Response};
use crate::types::TopicPartition;

/// How long a topic may be missing before that is believed: brokers tell each other of a new one within
/// moments.
const MISSING_TOPIC_PATIENCE: Duration = Duration::from_secs(5);

/// What a broker said about one thing.
#[derive(Clone)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
}

pub(crate) type Outcome<T> = std::result::Result<T, Refusal>;

pub(crate) type Outcomes<K, T> = Vec<(K, Outcome<T>)>;

/// Why it is not known yet whom to ask.
pub(crate) enum Unknown {
    /// Metadata will tell.
    Yet,
    /// Metadata has no such topic, or refuses it.
    Topic(ErrorCode),
    /// The topic has no such partition.
    Partition,
}

/// The shape of an operation's calls.
pub(crate) trait Operation: Send + 'static {
    /// What it is done to.
    type Key: Clone + PartialEq + Display + Send;
    /// What is done to it.
    type Item: Clone + Send;
    /// What comes of it.
    type Output: Send;
    /// In words, as in "create topic".
    const ATTEMPT: &'static str;

    /// Whom to ask about `key`.
    fn target(&self, key: &Self::Key, cluster: &Cluster) -> std::result::Result<Target, Unknown>;
    /// One request for all `items`, which have the same target. The broker should answer within `timeout`.
    fn request(&self, items: &[(Self::Key, Self::Item)], timeout: Duration) -> Box<dyn Request>;
    /// The answer, by key.
    fn read(
        &self,
        items: &[(Self::Key, Self::Item)],
        response: Response,
    ) -> Result<Outcomes<Self::Key, Self::Output>>;
    /// Whether a refusal may pass by itself, so that the thing is tried again until the time is up. Kafka's
    /// flag also says so of what is an answer to whoever did not ask by out-dated metadata.
    fn is_passing(code: ErrorCode) -> bool {
        let is_answer = matches!(
            code,
            ErrorCode::ELECTION_NOT_NEEDED
                | ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE
                | ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        code.is_retriable() && !is_answer
    }
    /// The topic whose metadata says whom to ask.
    fn topic(_key: &Self::Key) -> Option<Arc<str>> {
        None
    }
    /// The partition, for the error.
    fn partition(_key: &Self::Key) -> Option<TopicPartition> {
        None
    }
}

type Items<O> = Vec<(<O as Operation>::Key, <O as Operation>::Item)>;
type Results<O> = Vec<(<O as Operation>::Key, Result<<O as Operation>::Output>)>;

/// "create topic x", or "list an offset" with the partition beside it.
fn failure<O: Operation>(kind: ErrorKind, key: &O::Key) -> Error {
    match O::partition(key) {
        Some(partition) => Error::new(kind, O::ATTEMPT).with_partition(partition),
        None => Error::new(kind, format!("{} {key}", O::ATTEMPT)),
    }
}

/// An operation on many things, until all have an outcome or the time is up.
pub(crate) struct Batch<O: Operation> {
    operation: O,
    pending: Items<O>,
    in_flight: Vec<(Token, Target, Items<O>)>,
    done: Results<O>,
    reply: Option<Reply<Results<O>>>,
    started: Instant,
    deadline: Instant,
    /// Until when a missing topic may be news that has not got round.
    patience: Option<Instant>,
    retry_at: Option<Instant>,
    failures: u32,
    last_error: Option<Error>,
}

impl<O: Operation> Batch<O> {
    pub(crate) fn new(
        now: Instant,
        timeout: Duration,
        operation: O,
        items: Items<O>,
        reply: Reply<Results<O>>,
    ) -> Self {
        Self {
            operation,
            pending: items,
            in_flight: Vec::new(),
            done: Vec::new(),
            reply: Some(reply),
            started: now,
            deadline: now + timeout,
            patience: Some(now + MISSING_TOPIC_PATIENCE),
            retry_at: None,
            failures: 0,
            last_error: None,
        }
    }

    /// Sorts what is pending by whom to ask; what cannot be asked for good is done.
    fn group(&mut self, core: &Core) -> Vec<(Target, Items<O>)> {
        let mut groups: Vec<(Target, Items<O>)> = Vec::new();
        let mut still_pending = Vec::new();
        for (key, item) in std::mem::take(&mut self.pending) {
            match self.operation.target(&key, core.cluster()) {
                Ok(target) => match groups.iter_mut().find(|(other, _)| *other == target) {
                    Some((_, items)) => items.push((key, item)),
                    None => groups.push((target, vec![(key, item)])),
                },
                Err(reason) => match self.give_up(&key, &reason, core) {
                    Some(error) => self.done.push((key, Err(error))),
                    None => still_pending.push((key, item)),
                },
            }
        }
        self.pending = still_pending;
        groups
    }

    fn give_up(&self, key: &O::Key, reason: &Unknown, core: &Core) -> Option<Error> {
        let broker_error = |code| failure::<O>(ErrorKind::Broker(code), key);
        let patient = self.patience.is_some();
        match reason {
            Unknown::Yet => {
                // Waiting will not help where connecting fails for good.
                let error = core.connect_error().filter(|error| !error.is_retriable())?;
                Some(failure::<O>(error.kind(), key).with_cause(error.clone()))
            }
            Unknown::Topic(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) if patient => None,
            Unknown::Topic(code)
                if *code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION || !code.is_retriable() =>
            {
                Some(broker_error(*code).with_hint("check the topic's name, or create it"))
            }
            Unknown::Partition if !patient => Some(broker_error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
            Unknown::Topic(_) | Unknown::Partition => None,
        }
    }

    fn error(key: &O::Key, refusal: Refusal) -> Error {
        let error = failure::<O>(ErrorKind::Broker(refusal.code), key);
        match refusal.message.filter(|message| !message.is_empty()) {
            Some(message) => error.with_hint(format!("the broker says: {message}")),
            None => error,
        }
    }

    fn finish(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.send(Ok(std::mem::take(&mut self.done)));
        }
    }

    /// The time is up: what has no outcome gets this one.
    fn expire(&mut self, core: &mut Core) {
        let timeout = (self.deadline - self.started).as_millis();
        let mut rest = std::mem::take(&mut self.pending);
        for (token, _, items) in std::mem::take(&mut self.in_flight) {
            core.cancel(token);
            rest.extend(items);
        }
        for (key, _) in rest {
            let error = failure::<O>(ErrorKind::Timeout, &key);
            let why = Error::new(ErrorKind::Timeout, format!("not done within {timeout} ms"));
            let why = match self.last_error.as_ref().or_else(|| core.connect_error()) {
                Some(cause) => why.with_cause(cause.clone()),
                None => why,
            };
            self.done.push((key, Err(error.with_cause(why))));
        }
    }

    fn retry(&mut self, now: Instant, items: Items<O>, target: &Target, error: Error, core: &mut Core) {
        self.pending.extend(items);
        self.last_error = Some(error);
        self.failures = self.failures.saturating_add(1);
        let backoff = core.config().retry_backoff;
        self.retry_at = Some(now + backoff.delay(self.failures, core.rng()));
        match target {
            Target::Coordinator { kind, key } => core.forget_coordinator(*kind, key),
            _ => core.request_metadata(now),
        }
    }
}

impl<O: Operation> Job for Batch<O> {
    fn advance(&mut self, now: Instant, core: &mut Core) -> Vec<Token> {
        let mut tokens = Vec::new();
        self.patience = self.patience.filter(|until| *until > now);
        if now >= self.deadline {
            self.expire(core);
        } else if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = None;
            let timeout = core.config().request_timeout.min(self.deadline - now);
            for (target, items) in self.group(core) {
                let request = self.operation.request(&items, timeout);
                let token = core.call(now, target.clone(), request, timeout);
                tokens.push(token);
                self.in_flight.push((token, target, items));
            }
        }
        if self.pending.is_empty() && self.in_flight.is_empty() {
            self.finish();
        }
        tokens
    }

    fn handle_response(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core) {
        let Some(index) = self.in_flight.iter().position(|(other, ..)| *other == token) else { return };
        let (_, target, items) = self.in_flight.swap_remove(index);
        let mut outcomes = match result.and_then(|response| self.operation.read(&items, response)) {
            Ok(outcomes) => outcomes,
            Err(error) if error.is_retriable() => return self.retry(now, items, &target, error, core),
            Err(error) => {
                let failed = items.into_iter().map(|(key, _)| {
                    let described = failure::<O>(error.kind(), &key).with_cause(error.clone());
                    (key, Err(described))
                });
                return self.done.extend(failed);
            }
        };
        for (key, item) in items {
            let Some(index) = outcomes.iter().position(|(other, _)| *other == key) else {
                let why = Error::new(ErrorKind::Protocol, "the answer does not mention it");
                let error = failure::<O>(ErrorKind::Protocol, &key).with_cause(why);
                self.done.push((key, Err(error)));
                continue;
            };
            match outcomes.swap_remove(index).1 {
                Ok(output) => self.done.push((key, Ok(output))),
                Err(refusal) if O::is_passing(refusal.code) => {
                    let error = Self::error(&key, refusal);
                    self.retry(now, vec![(key, item)], &target, error, core);
                }
                Err(refusal) => {
                    let error = Self::error(&key, refusal);
                    self.done.push((key, Err(error)));
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.retry_at, self.patience, Some(self.deadline)].into_iter().flatten().min()
    }

    fn is_done(&self) -> bool {
        self.reply.is_none()
    }

    fn topics(&self) -> Vec<Arc<str>> {
        let in_flight = self.in_flight.iter().flat_map(|(_, _, items)| items);
        let mut topics: Vec<Arc<str>> =
            self.pending.iter().chain(in_flight).filter_map(|(key, _)| O::topic(key)).collect();
        topics.dedup();
        topics
    }
}

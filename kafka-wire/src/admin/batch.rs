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
use crate::types::{BrokerId, TopicId, TopicPartition};

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

/// What an operation is done to.
pub(crate) trait Key: Clone + PartialEq + Display + Send {
    /// The partition, where it is one.
    fn partition(&self) -> Option<&TopicPartition> {
        None
    }
}

impl Key for BrokerId {}
impl Key for String {}
impl Key for TopicId {}

impl Key for TopicPartition {
    fn partition(&self) -> Option<&TopicPartition> {
        Some(self)
    }
}

/// The shape of an operation's calls.
pub(crate) trait Operation: Send + 'static {
    /// What it is done to.
    type Key: Key;
    /// What is done to it.
    type Item: Clone + Send;
    /// What comes of it.
    type Output: Send;
    /// In words, as in "create topic".
    const ATTEMPT: &'static str;
    /// Whether the leaders of partitions are asked, whom metadata names.
    const BY_LEADER: bool = false;

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
        code.is_retriable() && (Self::BY_LEADER || !is_answer)
    }
}

type Items<O> = Vec<(<O as Operation>::Key, <O as Operation>::Item)>;
type Results<O> = Vec<(<O as Operation>::Key, Result<<O as Operation>::Output>)>;

/// "create topic x", or "list an offset" with the partition beside it.
fn failure<O: Operation>(kind: ErrorKind, key: &O::Key) -> Error {
    match key.partition() {
        Some(partition) => Error::new(kind, O::ATTEMPT).with_partition(partition.clone()),
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
            Ok(outcomes) => outcomes.into_iter().map(Some).collect::<Vec<_>>(),
            Err(error) if error.is_retriable() => return self.retry(now, items, &target, error, core),
            Err(error) => {
                let failed = items.into_iter().map(|(key, _)| {
                    let described = failure::<O>(error.kind(), &key).with_cause(error.clone());
                    (key, Err(described))
                });
                return self.done.extend(failed);
            }
        };
        let mut next = 0;
        let (mut again, mut passing) = (Vec::new(), None);
        for (key, item) in items {
            // Answers mostly keep the order of what was asked.
            let mut places = (next..outcomes.len()).chain(0..next);
            let Some(place) =
                places.find(|place| outcomes[*place].as_ref().is_some_and(|(of, _)| *of == key))
            else {
                let why = Error::new(ErrorKind::Protocol, "the answer does not mention it");
                let error = failure::<O>(ErrorKind::Protocol, &key).with_cause(why);
                self.done.push((key, Err(error)));
                continue;
            };
            next = place + 1;
            let Some((_, outcome)) = outcomes[place].take() else { continue };
            match outcome {
                Ok(output) => self.done.push((key, Ok(output))),
                Err(refusal) if O::is_passing(refusal.code) => {
                    passing = Some(Self::error(&key, refusal));
                    again.push((key, item));
                }
                Err(refusal) => {
                    let error = Self::error(&key, refusal);
                    self.done.push((key, Err(error)));
                }
            }
        }
        if let Some(error) = passing {
            self.retry(now, again, &target, error, core);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.retry_at, self.patience, Some(self.deadline)].into_iter().flatten().min()
    }

    fn is_done(&self) -> bool {
        self.reply.is_none()
    }

    fn topics(&self) -> Vec<Arc<str>> {
        if !O::BY_LEADER {
            return Vec::new();
        }
        let in_flight = self.in_flight.iter().flat_map(|(_, _, items)| items);
        let keys = self.pending.iter().chain(in_flight).filter_map(|(key, _)| key.partition());
        let mut topics: Vec<Arc<str>> = keys.map(|at| Arc::clone(&at.topic)).collect();
        topics.dedup();
        topics
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::config::ClientConfig;
    use crate::engine::Lane;
    use crate::protocol::messages::{ApiKey, ListGroupsRequest};
    use crate::protocol::request::Plain;

    /// Refuses all in passing at first, and answers in another order than it was asked.
    struct Fickle;

    impl Operation for Fickle {
        type Key = String;
        type Item = usize;
        type Output = usize;
        const ATTEMPT: &'static str = "ask about";

        fn target(&self, _: &String, _: &Cluster) -> std::result::Result<Target, Unknown> {
            Ok(Target::Broker { id: BrokerId(1), lane: Lane::Control })
        }

        fn request(&self, _: &[(String, usize)], _: Duration) -> Box<dyn Request> {
            Box::new(Plain::new(ListGroupsRequest::default()))
        }

        fn read(&self, items: &[(String, usize)], response: Response) -> Result<Outcomes<String, usize>> {
            let refusal = Refusal { code: ErrorCode::REQUEST_TIMED_OUT, message: None };
            let outcome = |item| if response.version == 0 { Err(refusal.clone()) } else { Ok(item) };
            Ok(items.iter().rev().map(|(key, item)| (key.clone(), outcome(*item))).collect())
        }
    }

    #[test]
    fn what_is_refused_together_is_one_failure_and_asked_again_together() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let now = Instant::now();
        let config = ClientConfig::bootstrap("127.0.0.1:1").unwrap();
        let core = &mut Core::new(now, &config, 7);
        let (sender, replies) = mpsc::channel();
        let items: Vec<(String, usize)> = (0..50).map(|number| (format!("g{number}"), number)).collect();
        let reply = Reply::new(move |results| sender.send(results).unwrap());
        let mut batch = Batch::new(now, Duration::from_secs(60), Fickle, items.clone(), reply);
        let answer = |version| Ok(Response { api: ApiKey::ListGroups, version, body: bytes::Bytes::new() });

        let [token] = batch.advance(now, core)[..] else { panic!("one call") };
        batch.handle_response(now, token, answer(0), core);
        let again = batch.poll_timeout().unwrap();
        assert_eq!(batch.failures, 1);
        assert!(again <= now + config.retry_backoff.initial.mul_f64(1.2));

        let [token] = batch.advance(again, core)[..] else { panic!("one call") };
        batch.handle_response(again, token, answer(1), core);
        assert!(batch.advance(again, core).is_empty() && batch.is_done());
        let results = replies.recv().unwrap().unwrap().into_iter();
        assert_eq!(results.map(|(key, result)| (key, result.unwrap())).collect::<Vec<_>>(), items);
    }
}

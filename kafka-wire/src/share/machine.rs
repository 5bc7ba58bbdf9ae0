//! The share consumer as a role of the engine: commands in, deliveries out, acknowledgements back to the brokers.

mod answers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::AcknowledgementResult;
use super::deliveries::{Delivery, SharedDeliveries};
use super::ledger::{Acknowledgement, RETURN};
use super::member::ShareMember;
use super::session::{Flight, FlightKind, Session, Slot, by_topic, topics};
use crate::config::{AcquireMode, ShareConsumerConfig};
use crate::engine::{Core, Lane, Role, Target, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::metrics::{Groups, Report, Sink, ThrottleTime};
use crate::protocol::request::Response;
use crate::protocol::share::{ShareAcknowledgeRequest, ShareFetchRequest, ShareSession};
use crate::reply::Reply;
use crate::types::{BrokerId, TopicPartition};

/// What the application asks of the machine.
#[derive(Debug)]
pub(crate) enum Command {
    /// Reads these topics from now on.
    Subscribe(BTreeSet<Arc<str>>),
    /// The application has acknowledged these; they may wait for the next fetch.
    Acknowledge(Vec<Acknowledgement>),
    /// It waits for records. A poll that ends by its time is woken then.
    Want(Option<Instant>),
    /// It has taken the last delivery of a broker.
    Room,
    /// It has polled, which was waited for.
    Polled,
    /// Tells the brokers at once what was acknowledged, these and earlier ones; answers when all of that is done.
    Commit(Vec<Acknowledgement>, Reply<Vec<AcknowledgementResult>>),
    /// Tells what was acknowledged, gives back the rest, leaves; at the latest then.
    Close(Instant, Reply<()>),
}

/// Commits that may wait: a bound against an application that commits each record, and awaits none, while a broker
/// does not answer.
const COMMITS_MAX: usize = 10_000;

/// A commit, until all that it waits for is answered.
#[derive(Debug)]
struct Commit {
    /// Of which broker, and which number its acknowledgements have.
    waits_for: BTreeSet<(BrokerId, u64)>,
    results: Vec<AcknowledgementResult>,
    give_up_at: Instant,
    reply: Reply<Vec<AcknowledgementResult>>,
}

#[derive(Debug)]
struct Closing {
    deadline: Instant,
    reply: Option<Reply<()>>,
}

/// What has come and gone, offsets without a record included.
#[derive(Debug, Default)]
struct Counts {
    fetches: u64,
    bytes: u64,
    records: u64,
    acknowledged: u64,
    refused: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ShareMachine {
    config: ShareConsumerConfig,
    deliveries: SharedDeliveries,
    member: Option<ShareMember>,
    sessions: BTreeMap<BrokerId, Session>,
    /// Assigned partitions by who leads them; made from this generation of the cluster, and this assignment.
    by_leader: BTreeMap<BrokerId, BTreeSet<Slot>>,
    made_from: (u64, BTreeSet<Slot>),
    /// Nobody is known who leads some of them: when to ask again, and how often that was done.
    leaderless: Option<(Instant, u32)>,
    seen_polls: u64,
    is_wanted: bool,
    wake_at: Option<Instant>,
    /// In the order of their times to give up.
    commits: VecDeque<Commit>,
    closing: Option<Closing>,
    is_closed: bool,
    counts: Counts,
}

impl Drop for ShareMachine {
    fn drop(&mut self) {
        self.deliveries.lock().fail(Error::new(ErrorKind::Closed, "the share consumer is closed"));
        self.deliveries.wake();
    }
}

impl ShareMachine {
    /// A share consumer that delivers into `deliveries`.
    pub(crate) fn new(config: ShareConsumerConfig, deliveries: SharedDeliveries) -> Self {
        Self {
            config,
            deliveries,
            member: None,
            sessions: BTreeMap::new(),
            by_leader: BTreeMap::new(),
            made_from: (0, BTreeSet::new()),
            leaderless: None,
            seen_polls: 0,
            is_wanted: false,
            wake_at: None,
            commits: VecDeque::new(),
            closing: None,
            is_closed: false,
            counts: Counts::default(),
        }
    }

    fn drive(&mut self, now: Instant, core: &mut Core) {
        if self.is_closed {
            return;
        }
        self.drive_member(now, core);
        self.find_leaders(now, core);
        let nodes: BTreeSet<BrokerId> = self.sessions.keys().chain(self.by_leader.keys()).copied().collect();
        for node in nodes {
            self.serve(now, node, core);
        }
        self.give_up_commits(now);
        self.finish_close(now, core);
    }

    fn drive_member(&mut self, now: Instant, core: &mut Core) {
        let Some(member) = &mut self.member else { return };
        let (polls, is_waiting) = self.deliveries.lock().polls();
        if std::mem::replace(&mut self.seen_polls, polls) != polls || is_waiting {
            member.polled(now);
        }
        member.drive(now, core);
        let (failure, awaits_poll) = (member.take_failure(), member.awaits_poll());
        if let Some(error) = failure {
            let mut deliveries = self.deliveries.lock();
            if error.is_fatal() {
                deliveries.fail(error)
            } else {
                deliveries.report(error)
            }
            drop(deliveries);
            self.deliveries.wake();
        }
        if awaits_poll {
            self.deliveries.lock().want_poll();
            self.give_back(now, |_| true);
        }
    }

    /// Others may have what waits here, now rather than when its locks end.
    fn give_back(&mut self, now: Instant, is_gone: impl Fn(&Delivery) -> bool) {
        let gone = self.deliveries.lock().withdraw(is_gone);
        for delivery in gone.into_iter().filter(|delivery| delivery.locked_until > now) {
            let mut said = Acknowledgement::new(delivery.node, delivery.topic_id, delivery.partition);
            for range in delivery.acquired {
                said.add((range.first_offset, range.last_offset), RETURN);
            }
            self.sessions.entry(delivery.node).or_default().add(now, said);
        }
    }

    fn find_leaders(&mut self, now: Instant, core: &mut Core) {
        let generation = core.cluster().generation();
        let Some(member) = &self.member else { return };
        if self.made_from.0 != generation || self.made_from.1 != *member.assignment() {
            self.made_from = (generation, member.assignment().clone());
            self.by_leader.clear();
            let mut is_leaderless = false;
            for slot in member.assignment() {
                match leader(core, *slot) {
                    Some(leader) => drop(self.by_leader.entry(leader).or_default().insert(*slot)),
                    None => is_leaderless = true,
                }
            }
            self.leaderless = is_leaderless.then(|| self.leaderless.unwrap_or((now, 0)));
            // With their leader locks are gone.
            self.deliveries.lock().withdraw(|delivery| {
                let leader = leader(core, (delivery.topic_id, delivery.partition.partition));
                leader.is_some_and(|leader| leader != delivery.node)
            });
        }
        if let Some((_, asked)) = self.leaderless.filter(|(at, _)| *at <= now) {
            // New partitions, or a topic that was created anew: the coordinator knew first.
            core.request_metadata(now);
            let asked = asked.saturating_add(1);
            self.leaderless = Some((now + core.retry_delay(asked), asked));
        }
    }

    /// Sends the broker what is to be sent now, if anything.
    fn serve(&mut self, now: Instant, node: BrokerId, core: &mut Core) {
        if core.cluster().broker(node).is_none() {
            self.lost(now, node, core);
        }
        let session = self.sessions.entry(node).or_default();
        if session.flight.is_some() {
            return;
        }
        if session.retry_at.is_some_and(|at| at <= now) {
            session.retry_at = None;
        }
        if !session.is_open() && !session.pending.is_empty() {
            // The locks went with the session.
            let (acknowledged, sequence) = session.take_pending();
            let error = Error::broker(ErrorCode::SHARE_SESSION_NOT_FOUND, "acknowledge records");
            self.acknowledged(node, sequence, answers::all(acknowledged, &error));
            return self.serve(now, node, core);
        }
        if session.retry_at.is_some() && self.closing.is_none() {
            return;
        }
        let wanted = self.by_leader.get(&node);
        let is_renewal = session.pending.values().any(Acknowledgement::is_renewal);
        if self.closing.is_some() {
            if session.is_open() {
                self.acknowledge(now, node, true, core);
            }
        } else if is_renewal {
            // A fetch with renewals brings no records.
            self.acknowledge(now, node, false, core);
        } else if wanted.is_some()
            && (self.is_wanted || session.is_flowing)
            && !self.deliveries.lock().has_of(node)
        {
            self.fetch(now, node, core);
        } else if session.is_due(now) {
            self.acknowledge(now, node, false, core);
        } else if wanted.is_none() && !session.partitions.is_empty() {
            self.fetch(now, node, core);
        } else if wanted.is_none() && !session.is_open() {
            self.sessions.remove(&node);
        }
    }

    fn session_name(&self, node: BrokerId, is_last: bool) -> Option<ShareSession> {
        let member = self.member.as_ref()?;
        let epoch = if is_last { -1 } else { self.sessions.get(&node)?.epoch };
        Some(ShareSession { group: Arc::clone(member.group()), member_id: Arc::clone(member.id()), epoch })
    }

    fn fetch(&mut self, now: Instant, node: BrokerId, core: &mut Core) {
        let Some(name) = self.session_name(node, false) else { return };
        let wanted = self.by_leader.get(&node).cloned().unwrap_or_default();
        let is_wanted = self.is_wanted && !wanted.is_empty();
        let Some(session) = self.sessions.get_mut(&node) else { return };
        let (acknowledged, sequence) = session.take_pending();
        // A broker adds what is acknowledged to the session, wanted or not.
        let mut known = session.partitions.clone();
        known.extend(acknowledged.iter().map(|said| (said.topic_id, said.partition.partition)));
        let new = wanted.difference(&session.partitions).copied();
        let forgotten = known.difference(&wanted).copied();
        // Ahead of the application nothing is waited for: its acknowledgements would have to wait, too.
        let max_wait = if is_wanted { self.config.fetch_max_wait } else { Default::default() };
        let request = ShareFetchRequest {
            session: name,
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.fetch_min_bytes,
            max_bytes: self.config.fetch_max_bytes,
            max_records: self.config.max_poll_records,
            batch_size: self.config.max_poll_records,
            is_strict: self.config.acquire_mode == AcquireMode::RecordLimit,
            is_renewal: false,
            topics: topics(&acknowledged, new),
            forgotten: by_topic(forgotten),
        };
        let timeout = core.config().request_timeout + max_wait;
        let to = Target::Broker { id: node, lane: Lane::Fetch };
        let token = core.call(now, to, Box::new(request), timeout);
        session.flight = Some(Flight { token, kind: FlightKind::Fetch(wanted), acknowledged, sequence });
    }

    fn acknowledge(&mut self, now: Instant, node: BrokerId, is_last: bool, core: &mut Core) {
        let Some(name) = self.session_name(node, is_last) else { return };
        let Some(session) = self.sessions.get_mut(&node) else { return };
        let (acknowledged, sequence) = session.take_pending();
        let topics = topics(&acknowledged, std::iter::empty());
        let is_renewal = acknowledged.iter().any(Acknowledgement::is_renewal);
        let request = ShareAcknowledgeRequest { session: name, is_renewal, topics };
        let timeout = core.config().request_timeout;
        let to = Target::Broker { id: node, lane: Lane::Fetch };
        let token = core.call(now, to, Box::new(request), timeout);
        let kind = if is_last { FlightKind::Close } else { FlightKind::Acknowledge };
        session.flight = Some(Flight { token, kind, acknowledged, sequence });
    }

    /// The fate of what was sent under that number is known.
    fn acknowledged(
        &mut self,
        node: BrokerId,
        sequence: u64,
        acknowledged: Vec<(Acknowledgement, Result<()>)>,
    ) {
        let mut results = Vec::new();
        for (acknowledgement, result) in acknowledged {
            let result = result
                .map_err(|error| error.with_partition(acknowledgement.partition.clone()).with_broker(node));
            let offsets = acknowledgement.offsets();
            let count: u64 = offsets.iter().map(|run| run.end().abs_diff(*run.start()) + 1).sum();
            self.counts.acknowledged += count;
            if result.is_err() {
                self.counts.refused += count;
            }
            // That offsets are gaps is between this client and the broker.
            if !offsets.is_empty() {
                results.push(AcknowledgementResult { partition: acknowledgement.partition, offsets, result });
            }
        }
        let mut deliveries = self.deliveries.lock();
        results.iter().for_each(|result| deliveries.put_result(result.clone()));
        drop(deliveries);
        for mut commit in std::mem::take(&mut self.commits) {
            if commit.waits_for.remove(&(node, sequence)) {
                commit.results.extend(results.iter().cloned());
            }
            if commit.waits_for.is_empty() {
                commit.reply.send(Ok(commit.results));
            } else {
                self.commits.push_back(commit);
            }
        }
    }

    fn add(&mut self, now: Instant, said: Vec<Acknowledgement>) {
        for acknowledgement in said {
            self.sessions.entry(acknowledgement.node).or_default().add(now, acknowledgement);
        }
    }

    fn commit(&mut self, now: Instant, reply: Reply<Vec<AcknowledgementResult>>, core: &Core) {
        let mut waits_for = BTreeSet::new();
        for (node, session) in &mut self.sessions {
            if let Some(flight) = session.flight.as_ref().filter(|flight| !flight.acknowledged.is_empty()) {
                waits_for.insert((*node, flight.sequence));
            }
            if !session.pending.is_empty() {
                session.is_commit_wanted = true;
                waits_for.insert((*node, session.sequence));
            }
        }
        if waits_for.is_empty() {
            return reply.send(Ok(Vec::new()));
        }
        if self.commits.len() >= COMMITS_MAX {
            let text = format!("wait for acknowledgements while {COMMITS_MAX} commits wait already");
            let error = Error::new(ErrorKind::Usage, text).with_possibly_written();
            return reply.send(Err(error.with_hint("wait for some of them before you commit more")));
        }
        let give_up_at = now + core.config().default_api_timeout;
        self.commits.push_back(Commit { waits_for, results: Vec::new(), give_up_at, reply });
    }

    fn give_up_commits(&mut self, now: Instant) {
        while self.commits.front().is_some_and(|commit| commit.give_up_at <= now)
            && let Some(commit) = self.commits.pop_front()
        {
            let error = Error::new(ErrorKind::Timeout, "acknowledge records in the time allowed");
            commit.reply.send(Err(error.with_possibly_written()));
        }
    }

    fn finish_close(&mut self, now: Instant, core: &mut Core) {
        let Some(closing) = &mut self.closing else { return };
        let is_late = now >= closing.deadline;
        let has_session = |session: &Session| session.flight.is_some() || session.is_open();
        if !is_late && self.sessions.values().any(has_session) {
            return;
        }
        if let Some(member) = &mut self.member {
            member.leave(now, core);
            if !is_late && !member.is_gone() {
                return;
            }
        }
        self.is_closed = true;
        if let Some(reply) = closing.reply.take() {
            reply.send(if is_late {
                Err(Error::new(ErrorKind::Timeout, "close the share consumer in the time allowed"))
            } else {
                Ok(())
            });
        }
    }

    fn subscribe(&mut self, now: Instant, topics: BTreeSet<Arc<str>>, core: &mut Core) {
        let group: Arc<str> = self.config.group_id.as_deref().unwrap_or_default().into();
        let rack = core.config().client_rack.as_deref().map(Arc::from);
        let interval = self.config.max_poll_interval;
        let member = self.member.get_or_insert_with(|| ShareMember::new(now, group, rack, interval));
        let gone: Vec<&Arc<str>> = member.topics().difference(&topics).collect();
        core.unwatch_topics(gone.into_iter().map(|topic| &**topic));
        core.watch_topics(now, topics.iter().cloned());
        member.subscribe(now, topics.clone());
        self.give_back(now, |delivery| !topics.contains(&delivery.partition.topic));
    }
}

fn leader(core: &Core, (id, partition): Slot) -> Option<BrokerId> {
    let topic = Arc::clone(core.cluster().topic_name(id)?);
    core.cluster().leader(&TopicPartition { topic, partition }).map(|(leader, _)| leader)
}

impl Role for ShareMachine {
    type Command = Command;
    const METRIC_GROUPS: Groups = Groups { client: "consumer-metrics", node: "consumer-node-metrics" };
    const THROTTLE_TIME: Option<ThrottleTime> = Some(ThrottleTime {
        group: "consumer-share-fetch-manager-metrics",
        average: "fetch-throttle-time-avg",
        max: "fetch-throttle-time-max",
    });

    fn handle_command(&mut self, now: Instant, command: Command, core: &mut Core) {
        match command {
            Command::Subscribe(topics) => self.subscribe(now, topics, core),
            Command::Acknowledge(said) => self.add(now, said),
            Command::Want(until) => {
                self.is_wanted = true;
                self.wake_at = until;
            }
            Command::Room | Command::Polled => {}
            Command::Commit(said, reply) => {
                self.add(now, said);
                self.commit(now, reply, core);
            }
            Command::Close(deadline, reply) => {
                self.closing = Some(Closing { deadline, reply: Some(reply) });
            }
        }
        self.drive(now, core);
    }

    fn handle_response(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core) {
        let result = match &mut self.member {
            Some(member) => member.handle_response(now, token, result, core),
            None => Some(result),
        };
        if let Some(result) = result {
            self.answered(now, token, result, core);
        }
        self.drive(now, core);
    }

    fn handle_progress(&mut self, now: Instant, core: &mut Core) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.deliveries.wake();
        }
        self.drive(now, core);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.is_closed {
            return None;
        }
        let member = self.member.as_ref().and_then(ShareMember::poll_timeout);
        let sessions = self.sessions.values().filter_map(Session::poll_timeout);
        let commits = self.commits.front().map(|commit| commit.give_up_at);
        let closing = self.closing.as_ref().map(|closing| closing.deadline);
        let leaderless = self.leaderless.map(|(at, _)| at);
        let own = [commits, member, self.wake_at, closing, leaderless];
        sessions.chain(own.into_iter().flatten()).min()
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn measure(&self, _now: Instant, sink: &mut Sink<'_>) {
        let mut report = Report::new("consumer-share-fetch-manager-metrics", &[], sink);
        report.total("fetch-total", self.counts.fetches);
        report.total("bytes-consumed-total", self.counts.bytes);
        report.total("records-consumed-total", self.counts.records);
        report.total("acknowledgements-send-total", self.counts.acknowledged);
        report.total("acknowledgements-error-total", self.counts.refused);
    }
}

//! A classic group: its members, its generations and the rebalances between them, as Kafka's `ClassicGroup`
//! and the part of its `GroupMetadataManager` that drives it.
//!
//! A pure value. A `JoinGroup` or `SyncGroup` that has to wait is known by its connection; what it is told
//! goes to [`Replies`].

mod membership;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::ErrorCode;
use serde::{Deserialize, Serialize};

use super::migration::Migrant;
use super::{Replies, Reply};
use crate::cluster::ConnectionId;

/// Members, and ids handed out to those who are to be members, of one group (Kafka's `group.max.size`).
pub(super) const MEMBERS_MAX: usize = 10_000;
/// How long a new member's first `JoinGroup` may wait: its client has no member id yet to send heartbeats with.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The protocol type of consumers, whose metadata names topics.
pub(super) const CONSUMER: &str = "consumer";

/// Where a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// No members.
    #[default]
    Empty,
    /// Members are to join (again).
    PreparingRebalance,
    /// The leader is to say who gets what.
    CompletingRebalance,
    /// Everybody knows.
    Stable,
}

impl State {
    /// Kafka's name of it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// What it could speak, the most wanted first, with its metadata for each.
    protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    /// When it is gone unless it is heard of.
    #[serde(skip)]
    deadline: Option<Instant>,
    /// Its `JoinGroup` that waits.
    #[serde(skip)]
    joining: Option<ConnectionId>,
    /// Its `SyncGroup` that waits.
    #[serde(skip)]
    syncing: Option<ConnectionId>,
    /// It was told of this generation and has not asked for its assignment yet.
    owes_sync: bool,
    /// Its first `JoinGroup` was not answered yet.
    is_new: bool,
}

impl Member {
    fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    /// When the member's silence ends its membership; one that waits for an answer is not silent.
    fn expiry(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.is_new || !self.is_waiting())
    }

    /// Its metadata for a protocol.
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        found.map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }

    fn stay(&mut self, now: Instant) {
        self.deadline = Some(now + self.session_timeout);
    }
}

/// What a `JoinGroup` says.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    pub(crate) connection: ConnectionId,
    /// Empty from who has none yet.
    pub(crate) member_id: String,
    /// The id to give out if it has none.
    pub(crate) fresh_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// KIP-394: the client asks again with the id that it is given.
    pub(crate) needs_known_id: bool,
    /// KIP-814: a static leader can be told that nothing is to be assigned.
    pub(crate) can_skip_assignment: bool,
}

/// A member as it introduces itself after it has joined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) member_id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) generation: i32,
}

/// What a `SyncGroup` says.
#[derive(Clone, Debug)]
pub(crate) struct Syncing<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) who: Identity<'a>,
    /// Type and name, from clients that know them.
    pub(crate) protocol: (Option<&'a str>, Option<&'a str>),
    /// Who gets what, from the leader.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// What a `JoinGroup` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) error: Option<ErrorCode>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    /// Everybody's id, instance id and metadata, for the leader.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

impl Joined {
    pub(crate) fn refused(code: ErrorCode, member_id: &str) -> Self {
        Self { error: Some(code), generation: -1, member_id: member_id.to_owned(), ..Self::default() }
    }
}

/// What a `SyncGroup` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) error: Option<ErrorCode>,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

/// Until when the first members of an empty group wait for others.
#[derive(Clone, Copy, Debug)]
struct Initial {
    delay: Duration,
    remaining: Duration,
    /// Somebody came since the wait began.
    has_grown: bool,
}

/// A classic group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ClassicGroup {
    state: State,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Ids that were handed out and not used yet, and until when they may be (KIP-394).
    #[serde(skip)]
    pending: BTreeMap<String, Instant>,
    /// Member ids by instance id (KIP-345).
    static_members: BTreeMap<String, String>,
    /// When the phase that the group is in ends by itself.
    #[serde(skip)]
    phase_ends: Option<Instant>,
    #[serde(skip)]
    initial: Option<Initial>,
    /// `group.initial.rebalance.delay.ms`
    #[serde(skip)]
    initial_delay: Duration,
    /// The group when it was stable or empty last: what the next coordinator finds in the log.
    #[serde(skip)]
    saved: Option<Box<Self>>,
}

impl ClassicGroup {
    pub(crate) fn new(initial_delay: Duration) -> Self {
        Self { initial_delay, ..Self::default() }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Members by id.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(id, member)| (id.as_str(), member))
    }

    /// Whether the group's members are consumers, whose subscriptions can be read.
    pub(crate) fn has_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Judges a member that says who it is.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION`.
    pub(crate) fn check(&self, who: Identity<'_>) -> Result<(), ErrorCode> {
        self.check_member(who.member_id, who.instance_id)?;
        if who.generation == self.generation { Ok(()) } else { Err(ErrorCode::ILLEGAL_GENERATION) }
    }

    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if current != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    /// Whether offsets may be committed, as Kafka's `ClassicGroup.validateOffsetCommit`.
    ///
    /// # Errors
    /// As [`ClassicGroup::check`]; `REBALANCE_IN_PROGRESS` where the generation has no assignment yet.
    pub(crate) fn check_commit(&self, who: Identity<'_>, in_transaction: bool) -> Result<(), ErrorCode> {
        if who.generation < 0 && self.is_empty() {
            return Ok(());
        }
        if who.generation >= 0 || !who.member_id.is_empty() || who.instance_id.is_some() {
            self.check(who)?;
        } else if !in_transaction && !self.is_empty() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if !in_transaction && self.state == State::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// A member was heard of.
    pub(crate) fn hear(&mut self, now: Instant, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.stay(now);
        }
    }

    /// `Heartbeat`.
    ///
    /// # Errors
    /// As [`ClassicGroup::check`]; `REBALANCE_IN_PROGRESS` asks the member to join again.
    pub(crate) fn heartbeat(&mut self, now: Instant, who: Identity<'_>) -> Result<(), ErrorCode> {
        self.check(who)?;
        self.hear(now, who.member_id);
        if self.state == State::PreparingRebalance { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// `SyncGroup`: a member asks for its assignment; the leader brings all of them.
    pub(crate) fn sync(&mut self, now: Instant, syncing: Syncing<'_>, replies: &mut Replies) {
        let Syncing { connection, who, protocol, assignments } = syncing;
        let told = match self.check_sync(who, protocol) {
            Err(code) => Synced { error: Some(code), ..Synced::default() },
            Ok(()) => {
                let state = self.state;
                let Some(member) = self.members.get_mut(who.member_id) else { return };
                member.owes_sync = false;
                if state == State::CompletingRebalance {
                    member.syncing = Some(connection);
                    if self.leader.as_deref() == Some(who.member_id) {
                        self.assign(now, assignments, replies);
                    }
                    return;
                }
                member.stay(now);
                let assignment = member.assignment.clone();
                let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
                if self.members.values().all(|member| !member.owes_sync) {
                    self.phase_ends = None;
                }
                Synced { error: None, protocol_type, protocol, assignment }
            }
        };
        replies.push((connection, Reply::Synced(told)));
    }

    fn check_sync(
        &self,
        who: Identity<'_>,
        (protocol_type, protocol): (Option<&str>, Option<&str>),
    ) -> Result<(), ErrorCode> {
        self.check(who)?;
        let differs =
            |said: Option<&str>, is: &Option<String>| said.is_some_and(|it| is.as_deref() != Some(it));
        if differs(protocol_type, &self.protocol_type) || differs(protocol, &self.protocol) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn assign(&mut self, now: Instant, assignments: Vec<(String, Bytes)>, replies: &mut Replies) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.state = State::Stable;
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        for member in self.members.values_mut() {
            if let Some(connection) = member.syncing.take() {
                member.stay(now);
                let assignment = member.assignment.clone();
                let (protocol_type, protocol) = (protocol_type.clone(), protocol.clone());
                let told = Synced { error: None, protocol_type, protocol, assignment };
                replies.push((connection, Reply::Synced(told)));
            }
        }
        if self.members.values().all(|member| !member.owes_sync) {
            self.phase_ends = None;
        }
        self.save();
    }

    /// When [`ClassicGroup::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter_map(Member::expiry);
        sessions.chain(self.pending.values().copied()).chain(self.phase_ends).min()
    }

    /// Time passed: phases end, and members that were not heard of are gone.
    pub(crate) fn expire(&mut self, now: Instant, replies: &mut Replies) {
        let is_late = |member: &Member| member.expiry().is_some_and(|at| at <= now);
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| is_late(member)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            tracing::info!(member_id = id, "a member of a group was not heard of and is gone");
            self.remove(now, &id, replies);
        }
        let before = self.pending.len();
        self.pending.retain(|_, until| *until > now);
        if self.pending.len() < before {
            self.complete_join_if_all_are_there(now, replies);
        }
        if self.phase_ends.is_some_and(|at| at <= now) {
            self.end_phase(now, replies);
        }
    }

    fn end_phase(&mut self, now: Instant, replies: &mut Replies) {
        self.phase_ends = None;
        match (self.state, self.initial) {
            (State::PreparingRebalance, Some(initial))
                if initial.has_grown && !initial.remaining.is_zero() =>
            {
                let delay = self.initial_delay.min(initial.remaining);
                let remaining = initial.remaining.saturating_sub(initial.delay);
                self.initial = Some(Initial { delay, remaining, has_grown: false });
                self.phase_ends = Some(now + delay);
            }
            (State::PreparingRebalance, _) => self.complete_join(now, replies),
            (State::CompletingRebalance | State::Stable, _) => self.drop_those_who_owe_a_sync(now, replies),
            (State::Empty, _) => {}
        }
    }

    fn drop_those_who_owe_a_sync(&mut self, now: Instant, replies: &mut Replies) {
        let late: Vec<String> =
            self.members.iter().filter(|(_, it)| it.owes_sync).map(|(id, _)| id.clone()).collect();
        for id in &late {
            self.forget(id, replies);
        }
        if !late.is_empty() {
            self.prepare(now, replies);
        }
    }

    /// Another node coordinates the group now: it knows what was saved, and nothing of who waits.
    pub(crate) fn move_coordinator(&mut self, now: Instant, replies: &mut Replies) {
        let code = ErrorCode::NOT_COORDINATOR;
        for (id, member) in &mut self.members {
            answer_waiting(id, member, code, replies);
        }
        let fresh = || Box::new(Self::new(self.initial_delay));
        let mut saved = *self.saved.take().unwrap_or_else(fresh);
        for member in saved.members.values_mut() {
            member.stay(now);
        }
        *self = saved;
        self.save();
    }

    /// The group as it is in the log; `None` before it was stable or empty once.
    pub(super) fn saved(&self) -> Option<&Self> {
        self.saved.as_deref()
    }

    /// The group that [`ClassicGroup::saved`] gave to the log, as it comes back from there.
    pub(super) fn restored(self, initial_delay: Duration) -> Self {
        let mut group = Self { initial_delay, ..self };
        group.save();
        group
    }

    /// The members, as they move to a group of KIP-848.
    pub(super) fn migrants(&self) -> Vec<Migrant> {
        let migrant = |(id, member): (&String, &Member)| Migrant {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout: member.session_timeout,
            rebalance_timeout: member.rebalance_timeout,
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        };
        self.members.iter().map(migrant).collect()
    }

    /// A stable group of those who moved here from a group of KIP-848.
    pub(super) fn from_migrants(
        now: Instant,
        initial_delay: Duration,
        generation: i32,
        migrants: Vec<Migrant>,
    ) -> Self {
        let mut group = Self::new(initial_delay);
        (group.state, group.generation) = (State::Stable, generation);
        group.protocol_type = Some(CONSUMER.to_owned());
        for migrant in migrants {
            if let Some(instance) = &migrant.instance_id {
                group.static_members.insert(instance.clone(), migrant.id.clone());
            }
            let member = Member {
                instance_id: migrant.instance_id,
                client_id: migrant.client_id,
                client_host: migrant.client_host,
                protocols: migrant.protocols,
                assignment: migrant.assignment,
                session_timeout: migrant.session_timeout,
                rebalance_timeout: migrant.rebalance_timeout,
                deadline: Some(now + migrant.session_timeout),
                joining: None,
                syncing: None,
                owes_sync: false,
                is_new: false,
            };
            group.members.insert(migrant.id, member);
        }
        group.leader = group.members.keys().next().cloned();
        group.protocol = group.choose_protocol();
        group.save();
        group
    }

    /// Tells those who wait for a decision to join again: another kind of group will make it.
    pub(super) fn ask_to_join_again(&mut self, replies: &mut Replies) {
        for (id, member) in &mut self.members {
            answer_waiting(id, member, ErrorCode::REBALANCE_IN_PROGRESS, replies);
        }
    }

    fn save(&mut self) {
        self.saved = None;
        let mut saved = self.clone();
        saved.pending.clear();
        saved.phase_ends = None;
        saved.members.values_mut().for_each(|member| member.owes_sync = false);
        self.saved = Some(Box::new(saved));
    }
}

/// Ends the wait of a member with an error.
fn answer_waiting(id: &str, member: &mut Member, code: ErrorCode, replies: &mut Replies) {
    if let Some(connection) = member.joining.take() {
        replies.push((connection, Reply::Joined(Joined::refused(code, id))));
    }
    answer_sync(member, code, replies);
}

fn answer_sync(member: &mut Member, code: ErrorCode, replies: &mut Replies) {
    if let Some(connection) = member.syncing.take() {
        let told = Synced { error: Some(code), ..Synced::default() };
        replies.push((connection, Reply::Synced(told)));
    }
}

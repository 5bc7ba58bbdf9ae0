//! A member of a group under the protocol of KIP-848: ConsumerGroupHeartbeat, and nothing else.
//!
//! The coordinator divides the partitions. Each answer to a heartbeat may tell a new assignment; the member lets go
//! of what is not in it, takes what is new, and says what it has by the next heartbeat. Members that are not
//! concerned by a change read on.

mod calls;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::calls::{Caller, Slot, Told, Verdict, judge, read_names, resolve_names};
use super::{Event, GroupMembershipOperation, Member, MemberIdentity, Subscription, new_member_id};
use crate::cluster::CoordinatorKind;
use crate::config::GroupConfig;
use crate::engine::{Core, Target, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::protocol::request::Response;
use crate::types::{TopicId, TopicPartition};

/// In place of a heartbeat interval that makes no sense; the brokers' default is 5 s.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug)]
pub(crate) struct ConsumerMember {
    config: GroupConfig,
    caller: Caller,
    state: State,
    subscription: Subscription,
    /// What the coordinator knows of this member; `None` when that is not sure, and all must be told.
    told: Option<Told>,
    /// The newest assignment.
    target: BTreeSet<Slot>,
    /// What the member has is not the newest assignment yet.
    is_behind: bool,
    slots: BTreeMap<Slot, TopicPartition>,
    /// The partitions of `slots`.
    owned: BTreeSet<TopicPartition>,
    /// What the application is letting go of.
    revoking: Option<BTreeSet<Slot>>,
    heartbeat: Heartbeat,
    names: Names,
    polled_at: Instant,
    awaits_poll: bool,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A member, or on its way to be one, if it has subscribed to anything.
    In,
    /// The heartbeat that leaves; afterwards the member is gone, or free to join again.
    Leaving {
        call: Token,
        for_good: bool,
    },
    Gone,
}

#[derive(Debug)]
struct Heartbeat {
    call: Option<Token>,
    next: Instant,
    /// As the coordinator wishes.
    interval: Duration,
    failures: u32,
}

/// Names of assigned topics that metadata does not have, since a pattern found them.
#[derive(Debug, Default)]
struct Names {
    known: BTreeMap<TopicId, Arc<str>>,
    call: Option<Token>,
    retry_at: Option<Instant>,
    failures: u32,
}

impl ConsumerMember {
    /// A member of `group` that wants nothing yet.
    pub(crate) fn new(now: Instant, group: Arc<str>, config: GroupConfig, rack: Option<Arc<str>>) -> Self {
        let interval = Duration::from_secs(5);
        Self {
            caller: Caller::new(group, rack, &config),
            config,
            state: State::In,
            subscription: Subscription::default(),
            told: None,
            target: BTreeSet::new(),
            is_behind: false,
            slots: BTreeMap::new(),
            owned: BTreeSet::new(),
            revoking: None,
            heartbeat: Heartbeat { call: None, next: now, interval, failures: 0 },
            names: Names::default(),
            polled_at: now,
            awaits_poll: false,
            events: VecDeque::new(),
        }
    }

    fn is_joined(&self) -> bool {
        self.caller.epoch > 0
    }

    /// Whether heartbeats are sent.
    fn is_active(&self) -> bool {
        self.state == State::In
            && !self.awaits_poll
            && (self.is_joined() || self.heartbeat.call.is_some() || !self.subscription.is_empty())
    }

    /// Whether the coordinator does not know all that it should.
    fn has_news(&self) -> bool {
        let Some(told) = &self.told else { return true };
        let has_changed = !told.slots.iter().eq(self.slots.keys());
        told.subscription != self.subscription || (has_changed && self.revoking.is_none())
    }

    /// Has news told at once.
    fn tell(&mut self, now: Instant) {
        if self.heartbeat.call.is_none() && self.heartbeat.failures == 0 && self.has_news() {
            self.heartbeat.next = now;
        }
    }

    fn beat(&mut self, now: Instant, core: &mut Core) {
        if self.caller.member_id.is_empty() {
            self.caller.member_id = new_member_id(core.rng());
        }
        let telling = Told {
            subscription: self.subscription.clone(),
            slots: match (&self.revoking, &self.told) {
                // What is being let go of is told when the application has done so.
                (Some(_), Some(told)) => told.slots.clone(),
                _ => self.slots.keys().copied().collect(),
            },
        };
        let request = self.caller.heartbeat(self.told.as_ref(), &telling);
        let timeout = core.config().request_timeout;
        self.heartbeat.call = Some(core.call(now, self.caller.coordinator(), request, timeout));
        self.told = Some(telling);
    }

    /// Closes in on the newest assignment: first what is not in it any more goes, then what is new comes.
    fn reconcile(&mut self, now: Instant, core: &mut Core) {
        if !self.is_behind || self.revoking.is_some() || !self.is_joined() || self.subscription.is_empty() {
            return;
        }
        let going: BTreeSet<Slot> =
            self.slots.keys().filter(|slot| !self.target.contains(slot)).copied().collect();
        if !going.is_empty() {
            return self.revoke(going);
        }
        let mut added = Vec::new();
        let mut unnamed = BTreeSet::new();
        for slot in &self.target {
            if self.slots.contains_key(slot) {
                continue;
            }
            let name = core.cluster().topic_name(slot.0).or_else(|| self.names.known.get(&slot.0));
            match name {
                Some(name) => {
                    added.push((*slot, TopicPartition { topic: Arc::clone(name), partition: slot.1 }));
                }
                None => drop(unnamed.insert(slot.0)),
            }
        }
        self.is_behind = !unnamed.is_empty();
        if !added.is_empty() || !self.is_behind {
            self.owned.extend(added.iter().map(|(_, partition)| partition.clone()));
            self.events
                .push_back(Event::Assigned(added.iter().map(|(_, partition)| partition.clone()).collect()));
            self.slots.extend(added);
            self.tell(now);
        }
        if self.is_behind {
            self.look_up(now, unnamed, core);
        }
    }

    fn revoke(&mut self, going: BTreeSet<Slot>) {
        let partitions = going.iter().filter_map(|slot| self.slots.get(slot).cloned()).collect();
        self.revoking = Some(going);
        self.events.push_back(Event::Revoke(partitions));
    }

    fn look_up(&mut self, now: Instant, ids: BTreeSet<TopicId>, core: &mut Core) {
        if self.names.call.is_none() && self.names.retry_at.is_none_or(|at| at <= now) {
            let timeout = core.config().request_timeout;
            self.names.retry_at = None;
            self.names.call = Some(core.call(now, Target::Any, resolve_names(ids), timeout));
        }
    }

    fn looked_up(&mut self, now: Instant, result: Result<Response>, core: &mut Core) {
        self.names.call = None;
        let before = self.names.known.len();
        match result.and_then(|response| read_names(&response)) {
            Ok(names) => self.names.known.extend(names),
            Err(error) => tracing::debug!(%error, group = %self.caller.group, "no names of assigned topics"),
        }
        // A topic that was deleted meanwhile is in no later assignment.
        let is_news = self.names.known.len() > before;
        self.names.failures = if is_news { 0 } else { self.names.failures.saturating_add(1) };
        self.names.retry_at = Some(now + core.retry_delay(self.names.failures.max(1)));
        self.names
            .known
            .retain(|id, _| self.target.range((*id, i32::MIN)..=(*id, i32::MAX)).next().is_some());
    }

    fn answered(&mut self, now: Instant, result: Result<Response>, core: &mut Core) {
        self.heartbeat.call = None;
        match result.and_then(|response| response.decode::<ConsumerGroupHeartbeatRequest>()) {
            Ok(answer) if answer.error_code == 0 => self.accepted(now, answer),
            Ok(answer) => {
                let verdict = judge(answer.error_code, answer.error_message.as_deref(), &self.caller);
                self.refused(now, verdict, core);
            }
            Err(error) if error.is_retriable() || error.kind() == ErrorKind::Protocol => {
                self.refused(now, Verdict::Moved(error), core);
            }
            Err(error) => self.refused(now, Verdict::Failed(self.caller.unsupported(error)), core),
        }
    }

    fn accepted(&mut self, now: Instant, answer: ConsumerGroupHeartbeatResponse) {
        self.heartbeat.failures = 0;
        if let Some(id) = answer.member_id.filter(|id| !id.is_empty()) {
            self.caller.member_id = Arc::from(id.as_str());
        }
        let has_joined = !self.is_joined();
        self.caller.epoch = answer.member_epoch.max(0);
        let interval = Duration::from_millis(answer.heartbeat_interval_ms.try_into().unwrap_or(0));
        self.heartbeat.interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        self.heartbeat.next = now + self.heartbeat.interval;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            let target: BTreeSet<Slot> = topics
                .flat_map(|topic| {
                    let id = TopicId(topic.topic_id.into_bytes());
                    topic.partitions.into_iter().map(move |partition| (id, partition))
                })
                .filter(|(_, partition)| *partition >= 0)
                .collect();
            // A coordinator that was told all, as after a move, repeats what is known.
            self.is_behind |= has_joined || target != self.target;
            self.target = target;
        }
        self.tell(now);
    }

    fn refused(&mut self, now: Instant, verdict: Verdict, core: &mut Core) {
        // Whether it has been heard is not known: the next one tells all.
        self.told = None;
        self.heartbeat.failures = self.heartbeat.failures.saturating_add(1);
        self.heartbeat.next = now + core.retry_delay(self.heartbeat.failures);
        match verdict {
            Verdict::Retry(error) => {
                tracing::debug!(%error, group = %self.caller.group, "heartbeat");
            }
            Verdict::Moved(error) => {
                tracing::debug!(%error, group = %self.caller.group, "heartbeat");
                core.forget_coordinator(CoordinatorKind::Group, &self.caller.group);
            }
            Verdict::Fenced(error) => {
                tracing::info!(%error, group = %self.caller.group, "the member lost its place and joins again");
                self.lose(now, core);
            }
            Verdict::Denied(error) => {
                self.heartbeat.next = now + self.heartbeat.interval;
                self.events.push_back(Event::Failed(error));
            }
            Verdict::Failed(error) => {
                self.lose(now, core);
                self.awaits_poll = true;
                if error.is_fatal() {
                    self.state = State::Gone;
                }
                self.events.push_back(Event::Failed(error));
            }
        }
    }

    /// Not a member any more; to be one again it joins anew.
    fn lose(&mut self, now: Instant, core: &mut Core) {
        self.forget(now, core);
        let lost = std::mem::take(&mut self.owned);
        if !lost.is_empty() {
            self.events.push_back(Event::Lost(lost.into_iter().collect()));
        }
    }

    fn forget(&mut self, now: Instant, core: &mut Core) {
        for call in [self.heartbeat.call.take(), self.names.call.take()].into_iter().flatten() {
            core.cancel(call);
        }
        self.caller.epoch = 0;
        self.told = None;
        self.target.clear();
        self.is_behind = false;
        self.slots.clear();
        self.revoking = None;
        self.names = Names::default();
        if self.heartbeat.failures == 0 {
            self.heartbeat.next = now;
        }
    }

    fn send_leave(&mut self, now: Instant, epoch: i32, for_good: bool, core: &mut Core) {
        let timeout = core.config().request_timeout;
        let request = self.caller.leave(epoch);
        let call = core.call(now, self.caller.coordinator(), request, timeout);
        self.forget(now, core);
        self.state = State::Leaving { call, for_good };
    }

    /// The application has not polled for too long: its partitions are for others now.
    fn leave_until_polled(&mut self, now: Instant, core: &mut Core) {
        let interval = self.config.max_poll_interval.as_millis();
        tracing::warn!(
            group = %self.caller.group, max_poll_interval_ms = interval,
            "the application has not polled for too long, and its member leaves the group until it does; \
             let it poll more often, or raise max.poll.interval.ms"
        );
        self.awaits_poll = true;
        let may_be_member = self.is_joined() || self.heartbeat.call.is_some();
        if may_be_member {
            self.send_leave(now, self.caller.leave_epoch(GroupMembershipOperation::Default), false, core);
        }
        self.lose(now, core);
    }

    fn is_stuck(&self, now: Instant) -> bool {
        self.is_active() && now >= self.polled_at + self.config.max_poll_interval
    }

    /// It was unsubscribed: leaves when the application has let go of everything.
    fn finish_unsubscribe(&mut self, now: Instant, core: &mut Core) {
        if !self.subscription.is_empty() || !self.is_joined() || self.revoking.is_some() {
            return;
        }
        if self.slots.is_empty() {
            let epoch = self.caller.leave_epoch(GroupMembershipOperation::Default);
            self.send_leave(now, epoch, false, core);
        } else {
            self.revoke(self.slots.keys().copied().collect());
        }
    }
}

impl Member for ConsumerMember {
    fn subscribe(&mut self, now: Instant, subscription: Subscription, core: &mut Core) {
        if self.subscription.is_empty() {
            // The application is there: the interval counts from now on.
            self.polled_at = now;
        }
        self.subscription = subscription;
        if self.is_active() {
            self.tell(now);
        }
        self.drive(now, core);
    }

    fn drive(&mut self, now: Instant, core: &mut Core) {
        if self.is_stuck(now) {
            self.leave_until_polled(now, core);
        }
        if !self.is_active() {
            return;
        }
        self.finish_unsubscribe(now, core);
        self.reconcile(now, core);
        if self.is_active() && self.heartbeat.call.is_none() && now >= self.heartbeat.next {
            self.beat(now, core);
        }
    }

    fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        core: &mut Core,
    ) -> Option<Result<Response>> {
        if self.heartbeat.call == Some(token) {
            self.answered(now, result, core);
        } else if self.names.call == Some(token) {
            self.looked_up(now, result, core);
        } else if let State::Leaving { call, for_good } = self.state
            && call == token
        {
            // Whatever the answer is: a leave that was not heard ends with the session.
            self.state = if for_good { State::Gone } else { State::In };
            self.heartbeat.next = now;
        } else {
            return Some(result);
        }
        self.drive(now, core);
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn revoked(&mut self, now: Instant, core: &mut Core) {
        let Some(gone) = self.revoking.take() else { return };
        for slot in gone {
            if let Some(partition) = self.slots.remove(&slot) {
                self.owned.remove(&partition);
            }
        }
        self.tell(now);
        self.drive(now, core);
    }

    fn polled(&mut self, now: Instant) {
        self.polled_at = now;
        if std::mem::take(&mut self.awaits_poll) {
            self.heartbeat.next = self.heartbeat.next.max(now);
        }
    }

    fn awaits_poll(&self) -> bool {
        self.awaits_poll
    }

    fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    fn identity(&self) -> Option<MemberIdentity> {
        self.is_joined().then(|| MemberIdentity {
            member_id: Arc::clone(&self.caller.member_id),
            generation: self.caller.epoch,
            instance_id: self.caller.instance_id.clone(),
        })
    }

    fn watches(&self, topic: &str) -> bool {
        self.subscription.topics.contains(topic) || self.owned.iter().any(|owned| *owned.topic == *topic)
    }

    fn leave(&mut self, now: Instant, operation: GroupMembershipOperation, core: &mut Core) {
        self.subscription = Subscription::default();
        self.owned.clear();
        match &mut self.state {
            State::Gone => return,
            State::Leaving { for_good, .. } => return *for_good = true,
            State::In => {}
        }
        let may_be_member = self.is_joined() || self.heartbeat.call.is_some();
        let stays = operation == GroupMembershipOperation::RemainInGroup && self.caller.instance_id.is_none();
        if may_be_member && !stays {
            self.send_leave(now, self.caller.leave_epoch(operation), true, core);
        } else {
            self.forget(now, core);
            self.state = State::Gone;
        }
    }

    fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_active() {
            return None;
        }
        let heartbeat = self.heartbeat.call.is_none().then_some(self.heartbeat.next);
        let names = self.names.retry_at.filter(|_| self.is_behind && self.names.call.is_none());
        let poll = Some(self.polled_at + self.config.max_poll_interval);
        [heartbeat, names.filter(|_| self.revoking.is_none()), poll].into_iter().flatten().min()
    }
}

/// So that a fatal refusal says what can be done about it.
impl Caller {
    fn unsupported(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Unsupported => {
                let text = format!("join group '{}' by the protocol of KIP-848", self.group);
                Error::new(ErrorKind::Unsupported, text)
                    .with_cause(error)
                    .with_hint("brokers have it from 4.0 on; set group.protocol=classic")
            }
            _ => error,
        }
    }
}

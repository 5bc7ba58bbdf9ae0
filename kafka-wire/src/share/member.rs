//! Membership of a share group: ShareGroupHeartbeat. As under KIP-848 the coordinator divides the partitions, but
//! several members may have the same, so nobody has to wait for another to let go.
//!
//! A member whose application does not poll for `max.poll.interval.ms` leaves, and joins again with the next poll.
//! What it has acquired stays its own until the locks end, as in Java: they are the partitions' leaders' affair.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session::Slot;
use crate::cluster::CoordinatorKind;
use crate::engine::{Core, Target, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::group::new_member_id;
use crate::protocol::messages::{
    GroupId, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, StrBytes, TopicName,
};
use crate::protocol::request::{Plain, Response};
use crate::types::TopicId;

/// How often a member that leaves looks for a coordinator that has moved.
const PARTING_RETRIES_MAX: u32 = 2;
/// In place of a heartbeat interval that makes no sense; the brokers' default is 5 s.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug)]
pub(super) struct ShareMember {
    group: Arc<str>,
    /// Its own choice, and kept for life; empty before it joins.
    id: Arc<str>,
    rack: Option<Arc<str>>,
    /// 0 while it is not a member.
    epoch: i32,
    topics: BTreeSet<Arc<str>>,
    /// What the coordinator knows them to be; `None` when that is not sure.
    told: Option<BTreeSet<Arc<str>>>,
    assignment: BTreeSet<Slot>,
    call: Option<Token>,
    /// The heartbeat that says that it leaves, and how often it may be said again to another coordinator. One that is
    /// not heard ends with the session.
    parting: Option<(Token, u32)>,
    next: Instant,
    interval: Duration,
    failures: u32,
    max_poll_interval: Duration,
    polled_at: Instant,
    /// The application was too slow: it joins again when that polls.
    awaits_poll: bool,
    /// It leaves for good.
    is_closing: bool,
    failure: Option<Error>,
}

impl ShareMember {
    pub(super) fn new(
        now: Instant,
        group: Arc<str>,
        rack: Option<Arc<str>>,
        max_poll_interval: Duration,
    ) -> Self {
        Self {
            group,
            id: "".into(),
            rack,
            epoch: 0,
            topics: BTreeSet::new(),
            told: None,
            assignment: BTreeSet::new(),
            call: None,
            parting: None,
            next: now,
            interval: Duration::from_secs(5),
            failures: 0,
            max_poll_interval,
            polled_at: now,
            awaits_poll: false,
            is_closing: false,
            failure: None,
        }
    }

    pub(super) fn group(&self) -> &Arc<str> {
        &self.group
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(super) fn assignment(&self) -> &BTreeSet<Slot> {
        &self.assignment
    }

    pub(super) fn topics(&self) -> &BTreeSet<Arc<str>> {
        &self.topics
    }

    /// What the application should know, once.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Reads these topics from now on; leaves when there are none.
    pub(super) fn subscribe(&mut self, now: Instant, topics: BTreeSet<Arc<str>>) {
        self.topics = topics;
        if self.call.is_none() && self.failures == 0 {
            self.next = now;
        }
    }

    /// The application has polled, or waits in a poll.
    pub(super) fn polled(&mut self, now: Instant) {
        self.polled_at = now;
        if std::mem::take(&mut self.awaits_poll) {
            self.next = now;
        }
    }

    pub(super) fn awaits_poll(&self) -> bool {
        self.awaits_poll
    }

    /// Leaves for good.
    pub(super) fn leave(&mut self, now: Instant, core: &mut Core) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.part(now, core);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_closing && self.parting.is_none()
    }

    fn may_be_member(&self) -> bool {
        self.epoch > 0 || self.call.is_some()
    }

    /// Leaves, if it is a member. The id is kept: it may join again.
    fn part(&mut self, now: Instant, core: &mut Core) {
        let may_be_member = self.may_be_member();
        if let Some(call) = self.call.take() {
            core.cancel(call);
        }
        self.assignment.clear();
        self.told = None;
        self.failures = 0;
        self.next = now;
        self.epoch = 0;
        if may_be_member {
            self.say_farewell(now, PARTING_RETRIES_MAX, core);
        }
    }

    fn say_farewell(&mut self, now: Instant, retries: u32, core: &mut Core) {
        self.epoch = -1;
        self.parting = Some((self.beat(now, core), retries));
        self.epoch = 0;
    }

    fn parted(&mut self, now: Instant, retries: u32, result: Result<Response>, core: &mut Core) {
        self.parting = None;
        let answer = result.and_then(|response| response.decode::<ShareGroupHeartbeatRequest>());
        let code = answer.ok().and_then(|answer| ErrorCode::from_wire(answer.error_code));
        let has_moved =
            matches!(code, Some(ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE));
        if has_moved && retries > 0 && !self.may_be_member() {
            core.forget_coordinator(CoordinatorKind::Group, &self.group);
            self.say_farewell(now, retries - 1, core);
        }
    }

    fn is_active(&self) -> bool {
        !self.is_closing && !self.awaits_poll && (self.may_be_member() || !self.topics.is_empty())
    }

    fn is_stuck(&self, now: Instant) -> bool {
        self.is_active() && now >= self.polled_at + self.max_poll_interval
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let next = if self.call.is_none() { Some(self.next) } else { None };
        let stuck = Some(self.polled_at + self.max_poll_interval);
        next.into_iter().chain(stuck).min().filter(|_| self.is_active())
    }

    pub(super) fn drive(&mut self, now: Instant, core: &mut Core) {
        if self.is_stuck(now) {
            tracing::warn!(
                group = %self.group, max_poll_interval_ms = self.max_poll_interval.as_millis(),
                "the application has not polled for too long, and its member leaves the group until it does; \
                 let it poll more often, or raise max.poll.interval.ms"
            );
            self.part(now, core);
            self.awaits_poll = true;
        }
        if !self.is_active() {
            return;
        }
        if self.topics.is_empty() {
            self.part(now, core);
        } else if self.call.is_none() && now >= self.next {
            if self.id.is_empty() {
                self.id = new_member_id(core.rng());
            }
            self.call = Some(self.beat(now, core));
        }
    }

    fn beat(&mut self, now: Instant, core: &mut Core) -> Token {
        let text = |value: &str| StrBytes::from_string(value.to_owned());
        let mut request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_subscribed_topic_names(None);
        if self.epoch >= 0 {
            if self.told.is_none() {
                request.rack_id = self.rack.as_deref().map(text);
            }
            if self.told.as_ref() != Some(&self.topics) {
                let names = self.topics.iter().map(|topic| TopicName(text(topic)));
                request.subscribed_topic_names = Some(names.collect());
                self.told = Some(self.topics.clone());
            }
        }
        let to = Target::Coordinator { kind: CoordinatorKind::Group, key: Arc::clone(&self.group) };
        let timeout = core.config().request_timeout;
        core.call(now, to, Box::new(Plain::new(request)), timeout)
    }

    /// Takes the answer if it was asked for here.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        core: &mut Core,
    ) -> Option<Result<Response>> {
        if let Some((_, retries)) = self.parting.filter(|(parting, _)| *parting == token) {
            self.parted(now, retries, result, core);
            return None;
        }
        if self.call != Some(token) {
            return Some(result);
        }
        self.call = None;
        match result.and_then(|response| response.decode::<ShareGroupHeartbeatRequest>()) {
            Ok(answer) if answer.error_code == 0 => self.accepted(now, answer),
            Ok(answer) => {
                let said = answer.error_message.filter(|said| !said.is_empty());
                let said = said.map_or_else(String::new, |said| format!(" (the broker says: {said})"));
                let text = format!("be a member of share group '{}'{said}", self.group);
                let code = ErrorCode::from_wire(answer.error_code).unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
                self.refused(now, Error::broker(code, text), core);
            }
            Err(error) => self.refused(now, error, core),
        }
        None
    }

    fn accepted(&mut self, now: Instant, answer: ShareGroupHeartbeatResponse) {
        self.failures = 0;
        self.epoch = answer.member_epoch.max(0);
        let interval = Duration::from_millis(answer.heartbeat_interval_ms.try_into().unwrap_or(0));
        self.interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let is_told = self.told.as_ref() == Some(&self.topics);
        self.next = if is_told { now + self.interval } else { now };
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            let slots = topics.flat_map(|topic| {
                let id = TopicId(topic.topic_id.into_bytes());
                topic.partitions.into_iter().map(move |partition| (id, partition))
            });
            self.assignment = slots.filter(|(_, partition)| *partition >= 0).collect();
        }
    }

    fn refused(&mut self, now: Instant, error: Error, core: &mut Core) {
        self.told = None;
        self.failures = self.failures.saturating_add(1);
        self.next = now + core.retry_delay(self.failures);
        match error.code() {
            Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH) => {
                tracing::info!(%error, group = %self.group, "the member lost its place and joins again");
                self.epoch = 0;
                self.assignment.clear();
            }
            Some(code) if code.is_retriable() => {
                tracing::debug!(%error, group = %self.group, "heartbeat");
                if code != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS {
                    core.forget_coordinator(CoordinatorKind::Group, &self.group);
                }
            }
            None if error.is_retriable() || error.kind() == ErrorKind::Protocol => {
                tracing::debug!(%error, group = %self.group, "heartbeat");
            }
            _ => {
                // It may be allowed, or switched on, meanwhile.
                self.next = now + self.interval;
                self.failure = Some(self.explain(error));
            }
        }
    }

    fn explain(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Unsupported => {
                Error::new(ErrorKind::Unsupported, format!("join share group '{}'", self.group))
                    .with_cause(error)
                    .with_hint("brokers have share groups from 4.1 on, where the feature share.version is 1")
            }
            ErrorKind::Broker(ErrorCode::GROUP_AUTHORIZATION_FAILED) => {
                error.with_hint("the principal needs READ on the group")
            }
            _ => error,
        }
    }
}

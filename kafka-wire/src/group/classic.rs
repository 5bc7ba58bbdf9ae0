//! A member of a group under the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! It joins with what it wants; the coordinator collects all members and names one the leader, who divides the
//! partitions; SyncGroup brings each its share. Heartbeats keep it in, and tell it when to join again. With an eager
//! strategy everything is let go of before it joins again; with a cooperative one (KIP-429) only what it has to give
//! up, after which all join once more.
//!
//! Unlike Java's, it joins in the background: only what the application must let go of waits for the application.

mod calls;
mod leader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::calls::{Caller, PROTOCOL_TYPE, Verdict, judge};
use self::leader::{Assignments, Leader};
use super::{Event, GroupMembershipOperation, Member, MemberIdentity, Subscription, assignor};
use crate::cluster::CoordinatorKind;
use crate::config::{GroupConfig, Strategy};
use crate::engine::{Core, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::messages::{HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};
use crate::protocol::request::Response;
use crate::protocol::subscription::{AssignmentData, SubscriptionData};
use crate::types::TopicPartition;

/// A JoinGroup waits in the coordinator for as long as a rebalance may take; its answer gets this much longer, as in
/// Java.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct ClassicMember {
    config: GroupConfig,
    /// `client.rack`.
    rack: Option<Arc<str>>,
    caller: Caller,
    state: State,
    topics: BTreeSet<Arc<str>>,
    /// Those of the last JoinGroup.
    joined_topics: BTreeSet<Arc<str>>,
    owned: BTreeSet<TopicPartition>,
    /// Those of them that the application has been told to let go of.
    revoking: Vec<TopicPartition>,
    /// The last assignment, whatever became of it, with its generation: sticky strategies go by it.
    held: (BTreeSet<TopicPartition>, i32),
    leader: Option<Leader>,
    /// Why to join again, while in the group.
    rejoin: Option<&'static str>,
    heartbeat: Heartbeat,
    /// A call that leaves, whose outcome does not matter.
    farewell: Option<Token>,
    retry_at: Option<Instant>,
    failures: u32,
    polled_at: Instant,
    awaits_poll: bool,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// About to join, if there is something to join for.
    Unjoined,
    /// The application lets go of partitions; then it joins.
    Revoking,
    Joining(Token),
    /// It leads the group and waits for metadata.
    Dividing,
    Syncing(Token),
    Stable,
    /// The call that leaves; afterwards the member is gone, or free to join again.
    Leaving {
        call: Token,
        for_good: bool,
    },
    Gone,
}

#[derive(Debug, Default)]
struct Heartbeat {
    /// Under way, for that generation.
    call: Option<(Token, i32)>,
    next: Option<Instant>,
    failures: u32,
}

impl ClassicMember {
    /// A member of `group` that wants nothing yet.
    pub(crate) fn new(now: Instant, group: Arc<str>, config: GroupConfig, rack: Option<Arc<str>>) -> Self {
        let instance_id = config.instance_id.as_deref().map(Arc::from);
        Self {
            rack,
            caller: Caller { group, instance_id, member_id: "".into(), generation: -1 },
            config,
            state: State::Unjoined,
            topics: BTreeSet::new(),
            joined_topics: BTreeSet::new(),
            owned: BTreeSet::new(),
            revoking: Vec::new(),
            held: (BTreeSet::new(), -1),
            leader: None,
            rejoin: None,
            heartbeat: Heartbeat::default(),
            farewell: None,
            retry_at: None,
            failures: 0,
            polled_at: now,
            awaits_poll: false,
            events: VecDeque::new(),
        }
    }

    /// Cooperative when every strategy is, as Java decides it.
    fn is_cooperative(&self) -> bool {
        self.config.strategies.iter().all(|strategy| *strategy == Strategy::CooperativeSticky)
    }

    fn is_in_group(&self) -> bool {
        self.caller.generation >= 0
    }

    /// Whether it has to do with a group at all, or is on its way into one.
    fn is_active(&self) -> bool {
        let is_out = matches!(self.state, State::Leaving { .. } | State::Gone);
        !is_out && !self.awaits_poll && (self.is_in_group() || !self.topics.is_empty())
    }

    fn is_stuck(&self, now: Instant) -> bool {
        self.is_active() && now >= self.polled_at + self.config.max_poll_interval
    }

    /// The application has not polled for too long: its partitions are for others now.
    fn leave_until_polled(&mut self, now: Instant, core: &mut Core) {
        let interval = self.config.max_poll_interval.as_millis();
        tracing::warn!(
            group = %self.caller.group, max_poll_interval_ms = interval,
            "the application has not polled for too long, and its member leaves the group until it does; \
             let it poll more often, or raise max.poll.interval.ms"
        );
        // A static one is only fenced when it joins again: nobody else gets its partitions before its session ends.
        if self.caller.instance_id.is_none() && !self.caller.member_id.is_empty() {
            self.farewell = Some(self.call_leave(now, "consumer poll timeout has expired", core));
        }
        self.lose(false, core);
        self.awaits_poll = true;
    }

    /// Lets go of what must not be kept while joining; joins when that is nothing.
    fn prepare_join(&mut self, now: Instant, core: &mut Core) {
        let is_cooperative = self.is_cooperative();
        let goes = |at: &&TopicPartition| !is_cooperative || !self.topics.contains(&at.topic);
        let going: Vec<TopicPartition> = self.owned.iter().filter(goes).cloned().collect();
        if going.is_empty() {
            self.join(now, core);
        } else {
            self.revoke(going);
        }
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>) {
        self.state = State::Revoking;
        self.revoking.clone_from(&partitions);
        self.events.push_back(Event::Revoke(partitions));
    }

    fn join(&mut self, now: Instant, core: &mut Core) {
        let owned: Vec<TopicPartition> = self.owned.iter().cloned().collect();
        let mut protocols = Vec::new();
        for strategy in self.config.strategies.clone() {
            let (held, held_generation) = &self.held;
            let subscription = SubscriptionData {
                topics: self.topics.iter().cloned().collect(),
                user_data: assignor::user_data(strategy, held, *held_generation),
                owned: owned.clone(),
                generation: self.caller.generation,
                rack: self.rack.clone(),
            };
            match subscription.encode() {
                Ok(bytes) => protocols.push((strategy.name(), bytes)),
                Err(error) => return self.fail(now, error, core),
            }
        }
        self.joined_topics = self.topics.clone();
        let reason = self.rejoin.take().unwrap_or("joins");
        let rebalance_timeout = self.config.max_poll_interval;
        let request = self.caller.join(
            to_millis(self.config.session_timeout),
            to_millis(rebalance_timeout),
            protocols,
            reason,
        );
        let timeout = core.config().request_timeout.max(rebalance_timeout + JOIN_GRACE);
        self.stop_heartbeat(core);
        self.drop_leader(core);
        self.retry_at = None;
        self.state = State::Joining(core.call(now, self.caller.coordinator(), request, timeout));
        tracing::debug!(group = %self.caller.group, member = %self.caller.member_id, reason, "joining");
    }

    fn joined(&mut self, now: Instant, response: Response, core: &mut Core) -> Result<()> {
        let answer = response.decode::<JoinGroupRequest>()?;
        let is_new = self.caller.member_id.is_empty() && !answer.member_id.is_empty();
        if answer.error_code == ErrorCode::MEMBER_ID_REQUIRED.code() && is_new {
            self.caller.member_id = Arc::from(answer.member_id.as_str());
            self.join(now, core);
            return Ok(());
        }
        ErrorCode::check(answer.error_code).map_err(|code| Error::broker(code, "join"))?;
        let protocol = answer.protocol_name.as_deref().unwrap_or_default();
        let strategy = self.config.strategies.iter().copied().find(|strategy| strategy.name() == protocol);
        let is_ours = answer.protocol_type.as_deref().is_none_or(|kind| kind == PROTOCOL_TYPE);
        let (Some(strategy), true, true) = (strategy, is_ours, answer.generation_id >= 0) else {
            let group = &self.caller.group;
            let text = format!(
                "join group '{group}': the answer chose strategy '{protocol}', which was not offered"
            );
            return Err(Error::new(ErrorKind::Protocol, text));
        };
        self.caller.member_id = Arc::from(answer.member_id.as_str());
        self.caller.generation = answer.generation_id;
        self.failures = 0;
        self.heartbeat.next = Some(now + self.config.heartbeat_interval);
        if answer.leader != answer.member_id {
            self.sync(now, strategy, Vec::new(), core);
            return Ok(());
        }
        let mut leader = Leader::new(now, strategy, answer.members, core);
        if answer.skip_assignment {
            leader.note_partitions(core.cluster());
            self.sync(now, strategy, Vec::new(), core);
        } else {
            self.state = State::Dividing;
        }
        self.leader = Some(leader);
        Ok(())
    }

    /// What only the others read is no longer its business.
    fn drop_leader(&mut self, core: &mut Core) {
        if let Some(leader) = self.leader.take() {
            core.unwatch_topics(leader.topics().filter(|topic| !self.topics.contains(*topic)));
        }
    }

    fn divide(&mut self, now: Instant, core: &mut Core) {
        let Some(leader) = &mut self.leader else { return };
        let strategy = leader.strategy();
        match leader.divide(now, core) {
            None => {}
            Some(Ok(assignments)) => self.sync(now, strategy, assignments, core),
            Some(Err(error)) => self.fail(now, error, core),
        }
    }

    fn sync(&mut self, now: Instant, strategy: Strategy, assignments: Assignments, core: &mut Core) {
        let request = self.caller.sync(strategy.name(), assignments);
        let timeout = core.config().request_timeout;
        self.state = State::Syncing(core.call(now, self.caller.coordinator(), request, timeout));
    }

    fn synced(&mut self, response: Response) -> Result<()> {
        let answer = response.decode::<SyncGroupRequest>()?;
        ErrorCode::check(answer.error_code).map_err(|code| Error::broker(code, "sync"))?;
        let assignment = AssignmentData::decode(&answer.assignment)?;
        // What the leader gave without having been asked for it is not wanted.
        let wanted = |at: &TopicPartition| self.joined_topics.contains(&at.topic) && at.partition >= 0;
        let assigned: BTreeSet<TopicPartition> = assignment.partitions.into_iter().filter(wanted).collect();
        self.held = (assigned.clone(), self.caller.generation);
        let revoked: Vec<TopicPartition> = self.owned.difference(&assigned).cloned().collect();
        let added: Vec<TopicPartition> = assigned.difference(&self.owned).cloned().collect();
        tracing::debug!(
            group = %self.caller.group, generation = self.caller.generation, partitions = assigned.len(),
            "a rebalance is over"
        );
        self.owned.extend(assigned);
        self.failures = 0;
        self.state = State::Stable;
        if !revoked.is_empty() {
            self.rejoin = Some("gave up partitions for others");
            self.revoke(revoked);
        }
        self.events.push_back(Event::Assigned(added));
        Ok(())
    }

    fn beat(&mut self, now: Instant, core: &mut Core) {
        let is_due = self.heartbeat.call.is_none() && self.heartbeat.next.is_some_and(|at| at <= now);
        let beats =
            matches!(self.state, State::Revoking | State::Dividing | State::Syncing(_) | State::Stable);
        if is_due && beats && self.is_in_group() {
            let timeout = core.config().request_timeout.min(self.config.session_timeout);
            let token = core.call(now, self.caller.coordinator(), self.caller.heartbeat(), timeout);
            self.heartbeat.call = Some((token, self.caller.generation));
            self.heartbeat.next = Some(now + self.config.heartbeat_interval);
        }
    }

    fn stop_heartbeat(&mut self, core: &mut Core) {
        if let Some((token, _)) = self.heartbeat.call.take() {
            core.cancel(token);
        }
        self.heartbeat = Heartbeat::default();
    }

    fn heard(&mut self, now: Instant, generation: i32, result: Result<Response>, core: &mut Core) {
        let checked = result.and_then(|response| response.decode::<HeartbeatRequest>()).and_then(|answer| {
            ErrorCode::check(answer.error_code).map_err(|code| Error::broker(code, "heartbeat"))
        });
        let Err(error) = checked else {
            self.heartbeat.failures = 0;
            return;
        };
        if generation != self.caller.generation {
            return; // It joined anew meanwhile.
        }
        let verdict = match error.kind() {
            // An answer that makes no sense is as good as none.
            ErrorKind::Protocol => Verdict::Moved,
            _ => judge(&error, "stay in", &self.caller),
        };
        match verdict {
            Verdict::Retry | Verdict::Moved | Verdict::MemberIdRequired => {
                self.forget_coordinator_after(&error, core);
                self.heartbeat.failures = self.heartbeat.failures.saturating_add(1);
                self.heartbeat.next = Some(now + core.retry_delay(self.heartbeat.failures));
            }
            Verdict::Rejoin => {
                if self.state == State::Stable {
                    self.rejoin = Some("group is already rebalancing");
                }
            }
            Verdict::Lost { keep_member_id } => self.lose(keep_member_id, core),
            Verdict::Failed(error) => self.fail(now, error, core),
        }
    }

    /// A JoinGroup or SyncGroup came to nothing.
    fn refused(&mut self, now: Instant, error: Error, attempted: &'static str, core: &mut Core) {
        tracing::debug!(group = %self.caller.group, %error, attempted, "not yet");
        self.drop_leader(core);
        self.state = State::Unjoined;
        match judge(&error, attempted, &self.caller) {
            Verdict::Retry | Verdict::Moved | Verdict::MemberIdRequired => {
                self.forget_coordinator_after(&error, core);
            }
            Verdict::Rejoin => {}
            Verdict::Lost { keep_member_id } => self.lose(keep_member_id, core),
            Verdict::Failed(error) => return self.fail(now, error, core),
        }
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + core.retry_delay(self.failures));
    }

    fn forget_coordinator_after(&self, error: &Error, core: &mut Core) {
        let is_known_to_be_there =
            error.code().is_some_and(|code| code == ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        if !is_known_to_be_there {
            core.forget_coordinator(CoordinatorKind::Group, &self.caller.group);
        }
    }

    /// It is out of the group, and what it owned is for others.
    fn lose(&mut self, keep_member_id: bool, core: &mut Core) {
        if let State::Joining(token) | State::Syncing(token) = self.state {
            core.cancel(token);
        }
        self.stop_heartbeat(core);
        if !keep_member_id {
            self.caller.member_id = "".into();
        }
        self.caller.generation = -1;
        self.drop_leader(core);
        self.rejoin = None;
        self.retry_at = None;
        self.state = State::Unjoined;
        let lost = std::mem::take(&mut self.owned);
        if !lost.is_empty() {
            self.events.push_back(Event::Lost(lost.into_iter().collect()));
        }
    }

    fn fail(&mut self, now: Instant, error: Error, core: &mut Core) {
        self.lose(true, core);
        if error.is_fatal() {
            self.state = State::Gone;
        }
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + core.retry_delay(self.failures));
        self.awaits_poll = true;
        self.events.push_back(Event::Failed(error));
    }

    fn call_leave(&self, now: Instant, reason: &str, core: &mut Core) -> Token {
        let timeout = core.config().request_timeout;
        core.call(now, self.caller.coordinator(), self.caller.leave(reason), timeout)
    }

    fn depart(&mut self, now: Instant, leaves: bool, for_good: bool, core: &mut Core) {
        let is_member = !self.caller.member_id.is_empty() && self.state != State::Gone;
        let leaving = match self.state {
            State::Leaving { call, .. } => Some(call),
            _ => None,
        };
        let call = (leaves && is_member).then(|| {
            let reason = if for_good {
                "the consumer is being closed"
            } else {
                "the consumer unsubscribed from all topics"
            };
            self.call_leave(now, reason, core)
        });
        self.owned.clear(); // By the application's own will: nothing to be told.
        self.lose(false, core);
        self.topics.clear();
        self.state = match call.or(leaving) {
            Some(call) => State::Leaving { call, for_good },
            None if for_good => State::Gone,
            None => State::Unjoined,
        };
    }
}

impl Member for ClassicMember {
    fn subscribe(&mut self, now: Instant, subscription: Subscription, core: &mut Core) {
        if subscription.is_empty() {
            // As in Java: an instance that unsubscribes stays, so that it may come back.
            self.depart(now, self.caller.instance_id.is_none(), false, core);
        } else {
            core.watch_topics(now, subscription.topics.iter().cloned());
            if self.topics.is_empty() {
                self.polled_at = now;
            }
            self.topics = subscription.topics;
        }
        self.drive(now, core);
    }

    fn drive(&mut self, now: Instant, core: &mut Core) {
        if self.is_stuck(now) {
            self.leave_until_polled(now, core);
        }
        if self.state == State::Stable {
            if self.joined_topics != self.topics {
                self.rejoin = Some("the subscription has changed");
            } else if self.leader.as_mut().is_some_and(|leader| leader.is_outdated(now, core.cluster())) {
                self.rejoin = Some("the topics' partitions have changed");
            }
            if self.rejoin.is_some() {
                self.prepare_join(now, core);
            }
        }
        let may_join =
            !self.topics.is_empty() && !self.awaits_poll && self.retry_at.is_none_or(|at| at <= now);
        if self.state == State::Unjoined && may_join {
            self.prepare_join(now, core);
        }
        if self.state == State::Dividing {
            self.divide(now, core);
        }
        self.beat(now, core);
    }

    fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        core: &mut Core,
    ) -> Option<Result<Response>> {
        match (self.state, self.heartbeat.call) {
            (State::Joining(call), _) if call == token => {
                if let Err(error) = result.and_then(|response| self.joined(now, response, core)) {
                    self.refused(now, error, "join", core);
                }
            }
            (State::Syncing(call), _) if call == token => {
                if let Err(error) = result.and_then(|response| self.synced(response)) {
                    self.refused(now, error, "take part in", core);
                }
            }
            (State::Leaving { call, for_good }, _) if call == token => {
                let left = result.and_then(|response| response.decode::<LeaveGroupRequest>());
                if let Err(error) = left {
                    tracing::debug!(group = %self.caller.group, %error, "not told that it has left");
                }
                self.state = if for_good { State::Gone } else { State::Unjoined };
            }
            (_, Some((call, generation))) if call == token => {
                self.heartbeat.call = None;
                self.heard(now, generation, result, core);
            }
            _ if self.farewell == Some(token) => self.farewell = None,
            _ => return Some(result),
        }
        self.drive(now, core);
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn revoked(&mut self, now: Instant, core: &mut Core) {
        if self.state != State::Revoking {
            return;
        }
        for partition in std::mem::take(&mut self.revoking) {
            self.owned.remove(&partition);
        }
        self.prepare_join(now, core);
    }

    fn polled(&mut self, now: Instant) {
        self.polled_at = now;
        if self.state != State::Gone {
            self.awaits_poll = false;
        }
    }

    fn awaits_poll(&self) -> bool {
        self.awaits_poll && self.state != State::Gone
    }

    fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    fn identity(&self) -> Option<MemberIdentity> {
        self.is_in_group().then(|| MemberIdentity {
            member_id: Arc::clone(&self.caller.member_id),
            generation: self.caller.generation,
            instance_id: self.caller.instance_id.clone(),
        })
    }

    fn watches(&self, topic: &str) -> bool {
        self.topics.contains(topic) || self.leader.as_ref().is_some_and(|leader| leader.watches(topic))
    }

    fn leave(&mut self, now: Instant, operation: GroupMembershipOperation, core: &mut Core) {
        let leaves = match operation {
            GroupMembershipOperation::Default => self.caller.instance_id.is_none(),
            GroupMembershipOperation::LeaveGroup => true,
            GroupMembershipOperation::RemainInGroup => false,
        };
        self.depart(now, leaves, true, core);
    }

    fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let stuck = self.is_active().then(|| self.polled_at + self.config.max_poll_interval);
        let wants_to_join = self.state == State::Unjoined && !self.topics.is_empty() && !self.awaits_poll;
        let retry = self.retry_at.filter(|_| wants_to_join);
        let beat = self.heartbeat.next.filter(|_| {
            let beats =
                matches!(self.state, State::Revoking | State::Dividing | State::Syncing(_) | State::Stable);
            beats && self.heartbeat.call.is_none()
        });
        let metadata = self.leader.as_ref().and_then(|leader| match self.state {
            State::Dividing => Some(leader.give_up_at()),
            State::Stable => leader.poll_timeout(),
            _ => None,
        });
        [stuck, retry, beat, metadata].into_iter().flatten().min()
    }
}

fn to_millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

//! A consumer's membership of its group: the subscription, the member that serves it, and what the application must
//! do before the member may go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::buffers::SharedBuffers;
use super::lookup::{UNKNOWN_TOPIC_PATIENCE, is_unknown, refused_topic, unknown_topic};
use super::pattern::{TopicFinder, TopicPattern};
use super::rebalance::SharedRebalances;
use crate::config::{ConsumerConfig, GroupProtocol};
use crate::engine::{Core, Token};
use crate::error::{Error, ErrorCode, Result};
use crate::group::classic::ClassicMember;
use crate::group::consumer_protocol::ConsumerMember;
use crate::group::{Event, GroupMembershipOperation, Member, MemberIdentity, Subscription};
use crate::protocol::request::Response;
use crate::reply::Reply;
use crate::types::TopicPartition;

/// What the application wants to read.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Topics(BTreeSet<Arc<str>>),
    Pattern(TopicPattern),
}

#[derive(Debug)]
struct Closing {
    deadline: Instant,
    operation: GroupMembershipOperation,
    is_leaving: bool,
    reply: Option<Reply<()>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Membership {
    config: Arc<ConsumerConfig>,
    shared: SharedRebalances,
    member: Option<Box<dyn Member>>,
    /// By name, each with what is wrong with it: since when, and whether that was said.
    named: BTreeMap<Arc<str>, Option<(Instant, bool)>>,
    /// Of the cluster, when these were last looked at; `None` when they have changed since.
    seen_generation: Option<u64>,
    /// When to look at them again, without anything else happening.
    look_at: Option<Instant>,
    finder: Option<TopicFinder>,
    is_subscribed: bool,
    /// All topics of the subscription.
    topics: BTreeSet<Arc<str>>,
    /// The application has let go; the member is told when all commits are answered.
    has_let_go: bool,
    unsubscribes: bool,
    seen_polls: u64,
    closing: Option<Closing>,
}

impl Membership {
    pub(super) fn new(config: Arc<ConsumerConfig>) -> Self {
        Self {
            config,
            shared: SharedRebalances::default(),
            member: None,
            named: BTreeMap::new(),
            seen_generation: None,
            look_at: None,
            finder: None,
            is_subscribed: false,
            topics: BTreeSet::new(),
            has_let_go: false,
            unsubscribes: false,
            seen_polls: 0,
            closing: None,
        }
    }

    pub(super) fn shared(&self) -> &SharedRebalances {
        &self.shared
    }

    pub(super) fn subscribe(&mut self, now: Instant, wanted: Wanted, core: &mut Core) {
        let is_served = matches!(self.config.group.protocol, GroupProtocol::Consumer);
        self.drop_finder(core);
        if self.unsubscribes {
            self.finish_unsubscribe(now, core);
        }
        self.is_subscribed = true;
        self.name_topics(BTreeMap::new());
        let subscription = match wanted {
            Wanted::Topics(topics) => {
                self.name_topics(topics.iter().map(|topic| (Arc::clone(topic), None)).collect());
                Subscription { topics, pattern: None }
            }
            Wanted::Pattern(pattern) if is_served => {
                Subscription { topics: BTreeSet::new(), pattern: Some(Arc::clone(pattern.text())) }
            }
            Wanted::Pattern(pattern) => {
                self.finder = Some(TopicFinder::new(now, pattern));
                return;
            }
        };
        self.set(now, subscription, core);
    }

    fn name_topics(&mut self, named: BTreeMap<Arc<str>, Option<(Instant, bool)>>) {
        self.named = named;
        self.seen_generation = None;
        self.look_at = None;
    }

    fn set(&mut self, now: Instant, subscription: Subscription, core: &mut Core) {
        let before = std::mem::replace(&mut self.topics, subscription.topics.clone());
        let config = &self.config;
        let member = self.member.get_or_insert_with(|| {
            let group: Arc<str> = Arc::from(config.group_id.as_deref().unwrap_or_default());
            let rack = config.client.client_rack.as_deref().map(Arc::from);
            let settings = config.group.clone();
            match settings.protocol {
                GroupProtocol::Classic => Box::new(ClassicMember::new(now, group, settings, rack)),
                GroupProtocol::Consumer => Box::new(ConsumerMember::new(now, group, settings, rack)),
            }
        });
        member.subscribe(now, subscription, core);
        core.unwatch_topics(before.iter().map(|topic| &**topic).filter(|topic| !self.watches(topic)));
    }

    /// Leaves the group, when what the application has committed is.
    pub(super) fn unsubscribe(&mut self, core: &mut Core) {
        self.drop_finder(core);
        self.name_topics(BTreeMap::new());
        self.unsubscribes = true;
    }

    fn finish_unsubscribe(&mut self, now: Instant, core: &mut Core) {
        self.unsubscribes = false;
        self.is_subscribed = false;
        let before = std::mem::take(&mut self.topics);
        if let Some(member) = &mut self.member {
            member.subscribe(now, Subscription::default(), core);
            // The application has let go of everything before it came to this.
            while let Some(event) = member.poll_event() {
                if let Event::Revoke(_) = event {
                    member.revoked(now, core);
                }
            }
        }
        core.unwatch_topics(before.iter().map(|topic| &**topic).filter(|topic| !self.watches(topic)));
        self.shared.lock().speak();
    }

    fn drop_finder(&mut self, core: &mut Core) {
        if let Some(mut finder) = self.finder.take() {
            finder.cancel(core);
        }
    }

    /// The application has let go of what it was told to; what it commits on that occasion comes before this.
    pub(super) fn let_go(&mut self) {
        self.has_let_go = true;
    }

    /// Ends the membership, after the commits that are under way, until `deadline` at most.
    pub(super) fn close(&mut self, deadline: Instant, operation: GroupMembershipOperation, reply: Reply<()>) {
        self.closing = Some(Closing { deadline, operation, is_leaving: false, reply: Some(reply) });
    }

    /// Whether [`close`](Self::close) was asked for and is done.
    pub(super) fn is_closed(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.reply.is_none())
    }

    /// Brings the membership forward. `is_committing`: the coordinator has not answered every commit yet;
    /// `is_fetching`: nor have brokers closed their fetch sessions.
    pub(super) fn drive(&mut self, now: Instant, is_committing: bool, is_fetching: bool, core: &mut Core) {
        if let Some(finder) = &mut self.finder {
            finder.drive(now, core);
        }
        self.look_at_topics(now, core);
        self.drive_close(now, is_committing, is_fetching, core);
        if self.unsubscribes && !is_committing {
            self.finish_unsubscribe(now, core);
        }
        let Some(member) = &mut self.member else { return };
        // Who has not heard of what has happened has not come back for more.
        if let Some((polls, is_waiting)) = self.shared.lock().polls()
            && (std::mem::replace(&mut self.seen_polls, polls) != polls || is_waiting)
        {
            member.polled(now);
        }
        if self.has_let_go && !is_committing {
            self.has_let_go = false;
            member.revoked(now, core);
        }
        member.drive(now, core);
    }

    fn drive_close(&mut self, now: Instant, is_committing: bool, is_fetching: bool, core: &mut Core) {
        let Some(closing) = self.closing.as_mut().filter(|closing| closing.reply.is_some()) else { return };
        let is_late = now >= closing.deadline;
        if !closing.is_leaving && (is_late || !is_committing) {
            closing.is_leaving = true;
            if let Some(member) = &mut self.member {
                member.leave(now, closing.operation, core);
            }
        }
        let is_gone = closing.is_leaving && self.member.as_ref().is_none_or(|member| member.is_gone());
        if ((is_gone && !is_fetching) || is_late)
            && let Some(reply) = closing.reply.take()
        {
            reply.send(Ok(()));
        }
    }

    /// Tells the application, once, of topics that it named and that are not there, or not for it.
    fn look_at_topics(&mut self, now: Instant, core: &Core) {
        let generation = Some(core.cluster().generation());
        if std::mem::replace(&mut self.seen_generation, generation) == generation
            && self.look_at.is_none_or(|at| now < at)
        {
            return;
        }
        let mut errors = Vec::new();
        for (topic, trouble) in &mut self.named {
            let any = TopicPartition { topic: Arc::clone(topic), partition: 0 };
            let refused = refused_topic(core, &any);
            if refused.is_none() && !is_unknown(core, &any) {
                *trouble = None;
                continue;
            }
            let (since, is_said) = trouble.get_or_insert((now, false));
            let is_certain = refused.is_some() || now >= *since + UNKNOWN_TOPIC_PATIENCE;
            if is_certain && !std::mem::replace(is_said, is_certain) {
                errors.push(refused.unwrap_or_else(|| unknown_topic(core, &any)));
            }
        }
        let unsaid = self.named.values().flatten().filter(|(_, is_said)| !is_said);
        self.look_at = unsaid.map(|(since, _)| *since + UNKNOWN_TOPIC_PATIENCE).min();
        let mut shared = self.shared.lock();
        errors.into_iter().for_each(|error| shared.push(Event::Failed(error)));
    }

    /// Takes the answer if it was asked for here.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        core: &mut Core,
    ) -> Option<Result<Response>> {
        let result = match &mut self.finder {
            None => result,
            Some(finder) => match finder.handle_response(now, token, result, core) {
                Ok(None) => return None,
                Ok(Some(topics)) => {
                    // A pattern that matches nothing any more is still a subscription.
                    if !topics.is_empty() || self.member.is_some() {
                        self.set(now, Subscription { topics, pattern: None }, core);
                    }
                    return None;
                }
                Err(result) => result,
            },
        };
        match &mut self.member {
            Some(member) => member.handle_response(now, token, result, core),
            None => Some(result),
        }
    }

    /// Passes on to the application what has happened.
    pub(super) fn publish(&mut self, buffers: &SharedBuffers) {
        let mut shared = self.shared.lock();
        let mut fatal = None;
        if let Some(member) = &mut self.member {
            while let Some(event) = member.poll_event() {
                match event {
                    Event::Failed(error) if error.is_fatal() => fatal = Some(error),
                    event => shared.push(event),
                }
            }
            shared.set_identity(member.identity());
            if member.awaits_poll() {
                shared.want_poll();
            }
        }
        let has_news = shared.has_events() || fatal.is_some();
        drop(shared);
        if let Some(error) = fatal {
            buffers.lock().fail_all(error);
        }
        if has_news {
            buffers.wake();
        }
    }

    /// Whether metadata of the topic is needed here.
    pub(super) fn watches(&self, topic: &str) -> bool {
        self.named.contains_key(topic) || self.member.as_ref().is_some_and(|member| member.watches(topic))
    }

    /// As whom to commit these: as nobody in particular without a subscription.
    pub(super) fn commits_as<'a>(
        &self,
        mut partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Result<Option<MemberIdentity>> {
        let Some(member) = self.member.as_ref().filter(|_| self.is_subscribed) else { return Ok(None) };
        let identity = member.identity();
        let shared = self.shared.lock();
        let foreign = partitions.find(|at| !member.owned().contains(*at) || shared.is_lost(at));
        if identity.is_some() && foreign.is_none() {
            return Ok(identity);
        }
        let group = self.config.group_id.as_deref().unwrap_or_default();
        let error = not_a_member(group, "commit offsets");
        Err(match foreign {
            Some(partition) => error.with_partition(partition.clone()),
            None => error,
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let closing = self.closing.as_ref().filter(|closing| closing.reply.is_some());
        let own = [
            self.finder.as_ref().and_then(TopicFinder::poll_timeout),
            self.member.as_ref().and_then(|member| member.poll_timeout()),
            closing.map(|closing| closing.deadline),
            self.look_at,
        ];
        own.into_iter().flatten().min()
    }
}

/// The partition is another member's by now, or nobody's.
pub(crate) fn not_a_member(group: &str, attempted: &str) -> Error {
    let text =
        format!("{attempted}: this consumer is not the member of group '{group}' that reads it any more");
    Error::broker(ErrorCode::UNKNOWN_MEMBER_ID, text).with_hint(
        "poll on: what was not committed is read again, by whoever has it now; a consumer that polls too seldom \
         needs a longer max.poll.interval.ms",
    )
}

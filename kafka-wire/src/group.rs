//! Membership of a consumer group, as a value. Layer 8.
//!
//! A `Member` joins, keeps itself alive, and says what it is assigned and what it must let go of; the consumer
//! machine owns one and does what its `Event`s say. There are two protocols, and one member for each: the classic
//! one, where a member of the group divides the partitions, and that of KIP-848, where the coordinator does.

pub mod assignor;
pub(crate) mod classic;
pub(crate) mod consumer_protocol;
#[cfg(test)]
mod harness;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::{Core, Token};
use crate::error::{Error, Result};
use crate::protocol::request::Response;
use crate::time::Rng;
use crate::types::TopicPartition;

/// What a member wants to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// These topics. Under the classic protocol also those that a pattern matched: the consumer looks for them.
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// And all whose whole name matches, as the coordinator finds them (RE2/J, KIP-848). Never given to a classic
    /// member.
    pub(crate) pattern: Option<Arc<str>>,
}

impl Subscription {
    /// Whether it is a subscription to nothing: the member leaves, if it is one.
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.pattern.is_none()
    }
}

/// What has become of the membership, in order.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A rebalance is over: read these, too. May be empty.
    Assigned(Vec<TopicPartition>),
    /// The application must let go of these. They stay [owned](Member::owned), and may be committed, until
    /// [`Member::revoked`] answers; the member goes on only then.
    Revoke(Vec<TopicPartition>),
    /// These are gone already (fenced, expired): no commit for them any more. Takes the place of a revocation that
    /// was not answered.
    Lost(Vec<TopicPartition>),
    /// For the application. Where it [is fatal](Error::is_fatal) the member is gone; otherwise it tries again when
    /// the application next polls.
    Failed(Error),
}

/// Who commits: what the coordinator checks a commit against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberIdentity {
    pub(crate) member_id: Arc<str>,
    /// Of the group, or the member's epoch (KIP-848).
    pub(crate) generation: i32,
    /// `group.instance.id`.
    pub(crate) instance_id: Option<Arc<str>>,
}

/// The id of a new member, for protocols where it names itself: a random UUID, as Java's.
pub(crate) fn new_member_id(rng: &mut Rng) -> Arc<str> {
    let bits = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().hyphenated().to_string().into()
}

/// What becomes of the membership when a consumer is closed (KIP-1092).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GroupMembershipOperation {
    /// A dynamic member leaves, so that others have its partitions at once; a static one (`group.instance.id`)
    /// stays, so that it finds them again when it is back within `session.timeout.ms`.
    #[default]
    Default,
    /// Leave, static or not.
    LeaveGroup,
    /// Stay, static or not, until `session.timeout.ms` is over.
    RemainInGroup,
}

/// A member of a consumer group. Two implementations: `classic::ClassicMember`, and that of KIP-848.
///
/// As everywhere below `net`, nothing waits: each call does what can be done now, and [`Member::poll_timeout`] says
/// when to call [`Member::drive`] again.
pub(crate) trait Member: fmt::Debug + Send {
    /// Replaces the subscription; joins, rejoins, or leaves when it is empty.
    fn subscribe(&mut self, now: Instant, subscription: Subscription, core: &mut Core);

    /// Goes on as far as it gets. Called after every input.
    fn drive(&mut self, now: Instant, core: &mut Core);

    /// Takes the answer if it was asked for here; gives it back otherwise.
    fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        core: &mut Core,
    ) -> Option<Result<Response>>;

    /// What has happened, oldest first.
    fn poll_event(&mut self) -> Option<Event>;

    /// The answer to [`Event::Revoke`]. Without effect when nothing is being revoked (any more).
    fn revoked(&mut self, now: Instant, core: &mut Core);

    /// The application has polled since this was last called, or is waiting in a poll (`max.poll.interval.ms`).
    fn polled(&mut self, now: Instant);

    /// Whether it goes on only when the application polls next: after a failure, or after it was too slow.
    fn awaits_poll(&self) -> bool;

    /// The partitions that are its own, those under revocation included.
    fn owned(&self) -> &BTreeSet<TopicPartition>;

    /// What commits must carry; `None` while it is not a member.
    fn identity(&self) -> Option<MemberIdentity>;

    /// Whether it needs metadata of the topic: it is subscribed to it, or divides it among members.
    fn watches(&self, topic: &str) -> bool;

    /// Leaves, or not, as `operation` says; nothing else is done afterwards. What it owned is no longer its own.
    fn leave(&mut self, now: Instant, operation: GroupMembershipOperation, core: &mut Core);

    /// Whether leaving is over.
    fn is_gone(&self) -> bool;

    /// When [`drive`](Self::drive) is due.
    fn poll_timeout(&self) -> Option<Instant>;
}

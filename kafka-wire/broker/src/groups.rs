//! Groups: the offsets they committed, and their members.

pub(crate) mod assignor;
pub(crate) mod classic;
pub(crate) mod consumer;
pub(crate) mod consumer_protocol;
mod migration;
mod saved;
pub(crate) mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_wire::ErrorCode;
use serde::{Deserialize, Serialize};

use self::classic::{ClassicGroup, Identity, Joined, Synced};
use self::consumer::{ConsumerGroup, Timing};
use self::share::ShareGroup;
use crate::cluster::ConnectionId;
use crate::error::{Failure, fail};

/// An offset that a group committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommittedOffset {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// The answer to a request that may have waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Joined(Joined),
    Synced(Synced),
}

/// Answers, by the connection that asked.
pub(crate) type Replies = Vec<(ConnectionId, Reply)>;

/// The members of a group, by the protocol that they speak. A group without members changes its protocol when
/// it gets one that speaks another.
#[derive(Debug)]
pub(crate) enum Members {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
    Share(ShareGroup),
}

impl Members {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty(),
            Self::Consumer(group) => group.is_empty(),
            Self::Share(group) => group.is_empty(),
        }
    }

    /// Kafka's name of where the group stands.
    pub(crate) fn state_name(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state().name(),
            Self::Consumer(group) => group.state_name(),
            Self::Share(group) => group.state_name(),
        }
    }

    /// Kafka's name of the kind of group.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
            Self::Share(_) => "share",
        }
    }

    /// Kafka's name of what its members do.
    pub(crate) fn protocol_type(&self) -> &str {
        match self {
            Self::Classic(group) => group.protocol_type.as_deref().unwrap_or_default(),
            Self::Consumer(_) => "consumer",
            Self::Share(_) => "share",
        }
    }

    /// Members' ids and instance ids.
    pub(crate) fn ids(&self) -> Vec<(String, Option<String>)> {
        let own = |(id, instance): (&str, &Option<String>)| (id.to_owned(), instance.clone());
        match self {
            Self::Classic(group) => group.members().map(|(id, it)| own((id, &it.instance_id))).collect(),
            Self::Consumer(group) => group.members().map(|(id, it)| own((id, &it.instance_id))).collect(),
            Self::Share(group) => group.members().map(|(id, _)| own((id, &None))).collect(),
        }
    }

    /// Whether offsets may be committed by a member, or by somebody who is none.
    ///
    /// # Errors
    /// As [`ClassicGroup::check_commit`] and [`ConsumerGroup::check_commit`].
    pub(crate) fn check_commit(&self, who: Identity<'_>, in_transaction: bool) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_commit(who, in_transaction),
            Self::Consumer(group) => match group.check_commit(who.member_id, who.generation) {
                // Transactions know no epochs of members.
                Err(ErrorCode::STALE_MEMBER_EPOCH) if in_transaction => Err(ErrorCode::ILLEGAL_GENERATION),
                result => result,
            },
            // Share groups have no offsets of this kind.
            Self::Share(_) => Err(ErrorCode::GROUP_ID_NOT_FOUND),
        }
    }

    fn remove(&mut self, now: Instant, member_id: &str, replies: &mut Replies) {
        match self {
            Self::Classic(group) => group.remove(now, member_id, replies),
            Self::Consumer(group) => group.remove(member_id),
            Self::Share(group) => drop(group.remove(member_id)),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Classic(group) => group.deadline(),
            Self::Consumer(group) => group.deadline(),
            Self::Share(group) => group.deadline(),
        }
    }

    fn expire(&mut self, now: Instant, replies: &mut Replies) {
        match self {
            Self::Classic(group) => group.expire(now, replies),
            Self::Consumer(group) => group.expire(now),
            Self::Share(group) => group.expire(now),
        }
    }

    fn move_coordinator(&mut self, now: Instant, replies: &mut Replies) {
        match self {
            Self::Classic(group) => group.move_coordinator(now, replies),
            Self::Consumer(group) => group.move_coordinator(now),
            Self::Share(group) => group.move_coordinator(now),
        }
    }
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    offsets: BTreeMap<(String, i32), CommittedOffset>,
    pub(crate) members: Members,
    /// What the log has of the members.
    written: Vec<u8>,
}

/// All groups.
#[derive(Debug)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
    initial_delay: Duration,
    replies: Replies,
    /// Groups whose coordinator is another one since they were looked at last.
    moved: BTreeSet<String>,
    /// Groups whose members may have changed since the log was written.
    touched: BTreeSet<String>,
}

impl Group {
    /// The offsets, by topic and partition.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = &CommittedOffset> {
        self.offsets.values()
    }

    /// The offset committed for a partition.
    pub(crate) fn offset(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(&(topic.to_owned(), partition))
    }
}

impl Groups {
    /// No groups yet; the first members of an empty one wait `initial_delay` for others.
    pub(crate) fn new(initial_delay: Duration) -> Self {
        Self {
            by_id: BTreeMap::new(),
            initial_delay,
            replies: Vec::new(),
            moved: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.by_id.iter().map(|(id, group)| (id.as_str(), group))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    fn or_create(&mut self, id: &str) -> &mut Group {
        let initial_delay = self.initial_delay;
        self.by_id.entry(id.to_owned()).or_insert_with(|| Group {
            offsets: BTreeMap::new(),
            members: Members::Classic(ClassicGroup::new(initial_delay)),
            written: Vec::new(),
        })
    }

    /// Notes that a group's members may be other ones, or have something else, by the end of the round.
    fn touch(&mut self, id: &str) {
        self.touched.insert(id.to_owned());
    }

    /// Commits offsets; the group begins to exist with them.
    pub(crate) fn commit(&mut self, id: &str, offsets: impl IntoIterator<Item = CommittedOffset>) {
        let group = self.or_create(id);
        for offset in offsets {
            group.offsets.insert((offset.topic.clone(), offset.partition), offset);
        }
    }

    /// Forgets the offset of one partition; says whether there was one.
    pub(crate) fn delete_offset(&mut self, id: &str, topic: &str, partition: i32) -> bool {
        let group = self.by_id.get_mut(id);
        group.is_some_and(|group| group.offsets.remove(&(topic.to_owned(), partition)).is_some())
    }

    /// Deletes a group; says whether it was there.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        self.by_id.remove(id).is_some()
    }

    /// Forgets offsets of a deleted topic.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for group in self.by_id.values_mut() {
            group.offsets.retain(|(name, _), _| name != topic);
        }
    }

    /// Lets `change` work on the members of a classic group; where `create` says so it begins to exist.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` where there is no such group, `INCONSISTENT_GROUP_PROTOCOL` where its members speak
    /// another protocol.
    fn with_classic<T>(
        &mut self,
        id: &str,
        create: bool,
        change: impl FnOnce(&mut ClassicGroup, &mut Replies) -> T,
    ) -> Result<T, ErrorCode> {
        self.touch(id);
        if create {
            let initial_delay = self.initial_delay;
            let group = self.or_create(id);
            if !matches!(group.members, Members::Classic(_)) && group.members.is_empty() {
                group.members = Members::Classic(ClassicGroup::new(initial_delay));
            }
        }
        match self.by_id.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Classic(members)) => Ok(change(members, &mut self.replies)),
            Some(_) if create => Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
            _ => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// The consumer group `id`; where `create` says how it begins to exist, or takes the place of a classic
    /// group that has no members.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`.
    pub(crate) fn consumer(
        &mut self,
        id: &str,
        create: Option<Timing>,
    ) -> Result<&mut ConsumerGroup, Failure> {
        if let Some(timing) = create {
            let group = self.or_create(id);
            if !matches!(group.members, Members::Consumer(_)) && group.members.is_empty() {
                group.members = Members::Consumer(ConsumerGroup::new(timing));
            }
        }
        match self.by_id.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Consumer(members)) => Ok(members),
            Some(_) => fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("group {id} is not a consumer group")),
            None => fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("group {id} not found")),
        }
    }

    /// The share group `id`; where `create` says so it begins to exist, or takes the place of a group that has
    /// neither members nor offsets.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`.
    pub(crate) fn share(&mut self, id: &str, create: bool) -> Result<&mut ShareGroup, Failure> {
        self.touch(id);
        if create {
            let group = self.or_create(id);
            let is_free = group.members.is_empty() && group.offsets.is_empty();
            if !matches!(group.members, Members::Share(_)) && is_free {
                group.members = Members::Share(ShareGroup::new());
            }
        }
        match self.by_id.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Share(members)) => Ok(members),
            Some(_) => fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("group {id} is not a share group")),
            None => fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("group {id} not found")),
        }
    }

    /// Removes a member as if it had not been heard of; says whether it was there.
    pub(crate) fn expire_member(&mut self, now: Instant, id: &str, member: &str) -> bool {
        self.touch(id);
        let Some(group) = self.by_id.get_mut(id) else { return false };
        let ids = group.members.ids();
        let found = ids.iter().find(|(id, instance)| id == member || instance.as_deref() == Some(member));
        if let Some((member_id, _)) = found {
            group.members.remove(now, member_id, &mut self.replies);
        }
        found.is_some()
    }

    /// Notes that another node coordinates a group now.
    pub(crate) fn mark_moved(&mut self, id: String) {
        self.moved.insert(id);
    }

    /// Moves the groups that were marked: their new coordinators know what is in the log.
    pub(crate) fn move_marked(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.moved) {
            self.touch(&id);
            if let Some(group) = self.by_id.get_mut(&id) {
                group.members.move_coordinator(now, &mut self.replies);
            }
        }
    }

    /// The answers that have become known.
    pub(crate) fn take_replies(&mut self) -> Replies {
        std::mem::take(&mut self.replies)
    }

    /// When [`Groups::expire`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.by_id.values().filter_map(|group| group.members.deadline()).min()
    }

    /// Time passed: rebalances go on, and members that were not heard of are gone.
    pub(crate) fn expire(&mut self, now: Instant) {
        for (id, group) in &mut self.by_id {
            // One step may bring the next one about: each moves its group's deadline on or ends a phase.
            while group.members.deadline().is_some_and(|at| at <= now) {
                self.touched.insert(id.clone());
                group.members.expire(now, &mut self.replies);
            }
        }
    }
}

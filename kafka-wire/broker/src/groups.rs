//! Groups: the offsets they committed, and their members.

pub(crate) mod classic;
pub(crate) mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_wire::ErrorCode;
use serde::{Deserialize, Serialize};

use self::classic::{ClassicGroup, Joined, Synced};
use crate::cluster::ConnectionId;

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

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    offsets: BTreeMap<(String, i32), CommittedOffset>,
    pub(crate) members: ClassicGroup,
}

/// All groups.
#[derive(Debug)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
    initial_delay: Duration,
    replies: Replies,
    /// Groups whose coordinator is another one since they were looked at last.
    moved: BTreeSet<String>,
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
        Self { by_id: BTreeMap::new(), initial_delay, replies: Vec::new(), moved: BTreeSet::new() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.by_id.iter().map(|(id, group)| (id.as_str(), group))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    fn or_create(&mut self, id: &str) -> &mut Group {
        let initial_delay = self.initial_delay;
        self.by_id
            .entry(id.to_owned())
            .or_insert_with(|| Group { offsets: BTreeMap::new(), members: ClassicGroup::new(initial_delay) })
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

    /// Lets `change` work on a group's members; where `create` says so the group begins to exist.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` where there is no such group.
    pub(crate) fn with_members<T>(
        &mut self,
        id: &str,
        create: bool,
        change: impl FnOnce(&mut ClassicGroup, &mut Replies) -> T,
    ) -> Result<T, ErrorCode> {
        if create {
            self.or_create(id);
        }
        let group = self.by_id.get_mut(id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        Ok(change(&mut group.members, &mut self.replies))
    }

    /// Notes that another node coordinates a group now.
    pub(crate) fn mark_moved(&mut self, id: String) {
        self.moved.insert(id);
    }

    /// Moves the groups that were marked: their new coordinators know what is in the log.
    pub(crate) fn move_marked(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.moved) {
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
        for group in self.by_id.values_mut() {
            // One step may bring the next one about: each moves its group's deadline on or ends a phase.
            while group.members.deadline().is_some_and(|at| at <= now) {
                group.members.expire(now, &mut self.replies);
            }
        }
    }
}

//! Share groups (KIP-932) at the partitions' leaders: who reads what, and what became of each record.
//!
//! Nodes share this as they share the log: a partition whose leader moves keeps its state, but for the locks, which
//! are the leader's. Sessions are of one node.

pub(crate) mod partition;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use kafka_wire::{ErrorCode, TopicId};

use self::partition::SharePartition;
use crate::cluster::ConnectionId;

/// Sessions at most (`group.share.max.share.sessions`).
const SESSIONS_MAX: usize = 2_000;
/// Opens a session.
pub(crate) const INITIAL: i32 = 0;
/// Closes one.
pub(crate) const FINAL: i32 = -1;

/// A group and one partition.
pub(crate) type Key = (String, TopicId, i32);

/// Whose session, with which node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId {
    pub(crate) group: String,
    pub(crate) member: Arc<str>,
    pub(crate) node: i32,
}

#[derive(Debug)]
struct Session {
    connection: ConnectionId,
    /// What the next request has to say.
    epoch: i32,
    partitions: BTreeSet<(TopicId, i32)>,
}

/// All sessions and partitions of share groups.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    sessions: BTreeMap<SessionId, Session>,
    partitions: BTreeMap<Key, SharePartition>,
    /// Something was freed since it was asked last.
    freed: bool,
}

impl Shares {
    /// A request in a session: opens, goes on with or, by the final epoch, only looks for it.
    ///
    /// # Errors
    /// `SHARE_SESSION_NOT_FOUND`, `INVALID_SHARE_SESSION_EPOCH`, `SHARE_SESSION_LIMIT_REACHED`.
    pub(crate) fn enter(
        &mut self,
        id: &SessionId,
        connection: ConnectionId,
        epoch: i32,
        may_open: bool,
    ) -> Result<(), ErrorCode> {
        if epoch == INITIAL && may_open {
            if !self.sessions.contains_key(id) && self.sessions.len() >= SESSIONS_MAX {
                return Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
            }
            let session = Session { connection, epoch: INITIAL, partitions: BTreeSet::new() };
            self.sessions.insert(id.clone(), session);
        }
        let session = self.sessions.get_mut(id).ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)?;
        if epoch == FINAL {
            return Ok(());
        }
        if epoch != session.epoch || (epoch == INITIAL && !may_open) {
            return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.connection = connection;
        Ok(())
    }

    /// Changes which partitions a session reads.
    pub(crate) fn change(
        &mut self,
        id: &SessionId,
        added: impl IntoIterator<Item = (TopicId, i32)>,
        forgotten: impl IntoIterator<Item = (TopicId, i32)>,
    ) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.partitions.extend(added);
            for partition in forgotten {
                session.partitions.remove(&partition);
            }
        }
    }

    /// The partitions that a session reads.
    pub(crate) fn partitions_of(&self, id: &SessionId) -> Vec<(TopicId, i32)> {
        self.sessions.get(id).map_or_else(Vec::new, |session| session.partitions.iter().copied().collect())
    }

    /// Ends a session; what its member has is free again. The partitions that changed.
    pub(crate) fn close(&mut self, id: &SessionId) -> Vec<Key> {
        if self.sessions.remove(id).is_none() {
            return Vec::new();
        }
        let of_group = self.partitions.iter_mut().filter(|((group, ..), _)| *group == id.group);
        let changed: Vec<Key> = of_group
            .filter_map(|(key, partition)| partition.release_all(&id.member).then(|| key.clone()))
            .collect();
        self.freed |= !changed.is_empty();
        changed
    }

    /// Ends the sessions of a connection that is gone.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId) -> Vec<Key> {
        let gone: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.connection == connection)
            .map(|(id, _)| id.clone())
            .collect();
        gone.iter().flat_map(|id| self.close(id)).collect()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&SharePartition> {
        self.partitions.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut SharePartition> {
        self.partitions.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: Key, partition: SharePartition) {
        self.partitions.insert(key, partition);
        self.freed = true;
    }

    /// The partitions of a group.
    pub(crate) fn of_group(&self, group: &str) -> impl Iterator<Item = (&Key, &SharePartition)> {
        self.partitions.iter().filter(move |((id, ..), _)| id == group)
    }

    /// Forgets a group, or a topic.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(&Key) -> bool) {
        self.partitions.retain(|key, _| !is_gone(key));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &SharePartition)> {
        self.partitions.iter()
    }

    /// Notes that something was freed.
    pub(crate) fn mark_freed(&mut self) {
        self.freed = true;
    }

    /// Whether something was freed since this was asked last: who waits may have it.
    pub(crate) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// When [`Shares::expire`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.partitions.values().filter_map(SharePartition::deadline).min()
    }

    /// Time passed: frees what was not acknowledged in time. The partitions that changed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Key> {
        let changed: Vec<Key> = self
            .partitions
            .iter_mut()
            .filter_map(|(key, partition)| partition.expire(now).then(|| key.clone()))
            .collect();
        self.freed |= !changed.is_empty();
        changed
    }
}

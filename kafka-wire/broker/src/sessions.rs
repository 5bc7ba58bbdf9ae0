//! Fetch sessions (KIP-227): a client says once what it reads, then only what changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::{ErrorCode, TopicId};

/// Sessions kept at most, as `max.incremental.fetch.session.cache.slots`; the oldest goes first.
const SESSIONS_MAX: usize = 1_000;

/// A partition that a client wants to read, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Empty where the client named the topic by its id.
    pub(crate) topic: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) partition: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) offset: i64,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) bytes_max: usize,
}

impl Wanted {
    fn is_same(&self, topic: &str, id: TopicId, partition: i32) -> bool {
        self.partition == partition && self.id == id && &*self.topic == topic
    }
}

/// What a session's client was told last about a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) start_offset: i64,
}

#[derive(Debug)]
struct Session {
    node: i32,
    next_epoch: i32,
    partitions: Vec<(Wanted, Option<Told>)>,
}

/// The sessions of all nodes.
#[derive(Debug, Default)]
pub(crate) struct FetchSessions {
    by_id: BTreeMap<i32, Session>,
    last_id: i32,
}

impl FetchSessions {
    /// Opens a session; its id.
    pub(crate) fn open(&mut self, node: i32, wanted: &[Wanted]) -> i32 {
        if self.by_id.len() >= SESSIONS_MAX {
            self.by_id.pop_first();
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let partitions = wanted.iter().map(|wanted| (wanted.clone(), None)).collect();
        self.by_id.insert(self.last_id, Session { node, next_epoch: 1, partitions });
        self.last_id
    }

    pub(crate) fn close(&mut self, id: i32) {
        self.by_id.remove(&id);
    }

    /// Applies a client's changes and lists all that it wants now.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND`, `INVALID_FETCH_SESSION_EPOCH`: the client then opens a new one.
    pub(crate) fn update(
        &mut self,
        node: i32,
        id: i32,
        epoch: i32,
        changed: Vec<Wanted>,
        forgotten: &[(Arc<str>, TopicId, i32)],
    ) -> Result<Vec<Wanted>, ErrorCode> {
        let session = self
            .by_id
            .get_mut(&id)
            .filter(|session| session.node == node)
            .ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.next_epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        session.next_epoch = epoch.checked_add(1).unwrap_or(1);
        for (topic, topic_id, partition) in forgotten {
            session.partitions.retain(|(known, _)| !known.is_same(topic, *topic_id, *partition));
        }
        for wanted in changed {
            let same = |(known, _): &&mut (Wanted, Option<Told>)| {
                known.is_same(&wanted.topic, wanted.id, wanted.partition)
            };
            match session.partitions.iter_mut().find(same) {
                Some((known, _)) => *known = wanted,
                None => session.partitions.push((wanted, None)),
            }
        }
        Ok(session.partitions.iter().map(|(wanted, _)| wanted.clone()).collect())
    }

    /// Notes what the client is being told now; says whether that is news to it. A partition with records
    /// moves behind the others, so that each gets its turn under the response's byte limit.
    pub(crate) fn tell(&mut self, id: i32, about: &Wanted, told: Told, has_records: bool) -> bool {
        let Some(session) = self.by_id.get_mut(&id) else { return true };
        let same = |(known, _): &(Wanted, _)| known.is_same(&about.topic, about.id, about.partition);
        let Some(index) = session.partitions.iter().position(same) else { return true };
        let is_news = session.partitions[index].1.replace(told) != Some(told);
        if has_records {
            let entry = session.partitions.remove(index);
            session.partitions.push(entry);
        }
        is_news || has_records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(partition: i32, offset: i64) -> Wanted {
        Wanted {
            topic: Arc::from("t"),
            id: TopicId::NONE,
            partition,
            leader_epoch: -1,
            offset,
            last_fetched_epoch: -1,
            bytes_max: 1,
        }
    }

    #[test]
    fn a_session_remembers_forgets_and_takes_turns() {
        let mut sessions = FetchSessions::default();
        let id = sessions.open(0, &[wanted(0, 0), wanted(1, 0)]);
        let told = Told { high_watermark: 5, start_offset: 0 };
        assert!(sessions.tell(id, &wanted(0, 0), told, false));
        assert!(!sessions.tell(id, &wanted(0, 0), told, false));
        assert!(sessions.tell(id, &wanted(0, 0), told, true));
        let now = sessions.update(0, id, 1, vec![wanted(0, 5), wanted(2, 0)], &[]).unwrap();
        let order: Vec<(i32, i64)> = now.iter().map(|wanted| (wanted.partition, wanted.offset)).collect();
        assert_eq!(order, [(1, 0), (0, 5), (2, 0)]);
        assert_eq!(
            sessions.update(0, id, 1, vec![], &[]).unwrap_err(),
            ErrorCode::INVALID_FETCH_SESSION_EPOCH
        );
        let left = sessions.update(0, id, 2, vec![], &[(Arc::from("t"), TopicId::NONE, 0)]).unwrap();
        assert_eq!(left.len(), 2);
        assert_eq!(
            sessions.update(1, id, 3, vec![], &[]).unwrap_err(),
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            "sessions belong to a node"
        );
    }
}

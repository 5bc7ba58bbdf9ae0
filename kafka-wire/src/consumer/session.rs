//! Incremental fetch sessions (KIP-227): what has to be said to a broker so that it knows what is wanted.

use std::collections::BTreeSet;

use foldhash::HashMap;
use foldhash::HashMapExt as _;

use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, TopicId, TopicPartition};

/// What is wanted of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionFetch {
    pub(crate) partition: TopicPartition,
    /// `NONE` on brokers without topic ids.
    pub(crate) topic_id: TopicId,
    pub(crate) offset: i64,
    /// As this client knows it: a broker that knows a newer one refuses (KIP-320).
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    /// Of the record before `offset`: the broker compares it with its log and finds truncation.
    pub(crate) last_fetched_epoch: Option<LeaderEpoch>,
    pub(crate) max_bytes: i32,
}

/// The part of a Fetch request that belongs to the session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    pub(crate) fetch: Vec<PartitionFetch>,
    pub(crate) forget: Vec<(TopicId, TopicPartition)>,
}

/// The session with one broker: what is wanted of it, and what it remembers of the requests so far.
///
/// Each request is answered, or lost, before the next one is made. A change costs the same however many
/// partitions there are.
#[derive(Debug)]
pub(crate) struct FetchSession {
    /// 0: none.
    id: i32,
    /// Of the next request; [`FULL`] asks for a new session.
    epoch: i32,
    entries: HashMap<TopicPartition, Entry>,
    /// How many entries are wanted.
    wanted: usize,
    /// Those of which the broker has been told something else than what is wanted; in order, so that
    /// partitions of a topic share an entry of the request.
    changed: BTreeSet<TopicPartition>,
    /// Where a full request begins. Without a session the order of a request decides who is served first:
    /// it rotates.
    rotation: usize,
}

/// A partition is dropped from the entries when it is neither wanted nor told.
#[derive(Debug, Default)]
struct Entry {
    wanted: Option<PartitionFetch>,
    /// In the last request that named it.
    told: Option<PartitionFetch>,
}

const NO_SESSION: i32 = 0;
/// The epoch of a request that names every partition and asks for a new session.
const FULL: i32 = 0;
/// The epoch of a request that closes a session.
pub(crate) const FINAL: i32 = -1;

impl FetchSession {
    pub(crate) fn new() -> Self {
        Self {
            id: NO_SESSION,
            epoch: FULL,
            entries: HashMap::new(),
            wanted: 0,
            changed: BTreeSet::new(),
            rotation: 0,
        }
    }

    /// Fetch a partition like this from now on.
    pub(crate) fn want(&mut self, fetch: PartitionFetch) {
        let partition = fetch.partition.clone();
        let entry = self.entries.entry(partition.clone()).or_default();
        let is_told = entry.told.as_ref() == Some(&fetch);
        self.wanted += usize::from(entry.wanted.replace(fetch).is_none());
        if is_told {
            self.changed.remove(&partition);
        } else {
            self.changed.insert(partition);
        }
    }

    /// Fetch a partition no longer.
    pub(crate) fn forget(&mut self, partition: &TopicPartition) {
        let Some(entry) = self.entries.get_mut(partition) else { return };
        self.wanted -= usize::from(entry.wanted.take().is_some());
        if entry.told.is_some() {
            self.changed.insert(partition.clone());
        } else {
            self.entries.remove(partition);
            self.changed.remove(partition);
        }
    }

    /// Whether any partition is wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted > 0
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> SessionRequest {
        if self.epoch != FULL && self.changed.iter().any(|partition| self.has_other_topic_id(partition)) {
            self.restart();
        }
        if self.epoch == FULL { self.full_request() } else { self.incremental_request() }
    }

    fn full_request(&mut self) -> SessionRequest {
        self.entries.retain(|_, entry| {
            entry.told.clone_from(&entry.wanted);
            entry.wanted.is_some()
        });
        self.changed.clear();
        let mut fetch: Vec<PartitionFetch> =
            self.entries.values().filter_map(|entry| entry.wanted.clone()).collect();
        fetch.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
        self.rotation = (self.rotation + 1) % fetch.len().max(1);
        fetch.rotate_left(self.rotation);
        SessionRequest { id: self.id, epoch: FULL, fetch, forget: Vec::new() }
    }

    fn incremental_request(&mut self) -> SessionRequest {
        let (mut fetch, mut forget) = (Vec::new(), Vec::new());
        for partition in std::mem::take(&mut self.changed) {
            let Some(entry) = self.entries.get_mut(&partition) else { continue };
            match &entry.wanted {
                Some(wanted) => {
                    fetch.push(wanted.clone());
                    entry.told = Some(wanted.clone());
                }
                None => {
                    let told = self.entries.remove(&partition).and_then(|entry| entry.told);
                    forget.extend(told.map(|told| (told.topic_id, partition)));
                }
            }
        }
        SessionRequest { id: self.id, epoch: self.epoch, fetch, forget }
    }

    /// What the broker was last told about a partition, if it is in the session.
    pub(crate) fn asked(&self, partition: &TopicPartition) -> Option<&PartitionFetch> {
        self.entries.get(partition)?.told.as_ref()
    }

    /// The request was answered without an error of its own.
    pub(crate) fn accepted(&mut self, session_id: i32) {
        if session_id == NO_SESSION {
            // The broker's session cache is full (max.incremental.fetch.session.cache.slots), or it closed
            // the session: each request names everything.
            self.id = NO_SESSION;
            self.epoch = FULL;
        } else if self.epoch == FULL || session_id == self.id {
            self.id = session_id;
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        } else {
            self.restart();
        }
    }

    /// The request as a whole was refused.
    pub(crate) fn refused(&mut self, code: ErrorCode) {
        if code == ErrorCode::FETCH_SESSION_ID_NOT_FOUND {
            self.id = NO_SESSION;
        }
        self.restart();
    }

    /// The next request closes the session, if the broker still has it, and asks for another. Also what to
    /// do when nobody knows whether the broker saw the last request.
    pub(crate) fn restart(&mut self) {
        self.epoch = FULL;
    }

    /// The session to close, if the broker has one; nothing is requested after this.
    pub(crate) fn close(&mut self) -> Option<i32> {
        let id = std::mem::replace(&mut self.id, NO_SESSION);
        self.restart();
        (id != NO_SESSION).then_some(id)
    }

    fn has_other_topic_id(&self, partition: &TopicPartition) -> bool {
        let Some(Entry { wanted: Some(wanted), told: Some(told) }) = self.entries.get(partition) else {
            return false;
        };
        wanted.topic_id != told.topic_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(partition: i32, offset: i64) -> PartitionFetch {
        PartitionFetch {
            partition: TopicPartition::new("t", partition),
            topic_id: TopicId([1; 16]),
            offset,
            leader_epoch: Some(LeaderEpoch(0)),
            last_fetched_epoch: None,
            max_bytes: 1 << 20,
        }
    }

    /// The next request, for exactly the partitions in `wanted`.
    fn request(session: &mut FetchSession, wanted: &[PartitionFetch]) -> SessionRequest {
        let before: Vec<TopicPartition> = session.entries.keys().cloned().collect();
        for partition in before.iter().filter(|before| wanted.iter().all(|fetch| fetch.partition != **before))
        {
            session.forget(partition);
        }
        for fetch in wanted {
            session.want(fetch.clone());
        }
        assert_eq!(session.wanted, wanted.len());
        session.request()
    }

    fn in_session(partitions: &[(i32, i64)]) -> FetchSession {
        let mut session = FetchSession::new();
        let wanted: Vec<_> = partitions.iter().map(|(p, offset)| fetch(*p, *offset)).collect();
        let request = request(&mut session, &wanted);
        assert_eq!((request.id, request.epoch, request.fetch.len()), (0, 0, partitions.len()));
        session.accepted(77);
        session
    }

    #[test]
    fn later_requests_name_only_what_changed() {
        let mut session = in_session(&[(0, 10), (1, 20), (2, 30)]);
        let asked = request(&mut session, &[fetch(0, 10), fetch(1, 25)]);
        assert_eq!((asked.id, asked.epoch), (77, 1));
        assert_eq!(asked.fetch, [fetch(1, 25)]);
        assert_eq!(asked.forget, [(TopicId([1; 16]), TopicPartition::new("t", 2))]);
        session.accepted(77);
        let asked = request(&mut session, &[fetch(0, 10), fetch(1, 25), fetch(2, 30)]);
        assert_eq!((asked.epoch, asked.fetch, asked.forget), (2, vec![fetch(2, 30)], vec![]));
        assert_eq!(session.asked(&TopicPartition::new("t", 1)), Some(&fetch(1, 25)));
    }

    #[test]
    fn a_session_the_broker_does_not_know_is_started_anew() {
        let mut session = in_session(&[(0, 10), (1, 20)]);
        request(&mut session, &[fetch(0, 11), fetch(1, 20)]);
        session.refused(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        let asked = request(&mut session, &[fetch(0, 11), fetch(1, 20)]);
        assert_eq!((asked.id, asked.epoch, asked.fetch.len()), (0, 0, 2));
    }

    #[test]
    fn after_a_wrong_epoch_or_a_lost_answer_the_old_session_is_closed_by_a_full_request() {
        for lose in [FetchSession::restart, |s: &mut FetchSession| {
            s.refused(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }] {
            let mut session = in_session(&[(0, 10), (1, 20)]);
            request(&mut session, &[fetch(0, 11), fetch(1, 20)]);
            lose(&mut session);
            let asked = request(&mut session, &[fetch(0, 11), fetch(1, 20)]);
            assert_eq!((asked.id, asked.epoch, asked.fetch.len()), (77, 0, 2));
            session.accepted(78);
            let asked = request(&mut session, &[fetch(0, 12), fetch(1, 20)]);
            assert_eq!((asked.id, asked.epoch, asked.fetch), (78, 1, vec![fetch(0, 12)]));
        }
    }

    #[test]
    fn without_a_session_every_request_is_full() {
        let mut session = FetchSession::new();
        for _ in 0..2 {
            let asked = request(&mut session, &[fetch(0, 10), fetch(1, 20)]);
            assert_eq!((asked.id, asked.epoch, asked.fetch.len()), (0, 0, 2));
            session.accepted(0);
        }
    }

    #[test]
    fn a_topic_created_anew_starts_a_new_session() {
        let mut session = in_session(&[(0, 10), (1, 20)]);
        let recreated = PartitionFetch { topic_id: TopicId([2; 16]), ..fetch(0, 0) };
        let asked = request(&mut session, &[recreated, fetch(1, 20)]);
        assert_eq!((asked.id, asked.epoch, asked.fetch.len()), (77, 0, 2));
    }

    #[test]
    fn a_wish_taken_back_before_it_was_told_is_not_told() {
        let mut session = in_session(&[(0, 10)]);
        session.want(fetch(0, 11));
        session.want(fetch(0, 10));
        session.want(fetch(1, 20));
        session.forget(&TopicPartition::new("t", 1));
        let asked = session.request();
        assert_eq!((asked.epoch, asked.fetch, asked.forget), (1, vec![], vec![]));
    }

    #[test]
    fn without_a_session_another_partition_is_first_each_time() {
        let mut session = FetchSession::new();
        let wanted = [fetch(0, 1), fetch(1, 1), fetch(2, 1)];
        let first: Vec<i32> = (0..3)
            .map(|_| {
                let asked = request(&mut session, &wanted);
                session.accepted(0);
                asked.fetch[0].partition.partition
            })
            .collect();
        assert_eq!(first, [1, 2, 0]);
    }

    #[test]
    fn epochs_wrap_to_one() {
        let mut session = in_session(&[(0, 10)]);
        session.epoch = i32::MAX;
        session.accepted(77);
        assert_eq!(request(&mut session, &[fetch(0, 10)]).epoch, 1);
    }
}

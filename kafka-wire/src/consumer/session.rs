//! Incremental fetch sessions (KIP-227): what has to be said to a broker so that it knows what is wanted.

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

/// The session with one broker: what the broker remembers of the requests so far.
///
/// Each request is answered, or lost, before the next one is made.
#[derive(Debug)]
pub(crate) struct FetchSession {
    /// 0: none.
    id: i32,
    /// Of the next request; [`FULL`] asks for a new session.
    epoch: i32,
    known: HashMap<TopicPartition, PartitionFetch>,
}

const NO_SESSION: i32 = 0;
/// The epoch of a request that names every partition and asks for a new session.
const FULL: i32 = 0;

impl FetchSession {
    pub(crate) fn new() -> Self {
        Self { id: NO_SESSION, epoch: FULL, known: HashMap::new() }
    }

    /// The next request, for exactly the partitions in `wanted`; their order counts where the broker keeps
    /// no session.
    pub(crate) fn request(&mut self, wanted: Vec<PartitionFetch>) -> SessionRequest {
        if self.epoch != FULL && wanted.iter().any(|fetch| self.has_other_topic_id(fetch)) {
            self.restart();
        }
        if self.epoch == FULL {
            self.known = wanted.iter().map(|fetch| (fetch.partition.clone(), fetch.clone())).collect();
            return SessionRequest { id: self.id, epoch: FULL, fetch: wanted, forget: Vec::new() };
        }
        let mut before = std::mem::take(&mut self.known);
        let mut changed = Vec::new();
        for fetch in wanted {
            if before.remove(&fetch.partition).as_ref() != Some(&fetch) {
                changed.push(fetch.clone());
            }
            self.known.insert(fetch.partition.clone(), fetch);
        }
        let mut forget: Vec<_> = before.into_values().map(|old| (old.topic_id, old.partition)).collect();
        forget.sort_unstable();
        SessionRequest { id: self.id, epoch: self.epoch, fetch: changed, forget }
    }

    /// What the broker was last told about a partition, if it is in the session.
    pub(crate) fn asked(&self, partition: &TopicPartition) -> Option<&PartitionFetch> {
        self.known.get(partition)
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

    fn has_other_topic_id(&self, fetch: &PartitionFetch) -> bool {
        self.known.get(&fetch.partition).is_some_and(|known| known.topic_id != fetch.topic_id)
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

    fn in_session(partitions: &[(i32, i64)]) -> FetchSession {
        let mut session = FetchSession::new();
        let request = session.request(partitions.iter().map(|(p, offset)| fetch(*p, *offset)).collect());
        assert_eq!((request.id, request.epoch, request.fetch.len()), (0, 0, partitions.len()));
        session.accepted(77);
        session
    }

    #[test]
    fn later_requests_name_only_what_changed() {
        let mut session = in_session(&[(0, 10), (1, 20), (2, 30)]);
        let request = session.request(vec![fetch(0, 10), fetch(1, 25)]);
        assert_eq!((request.id, request.epoch), (77, 1));
        assert_eq!(request.fetch, [fetch(1, 25)]);
        assert_eq!(request.forget, [(TopicId([1; 16]), TopicPartition::new("t", 2))]);
        session.accepted(77);
        let request = session.request(vec![fetch(0, 10), fetch(1, 25), fetch(2, 30)]);
        assert_eq!((request.epoch, request.fetch, request.forget), (2, vec![fetch(2, 30)], vec![]));
        assert_eq!(session.asked(&TopicPartition::new("t", 1)), Some(&fetch(1, 25)));
    }

    #[test]
    fn a_session_the_broker_does_not_know_is_started_anew() {
        let mut session = in_session(&[(0, 10), (1, 20)]);
        session.request(vec![fetch(0, 11), fetch(1, 20)]);
        session.refused(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        let request = session.request(vec![fetch(0, 11), fetch(1, 20)]);
        assert_eq!((request.id, request.epoch, request.fetch.len()), (0, 0, 2));
    }

    #[test]
    fn after_a_wrong_epoch_or_a_lost_answer_the_old_session_is_closed_by_a_full_request() {
        for lose in [FetchSession::restart, |s: &mut FetchSession| {
            s.refused(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }] {
            let mut session = in_session(&[(0, 10), (1, 20)]);
            session.request(vec![fetch(0, 11), fetch(1, 20)]);
            lose(&mut session);
            let request = session.request(vec![fetch(0, 11), fetch(1, 20)]);
            assert_eq!((request.id, request.epoch, request.fetch.len()), (77, 0, 2));
            session.accepted(78);
            let request = session.request(vec![fetch(0, 12), fetch(1, 20)]);
            assert_eq!((request.id, request.epoch, request.fetch), (78, 1, vec![fetch(0, 12)]));
        }
    }

    #[test]
    fn without_a_session_every_request_is_full() {
        let mut session = FetchSession::new();
        for _ in 0..2 {
            let request = session.request(vec![fetch(0, 10), fetch(1, 20)]);
            assert_eq!((request.id, request.epoch, request.fetch.len()), (0, 0, 2));
            session.accepted(0);
        }
    }

    #[test]
    fn a_topic_created_anew_starts_a_new_session() {
        let mut session = in_session(&[(0, 10), (1, 20)]);
        let recreated = PartitionFetch { topic_id: TopicId([2; 16]), ..fetch(0, 0) };
        let request = session.request(vec![recreated, fetch(1, 20)]);
        assert_eq!((request.id, request.epoch, request.fetch.len()), (77, 0, 2));
    }

    #[test]
    fn epochs_wrap_to_one() {
        let mut session = in_session(&[(0, 10)]);
        session.epoch = i32::MAX;
        session.accepted(77);
        assert_eq!(session.request(vec![fetch(0, 10)]).epoch, 1);
    }
}

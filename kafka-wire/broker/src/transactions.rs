//! The transaction coordinator's states, as Kafka's `TransactionCoordinator` and `TransactionMetadata`.
//!
//! A pure value: what it decides (markers to write, offsets to commit) the cluster carries out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_wire::{ErrorCode, ProducerIdentity};
use serde::{Deserialize, Serialize};

use crate::groups::CommittedOffset;

/// The largest epoch a producer is given; one above is kept for fencing it.
const EPOCH_MAX: i16 = i16::MAX - 1;
const NONE: i64 = -1;

/// Where a transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    pub(crate) const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name of it, as in `DescribeTransactions`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    const fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// One transactional id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) id: String,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// The epoch before a bump that the client may not have heard of, or −1.
    last_epoch: i16,
    /// The producer id before a change that the client may not have heard of, or −1.
    previous_producer_id: i64,
    /// The producer id to take on when the markers are out, since the epochs are used up; or −1.
    next_producer_id: i64,
    pub(crate) timeout_ms: i32,
    pub(crate) state: State,
    pub(crate) partitions: BTreeSet<(String, i32)>,
    /// Offsets to commit with it, by group.
    pub(crate) offsets: BTreeMap<String, Vec<CommittedOffset>>,
    pub(crate) started_unix_ms: i64,
    /// When an open one times out, or when the markers of a prepared one are written.
    #[serde(skip)]
    pub(crate) deadline: Option<Instant>,
}

/// What ends in the partitions and groups when a transaction completes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Completion {
    pub(crate) id: String,
    pub(crate) producer: ProducerIdentity,
    pub(crate) commit: bool,
    pub(crate) partitions: BTreeSet<(String, i32)>,
    pub(crate) offsets: BTreeMap<String, Vec<CommittedOffset>>,
}

/// All transactional ids of the cluster, and the producer ids given out.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    next_producer_id: i64,
    marker_delay: Duration,
}

impl Transaction {
    fn new(id: &str, producer_id: i64) -> Self {
        Self {
            id: id.to_owned(),
            producer_id,
            epoch: -1,
            last_epoch: -1,
            previous_producer_id: NONE,
            next_producer_id: NONE,
            timeout_ms: 0,
            state: State::Empty,
            partitions: BTreeSet::new(),
            offsets: BTreeMap::new(),
            started_unix_ms: -1,
            deadline: None,
        }
    }

    pub(crate) fn producer(&self) -> ProducerIdentity {
        ProducerIdentity { id: self.producer_id, epoch: self.epoch }
    }

    /// Whether `producer` is the current one and may add to the transaction now.
    fn check(&self, producer: ProducerIdentity) -> Result<(), ErrorCode> {
        if self.state.is_prepared() && producer.id == self.next_producer_id {
            Err(ErrorCode::CONCURRENT_TRANSACTIONS)
        } else if producer.id != self.producer_id {
            Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
        } else if producer.epoch != self.epoch {
            Err(ErrorCode::PRODUCER_FENCED)
        } else if self.state.is_prepared() {
            Err(ErrorCode::CONCURRENT_TRANSACTIONS)
        } else {
            Ok(())
        }
    }

    fn open(&mut self, now: Instant, unix_ms: i64) {
        if self.state != State::Ongoing {
            self.state = State::Ongoing;
            self.started_unix_ms = unix_ms;
            self.deadline = Some(now + self.timeout());
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or(0))
    }

    fn prepare(&mut self, commit: bool, write_markers_at: Instant) {
        self.state = if commit { State::PrepareCommit } else { State::PrepareAbort };
        self.deadline = Some(write_markers_at);
    }

    fn bump(&mut self, last_epoch: i16) {
        self.epoch += 1;
        self.last_epoch = last_epoch;
    }

    fn complete(&mut self) {
        self.state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        if self.next_producer_id != NONE {
            self.previous_producer_id = self.producer_id;
            self.producer_id = self.next_producer_id;
            self.next_producer_id = NONE;
            self.last_epoch = self.epoch;
            self.epoch = 0;
        }
        self.partitions.clear();
        self.offsets.clear();
        self.deadline = None;
    }
}

impl Transactions {
    pub(crate) fn new(marker_delay: Duration) -> Self {
        Self { by_id: BTreeMap::new(), next_producer_id: 0, marker_delay }
    }

    pub(crate) fn set_marker_delay(&mut self, delay: Duration) {
        self.marker_delay = delay;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Transaction> {
        self.by_id.values()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    pub(crate) fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Takes over what a journal says; open and prepared transactions get their deadline anew.
    pub(crate) fn restore(&mut self, mut transaction: Transaction, now: Instant) {
        transaction.deadline = match transaction.state {
            State::Ongoing => Some(now + transaction.timeout()),
            State::PrepareCommit | State::PrepareAbort => Some(now),
            _ => None,
        };
        self.by_id.insert(transaction.id.clone(), transaction);
    }

    pub(crate) fn restore_producer_ids(&mut self, next: i64) {
        self.next_producer_id = self.next_producer_id.max(next);
    }

    /// A producer id that nobody had.
    pub(crate) fn assign_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id - 1
    }

    /// `InitProducerId` of a transactional id: fences whoever had it, and aborts what was open.
    ///
    /// # Errors
    /// `CONCURRENT_TRANSACTIONS` until what was open is gone, `PRODUCER_FENCED` where `expected` is neither the
    /// current producer nor the one before a bump.
    pub(crate) fn init(
        &mut self,
        now: Instant,
        id: &str,
        timeout_ms: i32,
        expected: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, ErrorCode> {
        if !self.by_id.contains_key(id) {
            let producer_id = self.assign_producer_id();
            self.by_id.insert(id.to_owned(), Transaction::new(id, producer_id));
        }
        let fresh_id = self.next_producer_id;
        let Some(transaction) = self.by_id.get_mut(id) else { return Err(ErrorCode::UNKNOWN_SERVER_ERROR) };
        if expected.is_some_and(|expected| !is_known(transaction, expected)) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match transaction.state {
            State::PrepareCommit | State::PrepareAbort => return Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            State::Ongoing => {
                let last = transaction.epoch;
                transaction.bump(last);
                transaction.prepare(false, now + self.marker_delay);
                return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
            }
            State::Empty | State::CompleteCommit | State::CompleteAbort => {}
        }
        let is_current = expected.is_none_or(|expected| expected.epoch == transaction.epoch);
        if transaction.epoch >= EPOCH_MAX && is_current {
            self.next_producer_id += 1;
            transaction.previous_producer_id = transaction.producer_id;
            transaction.last_epoch = if expected.is_some() { transaction.epoch } else { -1 };
            transaction.producer_id = fresh_id;
            transaction.epoch = 0;
        } else if is_current {
            let last = if expected.is_some() { transaction.epoch } else { -1 };
            transaction.bump(last);
        }
        transaction.state = State::Empty;
        transaction.timeout_ms = timeout_ms;
        Ok(transaction.producer())
    }

    fn checked(&mut self, id: &str, producer: ProducerIdentity) -> Result<&mut Transaction, ErrorCode> {
        let transaction = self.by_id.get_mut(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        transaction.check(producer)?;
        Ok(transaction)
    }

    /// Adds partitions to the producer's transaction, which this may open; says whether anything changed.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `CONCURRENT_TRANSACTIONS`.
    pub(crate) fn add_partitions<'a>(
        &mut self,
        now: Instant,
        unix_ms: i64,
        id: &str,
        producer: ProducerIdentity,
        partitions: impl IntoIterator<Item = (&'a str, i32)>,
    ) -> Result<bool, ErrorCode> {
        let transaction = self.checked(id, producer)?;
        let mut changed = transaction.state != State::Ongoing;
        transaction.open(now, unix_ms);
        for (topic, partition) in partitions {
            changed |= transaction.partitions.insert((topic.to_owned(), partition));
        }
        Ok(changed)
    }

    /// Whether the producer's open transaction holds the partition.
    ///
    /// # Errors
    /// As [`Transactions::add_partitions`]; `INVALID_TXN_STATE` where it does not hold it.
    pub(crate) fn verify(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        topic: &str,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let transaction = self.checked(id, producer)?;
        let holds = transaction.state == State::Ongoing
            && transaction.partitions.iter().any(|(name, index)| name == topic && *index == partition);
        if holds { Ok(()) } else { Err(ErrorCode::INVALID_TXN_STATE) }
    }

    /// Adds a group to the producer's transaction, which this may open.
    ///
    /// # Errors
    /// As [`Transactions::add_partitions`].
    pub(crate) fn add_group(
        &mut self,
        now: Instant,
        unix_ms: i64,
        id: &str,
        producer: ProducerIdentity,
        group: &str,
    ) -> Result<(), ErrorCode> {
        let transaction = self.checked(id, producer)?;
        transaction.open(now, unix_ms);
        transaction.offsets.entry(group.to_owned()).or_default();
        Ok(())
    }

    /// Puts offsets of a group that was added into the transaction.
    ///
    /// # Errors
    /// As [`Transactions::add_partitions`]; `INVALID_TXN_STATE` where the group was not added.
    pub(crate) fn put_offsets(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        group: &str,
        offsets: impl IntoIterator<Item = CommittedOffset>,
    ) -> Result<(), ErrorCode> {
        let transaction = self.checked(id, producer)?;
        let Some(pending) =
            transaction.offsets.get_mut(group).filter(|_| transaction.state == State::Ongoing)
        else {
            return Err(ErrorCode::INVALID_TXN_STATE);
        };
        for offset in offsets {
            pending.retain(|known| (&known.topic, known.partition) != (&offset.topic, offset.partition));
            pending.push(offset);
        }
        Ok(())
    }

    /// Whether a transaction that is not complete holds an offset of the group for this partition.
    pub(crate) fn has_pending_offset(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.by_id.values().filter_map(|transaction| transaction.offsets.get(group)).any(|offsets| {
            offsets.iter().any(|offset| offset.topic == topic && offset.partition == partition)
        })
    }

    /// `EndTxn`. Under protocol 2 it raises the epoch and answers the pair to go on with; asked again by a
    /// client that missed the answer, it answers the same.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `CONCURRENT_TRANSACTIONS`, `INVALID_TXN_STATE`, as
    /// Kafka's `endTransaction`.
    pub(crate) fn end(
        &mut self,
        now: Instant,
        id: &str,
        producer: ProducerIdentity,
        commit: bool,
        raises_epoch: bool,
    ) -> Result<ProducerIdentity, ErrorCode> {
        let fresh_id = self.next_producer_id;
        let markers_at = now + self.marker_delay;
        let transaction = self.by_id.get_mut(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        let is_retry = raises_epoch && is_before_end(transaction, producer);
        if !is_retry && producer.id != transaction.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if !is_retry && producer.epoch != transaction.epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        let may_abort_nothing = raises_epoch && !commit && !is_retry;
        match (transaction.state, commit) {
            (State::Ongoing, _) if is_retry => return Err(ErrorCode::PRODUCER_FENCED),
            (State::Ongoing, _) => {}
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
            }
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if is_retry || !raises_epoch => {
                return Ok(transaction.producer());
            }
            (State::Empty | State::CompleteCommit | State::CompleteAbort, false) if may_abort_nothing => {}
            _ => return Err(ErrorCode::INVALID_TXN_STATE),
        }
        transaction.prepare(commit, markers_at);
        if !raises_epoch {
            return Ok(transaction.producer());
        }
        let exhausted = transaction.epoch >= EPOCH_MAX;
        transaction.bump(producer.epoch);
        if exhausted {
            transaction.next_producer_id = fresh_id;
            self.next_producer_id += 1;
            return Ok(ProducerIdentity { id: fresh_id, epoch: 0 });
        }
        Ok(transaction.producer())
    }

    /// Prepares the abort of open transactions whose time is over, and fences their producers; their ids.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<String> {
        let mut expired = Vec::new();
        for transaction in self.by_id.values_mut() {
            if transaction.state == State::Ongoing && transaction.deadline.is_some_and(|at| at <= now) {
                let last = transaction.epoch;
                transaction.bump(last);
                transaction.prepare(false, now + self.marker_delay);
                expired.push(transaction.id.clone());
            }
        }
        expired
    }

    /// What prepared transactions, whose markers are due, end.
    pub(crate) fn due(&self, now: Instant) -> Vec<Completion> {
        let due = |transaction: &&Transaction| {
            transaction.state.is_prepared() && transaction.deadline.is_some_and(|at| at <= now)
        };
        self.by_id
            .values()
            .filter(due)
            .map(|transaction| Completion {
                id: transaction.id.clone(),
                producer: transaction.producer(),
                commit: transaction.state == State::PrepareCommit,
                partitions: transaction.partitions.clone(),
                offsets: transaction.offsets.clone(),
            })
            .collect()
    }

    /// Notes that the markers of a prepared transaction are written.
    pub(crate) fn complete(&mut self, id: &str) {
        if let Some(transaction) = self.by_id.get_mut(id).filter(|it| it.state.is_prepared()) {
            transaction.complete();
        }
    }

    /// Makes the markers of all that is prepared due.
    pub(crate) fn hasten(&mut self, now: Instant) {
        for transaction in self.by_id.values_mut().filter(|transaction| transaction.state.is_prepared()) {
            transaction.deadline = Some(now);
        }
    }

    /// When something is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.by_id.values().filter_map(|transaction| transaction.deadline).min()
    }

    /// Removes a deleted topic's partitions from all transactions.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for transaction in self.by_id.values_mut() {
            transaction.partitions.retain(|(name, _)| name != topic);
        }
    }
}

/// Whether a client that says it is `expected` may go on (KIP-360).
fn is_known(transaction: &Transaction, expected: ProducerIdentity) -> bool {
    transaction.epoch == -1
        || (expected.id == transaction.producer_id
            && (expected.epoch == transaction.epoch || expected.epoch == transaction.last_epoch))
        || (expected.id == transaction.previous_producer_id && expected.epoch >= EPOCH_MAX)
}

/// Whether `producer` is who it was before `EndTxn` raised the epoch: it missed the answer.
fn is_before_end(transaction: &Transaction, producer: ProducerIdentity) -> bool {
    (producer.id == transaction.producer_id && i32::from(producer.epoch) + 1 == i32::from(transaction.epoch))
        || (producer.id == transaction.previous_producer_id
            && producer.epoch == EPOCH_MAX
            && transaction.epoch == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Coordinator {
        transactions: Transactions,
        now: Instant,
    }

    #[allow(clippy::disallowed_methods, reason = "any instant will do as the zero of a virtual clock")]
    fn coordinator(marker_delay: Duration) -> Coordinator {
        Coordinator { transactions: Transactions::new(marker_delay), now: Instant::now() }
    }

    impl Coordinator {
        fn init(&mut self) -> Result<ProducerIdentity, ErrorCode> {
            self.transactions.init(self.now, "t", 1_000, None)
        }

        fn add(&mut self, producer: ProducerIdentity) -> Result<bool, ErrorCode> {
            self.transactions.add_partitions(self.now, 0, "t", producer, [("topic", 0)])
        }

        fn end(
            &mut self,
            producer: ProducerIdentity,
            commit: bool,
            v2: bool,
        ) -> Result<ProducerIdentity, ErrorCode> {
            self.transactions.end(self.now, "t", producer, commit, v2)
        }

        fn write_markers(&mut self) -> Vec<Completion> {
            let due = self.transactions.due(self.now);
            for completion in &due {
                self.transactions.complete(&completion.id);
            }
            due
        }
    }

    fn at(producer: ProducerIdentity, epoch: i16) -> ProducerIdentity {
        ProducerIdentity { epoch, ..producer }
    }

    #[test]
    fn version_1_keeps_the_epoch() {
        let mut it = coordinator(Duration::ZERO);
        let producer = it.init().unwrap();
        assert_eq!(it.end(producer, true, false), Err(ErrorCode::INVALID_TXN_STATE));
        assert_eq!(it.add(producer), Ok(true));
        assert_eq!(it.add(producer), Ok(false));
        assert_eq!(it.end(producer, true, false), Ok(producer));
        assert_eq!(it.end(producer, true, false), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        assert_eq!(it.write_markers()[0].producer, producer);
        assert_eq!(it.end(producer, true, false), Ok(producer), "asked again");
        assert_eq!(it.end(producer, false, false), Err(ErrorCode::INVALID_TXN_STATE));
    }

    #[test]
    fn version_2_raises_the_epoch_and_answers_a_retry_alike() {
        let mut it = coordinator(Duration::from_millis(10));
        let producer = it.init().unwrap();
        it.add(producer).unwrap();
        let next = it.end(producer, true, true).unwrap();
        assert_eq!(next, at(producer, producer.epoch + 1));
        assert_eq!(it.add(next), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        assert_eq!(it.end(producer, true, true), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        assert_eq!(it.init(), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        assert_eq!(it.write_markers(), []);
        it.now += Duration::from_millis(10);
        let completions = it.write_markers();
        assert_eq!((completions[0].producer, completions[0].commit), (next, true));
        assert_eq!(it.end(producer, true, true), Ok(next));
        assert_eq!(it.end(producer, false, true), Err(ErrorCode::INVALID_TXN_STATE));
        assert_eq!(it.end(next, true, true), Err(ErrorCode::INVALID_TXN_STATE), "nothing was written");
        assert_eq!(it.end(next, false, true), Ok(at(next, next.epoch + 1)), "an empty abort is fine");
    }

    #[test]
    fn a_new_incarnation_fences_and_aborts() {
        let mut it = coordinator(Duration::ZERO);
        let zombie = it.init().unwrap();
        it.add(zombie).unwrap();
        assert_eq!(it.init(), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        let completion = &it.write_markers()[0];
        assert_eq!((completion.commit, completion.producer), (false, at(zombie, 1)));
        let fresh = it.init().unwrap();
        assert_eq!(fresh, at(zombie, 2));
        assert_eq!(it.add(zombie), Err(ErrorCode::PRODUCER_FENCED));
        assert_eq!(it.end(zombie, true, true), Err(ErrorCode::PRODUCER_FENCED));
        assert_eq!(
            it.transactions.init(it.now, "t", 1_000, Some(zombie)),
            Err(ErrorCode::PRODUCER_FENCED),
            "a zombie cannot bump itself back in"
        );
    }

    #[test]
    fn a_lost_answer_to_an_epoch_bump_does_not_fence_the_asker() {
        let mut it = coordinator(Duration::ZERO);
        let producer = it.init().unwrap();
        let bumped = it.transactions.init(it.now, "t", 1_000, Some(producer)).unwrap();
        assert_eq!(bumped, at(producer, 1));
        assert_eq!(it.transactions.init(it.now, "t", 1_000, Some(producer)), Ok(bumped));
    }

    #[test]
    fn a_timeout_aborts_and_fences() {
        let mut it = coordinator(Duration::ZERO);
        let producer = it.init().unwrap();
        it.add(producer).unwrap();
        it.now += Duration::from_millis(999);
        assert_eq!(it.transactions.expire(it.now), [] as [String; 0]);
        it.now += Duration::from_millis(1);
        assert_eq!(it.transactions.poll_timeout(), Some(it.now));
        assert_eq!(it.transactions.expire(it.now), ["t"]);
        assert!(!it.write_markers()[0].commit);
        assert_eq!(it.add(producer), Err(ErrorCode::PRODUCER_FENCED));
        assert_eq!(it.transactions.poll_timeout(), None);
    }

    #[test]
    fn used_up_epochs_give_a_new_producer_id() {
        let mut it = coordinator(Duration::ZERO);
        let mut producer = it.init().unwrap();
        let first_id = producer.id;
        for _ in 0..i16::MAX - 1 {
            it.add(producer).unwrap();
            producer = it.end(producer, true, true).unwrap();
            it.write_markers();
        }
        assert_eq!(producer.epoch, EPOCH_MAX);
        it.add(producer).unwrap();
        let fresh = it.end(producer, true, true).unwrap();
        assert!(fresh.id != first_id && fresh.epoch == 0);
        assert_eq!(it.add(fresh), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        assert_eq!(it.write_markers()[0].producer, ProducerIdentity { id: first_id, epoch: i16::MAX });
        assert_eq!(it.end(producer, true, true), Ok(fresh), "asked again");
        assert_eq!(it.add(fresh), Ok(true));
    }
}

//! What was fetched and not yet handed out, between the machine that fetches and the application.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use foldhash::HashMap;
use foldhash::HashMapExt as _;

use super::account::{Account, Waiting};
use super::fetched::{LogEnds, Step};
use super::measures::{Measures, report_lags};
use super::position::{OffsetAndEpoch, Position};
use crate::error::{Error, ErrorCode};
use crate::metrics::Sink;
use crate::types::TopicPartition;

/// The buffers as both sides hold them. Every critical section is a few steps long, per batch.
#[derive(Clone, Debug)]
pub(crate) struct SharedBuffers(Arc<Mutex<Buffers>>);

impl SharedBuffers {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Buffers::new(max_bytes))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Buffers> {
        // A panic elsewhere leaves no step half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the application, if it waits.
    pub(crate) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Tells one assignment or seek of a partition from the next, so that what was fetched for the one before is
/// recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Buffers {
    slots: HashMap<TopicPartition, Slot>,
    /// Partitions with something to hand out, in turn, each once; some may have been paused since.
    ready: VecDeque<TopicPartition>,
    max_bytes: usize,
    account: Account,
    measures: Measures,
    /// The machine has held back a fetch for lack of room.
    wants_room: bool,
    fatal: Option<Error>,
    last_generation: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Slot {
    generation: Generation,
    queue: VecDeque<Waiting>,
    paused: bool,
    is_ready: bool,
    /// After the last step handed out.
    position: Option<OffsetAndEpoch>,
    /// Why no more comes, after the queue: until it is assigned anew, or where that can pass, for now.
    failed: Option<Error>,
    /// See [`Buffers::set_contact`].
    in_contact: bool,
    /// Of the last step handed out.
    ends: Option<LogEnds>,
}

/// A step on its way to the application.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) partition: TopicPartition,
    pub(crate) generation: Generation,
    pub(crate) step: Step,
    before: Option<OffsetAndEpoch>,
}

/// Whether a partition that met `error` is tried further, and the application told once each time: what brokers and
/// networks get over, and rights, which may be given again (those on the group have hidden what it committed). Java's
/// consumer asks again with each poll, too. What a refusal means for a membership is another question: see `judge` in
/// `group/classic/calls` and `group/consumer_protocol/calls`.
pub(super) fn is_tried_again(error: &Error) -> bool {
    let rights = [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::GROUP_AUTHORIZATION_FAILED];
    error.is_retriable() || error.code().is_some_and(|code| rights.contains(&code))
}

impl Slot {
    fn failure(&mut self) -> Option<Error> {
        match &self.failed {
            Some(error) if is_tried_again(error) => self.failed.take(),
            failed => failed.clone(),
        }
    }
}

impl Taken {
    /// What is needed to take it back.
    pub(crate) fn undo(&self) -> Undo {
        Undo { partition: self.partition.clone(), generation: self.generation, before: self.before }
    }
}

/// See [`Buffers::put_back`].
#[derive(Debug)]
pub(crate) struct Undo {
    partition: TopicPartition,
    generation: Generation,
    before: Option<OffsetAndEpoch>,
}

// The application's side.
impl Buffers {
    fn new(max_bytes: usize) -> Self {
        Self {
            slots: HashMap::new(),
            ready: VecDeque::new(),
            max_bytes,
            account: Account::new(),
            measures: Measures::new(),
            wants_room: false,
            fatal: None,
            last_generation: 0,
            waker: None,
        }
    }

    /// Starts a partition anew: nothing is buffered, its position is not known yet.
    fn assign(&mut self, partition: &TopicPartition) -> Generation {
        self.unassign(std::slice::from_ref(partition));
        self.last_generation += 1;
        let generation = Generation(self.last_generation);
        let slot = Slot {
            generation,
            queue: VecDeque::new(),
            paused: false,
            is_ready: false,
            position: None,
            failed: None,
            in_contact: false,
            ends: None,
        };
        self.slots.insert(partition.clone(), slot);
        generation
    }

    /// Forgets partitions and what is buffered of them.
    pub(crate) fn unassign(&mut self, partitions: &[TopicPartition]) {
        let mut had_turns = false;
        for partition in partitions {
            self.drop_queue(partition);
            had_turns |= self.slots.remove(partition).is_some_and(|slot| slot.is_ready);
        }
        if had_turns {
            // Once for all of them: thousands may have their turn.
            self.ready.retain(|ready| self.slots.contains_key(ready));
        }
    }

    /// As [`assign`](Self::assign), at `position`; a partition that was paused stays so.
    pub(crate) fn assign_at(&mut self, partition: &TopicPartition, position: Position) -> Generation {
        let paused = self.slots.get(partition).is_some_and(|slot| slot.paused);
        let generation = self.assign(partition);
        if let Some(slot) = self.slots.get_mut(partition) {
            slot.paused = paused;
            if let Position::Offset { offset, leader_epoch } = position {
                slot.position = Some(OffsetAndEpoch { offset, leader_epoch });
            }
        }
        generation
    }

    /// Keeps what is buffered of a partition back; `None` if it is not assigned.
    ///
    /// What paused partitions have buffered is bounded too: above a quarter of the bytes allowed it is
    /// dropped, and has to be fetched again from the place returned.
    pub(crate) fn pause(
        &mut self,
        partition: &TopicPartition,
    ) -> Option<Option<(Generation, OffsetAndEpoch)>> {
        let slot = self.slots.get_mut(partition)?;
        if slot.paused {
            return Some(None);
        }
        let bytes: usize = slot.queue.iter().map(Waiting::size_bytes).sum();
        let fits = self.account.paused_bytes + bytes <= self.max_bytes / 4;
        // Nothing is buffered before the position is known.
        if let Some(position) = slot.position.filter(|_| bytes > 0 && !fits) {
            let generation = self.assign_at(partition, position.into());
            self.slots.get_mut(partition)?.paused = true;
            return Some(Some((generation, position)));
        }
        slot.paused = true;
        for waiting in &mut slot.queue {
            self.account.subtract(waiting, false);
            waiting.detach();
            self.account.add(waiting, true);
        }
        Some(None)
    }

    /// Hands out what is buffered of a partition again; false if it is not assigned.
    pub(crate) fn resume(&mut self, partition: &TopicPartition) -> bool {
        let Some(slot) = self.slots.get_mut(partition) else {
            return false;
        };
        if std::mem::take(&mut slot.paused) {
            for waiting in &slot.queue {
                self.account.subtract(waiting, true);
                self.account.add(waiting, false);
            }
            self.mark_ready(partition);
        }
        true
    }

    /// It is this partition's turn, if there is anything of it.
    pub(crate) fn prefer(&mut self, partition: &TopicPartition) {
        let is_first = self.ready.front() == Some(partition);
        let has_some = self.slots.get(partition).is_some_and(|slot| !slot.queue.is_empty());
        if has_some
            && !is_first
            && let Some(index) = self.ready.iter().position(|ready| ready == partition)
            && let Some(partition) = self.ready.remove(index)
        {
            self.ready.push_front(partition);
        }
    }

    /// The next step of the partition whose turn it is, and its position moves on; or why a partition cannot
    /// go on, each time its turn comes, until it is assigned anew. What can pass is told once.
    pub(crate) fn take(&mut self) -> Option<Result<Taken, Error>> {
        if let Some(error) = &self.fatal {
            return Some(Err(error.clone()));
        }
        while let Some(partition) = self.ready.pop_front() {
            let Some(slot) = self.slots.get_mut(&partition) else {
                continue;
            };
            slot.is_ready = false;
            if slot.paused {
                continue;
            }
            let Some(waiting) = slot.queue.pop_front() else {
                let Some(error) = slot.failure() else {
                    continue;
                };
                self.mark_ready(&partition);
                return Some(Err(error));
            };
            if slot.queue.is_empty() {
                // Room for a burst, kept by each of many partitions, is more than all that waits.
                slot.queue = VecDeque::new();
            }
            self.account.subtract(&waiting, false);
            let step = waiting.step;
            let before = slot.position.replace(step.next);
            slot.ends = Some(step.ends);
            if let Some((records, bytes)) = step.fresh() {
                self.measures.consumed(&partition.topic, records, bytes);
            }
            let generation = slot.generation;
            self.mark_ready(&partition);
            return Some(Ok(Taken { partition, generation, step, before }));
        }
        None
    }

    /// What has been handed out, and what has not been yet.
    pub(crate) fn report(&self, sink: &mut Sink<'_>) {
        self.measures.report(sink);
        let lags = self.slots.iter().filter_map(|(partition, slot)| {
            let (position, ends) = (slot.position?, slot.ends?);
            let lag = ends.high_watermark.saturating_sub(position.offset).max(0);
            Some((&*partition.topic, partition.partition, lag))
        });
        report_lags(lags, sink);
    }

    /// A step that was taken could not be read: the position goes back to before it, and stays there.
    pub(crate) fn put_back(&mut self, undo: Undo, error: Error) {
        let Some(slot) = self.current(&undo.partition, undo.generation) else {
            return;
        };
        slot.position = undo.before;
        slot.failed = Some(error);
        self.drop_queue(&undo.partition);
        self.mark_ready(&undo.partition);
    }

    /// Of a step that was taken, only what lies before `rest` was handed out: that is next.
    pub(crate) fn put_rest(&mut self, undo: &Undo, rest: Step) {
        let Some(slot) =
            self.slots.get_mut(&undo.partition).filter(|slot| slot.generation == undo.generation)
        else {
            return;
        };
        slot.position = Some(OffsetAndEpoch { offset: rest.from, ..rest.next });
        let waiting = Waiting::alone(rest);
        self.account.add(&waiting, slot.paused);
        slot.queue.push_front(waiting);
        self.mark_ready(&undo.partition);
    }

    /// After the last step handed out; unknown until it has been looked up.
    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Option<OffsetAndEpoch>> {
        self.slots.get(partition).map(|slot| slot.position)
    }

    /// Why a partition gets no further, once that is known. What can pass is told once.
    pub(crate) fn failure(&mut self, partition: &TopicPartition) -> Option<Error> {
        self.fatal.clone().or_else(|| self.slots.get_mut(partition)?.failure())
    }

    /// See [`set_contact`](Self::set_contact).
    pub(crate) fn is_in_contact(&self, partition: &TopicPartition) -> bool {
        self.slots.get(partition).is_some_and(|slot| slot.in_contact)
    }

    /// All partitions with their positions, where these are known.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (&TopicPartition, OffsetAndEpoch)> {
        self.slots.iter().filter_map(|(partition, slot)| Some((partition, slot.position?)))
    }

    /// The partitions assigned, in no order.
    pub(crate) fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.slots.keys()
    }

    /// Whether the machine waits for room and there is some now; says so once.
    pub(crate) fn take_room_wanted(&mut self) -> bool {
        let wanted = self.wants_room && self.is_roomy();
        if wanted {
            self.wants_room = false;
        }
        wanted
    }

    /// Who to wake when something comes.
    pub(crate) fn register(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(registered) => registered.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

// The machine's side.
impl Buffers {
    /// Whether more may be fetched: half of the bytes are for what is here, half for what is on its way.
    pub(crate) fn has_room(&mut self) -> bool {
        let roomy = self.is_roomy();
        self.wants_room |= !roomy;
        roomy
    }

    /// The place to start at is known now.
    pub(crate) fn resolve(&mut self, partition: &TopicPartition, generation: Generation, at: OffsetAndEpoch) {
        if let Some(slot) = self.current(partition, generation) {
            slot.position = Some(at);
            slot.failed = None;
        }
    }

    /// What is pushed from now on is of another answer of a broker, with this many bytes of batches.
    pub(crate) fn begin_answer(&mut self, bytes: usize) {
        self.account.begin_answer(bytes);
    }

    /// Adds steps, in order. False if there is no room for them, because the partition is paused: they have
    /// to be fetched again.
    pub(crate) fn push(
        &mut self,
        partition: &TopicPartition,
        generation: Generation,
        steps: Vec<Step>,
    ) -> bool {
        let paused_full = self.account.paused_bytes > self.max_bytes / 4;
        let Some(slot) = self.slots.get_mut(partition).filter(|slot| slot.generation == generation) else {
            return true; // Assigned anew since: the machine is about to learn of it.
        };
        if slot.paused && paused_full {
            return false;
        }
        slot.failed.take_if(|error| is_tried_again(error));
        for step in steps {
            // Steps over nothing may come for ever while the application takes none.
            if slot.queue.back_mut().is_some_and(|last| last.step.absorb(&step)) {
                continue;
            }
            let mut waiting = self.account.waiting(step);
            if slot.paused {
                waiting.detach();
            }
            self.account.add(&waiting, slot.paused);
            slot.queue.push_back(waiting);
        }
        self.mark_ready(partition);
        true
    }

    /// Nothing more comes of a partition, because of `error`, until it is assigned anew; or for now, where the error
    /// is retriable.
    pub(crate) fn fail(&mut self, partition: &TopicPartition, generation: Generation, error: Error) {
        if let Some(slot) = self.current(partition, generation) {
            slot.failed = Some(error);
            self.mark_ready(partition);
        }
    }

    /// Nothing more comes of any partition.
    pub(crate) fn fail_all(&mut self, error: Error) {
        self.fatal.get_or_insert(error);
    }

    /// Bytes that wait, paused ones included.
    #[cfg(test)]
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.account.active_bytes + self.account.paused_bytes
    }

    /// Whether the partition's leader answers fetches, so that the ends of the log are known as they are.
    pub(crate) fn set_contact(&mut self, partition: &TopicPartition, generation: Generation, is_in: bool) {
        if let Some(slot) = self.current(partition, generation) {
            slot.in_contact = is_in;
        }
    }

    fn is_roomy(&self) -> bool {
        self.account.active_bytes <= self.max_bytes / 2
    }

    fn current(&mut self, partition: &TopicPartition, generation: Generation) -> Option<&mut Slot> {
        self.slots.get_mut(partition).filter(|slot| slot.generation == generation)
    }

    fn drop_queue(&mut self, partition: &TopicPartition) {
        if let Some(slot) = self.slots.get_mut(partition) {
            for waiting in std::mem::take(&mut slot.queue) {
                self.account.subtract(&waiting, slot.paused);
            }
        }
    }

    fn mark_ready(&mut self, partition: &TopicPartition) {
        let Some(slot) = self.slots.get_mut(partition) else {
            return;
        };
        let has_something = !slot.queue.is_empty() || slot.failed.is_some();
        if has_something && !slot.paused && !slot.is_ready {
            slot.is_ready = true;
            self.ready.push_back(partition.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::STEP_BYTES;
    use super::super::fetched::{Content, LogEnds};
    use super::super::model::{Event, ModelLog};
    use super::*;
    use crate::error::ErrorKind;
    use crate::record;
    use crate::types::Isolation;

    const ENDS: LogEnds = LogEnds { high_watermark: 9, last_stable_offset: 9, log_start_offset: 0 };

    fn at(offset: i64) -> OffsetAndEpoch {
        OffsetAndEpoch { offset, leader_epoch: None }
    }

    /// Batches of one record each, from `offset` on.
    fn steps(offset: i64, count: i64) -> Vec<Step> {
        let one = Event::Append { producer: None, records: 1, removed: 0, log_append_time: false };
        let log = ModelLog::new(&vec![one; (offset + count) as usize]);
        let set = log.fetch(offset, 1 << 20, Isolation::ReadUncommitted).records;
        let batches = record::batches(set).map(|batch| batch.unwrap());
        batches
            .map(|batch| Step {
                from: batch.header.base_offset,
                next: at(batch.header.next_offset()),
                batch: Some(Content::Raw(batch)),
                ends: ENDS,
            })
            .collect()
    }

    /// As an answer of its own.
    fn push(
        buffers: &mut Buffers,
        partition: &TopicPartition,
        generation: Generation,
        steps: Vec<Step>,
    ) -> bool {
        buffers.begin_answer(steps.iter().map(Step::size_bytes).sum());
        buffers.push(partition, generation, steps)
    }

    fn step_bytes() -> usize {
        STEP_BYTES + steps(0, 1)[0].size_bytes()
    }

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("t", number)
    }

    fn assigned(buffers: &mut Buffers, number: i32) -> Generation {
        let generation = buffers.assign(&partition(number));
        buffers.resolve(&partition(number), generation, at(0));
        generation
    }

    fn taken(buffers: &mut Buffers) -> Option<(i32, i64)> {
        buffers.take().map(|taken| {
            let taken = taken.unwrap();
            (taken.partition.partition, taken.step.from)
        })
    }

    #[test]
    fn partitions_take_turns_and_positions_follow() {
        let mut buffers = Buffers::new(1 << 20);
        let (a, b) = (assigned(&mut buffers, 0), assigned(&mut buffers, 1));
        push(&mut buffers, &partition(0), a, steps(0, 3));
        push(&mut buffers, &partition(1), b, steps(5, 1));
        let order: Vec<_> = std::iter::from_fn(|| taken(&mut buffers)).collect();
        assert_eq!(order, [(0, 0), (1, 5), (0, 1), (0, 2)]);
        assert_eq!(buffers.position(&partition(0)), Some(Some(at(3))));
        assert_eq!(buffers.position(&partition(1)), Some(Some(at(6))));
        assert_eq!((buffers.account.active_bytes, buffers.position(&partition(2))), (0, None));
    }

    #[test]
    fn a_preferred_partition_goes_first_if_it_has_something() {
        let mut buffers = Buffers::new(1 << 20);
        for number in 0..3 {
            let generation = assigned(&mut buffers, number);
            if number > 0 {
                push(&mut buffers, &partition(number), generation, steps(0, 2));
            }
        }
        buffers.prefer(&partition(2));
        assert_eq!(taken(&mut buffers), Some((2, 0)));
        assert_eq!(taken(&mut buffers), Some((1, 0)));
        buffers.prefer(&partition(0));
        buffers.prefer(&partition(1));
        assert_eq!(taken(&mut buffers), Some((1, 1)));
        assert_eq!(taken(&mut buffers), Some((2, 1)));
    }

    #[test]
    fn what_was_fetched_before_a_seek_is_never_handed_out() {
        let mut buffers = Buffers::new(1 << 20);
        let before = assigned(&mut buffers, 0);
        push(&mut buffers, &partition(0), before, steps(0, 2));
        let after = buffers.assign_at(&partition(0), Position::End);
        assert!(push(&mut buffers, &partition(0), before, steps(2, 2)), "late, from before the seek");
        buffers.fail(&partition(0), before, Error::new(ErrorKind::Protocol, "late"));
        assert_eq!((taken(&mut buffers), buffers.account.active_bytes), (None, 0));
        assert_eq!(buffers.position(&partition(0)), Some(None));
        for _ in 0..3 {
            push(&mut buffers, &partition(0), after, steps(7, 1));
            buffers.assign_at(&partition(0), Position::End);
        }
        assert!(buffers.ready.is_empty());
    }

    #[test]
    fn a_failed_partition_says_so_at_each_turn_and_holds_up_no_other() {
        let mut buffers = Buffers::new(1 << 20);
        let (a, b) = (assigned(&mut buffers, 0), assigned(&mut buffers, 1));
        push(&mut buffers, &partition(0), a, steps(0, 1));
        buffers.fail(&partition(0), a, Error::new(ErrorKind::DataLoss, "gone"));
        push(&mut buffers, &partition(1), b, steps(0, 2));
        assert_eq!(taken(&mut buffers), Some((0, 0)), "first what came before the failure");
        assert_eq!(taken(&mut buffers), Some((1, 0)));
        assert_eq!(buffers.take().unwrap().unwrap_err().kind(), ErrorKind::DataLoss);
        assert_eq!(taken(&mut buffers), Some((1, 1)));
        assert_eq!(buffers.take().unwrap().unwrap_err().kind(), ErrorKind::DataLoss);
        buffers.assign_at(&partition(0), Position::End);
        assert!(buffers.take().is_none());
    }

    #[test]
    fn what_can_pass_is_told_once_and_not_after_it_has_passed() {
        let mut buffers = Buffers::new(1 << 20);
        let generation = buffers.assign(&partition(0));
        let outage = || Error::new(ErrorKind::Timeout, "nobody answers");
        buffers.fail(&partition(0), generation, outage());
        assert_eq!(buffers.take().unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        assert!(buffers.take().is_none() && buffers.failure(&partition(0)).is_none());
        buffers.fail(&partition(0), generation, outage());
        assert_eq!(buffers.failure(&partition(0)).unwrap().kind(), ErrorKind::Timeout);
        assert!(buffers.take().is_none());
        buffers.fail(&partition(0), generation, outage());
        buffers.resolve(&partition(0), generation, at(0));
        assert!(buffers.take().is_none());
        buffers.fail(&partition(0), generation, outage());
        push(&mut buffers, &partition(0), generation, steps(0, 1));
        assert_eq!((taken(&mut buffers), buffers.take().is_none()), (Some((0, 0)), true));
    }

    #[test]
    fn a_step_that_cannot_be_read_is_not_passed() {
        let mut buffers = Buffers::new(1 << 20);
        let generation = assigned(&mut buffers, 0);
        push(&mut buffers, &partition(0), generation, steps(0, 3));
        taken(&mut buffers);
        let undo = buffers.take().unwrap().unwrap().undo();
        buffers.put_back(undo, Error::new(ErrorKind::CorruptRecords, "damaged"));
        assert_eq!(buffers.position(&partition(0)), Some(Some(at(1))));
        for _ in 0..2 {
            assert_eq!(buffers.take().unwrap().unwrap_err().kind(), ErrorKind::CorruptRecords);
        }
        assert_eq!(buffers.account.active_bytes, 0);
    }

    #[test]
    fn room_is_wanted_once_when_half_is_free() {
        let mut buffers = Buffers::new(4 * step_bytes());
        let generation = assigned(&mut buffers, 0);
        push(&mut buffers, &partition(0), generation, steps(0, 2));
        assert!(buffers.has_room());
        push(&mut buffers, &partition(0), generation, steps(2, 2));
        assert!(!buffers.has_room() && !buffers.take_room_wanted());
        taken(&mut buffers);
        assert!(!buffers.take_room_wanted());
        taken(&mut buffers);
        assert!(buffers.take_room_wanted() && !buffers.take_room_wanted());
        assert!(buffers.has_room());
    }

    #[test]
    fn paused_partitions_keep_little_and_hold_up_nobody() {
        let mut buffers = Buffers::new(8 * step_bytes());
        let (a, b) = (assigned(&mut buffers, 0), assigned(&mut buffers, 1));
        push(&mut buffers, &partition(0), a, steps(0, 2));
        push(&mut buffers, &partition(1), b, steps(0, 3));
        assert_eq!(buffers.pause(&partition(0)), Some(None));
        assert!(push(&mut buffers, &partition(0), a, steps(2, 1)), "up to a quarter is kept");
        assert!(!push(&mut buffers, &partition(0), a, steps(3, 1)), "then it is refused");
        assert_eq!(taken(&mut buffers), Some((1, 0)));
        let (_, rewound) = buffers.pause(&partition(1)).unwrap().unwrap();
        assert_eq!(rewound, at(1), "what does not fit is dropped, and fetched again from the position");
        assert_eq!((taken(&mut buffers), buffers.account.active_bytes), (None, 0));
        assert!(buffers.resume(&partition(0)) && buffers.resume(&partition(1)));
        let order: Vec<_> = std::iter::from_fn(|| taken(&mut buffers)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (0, 2)]);
        assert_eq!((buffers.account.paused_bytes, buffers.pause(&partition(7))), (0, None));
    }

    #[test]
    fn a_fatal_error_comes_before_everything() {
        let mut buffers = Buffers::new(1 << 20);
        let generation = assigned(&mut buffers, 0);
        push(&mut buffers, &partition(0), generation, steps(0, 1));
        buffers.fail_all(Error::new(ErrorKind::Authentication, "refused"));
        assert_eq!(buffers.take().unwrap().unwrap_err().kind(), ErrorKind::Authentication);
        assert_eq!(buffers.failure(&partition(0)).unwrap().kind(), ErrorKind::Authentication);
    }

    #[test]
    fn an_answer_counts_as_a_whole_until_its_last_batch_is_taken() {
        const ANSWER_BYTES: usize = 1000;
        let mut buffers = Buffers::new(1 << 20);
        let (a, b) = (assigned(&mut buffers, 0), assigned(&mut buffers, 1));
        buffers.begin_answer(ANSWER_BYTES);
        buffers.push(&partition(0), a, steps(0, 2));
        buffers.push(&partition(1), b, steps(0, 1));
        assert_eq!(buffers.account.active_bytes, ANSWER_BYTES + 3 * STEP_BYTES);
        for left in [2, 1] {
            taken(&mut buffers);
            assert_eq!(buffers.account.active_bytes, ANSWER_BYTES + left * STEP_BYTES);
        }
        // A paused partition keeps a copy of its own.
        assert_eq!(buffers.pause(&partition(0)), Some(None));
        assert_eq!((buffers.account.active_bytes, buffers.account.paused_bytes), (0, step_bytes()));
        assert!(buffers.resume(&partition(0)));
        assert_eq!((buffers.account.active_bytes, buffers.account.paused_bytes), (step_bytes(), 0));
        assert_eq!((taken(&mut buffers), buffers.account.active_bytes), (Some((0, 1)), 0));
    }

    #[test]
    fn a_partition_that_was_read_keeps_no_room() {
        let mut buffers = Buffers::new(1 << 20);
        let generation = assigned(&mut buffers, 0);
        push(&mut buffers, &partition(0), generation, steps(0, 50));
        while taken(&mut buffers).is_some() {}
        assert_eq!(buffers.slots[&partition(0)].queue.capacity(), 0);
    }

    #[test]
    fn steps_over_nothing_do_not_pile_up() {
        let mut buffers = Buffers::new(1 << 20);
        let generation = assigned(&mut buffers, 0);
        for offset in 0..1000 {
            let step = Step { batch: None, from: offset, next: at(offset + 1), ends: ENDS };
            push(&mut buffers, &partition(0), generation, vec![step]);
        }
        assert_eq!(buffers.account.active_bytes, STEP_BYTES);
        let taken = buffers.take().unwrap().unwrap();
        assert_eq!((taken.step.from, taken.step.next), (0, at(1000)));
    }

    #[test]
    fn the_rest_of_a_step_is_next_of_its_partition() {
        let mut buffers = Buffers::new(1 << 20);
        let generation = assigned(&mut buffers, 0);
        push(&mut buffers, &partition(0), generation, steps(0, 2));
        let mut taken = buffers.take().unwrap().unwrap();
        let undo = taken.undo();
        let rest = Step { from: 7, ..taken.step };
        taken.step = Step { batch: None, from: 0, next: at(7), ends: ENDS };
        buffers.put_rest(&undo, rest);
        assert_eq!(buffers.position(&partition(0)), Some(Some(at(7))));
        let order: Vec<_> = std::iter::from_fn(|| self::taken(&mut buffers)).collect();
        assert_eq!(order, [(0, 7), (0, 1)]);
        assert_eq!(buffers.account.active_bytes, 0);
    }
}

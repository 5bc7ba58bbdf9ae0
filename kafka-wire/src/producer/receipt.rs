//! What a sender gets back: one completion per batch, shared by the receipts of its records.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::batch::Fate;
use crate::error::{Result, shielded};
use crate::reply::block_on;
use crate::types::TopicPartition;

/// Where a record went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its topic and partition.
    pub partition: TopicPartition,
    /// Its offset. `None` when the broker does not say: with `acks=0`, and for a batch that was
    /// recognised as a duplicate after the broker had forgotten where the first one went.
    pub offset: Option<i64>,
    /// The broker's time in milliseconds since 1970 where the topic uses `LogAppendTime`; `None` where the
    /// record keeps the time it was sent with.
    pub append_time_ms: Option<i64>,
}

impl RecordMetadata {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.partition.topic
    }
}

/// Where a batch went: what [`RecordMetadata`] says of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMetadata {
    /// The topic and partition.
    pub partition: TopicPartition,
    /// How many records.
    pub records: u32,
    /// The offset of the first one; see [`RecordMetadata::offset`]. The others follow it, but for a batch
    /// that was split because the broker found it too large: other writers' records may lie between parts.
    pub base_offset: Option<i64>,
    /// See [`RecordMetadata::append_time_ms`].
    pub append_time_ms: Option<i64>,
}

/// The fate of one batch, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Completion(Mutex<State>);

#[derive(Default)]
struct State {
    fate: Option<BatchFate>,
    waiting: Vec<Waiting>,
    /// Called with the fate of a record of the batch, by its index.
    callbacks: Vec<(u32, Callback)>,
}

#[derive(Clone)]
struct Waiting {
    waker: Waker,
    /// Several receipts count on it: it stays, also when the one whose place it is goes to another task.
    is_shared: bool,
}

type Callback = Box<dyn FnOnce(Result<RecordMetadata>) + Send>;

#[derive(Debug)]
enum BatchFate {
    Whole(Result<BatchMetadata>),
    /// The batch was split, and these parts have met their fate: first record, number, outcome.
    Parts {
        known: Vec<(u32, u32, Result<BatchMetadata>)>,
        is_complete: bool,
    },
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("fate", &self.fate).finish_non_exhaustive()
    }
}

impl BatchFate {
    /// What became of record `index`.
    fn of_record(&self, index: u32) -> Option<Result<RecordMetadata>> {
        let (first, outcome) = match self {
            Self::Whole(outcome) => (0, outcome),
            Self::Parts { known, .. } => {
                let holds = |(first, records, _): &&(u32, u32, _)| (*first..first + records).contains(&index);
                known.iter().find(holds).map(|(first, _, outcome)| (*first, outcome))?
            }
        };
        Some(outcome.clone().map(|batch| RecordMetadata {
            offset: batch.base_offset.map(|base| base.saturating_add(i64::from(index - first))),
            partition: batch.partition,
            append_time_ms: batch.append_time_ms,
        }))
    }

    /// What became of all of it; of several errors the first record's.
    fn of_batch(&self) -> Option<Result<BatchMetadata>> {
        match self {
            Self::Whole(outcome) => Some(outcome.clone()),
            Self::Parts { is_complete: false, .. } => None,
            Self::Parts { known, .. } => {
                let mut known: Vec<_> = known.iter().collect();
                known.sort_by_key(|(first, ..)| *first);
                let mut outcomes = known.into_iter().map(|(.., outcome)| outcome.clone());
                outcomes.next().map(|first| {
                    outcomes.try_fold(first?, |all, part| {
                        Ok(BatchMetadata { records: all.records + part?.records, ..all })
                    })
                })
            }
        }
    }
}

impl Completion {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held cannot have left a half-written fate: each change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides the fate of all of it, once; wakes everyone.
    pub(crate) fn complete(&self, outcome: Result<BatchMetadata>) {
        let mut state = self.state();
        state.fate.get_or_insert(BatchFate::Whole(outcome));
        Self::tell(state);
    }

    /// Decides the fate of the batch or of a part.
    pub(crate) fn complete_part(&self, fate: &Fate) {
        if fate.is_last && fate.first == 0 && self.state().fate.is_none() {
            return self.complete(fate.outcome.clone());
        }
        let mut state = self.state();
        let parts = || BatchFate::Parts { known: Vec::new(), is_complete: false };
        if let BatchFate::Parts { known, is_complete } = state.fate.get_or_insert_with(parts) {
            known.push((fate.first, fate.records, fate.outcome.clone()));
            *is_complete = fate.is_last;
        }
        Self::tell(state);
    }

    /// Wakes everyone, and calls back whose fate is known; without the lock, since they may do anything.
    fn tell(mut state: MutexGuard<'_, State>) {
        let State { fate, callbacks, .. } = &mut *state;
        let Some(fate) = fate else { return };
        let mut due = Vec::new();
        for (index, callback) in std::mem::take(callbacks) {
            match fate.of_record(index) {
                Some(outcome) => due.push((callback, outcome)),
                None => callbacks.push((index, callback)),
            }
        }
        // Who waits for another part keeps its place.
        let is_known = fate.of_batch().is_some();
        let waiting = if is_known { std::mem::take(&mut state.waiting) } else { state.waiting.clone() };
        drop(state);
        waiting.into_iter().for_each(|waiting| waiting.waker.wake());
        for (callback, outcome) in due {
            shielded("a record's callback", || callback(outcome));
        }
    }

    /// A fate that `read` finds, or a place among those to wake. `slot` is the caller's place from an
    /// earlier poll.
    fn poll<T>(
        &self,
        context: &Context<'_>,
        slot: &mut Option<usize>,
        read: impl FnOnce(&BatchFate) -> Option<T>,
    ) -> Poll<T> {
        let mut state = self.state();
        if let Some(outcome) = state.fate.as_ref().and_then(read) {
            return Poll::Ready(outcome);
        }
        // A task that waits for many receipts of a batch is woken once, not once per record.
        let last = state.waiting.len().checked_sub(1);
        if let Some(waiting) = state.waiting.last_mut()
            && waiting.waker.will_wake(context.waker())
        {
            waiting.is_shared |= *slot != last;
            return Poll::Pending;
        }
        let own = slot.and_then(|slot| state.waiting.get_mut(slot)).filter(|waiting| !waiting.is_shared);
        match own {
            Some(waiting) => waiting.waker.clone_from(context.waker()),
            None => {
                *slot = Some(state.waiting.len());
                state.waiting.push(Waiting { waker: context.waker().clone(), is_shared: false });
            }
        }
        Poll::Pending
    }
}

/// The promise of one record's fate. Await it, wait for it on a thread, be called back, or drop it: the
/// record is sent all the same.
///
/// # Cancel safety
/// Dropping it, before or after it was polled, has no effect on the record.
#[derive(Debug)]
pub struct Receipt {
    completion: Arc<Completion>,
    slot: Option<usize>,
    index: u32,
}

impl Receipt {
    pub(crate) fn new(completion: Arc<Completion>, index: u32) -> Self {
        Self { completion, slot: None, index }
    }

    /// The fate, if it is known by now.
    pub fn try_wait(&self) -> Option<Result<RecordMetadata>> {
        self.completion.state().fate.as_ref()?.of_record(self.index)
    }

    /// Blocks this thread until the fate is known, at most `delivery.timeout.ms` after the send. Not for
    /// async code: it would block the runtime.
    ///
    /// # Errors
    /// Why the record was not acknowledged.
    pub fn wait(self) -> Result<RecordMetadata> {
        block_on(self)
    }

    /// Calls `callback` with the fate: on the client's I/O thread, where it must not block, or at once on
    /// this thread when the fate is known already. Callbacks of a partition's records are called in the
    /// order of the records; a panic in one is logged and goes no further.
    pub fn then(self, callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static) {
        let mut state = self.completion.state();
        match state.fate.as_ref().and_then(|fate| fate.of_record(self.index)) {
            None => state.callbacks.push((self.index, Box::new(callback))),
            Some(outcome) => {
                drop(state);
                shielded("a record's callback", || callback(outcome));
            }
        }
    }
}

impl Future for Receipt {
    type Output = Result<RecordMetadata>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { completion, slot, index } = &mut *self;
        completion.poll(context, slot, |fate| fate.of_record(*index))
    }
}

/// The promise of a whole batch's fate; see [`Receipt`].
#[derive(Debug)]
pub struct BatchReceipt {
    completion: Arc<Completion>,
    slot: Option<usize>,
}

impl BatchReceipt {
    pub(crate) fn new(completion: Arc<Completion>) -> Self {
        Self { completion, slot: None }
    }

    /// The fate, if it is known by now.
    pub fn try_wait(&self) -> Option<Result<BatchMetadata>> {
        self.completion.state().fate.as_ref()?.of_batch()
    }

    /// Blocks this thread until the fate is known; see [`Receipt::wait`].
    ///
    /// # Errors
    /// Why the batch was not acknowledged.
    pub fn wait(self) -> Result<BatchMetadata> {
        block_on(self)
    }
}

impl Future for BatchReceipt {
    type Output = Result<BatchMetadata>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { completion, slot } = &mut *self;
        completion.poll(context, slot, BatchFate::of_batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::error::{Error, ErrorKind};

    #[derive(Default)]
    struct Wakes(AtomicU32);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn written() -> Result<BatchMetadata> {
        Ok(BatchMetadata {
            partition: TopicPartition::new("orders", 3),
            records: 2,
            base_offset: Some(40),
            append_time_ms: None,
        })
    }

    #[test]
    fn receipts_of_a_batch_share_its_fate_and_a_task_is_woken_once() {
        let completion = Arc::new(Completion::default());
        let mut receipts: Vec<_> = (0..2).map(|index| Receipt::new(Arc::clone(&completion), index)).collect();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        for receipt in &mut receipts {
            assert!(Pin::new(receipt).poll(&mut context).is_pending());
        }
        completion.complete(written());
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        let offsets: Vec<_> = receipts.into_iter().map(|receipt| receipt.wait().unwrap().offset).collect();
        assert_eq!(offsets, [Some(40), Some(41)]);
    }

    #[test]
    fn a_receipt_that_is_polled_by_another_task_wakes_that_one() {
        let completion = Arc::new(Completion::default());
        let mut receipt = BatchReceipt::new(Arc::clone(&completion));
        let (first, second) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        for wakes in [&first, &second] {
            let waker = Waker::from(Arc::clone(wakes));
            assert!(Pin::new(&mut receipt).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        completion.complete(written());
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
    }

    #[test]
    fn a_receipt_that_goes_to_another_task_leaves_the_others_their_waker() {
        let completion = Arc::new(Completion::default());
        let [mut stays, mut goes] = [0, 1].map(|index| Receipt::new(Arc::clone(&completion), index));
        let (first, second) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let poll = |receipt: &mut Receipt, wakes: &Arc<Wakes>| {
            let waker = Waker::from(Arc::clone(wakes));
            assert!(Pin::new(receipt).poll(&mut Context::from_waker(&waker)).is_pending());
        };
        poll(&mut goes, &first);
        poll(&mut stays, &first);
        poll(&mut goes, &second);
        completion.complete(written());
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (1, 1));
    }

    #[test]
    fn the_first_fate_counts() {
        let completion = Completion::default();
        completion.complete(Err(Error::new(ErrorKind::Timeout, "produce")));
        completion.complete(written());
        assert!(completion.state().fate.as_ref().unwrap().of_batch().unwrap().is_err());
    }

    #[test]
    fn an_offset_at_the_end_of_all_numbers_is_no_panic() {
        let completion = Arc::new(Completion::default());
        let written = written().map(|batch| BatchMetadata { base_offset: Some(i64::MAX), ..batch });
        completion.complete(written);
        assert_eq!(Receipt::new(completion, 1).wait().unwrap().offset, Some(i64::MAX));
    }

    #[test]
    fn receipts_of_a_split_batch_get_the_fate_of_their_part() {
        let completion = Arc::new(Completion::default());
        let mut receipts: Vec<_> = (0..4).map(|index| Receipt::new(Arc::clone(&completion), index)).collect();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut receipts[0]).poll(&mut context).is_pending());
        let (sender, told) = std::sync::mpsc::channel();
        for receipt in receipts.drain(2..) {
            let sender = sender.clone();
            receipt.then(move |outcome| sender.send(outcome.unwrap().offset).unwrap());
        }
        let part = |first, is_last, outcome| Fate { first, records: 2, outcome, is_last, buffer: None };
        completion.complete_part(&part(2, false, written()));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Some(40), Some(41)]);
        assert!(
            receipts[0].try_wait().is_none()
                && BatchReceipt::new(Arc::clone(&completion)).try_wait().is_none()
        );
        completion.complete_part(&part(0, true, Err(Error::new(ErrorKind::Timeout, "produce"))));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2, "at each part");
        assert!(receipts.iter().all(|receipt| receipt.try_wait().unwrap().is_err()));
        assert!(BatchReceipt::new(completion).wait().is_err(), "a part failed");
    }

    #[test]
    fn a_callback_is_called_at_once_when_the_fate_is_known_and_may_panic() {
        let completion = Arc::new(Completion::default());
        Receipt::new(Arc::clone(&completion), 0).then(|_| panic!("the application's"));
        completion.complete(written());
        let (sender, told) = std::sync::mpsc::channel();
        Receipt::new(completion, 1).then(move |outcome| sender.send(outcome.unwrap().offset).unwrap());
        assert_eq!(told.recv().unwrap(), Some(41));
    }

    #[test]
    fn a_thread_waits_for_another() {
        let completion = Arc::new(Completion::default());
        let receipt = Receipt::new(Arc::clone(&completion), 1);
        let waiting = std::thread::spawn(move || receipt.wait());
        completion.complete(written());
        assert_eq!(waiting.join().unwrap().unwrap().offset, Some(41));
    }
}

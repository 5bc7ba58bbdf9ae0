//! What a sender gets back: one completion per batch, shared by the receipts of its records.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::error::Result;
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
    /// The offset of the first one; see [`RecordMetadata::offset`].
    pub base_offset: Option<i64>,
    /// See [`RecordMetadata::append_time_ms`].
    pub append_time_ms: Option<i64>,
}

/// The fate of one batch, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Completion(Mutex<Fate>);

#[derive(Debug, Default)]
struct Fate {
    outcome: Option<Result<BatchMetadata>>,
    wakers: Vec<Waker>,
}

impl Completion {
    fn fate(&self) -> MutexGuard<'_, Fate> {
        // A panic while it was held cannot have left a half-written fate: each change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides the fate, once; wakes everyone.
    pub(crate) fn complete(&self, outcome: Result<BatchMetadata>) {
        let wakers = {
            let mut fate = self.fate();
            fate.outcome.get_or_insert(outcome);
            std::mem::take(&mut fate.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn outcome(&self) -> Option<Result<BatchMetadata>> {
        self.fate().outcome.clone()
    }

    /// The fate, or a place among those to wake. `slot` is the caller's place from an earlier poll.
    fn poll(&self, context: &Context<'_>, slot: &mut Option<usize>) -> Poll<Result<BatchMetadata>> {
        let mut fate = self.fate();
        if let Some(outcome) = &fate.outcome {
            return Poll::Ready(outcome.clone());
        }
        // A task that waits for many receipts of a batch is woken once, not once per record.
        if fate.wakers.last().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
        match slot.and_then(|slot| fate.wakers.get_mut(slot)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                *slot = Some(fate.wakers.len());
                fate.wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}

/// The promise of one record's fate. Await it, wait for it on a thread, or drop it: the record is sent
/// all the same.
///
/// # Cancel safety
/// Dropping it, before or after it was polled, has no effect on the record.
#[derive(Debug)]
pub struct Receipt {
    batch: BatchReceipt,
    index: u32,
}

impl Receipt {
    pub(crate) fn new(completion: Arc<Completion>, index: u32) -> Self {
        Self { batch: BatchReceipt::new(completion), index }
    }

    /// The fate, if it is known by now.
    pub fn try_wait(&self) -> Option<Result<RecordMetadata>> {
        let outcome = self.batch.try_wait()?;
        Some(self.of_record(outcome))
    }

    /// Blocks this thread until the fate is known, at most `delivery.timeout.ms` after the send. Not for
    /// async code: it would block the runtime.
    ///
    /// # Errors
    /// Why the record was not acknowledged.
    pub fn wait(self) -> Result<RecordMetadata> {
        block_on(self)
    }

    fn of_record(&self, outcome: Result<BatchMetadata>) -> Result<RecordMetadata> {
        let index = i64::from(self.index);
        outcome.map(|batch| RecordMetadata {
            partition: batch.partition,
            offset: batch.base_offset.map(|base| base + index),
            append_time_ms: batch.append_time_ms,
        })
    }
}

impl Future for Receipt {
    type Output = Result<RecordMetadata>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.batch).poll(context).map(|outcome| self.of_record(outcome))
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
        self.completion.outcome()
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
        completion.poll(context, slot)
    }
}

/// Runs a future to its end on this thread; it must be one that other threads wake.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

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
    fn the_first_fate_counts() {
        let completion = Completion::default();
        completion.complete(Err(Error::new(ErrorKind::Timeout, "produce")));
        completion.complete(written());
        assert!(completion.outcome().unwrap().is_err());
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

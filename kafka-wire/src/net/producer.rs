//! The producer's handles.

mod builder;
mod feed;
mod transactional;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use builder::ProducerBuilder;
pub use transactional::TransactionalProducer;

use super::driver::{DriverHandle, deadline, now};
use super::signal::{Mailbox, Signal, lock};
use crate::config::{ProducerConfig, Properties};
use crate::error::{Error, ErrorKind, Result};
use crate::producer::{
    Accumulator, BatchMetadata, Command, Interceptors, Moment, Purge, Receipt, Record, RecordMetadata,
    SealJob, WaitReason,
};
use crate::reply::block_on;
use crate::txn::GroupMetadata;
use crate::types::{CommittedOffset, ProducerIdentity, TopicPartition};

/// Called with the fate of every batch, on the client's I/O thread: it must not block.
pub type DeliveryCallback = Box<dyn Fn(&Result<BatchMetadata>) + Send + Sync>;

/// Sends records. Cloning gives another handle on the same producer; it works from any thread, under any
/// async runtime or none.
///
/// Idempotent with `acks=all` by default: a record is written once, and in order per partition, whatever is
/// repeated on the way.
///
/// Records that are not acknowledged when the last handle is dropped are lost: end with
/// [`close`](Self::close), or with [`flush`](Self::flush).
///
/// ```no_run
/// # async fn example() -> kafka_wire::Result<()> {
/// use kafka_wire::{Producer, Record, config::Properties};
/// let producer = Producer::from_properties(&Properties::from_file("kafka.properties")?)?;
/// let report = producer.send(Record::to("orders").key("42").value("7.50")).await?;
/// println!("{} at {:?}", report.partition, report.offset);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    mailbox: Mailbox<Command>,
    max_block: Duration,
    buffer_memory: usize,
    is_transactional: bool,
    /// Dropped last of all: it ends the thread.
    _driver: DriverHandle,
}

/// What callers and the I/O thread share.
struct Shared {
    accumulator: Mutex<Accumulator>,
    signal: Arc<Signal>,
    on_delivery: Option<DeliveryCallback>,
    interceptors: Interceptors,
}

impl Producer {
    /// A producer with these properties, by Kafka's names.
    ///
    /// # Errors
    /// `Config`, naming the property and what is allowed; otherwise as [`new`](Self::new).
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        Self::new(ProducerConfig::from_properties(properties)?)
    }

    /// A producer with this configuration. It connects when it is first used.
    ///
    /// # Errors
    /// `Config` when settings contradict each other, `Network` when its thread cannot be started.
    pub fn new(config: ProducerConfig) -> Result<Self> {
        Self::builder(config).build()
    }

    /// A producer with code of the application's in it: a partitioner, interceptors, a delivery callback.
    pub fn builder(config: ProducerConfig) -> ProducerBuilder {
        ProducerBuilder::new(config)
    }

    /// A producer that also reports the fate of every batch to `on_delivery`: for who sends without
    /// awaiting receipts.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn with_delivery_callback(
        config: ProducerConfig,
        on_delivery: impl Fn(&Result<BatchMetadata>) + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::builder(config).on_delivery(on_delivery).build()
    }

    /// Sends a record and waits until it is acknowledged.
    ///
    /// One at a time this takes a round trip each. To send many, [`enqueue`](Self::enqueue) them and await the
    /// receipts: beside a real broker as fast as not to await them. Futures of this that are awaited together cost
    /// several times as much, above all what joins them (`cargo bench --bench sends`).
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); then why the record was not acknowledged. Where it may be in the log
    /// all the same, [`Error::possibly_written`] says so.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the record is not sent; later, it is.
    pub async fn send(&self, record: Record<'_>) -> Result<RecordMetadata> {
        let receipt = match self.0.enqueue_at_once(&record) {
            Some(receipt) => receipt,
            // Boxed, since many of these futures may be kept and few of them have to wait.
            None => Box::pin(self.enqueue(record)).await?,
        };
        receipt.await
    }

    /// Puts a record into its batch, waiting up to `max.block.ms` for memory and for the topic's metadata;
    /// who waits is served in order. The record is sent whether or not the receipt is awaited.
    ///
    /// # Errors
    /// `RecordTooLarge`, `Timeout` after `max.block.ms`, `Usage` for a partition that does not exist, or a
    /// refusal of the topic by the broker.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the record is not sent.
    pub async fn enqueue(&self, record: Record<'_>) -> Result<Receipt> {
        let interceptors = &self.0.shared.interceptors;
        if interceptors.is_empty() {
            return self.0.wait_for_room(&record).await;
        }
        let record = interceptors.on_send(&record);
        let headers = record.headers();
        let dropped = DroppedUnsent(&self.0);
        let enqueued = self.0.wait_for_room(&record.to_record(&headers)).await;
        std::mem::forget(dropped);
        self.0.report_refusal(enqueued)
    }

    /// As [`enqueue`](Self::enqueue), without waiting: a `Timeout` error says that there is no room now, or
    /// that the topic's metadata has not come yet.
    ///
    /// # Errors
    /// See [`enqueue`](Self::enqueue).
    pub fn try_enqueue(&self, record: Record<'_>) -> Result<Receipt> {
        self.0.intercepted(&record, |record| {
            self.0.append(record)?.map_err(|reason| self.0.no_room(&reason, Duration::ZERO))
        })
    }

    /// As [`enqueue`](Self::enqueue), for threads: it blocks while there is no room. Not for async code.
    ///
    /// # Errors
    /// See [`enqueue`](Self::enqueue).
    pub fn enqueue_blocking(&self, record: Record<'_>) -> Result<Receipt> {
        self.0.intercepted(&record, |record| match self.0.append(record)? {
            Ok(receipt) => Ok(receipt),
            Err(_) => block_on(pin!(self.0.wait_for_room(record))),
        })
    }

    /// Sends what waits for more records, and waits until the fate of all that was sent before is known.
    ///
    /// # Cancel safety
    /// The batches are sent when it is first polled; dropping it only ends the wait.
    pub async fn flush(&self) {
        let number = self.0.shared.flush();
        self.0.shared.flushed(number).await;
    }

    /// Gives up records that are not acknowledged yet: their receipts get a `Usage` error, which says
    /// [`Error::possibly_written`] where that is so. The producer goes on; an open transaction can only be
    /// aborted then.
    ///
    /// # Errors
    /// `Closed`.
    ///
    /// # Cancel safety
    /// It is done even if dropped after the first poll.
    pub async fn purge(&self, what: Purge) -> Result<()> {
        self.0.shared.flush();
        self.0.mailbox.ask(|reply| Command::Purge(what, reply)).await
    }

    /// Sends what there is, waits for it until `timeout` at most, and ends the producer for all its handles.
    /// An open transaction is aborted. What is not acknowledged by then fails.
    ///
    /// # Errors
    /// `Closed`, when it was closed before or is being closed: the first call decides how long that may take.
    ///
    /// # Cancel safety
    /// It goes on when dropped after the first poll; nobody waits for it then.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let deadline = deadline(timeout);
        lock(&self.0.shared.accumulator).refuse(Error::new(ErrorKind::Closed, "send to a closed producer"));
        self.0.shared.flush();
        self.0.mailbox.ask_last(|reply| Command::Close { deadline, reply }).await
    }

    /// Gets the transactional producer's id: fences an older one of the same `transactional.id`, and waits
    /// until what that one left is committed or aborted. Call it once, first.
    ///
    /// # Errors
    /// `Timeout` after `max.block.ms`: try again. A refusal by the coordinator is final.
    ///
    /// # Cancel safety
    /// It goes on when dropped after the first poll; another call waits for the same answer.
    pub async fn init_transactions(&self) -> Result<ProducerIdentity> {
        self.0.check_transactional()?;
        self.0.mailbox.ask(Command::Init).await
    }

    /// Begins a transaction: every record from now on belongs to it, until it is committed or aborted.
    ///
    /// # Errors
    /// `Usage` while another is open or before [`init_transactions`](Self::init_transactions).
    ///
    /// # Cancel safety
    /// Polled once, the transaction is begun.
    pub async fn begin_transaction(&self) -> Result<()> {
        self.0.check_transactional()?;
        self.0.mailbox.ask(Command::Begin).await
    }

    /// Adds consumed offsets to the transaction: the group reads on from there when it commits, and only
    /// then (KIP-447).
    ///
    /// # Errors
    /// Where [`Error::is_abortable`], abort the transaction; otherwise the producer cannot go on.
    ///
    /// # Cancel safety
    /// Polled once, the offsets belong to the transaction; dropping the future only ignores the answer.
    pub async fn send_offsets_to_transaction(
        &self,
        group: GroupMetadata,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<()> {
        self.0.check_transactional()?;
        self.0.mailbox.ask(|reply| Command::SendOffsets { group, offsets, reply }).await
    }

    /// Commits the transaction, once every record of it is acknowledged.
    ///
    /// # Errors
    /// [`Error::is_abortable`]: a record or an offset failed; abort. [`Error::possibly_written`]: whether it
    /// was committed is not known; the producer cannot go on, and only a read_committed reader can tell.
    /// `Fenced`: another producer has taken over.
    ///
    /// # Cancel safety
    /// Dropped before its end, the transaction may be committed or not: where
    /// [`begin_transaction`](Self::begin_transaction) then says `Usage`, it is still open, and can be committed.
    pub async fn commit_transaction(&self) -> Result<()> {
        self.0.check_transactional()?;
        self.flush().await;
        self.0.mailbox.ask(|reply| Command::End { commit: true, reply }).await
    }

    /// Aborts the transaction: its records are never seen by read_committed readers.
    ///
    /// # Errors
    /// What ended the producer.
    ///
    /// # Cancel safety
    /// It goes on when dropped after the first poll.
    pub async fn abort_transaction(&self) -> Result<()> {
        self.0.check_transactional()?;
        // What is still being batched belongs to it, and must not end up in the next.
        let number = self.0.shared.flush();
        let aborted = self.0.mailbox.ask(|reply| Command::End { commit: false, reply }).await;
        self.0.shared.flushed(number).await;
        aborted
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Inner {
    fn append(&self, record: &Record<'_>) -> Result<Result<Receipt, WaitReason>> {
        let appended = lock(&self.shared.accumulator).append(record, None, moment)?;
        self.shared.follow_up(appended.seal, appended.wake);
        Ok(appended.outcome)
    }

    /// Puts the record into its batch where nothing stands in the way, errors and interceptors included.
    fn enqueue_at_once(&self, record: &Record<'_>) -> Option<Receipt> {
        if !self.shared.interceptors.is_empty() {
            return None;
        }
        self.append(record).ok()?.ok()
    }

    /// Puts the record into its batch, waiting for room in turn.
    async fn wait_for_room(&self, record: &Record<'_>) -> Result<Receipt> {
        let mut turn = Turn { inner: self, ticket: None, deadline: None };
        poll_fn(|context| turn.poll_append(record, context)).await
    }

    /// Enqueues the record as the interceptors leave it.
    fn intercepted(
        &self,
        record: &Record<'_>,
        enqueue: impl FnOnce(&Record<'_>) -> Result<Receipt>,
    ) -> Result<Receipt> {
        if self.shared.interceptors.is_empty() {
            return enqueue(record);
        }
        let record = self.shared.interceptors.on_send(record);
        let headers = record.headers();
        self.report_refusal(enqueue(&record.to_record(&headers)))
    }

    /// Interceptors also hear of records that never came into a batch.
    fn report_refusal(&self, enqueued: Result<Receipt>) -> Result<Receipt> {
        enqueued.inspect_err(|error| self.shared.interceptors.on_acknowledgement(&Err(error.clone())))
    }

    fn check_transactional(&self) -> Result<()> {
        if self.is_transactional {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, "use transactions with a producer that has no transactional.id")
            .with_hint("set transactional.id"))
    }

    #[cold]
    fn no_room(&self, reason: &WaitReason, waited: Duration) -> Error {
        let waited = waited.as_millis();
        match reason {
            WaitReason::Memory => Error::new(
                ErrorKind::Timeout,
                format!("send a record: buffer.memory={} is full, waited {waited} ms", self.buffer_memory),
            )
            .with_hint("records come faster than the brokers take them; wait, or raise buffer.memory"),
            WaitReason::Topic(topic) => {
                let text =
                    format!("send a record to {topic}: its partitions are not known, waited {waited} ms");
                let error = Error::new(ErrorKind::Timeout, text);
                match lock(&self.shared.accumulator).topic_failure(topic) {
                    Some(cause) => error.with_cause(cause.clone()),
                    None => error.with_hint("no broker has answered yet"),
                }
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let unfinished = lock(&self.shared.accumulator).unfinished();
        if unfinished > 0 {
            tracing::warn!(
                batches = unfinished,
                "a producer was dropped with unacknowledged batches; close it first"
            );
        }
    }
}

impl Shared {
    /// What is left to do after the lock was held.
    fn follow_up(&self, seal: Option<SealJob>, wake: bool) {
        let mut wake = wake;
        if let Some(job) = seal {
            let sealed = job.run();
            wake |= lock(&self.accumulator).sealed(sealed);
        }
        if wake {
            self.signal.notify();
        }
    }

    /// Closes all open batches; the number is for `poll_flushed`.
    fn flush(&self) -> u64 {
        let (number, jobs) = lock(&self.accumulator).flush();
        for job in jobs {
            let sealed = job.run();
            lock(&self.accumulator).sealed(sealed);
        }
        self.signal.notify();
        number
    }

    /// Waits for the fate of every batch before `number`.
    async fn flushed(&self, number: u64) {
        poll_fn(|context| {
            let is_flushed = lock(&self.accumulator).poll_flushed(number, context.waker());
            if is_flushed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// One caller's wait for room.
struct Turn<'a> {
    inner: &'a Inner,
    ticket: Option<u64>,
    deadline: Option<Instant>,
}

impl Turn<'_> {
    fn poll_append(&mut self, record: &Record<'_>, context: &Context<'_>) -> Poll<Result<Receipt>> {
        let shared = &self.inner.shared;
        let mut accumulator = lock(&shared.accumulator);
        let appended = match accumulator.append(record, self.ticket, moment) {
            Ok(appended) => appended,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let reason = match appended.outcome {
            Ok(receipt) => {
                self.ticket = None;
                drop(accumulator);
                shared.follow_up(appended.seal, appended.wake);
                return Poll::Ready(Ok(receipt));
            }
            Err(reason) => reason,
        };
        let now = now();
        let deadline = *self.deadline.get_or_insert(now + self.inner.max_block);
        let is_over = deadline <= now;
        // The I/O thread must know when the first gives up, for a waiter is woken by it and not by a timer of its own. The
        // others do so later, and to tell it of each would cost more than all the rest of a record.
        let is_first = !is_over && accumulator.waiters.is_empty();
        if !is_over {
            let ticket = accumulator.waiters.wait(self.ticket, reason.clone(), deadline, context.waker());
            self.ticket = Some(ticket);
        }
        drop(accumulator);
        shared.follow_up(appended.seal, appended.wake || is_first);
        if is_over {
            return Poll::Ready(Err(self.inner.no_room(&reason, self.inner.max_block)));
        }
        Poll::Pending
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            lock(&self.inner.shared.accumulator).waiters.leave(ticket);
        }
    }
}

/// Tells the interceptors of a record that they have seen and that nobody waits to send any more.
struct DroppedUnsent<'a>(&'a Inner);

impl Drop for DroppedUnsent<'_> {
    fn drop(&mut self) {
        let text = "send a record: the future that waited for room was dropped before there was any";
        let _ = self.0.report_refusal(Err(Error::new(ErrorKind::Usage, text)));
    }
}

#[allow(clippy::disallowed_methods, reason = "the rim reads the clock for the machines")]
fn moment() -> Moment {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { now: Instant::now(), wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX) }
}

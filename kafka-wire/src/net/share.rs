use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::driver::{self, DriverHandle, deadline, now};
use super::signal::{Mailbox, Signal};
use crate::config::{Properties, ShareConsumerConfig};
use crate::error::Result;
use crate::protocol::limits::Limits;
use crate::reply::Reply;
use crate::share::{
    AcknowledgeType, AcknowledgementResult, Command, Ledger, ShareBatch, ShareMachine, SharedDeliveries,
};
use crate::types::TopicPartition;

/// Called with what became of acknowledged records; see [`ShareConsumer::on_acknowledged`].
type Callback = Box<dyn FnMut(AcknowledgementResult) + Send>;

/// Reads topics together with the other members of a share group (KIP-932): any member may get any record, as
/// workers take from a queue, and each record is acknowledged for itself. Needs brokers from 4.1.
///
/// A record that is handed out is locked for this consumer for a while
/// ([`lock_timeout`](Self::lock_timeout)); until then it must be acknowledged, or somebody gets it again. By default
/// what was handed out is accepted by the next [`poll`](Self::poll) or [`commit`](Self::commit); with
/// `share.acknowledgement.mode=explicit` the application calls [`acknowledge`](Self::acknowledge) for each record.
///
/// A thread of its own talks to all brokers in the background. A handle works on any thread, under any async runtime
/// or none. Dropped, it gives back what it has not acknowledged; [`close`](Self::close) also sees that what was
/// acknowledged has arrived.
///
/// ```no_run
/// # async fn example() -> kafka_wire::Result<()> {
/// use std::time::Duration;
///
/// use kafka_wire::ShareConsumer;
/// use kafka_wire::config::{ClientConfig, ShareConsumerConfig};
///
/// let mut consumer = ShareConsumer::new(ShareConsumerConfig {
///     client: ClientConfig::bootstrap("localhost:9092")?,
///     group_id: Some("workers".into()),
///     ..Default::default()
/// })?;
/// consumer.subscribe(["jobs"])?;
/// loop {
///     let batch = consumer.poll(Duration::from_millis(100)).await?;
///     for shared in &batch {
///         println!("{} (delivery {}): {:?}", shared.record.offset, shared.delivery_count, shared.record.value);
///     }
///     consumer.commit().await?;
/// }
/// # }
/// ```
pub struct ShareConsumer {
    deliveries: SharedDeliveries,
    mailbox: Mailbox<Command>,
    ledger: Ledger,
    callback: Option<Callback>,
    limits: Limits,
    /// Ends the thread when the handle is dropped.
    _driver: DriverHandle,
}

impl ShareConsumer {
    /// A share consumer that reads nothing yet: see [`subscribe`](Self::subscribe). Does not wait for a broker.
    ///
    /// # Errors
    /// `Config` without a `group.id` or when TLS cannot be set up, `Network` when the thread cannot be started.
    pub fn new(config: ShareConsumerConfig) -> Result<Self> {
        config.group()?;
        let config = config.with_finite_times();
        let deliveries = SharedDeliveries::default();
        let signal = Arc::new(Signal::default());
        let (mailbox, feed) = Mailbox::new(Arc::clone(&signal));
        let (client, ledger) = (config.client.clone(), Ledger::new(config.acknowledgement_mode));
        let machine = ShareMachine::new(config, deliveries.clone());
        let driver = driver::spawn("kafka-share", &client, machine, feed, signal)?;
        let limits = Limits::DEFAULT;
        Ok(Self { deliveries, mailbox, ledger, callback: None, limits, _driver: driver })
    }

    /// A share consumer with these properties, by Kafka's names.
    ///
    /// # Errors
    /// `Config`, naming the property and what is allowed; otherwise as [`new`](Self::new).
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        Self::new(ShareConsumerConfig::from_properties(properties)?)
    }

    /// Reads exactly these topics from now on, as a member of the group; leaves it when there are none. Where a group starts in a topic is a
    /// setting of the group (`share.auto.offset.reset`), by default at the end.
    ///
    /// # Errors
    /// `Closed`.
    pub fn subscribe<T: Into<Arc<str>>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        self.mailbox.tell(Command::Subscribe(topics.into_iter().map(Into::into).collect()))
    }

    /// The next records of one partition, or none after `timeout`. In implicit mode accepts what was handed out
    /// before.
    ///
    /// # Errors
    /// `Usage` in explicit mode, when a record handed out before is not acknowledged. `Unsupported`, when the brokers
    /// have no share groups; it is repeated for ever. A refusal, a damaged batch (its records are given back): told
    /// once, and the next poll goes on.
    ///
    /// # Cancel safety
    /// Records are either returned or stay: none is lost when the future is dropped. What was handed out before is
    /// accepted all the same.
    pub async fn poll(&mut self, timeout: Duration) -> Result<ShareBatch> {
        self.ledger.settle()?;
        self.flush()?;
        let _polling = self.begin_poll()?;
        // A timeout beyond what the clock can tell is none.
        let deadline = now().checked_add(timeout);
        let mut is_waiting = false;
        poll_fn(|context| {
            self.report();
            let now = now();
            match self.take(context, now) {
                Ok(Some(batch)) => return Poll::Ready(Ok(batch)),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(None) => {}
            }
            if timeout.is_zero() || deadline.is_some_and(|deadline| now >= deadline) {
                let wanted = if is_waiting { Ok(()) } else { self.mailbox.send(Command::Want(None)) };
                return Poll::Ready(wanted.map(|()| ShareBatch::nothing()));
            }
            if !std::mem::replace(&mut is_waiting, true)
                && let Err(error) = self.mailbox.send(Command::Want(deadline))
            {
                return Poll::Ready(Err(error));
            }
            Poll::Pending
        })
        .await
    }

    /// Tells the machine that the application polls, and when it stops, by whatever way.
    fn begin_poll(&self) -> Result<Polling> {
        let wants_to_know = self.deliveries.lock().polled(true);
        let polling = Polling(self.deliveries.clone());
        if wants_to_know {
            self.mailbox.tell(Command::Polled)?;
        }
        Ok(polling)
    }

    fn take(&mut self, context: &Context<'_>, now: Instant) -> Result<Option<ShareBatch>> {
        loop {
            let mut deliveries = self.deliveries.lock();
            let (delivery, has_room) = deliveries.take(now);
            let error = if delivery.is_none() { deliveries.take_error() } else { None };
            if delivery.is_none() && error.is_none() {
                deliveries.register(context.waker());
            }
            drop(deliveries);
            if has_room {
                // Where too many commands wait, these have the machine look; and what was taken has to be handed out.
                let _ = self.mailbox.send(Command::Room);
            }
            let Some(delivery) = delivery else { return error.map_or(Ok(None), Err) };
            let batch = ShareBatch::open(delivery, &mut self.ledger, &self.limits);
            if batch.as_ref().map_or(true, ShareBatch::is_empty) {
                // Gaps, or records that go back: the broker should know.
                self.flush()?;
            }
            let batch = batch?;
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
    }

    /// Says what has become of a record that was handed out. It is told to the broker with the next poll or
    /// [`commit`](Self::commit).
    ///
    /// # Errors
    /// `Usage` in implicit mode, and for a record that was not handed out or has been acknowledged for good.
    pub fn acknowledge(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        kind: AcknowledgeType,
    ) -> Result<()> {
        self.ledger.acknowledge(partition, offset, kind)
    }

    /// Tells the brokers what has been acknowledged (in implicit mode: accepts what was handed out), and waits for
    /// what they say, by partition: an error there says that the group has the records again.
    ///
    /// # Errors
    /// `Timeout` after `default.api.timeout.ms`, `Usage` while 10 000 commits wait, `Closed`.
    ///
    /// # Cancel safety
    /// What was acknowledged is told all the same; [`on_acknowledged`](Self::on_acknowledged) hears of it.
    pub async fn commit(&mut self) -> Result<Vec<AcknowledgementResult>> {
        self.ledger.accept_all();
        let said = self.ledger.take_said();
        let results = self.mailbox.ask(|reply| Command::Commit(said, reply)).await;
        self.report();
        results
    }

    /// As [`commit`](Self::commit), without waiting: [`on_acknowledged`](Self::on_acknowledged) hears what the
    /// brokers say.
    ///
    /// # Errors
    /// `Closed`.
    pub fn commit_async(&mut self) -> Result<()> {
        self.ledger.accept_all();
        let said = self.ledger.take_said();
        self.mailbox.send(Command::Commit(said, Reply::new(drop)))
    }

    /// Has `callback` called with what became of all that is acknowledged from now on, however it was told: by the
    /// application's own calls of [`poll`](Self::poll), [`commit`](Self::commit) and [`close`](Self::close). If it
    /// calls none of them, the last 10 000 results are kept.
    pub fn on_acknowledged(&mut self, callback: impl FnMut(AcknowledgementResult) + Send + 'static) {
        self.deliveries.lock().want_results();
        self.callback = Some(Box::new(callback));
    }

    /// For how long records are locked, once there have been any (`group.share.record.lock.duration.ms`).
    pub fn lock_timeout(&self) -> Option<Duration> {
        self.deliveries.lock().lock_timeout()
    }

    /// Tells what was acknowledged (in implicit mode accepts what was handed out), gives back the rest, and leaves
    /// the group.
    ///
    /// # Errors
    /// `Timeout`: then the brokers find out by themselves that this consumer is gone.
    ///
    /// # Cancel safety
    /// Dropping the future drops the consumer: what was acknowledged may not have arrived.
    pub async fn close(mut self, timeout: Duration) -> Result<()> {
        self.ledger.accept_all();
        self.flush()?;
        let deadline = deadline(timeout);
        let closed = self.mailbox.ask(|reply| Command::Close(deadline, reply)).await;
        self.report();
        closed
    }

    /// Hands over what has been said.
    fn flush(&mut self) -> Result<()> {
        let said = self.ledger.take_said();
        if said.is_empty() { Ok(()) } else { self.mailbox.tell(Command::Acknowledge(said)) }
    }

    fn report(&mut self) {
        if let Some(callback) = &mut self.callback {
            let results = self.deliveries.lock().take_results();
            results.into_iter().for_each(callback);
        }
    }
}

/// The application waits in a poll as long as this is there.
struct Polling(SharedDeliveries);

impl Drop for Polling {
    fn drop(&mut self) {
        self.0.lock().polled(false);
    }
}

impl fmt::Debug for ShareConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareConsumer").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

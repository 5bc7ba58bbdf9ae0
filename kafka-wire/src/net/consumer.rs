mod builder;
mod group;
mod listener;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use self::builder::ConsumerBuilder;
pub use self::group::CloseOptions;
use self::group::GroupSide;
pub use self::listener::RebalanceListener;
use super::driver::{self, DriverHandle, now};
use super::signal::{Mailbox, Signal};
use crate::cluster::Topic;
use crate::config::{ConsumerConfig, Properties};
use crate::consumer::{
    Command, ConsumerMachine, FetchedBatch, OffsetAndEpoch, Position, SharedBuffers, Taken,
};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::limits::Limits;
use crate::reply::thread_waker;
use crate::time::WallClock;
use crate::types::{CommittedOffset, Isolation, ListedOffset, OffsetSpec, TopicPartition};

/// Reads partitions, in the background and ahead of the application.
///
/// A thread of its own fetches from each broker as soon as there is room for more
/// (`queued.max.bytes`); [`poll`](Self::poll) hands out what is there, one batch of one partition at a time,
/// the partitions in turn. A handle works on any thread, under any async runtime or none.
///
/// ```no_run
/// # async fn example() -> kafka_wire::Result<()> {
/// use std::time::Duration;
///
/// use kafka_wire::config::{ClientConfig, ConsumerConfig};
/// use kafka_wire::{Consumer, Position, TopicPartition};
///
/// let mut config = ConsumerConfig::default();
/// config.client = ClientConfig::bootstrap("localhost:9092")?;
/// let mut consumer = Consumer::new(config)?;
/// consumer.assign([(TopicPartition::new("orders", 0), Position::Beginning)])?;
/// loop {
///     let batch = consumer.poll(Duration::from_millis(100)).await?;
///     for record in &batch {
///         println!("{}: {:?}", record.offset, record.value);
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    buffers: SharedBuffers,
    mailbox: Mailbox<Command>,
    group: GroupSide,
    limits: Limits,
    max_poll_records: Option<usize>,
    default_api_timeout: Duration,
    /// Ends the thread when the handle is dropped.
    _driver: DriverHandle,
}

impl Consumer {
    /// Makes a consumer in a chain of calls: `Consumer::builder().bootstrap(…).group(…).subscribe([…]).build()`.
    pub fn builder() -> ConsumerBuilder {
        ConsumerBuilder::default()
    }

    /// A consumer that reads nothing yet: see [`subscribe`](Self::subscribe) and
    /// [`assign`](Self::assign). Does not wait for a broker.
    ///
    /// # Errors
    /// `Config` or `Unsupported` when TLS cannot be set up, `Network` when the thread cannot be started.
    pub fn new(config: ConsumerConfig) -> Result<Self> {
        config.group.check()?;
        let config = config.with_finite_times();
        let buffers = SharedBuffers::new(config.queued_max_bytes);
        let signal = Arc::new(Signal::default());
        let (mailbox, feed) = Mailbox::new(Arc::clone(&signal));
        let (client, max_poll_records) = (config.client.clone(), config.max_poll_records);
        let default_api_timeout = client.default_api_timeout;
        let machine = ConsumerMachine::new(config.clone(), wall_clock(), buffers.clone());
        let group = GroupSide::new(&config, machine.rebalances());
        let driver = driver::spawn("tidewater-consumer", &client, machine, feed, signal)?;
        Ok(Self {
            buffers,
            mailbox,
            group,
            limits: Limits::DEFAULT,
            max_poll_records,
            default_api_timeout,
            _driver: driver,
        })
    }

    /// A consumer with these properties, by Kafka's names.
    ///
    /// # Errors
    /// `Config`, naming the property and what is allowed; otherwise as [`new`](Self::new).
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        Self::new(ConsumerConfig::from_properties(properties)?)
    }

    /// Reads exactly these partitions from now on, each from its position. What was assigned before, and
    /// what is buffered of it, is forgotten.
    ///
    /// # Errors
    /// `Usage` for a negative offset or while subscribed, `Config` for a committed position without `group.id`.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, Position)>) -> Result<()> {
        self.group.check_is_manual()?;
        let partitions = self.check(partitions)?;
        let before: Vec<TopicPartition> = self.buffers.lock().assignment().cloned().collect();
        self.incremental_unassign(before)?;
        self.start(partitions)
    }

    /// Reads these partitions too; one that is read already starts anew.
    ///
    /// # Errors
    /// As [`assign`](Self::assign).
    pub fn incremental_assign(
        &mut self,
        partitions: impl IntoIterator<Item = (TopicPartition, Position)>,
    ) -> Result<()> {
        self.group.check_is_manual()?;
        let partitions = self.check(partitions)?;
        self.start(partitions)
    }

    /// Reads these partitions no longer; what is buffered of them is forgotten.
    ///
    /// # Errors
    /// `Usage` while subscribed; `Closed`.
    pub fn incremental_unassign(
        &mut self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<()> {
        self.group.check_is_manual()?;
        self.forget(partitions.into_iter().collect())
    }

    fn forget(&self, partitions: Vec<TopicPartition>) -> Result<()> {
        self.buffers.lock().unassign(&partitions);
        self.mailbox.tell(Command::Unassign(partitions))
    }

    /// The partitions that are read, in no order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.buffers.lock().assignment().cloned().collect()
    }

    /// Goes on reading at another place. What is buffered of the partition is forgotten, and so is an error
    /// that stopped it.
    ///
    /// # Errors
    /// `Usage` for a partition that is not assigned or a negative offset, `Config` for a committed position
    /// without `group.id`.
    pub fn seek(&mut self, partition: &TopicPartition, position: impl Into<Position>) -> Result<()> {
        let partitions = self.check([(partition.clone(), position.into())])?;
        if self.buffers.lock().position(partition).is_none() {
            return Err(not_assigned("seek", partition));
        }
        self.start(partitions)
    }

    /// Hands out nothing of these partitions until they are resumed. Little of them is kept buffered.
    ///
    /// # Errors
    /// `Usage` for a partition that is not assigned.
    pub fn pause<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        let mut paused = Vec::new();
        let mut dropped = Vec::new();
        let mut buffers = self.buffers.lock();
        for partition in partitions {
            let Some(rewound) = buffers.pause(partition) else {
                return Err(not_assigned("pause", partition));
            };
            paused.push(partition.clone());
            dropped.extend(rewound.map(|(generation, at)| (partition.clone(), generation, at.into())));
        }
        let room = buffers.take_room_wanted();
        drop(buffers);
        self.mailbox.tell(Command::Pause(paused, true))?;
        if !dropped.is_empty() {
            self.mailbox.tell(Command::Assign(dropped))?;
        }
        if room { self.mailbox.send(Command::Room) } else { Ok(()) }
    }

    /// Goes on with partitions that were paused, where they were.
    ///
    /// # Errors
    /// `Usage` for a partition that is not assigned.
    pub fn resume<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        let mut resumed = Vec::new();
        for partition in partitions {
            if !self.buffers.lock().resume(partition) {
                return Err(not_assigned("resume", partition));
            }
            resumed.push(partition.clone());
        }
        self.mailbox.tell(Command::Pause(resumed, false))
    }

    /// The next batch with records, at most `max.poll.records` of them, or one without any after `timeout`.
    ///
    /// # Errors
    /// What stopped a partition: `DataLoss` when the position is gone and `auto.offset.reset` is `none`,
    /// `CorruptRecords`. It is named in the error, which is repeated until a [`seek`](Self::seek) or another
    /// assignment; other partitions have their turn in between. What may pass is told once each time it is met, and
    /// tried further, so that polling again is the right answer: a right to the topic or group that is missing
    /// (`TOPIC_AUTHORIZATION_FAILED`, `GROUP_AUTHORIZATION_FAILED`), and what [is retriable](Error::is_retriable): a
    /// topic that has not been there for 10 s, or a start that nobody has told for `default.api.timeout.ms`. A fatal
    /// error is repeated for ever.
    ///
    /// # Cancel safety
    /// A batch is either returned or stays: nothing is lost when the future is dropped.
    pub async fn poll(&mut self, timeout: Duration) -> Result<FetchedBatch> {
        let _waiting = self.group.wait_guard();
        let mut deadline = None;
        poll_fn(|context| {
            if let Poll::Ready(batch) = self.poll_records(context) {
                return Poll::Ready(batch);
            }
            let now = now();
            match deadline {
                Some(deadline) if now >= deadline => return Poll::Ready(Ok(FetchedBatch::nothing())),
                None if timeout.is_zero() => return Poll::Ready(Ok(FetchedBatch::nothing())),
                Some(_) => {}
                None => {
                    // A timeout beyond what the clock can tell is none.
                    deadline = now.checked_add(timeout);
                    if let Some(deadline) = deadline
                        && let Err(error) = self.mailbox.send(Command::WakeAt(deadline))
                    {
                        return Poll::Ready(Err(error));
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    /// As [`poll`](Self::poll), for threads that may block.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn poll_blocking(&mut self, timeout: Duration) -> Result<FetchedBatch> {
        let _waiting = self.group.wait_guard();
        if let Poll::Ready(batch) = self.poll_records(&mut Context::from_waker(Waker::noop())) {
            return batch;
        }
        let waker = thread_waker();
        let deadline = now().checked_add(timeout);
        loop {
            if let Poll::Ready(batch) = self.poll_records(&mut Context::from_waker(&waker)) {
                return batch;
            }
            let Some(deadline) = deadline else {
                thread::park();
                continue;
            };
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return Ok(FetchedBatch::nothing());
            }
            thread::park_timeout(left);
        }
    }

    /// The next batch as soon as there is one; for code that has its own way to wait. Also returns batches
    /// without records: steps over what is not for the application, and on the spot when only the high
    /// watermark or the last stable offset have moved.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Result<FetchedBatch>> {
        let (taken, mut buffers) = loop {
            self.before_poll()?;
            let mut buffers = self.buffers.lock();
            match buffers.take() {
                Some(taken) => break (taken, buffers),
                None => buffers.register(context.waker()),
            }
            drop(buffers);
            // A rebalance that came before the waker was there woke nobody.
            if !self.group.waits() {
                return Poll::Pending;
            }
        };
        let room = buffers.take_room_wanted();
        drop(buffers);
        if room {
            // Where too many commands wait, these have the machine look; and what was taken has to be handed out.
            let _ = self.mailbox.send(Command::Room);
        }
        Poll::Ready(taken.and_then(|taken| self.open(taken)))
    }

    /// Has what is buffered of `partition` handed out next, before it is the turn of others.
    pub fn prefer(&mut self, partition: &TopicPartition) {
        self.buffers.lock().prefer(partition);
    }

    fn poll_records(&mut self, context: &mut Context<'_>) -> Poll<Result<FetchedBatch>> {
        loop {
            match self.poll_batch(context) {
                Poll::Ready(Ok(batch)) if batch.is_empty() => {}
                other => return other,
            }
        }
    }

    fn open(&self, taken: Taken) -> Result<FetchedBatch> {
        let undo = taken.undo();
        match FetchedBatch::open(taken.partition, taken.step, &self.limits) {
            Ok(mut batch) => {
                if let Some(rest) = self.max_poll_records.and_then(|count| batch.split(count)) {
                    self.buffers.lock().put_rest(&undo, rest);
                }
                Ok(batch)
            }
            Err(error) => {
                self.buffers.lock().put_back(undo, error.clone());
                Err(error)
            }
        }
    }

    /// Where the application is: after the last batch handed out. Waits until it is known where to start.
    ///
    /// # Errors
    /// `Usage` for a partition that is not assigned; what stopped the partition before a start was known; `Timeout`
    /// after `default.api.timeout.ms`, and the start is looked up all the same.
    ///
    /// # Cancel safety
    /// Dropping the future only ends the wait.
    pub async fn position(&mut self, partition: &TopicPartition) -> Result<OffsetAndEpoch> {
        let timeout = self.default_api_timeout;
        let mut give_up_at = None;
        poll_fn(|context| {
            let mut buffers = self.buffers.lock();
            match buffers.position(partition) {
                None => return Poll::Ready(Err(not_assigned("tell the position", partition))),
                Some(Some(at)) => return Poll::Ready(Ok(at)),
                Some(None) => {}
            }
            match buffers.failure(partition) {
                Some(error) => return Poll::Ready(Err(error)),
                None => buffers.register(context.waker()),
            }
            drop(buffers);
            let now = now();
            match give_up_at {
                Some(at) if now >= at => Poll::Ready(Err(position_unknown(partition, timeout))),
                Some(_) => Poll::Pending,
                None => {
                    let at = *give_up_at.insert(now + timeout);
                    match self.mailbox.send(Command::WakeAt(at)) {
                        Ok(()) => Poll::Pending,
                        Err(error) => Poll::Ready(Err(error)),
                    }
                }
            }
        })
        .await
    }

    /// Whether the partition's leader answers: what batches said of the ends of its log still holds then. A
    /// reader that has caught up with a broker that is down has not caught up with what comes after. A leader
    /// that hangs is noticed after `request.timeout.ms`.
    pub fn is_in_contact(&self, partition: &TopicPartition) -> bool {
        self.buffers.lock().is_in_contact(partition)
    }

    /// All positions that are known, in no order: what [`commit`](Self::commit) would commit.
    pub fn positions(&self) -> Vec<(TopicPartition, OffsetAndEpoch)> {
        let buffers = self.buffers.lock();
        buffers.positions().map(|(partition, at)| (partition.clone(), at)).collect()
    }

    /// Looks offsets up, of any partitions; the answers are in the order of the questions.
    ///
    /// # Errors
    /// Of the first partition that fails: a broker's refusal, or `Timeout` after `default.api.timeout.ms`.
    ///
    /// # Cancel safety
    /// Dropping the future only ignores the answer.
    pub async fn list_offsets(
        &self,
        wanted: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> Result<Vec<(TopicPartition, ListedOffset)>> {
        let wanted = wanted.into_iter().collect();
        self.mailbox.ask(|reply| Command::ListOffsets(wanted, isolation, reply)).await
    }

    /// Commits the positions for the group: all that was handed out is done with. As its member when subscribed,
    /// otherwise as nobody in particular. A rebalance is waited for where the partitions stay this member's.
    ///
    /// # Errors
    /// `Config` without `group.id`; `UNKNOWN_MEMBER_ID` when partitions have gone to others, whatever the reason; a
    /// broker's refusal, as when the group has members and this is none; `Timeout` after `default.api.timeout.ms`: then
    /// it may have been committed.
    ///
    /// # Cancel safety
    /// Polled once, the positions are committed all the same; dropping the future only ignores the answer.
    pub async fn commit(&self) -> Result<()> {
        let positions = self.positions().into_iter().map(|(partition, at)| (partition, at.into()));
        self.commit_offsets(positions).await
    }

    /// Commits these offsets for the group.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// As [`commit`](Self::commit).
    pub async fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<()> {
        let offsets: Vec<_> = offsets.into_iter().collect();
        if offsets.is_empty() {
            return Ok(());
        }
        self.mailbox.ask(|reply| Command::Commit(offsets, reply)).await
    }

    /// What the group has committed for these partitions, in their order.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// Dropping the future only ignores the answer.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Option<CommittedOffset>)>> {
        let partitions = partitions.into_iter().collect();
        self.mailbox.ask(|reply| Command::Committed(partitions, reply)).await
    }

    /// The topic as metadata describes it: its id, partitions and leaders.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` when no broker has known it for 10 s; `Timeout` after
    /// `default.api.timeout.ms`.
    ///
    /// # Cancel safety
    /// The future is its own: it outlives a borrow of the consumer, and dropping it only ignores the answer.
    pub fn describe_topic(&self, topic: &str) -> impl Future<Output = Result<Topic>> + Send + use<> {
        let (topic, mailbox) = (Arc::from(topic), self.mailbox.clone());
        async move { mailbox.ask(|reply| Command::Describe(topic, reply)).await }
    }

    fn check(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, Position)>,
    ) -> Result<Vec<(TopicPartition, Position)>> {
        let check = |(partition, position): (TopicPartition, Position)| match position {
            Position::Offset { offset, .. } if offset < 0 => {
                let attempted = format!("read from offset {offset}");
                Err(Error::new(ErrorKind::Usage, attempted).with_partition(partition))
            }
            Position::Committed if !self.group.has_group() => {
                let error = Error::new(ErrorKind::Config, "start at a committed offset without a group.id");
                Err(error.with_partition(partition).with_hint("set group.id"))
            }
            _ => Ok((partition, position)),
        };
        partitions.into_iter().map(check).collect()
    }

    fn start(&self, partitions: Vec<(TopicPartition, Position)>) -> Result<()> {
        let mut buffers = self.buffers.lock();
        let assigned = partitions.into_iter().map(|(partition, position)| {
            let generation = buffers.assign_at(&partition, position);
            (partition, generation, position)
        });
        let assigned = assigned.collect();
        drop(buffers);
        self.mailbox.tell(Command::Assign(assigned))
    }
}

fn position_unknown(partition: &TopicPartition, timeout: Duration) -> Error {
    let text = format!(
        "tell the position within default.api.timeout.ms={}: where to start is not known yet",
        timeout.as_millis()
    );
    Error::new(ErrorKind::Timeout, text).with_partition(partition.clone())
}

fn not_assigned(what: &'static str, partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::Usage, format!("{what} of a partition that is not assigned"))
        .with_partition(partition.clone())
        .with_hint("assign it first")
}

#[allow(clippy::disallowed_methods, reason = "the rim reads the clock for the machines")]
fn wall_clock() -> WallClock {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallClock::new(Instant::now(), i64::try_from(wall.as_millis()).unwrap_or(i64::MAX))
}

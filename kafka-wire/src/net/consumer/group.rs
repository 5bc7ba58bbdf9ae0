//! A consumer as the member of a group: subscriptions, rebalances, commits, and the end.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::listener::Nobody;
use super::{Consumer, RebalanceListener, now};
use crate::config::ConsumerConfig;
use crate::consumer::{Command, Position, SharedRebalances, TopicPattern, Wanted, not_a_member};
use crate::error::{Error, ErrorKind, Result};
use crate::group::{Event, GroupMembershipOperation};
use crate::net::driver::deadline;
use crate::record::RecordRef;
use crate::reply::{Reply, block_on};
use crate::txn::GroupMetadata;
use crate::types::{CommittedOffset, TopicPartition};

/// How a consumer is closed (KIP-1092).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseOptions {
    /// How long commits and leaving may take in all. Default 30 s.
    pub timeout: Duration,
    /// Whether to leave the group. Default: a dynamic member leaves, a static one stays.
    pub group_membership: GroupMembershipOperation,
}

impl Default for CloseOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), group_membership: GroupMembershipOperation::Default }
    }
}

/// The application's side of a membership.
#[derive(Debug)]
pub(super) struct GroupSide {
    group: Option<Arc<str>>,
    rebalances: SharedRebalances,
    is_subscribed: bool,
    /// Taken out while it is being called.
    listener: Option<Box<dyn RebalanceListener>>,
    auto_commit: Option<AutoCommit>,
}

#[derive(Debug)]
struct AutoCommit {
    interval: Duration,
    next: Instant,
}

impl GroupSide {
    pub(super) fn new(config: &ConsumerConfig, rebalances: SharedRebalances) -> Self {
        let interval = config.auto_commit_interval;
        let commits = config.enable_auto_commit && config.group_id.is_some();
        Self {
            group: config.group_id.as_deref().map(Arc::from),
            rebalances,
            is_subscribed: false,
            listener: Some(Box::new(Nobody)),
            auto_commit: commits.then(|| AutoCommit { interval, next: now() + interval }),
        }
    }

    pub(super) fn has_group(&self) -> bool {
        self.group.is_some()
    }

    /// `Usage` when partitions are the group's business.
    pub(super) fn check_is_manual(&self) -> Result<()> {
        if self.is_subscribed {
            let error = Error::new(ErrorKind::Usage, "assign partitions by hand while subscribed");
            return Err(error.with_hint("unsubscribe first: the group assigns partitions"));
        }
        Ok(())
    }

    /// The application has nothing to read and waits; true when something has happened meanwhile.
    pub(super) fn waits(&self) -> bool {
        if !self.is_subscribed {
            return false;
        }
        let mut rebalances = self.rebalances.lock();
        rebalances.waits();
        rebalances.has_events()
    }

    /// Ends a wait, however it ends.
    pub(super) fn wait_guard(&self) -> WaitGuard {
        WaitGuard(self.is_subscribed.then(|| self.rebalances.clone()))
    }
}

/// While it lives the application may wait; afterwards it is busy with something else.
pub(super) struct WaitGuard(Option<SharedRebalances>);

impl Drop for WaitGuard {
    fn drop(&mut self) {
        if let Some(rebalances) = &self.0 {
            rebalances.lock().stops_waiting();
        }
    }
}

impl Consumer {
    /// Reads these topics from now on, as a member of the group (`group.id`): the members divide the partitions among
    /// themselves, and what one had is read on by others when it goes. Reading starts where the group has committed,
    /// else where `auto.offset.reset` says. Takes the place of an earlier subscription; of nothing, it is
    /// [`unsubscribe`](Self::unsubscribe).
    ///
    /// Joining happens in the background. What a rebalance takes away is let go of inside [`poll`](Self::poll), never
    /// while the application deals with a batch: so poll again within `max.poll.interval.ms`, or others get the
    /// partitions. `group.protocol` and `partition.assignment.strategy` say how partitions are divided.
    ///
    /// A topic that does not exist is waited for; [`poll`](Self::poll) says so once, after 10 s.
    ///
    /// # Errors
    /// `Config` without `group.id`, `Usage` when partitions were assigned by hand; `Closed`.
    pub fn subscribe<T: Into<Arc<str>>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        let topics: BTreeSet<Arc<str>> = topics.into_iter().map(Into::into).collect();
        if topics.is_empty() {
            return self.unsubscribe();
        }
        self.want(Wanted::Topics(topics))
    }

    /// Reads all topics whose whole name matches `pattern`, as a member of the group; new ones are found within
    /// `metadata.max.age.ms`. Kafka's own topics never match. As [`subscribe`](Self::subscribe) otherwise.
    ///
    /// With `group.protocol=consumer` the coordinator matches (RE2/J); otherwise this client does (crate `regex`).
    ///
    /// # Errors
    /// `Usage` when it is no regular expression; and as [`subscribe`](Self::subscribe).
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<()> {
        self.want(Wanted::Pattern(TopicPattern::new(pattern)?))
    }

    fn want(&mut self, wanted: Wanted) -> Result<()> {
        if !self.group.has_group() {
            let error = Error::new(ErrorKind::Config, "subscribe to topics without a group.id");
            return Err(error.with_hint("set group.id, or assign partitions by hand"));
        }
        if !self.group.is_subscribed && self.buffers.lock().assignment().next().is_some() {
            let error =
                Error::new(ErrorKind::Usage, "subscribe to topics while partitions are assigned by hand");
            return Err(error.with_hint("take these away first: incremental_unassign"));
        }
        self.group.is_subscribed = true;
        self.mailbox.tell(Command::Subscribe(wanted))
    }

    /// Reads nothing any more and leaves the group, after what is committed on this occasion: see
    /// [`RebalanceListener::revoked`]. A static member stays in the group until its session ends. Does not wait.
    ///
    /// # Errors
    /// `Closed`.
    pub fn unsubscribe(&mut self) -> Result<()> {
        if !self.group.is_subscribed {
            return Ok(());
        }
        self.give_up_all()?;
        self.group.is_subscribed = false;
        self.group.rebalances.lock().silence();
        self.mailbox.tell(Command::Unsubscribe)
    }

    /// Has `listener` hear of rebalances, instead of the one before.
    pub fn set_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.set_listener_boxed(Box::new(listener));
    }

    pub(super) fn set_listener_boxed(&mut self, listener: Box<dyn RebalanceListener>) {
        self.group.listener = Some(listener);
    }

    /// Lets go of everything, by the application's own will.
    fn give_up_all(&mut self) -> Result<()> {
        // What was lost already cannot be committed any more, and it has to be told so.
        while let Some(event) = self.next_event() {
            if let Event::Lost(_) = event {
                self.take_part(event)?;
            }
        }
        let all = self.assignment();
        self.let_go(all)
    }

    /// What has to be done before something is read: the application's part of a rebalance, and commits that are due.
    pub(super) fn before_poll(&mut self) -> Result<()> {
        if self.group.is_subscribed {
            if self.group.listener.is_none() {
                return Err(Error::new(ErrorKind::Usage, "poll inside a rebalance listener"));
            }
            if self.group.rebalances.lock().polled() {
                self.mailbox.tell(Command::Polled)?;
            }
            while let Some(event) = self.next_event() {
                self.take_part(event)?;
            }
        }
        self.commit_if_due()
    }

    fn next_event(&self) -> Option<Event> {
        self.group.rebalances.lock().next_event()
    }

    fn take_part(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Assigned(partitions) => {
                let starts = partitions.iter().map(|partition| (partition.clone(), Position::Committed));
                self.start(starts.collect())?;
                self.call_listener(|listener, consumer| listener.assigned(consumer, &partitions));
                Ok(())
            }
            Event::Revoke(partitions) => {
                self.let_go(partitions)?;
                self.mailbox.tell(Command::LetGo)
            }
            Event::Lost(partitions) => {
                self.call_listener(|listener, consumer| listener.lost(consumer, &partitions));
                self.forget(partitions)
            }
            Event::Failed(error) => Err(error),
        }
    }

    fn let_go(&mut self, partitions: Vec<TopicPartition>) -> Result<()> {
        if self.group.auto_commit.is_some() {
            self.commit_positions_of(&partitions)?;
        }
        self.call_listener(|listener, consumer| listener.revoked(consumer, &partitions));
        self.forget(partitions)
    }

    fn call_listener(&mut self, call: impl FnOnce(&mut dyn RebalanceListener, &mut Self)) {
        if let Some(mut listener) = self.group.listener.take() {
            call(&mut *listener, self);
            // It may have put another in its place.
            self.group.listener.get_or_insert(listener);
        }
    }

    fn commit_if_due(&mut self) -> Result<()> {
        let Some(auto_commit) = &mut self.group.auto_commit else { return Ok(()) };
        let now = now();
        if now < auto_commit.next {
            return Ok(());
        }
        auto_commit.next = now + auto_commit.interval;
        self.commit_positions_of(&self.assignment())
    }

    /// Commits what was handed out of these, without waiting.
    fn commit_positions_of(&self, partitions: &[TopicPartition]) -> Result<()> {
        let buffers = self.buffers.lock();
        let offset = |partition: &TopicPartition| {
            let at = buffers.position(partition)??;
            Some((partition.clone(), at.into()))
        };
        let offsets: Vec<_> = partitions.iter().filter_map(offset).collect();
        drop(buffers);
        if offsets.is_empty() {
            return Ok(());
        }
        let done = Reply::new(|outcome| {
            if let Err(error) = outcome {
                tracing::warn!(%error, "positions were not committed (enable.auto.commit)");
            }
        });
        self.mailbox.tell(Command::Commit(offsets, done))
    }

    /// Commits these offsets for the group, without waiting; `done` is called with the outcome, on the client's I/O
    /// thread. Commits are carried out one after the other, in the order of the calls.
    ///
    /// # Errors
    /// `Closed`; everything else goes to `done`, as [`commit`](Self::commit) says.
    pub fn commit_async(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) -> Result<()> {
        let offsets: Vec<_> = offsets.into_iter().collect();
        if offsets.is_empty() {
            done(Ok(()));
            return Ok(());
        }
        self.mailbox.send(Command::Commit(offsets, Reply::new(done)))
    }

    /// Commits that the partition is done with up to and including this record.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// As [`commit`](Self::commit).
    pub async fn commit_record(&self, partition: &TopicPartition, record: &RecordRef<'_>) -> Result<()> {
        let next = CommittedOffset { offset: record.offset + 1, leader_epoch: None, metadata: String::new() };
        self.commit_offsets([(partition.clone(), next)]).await
    }

    /// As [`commit`](Self::commit), for threads that may block.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_blocking(&self) -> Result<()> {
        block_on(self.commit())
    }

    /// As whom this consumer commits: what
    /// [`send_offsets_to_transaction`](crate::Producer::send_offsets_to_transaction) needs, so that the offsets of a
    /// member that has lost its partitions are refused (KIP-447).
    ///
    /// # Errors
    /// `Config` without `group.id`. `UNKNOWN_MEMBER_ID` while it is subscribed and not a member (yet).
    pub fn group_metadata(&self) -> Result<GroupMetadata> {
        let Some(group) = &self.group.group else {
            let error = Error::new(ErrorKind::Config, "tell the group without a group.id");
            return Err(error.with_hint("set group.id"));
        };
        if !self.group.is_subscribed {
            return Ok(GroupMetadata::without_member(&**group));
        }
        let rebalances = self.group.rebalances.lock();
        let identity =
            rebalances.acts_as().ok_or_else(|| not_a_member(group, "tell the group's metadata"))?;
        Ok(GroupMetadata {
            group_id: group.to_string(),
            generation: identity.generation,
            member_id: identity.member_id.to_string(),
            group_instance_id: identity.instance_id.as_deref().map(str::to_owned),
        })
    }

    /// Ends the consumer: commits what was polled (with `enable.auto.commit`), lets the listener
    /// [know](RebalanceListener::revoked), waits for commits, leaves the group, so that others go on at once, and
    /// gives the fetch sessions back that brokers keep for it. Within 30 s.
    ///
    /// A consumer that is dropped leaves, too, but commits nothing more, calls no listener, and waits for 500 ms at
    /// most.
    ///
    /// # Errors
    /// `Closed` when it had failed for good before.
    ///
    /// # Cancel safety
    /// Dropping the future drops the consumer, as said above.
    pub async fn close(self) -> Result<()> {
        self.close_with(CloseOptions::default()).await
    }

    /// As [`close`](Self::close), with a time of its own, and staying in the group or not.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    ///
    /// # Cancel safety
    /// As [`close`](Self::close).
    pub async fn close_with(mut self, options: CloseOptions) -> Result<()> {
        if self.group.is_subscribed {
            self.give_up_all()?;
        } else if self.group.auto_commit.is_some() {
            self.commit_positions_of(&self.assignment())?;
        }
        let (deadline, operation) = (deadline(options.timeout), options.group_membership);
        self.mailbox.ask(|reply| Command::Close { deadline, operation, reply }).await
    }

    /// As [`close_with`](Self::close_with), for threads that may block.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_blocking(self, options: CloseOptions) -> Result<()> {
        block_on(self.close_with(options))
    }
}

/// How long dropping a member may take where the coordinator does not answer.
const DROP_TIMEOUT: Duration = Duration::from_millis(500);

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.group.is_subscribed {
            let (deadline, operation) = (now() + DROP_TIMEOUT, GroupMembershipOperation::Default);
            let (answered, answer) = mpsc::channel();
            let reply = Reply::new(move |_| answered.send(()).unwrap_or_default());
            if self.mailbox.tell(Command::Close { deadline, operation, reply }).is_ok() {
                let _ = answer.recv_timeout(DROP_TIMEOUT);
            }
        }
    }
}

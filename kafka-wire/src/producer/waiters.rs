//! Who waits to append, in order of arrival.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// What an append waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    /// Memory: older batches must be acknowledged first.
    Memory,
    /// The topic's number of partitions.
    Topic(Arc<str>),
}

#[derive(Debug)]
struct Waiter {
    reason: WaitReason,
    /// When it gives up: it must be woken then.
    deadline: Instant,
    waker: Waker,
}

/// Bounded by the callers: each thread or task waits once. All wait for the same time (`max.block.ms`), so the
/// order of their tickets is that of their deadlines, too.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    for_memory: BTreeMap<u64, Waiter>,
    for_topics: BTreeMap<u64, Waiter>,
    next_ticket: u64,
}

impl Waiters {
    /// Gets in line, or with a `ticket` stays where it is. The answer is the ticket.
    pub(crate) fn wait(
        &mut self,
        ticket: Option<u64>,
        reason: WaitReason,
        deadline: Instant,
        waker: &Waker,
    ) -> u64 {
        let ticket = ticket.filter(|ticket| self.remove(*ticket)).unwrap_or_else(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        let line = match reason {
            WaitReason::Memory => &mut self.for_memory,
            WaitReason::Topic(_) => &mut self.for_topics,
        };
        line.insert(ticket, Waiter { reason, deadline, waker: waker.clone() });
        ticket
    }

    fn remove(&mut self, ticket: u64) -> bool {
        self.for_memory.remove(&ticket).or_else(|| self.for_topics.remove(&ticket)).is_some()
    }

    /// Whether nobody who waits for memory came before.
    pub(crate) fn is_turn(&self, ticket: Option<u64>) -> bool {
        self.for_memory.first_key_value().is_none_or(|(first, _)| Some(*first) == ticket)
    }

    /// Whether anybody waits for memory.
    pub(crate) fn is_memory_wanted(&self) -> bool {
        !self.for_memory.is_empty()
    }

    /// The waiter got what it wanted or gave up: the next may try.
    pub(crate) fn leave(&mut self, ticket: u64) {
        self.remove(ticket);
        self.wake_first();
    }

    /// There is more memory.
    pub(crate) fn wake_first(&self) {
        if let Some((_, first)) = self.for_memory.first_key_value() {
            first.waker.wake_by_ref();
        }
    }

    /// The topic is known now, or cannot be.
    pub(crate) fn wake_topic(&self, topic: &str) {
        let waits = |waiter: &&Waiter| matches!(&waiter.reason, WaitReason::Topic(name) if **name == *topic);
        self.for_topics.values().filter(waits).for_each(|waiter| waiter.waker.wake_by_ref());
    }

    /// Nothing will be taken any more.
    pub(crate) fn wake_all(&self) {
        let all = self.for_memory.values().chain(self.for_topics.values());
        all.for_each(|waiter| waiter.waker.wake_by_ref());
    }

    /// Wakes those whose time is over, so that they notice, and takes them out of line: one that nobody
    /// polls any more must not stand before others. The answer is the next one's time.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        if expire_line(&mut self.for_memory, now) {
            self.wake_first();
        }
        expire_line(&mut self.for_topics, now);
        let next = |line: &BTreeMap<u64, Waiter>| Some(line.first_key_value()?.1.deadline);
        [next(&self.for_memory), next(&self.for_topics)].into_iter().flatten().min()
    }
}

/// Whether anybody's time was over.
fn expire_line(line: &mut BTreeMap<u64, Waiter>, now: Instant) -> bool {
    let before = line.len();
    while let Some(first) = line.first_entry()
        && first.get().deadline <= now
    {
        first.remove().waker.wake();
    }
    line.len() < before
}

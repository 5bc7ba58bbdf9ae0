//! Who waits to append, in order of arrival.

use std::collections::VecDeque;
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
    ticket: u64,
    reason: WaitReason,
    /// When it gives up: it must be woken then.
    deadline: Instant,
    waker: Waker,
}

/// Bounded by the callers: each thread or task waits once.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queue: VecDeque<Waiter>,
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
        if let Some(waiter) = self.queue.iter_mut().find(|waiter| Some(waiter.ticket) == ticket) {
            waiter.reason = reason;
            waiter.deadline = deadline;
            waiter.waker.clone_from(waker);
            return waiter.ticket;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.queue.push_back(Waiter { ticket, reason, deadline, waker: waker.clone() });
        ticket
    }

    /// Whether nobody who waits for memory came before.
    pub(crate) fn is_turn(&self, ticket: Option<u64>) -> bool {
        self.first().is_none_or(|first| Some(first.ticket) == ticket)
    }

    /// Whether anybody waits for memory.
    pub(crate) fn is_memory_wanted(&self) -> bool {
        self.first().is_some()
    }

    fn first(&self) -> Option<&Waiter> {
        self.queue.iter().find(|waiter| waiter.reason == WaitReason::Memory)
    }

    /// The waiter got what it wanted or gave up: the next may try.
    pub(crate) fn leave(&mut self, ticket: u64) {
        self.queue.retain(|waiter| waiter.ticket != ticket);
        self.wake_first();
    }

    /// There is more memory.
    pub(crate) fn wake_first(&self) {
        if let Some(first) = self.first() {
            first.waker.wake_by_ref();
        }
    }

    /// The topic is known now, or cannot be.
    pub(crate) fn wake_topic(&self, topic: &str) {
        let waits = |waiter: &&Waiter| matches!(&waiter.reason, WaitReason::Topic(name) if **name == *topic);
        self.queue.iter().filter(waits).for_each(|waiter| waiter.waker.wake_by_ref());
    }

    /// Nothing will be taken any more.
    pub(crate) fn wake_all(&self) {
        self.queue.iter().for_each(|waiter| waiter.waker.wake_by_ref());
    }

    /// Wakes those whose time is over, so that they notice, and takes them out of line: one that nobody
    /// polls any more must not stand before others. The answer is the next one's time.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let before = self.queue.len();
        self.queue.retain(|waiter| {
            let waits = now < waiter.deadline;
            if !waits {
                waiter.waker.wake_by_ref();
            }
            waits
        });
        if self.queue.len() < before {
            self.wake_first();
        }
        self.queue.iter().map(|waiter| waiter.deadline).min()
    }
}

//! Who waits to append, in order of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use foldhash::HashMap;

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

/// One line for memory and one per topic. Bounded by the callers, each future or thread waits once; a task may keep
/// very many futures, so nothing here goes through all of them for one.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// By ticket. All wait for the same time (`max.block.ms`), so the first is also the first to give up.
    waiting: BTreeMap<u64, Waiter>,
    memory: BTreeSet<u64>,
    /// None of them is empty.
    topics: HashMap<Arc<str>, BTreeSet<u64>>,
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
        let kept = ticket.and_then(|ticket| Some((ticket, self.waiting.get_mut(&ticket)?)));
        if let Some((ticket, waiter)) = kept {
            waiter.waker.clone_from(waker);
            if waiter.reason != reason {
                let before = std::mem::replace(&mut waiter.reason, reason.clone());
                self.leave_line(ticket, &before);
                self.join_line(ticket, reason);
            }
            return ticket;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket, Waiter { reason: reason.clone(), deadline, waker: waker.clone() });
        self.join_line(ticket, reason);
        ticket
    }

    /// Whether nobody who waits for memory came before.
    pub(crate) fn is_turn(&self, ticket: Option<u64>) -> bool {
        self.memory.first().is_none_or(|first| Some(*first) == ticket)
    }

    /// Whether nobody came before who waits for the topic, or waited for it and has not noticed yet that it is there.
    pub(crate) fn is_turn_for(&self, topic: &str, ticket: Option<u64>) -> bool {
        let is_first =
            |line: &BTreeSet<u64>| line.first().is_none_or(|first| ticket.is_some_and(|it| it <= *first));
        // While all topics are known, which is nearly always, a record costs no look-up here.
        self.topics.is_empty() || self.topics.get(topic).is_none_or(is_first)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether anybody waits for memory.
    pub(crate) fn is_memory_wanted(&self) -> bool {
        !self.memory.is_empty()
    }

    /// The waiter got what it wanted or gave up: the next may try.
    pub(crate) fn leave(&mut self, ticket: u64) {
        if let Some(waiter) = self.waiting.remove(&ticket) {
            self.leave_line(ticket, &waiter.reason);
        }
        self.wake_first();
    }

    /// There is more memory.
    pub(crate) fn wake_first(&self) {
        self.wake(self.memory.first());
    }

    /// The topic is known now, or cannot be.
    pub(crate) fn wake_topic(&self, topic: &str) {
        self.topics.get(topic).into_iter().flatten().for_each(|ticket| self.wake(Some(ticket)));
    }

    /// Nothing will be taken any more.
    pub(crate) fn wake_all(&self) {
        self.waiting.values().for_each(|waiter| waiter.waker.wake_by_ref());
    }

    /// Wakes those whose time is over, so that they notice, and takes them out of line: one that nobody
    /// polls any more must not stand before others. The answer is the next one's time.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some(first) = self.waiting.first_entry() {
            if now < first.get().deadline {
                return Some(first.get().deadline);
            }
            let (ticket, waiter) = first.remove_entry();
            waiter.waker.wake();
            self.leave_line(ticket, &waiter.reason);
            self.wake_first();
        }
        None
    }

    fn join_line(&mut self, ticket: u64, reason: WaitReason) {
        let line = match reason {
            WaitReason::Memory => &mut self.memory,
            WaitReason::Topic(topic) => self.topics.entry(topic).or_default(),
        };
        line.insert(ticket);
    }

    /// The next in a topic's line may have tried before its turn, and is to try again.
    fn leave_line(&mut self, ticket: u64, reason: &WaitReason) {
        let WaitReason::Topic(topic) = reason else {
            self.memory.remove(&ticket);
            return;
        };
        let Some(line) = self.topics.get_mut(topic) else { return };
        line.remove(&ticket);
        match line.first().copied() {
            None => drop(self.topics.remove(topic)),
            Some(next) => self.wake(Some(&next)),
        }
    }

    fn wake(&self, ticket: Option<&u64>) {
        if let Some(waiter) = ticket.and_then(|ticket| self.waiting.get(ticket)) {
            waiter.waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waiters, and how often each was woken.
    struct Line {
        waiters: Waiters,
        now: Instant,
        wakes: Vec<Arc<Wakes>>,
    }

    impl Line {
        #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
        fn new() -> Self {
            Self { waiters: Waiters::default(), now: Instant::now(), wakes: Vec::new() }
        }

        fn wait(&mut self, ticket: Option<u64>, reason: &WaitReason) -> u64 {
            let index = ticket.unwrap_or(self.wakes.len() as u64) as usize;
            if index == self.wakes.len() {
                self.wakes.push(Arc::default());
            }
            let waker = Waker::from(Arc::clone(&self.wakes[index]));
            let deadline = self.now + Duration::from_secs(60);
            self.waiters.wait(ticket, reason.clone(), deadline, &waker)
        }

        fn woken(&self) -> Vec<u32> {
            self.wakes.iter().map(|wakes| wakes.0.swap(0, Ordering::SeqCst)).collect()
        }
    }

    fn topic() -> WaitReason {
        WaitReason::Topic("orders".into())
    }

    #[test]
    fn a_topic_is_served_in_order_and_who_comes_later_waits() {
        let mut line = Line::new();
        let (a, b) = (line.wait(None, &topic()), line.wait(None, &topic()));
        line.waiters.wake_topic("orders");
        assert_eq!(line.woken(), [1, 1]);
        let is_turn = |line: &Line, ticket| line.waiters.is_turn_for("orders", ticket);
        assert!(is_turn(&line, Some(a)) && !is_turn(&line, Some(b)) && !is_turn(&line, None));
        assert!(line.waiters.is_turn_for("others", None));
        // The second has tried too early.
        assert_eq!(line.wait(Some(b), &topic()), b);
        line.waiters.leave(a);
        assert_eq!(line.woken(), [0, 1]);
        assert!(is_turn(&line, Some(b)) && !is_turn(&line, None));
        line.waiters.leave(b);
        assert!(is_turn(&line, None));
    }

    #[test]
    fn who_then_waits_for_memory_keeps_its_place_and_lets_the_next_try() {
        let mut line = Line::new();
        let (a, b) = (line.wait(None, &topic()), line.wait(None, &topic()));
        let c = line.wait(None, &WaitReason::Memory);
        assert_eq!(line.wait(Some(a), &WaitReason::Memory), a);
        assert_eq!(line.woken(), [0, 1, 0]);
        assert!(line.waiters.is_turn(Some(a)) && !line.waiters.is_turn(Some(c)), "it came before");
        assert!(line.waiters.is_turn_for("orders", Some(a)) && line.waiters.is_turn_for("orders", Some(b)));
        line.waiters.leave(a);
        assert_eq!(line.woken(), [0, 0, 1]);
    }

    #[test]
    fn who_is_too_late_is_woken_and_stands_before_nobody() {
        let mut line = Line::new();
        let a = line.wait(None, &topic());
        line.now += Duration::from_secs(1);
        let b = line.wait(None, &topic());
        assert_eq!(line.waiters.expire(line.now), Some(line.now + Duration::from_secs(59)));
        assert_eq!(
            line.waiters.expire(line.now + Duration::from_secs(59)),
            Some(line.now + Duration::from_secs(60))
        );
        assert_eq!(line.woken(), [1, 1]);
        assert!(line.waiters.is_turn_for("orders", Some(b)));
        assert!(line.waiters.is_turn_for("orders", Some(a)), "it may try a last time");
        assert_eq!(line.waiters.expire(line.now + Duration::from_secs(60)), None);
    }
}

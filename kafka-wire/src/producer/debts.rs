//! Which brokers have not acknowledged anything for too long (`partitioner.availability.timeout.ms`).

use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};

use crate::types::BrokerId;

/// Per broker, the batches that it is to acknowledge. Nothing is kept when the timeout is zero.
#[derive(Debug)]
pub(crate) struct Debts {
    timeout: Duration,
    owed: HashMap<BrokerId, Debt>,
}

#[derive(Debug)]
struct Debt {
    batches: usize,
    /// When it last acknowledged something, or the first of them was closed.
    since: Instant,
}

impl Debts {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, owed: HashMap::new() }
    }

    /// A batch for this broker was closed.
    pub(crate) fn add(&mut self, broker: BrokerId, now: Instant) {
        if self.timeout.is_zero() {
            return;
        }
        let debt = self.owed.entry(broker).or_insert(Debt { batches: 0, since: now });
        if debt.batches == 0 {
            debt.since = now;
        }
        debt.batches += 1;
    }

    /// The fate of a batch that was closed for this broker is known.
    pub(crate) fn settle(&mut self, broker: BrokerId, now: Instant) {
        if let Some(debt) = self.owed.get_mut(&broker) {
            debt.batches = debt.batches.saturating_sub(1);
            debt.since = now;
        }
    }

    /// Whether it owes something and has acknowledged nothing for the timeout.
    pub(crate) fn is_stalled(&self, broker: BrokerId, now: Instant) -> bool {
        let debt = self.owed.get(&broker).filter(|debt| debt.batches > 0);
        debt.is_some_and(|debt| debt.since + self.timeout <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);

    #[test]
    fn who_owes_and_is_silent_for_the_timeout_is_stalled_until_it_answers() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let start = Instant::now();
        let mut debts = Debts::new(TIMEOUT);
        let broker = BrokerId(1);
        debts.add(broker, start);
        debts.add(broker, start + TIMEOUT / 2);
        assert!(!debts.is_stalled(broker, start + TIMEOUT - Duration::from_millis(1)));
        assert!(debts.is_stalled(broker, start + TIMEOUT) && !debts.is_stalled(BrokerId(2), start + TIMEOUT));
        debts.settle(broker, start + TIMEOUT);
        assert!(!debts.is_stalled(broker, start + TIMEOUT), "it has answered for one of two");
        assert!(debts.is_stalled(broker, start + TIMEOUT * 2));
        debts.settle(broker, start + TIMEOUT * 2);
        assert!(!debts.is_stalled(broker, start + TIMEOUT * 9), "it owes nothing");
    }

    #[test]
    fn without_a_timeout_nobody_is_stalled() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let start = Instant::now();
        let mut debts = Debts::new(Duration::ZERO);
        debts.add(BrokerId(1), start);
        assert!(!debts.is_stalled(BrokerId(1), start + TIMEOUT));
    }
}

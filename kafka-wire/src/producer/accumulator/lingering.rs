//! Open batches in the order in which they were opened: the next to be closed comes first, and nothing has to be
//! done for the others.

use std::collections::BTreeMap;

/// See the module. Batches are named by their numbers, which count up, and stand with their lanes.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    waiting: BTreeMap<u64, usize>,
    /// Those whose time has come while their partition could not send them anyway.
    overdue: BTreeMap<u64, usize>,
}

impl Lingering {
    pub(super) fn opened(&mut self, number: u64, lane: usize) {
        self.waiting.insert(number, lane);
    }

    pub(super) fn closed(&mut self, number: u64) {
        if self.waiting.remove(&number).is_none() {
            self.overdue.remove(&number);
        }
    }

    /// Whether no batch is open.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.overdue.is_empty()
    }

    /// The lane whose time comes first.
    pub(super) fn first(&self) -> Option<usize> {
        self.waiting.first_key_value().map(|(_, lane)| *lane)
    }

    /// The time of the first one has come, but it cannot be sent.
    pub(super) fn defer_first(&mut self) {
        self.overdue.extend(self.waiting.pop_first());
    }

    /// The batch can be sent: if its time has come before, it is first again.
    pub(super) fn recall(&mut self, number: u64) {
        self.waiting.extend(self.overdue.remove_entry(&number));
    }

    /// The lanes of all open batches.
    pub(super) fn lanes(&self) -> Vec<usize> {
        self.overdue.values().chain(self.waiting.values()).copied().collect()
    }
}

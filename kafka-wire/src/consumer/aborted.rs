//! Which batches belong to aborted transactions: the filter of `read_committed`.

use std::cmp::Reverse;

use foldhash::HashSet;
use foldhash::HashSetExt as _;

use crate::protocol::fetch::AbortedTransaction;

/// Walks along a log with the list of the transactions that were aborted in it.
///
/// Each Fetch answer brings the whole list for its own range, so a filter lives as long as one answer.
#[derive(Debug)]
pub(crate) struct AbortedFilter {
    /// The earliest last.
    to_come: Vec<AbortedTransaction>,
    /// Producers with an aborted transaction that has begun and not ended.
    open: HashSet<i64>,
}

impl AbortedFilter {
    /// The list in whatever order, with whatever repetitions the broker sent.
    pub(crate) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_unstable_by_key(|entry| Reverse((entry.first_offset, entry.producer_id)));
        aborted.dedup();
        Self { to_come: aborted, open: HashSet::new() }
    }

    /// Goes to a batch of `producer_id` that ends at `last_offset`, in the order of the log: whether the
    /// records in it were aborted, if it is transactional.
    pub(crate) fn reach(&mut self, producer_id: i64, last_offset: i64) -> bool {
        while let Some(next) = self.to_come.pop_if(|next| next.first_offset <= last_offset) {
            self.open.insert(next.producer_id);
        }
        self.open.contains(&producer_id)
    }

    /// The marker that ends the producer's aborted transaction was read.
    pub(crate) fn abort_marker(&mut self, producer_id: i64) {
        self.open.remove(&producer_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(list: &[(i64, i64)]) -> AbortedFilter {
        AbortedFilter::new(
            list.iter()
                .map(|&(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset })
                .collect(),
        )
    }

    #[test]
    fn only_the_aborted_transaction_of_a_producer_is_left_out() {
        let mut filter = aborted(&[(1, 20)]);
        assert!(!filter.reach(1, 10), "committed, before it");
        assert!(filter.reach(1, 24), "starts within the batch's range");
        assert!(!filter.reach(2, 25), "another producer");
        assert!(filter.reach(1, 30));
        filter.abort_marker(1);
        assert!(!filter.reach(1, 40), "the next transaction");
    }

    #[test]
    fn order_and_repetition_of_the_list_do_not_matter() {
        let mut filter = aborted(&[(1, 50), (2, 5), (1, 10), (1, 10), (2, 5)]);
        assert!(filter.reach(2, 8) && filter.reach(1, 12));
        filter.abort_marker(1);
        filter.abort_marker(2);
        assert!(!filter.reach(1, 30) && !filter.reach(2, 31));
        assert!(filter.reach(1, 55));
    }

    #[test]
    fn a_marker_of_a_transaction_nobody_announced_changes_nothing() {
        let mut filter = aborted(&[(1, 20)]);
        filter.abort_marker(9);
        assert!(filter.reach(1, 20));
    }
}

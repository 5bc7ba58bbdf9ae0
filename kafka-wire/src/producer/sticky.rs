//! The partition of records that nothing else decides: sticky, even by bytes, away from slow partitions.

/// One partition until about a batch of bytes has gone there, then another (KIP-480, KIP-794).
///
/// Java draws by a table of all partitions' queue sizes, made anew for each send. Here two are drawn, and the
/// one with less before it is taken: the same effect (even while all keep up, away from those that do
/// not), at a cost that does not depend on the number of partitions.
#[derive(Debug)]
pub(crate) struct Sticky {
    current: Option<i32>,
    bytes: usize,
    random: u64,
}

impl Sticky {
    /// Draws from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { current: None, bytes: 0, random: seed | 1 }
    }

    /// The partition for the next record, one of `candidates`, or of all `partitions` when there are none.
    /// `queued` says how many batches a partition has before it; `None` where it takes none at the moment.
    pub(crate) fn partition(
        &mut self,
        candidates: &[i32],
        partitions: u32,
        queued: impl Fn(i32) -> Option<usize>,
    ) -> i32 {
        if let Some(current) = self.current.filter(|current| queued(*current).is_some()) {
            return current;
        }
        self.leave();
        let first = self.draw(candidates, partitions, &queued);
        let second = self.draw(candidates, partitions, &queued);
        let chosen = match (queued(first), queued(second)) {
            (Some(of_first), Some(of_second)) if of_second < of_first => second,
            (None, Some(_)) => second,
            _ => first,
        };
        self.current = Some(chosen);
        chosen
    }

    /// One at random; the next that takes something, if it does not.
    fn draw(&mut self, candidates: &[i32], partitions: u32, queued: impl Fn(i32) -> Option<usize>) -> i32 {
        let count = if candidates.is_empty() { partitions.max(1) as usize } else { candidates.len() };
        let at = |place: usize| candidates.get(place).copied().unwrap_or(place as i32);
        let drawn = (self.next() % count as u64) as usize;
        let places = (drawn..count).chain(0..drawn);
        places.map(at).find(|partition| queued(*partition).is_some()).unwrap_or_else(|| at(drawn))
    }

    /// `bytes` went to the current partition; after `batch_size` of them it is another's turn.
    pub(crate) fn record(&mut self, bytes: usize, batch_size: usize) {
        self.bytes += bytes;
        if self.bytes >= batch_size {
            self.leave();
        }
    }

    /// The partitions have changed: draw again.
    pub(crate) fn leave(&mut self) {
        self.current = None;
        self.bytes = 0;
    }

    /// xorshift64: evenness matters here, secrecy does not.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of four partitions is drawn in 40 000 turns.
    fn drawn(candidates: &[i32], queued: impl Fn(i32) -> Option<usize> + Copy) -> [u32; 4] {
        let mut sticky = Sticky::new(7);
        let mut turns = [0; 4];
        for _ in 0..40_000 {
            let first = sticky.partition(candidates, 4, queued);
            sticky.record(60, 100);
            assert_eq!(sticky.partition(candidates, 4, queued), first, "60 of 100 bytes: it stays");
            sticky.record(60, 100);
            turns[first as usize] += 1;
        }
        turns
    }

    #[test]
    fn it_stays_for_a_batch_then_draws_evenly() {
        let turns = drawn(&[0, 1, 3], |_| Some(5));
        assert_eq!(turns[2], 0, "partition 2 has no leader");
        for partition in [0, 1, 3] {
            let share = turns[partition];
            assert!((12_500..14_200).contains(&share), "partition {partition}: {share} of 40000");
        }
    }

    #[test]
    fn a_partition_with_more_before_it_gets_less() {
        let turns = drawn(&[0, 1, 2, 3], |partition| Some(if partition == 2 { 9 } else { 1 }));
        // Only when it is drawn twice: one in sixteen.
        assert!((2_200..2_800).contains(&turns[2]), "{turns:?}");
        assert!(turns.iter().enumerate().all(|(place, share)| place == 2 || *share > 12_000), "{turns:?}");
    }

    #[test]
    fn a_partition_that_takes_nothing_is_left_at_once_and_not_drawn() {
        let mut sticky = Sticky::new(5);
        let first = sticky.partition(&[0, 1], 2, |_| Some(0));
        let other = sticky.partition(&[0, 1], 2, |partition| (partition != first).then_some(0));
        assert_ne!(first, other);
        assert_eq!(drawn(&[0, 1, 2, 3], |partition| (partition != 1).then_some(0))[1], 0);
        let mut stuck = Sticky::new(5);
        assert!((0..2).contains(&stuck.partition(&[0, 1], 2, |_| None)), "with nobody well, anybody");
    }

    #[test]
    fn without_any_leader_it_still_chooses_among_all() {
        let mut sticky = Sticky::new(3);
        for _ in 0..100 {
            assert!((0..4).contains(&sticky.partition(&[], 4, |_| Some(0))));
            sticky.leave();
        }
    }
}

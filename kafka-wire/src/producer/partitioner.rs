//! Which partition a record goes to: the caller's, the key's, or a sticky one.

/// Java's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`), so that a key lands where any other
/// client would put it.
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (place, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * place);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a record with `key` in a topic of `partitions` (at least one), as Java's
/// `BuiltInPartitioner.partitionForKey` computes it.
pub fn partition_for_key(key: &[u8], partitions: u32) -> i32 {
    ((murmur2(key) & 0x7fff_ffff) % partitions.max(1)) as i32
}

/// The partition of records without a key: one partition until about a batch of bytes has gone there,
/// then another, drawn evenly from those with a leader (KIP-480, KIP-794).
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

    /// The partition for the next record; `available` are those with a leader, and `partitions` all.
    pub(crate) fn partition(&mut self, available: &[i32], partitions: u32) -> i32 {
        if let Some(current) = self.current {
            return current;
        }
        let drawn = self.draw();
        let partition = match available.get((drawn % available.len().max(1) as u64) as usize) {
            Some(partition) => *partition,
            None => (drawn % u64::from(partitions.max(1))) as i32,
        };
        self.current = Some(partition);
        partition
    }

    /// `bytes` went to the current partition; after `batch_size` of them it is another's turn.
    pub(crate) fn record(&mut self, bytes: usize, batch_size: usize) {
        self.bytes += bytes;
        if self.bytes >= batch_size {
            self.leave();
        }
    }

    /// The partitions have changed, or a batch was closed by time: draw again.
    pub(crate) fn leave(&mut self) {
        self.current = None;
        self.bytes = 0;
    }

    /// xorshift64: evenness matters here, secrecy does not.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_javas() {
        for (key, hash) in [
            ("21", -973932308_i32),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert_eq!(partition_for_key(b"21", 7), (-973932308_i32 & 0x7fff_ffff) % 7);
    }

    #[test]
    fn sticky_stays_for_a_batch_then_draws_evenly() {
        let mut sticky = Sticky::new(7);
        let mut records = [0_u32; 4];
        for _ in 0..40_000 {
            let first = sticky.partition(&[0, 1, 3], 4);
            sticky.record(60, 100);
            assert_eq!(sticky.partition(&[0, 1, 3], 4), first, "60 of 100 bytes: it stays");
            sticky.record(60, 100);
            records[first as usize] += 1;
        }
        assert_eq!(records[2], 0, "partition 2 has no leader");
        for partition in [0, 1, 3] {
            let share = records[partition];
            assert!((12_500..14_200).contains(&share), "partition {partition}: {share} of 40000");
        }
    }

    #[test]
    fn sticky_without_any_leader_still_chooses_among_all() {
        let mut sticky = Sticky::new(3);
        for _ in 0..100 {
            assert!((0..4).contains(&sticky.partition(&[], 4)));
            sticky.leave();
        }
    }
}

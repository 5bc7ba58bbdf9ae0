//! Which partition a record goes to: the caller's, the application's partitioner's, the key's, or a sticky one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::record::Record;

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

/// What a [`Partitioner`] is told of a topic.
#[derive(Clone, Copy, Debug)]
pub struct TopicPartitions<'a> {
    pub(crate) name: &'a str,
    pub(crate) count: u32,
    pub(crate) available: &'a [i32],
}

impl TopicPartitions<'_> {
    /// The topic's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// How many partitions there are, at least one: they are numbered from 0.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Those with a leader, in ascending order; what goes to another waits until it has one.
    pub fn available(&self) -> &[i32] {
        self.available
    }
}

/// Chooses partitions in place of the producer; Java's `partitioner.class`. Any `Fn` of the same arguments
/// is one.
///
/// ```
/// use kafka_wire::{Record, TopicPartitions};
/// // Orders of one country on one partition, everything else as usual.
/// let by_country = |record: &Record<'_>, topic: &TopicPartitions<'_>| {
///     let country = record.key.filter(|_| topic.name() == "orders")?.first()?;
///     Some((u32::from(*country) % topic.count()) as i32)
/// };
/// # let _: &dyn kafka_wire::Partitioner = &by_country;
/// ```
pub trait Partitioner: Send + Sync {
    /// The partition for `record`, which names none itself; `None` leaves the choice to the producer. It is
    /// called once per record, or again when the record has had to wait for memory, with the producer's
    /// lock held: it must be quick, and must not call the producer. A partition that does not exist is an
    /// error of the send.
    fn partition(&self, record: &Record<'_>, topic: &TopicPartitions<'_>) -> Option<i32>;
}

impl<F> Partitioner for F
where
    F: Fn(&Record<'_>, &TopicPartitions<'_>) -> Option<i32> + Send + Sync,
{
    fn partition(&self, record: &Record<'_>, topic: &TopicPartitions<'_>) -> Option<i32> {
        self(record, topic)
    }
}

impl fmt::Debug for dyn Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partitioner")
    }
}

/// One partition after the other, keys or not (`org.apache.kafka.clients.producer.RoundRobinPartitioner`).
#[derive(Debug, Default)]
pub(crate) struct RoundRobin(Mutex<HashMap<Box<str>, usize>>);

impl Partitioner for RoundRobin {
    fn partition(&self, _record: &Record<'_>, topic: &TopicPartitions<'_>) -> Option<i32> {
        // As many as the producer knows topics.
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = match turns.get_mut(topic.name) {
            Some(turn) => turn,
            None => turns.entry(topic.name.into()).or_default(),
        };
        let now = *turn;
        *turn = turn.wrapping_add(1);
        match topic.available.len() {
            0 => Some((now % topic.count.max(1) as usize) as i32),
            available => topic.available.get(now % available).copied(),
        }
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
    fn round_robin_goes_on_per_topic_through_the_partitions_with_a_leader() {
        let robin = RoundRobin::default();
        let next = |name, available: &[i32]| {
            robin.partition(&Record::to(name), &TopicPartitions { name, count: 3, available })
        };
        assert_eq!(
            [next("a", &[0, 2]), next("b", &[0, 2]), next("a", &[0, 2]), next("a", &[0, 2])],
            [Some(0), Some(0), Some(2), Some(0)]
        );
        assert_eq!(next("b", &[]), Some(1), "without any leader, all of them");
    }
}

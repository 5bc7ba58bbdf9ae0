//! Which worker owns a key: hash → key group → worker.
//!
//! A key group is the unit of ownership, of snapshots and of rescale (Flink's noun and idea). The hash
//! is taken over the key's encoding, never by Rust's `Hash`, so that it is the same in every build,
//! on every machine and for ever: state on disk depends on it.

use std::fmt;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, ErrorKind, Result};
use crate::state::codec;

/// How many key groups there are: the largest useful number of workers. A power of two, part of the
/// state format; 128 is also Flink's default maximum parallelism.
pub const KEY_GROUPS: u16 = 128;

/// A key group's number, 0 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(u8);

impl KeyGroup {
    /// The group of a key with this hash: the seven high bits, which leaves the low ones to tables.
    pub const fn of(hash: u64) -> Self {
        Self((hash >> (u64::BITS - KEY_GROUPS.trailing_zeros())) as u8)
    }

    /// The group with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < KEY_GROUPS { Some(Self(number as u8)) } else { None }
    }

    /// Its number, 0 to 127.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The worker that owns `group` among `workers`: contiguous ranges, sizes differ by at most one.
///
/// With more workers than groups some own nothing.
pub const fn owner(group: KeyGroup, workers: usize) -> usize {
    if workers == 0 { 0 } else { group.index() * workers / KEY_GROUPS as usize }
}

/// A contiguous range of key groups: what one worker owns, or what one state object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
pub struct KeyGroupRange {
    /// The first group in the range.
    pub first: u8,
    /// How many groups follow, the first included; 0 for a worker that owns nothing.
    pub count: u8,
}

impl KeyGroupRange {
    /// All groups: what the only worker of a job owns.
    pub const ALL: Self = Self { first: 0, count: KEY_GROUPS as u8 };

    /// The groups that worker `worker` of `workers` owns, as [`owner`] has it.
    pub const fn of_worker(worker: usize, workers: usize) -> Self {
        let groups = KEY_GROUPS as usize;
        if worker >= workers {
            return Self { first: 0, count: 0 };
        }
        let first = (worker * groups).div_ceil(workers);
        let end = ((worker + 1) * groups).div_ceil(workers);
        Self { first: first as u8, count: (end - first) as u8 }
    }

    /// Whether `group` is one of them.
    pub const fn contains(self, group: KeyGroup) -> bool {
        group.0 >= self.first && (group.0 as u16) < self.end()
    }

    /// Whether the two have a group in common.
    pub const fn overlaps(self, other: Self) -> bool {
        (self.first as u16) < other.end() && (other.first as u16) < self.end()
    }

    /// Whether there is no group in it.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The groups, in order.
    pub fn iter(self) -> impl Iterator<Item = KeyGroup> {
        (u16::from(self.first)..self.end()).filter_map(KeyGroup::new)
    }

    const fn end(self) -> u16 {
        self.first as u16 + self.count as u16
    }
}

/// A record on its way to its key's owner: hashed once, where it is keyed, for the exchange and the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Keyed<K, V> {
    /// [`key_hash`] of the key.
    pub hash: u64,
    /// Event time in milliseconds since 1970.
    pub time_ms: i64,
    /// The key.
    pub key: K,
    /// What it carries.
    pub value: V,
}

impl<K, V> Keyed<K, V> {
    /// The worker that owns this key.
    pub const fn owner(&self, workers: usize) -> usize {
        owner(KeyGroup::of(self.hash), workers)
    }
}

/// Hashes keys without allocating for each: keeps the buffer that they are encoded into.
#[derive(Debug, Default)]
pub struct KeyHasher {
    scratch: Vec<u8>,
}

impl KeyHasher {
    /// xxh3 (64 bits, seed 0) of the key's postcard encoding.
    ///
    /// # Errors
    /// When the key's own `Serialize` fails.
    pub fn hash<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<u64> {
        self.scratch.clear();
        codec::encode(key, &mut self.scratch).map_err(|error| {
            Error::new(ErrorKind::UserFunction, "encode a key to find its key group").with_cause(error)
        })?;
        Ok(xxh3_64(&self.scratch))
    }
}

/// The hash of one key; where there are many, keep a [`KeyHasher`].
///
/// # Errors
/// When the key's own `Serialize` fails.
pub fn key_hash<K: Serialize + ?Sized>(key: &K) -> Result<u64> {
    KeyHasher::default().hash(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change() {
        // State on disk depends on these: a failure here means old state would be read wrongly.
        assert_eq!(key_hash("").unwrap(), xxh3_64(&[0]));
        assert_eq!(key_hash("user-1").unwrap(), xxh3_64(b"\x06user-1"));
        assert_eq!(key_hash("user-1").unwrap(), key_hash(&"user-1".to_owned()).unwrap());
        assert_eq!(key_hash("user-1").unwrap(), 14_647_840_359_066_422_108);
    }

    #[test]
    fn the_high_bits_choose_the_group() {
        assert_eq!(KeyGroup::of(0).index(), 0);
        assert_eq!(KeyGroup::of(u64::MAX).index(), 127);
        assert_eq!(KeyGroup::of(1 << 57).index(), 1);
        assert_eq!(KeyGroup::of((1 << 57) - 1).index(), 0);
        assert_eq!(KeyGroup::new(128), None);
    }

    #[test]
    fn every_group_has_one_owner_and_ranges_agree_with_it() {
        for workers in 1..=200 {
            let mut owners = vec![0; workers];
            for group in KeyGroupRange::ALL.iter() {
                let owner = owner(group, workers);
                owners[owner] += 1;
                for worker in 0..workers {
                    let range = KeyGroupRange::of_worker(worker, workers);
                    assert_eq!(range.contains(group), worker == owner, "{group} of {workers}");
                }
            }
            let (least, most) = (owners.iter().min().unwrap(), owners.iter().max().unwrap());
            assert!(most - least <= 1, "{owners:?}");
        }
    }

    #[test]
    fn ranges_overlap_only_where_they_share_a_group() {
        let (low, high) = (KeyGroupRange::of_worker(0, 2), KeyGroupRange::of_worker(1, 2));
        assert!(!low.overlaps(high) && !high.overlaps(low));
        assert!(KeyGroupRange::ALL.overlaps(low) && low.overlaps(KeyGroupRange::of_worker(1, 3)));
        assert!(KeyGroupRange::of_worker(5, 2).is_empty());
        assert!(!KeyGroupRange::ALL.overlaps(KeyGroupRange::of_worker(5, 2)));
    }
}

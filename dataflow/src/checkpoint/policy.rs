//! When a delta is enough and when a base is due.

use super::object::StateObject;
use crate::state::{KeyGroupRange, SnapshotKind};

/// Chooses the kind of one operator's next snapshot on one worker.
///
/// Two costs are weighed. Deltas as large as the base mean that a restore reads twice what it must: a base is
/// due. Many small ones make the manifest long and a restore slow to open them; but a base is a rewrite of
/// everything, so the larger it is the more deltas it must last: one more for each 256 KiB, at least 64.
#[derive(Clone, Copy, Debug, Default)]
pub struct SnapshotPolicy {
    base_bytes: Option<u64>,
    delta_bytes: u64,
    deltas: u64,
}

impl SnapshotPolicy {
    /// Where the owner of `groups` stands after it has restored from `objects` of its operator.
    pub fn restored<'a>(objects: impl IntoIterator<Item = &'a StateObject>, groups: KeyGroupRange) -> Self {
        let mut policy = Self::default();
        for object in objects.into_iter().filter(|object| object.groups.overlaps(groups)) {
            match object.kind {
                SnapshotKind::Base => {
                    policy.base_bytes = Some(policy.base_bytes.unwrap_or(0) + object.object.length)
                }
                SnapshotKind::Delta => {
                    policy.delta_bytes += object.object.length;
                    policy.deltas += 1;
                }
            }
        }
        policy
    }

    /// The kind of the next snapshot. The first of all is a base.
    pub fn next(&self) -> SnapshotKind {
        let Some(base_bytes) = self.base_bytes else { return SnapshotKind::Base };
        let outweighed = self.delta_bytes >= base_bytes.max(SMALL_BASE_BYTES);
        if outweighed || self.deltas >= MIN_DELTAS + base_bytes / BASE_BYTES_PER_DELTA {
            SnapshotKind::Base
        } else {
            SnapshotKind::Delta
        }
    }

    /// A snapshot of this kind and size has been written.
    pub fn written(&mut self, kind: SnapshotKind, bytes: u64) {
        match kind {
            SnapshotKind::Base => *self = Self { base_bytes: Some(bytes), delta_bytes: 0, deltas: 0 },
            SnapshotKind::Delta => {
                self.delta_bytes += bytes;
                self.deltas += 1;
            }
        }
    }
}

/// Below this, deltas may outgrow the base: that is cheap, and a new job's base is nearly empty.
const SMALL_BASE_BYTES: u64 = 64 * 1024;

const MIN_DELTAS: u64 = 64;

const BASE_BYTES_PER_DELTA: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes snapshots of these sizes; returns (bases written, bytes written, most deltas at once).
    fn run(base_bytes: u64, delta_bytes: u64, epochs: u64) -> (u64, u64, u64) {
        let mut policy = SnapshotPolicy::default();
        let (mut bases, mut bytes, mut most) = (0, 0, 0);
        for _ in 0..epochs {
            let kind = policy.next();
            let size = if kind == SnapshotKind::Base { base_bytes } else { delta_bytes };
            policy.written(kind, size);
            bases += u64::from(kind == SnapshotKind::Base);
            bytes += size;
            most = most.max(policy.deltas);
        }
        (bases, bytes, most)
    }

    #[test]
    fn the_first_is_a_base_and_the_chain_stays_short() {
        assert_eq!(SnapshotPolicy::default().next(), SnapshotKind::Base);
        let (bases, _, most) = run(1_000, 50, 6_500);
        assert_eq!((bases, most), (100, 64));
    }

    #[test]
    fn large_state_is_not_rewritten_for_small_changes() {
        let (bases, bytes, most) = run(1 << 30, 1_000, 10_000);
        assert_eq!(bases, 3);
        assert!(bytes / 10_000 < 400 * 1024, "bytes an epoch: {}", bytes / 10_000);
        assert!(most < 4_200);
    }

    #[test]
    fn deltas_never_outweigh_a_base_by_more_than_one() {
        let (bases, bytes, _) = run(1 << 20, 1 << 18, 1_000);
        assert_eq!(bases, 200);
        assert!(bytes <= 2 * 1_000 * (1 << 18));
    }
}

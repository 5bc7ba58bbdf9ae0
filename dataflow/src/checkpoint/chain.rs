//! Which objects make up an operator's state: its bases and the deltas after them.

use super::object::StateObject;
use crate::state::{KeyGroup, KeyGroupRange, SnapshotKind};

/// Drops the objects that later bases supersede: those whose every key group has a base of a later epoch.
///
/// Workers write bases at different epochs and, after a restart with another number of workers, for other
/// ranges: an object stays until all of its key groups are covered. The order is kept.
pub fn live(mut objects: Vec<StateObject>) -> Vec<StateObject> {
    let bases: Vec<(String, u64, KeyGroupRange)> = objects
        .iter()
        .filter(|object| object.kind == SnapshotKind::Base)
        .map(|object| (object.uid.clone(), object.epoch, object.groups))
        .collect();
    let covered = |object: &StateObject, group: KeyGroup| {
        bases
            .iter()
            .any(|(uid, epoch, groups)| *uid == object.uid && *epoch > object.epoch && groups.contains(group))
    };
    objects.retain(|object| object.groups.iter().any(|group| !covered(object, group)));
    objects
}

/// The objects that the owner of `groups` restores the operator `uid` from, in the order of their epochs.
pub fn needed_by<'a>(objects: &'a [StateObject], uid: &str, groups: KeyGroupRange) -> Vec<&'a StateObject> {
    let mut needed: Vec<&StateObject> =
        objects.iter().filter(|object| object.uid == uid && object.groups.overlaps(groups)).collect();
    needed.sort_by_key(|object| object.epoch);
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::ObjectRef;

    fn object(uid: &str, epoch: u64, kind: SnapshotKind, groups: KeyGroupRange) -> StateObject {
        let path = format!("i/{epoch}-{}-{uid}", groups.first);
        StateObject { uid: uid.into(), epoch, kind, groups, object: ObjectRef { path, length: 1, crc32c: 0 } }
    }

    fn epochs(objects: &[StateObject]) -> Vec<u64> {
        objects.iter().map(|object| object.epoch).collect()
    }

    #[test]
    fn an_object_stays_until_later_bases_cover_all_its_key_groups() {
        use SnapshotKind::{Base, Delta};
        let half = |worker| KeyGroupRange::of_worker(worker, 2);
        let mut objects = vec![
            object("w", 1, Base, KeyGroupRange::ALL),
            object("w", 2, Delta, KeyGroupRange::ALL),
            object("w", 3, Delta, half(0)),
            object("w", 4, Base, half(0)),
        ];
        assert_eq!(epochs(&live(objects.clone())), [1, 2, 4]);
        objects.push(object("other", 9, Base, KeyGroupRange::ALL));
        assert_eq!(epochs(&live(objects.clone())), [1, 2, 4, 9]);
        objects.push(object("w", 5, Base, half(1)));
        assert_eq!(epochs(&live(objects)), [4, 9, 5]);
    }

    #[test]
    fn a_worker_reads_what_overlaps_its_groups_in_order() {
        use SnapshotKind::{Base, Delta};
        let half = |worker| KeyGroupRange::of_worker(worker, 2);
        let objects = [
            object("w", 7, Delta, half(0)),
            object("w", 1, Base, KeyGroupRange::ALL),
            object("w", 6, Delta, half(1)),
            object("x", 2, Base, KeyGroupRange::ALL),
        ];
        let needed = |worker, workers| {
            let needed = needed_by(&objects, "w", KeyGroupRange::of_worker(worker, workers));
            needed.into_iter().map(|object| object.epoch).collect::<Vec<_>>()
        };
        assert_eq!(needed(0, 2), [1, 7]);
        assert_eq!(needed(1, 2), [1, 6]);
        assert_eq!(needed(1, 3), [1, 6, 7]);
    }
}

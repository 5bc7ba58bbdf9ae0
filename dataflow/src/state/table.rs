//! One value per key, and which of them changed since the last snapshot.

use std::borrow::Cow;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::key_group::{KeyGroup, KeyGroupRange};

/// Values by key, for the keys of one worker.
///
/// Entries stand in a vector that the hash index points into: taking all of them (a window that fires)
/// is a walk through memory, and a list of positions says what changed, so that a delta costs what it writes.
#[derive(Debug)]
pub(crate) struct Table<K, S> {
    index: HashTable<usize>,
    slots: Vec<Slot<K, S>>,
    /// Positions touched since the last snapshot, each once.
    dirty: Vec<usize>,
}

/// A key's place. A removed key keeps it, without state, until a snapshot has said that the key is gone.
#[derive(Debug)]
pub(crate) struct Slot<K, S> {
    pub(crate) hash: u64,
    is_dirty: bool,
    pub(crate) key: K,
    pub(crate) state: Option<S>,
}

impl<K, S> Slot<K, S> {
    /// The entry as a section has it: the key's hash, the key, its state or none.
    pub(crate) fn entry(&self) -> (u64, (&K, Option<&S>)) {
        (self.hash, (&self.key, self.state.as_ref()))
    }
}

impl<K, S> Default for Table<K, S> {
    fn default() -> Self {
        Self { index: HashTable::new(), slots: Vec::new(), dirty: Vec::new() }
    }
}

impl<K: Eq + Clone, S> Table<K, S> {
    /// The state of `key`, none if it is new, to be changed: what is there afterwards is its state, none removes it.
    /// A borrowed key is cloned only when it is new.
    pub(crate) fn change(&mut self, hash: u64, key: Cow<'_, K>) -> &mut Option<S> {
        let position = self.position(hash, key);
        let slot = &mut self.slots[position];
        if !slot.is_dirty {
            slot.is_dirty = true;
            self.dirty.push(position);
        }
        &mut slot.state
    }

    /// Sets the state of `key` as a snapshot has it, none if it says that the key is gone: that is no change.
    pub(crate) fn restore(&mut self, hash: u64, key: K, state: Option<S>) {
        let position = self.position(hash, Cow::Owned(key));
        self.slots[position].state = state;
    }

    fn position(&mut self, hash: u64, key: Cow<'_, K>) -> usize {
        let slots = &mut self.slots;
        let entry = self.index.entry(
            spread(hash),
            |&position| slots[position].hash == hash && slots[position].key == *key,
            |&position| spread(slots[position].hash),
        );
        match entry {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                entry.insert(slots.len());
                slots.push(Slot { hash, is_dirty: false, key: key.into_owned(), state: None });
                slots.len() - 1
            }
        }
    }

    /// Moves an entry in from another table, changed or not as it was there.
    pub(crate) fn adopt(&mut self, slot: Slot<K, S>) {
        if slot.is_dirty {
            *self.change(slot.hash, Cow::Owned(slot.key)) = slot.state;
        } else {
            self.restore(slot.hash, slot.key, slot.state);
        }
    }

    /// Takes all entries out; the memory stays for the next ones.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Slot<K, S>> {
        self.index.clear();
        self.dirty.clear();
        self.slots.drain(..)
    }

    /// Every entry, those of removed keys too.
    pub(crate) fn slots(&self) -> &[Slot<K, S>] {
        &self.slots
    }

    /// The entries that changed since the last snapshot.
    pub(crate) fn dirty_slots(&self) -> impl Iterator<Item = &Slot<K, S>> {
        self.dirty.iter().map(|&position| &self.slots[position])
    }

    /// Whether anything changed since the last snapshot.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether there is nothing in it, not even a removed key.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A snapshot holds everything as it is now: nothing is dirty, removed keys are forgotten.
    pub(crate) fn mark_clean(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        // From the back: what fills a gap comes from behind it, where no gap is left.
        dirty.sort_unstable();
        for &position in dirty.iter().rev() {
            if self.slots[position].state.is_some() {
                self.slots[position].is_dirty = false;
            } else {
                self.forget(position);
            }
        }
        dirty.clear();
        self.dirty = dirty;
    }

    fn forget(&mut self, position: usize) {
        let last = self.slots.len() - 1;
        let hash = self.slots[position].hash;
        if let Ok(entry) = self.index.find_entry(spread(hash), |&found| found == position) {
            entry.remove();
        }
        if position != last {
            let moved = spread(self.slots[last].hash);
            if let Some(found) = self.index.find_mut(moved, |&found| found == last) {
                *found = position;
            }
        }
        self.slots.swap_remove(position);
    }

    /// Drops every entry of these key groups, as if it had never been.
    pub(crate) fn clear_groups(&mut self, groups: KeyGroupRange) {
        self.retain(|slot| !groups.contains(KeyGroup::of(slot.hash)));
    }

    /// Drops every entry for which `keep` is false, as if it had never been.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Slot<K, S>) -> bool) {
        if self.slots.iter().all(&keep) {
            return;
        }
        let slots = std::mem::take(&mut self.slots);
        self.index.clear();
        self.dirty.clear();
        for slot in slots.into_iter().filter(keep) {
            self.adopt(slot);
        }
    }
}

/// Where a hash goes in the index. The table tags its entries by the high bits and places them by the
/// low ones; the high ones also chose the key group, so that on one worker they hardly differ.
const fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, u32),
        Remove(u8),
        Snapshot,
        ClearLowerHalf,
    }

    fn hash(key: u8) -> u64 {
        // Few distinct hashes: keys that collide must be told apart.
        xxh3_64(&[key / 2])
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any::<u8>(), any::<u32>()).prop_map(|(key, value)| Step::Set(key % 40, value)),
            3 => any::<u8>().prop_map(|key| Step::Remove(key % 40)),
            1 => Just(Step::Snapshot),
            1 => Just(Step::ClearLowerHalf),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_and_a_set_of_changed_keys(steps in prop::collection::vec(step(), 0..200)) {
            let lower = KeyGroupRange::of_worker(0, 2);
            let mut table = Table::default();
            let (mut map, mut changed) = (BTreeMap::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Set(key, value) => {
                        *table.change(hash(key), Cow::Owned(key)) = Some(value);
                        map.insert(key, value);
                        changed.insert(key);
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(table.change(hash(key), Cow::Borrowed(&key)).take(), map.remove(&key));
                        changed.insert(key);
                    }
                    Step::Snapshot => {
                        table.mark_clean();
                        changed.clear();
                        prop_assert_eq!(table.slots().len(), map.len());
                    }
                    Step::ClearLowerHalf => {
                        table.clear_groups(lower);
                        map.retain(|&key, _| !lower.contains(KeyGroup::of(hash(key))));
                        changed.retain(|&key| !lower.contains(KeyGroup::of(hash(key))));
                    }
                }
                let found: BTreeMap<u8, u32> =
                    table.slots().iter().filter_map(|slot| Some((slot.key, slot.state?))).collect();
                prop_assert_eq!(&found, &map);
                let dirty: BTreeSet<u8> = table.dirty_slots().map(|slot| slot.key).collect();
                prop_assert_eq!(&dirty, &changed);
                prop_assert_eq!(table.is_dirty(), !changed.is_empty());
            }
        }
    }
}

//! A running aggregate per key: each record brings the key's new result.

use std::borrow::Cow;
use std::convert::Infallible;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::aggregate::Aggregate;
use super::key_group::{KeyGroupRange, KeyHasher, Keyed};
use super::logic::{KeyedLogic, SnapshotKind};
use super::section::{self, Header};
use super::table::{Slot, Table};
use crate::error::Result;

/// Keeps one accumulator per key, for ever, and emits its result after every record of the key.
///
/// The result carries the hash, key and event time of the record that brought it.
#[derive(Debug)]
pub struct Running<In, K, A: Aggregate<In>> {
    aggregate: A,
    schema: u16,
    owned: KeyGroupRange,
    table: Table<K, A::Acc>,
}

impl<In, K: Eq, A: Aggregate<In>> Running<In, K, A> {
    /// For the keys of `owned`. `schema` is the version of the key's and accumulator's types.
    pub fn new(aggregate: A, schema: u16, owned: KeyGroupRange) -> Self {
        Self { aggregate, schema, owned, table: Table::default() }
    }
}

impl<In, K, A> KeyedLogic for Running<In, K, A>
where
    K: Eq + Clone + Serialize + DeserializeOwned,
    A: Aggregate<In>,
{
    type In = Keyed<K, In>;
    type Out = Keyed<K, A::Out>;
    type Late = Infallible;

    fn apply(
        &mut self,
        items: &mut Vec<Self::In>,
        _watermark: u64,
        out: &mut Vec<Self::Out>,
        _late: &mut Vec<Self::Late>,
    ) {
        for Keyed { hash, time_ms, key, value } in items.drain(..) {
            let state = self.table.change(hash, Cow::Borrowed(&key));
            let value = match state {
                Some(acc) => {
                    self.aggregate.add(acc, &value);
                    self.aggregate.result(acc)
                }
                None => self.aggregate.result(state.insert(self.aggregate.create(&value))),
            };
            out.push(Keyed { hash, time_ms, key, value });
        }
    }

    fn advance(&mut self, _watermark: u64, _out: &mut Vec<Self::Out>) {}

    fn earliest_pending(&self) -> Option<u64> {
        None
    }

    fn is_dirty(&self) -> bool {
        self.table.is_dirty()
    }

    fn snapshot(&mut self, kind: SnapshotKind, out: &mut Vec<u8>) -> Result<()> {
        let header = Header::new(LOGIC, self.schema, kind, self.owned);
        let entries = match kind {
            SnapshotKind::Delta => self.table.dirty_slots().map(Slot::entry).collect(),
            SnapshotKind::Base => self.table.slots().iter().map(Slot::entry).collect(),
        };
        section::write(header, &[], entries, out)?;
        self.table.mark_clean();
        Ok(())
    }

    fn restore(&mut self, section: &[u8]) -> Result<()> {
        let mut hasher = KeyHasher::default();
        let hash = |(key, _): &(K, Option<A::Acc>)| hasher.hash(key);
        let section = section::read(section, LOGIC, self.schema, self.owned, hash)?;
        if section.kind == SnapshotKind::Base {
            self.table.clear_groups(section.groups);
        }
        for (hash, (key, state)) in section.entries {
            self.table.restore(hash, key, state);
        }
        self.table.retain(|slot| slot.state.is_some());
        Ok(())
    }
}

/// Names the state: a change of it makes old state refused.
const LOGIC: &str = "running aggregate";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Count, Reduce, Sum, key_hash};
    use crate::time::START;

    type Totals = Running<i64, String, Sum<fn(&i64) -> i64>>;

    fn totals(owned: KeyGroupRange) -> Totals {
        Running::new(Sum::of((|value| *value) as fn(&i64) -> i64), 1, owned)
    }

    fn item<V>(key: &str, value: V) -> Keyed<String, V> {
        Keyed { hash: key_hash(key).unwrap(), time_ms: 7, key: key.to_owned(), value }
    }

    fn apply<L: KeyedLogic>(logic: &mut L, items: Vec<L::In>) -> Vec<L::Out> {
        let (mut items, mut out, mut late) = (items, Vec::new(), Vec::new());
        logic.apply(&mut items, START, &mut out, &mut late);
        assert!(items.is_empty() && late.is_empty());
        out
    }

    #[test]
    fn every_record_brings_its_keys_new_result() {
        let mut logic = totals(KeyGroupRange::ALL);
        let out = apply(&mut logic, vec![item("a", 1), item("b", 10), item("a", 2)]);
        assert_eq!(out, [item("a", 1i128), item("b", 10), item("a", 3)]);
        assert_eq!(logic.earliest_pending(), None);

        let mut longest =
            Running::new(Reduce::by(|a: &String, b: &String| a.max(b).clone()), 1, KeyGroupRange::ALL);
        let out = apply(&mut longest, vec![item("k", "x".to_owned()), item("k", "w".to_owned())]);
        assert_eq!(out[1].value, "x");
    }

    #[test]
    fn a_base_and_its_deltas_come_back_on_any_number_of_workers() {
        let mut logic = totals(KeyGroupRange::ALL);
        let mut chain = [Vec::new(), Vec::new(), Vec::new()];
        let keys: Vec<String> = (0..100).map(|key| format!("key {key}")).collect();
        apply(&mut logic, keys.iter().map(|key| item(key, 1)).collect());
        assert!(logic.is_dirty());
        logic.snapshot(SnapshotKind::Base, &mut chain[0]).unwrap();
        assert!(!logic.is_dirty());
        apply(&mut logic, vec![item("key 3", 5), item("new", 6)]);
        logic.snapshot(SnapshotKind::Delta, &mut chain[1]).unwrap();
        apply(&mut logic, vec![item("key 3", 7)]);
        logic.snapshot(SnapshotKind::Delta, &mut chain[2]).unwrap();
        assert!(chain[2].len() < chain[1].len() && chain[1].len() * 10 < chain[0].len());

        for workers in 1..5 {
            let mut out = Vec::new();
            for worker in 0..workers {
                let owned = KeyGroupRange::of_worker(worker, workers);
                let mut logic = totals(owned);
                chain.iter().for_each(|section| logic.restore(section).unwrap());
                assert!(!logic.is_dirty());
                let mine = keys.iter().map(|key| item(key, 0)).chain([item("new", 0)]);
                out.extend(apply(&mut logic, mine.filter(|item| item.owner(workers) == worker).collect()));
            }
            let sum: i128 = out.iter().map(|result| result.value).sum();
            assert_eq!((out.len(), sum), (101, 100 + 5 + 6 + 7));
            assert!(out.contains(&item("key 3", 13)));
        }
    }

    #[test]
    fn a_later_base_replaces_what_its_key_groups_held() {
        let mut old = totals(KeyGroupRange::ALL);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        apply(&mut old, vec![item("gone", 1), item("stays", 2)]);
        old.snapshot(SnapshotKind::Base, &mut first).unwrap();
        let mut new = totals(KeyGroupRange::ALL);
        apply(&mut new, vec![item("stays", 3)]);
        new.snapshot(SnapshotKind::Base, &mut second).unwrap();

        let mut restored = totals(KeyGroupRange::ALL);
        restored.restore(&first).unwrap();
        restored.restore(&second).unwrap();
        assert_eq!(apply(&mut restored, vec![item("gone", 0), item("stays", 0)])[0].value, 0);
        assert_eq!(apply(&mut restored, vec![item("stays", 0)])[0].value, 3);
    }

    #[test]
    fn removed_keys_are_told_by_the_next_delta() {
        let mut logic = totals(KeyGroupRange::ALL);
        let (mut base, mut delta) = (Vec::new(), Vec::new());
        apply(&mut logic, vec![item("a", 1), item("b", 2)]);
        logic.snapshot(SnapshotKind::Base, &mut base).unwrap();
        *logic.table.change(key_hash("a").unwrap(), Cow::Owned("a".to_owned())) = None;
        logic.snapshot(SnapshotKind::Delta, &mut delta).unwrap();
        let mut restored = totals(KeyGroupRange::ALL);
        restored.restore(&base).unwrap();
        restored.restore(&delta).unwrap();
        assert_eq!(restored.table.slots().len(), 1);
        assert_eq!(apply(&mut restored, vec![item("a", 5), item("b", 5)])[0].value, 5);
    }

    #[test]
    fn state_of_another_kind_is_refused() {
        let mut section = Vec::new();
        totals(KeyGroupRange::ALL).snapshot(SnapshotKind::Base, &mut section).unwrap();
        let mut counts: Running<i64, String, Count> = Running::new(Count, 3, KeyGroupRange::ALL);
        let error = counts.restore(&section).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Refused);
    }
}

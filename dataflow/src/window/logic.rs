//! The keyed window operator: aggregates per key and window, fires whole windows, never one twice.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::tumbling::Tumbling;
use crate::error::Result;
use crate::state::aggregate::Aggregate;
use crate::state::section::{self, Header, Section, WatermarkRun};
use crate::state::table::{Slot, Table};
use crate::state::{KEY_GROUPS, KeyGroup, KeyGroupRange, KeyHasher, Keyed, KeyedLogic, SnapshotKind};
use crate::time::{time_of, watermark_of};

/// The result of one key's window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowResult<K, V> {
    /// The key.
    pub key: K,
    /// First millisecond of the window.
    pub start_ms: i64,
    /// First millisecond after the window.
    pub end_ms: i64,
    /// The aggregate's result.
    pub value: V,
}

impl<K, V> WindowResult<K, V> {
    /// Its event time: the last millisecond of the window.
    pub const fn time_ms(&self) -> i64 {
        self.end_ms - 1
    }
}

/// Aggregates records by key and tumbling window.
///
/// Two things are kept per window: whether it has fired, by which of two maps it is in, and a table of
/// accumulators. Each key group has its own firing watermark, which goes with it when it moves to another
/// worker: a window that has fired never fires again, and what was late stays late.
#[derive(Debug)]
pub struct WindowLogic<In, K, A: Aggregate<In>> {
    windows: Tumbling,
    aggregate: A,
    /// Names the state in sections.
    name: String,
    schema: u16,
    owned: KeyGroupRange,
    watermarks: FiringWatermarks,
    /// Windows that have not fired, by their end.
    pending: BTreeMap<i64, Table<K, A::Acc>>,
    /// Windows that have fired and are kept for the allowed lateness, by their end.
    fired: BTreeMap<i64, Table<K, A::Acc>>,
    /// The memory of a window that is gone, for the next one.
    spare: Option<Table<K, A::Acc>>,
    /// A window fired or went since the last snapshot.
    is_changed: bool,
}

impl<In, K, A> WindowLogic<In, K, A>
where
    K: Eq + Clone + Serialize + DeserializeOwned,
    A: Aggregate<In>,
{
    /// For the keys of `owned`. `schema` is the version of the key's and accumulator's types.
    ///
    /// # Errors
    /// When the windows are of no size.
    pub fn new(windows: Tumbling, aggregate: A, schema: u16, owned: KeyGroupRange) -> Result<Self> {
        windows.check()?;
        Ok(Self {
            windows,
            aggregate,
            name: windows.describe(),
            schema,
            owned,
            watermarks: FiringWatermarks::default(),
            pending: BTreeMap::new(),
            fired: BTreeMap::new(),
            spare: None,
            is_changed: false,
        })
    }

    /// Takes a record that is on time.
    fn add(&mut self, end_ms: i64, item: Keyed<K, In>) {
        let table = self.pending.entry(end_ms).or_insert_with(|| self.spare.take().unwrap_or_default());
        let state = table.change(item.hash, Cow::Owned(item.key));
        match state {
            Some(acc) => self.aggregate.add(acc, &item.value),
            None => *state = Some(self.aggregate.create(&item.value)),
        }
    }

    /// Takes a record of a window that has fired and is still kept: its result is emitted anew.
    fn refine(&mut self, end_ms: i64, item: Keyed<K, In>, out: &mut Vec<WindowResult<K, A::Out>>) {
        let state = self.fired.entry(end_ms).or_default().change(item.hash, Cow::Borrowed(&item.key));
        let value = match state {
            Some(acc) => {
                self.aggregate.add(acc, &item.value);
                self.aggregate.result(acc)
            }
            None => self.aggregate.result(state.insert(self.aggregate.create(&item.value))),
        };
        out.push(WindowResult { key: item.key, start_ms: self.windows.start(end_ms), end_ms, value });
    }

    /// Emits a window whole.
    fn fire(&mut self, end_ms: i64, mut table: Table<K, A::Acc>, out: &mut Vec<WindowResult<K, A::Out>>) {
        let start_ms = self.windows.start(end_ms);
        let aggregate = &self.aggregate;
        let result = |key, acc: &A::Acc| WindowResult { key, start_ms, end_ms, value: aggregate.result(acc) };
        if self.windows.keeps_fired() {
            out.extend(
                table.slots().iter().filter_map(|slot| Some(result(slot.key.clone(), slot.state.as_ref()?))),
            );
            keep(&mut self.fired, end_ms, table);
        } else {
            out.extend(table.drain().filter_map(|slot| Some(result(slot.key, &slot.state?))));
            self.spare = Some(table);
        }
        self.is_changed = true;
    }

    /// Forgets the windows for which even the allowed lateness is over.
    fn forget(&mut self, watermark_ms: i64) {
        while let Some(entry) = self.fired.first_entry()
            && self.windows.gone_at(*entry.key()) <= watermark_ms
        {
            let mut table = entry.remove();
            table.drain().for_each(drop);
            self.spare = Some(table);
            self.is_changed = true;
        }
    }

    fn tables(&self) -> impl Iterator<Item = (i64, &Table<K, A::Acc>)> {
        self.fired.iter().chain(&self.pending).map(|(&end_ms, table)| (end_ms, table))
    }

    /// Puts what was restored so far where their key group's watermark says they belong: pending, kept, or gone.
    fn settle(&mut self) {
        let Some(furthest) = self.watermarks.furthest(self.owned) else { return };
        let watermarks = &self.watermarks;
        let windows = self.windows;
        let ripe: Vec<i64> = self.pending.range(..=furthest).map(|(&end_ms, _)| end_ms).collect();
        for end_ms in ripe {
            let Some(mut table) = self.pending.remove(&end_ms) else { continue };
            let (fired, pending): (Vec<_>, Vec<_>) =
                table.drain().partition(|slot| end_ms <= watermarks.of(slot.hash));
            adopt(&mut self.fired, end_ms, fired);
            adopt(&mut self.pending, end_ms, pending);
        }
        self.fired.retain(|&end_ms, table| {
            table.retain(|slot| watermarks.of(slot.hash) < windows.gone_at(end_ms));
            !table.is_empty()
        });
    }
}

impl<In, K, A> KeyedLogic for WindowLogic<In, K, A>
where
    K: Eq + Clone + Serialize + DeserializeOwned,
    A: Aggregate<In>,
{
    type In = Keyed<K, In>;
    type Out = WindowResult<K, A::Out>;
    type Late = Keyed<K, In>;

    fn apply(
        &mut self,
        items: &mut Vec<Self::In>,
        watermark: u64,
        out: &mut Vec<Self::Out>,
        late: &mut Vec<Self::Late>,
    ) {
        // First what is ripe: then no record can be on time for a window that the capability has passed.
        self.advance(watermark, out);
        for item in items.drain(..) {
            let (_, end_ms) = self.windows.assign(item.time_ms);
            let watermark_ms = self.watermarks.of(item.hash);
            if watermark_ms < end_ms {
                self.add(end_ms, item);
            } else if watermark_ms < self.windows.gone_at(end_ms) {
                self.refine(end_ms, item, out);
            } else {
                late.push(item);
            }
        }
    }

    fn advance(&mut self, watermark: u64, out: &mut Vec<Self::Out>) {
        let watermark_ms = time_of(watermark);
        if !self.watermarks.advance(watermark_ms) {
            return;
        }
        while let Some(entry) = self.pending.first_entry()
            && *entry.key() <= watermark_ms
        {
            let (end_ms, table) = entry.remove_entry();
            self.fire(end_ms, table, out);
        }
        self.forget(watermark_ms);
    }

    fn earliest_pending(&self) -> Option<u64> {
        let (end_ms, _) = self.pending.first_key_value()?;
        Some(watermark_of(end_ms - 1))
    }

    fn is_dirty(&self) -> bool {
        self.is_changed || self.tables().any(|(_, table)| table.is_dirty())
    }

    fn snapshot(&mut self, kind: SnapshotKind, out: &mut Vec<u8>) -> Result<()> {
        let mut entries = Vec::new();
        for (end_ms, table) in self.tables() {
            let entry = |slot| stored(end_ms, slot);
            match kind {
                SnapshotKind::Delta => entries.extend(table.dirty_slots().filter_map(entry)),
                SnapshotKind::Base => entries.extend(table.slots().iter().filter_map(entry)),
            }
        }
        let header = Header::new(&self.name, self.schema, kind, self.owned);
        section::write(header, &self.watermarks.runs(self.owned), entries, out)?;
        for table in self.fired.values_mut().chain(self.pending.values_mut()) {
            table.mark_clean();
        }
        self.is_changed = false;
        Ok(())
    }

    fn restore(&mut self, section: &[u8]) -> Result<()> {
        let mut hasher = KeyHasher::default();
        let hash = |(_, key, _): &(i64, K, A::Acc)| hasher.hash(key);
        let Section { kind, groups, watermarks, entries } =
            section::read(section, &self.name, self.schema, self.owned, hash)?;
        if kind == SnapshotKind::Base {
            for table in self.fired.values_mut().chain(self.pending.values_mut()) {
                table.clear_groups(groups);
            }
        }
        for run in watermarks {
            self.watermarks.restore(run);
        }
        // What is there goes first where it now belongs: the entries replace it in that place.
        self.settle();
        for (hash, (end_ms, key, acc)) in entries {
            let watermark_ms = self.watermarks.of(hash);
            if watermark_ms < self.windows.gone_at(end_ms) {
                let is_pending = watermark_ms < end_ms;
                let home = if is_pending { &mut self.pending } else { &mut self.fired };
                home.entry(end_ms).or_default().restore(hash, key, Some(acc));
            }
        }
        Ok(())
    }
}

/// An entry as a section has it. Nothing is removed from a window: it goes whole, by the firing watermark.
fn stored<K, S>(end_ms: i64, slot: &Slot<K, S>) -> Option<(u64, (i64, &K, &S))> {
    Some((slot.hash, (end_ms, &slot.key, slot.state.as_ref()?)))
}

/// Keeps a fired window beside what another worker's part of it has left there.
fn keep<K: Eq + Clone, S>(fired: &mut BTreeMap<i64, Table<K, S>>, end_ms: i64, mut table: Table<K, S>) {
    match fired.get_mut(&end_ms) {
        Some(kept) => table.drain().for_each(|slot| kept.adopt(slot)),
        None => {
            fired.insert(end_ms, table);
        }
    }
}

fn adopt<K: Eq + Clone, S>(windows: &mut BTreeMap<i64, Table<K, S>>, end_ms: i64, slots: Vec<Slot<K, S>>) {
    if !slots.is_empty() {
        let table = windows.entry(end_ms).or_default();
        slots.into_iter().for_each(|slot| table.adopt(slot));
    }
}

/// How far each key group's windows have fired. They differ only after a restore from workers that
/// stood at different watermarks, until the operator's own has passed them all.
#[derive(Debug)]
struct FiringWatermarks {
    by_group: [i64; KEY_GROUPS as usize],
    operator: i64,
}

impl Default for FiringWatermarks {
    fn default() -> Self {
        Self { by_group: [i64::MIN; KEY_GROUPS as usize], operator: i64::MIN }
    }
}

impl FiringWatermarks {
    fn of(&self, hash: u64) -> i64 {
        self.by_group[KeyGroup::of(hash).index()]
    }

    /// Whether this is news. A key group that is further already stays where it is.
    fn advance(&mut self, watermark_ms: i64) -> bool {
        if watermark_ms <= self.operator {
            return false;
        }
        self.operator = watermark_ms;
        for group in &mut self.by_group {
            *group = watermark_ms.max(*group);
        }
        true
    }

    fn restore(&mut self, run: WatermarkRun) {
        for group in run.groups.iter() {
            let watermark_ms = &mut self.by_group[group.index()];
            *watermark_ms = run.watermark_ms.max(*watermark_ms);
        }
    }

    fn furthest(&self, owned: KeyGroupRange) -> Option<i64> {
        owned.iter().map(|group| self.by_group[group.index()]).max()
    }

    fn runs(&self, owned: KeyGroupRange) -> Vec<WatermarkRun> {
        let mut runs: Vec<WatermarkRun> = Vec::new();
        for group in owned.iter() {
            let watermark_ms = self.by_group[group.index()];
            match runs.last_mut() {
                Some(run) if run.watermark_ms == watermark_ms => run.groups.count += 1,
                _ => runs.push(WatermarkRun {
                    groups: KeyGroupRange { first: group.index() as u8, count: 1 },
                    watermark_ms,
                }),
            }
        }
        runs
    }
}

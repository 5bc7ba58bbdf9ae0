//! The window operator against an oracle that keeps every record and thinks naively.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::state::{KeyGroup, KeyGroupRange, Keyed, KeyedLogic, SnapshotKind, key_hash, owner};
use crate::time::{END, START, watermark_of};

const SIZE_MS: i64 = 10;

type Sums = And<Count, Sum<fn(&i64) -> i64>>;
type Logic = WindowLogic<i64, String, Sums>;
type Row = (String, i64, (u64, i128));

#[derive(Clone, Debug)]
enum Step {
    /// Records of (key, time, value), in one batch per worker.
    Batch(Vec<(u8, i64, i64)>),
    /// One worker's watermark moves on by this much.
    Advance(usize, i64),
    Snapshot(SnapshotKind),
    /// A snapshot, then a restart on this many workers.
    Restart(SnapshotKind, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0u8..12, -60i64..120, -5i64..5);
    let kind = || prop_oneof![Just(SnapshotKind::Delta), Just(SnapshotKind::Base)];
    prop_oneof![
        6 => prop::collection::vec(record, 0..12).prop_map(Step::Batch),
        4 => (0usize..4, 0i64..25).prop_map(|(worker, by)| Step::Advance(worker, by)),
        2 => kind().prop_map(Step::Snapshot),
        1 => (kind(), 1usize..5).prop_map(|(kind, workers)| Step::Restart(kind, workers)),
    ]
}

fn hash(key: u8) -> (String, u64) {
    let key = format!("user-{key}");
    let hash = key_hash(&key).unwrap();
    (key, hash)
}

fn logic(lateness_ms: u64, owned: KeyGroupRange) -> Logic {
    let windows = Tumbling::of(Duration::from_millis(SIZE_MS as u64))
        .allowed_lateness(Duration::from_millis(lateness_ms));
    WindowLogic::new(windows, Count.and(Sum::of((|value| *value) as fn(&i64) -> i64)), 1, owned).unwrap()
}

fn row(result: WindowResult<String, (u64, i128)>) -> Row {
    assert_eq!(result.end_ms - result.start_ms, SIZE_MS);
    assert_eq!(result.time_ms(), result.end_ms - 1);
    (result.key, result.start_ms, result.value)
}

/// The job under test: workers, their watermarks, and the chain of sections written so far.
struct Job {
    lateness_ms: u64,
    workers: Vec<(Logic, i64)>,
    chain: Vec<Vec<u8>>,
    rows: Vec<Row>,
    late: Vec<(String, i64, i64)>,
}

impl Job {
    fn new(lateness_ms: u64, workers: usize) -> Self {
        let mut job =
            Self { lateness_ms, workers: Vec::new(), chain: Vec::new(), rows: Vec::new(), late: Vec::new() };
        job.start(workers, -100);
        job
    }

    fn start(&mut self, workers: usize, watermark_ms: i64) {
        self.workers = (0..workers)
            .map(|worker| (logic(self.lateness_ms, KeyGroupRange::of_worker(worker, workers)), watermark_ms))
            .collect();
        for (logic, _) in &mut self.workers {
            for section in &self.chain {
                logic.restore(section).unwrap();
            }
            assert!(!logic.is_dirty(), "a restore is no change");
        }
    }

    fn batch(&mut self, records: &[(u8, i64, i64)]) {
        let count = self.workers.len();
        for (worker, (logic, watermark_ms)) in self.workers.iter_mut().enumerate() {
            let mut items: Vec<_> = records
                .iter()
                .map(|&(key, time_ms, value)| (hash(key), time_ms, value))
                .filter(|((_, hash), ..)| owner(KeyGroup::of(*hash), count) == worker)
                .map(|((key, hash), time_ms, value)| Keyed { hash, time_ms, key, value })
                .collect();
            let (mut out, mut late) = (Vec::new(), Vec::new());
            logic.apply(&mut items, watermark_of(*watermark_ms), &mut out, &mut late);
            assert!(items.is_empty());
            self.rows.extend(out.into_iter().map(row));
            self.late.extend(late.into_iter().map(|item| (item.key, item.time_ms, item.value)));
        }
    }

    fn advance(&mut self, worker: usize, watermark: u64) {
        let (logic, _) = &mut self.workers[worker];
        let mut out = Vec::new();
        logic.advance(watermark, &mut out);
        assert!(logic.earliest_pending().is_none_or(|pending| pending >= watermark));
        self.rows.extend(out.into_iter().map(row));
    }

    fn snapshot(&mut self, kind: SnapshotKind) {
        for (logic, _) in &mut self.workers {
            let mut section = Vec::new();
            logic.snapshot(kind, &mut section).unwrap();
            assert!(!logic.is_dirty());
            self.chain.push(section);
        }
    }
}

/// All records on time or within the lateness, and the watermark of each key.
#[derive(Default)]
struct Oracle {
    records: BTreeMap<(String, i64), Vec<i64>>,
    watermarks: BTreeMap<u8, i64>,
    rows: Vec<Row>,
    late: Vec<(String, i64, i64)>,
}

impl Oracle {
    fn result(&self, window: &(String, i64)) -> Row {
        let values = &self.records[window];
        let sum = values.iter().map(|&value| i128::from(value)).sum();
        (window.0.clone(), window.1, (values.len() as u64, sum))
    }

    fn record(&mut self, key: u8, time_ms: i64, value: i64, lateness_ms: i64) {
        let (name, _) = hash(key);
        let start_ms = (time_ms as f64 / SIZE_MS as f64).floor() as i64 * SIZE_MS;
        let watermark_ms = self.watermarks[&key];
        if watermark_ms >= start_ms + SIZE_MS + lateness_ms && watermark_ms >= start_ms + SIZE_MS {
            self.late.push((name, time_ms, value));
            return;
        }
        let window = (name, start_ms);
        self.records.entry(window.clone()).or_default().push(value);
        if watermark_ms >= start_ms + SIZE_MS {
            self.rows.push(self.result(&window));
        }
    }

    fn advance(&mut self, key: u8, watermark_ms: i64) {
        let before = self.watermarks[&key];
        if watermark_ms <= before {
            return;
        }
        self.watermarks.insert(key, watermark_ms);
        let (name, _) = hash(key);
        let ripe: Vec<_> = self
            .records
            .keys()
            .filter(|(key, start_ms)| {
                let end_ms = start_ms + SIZE_MS;
                *key == name && before < end_ms && end_ms <= watermark_ms
            })
            .cloned()
            .collect();
        let rows: Vec<Row> = ripe.iter().map(|window| self.result(window)).collect();
        self.rows.extend(rows);
    }
}

fn run(steps: &[Step], lateness_ms: u64) -> (Job, Oracle) {
    let mut job = Job::new(lateness_ms, 2);
    let mut oracle = Oracle { watermarks: (0..12).map(|key| (key, -100)).collect(), ..Oracle::default() };
    for step in steps {
        match step {
            Step::Batch(records) => {
                job.batch(records);
                for &(key, time_ms, value) in records {
                    oracle.record(key, time_ms, value, lateness_ms as i64);
                }
            }
            Step::Advance(worker, by) => {
                let count = job.workers.len();
                let worker = worker % count;
                job.workers[worker].1 += by;
                let watermark_ms = job.workers[worker].1;
                job.advance(worker, watermark_of(watermark_ms));
                for key in 0..12 {
                    if owner(KeyGroup::of(hash(key).1), count) == worker {
                        oracle.advance(key, watermark_ms);
                    }
                }
            }
            Step::Snapshot(kind) => job.snapshot(*kind),
            Step::Restart(kind, workers) => {
                job.snapshot(*kind);
                let watermark_ms = job.workers.iter().map(|(_, watermark_ms)| *watermark_ms).min().unwrap();
                job.start(*workers, watermark_ms);
            }
        }
    }
    for worker in 0..job.workers.len() {
        job.advance(worker, END);
    }
    for key in 0..12 {
        oracle.advance(key, i64::MAX);
    }
    (job, oracle)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_disorder_batches_and_restarts_give_the_oracles_results(
        steps in prop::collection::vec(step(), 0..40),
        lateness_ms in prop_oneof![Just(0u64), 1u64..40],
    ) {
        let (mut job, mut oracle) = run(&steps, lateness_ms);
        job.rows.sort();
        oracle.rows.sort();
        prop_assert_eq!(job.rows, oracle.rows);
        job.late.sort();
        oracle.late.sort();
        prop_assert_eq!(job.late, oracle.late);
    }

    #[test]
    fn a_damaged_section_never_panics_and_never_leaves_half_of_it(
        steps in prop::collection::vec(step(), 5..20),
        cut in any::<prop::sample::Index>(),
        flip in 0u8..8,
    ) {
        let mut job = Job::new(15, 1);
        for step in &steps {
            match step {
                Step::Batch(records) => job.batch(records),
                Step::Advance(_, by) => {
                    job.workers[0].1 += by;
                    job.advance(0, watermark_of(job.workers[0].1));
                }
                _ => {}
            }
        }
        job.snapshot(SnapshotKind::Base);
        let section = &job.chain[0];
        let at = cut.index(section.len());
        let mut flipped = section.clone();
        flipped[at] ^= 1 << flip;
        let mut target = logic(15, KeyGroupRange::ALL);
        let is_error = target.restore(&section[..at]).is_err();
        prop_assert!(is_error, "cut at {}", at);
        if target.restore(&flipped).is_err() {
            let (mut left, mut untouched) = (Vec::new(), Vec::new());
            target.snapshot(SnapshotKind::Base, &mut left).unwrap();
            logic(15, KeyGroupRange::ALL).snapshot(SnapshotKind::Base, &mut untouched).unwrap();
            prop_assert_eq!(left, untouched);
        }
    }
}

#[test]
fn a_window_fires_when_the_watermark_reaches_its_end_and_only_once() {
    let mut job = Job::new(0, 1);
    job.batch(&[(1, 0, 5), (1, 9, 6), (1, 10, 7), (1, -1, 8)]);
    assert_eq!(job.workers[0].0.earliest_pending(), Some(watermark_of(-1)));
    job.advance(0, watermark_of(9));
    assert_eq!(job.rows, [("user-1".to_owned(), -10, (1, 8))]);
    job.advance(0, watermark_of(10));
    assert_eq!(job.rows[1..], [("user-1".to_owned(), 0, (2, 11))]);
    assert_eq!(job.workers[0].0.earliest_pending(), Some(watermark_of(19)));
    job.advance(0, watermark_of(10));
    job.advance(0, START);
    assert_eq!(job.rows.len(), 2);
    job.advance(0, END);
    assert_eq!(job.rows[2..], [("user-1".to_owned(), 10, (1, 7))]);
    assert_eq!(job.workers[0].0.earliest_pending(), None);
}

#[test]
fn a_delta_costs_what_changed() {
    let mut logic = logic(0, KeyGroupRange::ALL);
    let item = |key: u32| {
        let key = format!("user-{key}");
        Keyed { hash: key_hash(&key).unwrap(), time_ms: 5, key, value: 1 }
    };
    let (mut out, mut late) = (Vec::new(), Vec::new());
    logic.apply(&mut (0..10_000).map(item).collect(), START, &mut out, &mut late);
    let mut base = Vec::new();
    logic.snapshot(SnapshotKind::Base, &mut base).unwrap();
    logic.apply(&mut vec![item(17), item(17), item(99)], START, &mut out, &mut late);
    let mut delta = Vec::new();
    logic.snapshot(SnapshotKind::Delta, &mut delta).unwrap();
    assert!(base.len() > 100_000 && delta.len() < 200, "{} and {}", base.len(), delta.len());
}

#[test]
fn state_of_other_windows_or_types_is_refused_by_name() {
    let mut section = Vec::new();
    logic(0, KeyGroupRange::ALL).snapshot(SnapshotKind::Base, &mut section).unwrap();
    let error = logic(5, KeyGroupRange::ALL).restore(&section).unwrap_err().to_string();
    assert!(
        error.contains("tumbling windows of 10 ms with 5 ms of allowed lateness: it is the state of"),
        "{error}"
    );
    let windows = Tumbling::of(Duration::from_millis(SIZE_MS as u64));
    let mut other_schema: WindowLogic<i64, String, Count> =
        WindowLogic::new(windows, Count, 2, KeyGroupRange::ALL).unwrap();
    let error = other_schema.restore(&section).unwrap_err().to_string();
    assert!(error.contains("schema version 1, the job's have 2"), "{error}");
}

//! From the JSON of a click to its window's row, without a broker: nanoseconds a record and stage.
//!
//! `cargo bench -p tidewater-benches --bench window`. One hour of clicks: 10,000 users, skewed, a fifth of
//! the records out of order; 10 s windows. The peer is the plain loop over hash maps that one would write by hand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports to a person and may stop")]

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::time::{Duration, Instant};

use dataflow::Decimal;
use dataflow::format::{Decode, Encode, Json};
use dataflow::state::{Count, KeyGroupRange, KeyHasher, Keyed, KeyedLogic, SnapshotKind, Sum};
use dataflow::time::watermark_of;
use dataflow::window::{Tumbling, WindowLogic, WindowResult};
use serde::{Deserialize, Serialize};

const RECORDS: usize = 1_000_000;
const BATCH: usize = 1_000;
const DISORDER_MS: i64 = 2_000;

#[derive(Clone, Deserialize)]
struct Click {
    user: String,
    amount: Decimal,
    ts: i64,
}

#[derive(Serialize)]
struct Row {
    user: String,
    start: i64,
    end: i64,
    count: u64,
    sum: Decimal,
}

fn main() {
    let texts = clicks();
    let mut json = Json::<Click>::new();
    report("parse JSON", || texts.iter().map(|text| json.decode(Some(text)).unwrap().ts).sum::<i64>());
    let parsed: Vec<Click> = texts.iter().map(|text| json.decode(Some(text)).unwrap()).collect();
    let mut hasher = KeyHasher::default();
    report("hash the key", || parsed.iter().map(|click| hasher.hash(&click.user).unwrap() & 1).sum::<u64>());
    report("clone the records (in the next three)", || {
        parsed.iter().cloned().map(|click| black_box(click).ts).sum::<i64>()
    });
    report("by hand: hash map in a tree of windows", || by_hand(&parsed));
    report("hash, window, fire", || window(&parsed, None));
    let mut state_bytes = 0;
    report("the same, a delta every 100,000 records", || window(&parsed, Some(&mut state_bytes)));
    println!("{:44} {:8.1} bytes a record", "state written", state_bytes as f64 / RECORDS as f64);
    report("rows to JSON, for each row", rows_to_json);
}

/// Prints the fastest of three passes.
#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn report<T>(name: &str, mut pass: impl FnMut() -> T) {
    let best = (0..3)
        .map(|_| {
            let start = Instant::now();
            black_box(pass());
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!("{name:44} {:8.1} ns", best.as_secs_f64() * 1e9 / RECORDS as f64);
}

fn by_hand(clicks: &[Click]) -> u64 {
    let mut windows: BTreeMap<i64, HashMap<String, (u64, i128)>> = BTreeMap::new();
    let (mut rows, mut newest) = (0, 0);
    for batch in clicks.chunks(BATCH) {
        for click in batch.iter().cloned() {
            let totals = windows.entry(click.ts.div_euclid(10_000) * 10_000).or_default();
            let total = totals.entry(click.user).or_default();
            total.0 += 1;
            total.1 += click.amount.hundredths();
            newest = newest.max(click.ts);
        }
        while let Some(window) = windows.first_entry()
            && window.key() + 10_000 <= newest - DISORDER_MS
        {
            let start = *window.key();
            rows += window
                .remove()
                .into_iter()
                .map(|(user, total)| u64::from(black_box((user, start, total)).1 > 0))
                .sum::<u64>();
        }
    }
    rows
}

fn window(clicks: &[Click], mut state_bytes: Option<&mut usize>) -> usize {
    let aggregate = Count.and(Sum::of(|click: &Click| click.amount));
    let windows = Tumbling::of(Duration::from_secs(10));
    let mut logic: WindowLogic<Click, String, _> =
        WindowLogic::new(windows, aggregate, 1, KeyGroupRange::ALL).unwrap();
    let mut hasher = KeyHasher::default();
    let (mut items, mut out, mut late) = (Vec::with_capacity(BATCH), Vec::new(), Vec::new());
    let (mut rows, mut newest) = (0, i64::MIN);
    let mut section = Vec::new();
    let mut written = 0;
    for (number, batch) in clicks.chunks(BATCH).enumerate() {
        let watermark = watermark_of(newest.saturating_sub(DISORDER_MS));
        for mut click in batch.iter().cloned() {
            newest = newest.max(click.ts);
            let key = std::mem::take(&mut click.user);
            items.push(Keyed { hash: hasher.hash(&key).unwrap(), time_ms: click.ts, key, value: click });
        }
        logic.apply(&mut items, watermark, &mut out, &mut late);
        rows += out
            .drain(..)
            .map(|row: WindowResult<_, _>| usize::from(black_box(row).end_ms > 0))
            .sum::<usize>();
        if state_bytes.is_some() && number % 100 == 99 {
            section.clear();
            logic.snapshot(SnapshotKind::Delta, &mut section).unwrap();
            written += section.len();
        }
    }
    if let Some(bytes) = &mut state_bytes {
        **bytes = written;
    }
    assert!(late.is_empty());
    rows
}

fn rows_to_json() -> usize {
    let (mut json, mut out) = (Json::<Row>::new(), Vec::new());
    for number in 0..RECORDS as u64 {
        out.clear();
        let sum = Decimal::from_hundredths(i128::from(number));
        let row =
            Row { user: String::new(), start: 1_760_000_040_000, end: 1_760_000_050_000, count: 7, sum };
        json.encode(&row, &mut out).unwrap();
    }
    out.len()
}

fn clicks() -> Vec<Vec<u8>> {
    let mut state = 42u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    (0..RECORDS as i64)
        .map(|number| {
            let uniform = random() as f64 / (1u64 << 53) as f64;
            let user = (10_000.0 * uniform * uniform) as u32;
            let lateness = if random() % 5 == 0 { (random() % 2_000) as i64 } else { 0 };
            let ts = 1_760_000_040_000 + number * 72 / 100 - lateness;
            let (page, cents) = (random() % 1_000, random() % 10_000);
            format!(
                r#"{{"user":"u{user}","page":"/p/{page}","type":"view","amount":{}.{:02},"ts":{ts}}}"#,
                cents / 100,
                cents % 100
            )
            .into_bytes()
        })
        .collect()
}

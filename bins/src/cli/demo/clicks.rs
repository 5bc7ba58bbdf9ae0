//! The demo's clicks: a repeatable sequence, written to a topic.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dataflow::Decimal;
use kafka_wire::config::{ProducerConfig, Properties};
use kafka_wire::{Producer, Record};

use super::now;
use crate::cli::common::{Result, block_on};

const USERS: [&str; 8] = ["ada", "ben", "cleo", "dan", "eve", "finn", "gina", "hugo"];

/// The first click's event time, the start of a window.
pub(super) const BEGIN_MS: u64 = 1_760_000_000_000;

/// All clicks are of this minute, however many there are: six windows of ten seconds.
const SPAN_MS: u64 = 60_000;

/// A fifth of the clicks come late by up to this: less than the two seconds that the job waits.
const LATE_MAX_MS: u64 = 1_999;

/// How many clicks are written between two looks at the clock.
const STRIDE: u64 = 500;

/// What was written, all of it acknowledged.
pub(super) struct Clicked {
    pub(super) records: u64,
    pub(super) sum: Decimal,
}

/// Writes `records` clicks, spread over `time` or as fast as it goes.
pub(super) fn write(bootstrap: &str, topic: &str, records: u64, time: Option<Duration>) -> Result<Clicked> {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", bootstrap)?;
    properties.set("compression.type", "lz4")?;
    let config = ProducerConfig::from_properties(&properties)?;
    let failure = Arc::new(Mutex::new(None));
    let failed = Arc::clone(&failure);
    let producer = Producer::with_delivery_callback(config, move |batch| {
        if let Err(error) = batch {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    })?;
    let begun = now();
    let (mut random, mut cents, mut value) = (1_u64, 0_u64, String::new());
    for index in 0..records {
        if let Some(time) = time.filter(|_| index % STRIDE == 0) {
            let due = time.mul_f64(index as f64 / records as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        let click = Click::new(index, records, splitmix64(&mut random));
        cents += click.cents;
        value.clear();
        // Writing to a string cannot fail.
        let _ = write!(
            value,
            r#"{{"user":"{}","page":"/p/{}","type":"click","amount":{}.{:02},"ts":{}}}"#,
            click.user,
            click.cents % 97,
            click.cents / 100,
            click.cents % 100,
            click.time_ms
        );
        producer.enqueue_blocking(Record::to(topic).key(click.user).value(&value))?;
    }
    block_on(async {
        producer.flush().await;
        Ok(())
    })?;
    match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(kafka_wire::Error::into(error)),
        None => Ok(Clicked { records, sum: Decimal::from_hundredths(cents.into()) }),
    }
}

struct Click {
    user: &'static str,
    cents: u64,
    time_ms: u64,
}

impl Click {
    fn new(index: u64, records: u64, random: u64) -> Self {
        let late_ms = if random.is_multiple_of(5) { (random >> 8) % LATE_MAX_MS } else { 0 };
        let progress_ms = (index as f64 / records as f64 * SPAN_MS as f64) as u64;
        Self {
            user: USERS[(random >> 24) as usize % USERS.len()],
            cents: (random >> 40) % 100_000,
            time_ms: BEGIN_MS + progress_ms.saturating_sub(late_ms),
        }
    }
}

/// A generator of random numbers (Steele, Lea, Flood 2014).
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

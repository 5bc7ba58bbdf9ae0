//! `clicks`: how often each user clicked in every ten seconds, and for how much.

use std::time::Duration;

use dataflow::{Count, Decimal, Job, KafkaSink, KafkaSource, Sum, Tumbling};
use serde::{Deserialize, Serialize};

use super::Topics;

#[derive(Clone, Serialize, Deserialize)]
struct Click {
    user: String,
    amount: Decimal,
    /// Milliseconds since 1970.
    ts: i64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Total {
    user: String,
    start: i64,
    end: i64,
    count: u64,
    sum: Decimal,
}

pub(super) fn job(topics: Topics) -> Job {
    let mut job = Job::new("clicks");
    let clicks = KafkaSource::json::<Click>(topics.input.as_str())
        .event_time(|click| click.ts)
        .bounded_disorder(Duration::from_secs(2));
    topics
        .read(&mut job, clicks)
        .key_by(|click| click.user.clone())
        .window(Tumbling::of(Duration::from_secs(10)))
        .uid("clicks-per-user")
        .aggregate(Count.and(Sum::of(|click: &Click| click.amount)))
        .map(|window| {
            let (count, sum) = window.value;
            Total { user: window.key, start: window.start_ms, end: window.end_ms, count, sum }
        })
        .sink(KafkaSink::json(topics.output.as_str()).key(|total: &Total| total.user.clone()));
    job
}

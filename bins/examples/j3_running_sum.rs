//! J3: rows of CSV. Keeps those whose first field is over 50, and prints the running sum of the second.
//!
//! `cargo run -p tidewater --example j3_running_sum -- 127.0.0.1:9092` reads topic `rows` to its end; the sums are
//! in topic `sums` too, each exactly once.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use dataflow::format::Csv;
use dataflow::{ConfigBuilder, Job, KafkaSink, KafkaSource, Result, Settings, Sum};

fn main() -> Result<()> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let config =
        ConfigBuilder::new().set("bootstrap.servers", &bootstrap)?.set("state.url", "memory:")?.build()?;

    let mut job = Job::new("running-sum");
    job.source(KafkaSource::of("rows", Csv::<(i64, i64)>::new()))
        .filter(|(first, _)| *first > 50)
        .map(|(_, second)| second)
        .key_by(|_| "all".to_owned())
        .uid("sum")
        .running(Sum::of(|second: &i64| *second))
        .map(|(_, sum)| sum.to_string())
        .inspect(|sum| println!("{sum}"))
        .sink(KafkaSink::string("sums"));
    job.run(Settings { bounded: true, ..Settings::from(&config) })?;
    Ok(())
}

//! J4: lines of numbers. Splits them at commas, keeps the integers over 50, and prints each.
//!
//! `cargo run -p tidewater --example j4_split -- 127.0.0.1:9092` reads topic `lines` to its end, and writes
//! `processed-numbers`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use dataflow::{ConfigBuilder, Job, KafkaSink, KafkaSource, Result, Settings};

fn main() -> Result<()> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let config = ConfigBuilder::new().set("bootstrap.servers", &bootstrap)?.build()?;

    let mut job = Job::new("split");
    job.source(KafkaSource::string("lines"))
        .flat_map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>())
        .flat_map(|field| field.trim().parse::<i64>())
        .filter(|number| *number > 50)
        .map(|number| format!("Processed: {number}"))
        .inspect(|text| println!("{text}"))
        .sink(KafkaSink::string("processed-numbers"));
    job.run(Settings { bounded: true, ..Settings::from(&config) })?;
    Ok(())
}

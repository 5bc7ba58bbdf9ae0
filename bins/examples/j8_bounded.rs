//! J8: a bounded run. Reads what is in `events` now, keeps the errors, writes them to `errors`, and stops.
//!
//! `cargo run -p tidewater --example j8_bounded -- 127.0.0.1:9092`; the same command once more finds that all is
//! done, and does nothing twice.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use dataflow::{ConfigBuilder, Job, KafkaSink, KafkaSource, Outcome, Result, Settings};

fn main() -> Result<()> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let config = ConfigBuilder::new().set("bootstrap.servers", &bootstrap)?.build()?;

    let mut job = Job::new("errors");
    job.source(KafkaSource::string("events"))
        .filter(|line| line.starts_with("ERROR"))
        .sink(KafkaSink::string("errors"));
    match job.run(Settings { bounded: true, ..Settings::from(&config) })? {
        Outcome::Finished { epoch } => println!("finished at epoch {epoch}"),
        Outcome::Stopped { epoch } => println!("stopped at epoch {epoch}"),
    }
    Ok(())
}

//! J5: three jobs on one topic, each with a topic of its own for its results.
//!
//! `cargo run -p tidewater --example j5_topic_to_topic -- 127.0.0.1:9092` reads `my-topic` to its end.

use dataflow::{Config, ConfigBuilder, Job, KafkaSink, KafkaSource, Result, Settings};

fn main() -> Result<()> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let config = ConfigBuilder::new().set("bootstrap.servers", &bootstrap)?.build()?;

    run(&config, "announce", |text| format!("Processed: {text}"), "result")?;
    run(&config, "prefix", |text| format!("processed-{text}"), "prefixed")?;
    run(&config, "shout", |text| text.to_uppercase(), "output-topic")
}

fn run(config: &Config, name: &str, change: fn(String) -> String, output: &str) -> Result<()> {
    let mut job = Job::new(name);
    job.source(KafkaSource::string("my-topic")).map(change).sink(KafkaSink::string(output));
    job.run(Settings { bounded: true, ..Settings::from(config) })?;
    Ok(())
}

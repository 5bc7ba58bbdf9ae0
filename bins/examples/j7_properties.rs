//! J7: a job that a `kafka.properties` file configures: the clients by Kafka's own names, and the job itself.
//!
//! ```text
//! bootstrap.servers=127.0.0.1:9092
//! compression.type=lz4
//! group.id=shouting
//! input.topic=my-topic
//! output.topic=output-topic
//! parallelism=2
//! ```
//!
//! `cargo run -p tidewater --example j7_properties -- kafka.properties` reads the input to its end.

use dataflow::{Config, Job, KafkaSink, KafkaSource, Result, Settings};

fn main() -> Result<()> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "kafka.properties".to_owned());
    let config = Config::from_properties(file)?;
    let input = config.input_topic.as_deref().unwrap_or("my-topic");
    let output = config.output_topic.as_deref().unwrap_or("output-topic");

    let mut job = Job::new("shout");
    job.source(KafkaSource::string(input)).map(|text| text.to_uppercase()).sink(KafkaSink::string(output));
    job.run(Settings { bounded: true, ..Settings::from(&config) })?;
    Ok(())
}

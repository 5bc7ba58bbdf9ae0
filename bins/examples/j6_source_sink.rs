//! J6: a source and a sink by hand. The source reads what comes to `input` from now on; the sink sends one record for
//! each.
//!
//! `cargo run -p tidewater --example j6_source_sink -- 127.0.0.1:9092 3` ends after three records; without a number
//! it goes on.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use kafka_wire::config::{ConsumerConfig, Properties};
use kafka_wire::{Consumer, Position, Producer, Record, Result, TopicPartition};

/// Reads one topic from its end on.
struct Source(Consumer);

impl Source {
    async fn open(properties: &Properties, topic: &str) -> Result<Self> {
        let mut consumer = Consumer::new(ConsumerConfig::from_properties(properties)?)?;
        let partitions: Vec<_> = (0..consumer.describe_topic(topic).await?.partitions.len())
            .map(|partition| TopicPartition::new(topic, partition as i32))
            .collect();
        consumer.assign(partitions.iter().map(|partition| (partition.clone(), Position::End)))?;
        for partition in &partitions {
            consumer.position(partition).await?;
        }
        Ok(Self(consumer))
    }

    /// Waits 100 ms at most; gives each value that came to `emit`.
    async fn run(&mut self, emit: &mut impl AsyncFnMut(&[u8]) -> Result<()>) -> Result<()> {
        for record in &self.0.poll(Duration::from_millis(100)).await? {
            emit(record.value.unwrap_or_default()).await?;
        }
        Ok(())
    }
}

/// Writes to one topic, a record at a time.
struct Sink {
    producer: Producer,
    topic: String,
}

impl Sink {
    async fn invoke(&self, value: &[u8]) -> Result<()> {
        self.producer.send(Record::to(&self.topic).value(value)).await.map(drop)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", arguments.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned()))?;
    let mut left: u64 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(u64::MAX);

    let mut source = Source::open(&properties, "input").await?;
    let sink = Sink { producer: Producer::from_properties(&properties)?, topic: "output".to_owned() };
    println!("reading");
    while left > 0 {
        source
            .run(&mut async |value| {
                left = left.saturating_sub(1);
                sink.invoke(value).await
            })
            .await?;
    }
    sink.producer.close(Duration::from_secs(30)).await
}

//! The code in the README, as it stands there.

use std::time::Duration;

use dataflow::{Config, Count, Job, KafkaSink, KafkaSource, Settings, Sum, Tumbling};
use kafka_wire::config::Properties;
use kafka_wire::{Consumer, Producer, Record};
use serde::{Deserialize, Serialize};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule};

#[derive(Clone, Serialize, Deserialize)]
struct Click {
    user: String,
    amount: f64,
    ts: i64,
}

#[rustfmt::skip]
fn job(config: Config) -> dataflow::Result<()> {
let mut job = Job::new("clicks");
job.source(KafkaSource::json::<Click>("clicks").event_time(|click| click.ts).bounded_disorder(Duration::from_secs(2)))
    .key_by(|click| click.user.clone())
    .window(Tumbling::of(Duration::from_secs(10)))
    .uid("clicks-per-user")
    .aggregate(Count.and(Sum::of(|click: &Click| click.amount)))
    .sink(KafkaSink::json("totals"));
job.run(Settings::from(&config))?;
    Ok(())
}

fn handle(_key: Option<&[u8]>, _value: Option<&[u8]>, _offset: i64) {}

#[rustfmt::skip]
async fn client(json: Vec<u8>) -> kafka_wire::Result<()> {
let producer = Producer::from_properties(&Properties::from_file("kafka.properties")?)?;             // idempotent, acks=all
let report = producer.send(Record::to("orders").key("42").value(&json)).await?;
println!("{} {:?}", report.partition, report.offset);

let mut consumer = Consumer::builder().bootstrap("localhost:9092").group("billing").subscribe(["orders"]).build()?;
loop {
    let batch = consumer.poll(Duration::from_millis(100)).await?;      // owns its bytes, lends out its records
    for record in &batch {
        handle(record.key, record.value, record.offset);
    }
    consumer.commit().await?;
}
}

#[rustfmt::skip]
fn broker() -> std::io::Result<()> {
let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 3))?;
broker.add_rule(Rule::new(Action::ApplyThenDisconnect).api(ApiKey::Produce).times(1));   // written, and the answer lost
    Ok(())
}

#[test]
fn the_code_of_the_readme_is_compiled_here() {
    let (readme, here) = (include_str!("../../README.md"), include_str!("readme.rs"));
    let parts: Vec<&str> =
        readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(parts.len(), 3);
    for part in parts {
        assert!(here.contains(part), "the README has other code:\n{part}");
    }
    // One of them can also be run as it is; the others need a cluster on a port.
    broker().expect("a broker with a rule");
    let _ = (job, client);
}

//! J1: a hundred records to `test`, and a callback that says where each of them is.
//!
//! `cargo run -p tidewater --example j1_producer -- 127.0.0.1:9092`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use kafka_wire::config::Properties;
use kafka_wire::{Producer, Record, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut properties = Properties::new();
    properties
        .set("bootstrap.servers", std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned()))?;
    let producer = Producer::from_properties(&properties)?;
    for i in 0..100 {
        let (key, value) = (i.to_string(), format!("value{i}"));
        let receipt = producer.enqueue(Record::to("test").key(&key).value(&value)).await?;
        receipt.then(|written| match written {
            Ok(report) => println!("{} {}", report.topic(), report.offset.unwrap_or(-1)),
            Err(error) => println!("not written: {error}"),
        });
    }
    producer.close(Duration::from_secs(30)).await
}

//! J2: a member of a group. Reads `test-topic` as part of `test-group`, prints each record, and commits what it has
//! printed.
//!
//! `cargo run -p tidewater --example j2_consumer -- 127.0.0.1:9092 10` ends after ten records; without a number it goes
//! on. Start it twice, and the two divide the partitions.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use kafka_wire::{Consumer, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let count = arguments.next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(u64::MAX);

    let mut consumer = Consumer::builder()
        .bootstrap(&bootstrap)
        .group("test-group")
        .set("auto.offset.reset", "earliest")
        .subscribe(["test-topic"])
        .build()?;
    let mut printed = 0;
    while printed < count {
        let batch = consumer.poll_blocking(Duration::from_millis(500))?;
        let partition = batch.topic_partition().partition;
        for record in &batch {
            let (key, value) = (text(record.key), text(record.value));
            println!("key={key} value={value} partition={partition} offset={}", record.offset);
            printed += 1;
        }
        consumer.commit_blocking()?;
    }
    consumer.close_blocking(Default::default())
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

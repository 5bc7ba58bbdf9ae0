//! What the benchmarks share; see the `benches` folder of this package.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    reason = "a bench reports to a person and may stop"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use dataflow::testing::embedded::{EmbeddedBroker, Options};
use kafka_wire::config::Properties;
use kafka_wire::{Producer, Record};

/// An embedded broker in a process of its own: this program, run again. Its time is not counted, and it ends with
/// this value.
pub struct Broker {
    process: Child,
    /// `host:port`.
    pub bootstrap: String,
}

/// Set in the child: how many partitions the topic has.
const ROLE: &str = "BENCH_BROKER";

impl Broker {
    /// Starts one with `topic`, of four partitions. In the child this never returns: call it first in `main`.
    pub fn start(topic: &str) -> Self {
        Self::with_partitions(topic, PARTITIONS)
    }

    /// As [`start`](Self::start), with so many partitions.
    pub fn with_partitions(topic: &str, partitions: i32) -> Self {
        if let Ok(partitions) = std::env::var(ROLE) {
            let partitions = partitions.parse().unwrap();
            let broker = EmbeddedBroker::start(Options::default().with_topic(topic, partitions)).unwrap();
            println!("{}", broker.bootstrap());
            // The pipe ends with whoever has started this process.
            let _ = std::io::stdin().lines().count();
            std::process::exit(0);
        }
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, partitions.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bootstrap = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut bootstrap).unwrap();
        Self { process, bootstrap: bootstrap.trim().to_owned() }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Partitions of a bench's topic.
pub const PARTITIONS: i32 = 4;

/// Values of 100 bytes that compress as event data does.
pub fn values() -> Vec<String> {
    let value = |index: u64| {
        let random = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let (user, amount) = (random % 100_000, random % 1_000_000);
        format!(
            r#"{{"user":"user-{user}","page":"/products/{}","type":"click","amount":{amount}}}{:100}"#,
            random % 5_000,
            ""
        )
    };
    (0..10_000).map(value).map(|value| value[..100].to_owned()).collect()
}

/// User and system time of this process in seconds, of all its threads; Linux counts it in hundredths.
pub fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name may hold blanks, and ends with the last parenthesis; the times are fields 14 and 15.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Writes `records` records, idempotent with `acks=all`, and waits until all are acknowledged.
pub fn produce(bootstrap: &str, topic: &str, codec: &str, records: usize) {
    let mut properties = Properties::new();
    for (name, value) in [("bootstrap.servers", bootstrap), ("compression.type", codec), ("linger.ms", "5")] {
        properties.set(name, value).unwrap();
    }
    let producer = Producer::from_properties(&properties).unwrap();
    let values = values();
    let mut receipts = Vec::with_capacity(RECEIPTS);
    for index in 0..records {
        let record =
            Record::to(topic).partition(index as i32 % PARTITIONS).value(&values[index % values.len()]);
        let receipt = producer.enqueue_blocking(record).unwrap();
        // The last of each partition speak for those before them: a partition's records keep their order.
        if records - index <= RECEIPTS {
            receipts.push(receipt);
        }
    }
    for receipt in receipts {
        receipt.wait().unwrap();
    }
}

const RECEIPTS: usize = PARTITIONS as usize;

//! What awaiting each record's fate costs. Three programs write the same records: `enqueue` awaits the last receipts
//! only, the batch way; `receipts` awaits every receipt, one after the other; `send` has the futures of `send` awaited
//! together (`buffered`). The two keep at most [`TOGETHER`] records unacknowledged. The broker is another process, an
//! embedded one or that of the address, which has a topic `sends` of four partitions; CPU time is this one's.
//!
//! `cargo bench -p tidewater-benches --bench sends [-- RECORDS [HOST:PORT]]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports to a person and may stop")]

use std::collections::VecDeque;
use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use kafka_wire::config::Properties;
use kafka_wire::{Producer, Receipt, Record};
use tidewater_benches::{Broker, PARTITIONS, cpu_s, produce, values};
use tokio::runtime::Runtime;

const TOPIC: &str = "sends";
const ROUNDS: usize = 5;
/// Unacknowledged at a time, of those that are awaited.
const TOGETHER: usize = 50_000;

fn main() {
    let broker = Broker::start(TOPIC);
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let records = arguments.next().map_or(2_000_000, |records| records.parse().unwrap());
    let bootstrap = arguments.next().unwrap_or_else(|| broker.bootstrap.clone());
    let ways: [(&str, &dyn Fn()); 3] = [
        ("enqueue", &|| produce(&bootstrap, TOPIC, "none", records)),
        ("receipts", &|| await_receipts(&bootstrap, records)),
        ("send", &|| await_sends(&bootstrap, records)),
    ];
    let mut best = [f64::INFINITY; 3];
    for round in 1..=ROUNDS {
        for ((name, work), best) in ways.iter().zip(&mut best) {
            let (wall, cpu) = measure(work);
            *best = wall.min(*best);
            let (rate, micros) = (records as f64 / wall / 1e6, cpu * 1e6 / records as f64);
            println!("round {round}: {name:8} {rate:6.3} M/s, {micros:.3} µs of CPU a record");
        }
    }
    let [enqueue, receipts, send] = best;
    println!(
        "rate by that of enqueue, best rounds: receipts {:.2}, send {:.2}",
        enqueue / receipts,
        enqueue / send
    );
}

/// Wall and CPU seconds.
#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn measure(work: impl FnOnce()) -> (f64, f64) {
    let (begun, before) = (Instant::now(), cpu_s());
    work();
    (begun.elapsed().as_secs_f64(), cpu_s() - before)
}

fn await_receipts(bootstrap: &str, records: usize) {
    let (producer, values) = (producer(bootstrap), values());
    runtime().block_on(async {
        let mut receipts = VecDeque::<Receipt>::with_capacity(TOGETHER);
        for index in 0..records {
            if receipts.len() == TOGETHER
                && let Some(oldest) = receipts.pop_front()
            {
                oldest.await.unwrap();
            }
            receipts.push_back(producer.enqueue(record(&values, index)).await.unwrap());
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
    });
}

fn await_sends(bootstrap: &str, records: usize) {
    let (producer, values) = (producer(bootstrap), values());
    let sends = stream::iter((0..records).map(|index| producer.send(record(&values, index))));
    runtime().block_on(sends.buffered(TOGETHER).for_each(async |sent| drop(sent.unwrap())));
}

fn producer(bootstrap: &str) -> Producer {
    let mut properties = Properties::new();
    for (name, value) in [("bootstrap.servers", bootstrap), ("linger.ms", "5")] {
        properties.set(name, value).unwrap();
    }
    Producer::from_properties(&properties).unwrap()
}

fn record(values: &[String], index: usize) -> Record<'_> {
    Record::to(TOPIC).partition(index as i32 % PARTITIONS).value(&values[index % values.len()])
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

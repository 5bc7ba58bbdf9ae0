//! What awaiting each record's fate costs: futures of `send` that are kept and awaited together, against records that
//! are enqueued and of which only the last are awaited. The broker is another process; CPU time is this one's.
//!
//! `cargo bench -p tidewater-benches --bench sends [-- RECORDS]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports to a person and may stop")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use futures_util::future::join_all;
use kafka_wire::config::Properties;
use kafka_wire::{Producer, Record};
use tidewater_benches::{Broker, PARTITIONS, cpu_s, produce, values};

/// Futures that are kept before they are awaited.
const TOGETHER: usize = 10_000;

fn main() {
    let broker = Broker::start("sends");
    let records = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3_000_000);
    let (mut best_enqueued, mut best_awaited) = (f64::INFINITY, f64::INFINITY);
    for round in 1..=5 {
        let (wall, cpu) = measure(|| produce(&broker.bootstrap, "sends", "none", records));
        let (wall_awaited, cpu_awaited) = measure(|| send(&broker.bootstrap, records));
        let rate = |wall: f64| records as f64 / wall / 1e6;
        let micros = |cpu: f64| cpu * 1e6 / records as f64;
        println!(
            "round {round}: enqueue {:.3} M/s {:.3} µs of CPU, send {:.3} M/s {:.3} µs; rate {:.2}",
            rate(wall),
            micros(cpu),
            rate(wall_awaited),
            micros(cpu_awaited),
            wall / wall_awaited,
        );
        best_enqueued = wall.min(best_enqueued);
        best_awaited = wall_awaited.min(best_awaited);
    }
    println!("rate of send by that of enqueue, best rounds: {:.2}", best_enqueued / best_awaited);
}

/// Wall and CPU seconds.
#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn measure(work: impl FnOnce()) -> (f64, f64) {
    let (begun, before) = (Instant::now(), cpu_s());
    work();
    (begun.elapsed().as_secs_f64(), cpu_s() - before)
}

fn send(bootstrap: &str, records: usize) {
    let mut properties = Properties::new();
    for (name, value) in [("bootstrap.servers", bootstrap), ("linger.ms", "5")] {
        properties.set(name, value).unwrap();
    }
    let producer = Producer::from_properties(&properties).unwrap();
    let values = values();
    let mut sent = 0;
    while sent < records {
        let together = TOGETHER.min(records - sent);
        let sends = (sent..sent + together).map(|index| {
            let record = Record::to("sends").partition(index as i32 % PARTITIONS);
            producer.send(record.value(&values[index % values.len()]))
        });
        block_on(join_all(sends)).into_iter().for_each(|sent| drop(sent.unwrap()));
        sent += together;
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

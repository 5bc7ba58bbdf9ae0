//! The producer against an embedded broker in another process: CPU time of this one, in µs a record of 100 bytes.
//!
//! `cargo bench -p tidewater-benches --bench produce [-- RECORDS]`

#![allow(clippy::print_stdout, reason = "a bench reports to a person")]

use tidewater_benches::{Broker, cpu_s, produce};

fn main() {
    let broker = Broker::start("produce");
    let records = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3_000_000);
    for codec in ["none", "lz4"] {
        let before = cpu_s();
        produce(&broker.bootstrap, "produce", codec, records);
        println!("produce {codec:5} {:8.3} µs a record", (cpu_s() - before) * 1e6 / records as f64);
    }
}

//! Tidewater beside its peers: the same work, on the same broker, in turns; one table.
//!
//! ```text
//! cargo build --release --workspace                                # here: the peers need a C compiler
//! cargo build --release --manifest-path ../../Cargo.toml -p tidewater
//! target/release/compare --bootstrap 127.0.0.1:9092 --tidewater ../../target/release/tidewater
//! ```
//!
//! What is compared is CPU seconds of the client process (user + system, start included) per million
//! records: on a shared machine wall time says little. Memory is the peak of the resident set.

mod clients;
mod jobs;
mod measure;

use std::path::PathBuf;

use clap::Parser;

/// Runs Tidewater beside its Rust peers on a real broker and prints one table.
#[derive(Parser)]
struct Options {
    /// The broker: nothing else should use it meanwhile.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// Our program, built with `--release`.
    #[arg(long)]
    tidewater: PathBuf,
    /// How often each cell is measured; the peers take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Records a measurement.
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Only these: P1 (produce), P2 (produce lz4), C1 (consume), C2 (consume lz4), pass, clicks.
    #[arg(long, value_delimiter = ',', default_value = "P1,P2,C1,C2,pass,clicks")]
    only: Vec<String>,
    /// The clients to hold us against; behind a colon the way in which a client is used, such as krafka:tuned.
    #[arg(long, value_delimiter = ',', default_value = "rdkafka,krafka:tuned,rskafka,raw")]
    peers: Vec<String>,
}

fn main() {
    let options = Options::parse();
    let bench = measure::Bench::new(&options.bootstrap, &options.tidewater);
    let wanted = |name: &str| options.only.iter().any(|only| only == name);
    let clients: Vec<_> = clients::WORKLOADS.iter().filter(|workload| wanted(workload.name)).collect();
    clients::compare(&bench, &clients, &options.peers, options.rounds, options.records);
    let jobs: Vec<_> = jobs::JOBS.iter().filter(|job| wanted(job.name)).collect();
    jobs::compare(&bench, &jobs, options.rounds, options.records);
}

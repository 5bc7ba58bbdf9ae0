//! `tidewater perf`: what the client costs, as one line of JSON that compares with that of other clients.

mod consume;
mod latency;
mod payload;
mod produce;
mod usage;

use clap::{Args, Subcommand, ValueEnum};
use kafka_wire::{Error, ErrorKind, Result};

/// What to measure.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Write keyed records, idempotent with acks=all, each counted when it is acknowledged.
    Produce(Options),
    /// Read records from the start of a topic, checksums on, and look at each key and value.
    Consume(Options),
    /// Send records at a steady rate and read them back: how old each is when it is read, in microseconds.
    Latency(Options),
}

/// The options of all measurements; those that make no difference to one are accepted by it.
#[derive(Args)]
pub(super) struct Options {
    /// Brokers to start from.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// How many records.
    #[arg(long)]
    records: u64,
    /// Bytes of key and value together.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// What records are compressed with.
    #[arg(long, value_enum, default_value_t = Codec::None)]
    codec: Codec,
    /// Who must have a record before it counts as written.
    #[arg(long, default_value = "all")]
    acks: String,
    /// How long a batch waits for more records.
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Records per second, of the latency measurement.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Any other property, as name=value.
    #[arg(long)]
    set: Vec<String>,
}

/// Compression codecs by Kafka's names.
#[derive(Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Measures, and prints the line.
pub(super) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Produce(options) => produce::run(options),
        Command::Consume(options) => consume::run(options),
        Command::Latency(options) => latency::run(options),
    }
}

/// Runs what is async; the clients have threads of their own.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime =
        runtime.map_err(|cause| Error::new(ErrorKind::Network, "start a runtime").with_cause(cause))?;
    runtime.block_on(future)
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

//! `tidewater verifiable-producer`: Kafka's own contract for a producer under test
//! (`org.apache.kafka.tools.VerifiableProducer`): options as there, one JSON object a line on standard output.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use kafka_wire::config::{ProducerConfig, Properties};
use kafka_wire::{Error, Producer, Record, RecordMetadata};
use serde::Serialize;

use super::common::{Failure, Result, Stop, block_on};
use super::verifiable::{Clock, print};

/// Numbers as values, and what became of each.
#[derive(Args)]
pub(super) struct Options {
    /// The topic
    #[arg(long)]
    topic: String,
    /// Brokers to start from
    #[arg(long, alias = "broker-list", value_name = "HOST:PORT")]
    bootstrap_server: String,
    /// How many records; without end when negative
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    max_messages: i64,
    /// Records per second; as fast as it goes when negative
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    throughput: i64,
    /// Who must have a record before it counts as written: 0, 1 or -1 (all)
    #[arg(long, default_value = "-1", allow_hyphen_values = true)]
    acks: String,
    /// A properties file; it wins over the other options
    #[arg(long, alias = "producer.config", value_name = "FILE")]
    command_config: Option<PathBuf>,
    /// The timestamp of the first record, in milliseconds since 1970; those of the next are as much later as they
    /// are sent later
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    message_create_time: i64,
    /// Values are this, a point, and the number
    #[arg(long)]
    value_prefix: Option<i64>,
    /// Keys are the numbers from 0 to below this, again and again; without it there are none
    #[arg(long)]
    repeating_keys: Option<u64>,
}

/// What is told, with the names and in the order of Kafka's tool.
#[derive(Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
enum Event<'a> {
    StartupComplete,
    ProducerSendSuccess {
        key: Option<&'a str>,
        value: &'a str,
        offset: i64,
        topic: &'a str,
        partition: i32,
    },
    ProducerSendError {
        topic: &'a str,
        key: Option<&'a str>,
        value: &'a str,
        exception: String,
        message: String,
    },
    ShutdownComplete,
    ToolData {
        sent: u64,
        acked: u64,
        target_throughput: i64,
        avg_throughput: f64,
    },
}

/// Sends until all is sent or it is asked to stop; then waits for the rest.
pub(super) fn run(options: Options) -> Result<()> {
    let producer = Producer::new(options.configuration()?)?;
    let target_throughput = options.throughput;
    let sending = Arc::new(Sending {
        options,
        producer: producer.clone(),
        clock: Clock::start(),
        is_stopped: AtomicBool::new(false),
        sent: AtomicU64::new(0),
        acked: Arc::default(),
    });
    block_on(async {
        let mut stop = Stop::listen()?;
        print(&Event::StartupComplete);
        let sender = Arc::clone(&sending);
        let mut sent = tokio::task::spawn_blocking(move || sender.send_all());
        tokio::select! {
            sent = &mut sent => sent.map_err(Failure::failed)?,
            () = stop.wait() => {
                sending.is_stopped.store(true, Ordering::Relaxed);
                sent.await.map_err(Failure::failed)?;
            }
        }
        // As long as any record may take to meet its fate.
        producer.close(Duration::from_secs(i32::MAX as u64 / 1000)).await?;
        print(&Event::ShutdownComplete);
        let (sent, acked) = (sending.sent.load(Ordering::Relaxed), sending.acked.load(Ordering::Relaxed));
        let avg_throughput = acked as f64 / sending.clock.elapsed().as_secs_f64();
        print(&Event::ToolData { sent, acked, target_throughput, avg_throughput });
        Ok(())
    })
}

impl Options {
    fn configuration(&self) -> Result<ProducerConfig> {
        let mut properties = Properties::new();
        properties.set("bootstrap.servers", self.bootstrap_server.as_str())?;
        properties.set("acks", self.acks.as_str())?;
        // As Kafka's tool: what fails is to be seen.
        properties.set("retries", "0")?;
        if let Some(file) = &self.command_config {
            properties.set_from_file(file)?;
        }
        Ok(ProducerConfig::from_properties(&properties)?)
    }

    fn value(&self, number: u64) -> String {
        match self.value_prefix {
            Some(prefix) => format!("{prefix}.{number}"),
            None => number.to_string(),
        }
    }

    fn key(&self, number: u64) -> Option<String> {
        self.repeating_keys.filter(|keys| *keys > 0).map(|keys| (number % keys).to_string())
    }
}

struct Sending {
    options: Options,
    producer: Producer,
    clock: Clock,
    is_stopped: AtomicBool,
    sent: AtomicU64,
    acked: Arc<AtomicU64>,
}

impl Sending {
    fn send_all(&self) {
        let count = u64::try_from(self.options.max_messages).unwrap_or(u64::MAX);
        let mut create_time_ms = self.options.message_create_time;
        for number in 0..count {
            if let Ok(per_second @ 1..) = u64::try_from(self.options.throughput) {
                self.clock.wait_for_turn(number, per_second);
            }
            if self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            let timestamp_ms = (create_time_ms >= 0).then_some(create_time_ms);
            if timestamp_ms.is_some() {
                create_time_ms = self.options.message_create_time + self.clock.elapsed().as_millis() as i64;
            }
            self.send(self.options.key(number), self.options.value(number), timestamp_ms);
        }
    }

    fn send(&self, key: Option<String>, value: String, timestamp_ms: Option<i64>) {
        let topic = self.options.topic.as_str();
        let record = Record {
            key: key.as_ref().map(String::as_bytes),
            timestamp_ms,
            ..Record::to(topic).value(&value)
        };
        self.sent.fetch_add(1, Ordering::Relaxed);
        match self.producer.enqueue_blocking(record) {
            Err(error) => report(topic, key.as_deref(), &value, &Err(error)),
            Ok(receipt) => {
                let (topic, acked) = (topic.to_owned(), Arc::clone(&self.acked));
                receipt.then(move |fate| {
                    acked.fetch_add(u64::from(fate.is_ok()), Ordering::Relaxed);
                    report(&topic, key.as_deref(), &value, &fate);
                });
            }
        }
    }
}

fn report(topic: &str, key: Option<&str>, value: &str, fate: &kafka_wire::Result<RecordMetadata, Error>) {
    match fate {
        Ok(report) => {
            let (offset, partition) = (report.offset.unwrap_or(-1), report.partition.partition);
            print(&Event::ProducerSendSuccess { key, value, offset, topic, partition });
        }
        Err(error) => {
            let exception =
                error.code().map_or_else(|| format!("{:?}", error.kind()), |code| code.name().to_owned());
            print(&Event::ProducerSendError { topic, key, value, exception, message: error.to_string() });
        }
    }
}

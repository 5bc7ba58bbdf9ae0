//! `tidewater transactional-message-copier`: Kafka's own contract for a consumer and a producer in transactions
//! (`org.apache.kafka.tools.TransactionalMessageCopier`): options as there, one JSON object a line on standard output.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use kafka_wire::config::{ConsumerConfig, ProducerConfig, Properties};
use kafka_wire::{
    Consumer, ErrorKind, FetchedBatch, GroupMetadata, Header, Isolation, OffsetSpec, Position, Producer,
    RebalanceListener, Record, TopicPartition,
};
use serde::Serialize;

use super::common::{Failure, Result, Stop, block_on};
use super::datetime;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(200);

/// Copies a topic's records in transactions, the input's offsets with them.
#[derive(Args)]
pub(super) struct Options {
    /// The topic to read
    #[arg(long)]
    input_topic: String,
    /// The partition to read, without --group-mode
    #[arg(long)]
    input_partition: i32,
    /// The topic to write: a record goes to the partition of the same number
    #[arg(long)]
    output_topic: String,
    /// Brokers to start from
    #[arg(long, alias = "bootstrap-server", value_name = "HOST:PORT")]
    broker_list: String,
    /// How many records; to the end of the input when negative
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    max_messages: i64,
    /// The group whose offsets are committed
    #[arg(long)]
    consumer_group: Option<String>,
    /// The most records in a transaction
    #[arg(long, default_value_t = 200)]
    transaction_size: usize,
    /// After this the coordinator aborts a transaction, in milliseconds
    #[arg(long, default_value_t = 60_000, value_name = "MS")]
    transaction_timeout: u64,
    /// The transactional.id
    #[arg(long)]
    transactional_id: String,
    /// Abort one transaction in three
    #[arg(long)]
    enable_random_aborts: bool,
    /// Read as a member of the group what it is assigned
    #[arg(long)]
    group_mode: bool,
    /// Commit offsets as that member (KIP-447)
    #[arg(long)]
    use_group_metadata: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    transactional_id: &'a str,
    stage: &'a str,
    time: String,
    total_processed: i64,
    consumed: i64,
    remaining: i64,
}

/// Says that a rebalance has given partitions; what remains of them is asked after the poll.
struct Assigned(Arc<AtomicBool>);

impl RebalanceListener for Assigned {
    fn assigned(&mut self, _: &mut Consumer, _: &[TopicPartition]) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Copies until nothing remains, or until it is asked to stop.
pub(super) fn run(options: Options) -> Result<()> {
    let mut consumer = Consumer::new(options.consumer()?)?;
    let producer = Producer::new(options.producer()?)?;
    let is_assigned = Arc::new(AtomicBool::new(false));
    let remaining = u64::try_from(options.max_messages).map_or(i64::MAX, |count| count as i64);
    block_on(async {
        let mut stop = Stop::listen()?;
        if options.group_mode {
            consumer.set_listener(Assigned(Arc::clone(&is_assigned)));
            consumer.subscribe([options.input_topic.as_str()])?;
        } else {
            let partition = TopicPartition::new(options.input_topic.as_str(), options.input_partition);
            consumer.assign([(partition, Position::Committed)])?;
        }
        let mut copying = Copying { options, consumer, producer, remaining, total: 0, consumed: 0, turn: 0 };
        if !copying.options.group_mode {
            copying.remaining = copying.remaining.min(copying.left().await?);
        }
        copying.producer.init_transactions().await?;
        let mut outcome = Ok(());
        while outcome.is_ok() && copying.remaining > 0 {
            copying.tell("ProcessLoop");
            let batch = tokio::select! {
                batch = copying.consumer.poll(POLL) => batch?,
                () = stop.wait() => break,
            };
            if is_assigned.swap(false, Ordering::Relaxed) {
                copying.consumed = 0;
                copying.remaining = copying.left().await? + batch.len() as i64;
                copying.tell("RebalanceComplete");
            }
            if !batch.is_empty() {
                outcome = copying.copy(&batch).await;
            }
        }
        copying.tell("ShutdownComplete");
        outcome
    })
}

impl Options {
    fn consumer(&self) -> Result<ConsumerConfig> {
        let mut properties = Properties::new();
        let size = self.transaction_size.to_string();
        for (name, value) in [
            ("bootstrap.servers", self.broker_list.as_str()),
            ("group.id", self.group()),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "3000"),
            ("max.poll.interval.ms", "180000"),
            ("max.poll.records", &size),
        ] {
            properties.set(name, value)?;
        }
        Ok(ConsumerConfig::from_properties(&properties)?)
    }

    fn producer(&self) -> Result<ProducerConfig> {
        let mut properties = Properties::new();
        let timeout = self.transaction_timeout.to_string();
        for (name, value) in [
            ("bootstrap.servers", self.broker_list.as_str()),
            ("transactional.id", &self.transactional_id),
            ("transaction.timeout.ms", &timeout),
            // Small batches: several to a partition in each transaction, to try what happens between them.
            ("batch.size", "512"),
            ("max.in.flight.requests.per.connection", "5"),
        ] {
            properties.set(name, value)?;
        }
        Ok(ProducerConfig::from_properties(&properties)?)
    }

    fn group(&self) -> &str {
        self.consumer_group.as_deref().unwrap_or("-1")
    }
}

struct Copying {
    options: Options,
    consumer: Consumer,
    producer: Producer,
    /// Records that are left to copy.
    remaining: i64,
    total: i64,
    /// Since the last rebalance.
    consumed: i64,
    /// Transactions so far.
    turn: u64,
}

impl Copying {
    /// Offsets between the positions and the ends of what is read.
    async fn left(&mut self) -> Result<i64> {
        let mut left = 0;
        for partition in self.consumer.assignment() {
            let position = self.consumer.position(&partition).await?.offset;
            let wanted = [(partition, OffsetSpec::Latest)];
            let listed = self.consumer.list_offsets(wanted, Isolation::ReadCommitted).await?;
            left += listed.first().and_then(|(_, end)| end.offset).map_or(0, |end| (end - position).max(0));
        }
        Ok(left)
    }

    /// One transaction. What can be tried again is aborted, and read again.
    async fn copy(&mut self, batch: &FetchedBatch) -> Result<()> {
        self.turn += 1;
        match self.transaction(batch).await {
            Ok(true) => {
                let count = batch.len() as i64;
                self.remaining -= count;
                self.total += count;
                self.consumed += count;
                return Ok(());
            }
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::Fenced => {
                let id = &self.options.transactional_id;
                return Err(Failure::failed(format_args!(
                    "transactional.id {id} has gone to another: {error}"
                )));
            }
            Err(error) => tracing::debug!(%error, "the transaction is aborted"),
        }
        self.producer.abort_transaction().await?;
        self.go_back().await
    }

    /// Whether it was committed; a transaction that was not is still open.
    async fn transaction(&self, batch: &FetchedBatch) -> kafka_wire::Result<bool> {
        self.producer.begin_transaction().await?;
        for record in batch {
            let headers: Vec<Header<'_>> = record.headers().collect();
            let copy = Record {
                topic: &self.options.output_topic,
                partition: Some(batch.topic_partition().partition),
                timestamp_ms: None,
                key: record.key,
                value: record.value,
                headers: &headers,
            };
            drop(self.producer.enqueue(copy).await?);
        }
        let group = if self.options.use_group_metadata {
            self.consumer.group_metadata()?
        } else {
            GroupMetadata::without_member(self.options.group())
        };
        let positions = self.consumer.positions();
        let offsets = positions.into_iter().map(|(partition, at)| (partition, at.into())).collect();
        self.producer.send_offsets_to_transaction(group, offsets).await?;
        if self.options.enable_random_aborts && self.is_unlucky() {
            return Ok(false);
        }
        self.producer.commit_transaction().await?;
        Ok(true)
    }

    /// One transaction in three, spread by a multiplicative hash of its number and the process.
    fn is_unlucky(&self) -> bool {
        let mixed = (self.turn + u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 33).is_multiple_of(3)
    }

    /// Reads again from where the group has committed, or from the beginning.
    async fn go_back(&mut self) -> Result<()> {
        let assigned = self.consumer.assignment();
        for (partition, committed) in self.consumer.committed(assigned).await? {
            let position = committed.map_or(Position::Beginning, |committed| committed.offset.into());
            self.consumer.seek(&partition, position)?;
        }
        Ok(())
    }

    fn tell(&self, stage: &str) {
        #[allow(clippy::disallowed_methods, reason = "the contract wants the time, at the rim")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let status = Status {
            transactional_id: &self.options.transactional_id,
            stage,
            time: datetime::format_slashes(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)),
            total_processed: self.total,
            consumed: self.consumed,
            remaining: self.remaining,
        };
        // A plain struct always has a form in JSON; without a reader there is nobody to tell.
        if let Ok(line) = serde_json::to_string(&status) {
            let _ = writeln!(io::stdout().lock(), "{line}");
        }
    }
}

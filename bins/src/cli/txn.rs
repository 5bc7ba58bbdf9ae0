//! `tidewater txn`: transactions, and those that hang; the verbs are kafka-transactions'.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use kafka_wire::admin::{HangingTransaction, ProducerState, TransactionFilter, TransactionState};
use kafka_wire::{Admin, ProducerIdentity, TopicPartition};
use serde::Serialize;

use super::admin::{Common, TopicPartitions, or_dash};
use super::common::{Failure, Result, block_on};

/// What to do, and where.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show transactional ids, and how their transactions stand.
    List {
        /// Only in this state: Ongoing, CompleteCommit …; may be repeated
        #[arg(long)]
        state: Vec<TransactionState>,
        /// Only open for longer than so many seconds
        #[arg(long, value_name = "SECONDS")]
        longer_than: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Show a transactional id: its producer, and what takes part in its transaction.
    Describe {
        /// The transactional id
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show the producers that partitions know of.
    Producers {
        /// A topic, or some of its partitions
        #[arg(value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse)]
        topic: TopicPartitions,
        #[command(flatten)]
        common: Common,
    },
    /// Find transactions that no coordinator will end: they hold back readers of committed records for ever.
    FindHanging {
        /// In a topic, or some of its partitions; may be repeated; in all topics without
        #[arg(long, value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse)]
        topic: Vec<TopicPartitions>,
        /// Only what is open for longer: the brokers' transaction.max.timeout.ms
        #[arg(long, value_name = "MINUTES", default_value_t = 15)]
        max_transaction_timeout: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Abort a transaction that hangs in a partition, as find-hanging shows it.
    Abort {
        /// The topic
        topic: String,
        /// The partition
        partition: i32,
        /// Where the transaction begins
        #[arg(long, value_name = "OFFSET")]
        start_offset: i64,
        #[command(flatten)]
        common: Common,
    },
    /// End the open transaction of a transactional id by fencing its producer.
    ForceTerminate {
        /// The transactional id
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::List { state, longer_than, common } => {
                let longer_than = longer_than.map(Duration::from_secs);
                let filter = TransactionFilter { states: state, longer_than, ..TransactionFilter::default() };
                list(&common, filter).await
            }
            Verb::Describe { id, common } => describe(&common, id).await,
            Verb::Producers { topic, common } => {
                let admin = common.admin()?;
                let partitions = topic.resolve(&admin).await?;
                let lines = producers(&admin, partitions).await?;
                show(
                    &common,
                    &lines.into_iter().map(|(at, state)| Line::new(&at, &state)).collect::<Vec<_>>(),
                )
            }
            Verb::FindHanging { topic, max_transaction_timeout, common } => {
                let admin = common.admin()?;
                let patience = Duration::from_secs(max_transaction_timeout.saturating_mul(60));
                let hanging = find_hanging(&admin, &topic, patience).await?;
                show(&common, &hanging.iter().map(|(at, state)| Line::new(at, state)).collect::<Vec<_>>())
            }
            Verb::Abort { topic, partition, start_offset, common } => {
                abort(&common, TopicPartition::new(topic, partition), start_offset).await
            }
            Verb::ForceTerminate { id, common } => {
                let ended = common.admin()?.force_terminate_transaction(&id).await;
                common.report("transaction of", "ended", &[(id, ended)], None)
            }
        }
    })
}

async fn list(common: &Common, filter: TransactionFilter) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        transactional_id: String,
        coordinator: i32,
        producer_id: i64,
        state: String,
    }
    let listed = common.admin()?.list_transactions(filter).await?;
    let line = |listed: kafka_wire::admin::TransactionListing| Line {
        transactional_id: listed.transactional_id,
        coordinator: listed.coordinator.0,
        producer_id: listed.producer_id,
        state: listed.state.to_string(),
    };
    let lines: Vec<Line> = listed.into_iter().map(line).collect();
    common.table(&["TRANSACTIONAL-ID", "COORDINATOR", "PRODUCER-ID", "STATE"], &lines, |line| {
        vec![
            line.transactional_id.clone(),
            line.coordinator.to_string(),
            line.producer_id.to_string(),
            line.state.clone(),
        ]
    })
}

async fn describe(common: &Common, id: String) -> Result<()> {
    #[derive(Serialize)]
    struct Description {
        transactional_id: String,
        producer_id: i64,
        producer_epoch: i16,
        state: String,
        timeout_ms: u128,
        started_ms: Option<i64>,
        partitions: Vec<String>,
    }
    for (id, described) in common.admin()?.describe_transactions([id]).await? {
        let described = described?;
        let description = Description {
            transactional_id: id,
            producer_id: described.producer.id,
            producer_epoch: described.producer.epoch,
            state: described.state.to_string(),
            timeout_ms: described.timeout.as_millis(),
            started_ms: described.started_ms,
            partitions: described.partitions.iter().map(ToString::to_string).collect(),
        };
        common.print(&description, || {
            let of = &description;
            let partitions = if of.partitions.is_empty() { "-".to_owned() } else { of.partitions.join(",") };
            format!(
                "TransactionalId: {}\tProducerId: {}\tProducerEpoch: {}\tState: {}\tTimeoutMs: {}\tStartedMs: {}\tPartitions: {partitions}",
                of.transactional_id,
                of.producer_id,
                of.producer_epoch,
                of.state,
                of.timeout_ms,
                or_dash(of.started_ms),
            )
        })?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Line {
    topic: String,
    partition: i32,
    producer_id: i64,
    producer_epoch: i32,
    last_sequence: Option<i64>,
    last_timestamp_ms: Option<i64>,
    coordinator_epoch: Option<i64>,
    transaction_start_offset: Option<i64>,
}

impl Line {
    fn new(at: &TopicPartition, state: &ProducerState) -> Self {
        Self {
            topic: at.topic.to_string(),
            partition: at.partition,
            producer_id: state.producer_id,
            producer_epoch: state.producer_epoch,
            last_sequence: state.last_sequence,
            last_timestamp_ms: state.last_timestamp_ms,
            coordinator_epoch: state.coordinator_epoch,
            transaction_start_offset: state.transaction_start_offset,
        }
    }
}

fn show(common: &Common, lines: &[Line]) -> Result<()> {
    let columns = [
        "TOPIC",
        "PARTITION",
        "PRODUCER-ID",
        "PRODUCER-EPOCH",
        "LAST-SEQUENCE",
        "LAST-TIMESTAMP-MS",
        "COORDINATOR-EPOCH",
        "TRANSACTION-START-OFFSET",
    ];
    common.table(&columns, lines, |line| {
        vec![
            line.topic.clone(),
            line.partition.to_string(),
            line.producer_id.to_string(),
            line.producer_epoch.to_string(),
            or_dash(line.last_sequence),
            or_dash(line.last_timestamp_ms),
            or_dash(line.coordinator_epoch),
            or_dash(line.transaction_start_offset),
        ]
    })
}

async fn producers(
    admin: &Admin,
    partitions: Vec<TopicPartition>,
) -> Result<Vec<(TopicPartition, ProducerState)>> {
    let mut all = Vec::new();
    for (at, producers) in admin.describe_producers(partitions).await? {
        all.extend(producers?.into_iter().map(|state| (at.clone(), state)));
    }
    all.sort_by(|(a, x), (b, y)| (a, x.producer_id).cmp(&(b, y.producer_id)));
    Ok(all)
}

/// What is open for longer than any coordinator allows, and not known to one as open there.
async fn find_hanging(
    admin: &Admin,
    topics: &[TopicPartitions],
    patience: Duration,
) -> Result<Vec<(TopicPartition, ProducerState)>> {
    let mut partitions = Vec::new();
    for topic in topics {
        partitions.extend(topic.resolve(admin).await?);
    }
    if topics.is_empty() {
        for (name, topic) in admin.list_topics().await? {
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            partitions.extend((0..count).map(|number| TopicPartition::new(name.as_str(), number)));
        }
    }
    #[allow(clippy::disallowed_methods, reason = "a command that a person runs reads the clock once")]
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::failed)?.as_millis();
    let oldest_ms = i64::try_from(now_ms.saturating_sub(patience.as_millis())).unwrap_or(i64::MAX);
    let is_old = |state: &ProducerState| {
        state.transaction_start_offset.is_some()
            && state.last_timestamp_ms.is_some_and(|last| last < oldest_ms)
    };
    let mut suspects = producers(admin, partitions).await?;
    suspects.retain(|(_, state)| is_old(state));
    if suspects.is_empty() {
        return Ok(suspects);
    }
    let known = open_partitions(admin, &suspects).await?;
    suspects.retain(|(at, state)| !known.contains(&(state.producer_id, at.clone())));
    Ok(suspects)
}

/// What coordinators know as open for these producers: they will end it.
async fn open_partitions(
    admin: &Admin,
    suspects: &[(TopicPartition, ProducerState)],
) -> Result<HashSet<(i64, TopicPartition)>> {
    let producer_ids: Vec<i64> = suspects.iter().map(|(_, state)| state.producer_id).collect();
    let filter = TransactionFilter { producer_ids, ..TransactionFilter::default() };
    let ids: BTreeMap<String, i64> = admin
        .list_transactions(filter)
        .await?
        .into_iter()
        .map(|listed| (listed.transactional_id, listed.producer_id))
        .collect();
    let mut open = HashSet::new();
    for (_, described) in admin.describe_transactions(ids.into_keys()).await? {
        let described = described?;
        let is_open = matches!(
            described.state,
            TransactionState::Ongoing | TransactionState::PrepareCommit | TransactionState::PrepareAbort
        );
        if is_open {
            open.extend(described.partitions.into_iter().map(|at| (described.producer.id, at)));
        }
    }
    Ok(open)
}

async fn abort(common: &Common, partition: TopicPartition, start_offset: i64) -> Result<()> {
    let admin = common.admin()?;
    let known = producers(&admin, vec![partition.clone()]).await?;
    let hanging = known.iter().find(|(_, state)| state.transaction_start_offset == Some(start_offset));
    let Some((_, state)) = hanging else {
        return Err(Failure::failed(format_args!(
            "abort the transaction that begins at offset {start_offset} of {partition}: none does; `tidewater txn \
             producers {}:{}` shows which are open",
            partition.topic, partition.partition
        )));
    };
    let hanging = HangingTransaction {
        producer: ProducerIdentity {
            id: state.producer_id,
            epoch: i16::try_from(state.producer_epoch).map_err(Failure::failed)?,
        },
        coordinator_epoch: state.coordinator_epoch.map_or(Ok(0), i32::try_from).map_err(Failure::failed)?,
    };
    let aborted = admin.abort_transaction(partition.clone(), hanging).await;
    common.report("transaction in", "aborted", &[(partition, aborted)], None)
}

//! Commits on Kafka: outputs, consumed offsets and the manifest of an epoch in one transaction (design D5).

mod manifest_topic;
mod transaction;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_wire::config::{ClientConfig, ProducerConfig};
use kafka_wire::{Admin, ErrorCode, Isolation, TransactionalProducer};

pub(crate) use self::transaction::KafkaTransaction;
use crate::commit::{CommitStart, CommitStore, Session};
use crate::config::Config;
use crate::engine::control::BoxFuture;
use crate::engine::{bridge, crash};
use crate::error::{Error, ErrorKind, Result};

/// Keeps a job's manifests in the topic `__tidewater-JOB`, and commits under the transactional id `tidewater-JOB`.
#[derive(Default)]
pub struct KafkaStore {
    history: Mutex<History>,
}

/// What this process has seen of the job, over all of its runs.
#[derive(Default)]
struct History {
    /// Its own runs, and the run that the first of them took over from: whoever else commits is another process.
    known: Vec<Arc<str>>,
    /// Of the newest run; it notes when it is fenced.
    transaction: Option<Arc<KafkaTransaction>>,
    /// When it last fenced others because it had been fenced itself.
    refenced: Option<Instant>,
}

/// Runs of this process that are remembered. A manifest cannot be of an older one: each commits at its start.
const MAX_KNOWN: usize = 16;

impl History {
    fn know(&mut self, instance: &str) {
        if !self.known.iter().any(|known| **known == *instance) {
            self.known.push(instance.into());
        }
        if self.known.len() > MAX_KNOWN {
            self.known.remove(0);
        }
    }
}

impl KafkaStore {
    /// A store on the cluster that the job's configuration names.
    pub fn new() -> Self {
        Self::default()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin(&self, start: &CommitStart) -> Result<Session> {
        let topic = manifest_topic::name(&start.job)?;
        let transactions = format!("tidewater-{}", start.job);
        let config = producer_config(start, &transactions)?;
        let attempted = || format!("start job \"{}\"", start.job);
        self.settle(start, &topic, config.transaction_timeout).await?;
        let admin = admin(&start.config)?;
        let cluster = admin.describe_cluster().await.map_err(|error| failed(attempted(), error))?;
        manifest_topic::ensure(&admin, &topic, cluster.brokers.len()).await?;
        let producer = TransactionalProducer::new(&config).map_err(|error| failed(attempted(), error))?;
        let identity = producer.init().await.map_err(|error| failed(attempted(), error))?;
        tracing::info!(job = %start.job, transactional_id = transactions, ?identity, "earlier runs are fenced");
        crash::at("fenced");
        let manifest = manifest_topic::newest(start, &admin, &topic, Isolation::ReadUncommitted).await?;
        let transaction = Arc::new(KafkaTransaction::new(Arc::clone(&start.job), topic, producer, &config)?);
        let mut history = self.history();
        if let Some(manifest) = &manifest {
            history.know(&manifest.instance);
        }
        history.know(&start.instance);
        history.transaction = Some(Arc::clone(&transaction));
        Ok(Session {
            manifest,
            cluster: cluster.cluster_id.map(|id| id.to_string()),
            transaction: Arc::clone(&transaction) as _,
            commits: Arc::new(transaction),
        })
    }

    /// Before this process fences anybody again, finds out whether another has taken the job over. Two instances
    /// of a job would else take it from each other for ever.
    async fn settle(&self, start: &CommitStart, topic: &str, timeout: Duration) -> Result<()> {
        let Some(last) = self.history().transaction.take() else { return Ok(()) };
        let admin = admin(&start.config)?;
        self.check_owner(start, &admin, topic).await?;
        if !last.is_fenced() {
            return Ok(());
        }
        // Who has fenced it commits its start soon after.
        let deadline = bridge::now() + WATCH;
        while bridge::now() < deadline {
            bridge::sleep(WATCH_INTERVAL).await;
            self.check_owner(start, &admin, topic).await?;
        }
        self.note_refencing(start, timeout)
    }

    /// Refuses to go on if the newest manifest is of another process.
    async fn check_owner(&self, start: &CommitStart, admin: &Admin, topic: &str) -> Result<()> {
        let Some(newest) = manifest_topic::newest(start, admin, topic, Isolation::ReadCommitted).await?
        else {
            return Ok(());
        };
        if self.history().known.iter().any(|known| **known == *newest.instance) {
            return Ok(());
        }
        let (other, epoch) = (newest.instance, newest.epoch);
        let attempted =
            format!("go on with job \"{}\": instance {other} has taken it over (epoch {epoch})", start.job);
        Err(Error::new(ErrorKind::Fenced, attempted)
            .with_hint("only one instance of a job can run; give a second job a --group of its own"))
    }

    /// A job takes its transactional id back from strangers, but not again and again.
    fn note_refencing(&self, start: &CommitStart, timeout: Duration) -> Result<()> {
        let now = bridge::now();
        let mut history = self.history();
        if history.refenced.is_some_and(|last| now.saturating_duration_since(last) < timeout) {
            let attempted = format!(
                "go on with job \"{}\": it was fenced twice within {} s, and no other instance has committed",
                start.job,
                timeout.as_secs()
            );
            return Err(Error::new(ErrorKind::Fenced, attempted).with_hint(format!(
                "another program uses the transactional id \"tidewater-{}\": find and stop it",
                start.job
            )));
        }
        history.refenced = Some(now);
        Ok(())
    }
}

/// How long a fenced job waits for the one that fenced it to commit its start.
const WATCH: Duration = Duration::from_secs(5);
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

impl CommitStore for KafkaStore {
    fn start(&self, start: CommitStart) -> BoxFuture<'_, Result<Session>> {
        Box::pin(async move {
            let is_first = self.history().known.is_empty();
            // What has never worked is a wrong setting more often than bad luck: it is said at once.
            self.begin(&start).await.map_err(
                |error| {
                    if is_first { error.with_retriable(false) } else { error }
                },
            )
        })
    }
}

fn producer_config(start: &CommitStart, transactional_id: &str) -> Result<ProducerConfig> {
    let mut config = ProducerConfig::from_properties(&start.config.kafka)
        .map_err(|error| failed("read the configuration", error))?;
    config.transactional_id = Some(transactional_id.to_owned());
    Ok(config)
}

/// A client for administration of the cluster that the job's configuration names.
pub(crate) fn admin(config: &Config) -> Result<Admin> {
    let client = ClientConfig::from_properties(&config.kafka);
    client.and_then(Admin::new).map_err(|error| failed("read the configuration", error))
}

/// An error of the Kafka client as one of a job. A restart from the manifest may help against everything that
/// is not a matter of settings, rights or lost data.
pub(crate) fn failed(attempted: impl Into<Cow<'static, str>>, error: kafka_wire::Error) -> Error {
    use kafka_wire::ErrorKind as Kafka;

    let (kind, retriable) = match error.kind() {
        Kafka::Config => (ErrorKind::Config, false),
        Kafka::DataLoss => (ErrorKind::DataLoss, false),
        Kafka::Fenced => (ErrorKind::Fenced, true),
        Kafka::Broker(code) if is_refusal(code) => (ErrorKind::Connector, false),
        Kafka::Network | Kafka::Timeout | Kafka::Broker(_) | Kafka::Protocol | Kafka::Closed => {
            (ErrorKind::Connector, true)
        }
        _ => (ErrorKind::Connector, error.possibly_written() || error.is_abortable()),
    };
    Error::new(kind, attempted).with_cause(error).with_retriable(retriable)
}

/// What a broker answers for as long as nobody changes something.
fn is_refusal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::INVALID_TOPIC_EXCEPTION
            | ErrorCode::INVALID_TRANSACTION_TIMEOUT
            | ErrorCode::INVALID_TIMESTAMP
            | ErrorCode::INVALID_REPLICATION_FACTOR
            | ErrorCode::POLICY_VIOLATION
            | ErrorCode::MESSAGE_TOO_LARGE
            | ErrorCode::RECORD_LIST_TOO_LARGE
            | ErrorCode::UNSUPPORTED_VERSION
    )
}

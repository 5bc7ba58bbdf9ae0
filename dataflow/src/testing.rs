//! For tests of one's own jobs: an embedded broker, and a client that writes and reads whole topics.
//!
//! ```
//! use dataflow::testing::{TestClient, broker};
//! use dataflow::{Job, KafkaSink, KafkaSource, Settings};
//!
//! let broker = broker(&[("words", 2), ("shouted", 1)])?;
//! let client = TestClient::new(&broker.bootstrap())?;
//! client.write("words", [("a", "to be"), ("b", "or not")])?;
//!
//! let mut job = Job::new("shout");
//! job.source(KafkaSource::string("words")).map(|words| words.to_uppercase()).sink(KafkaSink::string("shouted"));
//! job.run(Settings { bounded: true, ..Settings::from(&client.config()?) })?;
//!
//! let mut shouted = client.read_committed("shouted")?;
//! shouted.sort();
//! assert_eq!(shouted, [b"OR NOT".to_vec(), b"TO BE".to_vec()]);
//! # Ok::<(), dataflow::Error>(())
//! ```

use std::future::poll_fn;
use std::sync::Arc;

pub use tidewater_broker as embedded;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{
    Admin, Consumer, Isolation, NewTopic, OffsetSpec, Position, Producer, Record, TopicPartition,
};
use tidewater_broker::{EmbeddedBroker, Options};

use crate::commit::kafka::failed;
use crate::config::{Config, ConfigBuilder};
use crate::engine::bridge::Bridge;
use crate::error::{Error, ErrorKind, Result};

/// Starts an embedded broker with these topics and their numbers of partitions. It ends when it is dropped.
///
/// # Errors
/// When there is no port or no thread for it.
pub fn broker(topics: &[(&str, i32)]) -> Result<EmbeddedBroker> {
    let options = Options { auto_create_topics: false, ..Options::default() };
    let options =
        topics.iter().fold(options, |options, (topic, partitions)| options.with_topic(*topic, *partitions));
    EmbeddedBroker::start(options)
        .map_err(|error| Error::new(ErrorKind::Connector, "start an embedded broker").with_cause(error))
}

/// Writes and reads topics of any cluster, blocking.
pub struct TestClient {
    bootstrap: String,
    bridge: Bridge,
}

impl TestClient {
    /// A client of the cluster at `bootstrap` (`host:port`).
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn new(bootstrap: &str) -> Result<Self> {
        Ok(Self { bootstrap: bootstrap.to_owned(), bridge: Bridge::start()? })
    }

    /// A configuration for jobs on the cluster, that keeps their state in memory.
    ///
    /// # Errors
    /// When `bootstrap` is no address.
    pub fn config(&self) -> Result<Config> {
        let builder = ConfigBuilder::new().set("bootstrap.servers", &self.bootstrap)?;
        builder.set("state.url", "memory:")?.build()
    }

    fn client(&self) -> Result<ClientConfig> {
        ClientConfig::bootstrap(&self.bootstrap).map_err(|error| failed("connect", error))
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When the brokers do not.
    pub fn create(&self, topic: &str, partitions: i32) -> Result<()> {
        let attempted = || format!("create topic \"{topic}\"");
        let admin = Admin::new(self.client()?).map_err(|error| failed(attempted(), error))?;
        let created = self.bridge.run(admin.create_topics([NewTopic::new(topic, partitions)]));
        for (_, created) in created.map_err(|error| failed(attempted(), error))? {
            created.map_err(|error| failed(attempted(), error))?;
        }
        Ok(())
    }

    /// Writes records of these keys and values, and waits until they are acknowledged.
    ///
    /// # Errors
    /// When one of them is not.
    pub fn write<K: AsRef<str>, V: AsRef<str>>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let attempted = || format!("write topic \"{topic}\"");
        let config = ProducerConfig { client: self.client()?, ..ProducerConfig::default() };
        let producer = Producer::new(config).map_err(|error| failed(attempted(), error))?;
        let mut receipts = Vec::new();
        for (key, value) in records {
            let record = Record::to(topic).key(key.as_ref()).value(value.as_ref());
            let receipt = producer.enqueue_blocking(record);
            receipts.push(receipt.map_err(|error| failed(attempted(), error))?);
        }
        self.bridge.run(producer.flush());
        for receipt in receipts {
            receipt.wait().map_err(|error| failed(attempted(), error))?;
        }
        Ok(())
    }

    /// All committed values, partition by partition. Waits for transactions that are open now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read_committed(&self, topic: &str) -> Result<Vec<Vec<u8>>> {
        self.bridge.run(self.read(topic)).map_err(|error| failed(format!("read topic \"{topic}\""), error))
    }

    async fn read(&self, topic: &str) -> kafka_wire::Result<Vec<Vec<u8>>> {
        let client = ClientConfig::bootstrap(&self.bootstrap)?;
        let config =
            ConsumerConfig { client, isolation: Isolation::ReadCommitted, ..ConsumerConfig::default() };
        let mut consumer = Consumer::new(config)?;
        let topic: Arc<str> = topic.into();
        let partitions = consumer.describe_topic(&topic).await?.partitions.len() as i32;
        let mut values = Vec::new();
        for number in 0..partitions {
            let partition = TopicPartition::new(Arc::clone(&topic), number);
            let ends = [(partition.clone(), OffsetSpec::Latest)];
            // Not the last stable offset: a transaction may be committed whose markers are still being written.
            let ends = consumer.list_offsets(ends, Isolation::ReadUncommitted).await?;
            let end = ends.first().and_then(|(_, listed)| listed.offset).unwrap_or_default();
            consumer.assign([(partition, Position::Beginning)])?;
            let mut next = 0;
            while next < end {
                let batch = poll_fn(|cx| consumer.poll_batch(cx)).await?;
                values.extend(batch.iter().filter_map(|record| record.value.map(<[u8]>::to_vec)));
                next = batch.next_offset();
            }
        }
        Ok(values)
    }
}

use std::time::Duration;

use super::parse::Reader;
use super::{ClientConfig, Properties};
use crate::error::{Error, ErrorKind, Result};
use crate::time::bound;
use crate::types::{Acks, Codec};

/// What a producer can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerConfig {
    /// What every client needs.
    pub client: ClientConfig,
    /// `acks`. Default all: what is acknowledged survives the loss of the leader.
    pub acks: Acks,
    /// `enable.idempotence`: a retry never writes twice, and order holds. Default `true`.
    pub enable_idempotence: bool,
    /// `max.in.flight.requests.per.connection`: requests a broker may have unanswered. Default 5, the most
    /// that idempotence allows: a broker remembers the last 5 batches of a producer.
    pub max_in_flight_requests_per_connection: usize,
    /// `batch.size`: a batch is sent when it has this many bytes. Default 128 KiB. Java's 16 KiB costs a
    /// batch, and the broker's work for it, per 150 records of 100 bytes; with 1 MB the processor's cache
    /// no longer holds what is being written, and producing costs a fifth more CPU (measured).
    pub batch_size: usize,
    /// `linger.ms`: how long a batch waits for more records. Default 5 ms.
    pub linger: Duration,
    /// `buffer.memory`: bytes of records not yet acknowledged; `send` waits above it. Default 32 MiB.
    pub buffer_memory: usize,
    /// `max.block.ms`: how long `send` may wait for memory or metadata. Default 60 s.
    pub max_block: Duration,
    /// `delivery.timeout.ms`: from `send` to acknowledged or failed. Default 120 s.
    pub delivery_timeout: Duration,
    /// `max.request.size`: the largest record, uncompressed, and the largest request. Default 1 MiB, as
    /// brokers' `message.max.bytes`.
    pub max_request_size: usize,
    /// `compression.type`. Default none.
    pub compression: Codec,
    /// `compression.gzip.level` (1 to 9) or `compression.zstd.level` (-131072 to 22), of the codec in use; snappy and
    /// LZ4 have no levels here, since no LZ4 encoder without C has a second one (`compression.lz4.level` is passed over
    /// with a warning). Default: gzip 6, as in Java; zstd 1, where Java has 3, see
    /// [`Compression::new`](crate::Compression::new).
    pub compression_level: Option<i32>,
    /// `partitioner.class`: Java's `RoundRobinPartitioner`, or by default the producer's own choice, which is
    /// Java's default too. Other classes are Java's code: give a [`Partitioner`](crate::Partitioner) to
    /// [`Producer::builder`](crate::Producer::builder).
    pub partitioner: PartitionerClass,
    /// `partitioner.adaptive.partitioning.enable`: records without a key go rather to partitions with less
    /// before them (KIP-794). Default `true`.
    pub partitioner_adaptive: bool,
    /// `partitioner.availability.timeout.ms`: the partitions of a broker that has acknowledged nothing for so
    /// long get no records without a key, where the partitioner is adaptive. Default zero: never.
    pub partitioner_availability_timeout: Duration,
    /// `partitioner.rack.aware`: records without a key go to partitions whose leaders are in `client.rack`, as
    /// long as there are any (KIP-1123). Default `false`.
    pub partitioner_rack_aware: bool,
    /// `partitioner.ignore.keys`: spread keyed records too. Default `false`: equal keys, equal partition.
    pub partitioner_ignore_keys: bool,
    /// `retries`: how often a batch is sent again. Default 2147483647: `delivery.timeout.ms` is what ends it.
    /// Zero rules idempotence out.
    pub retries: u32,
    /// `transactional.id`: makes the producer transactional, and fences an older one of the same id.
    pub transactional_id: Option<String>,
    /// `transaction.timeout.ms`: the coordinator aborts a transaction older than this. Default 60 s.
    pub transaction_timeout: Duration,
}

/// Who chooses partitions for records that name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionerClass {
    /// The key's murmur2 hash, and without a key a sticky choice (KIP-480, KIP-794).
    BuiltIn,
    /// One partition after the other, keys or not.
    RoundRobin,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            client: ClientConfig::default(),
            acks: Acks::All,
            enable_idempotence: true,
            max_in_flight_requests_per_connection: 5,
            batch_size: 128 << 10,
            linger: Duration::from_millis(5),
            buffer_memory: 32 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            max_request_size: 1 << 20,
            compression: Codec::None,
            compression_level: None,
            partitioner: PartitionerClass::BuiltIn,
            partitioner_adaptive: true,
            partitioner_availability_timeout: Duration::ZERO,
            partitioner_rack_aware: false,
            partitioner_ignore_keys: false,
            retries: i32::MAX as u32,
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
        }
    }
}

impl ProducerConfig {
    /// Reads the properties that concern a producer.
    ///
    /// # Errors
    /// `Config`, naming the property, its value and what is allowed; also where two contradict.
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        let reader = Reader::new(properties);
        let default = Self::default();
        let transactional_id = reader.text("transactional.id").map(str::to_owned);
        let acks = reader.choice(
            "acks",
            default.acks,
            &[("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)],
        )?;
        let compression = reader.choice(
            "compression.type",
            default.compression,
            &[
                ("none", Codec::None),
                ("gzip", Codec::Gzip),
                ("snappy", Codec::Snappy),
                ("lz4", Codec::Lz4),
                ("zstd", Codec::Zstd),
            ],
        )?;
        let retries = reader.number("retries", default.retries, 0..=i32::MAX as u32)?;
        if reader.boolean("transaction.two.phase.commit.enable", false)? {
            let allowed = "false: two-phase commit (KIP-939) is not supported";
            return Err(reader.invalid("transaction.two.phase.commit.enable", allowed));
        }
        let round_robin = PartitionerClass::RoundRobin;
        let config = Self {
            client: ClientConfig::read(&reader)?,
            acks,
            // As Java: not asked for, it is off where the other settings rule it out.
            enable_idempotence: match reader.optional_boolean("enable.idempotence")? {
                Some(enabled) => enabled,
                None => transactional_id.is_some() || (acks == Acks::All && retries > 0),
            },
            max_in_flight_requests_per_connection: reader.number(
                "max.in.flight.requests.per.connection",
                default.max_in_flight_requests_per_connection,
                1..=1_000,
            )?,
            batch_size: reader.number("batch.size", default.batch_size, 0..=1 << 30)?,
            linger: reader.millis("linger.ms", default.linger, 0)?,
            buffer_memory: reader.number("buffer.memory", default.buffer_memory, 1..=usize::MAX >> 1)?,
            max_block: reader.millis("max.block.ms", default.max_block, 0)?,
            delivery_timeout: reader.millis("delivery.timeout.ms", default.delivery_timeout, 1)?,
            max_request_size: reader.number("max.request.size", default.max_request_size, 1..=1 << 30)?,
            compression,
            compression_level: compression_level(&reader, compression)?,
            partitioner: reader.choice(
                "partitioner.class",
                default.partitioner,
                &[
                    ("org.apache.kafka.clients.producer.RoundRobinPartitioner", round_robin),
                    ("RoundRobinPartitioner", round_robin),
                ],
            )?,
            partitioner_adaptive: reader
                .boolean("partitioner.adaptive.partitioning.enable", default.partitioner_adaptive)?,
            partitioner_availability_timeout: reader.millis(
                "partitioner.availability.timeout.ms",
                default.partitioner_availability_timeout,
                0,
            )?,
            partitioner_rack_aware: reader
                .boolean("partitioner.rack.aware", default.partitioner_rack_aware)?,
            partitioner_ignore_keys: reader
                .boolean("partitioner.ignore.keys", default.partitioner_ignore_keys)?,
            retries,
            transactional_id,
            transaction_timeout: reader.millis("transaction.timeout.ms", default.transaction_timeout, 1)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Finds settings that contradict each other.
    ///
    /// # Errors
    /// `Config`, naming both.
    pub fn check(&self) -> Result<()> {
        let contradiction = |text: String| Err(Error::new(ErrorKind::Config, text));
        if self.transactional_id.as_deref() == Some("") {
            return contradiction("transactional.id is empty; leave it out, or give it a name".to_owned());
        }
        if self.transactional_id.is_some() && !self.enable_idempotence {
            return contradiction("transactional.id needs enable.idempotence=true".to_owned());
        }
        if self.enable_idempotence && self.acks != Acks::All {
            return contradiction("enable.idempotence=true needs acks=all".to_owned());
        }
        if self.enable_idempotence && self.retries == 0 {
            return contradiction("enable.idempotence=true needs retries above 0".to_owned());
        }
        if self.enable_idempotence && self.max_in_flight_requests_per_connection > 5 {
            return contradiction(format!(
                "enable.idempotence=true allows at most 5 for max.in.flight.requests.per.connection, not {}",
                self.max_in_flight_requests_per_connection
            ));
        }
        let least = self.linger.saturating_add(self.client.request_timeout);
        if self.delivery_timeout < least {
            return contradiction(format!(
                "delivery.timeout.ms={} is less than linger.ms + request.timeout.ms = {}",
                self.delivery_timeout.as_millis(),
                least.as_millis()
            ));
        }
        Ok(())
    }

    /// See [`ClientConfig::with_finite_times`].
    #[cfg_attr(
        not(feature = "net"),
        allow(dead_code, reason = "the handles bound what applications give them")
    )]
    pub(crate) fn with_finite_times(mut self) -> Self {
        bound([
            &mut self.linger,
            &mut self.max_block,
            &mut self.delivery_timeout,
            &mut self.partitioner_availability_timeout,
            &mut self.transaction_timeout,
        ]);
        Self { client: self.client.with_finite_times(), ..self }
    }
}

fn compression_level(reader: &Reader<'_>, codec: Codec) -> Result<Option<i32>> {
    let levels = [
        (Codec::Gzip, "compression.gzip.level", 1..=9),
        (Codec::Zstd, "compression.zstd.level", -131_072..=22),
    ];
    let mut chosen = None;
    for (of, name, range) in levels {
        // Also those of the codecs not in use are checked: a wrong value should not wait for the day.
        let level = match reader.text(name) {
            // gzip's own word for "the default"
            Some("-1") if of == Codec::Gzip => None,
            _ => reader.optional_number(name, range)?,
        };
        if of == codec {
            chosen = level;
        }
    }
    Ok(chosen)
}

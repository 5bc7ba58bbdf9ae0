//! How a producer comes to be, with what the application puts into it.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::feed::ProducerFeed;
use super::{DeliveryCallback, Inner, Producer, Shared};
use crate::config::{PartitionerClass, ProducerConfig};
use crate::error::Result;
use crate::net::driver;
use crate::net::signal::{Mailbox, Signal, lock};
use crate::producer::{
    Accumulator, AccumulatorConfig, BatchMetadata, Interceptors, Partitioner, ProducerInterceptor,
    ProducerRole, RoundRobin,
};
use crate::record::Compression;

/// Makes a [`Producer`] with a partitioner, interceptors or a delivery callback of the application's.
pub struct ProducerBuilder {
    config: ProducerConfig,
    partitioner: Option<Arc<dyn Partitioner>>,
    interceptors: Interceptors,
    on_delivery: Option<DeliveryCallback>,
}

impl ProducerBuilder {
    pub(super) fn new(config: ProducerConfig) -> Self {
        let partitioner = match config.partitioner {
            PartitionerClass::BuiltIn => None,
            PartitionerClass::RoundRobin => Some(Arc::<RoundRobin>::default() as Arc<dyn Partitioner>),
        };
        Self { config, partitioner, interceptors: Interceptors::default(), on_delivery: None }
    }

    /// Asks `partitioner` for the partition of every record that names none; it replaces
    /// `partitioner.class`.
    #[must_use]
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Adds an interceptor, behind those that were added before.
    #[must_use]
    pub fn interceptor(mut self, interceptor: impl ProducerInterceptor + 'static) -> Self {
        self.interceptors.push(interceptor);
        self
    }

    /// Reports the fate of every batch to `on_delivery`, on the client's I/O thread, which it must not block.
    #[must_use]
    pub fn on_delivery(
        mut self,
        on_delivery: impl Fn(&Result<BatchMetadata>) + Send + Sync + 'static,
    ) -> Self {
        self.on_delivery = Some(Box::new(on_delivery));
        self
    }

    /// The producer. It connects when it is first used.
    ///
    /// # Errors
    /// `Config` when settings contradict each other, `Network` when its thread cannot be started.
    pub fn build(self) -> Result<Producer> {
        let Self { config, partitioner, interceptors, on_delivery } = self;
        config.check()?;
        let config = config.with_finite_times();
        let seed = driver::seed();
        let signal = Arc::new(Signal::default());
        let accumulator = Accumulator::new(AccumulatorConfig {
            compression: Compression::new(config.compression, config.compression_level)?,
            batch_size: config.batch_size.min(config.max_request_size),
            linger: config.linger,
            buffer_memory: config.buffer_memory,
            max_request_size: config.max_request_size,
            partitioner,
            ignore_keys: config.partitioner_ignore_keys,
            is_adaptive: config.partitioner_adaptive,
            availability_timeout: config.partitioner_availability_timeout,
            max_in_flight: config.max_in_flight_requests_per_connection,
            seed,
        });
        let shared = Arc::new(Shared {
            accumulator: Mutex::new(accumulator),
            signal: Arc::clone(&signal),
            on_delivery,
            interceptors,
        });
        let listening = Arc::clone(&shared);
        let listener =
            Box::new(move |topic: &str, shape| lock(&listening.accumulator).update_topic(topic, shape));
        let role = ProducerRole::new(&config, seed, listener);
        let (mailbox, commands) = Mailbox::new(Arc::clone(&signal));
        let feed = ProducerFeed::new(Arc::clone(&shared), commands);
        let driver = driver::spawn("kafka-producer", &config.client, role, feed, signal)?;
        Ok(Producer(Arc::new(Inner {
            shared,
            mailbox,
            max_block: config.max_block,
            buffer_memory: config.buffer_memory,
            is_transactional: config.transactional_id.is_some(),
            _driver: driver,
        })))
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, partitioner, interceptors, .. } = self;
        f.debug_struct("ProducerBuilder")
            .field("config", config)
            .field("partitioner", partitioner)
            .field("interceptors", interceptors)
            .finish_non_exhaustive()
    }
}

//! The handle for administration.

mod acls;
mod cluster;
mod configs;
mod groups;
mod log_dirs;
mod partitions;
mod tokens;
mod topics;
mod transactions;
mod users;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::driver::{DriverHandle, now, spawn};
use super::signal::{Mailbox, Signal};
use crate::admin::cluster::{Whole, only};
use crate::admin::{AdminRole, Batch, Command, Operation};
use crate::config::{ClientConfig, Properties};
use crate::error::Result;
use crate::time::TIME_MAX;
use crate::types::BrokerId;

/// Outcomes by what was asked about, in no order; each may fail on its own.
pub type Results<K, T> = Vec<(K, Result<T>)>;

/// Administration of a cluster.
///
/// Cheap to clone; the last clone's drop ends its thread and connections. Every call works from any
/// thread and under any async runtime, takes at most `default.api.timeout.ms`, and repeats by itself what
/// fails in passing.
///
/// # Cancel safety
/// Dropping a call's future does not take the operation back: it may or may not be carried out.
#[derive(Clone, Debug)]
pub struct Admin {
    mailbox: Mailbox<Command>,
    /// How long a call may take.
    timeout: Duration,
    /// Whether descriptions are to say what this client may do.
    authorized_operations: bool,
    _driver: Arc<DriverHandle>,
}

impl Admin {
    /// An admin client; connects when it is first used.
    ///
    /// # Errors
    /// `Config`, or `Unsupported`, for settings that cannot work.
    pub fn new(config: ClientConfig) -> Result<Self> {
        let config = config.with_finite_times();
        let signal = Arc::new(Signal::default());
        let (mailbox, feed) = Mailbox::new(Arc::clone(&signal));
        let driver = spawn("kafka-admin", &config, AdminRole::new(), feed, signal)?;
        Ok(Self {
            mailbox,
            timeout: config.default_api_timeout,
            authorized_operations: false,
            _driver: Arc::new(driver),
        })
    }

    /// An admin client by Java property names.
    ///
    /// # Errors
    /// As [`ClientConfig::from_properties`] and [`Admin::new`].
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        Self::new(ClientConfig::from_properties(properties)?)
    }

    /// The same client with another time for each call than `default.api.timeout.ms`.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client, which of topics, groups and the cluster also describes what it may do with them (KIP-430);
    /// that costs the brokers a question to their authorizer for each operation.
    #[must_use]
    pub fn with_authorized_operations(&self) -> Self {
        Self { authorized_operations: true, ..self.clone() }
    }

    async fn run<O: Operation>(
        &self,
        operation: O,
        items: Vec<(O::Key, O::Item)>,
    ) -> Result<Results<O::Key, O::Output>> {
        let (now, timeout): (Instant, _) = (now(), self.timeout.min(TIME_MAX));
        self.mailbox
            .ask(|reply| Command::Run(Box::new(Batch::new(now, timeout, operation, items, reply))))
            .await
    }

    /// An operation on the cluster as a whole.
    async fn ask<O: Operation<Key = Whole, Item = ()>>(&self, operation: O) -> Result<O::Output> {
        only(self.run(operation, vec![(Whole, ())]).await?)
    }

    /// All brokers that are up, to ask each of them.
    async fn brokers(&self) -> Result<Vec<(BrokerId, ())>> {
        let cluster = self.describe_cluster().await?;
        Ok(cluster.brokers.into_iter().map(|broker| (broker.id, ())).collect())
    }
}

fn keys<K: From<T>, T>(names: impl IntoIterator<Item = T>) -> Vec<(K, ())> {
    names.into_iter().map(|name| (name.into(), ())).collect()
}

fn pairs<K: From<T>, T, I: From<V>, V>(items: impl IntoIterator<Item = (T, V)>) -> Vec<(K, I)> {
    items.into_iter().map(|(key, item)| (key.into(), item.into())).collect()
}

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::listener::Callbacks;
use super::{Consumer, RebalanceListener};
use crate::config::{ConsumerConfig, Properties};
use crate::error::{Error, Result};
use crate::types::TopicPartition;

/// Makes a [`Consumer`]; see [`Consumer::builder`].
#[derive(Default)]
pub struct ConsumerBuilder {
    properties: Properties,
    /// The first that was wrong.
    error: Option<Error>,
    topics: BTreeSet<Arc<str>>,
    pattern: Option<String>,
    listener: Option<Box<dyn RebalanceListener>>,
    callbacks: Callbacks,
}

impl ConsumerBuilder {
    /// `bootstrap.servers`: `host:port`, several separated by commas.
    #[must_use]
    pub fn bootstrap(self, servers: &str) -> Self {
        self.set("bootstrap.servers", servers)
    }

    /// `group.id`.
    #[must_use]
    pub fn group(self, group: &str) -> Self {
        self.set("group.id", group)
    }

    /// Any property, by Java's name. What is wrong with it [`build`](Self::build) says.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.properties.set(name, value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// All these properties, as of a file; those that are set afterwards win.
    #[must_use]
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// Reads these topics, as a member of the group: see [`Consumer::subscribe`].
    #[must_use]
    pub fn subscribe<T: Into<Arc<str>>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Reads all topics that match, as a member of the group: see [`Consumer::subscribe_pattern`].
    #[must_use]
    pub fn subscribe_pattern(mut self, pattern: &str) -> Self {
        self.pattern = Some(pattern.to_owned());
        self
    }

    /// Hears of rebalances; takes the place of the closures.
    #[must_use]
    pub fn listener(mut self, listener: impl RebalanceListener + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// See [`RebalanceListener::assigned`].
    #[must_use]
    pub fn on_assigned(
        mut self,
        call: impl FnMut(&mut Consumer, &[TopicPartition]) + Send + 'static,
    ) -> Self {
        self.callbacks.assigned = Some(Box::new(call));
        self
    }

    /// See [`RebalanceListener::revoked`].
    #[must_use]
    pub fn on_revoked(mut self, call: impl FnMut(&mut Consumer, &[TopicPartition]) + Send + 'static) -> Self {
        self.callbacks.revoked = Some(Box::new(call));
        self
    }

    /// See [`RebalanceListener::lost`].
    #[must_use]
    pub fn on_lost(mut self, call: impl FnMut(&mut Consumer, &[TopicPartition]) + Send + 'static) -> Self {
        self.callbacks.lost = Some(Box::new(call));
        self
    }

    /// The consumer. Does not wait for a broker: the first [`poll`](Consumer::poll) does.
    ///
    /// # Errors
    /// `Config` for a property that is missing or wrong, `Usage` for a pattern that is none or that comes together with
    /// topics; and as [`Consumer::new`].
    pub fn build(self) -> Result<Consumer> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut consumer = Consumer::new(ConsumerConfig::from_properties(&self.properties)?)?;
        if let Some(listener) = self.listener {
            consumer.set_listener_boxed(listener);
        } else if !self.callbacks.is_empty() {
            consumer.set_listener_boxed(Box::new(self.callbacks));
        }
        if !self.topics.is_empty() {
            consumer.subscribe(self.topics)?;
        }
        if let Some(pattern) = self.pattern {
            consumer.subscribe_pattern(&pattern)?;
        }
        Ok(consumer)
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("properties", &self.properties)
            .field("topics", &self.topics)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

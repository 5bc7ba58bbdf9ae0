//! Topics by a pattern: all of the cluster are asked for, now and then, and those whose names match are read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use regex::Regex;

use crate::engine::{Core, Target, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::metadata::{MetadataRequest, MetadataResponse};
use crate::protocol::request::Response;

/// A pattern that a topic's whole name must match, as with Java's `Pattern`.
#[derive(Clone, Debug)]
pub(crate) struct TopicPattern {
    text: Arc<str>,
    regex: Regex,
}

impl TopicPattern {
    pub(crate) fn new(text: &str) -> Result<Self> {
        let regex = Regex::new(&format!("^(?:{text})$")).map_err(|cause| {
            Error::new(ErrorKind::Usage, format!("subscribe to topics by the pattern '{text}'"))
                .with_cause(cause)
        })?;
        Ok(Self { text: Arc::from(text), regex })
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }
}

/// Looks for topics that match, every `metadata.max.age.ms`.
#[derive(Debug)]
pub(super) struct TopicFinder {
    pattern: TopicPattern,
    call: Option<Token>,
    next: Instant,
    failures: u32,
    found: BTreeSet<Arc<str>>,
}

impl TopicFinder {
    pub(super) fn new(now: Instant, pattern: TopicPattern) -> Self {
        Self { pattern, call: None, next: now, failures: 0, found: BTreeSet::new() }
    }

    pub(super) fn drive(&mut self, now: Instant, core: &mut Core) {
        if self.call.is_none() && self.next <= now {
            let request = MetadataRequest { topics: None, allow_auto_topic_creation: false };
            let timeout = core.config().request_timeout;
            self.call = Some(core.call(now, Target::Any, Box::new(request), timeout));
        }
    }

    /// Takes the answer if it was asked for here: what matches now.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        core: &mut Core,
    ) -> std::result::Result<Option<BTreeSet<Arc<str>>>, Result<Response>> {
        if self.call != Some(token) {
            return Err(result);
        }
        self.call = None;
        match result.and_then(|response| self.matching(&response)) {
            Ok(found) => {
                self.failures = 0;
                self.next = now + core.config().metadata_max_age;
                let is_new = self.found != found;
                self.found.clone_from(&found);
                Ok(is_new.then_some(found))
            }
            Err(error) => {
                tracing::debug!(%error, "no list of topics");
                self.failures = self.failures.saturating_add(1);
                self.next = now + core.retry_delay(self.failures);
                Ok(None)
            }
        }
    }

    /// Kafka's own topics are never meant.
    fn matching(&self, response: &Response) -> Result<BTreeSet<Arc<str>>> {
        let metadata = MetadataResponse::decode(response)?;
        if let Some(code) = metadata.error {
            return Err(Error::broker(code, "ask for all topics"));
        }
        // A broker that has just started knows of none, and of no broker either.
        if metadata.brokers.is_empty() {
            return Err(Error::new(ErrorKind::Protocol, "ask for all topics: the answer names no broker"));
        }
        let topics = metadata.topics.iter().filter(|topic| topic.error.is_none() && !topic.is_internal);
        let matching = topics.filter(|topic| self.pattern.regex.is_match(topic.name.as_str()));
        Ok(matching.map(|topic| Arc::from(topic.name.as_str())).collect())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.call.is_none().then_some(self.next)
    }

    pub(super) fn cancel(&mut self, core: &mut Core) {
        if let Some(token) = self.call.take() {
            core.cancel(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let pattern = TopicPattern::new("orders|clicks-.*").unwrap();
        assert!(pattern.regex.is_match("orders") && pattern.regex.is_match("clicks-eu"));
        assert!(!pattern.regex.is_match("old-orders") && !pattern.regex.is_match("orders2"));
        let error = TopicPattern::new("orders(").unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("orders("), "{error}");
    }
}

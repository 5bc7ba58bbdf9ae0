//! Faults by rule: which requests, and what happens to them.

use std::time::Duration;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::ApiKey;

/// What happens to a request that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is refused with this code and not applied; where the rule names a topic, only for that topic.
    Error(ErrorCode),
    /// It is applied after this time.
    Delay(Duration),
    /// It is not applied, and the connection is closed.
    Disconnect,
    /// It is applied, and the connection is closed: the answer is lost.
    ApplyThenDisconnect,
    /// It is applied at once, and answered after this time.
    ApplyThenDelay(Duration),
    /// It is not applied and never answered; the connection stays open.
    Ignore,
    /// It is applied, and one byte in the middle of its answer is another.
    Corrupt,
    /// A Fetch is answered with records of which the last byte is another, so that their checksum is wrong. Answers
    /// without records stay as they are.
    CorruptRecords,
    /// It is applied, and its answer asks for this pause (`throttle_time_ms`), during which the broker handles nothing
    /// on that connection (KIP-219).
    Throttle(Duration),
}

/// Which requests a fault hits, and how often.
///
/// ```
/// use tidewater_broker::{Action, ApiKey, ErrorCode, Rule};
/// // The second and third Produce for orders-0 are refused, once each.
/// let rule = Rule::new(Action::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER))
///     .api(ApiKey::Produce)
///     .partition("orders", 0)
///     .skip(1)
///     .times(2);
/// // The answer of the next EndTxn is lost, though the transaction is committed.
/// let lost = Rule::new(Action::ApplyThenDisconnect).api(ApiKey::EndTxn).times(1);
/// # let _ = (rule, lost);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    action: Action,
    api: Option<ApiKey>,
    node: Option<i32>,
    client_id: Option<String>,
    group: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    skip: u64,
    times: Option<u64>,
}

impl Rule {
    /// A rule that hits every request with `action`.
    pub fn new(action: Action) -> Self {
        Self {
            action,
            api: None,
            node: None,
            client_id: None,
            group: None,
            topic: None,
            partition: None,
            skip: 0,
            times: None,
        }
    }

    /// Only requests of this API.
    #[must_use]
    pub fn api(mut self, api: ApiKey) -> Self {
        self.api = Some(api);
        self
    }

    /// Only requests to this node.
    #[must_use]
    pub fn node(mut self, node: i32) -> Self {
        self.node = Some(node);
        self
    }

    /// Only requests of clients with this `client.id`.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Only requests of members of this group: joining, syncing, leaving, heartbeats of all kinds, `OffsetCommit`,
    /// `TxnOffsetCommit`, and those of share sessions.
    ///
    /// ```
    /// use tidewater_broker::{Action, ApiKey, ErrorCode, Rule};
    /// // The next heartbeat in the group `billing` sends its member to look for the coordinator.
    /// let rule = Rule::new(Action::Error(ErrorCode::NOT_COORDINATOR)).api(ApiKey::Heartbeat).group("billing").times(1);
    /// # let _ = rule;
    /// ```
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Only requests that name this topic (Produce, Fetch, `ListOffsets`, `AddPartitionsToTxn`,
    /// `TxnOffsetCommit`, `OffsetCommit`; others name none).
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only requests that name this partition.
    #[must_use]
    pub fn partition(mut self, topic: impl Into<String>, partition: i32) -> Self {
        self.topic = Some(topic.into());
        self.partition = Some(partition);
        self
    }

    /// Lets the first `count` matching requests pass.
    #[must_use]
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Hits at most `count` requests; all by default.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    pub(crate) fn names_a_topic(&self) -> bool {
        self.topic.is_some()
    }

    fn matches(&self, asked: Asked<'_>, named: &[(String, i32)]) -> bool {
        self.api.is_none_or(|wanted| wanted == asked.api)
            && self.node.is_none_or(|wanted| wanted == asked.node)
            && self.client_id.as_ref().is_none_or(|wanted| Some(wanted.as_str()) == asked.client_id)
            && self.group.as_ref().is_none_or(|wanted| Some(wanted.as_str()) == asked.group)
            && self.topic.as_ref().is_none_or(|topic| {
                named.iter().any(|(name, index)| {
                    name == topic && self.partition.is_none_or(|partition| partition == *index)
                })
            })
    }
}

/// A request, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) node: i32,
    pub(crate) api: ApiKey,
    pub(crate) client_id: Option<&'a str>,
    /// Known where some rule asks for it.
    pub(crate) group: Option<&'a str>,
}

/// A rule that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(u64);

/// An error to answer instead of applying a request, or a part of it.
#[derive(Clone, Debug)]
pub(crate) struct Injected {
    code: ErrorCode,
    topic: Option<String>,
    partition: Option<i32>,
}

impl Injected {
    /// The code, where the fault is for the whole request.
    pub(crate) fn for_request(&self) -> Option<ErrorCode> {
        self.topic.is_none().then_some(self.code)
    }

    /// The code, where the fault is for this partition or for all.
    pub(crate) fn for_partition(&self, topic: &str, partition: i32) -> Option<ErrorCode> {
        let topic_fits = self.topic.as_deref().is_none_or(|wanted| wanted == topic);
        (topic_fits && self.partition.is_none_or(|wanted| wanted == partition)).then_some(self.code)
    }
}

/// What a matching rule asks for.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Inject(Injected),
    Other(Action),
}

#[derive(Debug)]
struct Active {
    id: RuleId,
    rule: Rule,
    seen: u64,
    hits: u64,
}

/// The rules in force. The first that matches a request decides.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Active>,
    next_id: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, rule: Rule) -> RuleId {
        let id = RuleId(self.next_id);
        self.next_id += 1;
        self.rules.push(Active { id, rule, seen: 0, hits: 0 });
        id
    }

    pub(crate) fn remove(&mut self, id: RuleId) {
        self.rules.retain(|active| active.id != id);
    }

    pub(crate) fn hits(&self, id: RuleId) -> u64 {
        self.rules.iter().find(|active| active.id == id).map_or(0, |active| active.hits)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether some rule asks which partitions a request names.
    pub(crate) fn need_names(&self) -> bool {
        self.rules.iter().any(|active| active.rule.names_a_topic())
    }

    /// Whether some rule asks which group a request is of.
    pub(crate) fn need_group(&self) -> bool {
        self.rules.iter().any(|active| active.rule.group.is_some())
    }

    /// Judges a request that names these partitions.
    pub(crate) fn judge(&mut self, asked: Asked<'_>, named: &[(String, i32)]) -> Option<Fault> {
        for active in &mut self.rules {
            if !active.rule.matches(asked, named) {
                continue;
            }
            active.seen += 1;
            if active.seen <= active.rule.skip || active.rule.times.is_some_and(|times| active.hits >= times)
            {
                continue;
            }
            active.hits += 1;
            let Rule { topic, partition, .. } = &active.rule;
            return Some(match active.rule.action {
                Action::Error(code) => {
                    Fault::Inject(Injected { code, topic: topic.clone(), partition: *partition })
                }
                action => Fault::Other(action),
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_hits_what_it_names_as_often_as_it_says() {
        let mut faults = Faults::default();
        let rule = Rule::new(Action::Disconnect)
            .api(ApiKey::Produce)
            .node(1)
            .client_id("c")
            .partition("t", 2)
            .skip(1)
            .times(2);
        let id = faults.add(rule);
        let named = [("t".to_owned(), 2)];
        let asked = |node, api| Asked { node, api, client_id: Some("c"), group: None };
        assert!(faults.judge(asked(1, ApiKey::Fetch), &named).is_none());
        assert!(faults.judge(asked(0, ApiKey::Produce), &named).is_none());
        assert!(faults.judge(asked(1, ApiKey::Produce), &[("t".to_owned(), 1)]).is_none());
        let other = Asked { client_id: None, ..asked(1, ApiKey::Produce) };
        assert!(faults.judge(other, &named).is_none());
        let hits: Vec<bool> =
            (0..5).map(|_| faults.judge(asked(1, ApiKey::Produce), &named).is_some()).collect();
        assert_eq!(hits, [false, true, true, false, false]);
        assert_eq!(faults.hits(id), 2);
        faults.remove(id);
        assert!(faults.is_empty());
    }
}

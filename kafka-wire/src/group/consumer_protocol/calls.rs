//! The heartbeat of KIP-848: what is asked, and what a refusal means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::{GroupMembershipOperation, Subscription};
use crate::cluster::CoordinatorKind;
use crate::config::GroupConfig;
use crate::engine::Target;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use crate::protocol::messages::metadata_request::MetadataRequestTopic;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, GroupId, MetadataRequest, StrBytes, TopicName,
};
use crate::protocol::metadata::MetadataResponse;
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::TopicId;

/// A partition as this protocol names it.
pub(super) type Slot = (TopicId, i32);

/// Leaves.
const LEAVE: i32 = -1;
/// Leaves for now: a static member that will be back.
const LEAVE_FOR_NOW: i32 = -2;

/// What a heartbeat tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) subscription: Subscription,
    pub(super) slots: BTreeSet<Slot>,
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) group: Arc<str>,
    pub(super) instance_id: Option<Arc<str>>,
    rack: Option<Arc<str>>,
    server_assignor: Option<Arc<str>>,
    rebalance_timeout_ms: i32,
    /// Its own choice (KIP-1082), and kept for life; empty before the first heartbeat.
    pub(super) member_id: Arc<str>,
    /// 0 while it is not a member.
    pub(super) epoch: i32,
}

impl Caller {
    pub(super) fn new(group: Arc<str>, rack: Option<Arc<str>>, config: &GroupConfig) -> Self {
        Self {
            group,
            instance_id: config.instance_id.as_deref().map(Arc::from),
            rack,
            server_assignor: config.remote_assignor.as_deref().map(Arc::from),
            rebalance_timeout_ms: i32::try_from(config.max_poll_interval.as_millis()).unwrap_or(i32::MAX),
            member_id: "".into(),
            epoch: 0,
        }
    }

    pub(super) fn coordinator(&self) -> Target {
        Target::Coordinator { kind: CoordinatorKind::Group, key: Arc::clone(&self.group) }
    }

    /// What has changed since `told`, or everything.
    pub(super) fn heartbeat(&self, told: Option<&Told>, telling: &Told) -> Box<dyn Request> {
        let mut request = self.bare(self.epoch);
        if told.is_none() {
            request.rack_id = self.rack.as_deref().map(text);
            request.rebalance_timeout_ms = self.rebalance_timeout_ms;
            request.server_assignor = self.server_assignor.as_deref().map(text);
        }
        if told.is_none_or(|told| told.subscription.topics != telling.subscription.topics) {
            let names = telling.subscription.topics.iter().map(|topic| TopicName(text(topic)));
            request.subscribed_topic_names = Some(names.collect());
        }
        if told.is_none_or(|told| told.slots != telling.slots) {
            request.topic_partitions = Some(topic_partitions(&telling.slots));
        }
        let pattern = telling.subscription.pattern.as_deref();
        let is_news = told.is_none_or(|told| told.subscription.pattern.as_deref() != pattern);
        // An empty one takes back an earlier one.
        let pattern = is_news.then(|| text(pattern.unwrap_or_default()));
        let oldest = if telling.subscription.pattern.is_some() { 1 } else { 0 };
        Box::new(ByVersion::new(oldest..=1, move |version| {
            request.clone().with_subscribed_topic_regex(pattern.clone().filter(|_| version >= 1))
        }))
    }

    pub(super) fn leave(&self, epoch: i32) -> Box<dyn Request> {
        Box::new(Plain::in_versions(self.bare(epoch), 0..=1))
    }

    /// How a member leaves: a static one says that it will be back, unless it is told otherwise.
    pub(super) fn leave_epoch(&self, operation: GroupMembershipOperation) -> i32 {
        match operation {
            GroupMembershipOperation::LeaveGroup => LEAVE,
            _ if self.instance_id.is_some() => LEAVE_FOR_NOW,
            _ => LEAVE,
        }
    }

    fn bare(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_member_id(text(&self.member_id))
            .with_member_epoch(epoch)
            .with_instance_id(self.instance_id.as_deref().map(text))
            .with_rebalance_timeout_ms(-1)
            .with_subscribed_topic_names(None)
            .with_topic_partitions(None)
    }
}

fn topic_partitions(slots: &BTreeSet<Slot>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (id, partition) in slots {
        topics.entry(*id).or_default().push(*partition);
    }
    let topics = topics.into_iter().map(|(id, partitions)| {
        TopicPartitions::default().with_topic_id(uuid::Uuid::from_bytes(id.0)).with_partitions(partitions)
    });
    topics.collect()
}

/// What a refusal means for the membership.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The same again, a little later.
    Retry(Error),
    /// The coordinator is elsewhere, or cannot be reached.
    Moved(Error),
    /// The coordinator has others in its place: what it had is lost.
    Fenced(Error),
    /// For the application; the member goes on.
    Denied(Error),
    /// For the application; the member is out, and joins again with the next poll unless this is fatal.
    Failed(Error),
}

/// As Java's `AbstractHeartbeatRequestManager`.
pub(super) fn judge(code: i16, message: Option<&str>, caller: &Caller) -> Verdict {
    let Some(code) = ErrorCode::from_wire(code) else {
        return Verdict::Retry(Error::new(ErrorKind::Protocol, "heartbeat: refused without a reason"));
    };
    let text = format!("be a member of group '{}'", caller.group);
    let said = message.filter(|message| !message.is_empty());
    let text = said.map_or_else(|| text.clone(), |said| format!("{text} (the broker says: {said})"));
    let error = Error::broker(code, text);
    match code {
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Verdict::Moved(error),
        ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => Verdict::Fenced(error),
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            Verdict::Denied(error.with_hint("the principal needs DESCRIBE on the topics"))
        }
        ErrorCode::FENCED_INSTANCE_ID => {
            let instance = caller.instance_id.as_deref().unwrap_or_default();
            let text = format!("another member with group.instance.id '{instance}' has taken over");
            Verdict::Failed(Error::new(ErrorKind::Fenced, text).with_cause(error))
        }
        _ if code.is_retriable() => Verdict::Retry(error),
        _ => Verdict::Failed(match hint(code) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }),
    }
}

fn hint(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UNRELEASED_INSTANCE_ID => {
            "another member with this group.instance.id is in the group; stop it, or wait until its session is over"
        }
        ErrorCode::UNSUPPORTED_ASSIGNOR => {
            "group.remote.assignor is not in the brokers' group.consumer.assignors"
        }
        ErrorCode::INVALID_REGULAR_EXPRESSION => "the brokers take RE2/J's syntax",
        ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
            "the group is of another type; its members must be gone, or be able to change (group.protocol)"
        }
        ErrorCode::GROUP_MAX_SIZE_REACHED => "the brokers' group.consumer.max.size allows no more members",
        ErrorCode::GROUP_AUTHORIZATION_FAILED => "the principal needs READ on the group",
        _ => return None,
    })
}

/// Asks for the names of topics, by version 12 of Metadata or later.
pub(super) fn resolve_names(ids: BTreeSet<TopicId>) -> Box<dyn Request> {
    let topics = ids.into_iter().map(|id| {
        MetadataRequestTopic::default().with_topic_id(uuid::Uuid::from_bytes(id.0)).with_name(None)
    });
    let request =
        MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(false);
    Box::new(Plain::in_versions(request, 12..=13))
}

pub(super) fn read_names(response: &Response) -> Result<Vec<(TopicId, Arc<str>)>> {
    let metadata = MetadataResponse::decode(response)?;
    let known = metadata.topics.into_iter().filter(|topic| topic.error.is_none() && topic.id.is_some());
    Ok(known.map(|topic| (topic.id, Arc::from(topic.name.as_str()))).collect())
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

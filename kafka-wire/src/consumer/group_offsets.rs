//! What a group has committed: OffsetCommit, as a member of it or as nobody in particular, and OffsetFetch.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use super::buffers::Generation;
use super::membership::Membership;
use crate::cluster::CoordinatorKind;
use crate::engine::{Core, Target, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::group::MemberIdentity;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use crate::protocol::messages::{
    ApiKey, GroupId, Message as _, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse, StrBytes,
    TopicName,
};
use crate::protocol::request::{FrameBuilder, Plain, Request, Response};
use crate::reply::Reply;
use crate::types::{CommittedOffset, LeaderEpoch, TopicPartition};

/// Partitions and what is committed for them.
pub(crate) type Committed = Vec<(TopicPartition, Option<CommittedOffset>)>;

#[derive(Debug)]
enum Work {
    Commit(Vec<(TopicPartition, CommittedOffset)>, Reply<()>),
    Fetch(Vec<TopicPartition>, Reply<Committed>),
    /// As `Fetch`, for the machine itself: partitions as they were assigned.
    Start(Vec<(TopicPartition, Generation)>),
}

#[derive(Debug)]
struct Task {
    work: Work,
    give_up_at: Instant,
    retry_at: Option<Instant>,
    failures: u32,
    last_error: Option<Error>,
    /// As whom a commit was last sent.
    sent_as: Option<MemberIdentity>,
}

/// What is committed for partitions, in their order, or why that is not known.
pub(super) type Starts = (Vec<(TopicPartition, Generation)>, Result<Committed>);

/// Commits and questions, one after the other, so that a repeated commit cannot overtake a later one.
#[derive(Debug)]
pub(super) struct GroupOffsets {
    group: Option<Arc<str>>,
    require_stable: bool,
    tasks: VecDeque<Task>,
    /// Of the first task.
    call: Option<Token>,
    starts: VecDeque<Starts>,
}

impl GroupOffsets {
    /// With `require_stable`, offsets that an open transaction is about to commit are waited for.
    pub(super) fn new(group: Option<Arc<str>>, require_stable: bool) -> Self {
        Self { group, require_stable, tasks: VecDeque::new(), call: None, starts: VecDeque::new() }
    }

    pub(super) fn commit(
        &mut self,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        give_up_at: Instant,
        reply: Reply<()>,
    ) {
        self.add(Work::Commit(offsets, reply), give_up_at);
    }

    pub(super) fn committed(
        &mut self,
        partitions: Vec<TopicPartition>,
        give_up_at: Instant,
        reply: Reply<Committed>,
    ) {
        self.add(Work::Fetch(partitions, reply), give_up_at);
    }

    /// As [`committed`](Self::committed), answered by [`next_start`](Self::next_start).
    pub(super) fn find_start(&mut self, partitions: Vec<(TopicPartition, Generation)>, give_up_at: Instant) {
        self.add(Work::Start(partitions), give_up_at);
    }

    pub(super) fn next_start(&mut self) -> Option<Starts> {
        self.starts.pop_front()
    }

    fn add(&mut self, work: Work, give_up_at: Instant) {
        self.tasks.push_back(Task {
            work,
            give_up_at,
            retry_at: None,
            failures: 0,
            last_error: None,
            sent_as: None,
        });
    }

    /// Whether there are commits that are not answered yet.
    pub(super) fn is_committing(&self) -> bool {
        self.tasks.iter().any(|task| matches!(task.work, Work::Commit(..)))
    }

    /// When [`drive`](Self::drive) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.call.is_some() {
            return None;
        }
        let task = self.tasks.front()?;
        Some(task.retry_at.map_or(task.give_up_at, |at| at.min(task.give_up_at)))
    }

    /// Sends the next task, and gives up those that have waited too long.
    pub(super) fn drive(&mut self, now: Instant, membership: &Membership, core: &mut Core) {
        while self.call.is_none() {
            let Some(task) = self.tasks.front_mut() else { return };
            let Some(group) = self.group.clone() else {
                let error = Error::new(ErrorKind::Config, "use committed offsets without a group.id")
                    .with_hint("set group.id");
                self.finish(Err(error));
                continue;
            };
            if now >= task.give_up_at {
                let error = task.timed_out(&group, core);
                self.finish(Err(error));
                continue;
            }
            if task.retry_at.is_some_and(|at| at > now) {
                return;
            }
            task.retry_at = None;
            if let Work::Commit(offsets, _) = &task.work {
                // Asked each time: it may have lost them since the last.
                match membership.commits_as(offsets.iter().map(|(partition, _)| partition)) {
                    Ok(identity) => task.sent_as = identity,
                    Err(error) => {
                        self.finish(Err(error));
                        continue;
                    }
                }
            }
            let request = task.request(&group, self.require_stable);
            let to = Target::Coordinator { kind: CoordinatorKind::Group, key: group };
            let timeout = core.config().request_timeout.min(task.give_up_at - now);
            self.call = Some(core.call(now, to, request, timeout));
        }
    }

    /// Takes the answer if it was asked for here.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        core: &mut Core,
    ) -> Option<Result<Response>> {
        if self.call != Some(token) {
            return Some(result);
        }
        self.call = None;
        let task = self.tasks.front_mut()?;
        let outcome = result.and_then(|response| task.read(response));
        match outcome {
            Err(error) if error.is_retriable() || task.awaits_rebalance(&error) => {
                if let Some(group) = &self.group
                    && is_about_the_coordinator(&error)
                {
                    core.forget_coordinator(CoordinatorKind::Group, group);
                }
                task.failures = task.failures.saturating_add(1);
                task.retry_at = Some(now + core.retry_delay(task.failures));
                task.last_error = Some(error);
            }
            outcome => self.finish(outcome),
        }
        None
    }

    fn finish(&mut self, outcome: Result<Committed>) {
        let Some(task) = self.tasks.pop_front() else { return };
        match task.work {
            Work::Commit(_, reply) => reply.send(outcome.map(|_| ())),
            Work::Fetch(_, reply) => reply.send(outcome),
            Work::Start(partitions) => self.starts.push_back((partitions, outcome)),
        }
    }
}

impl Task {
    fn request(&self, group: &str, require_stable: bool) -> Box<dyn Request> {
        let group = GroupId(StrBytes::from_string(group.to_owned()));
        match &self.work {
            Work::Commit(offsets, _) => {
                let request = OffsetCommitRequest::default()
                    .with_group_id(group)
                    .with_generation_id_or_member_epoch(-1)
                    .with_topics(commit_topics(offsets));
                let Some(identity) = &self.sent_as else { return Box::new(Plain::new(request)) };
                let text = |id: &Arc<str>| StrBytes::from_string(id.to_string());
                let request = request
                    .with_generation_id_or_member_epoch(identity.generation)
                    .with_member_id(text(&identity.member_id))
                    .with_group_instance_id(identity.instance_id.as_ref().map(text));
                // The first version that knows instances.
                let oldest = if identity.instance_id.is_some() { 7 } else { 1 };
                Box::new(Plain::in_versions(request, oldest..=OffsetCommitRequest::VERSIONS.max))
            }
            Work::Fetch(..) | Work::Start(_) => {
                let topics = Some(fetch_topics(&self.asked()));
                let request = OffsetFetchRequest::default().with_group_id(group).with_topics(topics);
                Box::new(FetchOffsets { request, require_stable })
            }
        }
    }

    fn read(&self, response: Response) -> Result<Committed> {
        match &self.work {
            Work::Commit(..) => {
                let response = response.decode::<OffsetCommitRequest>()?;
                for topic in &response.topics {
                    for partition in &topic.partitions {
                        if let Some(code) = ErrorCode::from_wire(partition.error_code) {
                            let at = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                            return Err(refused(code, "commit offsets").with_partition(at));
                        }
                    }
                }
                Ok(Vec::new())
            }
            Work::Fetch(..) | Work::Start(_) => {
                read_committed(&self.asked(), &response.decode::<OffsetFetchRequest>()?)
            }
        }
    }

    /// The partitions whose offsets are asked for.
    fn asked(&self) -> Vec<TopicPartition> {
        match &self.work {
            Work::Commit(..) => Vec::new(),
            Work::Fetch(partitions, _) => partitions.clone(),
            Work::Start(partitions) => partitions.iter().map(|(partition, _)| partition.clone()).collect(),
        }
    }

    /// Whether the group is between two generations, and the commit comes into the next if the partitions are still
    /// this member's then.
    fn awaits_rebalance(&self, error: &Error) -> bool {
        let codes =
            [ErrorCode::REBALANCE_IN_PROGRESS, ErrorCode::ILLEGAL_GENERATION, ErrorCode::STALE_MEMBER_EPOCH];
        self.sent_as.is_some() && error.code().is_some_and(|code| codes.contains(&code))
    }

    fn timed_out(&self, group: &str, core: &Core) -> Error {
        let what = match self.work {
            Work::Commit(..) => "commit offsets",
            Work::Fetch(..) | Work::Start(_) => "read committed offsets",
        };
        let error = Error::new(ErrorKind::Timeout, format!("{what} of group '{group}' in the time allowed"));
        match self.last_error.as_ref().or_else(|| core.connect_error()) {
            Some(cause) => error.with_cause(cause.clone()),
            None => error,
        }
    }
}

/// OffsetFetch for one group: before version 8, which asks for many.
#[derive(Debug)]
struct FetchOffsets {
    request: OffsetFetchRequest,
    require_stable: bool,
}

impl Request for FetchOffsets {
    fn api(&self) -> ApiKey {
        ApiKey::OffsetFetch
    }

    fn versions(&self) -> RangeInclusive<i16> {
        2..=7
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        // Brokers before 2.5 cannot be asked to wait for stable offsets.
        let request = self.request.clone().with_require_stable(self.require_stable && version >= 7);
        Plain::new(request).encode(version, frame)
    }
}

fn commit_topics(offsets: &[(TopicPartition, CommittedOffset)]) -> Vec<OffsetCommitRequestTopic> {
    let mut topics: BTreeMap<&Arc<str>, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (partition, committed) in offsets {
        let metadata = committed.metadata.clone();
        let entry = OffsetCommitRequestPartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(LeaderEpoch::to_wire(committed.leader_epoch))
            .with_committed_metadata(Some(StrBytes::from_string(metadata)));
        topics.entry(&partition.topic).or_default().push(entry);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    topics.collect()
}

fn fetch_topics(partitions: &[TopicPartition]) -> Vec<OffsetFetchRequestTopic> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let topics = topics.into_iter().map(|(name, indexes)| {
        OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(indexes)
    });
    topics.collect()
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn read_committed(partitions: &[TopicPartition], response: &OffsetFetchResponse) -> Result<Committed> {
    if let Some(code) = ErrorCode::from_wire(response.error_code) {
        return Err(refused(code, "read committed offsets"));
    }
    let find = |wanted: &TopicPartition| -> Result<Option<CommittedOffset>> {
        let topic = response.topics.iter().find(|topic| *topic.name.0 == *wanted.topic);
        let mut answers = topic.into_iter().flat_map(|topic| &topic.partitions);
        let Some(answer) = answers.find(|answer| answer.partition_index == wanted.partition) else {
            return Ok(None);
        };
        if let Some(code) = ErrorCode::from_wire(answer.error_code) {
            return Err(refused(code, "read a committed offset").with_partition(wanted.clone()));
        }
        Ok((answer.committed_offset >= 0).then(|| CommittedOffset {
            offset: answer.committed_offset,
            leader_epoch: LeaderEpoch::from_wire(answer.committed_leader_epoch),
            metadata: answer.metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
        }))
    };
    partitions.iter().map(|wanted| Ok((wanted.clone(), find(wanted)?))).collect()
}

fn refused(code: ErrorCode, attempted: &'static str) -> Error {
    let error = Error::broker(code, attempted);
    match code {
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => error.with_hint(
            "the group has members, and only these may commit; stop them, or use another group.id",
        ),
        _ => error,
    }
}

fn is_about_the_coordinator(error: &Error) -> bool {
    match error.code() {
        Some(code) => {
            [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::REQUEST_TIMED_OUT]
                .contains(&code)
        }
        None => true,
    }
}

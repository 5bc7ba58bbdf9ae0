//! What a group has committed: OffsetCommit, as a member of it or as nobody in particular, and OffsetFetch.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

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
    ApiKey, GroupId, Message as _, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, StrBytes, TopicName,
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

/// Commits and questions that may wait: a bound against an application that commits each record, and awaits none,
/// while no coordinator answers.
const TASKS_MAX: usize = 10_000;

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
        if self.tasks.len() >= TASKS_MAX && !matches!(work, Work::Start(_)) {
            let text = format!("use committed offsets while {TASKS_MAX} commits and questions wait already");
            let error = Error::new(ErrorKind::Usage, text);
            return work.answer(Err(error.with_hint("wait for some of them before you ask for more")));
        }
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
            Err(error) if error.is_retriable() || task.may_ask_again(&error) => {
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
        match self.tasks.pop_front().map(|task| task.work) {
            None => {}
            Some(Work::Start(partitions)) => self.starts.push_back((partitions, outcome)),
            Some(work) => work.answer(outcome),
        }
    }
}

impl Work {
    fn answer(self, outcome: Result<Committed>) {
        match self {
            Self::Commit(_, reply) => reply.send(outcome.map(|_| ())),
            Self::Fetch(_, reply) => reply.send(outcome),
            Self::Start(_) => {}
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
            Work::Commit(offsets, _) => {
                check_committed(offsets, &response.decode::<OffsetCommitRequest>()?)?;
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
    /// this member's then; or whether a question got an answer that makes no sense.
    fn may_ask_again(&self, error: &Error) -> bool {
        if error.kind() == ErrorKind::Protocol {
            return !matches!(self.work, Work::Commit(..));
        }
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
    let mut answers = HashMap::new();
    for topic in &response.topics {
        let answered =
            topic.partitions.iter().map(|answer| ((topic.name.as_str(), answer.partition_index), answer));
        answers.extend(answered);
    }
    let find = |wanted: &TopicPartition| -> Result<Option<CommittedOffset>> {
        let Some(answer) = answers.get(&(&*wanted.topic, wanted.partition)) else {
            // Not the same as that nothing is committed, after which reading starts elsewhere.
            let text = "read committed offsets: the coordinator answered without this partition";
            return Err(Error::new(ErrorKind::Protocol, text).with_partition(wanted.clone()));
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

/// Whether all of `offsets` are committed.
fn check_committed(
    offsets: &[(TopicPartition, CommittedOffset)],
    response: &OffsetCommitResponse,
) -> Result<()> {
    let mut answered = HashSet::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            if let Some(code) = ErrorCode::from_wire(partition.error_code) {
                let at = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                return Err(refused(code, "commit offsets").with_partition(at));
            }
            answered.insert((topic.name.as_str(), partition.partition_index));
        }
    }
    let is_answered = |at: &TopicPartition| answered.contains(&(&*at.topic, at.partition));
    match offsets.iter().find(|(partition, _)| !is_answered(partition)) {
        None => Ok(()),
        Some((partition, _)) => {
            let text = "commit offsets: the coordinator answered without this partition";
            Err(Error::new(ErrorKind::Protocol, text).with_partition(partition.clone()))
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::protocol::messages::offset_commit_response::{
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    };
    use crate::protocol::messages::offset_fetch_response::{
        OffsetFetchResponsePartition, OffsetFetchResponseTopic,
    };

    fn offsets(partitions: &[i32]) -> Vec<(TopicPartition, CommittedOffset)> {
        let offset = CommittedOffset { offset: 7, leader_epoch: None, metadata: String::new() };
        partitions.iter().map(|index| (TopicPartition::new("t", *index), offset.clone())).collect()
    }

    #[test]
    fn an_answer_that_leaves_a_partition_out_has_not_committed_it() {
        let partition = |index| OffsetCommitResponsePartition::default().with_partition_index(index);
        let answered = OffsetCommitResponseTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition(1), partition(0)]);
        let response = OffsetCommitResponse::default().with_topics(vec![answered]);
        assert!(check_committed(&offsets(&[0, 1]), &response).is_ok());
        let error = check_committed(&offsets(&[0, 2, 1]), &response).unwrap_err();
        assert_eq!((error.kind(), error.partition().unwrap().partition), (ErrorKind::Protocol, 2));
    }

    #[test]
    fn an_answer_that_leaves_a_partition_out_does_not_say_that_nothing_is_committed() {
        let partition = |index| OffsetFetchResponsePartition::default().with_partition_index(index);
        let answered = OffsetFetchResponseTopic::default().with_name(topic_name("t")).with_partitions(vec![
            partition(0).with_committed_offset(7),
            partition(1).with_committed_offset(-1),
        ]);
        let response = OffsetFetchResponse::default().with_topics(vec![answered]);
        let asked = |count| (0..count).map(|index| TopicPartition::new("t", index)).collect::<Vec<_>>();
        let offsets = read_committed(&asked(2), &response).unwrap().into_iter();
        assert_eq!(offsets.map(|(_, at)| at.map(|at| at.offset)).collect::<Vec<_>>(), [Some(7), None]);
        let error = read_committed(&asked(3), &response).unwrap_err();
        assert_eq!((error.kind(), error.partition().unwrap().partition), (ErrorKind::Protocol, 2));
    }

    #[test]
    fn commits_that_wait_are_bounded() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let now = Instant::now();
        let mut group_offsets = GroupOffsets::new(Some("g".into()), false);
        let refused: Arc<Mutex<Vec<Error>>> = Arc::default();
        let mut commit = || {
            let refused = Arc::clone(&refused);
            let reply = Reply::new(move |outcome: Result<()>| refused.lock().unwrap().extend(outcome.err()));
            group_offsets.commit(offsets(&[0]), now, reply);
        };
        for _ in 0..TASKS_MAX {
            commit();
        }
        assert!(refused.lock().unwrap().is_empty());
        commit();
        let error = refused.lock().unwrap().pop().unwrap();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("10000"), "{error}");
    }
}

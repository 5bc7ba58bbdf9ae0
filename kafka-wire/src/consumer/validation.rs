//! Positions compared with the log of a newer leader (OffsetForLeaderEpoch, KIP-320), where its fetches do not do that.
//!
//! From Fetch 12 on (Kafka 2.7) each fetch brings the comparison along, and nothing is asked here.

use std::collections::BTreeMap;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _};

use super::assigned::Assigned;
use super::assignment::Assignment;
use super::buffers::{Generation, SharedBuffers, is_tried_again};
use super::position::{OffsetAndEpoch, Position};
use crate::engine::{Core, Lane, Target, Token};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::fetch::DivergingEpoch;
use crate::protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use crate::protocol::messages::{self, ApiKey, OffsetForLeaderEpochRequest, StrBytes, TopicName};
use crate::protocol::request::{Plain, Response};
use crate::protocol::versions::VersionTable;
use crate::types::{BrokerId, LeaderEpoch, TopicPartition};

/// The first version of Fetch that tells where logs diverge.
const FETCH_TELLS_FROM: i16 = 12;

/// The first version that a client may ask without the rights of a broker (Kafka 2.3).
const FIRST_VERSION: i16 = 3;

/// What leaders were asked and have not answered: a partition is asked for once at a time.
#[derive(Debug)]
pub(super) struct Validation {
    buffers: SharedBuffers,
    calls: HashMap<Token, Vec<Asked>>,
}

#[derive(Debug)]
struct Asked {
    partition: TopicPartition,
    generation: Generation,
    at: OffsetAndEpoch,
    leader: (BrokerId, Option<LeaderEpoch>),
}

impl Validation {
    pub(super) fn new(buffers: SharedBuffers) -> Self {
        Self { buffers, calls: HashMap::new() }
    }

    /// Asks about the partitions that have changed and must not be fetched before.
    pub(super) fn drive(&mut self, now: Instant, assignment: &mut Assignment, core: &mut Core) {
        let mut by_leader: BTreeMap<BrokerId, Vec<Asked>> = BTreeMap::new();
        for partition in assignment.touched() {
            let Some(assigned) = assignment.get_mut(&partition) else { continue };
            if let Some((at, leader)) = assigned.start_validation(now, core) {
                let generation = assigned.generation;
                by_leader.entry(leader.0).or_default().push(Asked { partition, generation, at, leader });
            }
        }
        let timeout = core.config().request_timeout;
        for (leader, asked) in by_leader {
            let request = Plain::in_versions(to_request(&asked), FIRST_VERSION..=4);
            let to = Target::Broker { id: leader, lane: Lane::Control };
            let token = core.call(now, to, Box::new(request), timeout);
            self.calls.insert(token, asked);
        }
    }

    /// Takes the answer if it was asked for here. Who may lose data goes on at `reset` where the leader cannot
    /// tell up to where the logs agree.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Response>,
        assignment: &mut Assignment,
        reset: Option<Position>,
        core: &mut Core,
    ) -> Option<Result<Response>> {
        let Some(asked) = self.calls.remove(&token) else {
            return Some(result);
        };
        let ends = result.and_then(read_ends);
        for asked in asked {
            let is_current = |assigned: &&mut Assigned| assigned.generation == asked.generation;
            let Some(assigned) = assignment.get_mut(&asked.partition).filter(is_current) else { continue };
            assigned.is_validating = false;
            // Else it has another leader by now, who is asked in turn.
            if assigned.fetches_at() == Some(asked.at) && assigned.leader == Some(asked.leader) {
                self.settle(now, &asked, find_end(&ends, &asked.partition), assigned, reset, core);
            }
        }
        None
    }

    fn settle(
        &self,
        now: Instant,
        asked: &Asked,
        end: Result<DivergingEpoch>,
        assigned: &mut Assigned,
        reset: Option<Position>,
        core: &mut Core,
    ) {
        let partition = &asked.partition;
        match end {
            Ok(end) => {
                assigned.failures = 0;
                assigned.validated = asked.leader.1;
                self.compare(asked, end, assigned, reset);
            }
            Err(error) if is_no_answer(&error) => {
                tracing::debug!(%partition, %error, "a position could not be validated");
                core.request_metadata(now);
                assigned.try_later(now, core);
            }
            Err(error) if is_tried_again(&error) => {
                assigned.complain(&self.buffers, partition, error.with_partition(partition.clone()));
                assigned.try_later(now, core);
            }
            Err(error) => assigned.fail(&self.buffers, partition, error.with_partition(partition.clone())),
        }
    }

    fn compare(&self, asked: &Asked, end: DivergingEpoch, assigned: &mut Assigned, reset: Option<Position>) {
        let (partition, at) = (&asked.partition, asked.at);
        if end.epoch.is_none() || end.end_offset < 0 {
            return assigned.lost(&self.buffers, partition, at, epoch_gone(partition, at), reset);
        }
        if end.end_offset >= at.offset {
            return;
        }
        if let Some(step) = assigned.truncated(&self.buffers, partition, end, reset.is_some()) {
            if !self.buffers.lock().push(partition, asked.generation, vec![step]) {
                assigned.validated = None;
                assigned.rewind(at);
            }
            self.buffers.wake();
        }
    }
}

impl Assigned {
    /// What to ask of its leader before it is fetched.
    fn start_validation(
        &mut self,
        now: Instant,
        core: &Core,
    ) -> Option<(OffsetAndEpoch, (BrokerId, Option<LeaderEpoch>))> {
        let waits = self.paused || self.is_validating || self.retry_at.is_some_and(|at| at > now);
        if waits || !self.must_be_validated(core) {
            return None;
        }
        let question = (self.fetches_at()?, self.leader?);
        self.retry_at = None;
        self.is_validating = true;
        Some(question)
    }

    /// Whether its leader is known to be one that has to be asked before a fetch.
    pub(super) fn must_be_validated(&self, core: &Core) -> bool {
        let versions = || core.versions(self.leader?.0);
        self.is_unvalidated() && versions().is_some_and(has_to_be_asked)
    }

    /// Whether what `broker` fetched in `version` may follow on another log than the one that was read: the fetch was
    /// sent before it was known what the leader speaks.
    pub(super) fn may_have_diverged(&self, broker: BrokerId, version: i16, core: &Core) -> bool {
        let Some((leader, _)) = self.leader.filter(|_| version < FETCH_TELLS_FROM && self.is_unvalidated())
        else {
            return false;
        };
        // A leader whose connection has gone since is fetched from again.
        core.versions(leader).map_or(leader == broker, has_to_be_asked)
    }

    /// Whether its leader is newer than what was read, and was not asked yet.
    fn is_unvalidated(&self) -> bool {
        let (Some(at), Some((_, Some(epoch)))) = (self.fetches_at(), self.leader) else { return false };
        at.leader_epoch.is_some_and(|read| read < epoch) && self.validated != Some(epoch)
    }
}

/// What brokers get over, and what makes no sense, too.
fn is_no_answer(error: &Error) -> bool {
    error.is_retriable()
        || error.kind() == ErrorKind::Protocol
        || error.code() == Some(ErrorCode::UNKNOWN_SERVER_ERROR)
}

fn has_to_be_asked(versions: &VersionTable) -> bool {
    let newest = |api| versions.range(api).map_or(-1, |range| *range.end());
    newest(ApiKey::Fetch) < FETCH_TELLS_FROM && newest(ApiKey::OffsetForLeaderEpoch) >= FIRST_VERSION
}

fn to_request(asked: &[Asked]) -> OffsetForLeaderEpochRequest {
    let mut topics: BTreeMap<&str, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
    for Asked { partition, at, leader, .. } in asked {
        let entry = OffsetForLeaderPartition::default()
            .with_partition(partition.partition)
            .with_current_leader_epoch(LeaderEpoch::to_wire(leader.1))
            .with_leader_epoch(LeaderEpoch::to_wire(at.leader_epoch));
        topics.entry(&partition.topic).or_default().push(entry);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        let name = TopicName(StrBytes::from_string(name.to_owned()));
        OffsetForLeaderTopic::default().with_topic(name).with_partitions(partitions)
    });
    OffsetForLeaderEpochRequest::default()
        .with_replica_id(messages::BrokerId(-1))
        .with_topics(topics.collect())
}

type Ends = HashMap<(String, i32), Result<DivergingEpoch>>;

fn read_ends(response: Response) -> Result<Ends> {
    let response = response.decode::<OffsetForLeaderEpochRequest>()?;
    let mut ends = Ends::new();
    for topic in &response.topics {
        for answer in &topic.partitions {
            let end = match ErrorCode::from_wire(answer.error_code) {
                Some(code) => Err(Error::broker(code, "validate a position")),
                None => Ok(DivergingEpoch {
                    epoch: LeaderEpoch::from_wire(answer.leader_epoch),
                    end_offset: answer.end_offset,
                }),
            };
            ends.insert((topic.topic.to_string(), answer.partition), end);
        }
    }
    Ok(ends)
}

fn find_end(ends: &Result<Ends>, partition: &TopicPartition) -> Result<DivergingEpoch> {
    let ends = ends.as_ref().map_err(Clone::clone)?;
    let lacks = || Err(Error::new(ErrorKind::Protocol, "validate a position: the answer lacks it"));
    ends.get(&(partition.topic.to_string(), partition.partition)).cloned().unwrap_or_else(lacks)
}

fn epoch_gone(partition: &TopicPartition, at: OffsetAndEpoch) -> Error {
    let epoch = LeaderEpoch::to_wire(at.leader_epoch);
    Error::new(
        ErrorKind::DataLoss,
        format!(
            "read on at offset {}: the leader's log has nothing of leader epoch {epoch} or before: data lost in Kafka",
            at.offset
        ),
    )
    .with_partition(partition.clone())
    .with_offset(at.offset)
    .with_hint("the log was truncated; seek to where to go on, or set auto.offset.reset")
}

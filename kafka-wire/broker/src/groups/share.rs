//! The members of a share group (KIP-932): they tell by heartbeats what they want, and are told at once which
//! partitions to read. Nothing is revoked first, since several members may read one partition.
//!
//! As Kafka's `ShareGroup` with its `SimpleAssignor`: each partition has a reader, and each member a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_wire::{ErrorCode, TopicId};
use serde::{Deserialize, Serialize};

use super::assignor::Assignment;
use super::saved::{by_member, by_topic};
use crate::error::{Failure, fail};
use crate::topics::Topics;

/// `group.share.max.size`.
const MEMBERS_MAX: usize = 200;
/// The epoch by which a member says that it leaves.
pub(crate) const LEAVE: i32 = -1;
/// The epoch of a group that nobody has joined yet.
const FIRST_EPOCH: i32 = 1;

/// What a heartbeat says.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) topics: Option<BTreeSet<String>>,
}

/// One member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) epoch: i32,
    pub(crate) topics: BTreeSet<String>,
    #[serde(with = "by_topic")]
    pub(crate) assigned: Assignment,
    previous_epoch: i32,
    #[serde(skip)]
    deadline: Option<Instant>,
}

/// A share group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShareGroup {
    pub(crate) epoch: i32,
    members: BTreeMap<String, Member>,
    #[serde(with = "by_member")]
    wanted: BTreeMap<String, BTreeMap<TopicId, i32>>,
    #[serde(with = "by_member")]
    target: BTreeMap<String, Assignment>,
    /// Topics that members have wanted at any time and that nobody has deleted, with their number of partitions.
    #[serde(with = "by_topic")]
    wanted_ever: BTreeMap<TopicId, i32>,
    /// The session timeout of the last heartbeat.
    session_timeout: Duration,
}

impl ShareGroup {
    pub(crate) fn new() -> Self {
        Self {
            epoch: FIRST_EPOCH,
            members: BTreeMap::new(),
            wanted: BTreeMap::new(),
            target: BTreeMap::new(),
            wanted_ever: BTreeMap::new(),
            session_timeout: Duration::ZERO,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members by id.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(id, member)| (id.as_str(), member))
    }

    /// Topics that members have wanted, since their offsets were deleted last, with their number of partitions.
    pub(crate) fn wanted_ever(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.wanted_ever.iter().map(|(&topic, &count)| (topic, count))
    }

    /// The offsets of a topic were deleted.
    pub(crate) fn forget(&mut self, topic: TopicId) {
        self.wanted_ever.remove(&topic);
    }

    /// Kafka's name of where the group stands.
    pub(crate) fn state_name(&self) -> &'static str {
        if self.is_empty() { "Empty" } else { "Stable" }
    }

    /// `ShareGroupHeartbeat`: the member's epoch, and what it is to read where that is new to it.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_MEMBER_EPOCH`, `GROUP_MAX_SIZE_REACHED`.
    pub(crate) fn heartbeat(
        &mut self,
        now: Instant,
        beat: &Beat,
        session_timeout: Duration,
        topics: &Topics,
    ) -> Result<(i32, Option<Assignment>), Failure> {
        self.session_timeout = session_timeout;
        let id = beat.member_id.as_str();
        if beat.epoch == LEAVE {
            self.remove(id).ok_or_else(|| unknown(id))?;
            return Ok((LEAVE, None));
        }
        if !self.members.contains_key(id) {
            if beat.epoch > 0 {
                return Err(unknown(id));
            }
            if self.members.len() >= MEMBERS_MAX {
                let text = format!("the group has {MEMBERS_MAX} members, which is its limit");
                return fail(ErrorCode::GROUP_MAX_SIZE_REACHED, text);
            }
            self.members.insert(id.to_owned(), Member::new(now));
        }
        if let Some(member) = self.members.get_mut(id) {
            check_epoch(member, beat.epoch)?;
            member.deadline = Some(now + session_timeout);
            member.client_id.clone_from(&beat.client_id);
            member.client_host.clone_from(&beat.client_host);
            member.rack_id = beat.rack_id.clone().or_else(|| member.rack_id.take());
            member.topics = beat.topics.clone().unwrap_or_else(|| std::mem::take(&mut member.topics));
        }
        self.retarget(topics);
        let target = self.target.get(id).cloned().unwrap_or_default();
        let epoch = self.epoch;
        let member = self.members.get_mut(id).ok_or_else(|| unknown(id))?;
        if member.epoch != epoch {
            member.previous_epoch = member.epoch;
            member.epoch = epoch;
        }
        let is_new = beat.epoch == 0 || beat.topics.is_some() || member.assigned != target;
        member.assigned.clone_from(&target);
        Ok((epoch, is_new.then_some(target)))
    }

    fn retarget(&mut self, topics: &Topics) {
        let wanted: BTreeMap<String, BTreeMap<TopicId, i32>> = self
            .members
            .iter()
            .map(|(id, member)| {
                let found = member.topics.iter().filter_map(|name| topics.get(name));
                (id.clone(), found.map(|topic| (topic.id, topic.partitions.len() as i32)).collect())
            })
            .collect();
        self.wanted_ever.extend(wanted.values().flatten());
        if wanted == self.wanted {
            return;
        }
        self.epoch += 1;
        self.target = assign(&wanted);
        self.wanted = wanted;
    }

    /// Removes a member.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Member> {
        self.members.remove(id)
    }

    /// When [`ShareGroup::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.members.values().filter_map(|member| member.deadline).min()
    }

    /// Time passed: members that were not heard of are gone.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.members.retain(|_, member| member.deadline.is_none_or(|at| at > now));
    }

    /// Another node coordinates the group now; only time begins anew.
    pub(crate) fn move_coordinator(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            member.deadline = Some(now + self.session_timeout);
        }
    }
}

impl Member {
    fn new(now: Instant) -> Self {
        Self {
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            epoch: 0,
            topics: BTreeSet::new(),
            assigned: Assignment::new(),
            previous_epoch: -1,
            deadline: Some(now),
        }
    }
}

fn unknown(member_id: &str) -> Failure {
    let text = format!("member {member_id} is not a member of the group");
    Failure { code: ErrorCode::UNKNOWN_MEMBER_ID, text: text.into() }
}

fn check_epoch(member: &Member, epoch: i32) -> Result<(), Failure> {
    if epoch == 0 || epoch == member.epoch || epoch == member.previous_epoch {
        return Ok(());
    }
    let text =
        format!("the member says epoch {epoch}, the coordinator knows {}: it must rejoin", member.epoch);
    fail(ErrorCode::FENCED_MEMBER_EPOCH, text)
}

/// Deals each topic's partitions to those who want it, in turn, until all have one and all are had.
fn assign(wanted: &BTreeMap<String, BTreeMap<TopicId, i32>>) -> BTreeMap<String, Assignment> {
    let mut target: BTreeMap<String, Assignment> =
        wanted.keys().map(|id| (id.clone(), Assignment::new())).collect();
    let topics: BTreeMap<TopicId, i32> = wanted.values().flatten().map(|(&id, &count)| (id, count)).collect();
    for (topic, count) in topics.into_iter().filter(|(_, count)| *count > 0) {
        let readers: Vec<&String> =
            wanted.iter().filter(|(_, topics)| topics.contains_key(&topic)).map(|(id, _)| id).collect();
        for turn in 0..readers.len().max(count as usize) {
            if let Some(assigned) = target.get_mut(readers[turn % readers.len()]) {
                assigned.entry(topic).or_default().insert(turn as i32 % count);
            }
        }
    }
    target
}

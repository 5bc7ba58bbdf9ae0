//! A consumer group of KIP-848: its members tell by heartbeats what they have, and are told what to have.
//!
//! As Kafka's `ConsumerGroup`, `CurrentAssignmentBuilder` and the part of `GroupMetadataManager` that drives
//! them. A change of members or topics raises the group's epoch and brings a new target assignment; each
//! member then goes its own way there: it gives up what it is not to have, and gets what others have given up.
//!
//! A pure value. Each heartbeat looks at the topics as they are then, so new partitions are handed out at the
//! next one.

mod classic_members;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_wire::{ErrorCode, TopicId};
use serde::{Deserialize, Serialize};

use self::classic_members::ClassicSide;
pub(crate) use self::reconcile::MemberState;
use super::assignor::{self, Assignment, Assignor, Candidate};
use super::classic::MEMBERS_MAX;
use super::saved::{by_member, by_topic};
use crate::error::{Failure, fail};
use crate::topics::Topics;

/// The epoch by which a member says that it leaves.
pub(crate) const LEAVE: i32 = -1;
/// The epoch by which a static member says that it will be back.
pub(crate) const LEAVE_FOR_A_WHILE: i32 = -2;

/// The epoch of a group that nobody has joined yet.
const FIRST_EPOCH: i32 = 1;

/// What the coordinator asks of members.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Timing {
    /// `group.consumer.session.timeout.ms`
    pub(crate) session_timeout: Duration,
}

/// What a heartbeat says. What did not change since the last one is left out.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout: Option<Duration>,
    pub(crate) topics: Option<BTreeSet<String>>,
    /// A pattern of topics' names; empty to have none any more.
    pub(crate) pattern: Option<String>,
    /// The topics that match the member's pattern now, old or new, and that it may see.
    pub(crate) matching: BTreeSet<String>,
    pub(crate) assignor: Option<Assignor>,
    pub(crate) owned: Option<Assignment>,
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    /// What it may have now, where that is new to it.
    pub(crate) assignment: Option<Assignment>,
}

/// One member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) epoch: i32,
    /// The epoch before: an answer that raised it may have been lost.
    previous_epoch: i32,
    pub(crate) state: MemberState,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) pattern: Option<String>,
    matching: BTreeSet<String>,
    assignor: Option<Assignor>,
    /// What it may have.
    #[serde(with = "by_topic")]
    pub(crate) assigned: Assignment,
    /// What it is to give up and may still have.
    #[serde(with = "by_topic")]
    revoking: Assignment,
    rebalance_timeout: Duration,
    #[serde(skip)]
    deadline: Option<Instant>,
    /// Until when it has to give up what it is to give up.
    #[serde(skip)]
    revoke_by: Option<Instant>,
    /// What it is by the classic protocol, where it still speaks that.
    classic: Option<ClassicSide>,
}

/// A consumer group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ConsumerGroup {
    pub(super) timing: Timing,
    pub(crate) epoch: i32,
    /// The epoch that the target is of.
    pub(crate) assignment_epoch: i32,
    members: BTreeMap<String, Member>,
    static_members: BTreeMap<String, String>,
    #[serde(with = "by_member")]
    target: BTreeMap<String, Assignment>,
    /// The topics that each member wanted when the target was made, with their number of partitions.
    #[serde(with = "by_member")]
    wanted: BTreeMap<String, BTreeMap<TopicId, i32>>,
    /// Only members of the classic protocol are left: the group becomes a classic one.
    is_left_to_classic_members: bool,
}

impl ConsumerGroup {
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            timing,
            epoch: FIRST_EPOCH,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            target: BTreeMap::new(),
            wanted: BTreeMap::new(),
            is_left_to_classic_members: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members by id.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(id, member)| (id.as_str(), member))
    }

    /// What a member is to have in the end.
    pub(crate) fn target(&self, member_id: &str) -> Option<&Assignment> {
        self.target.get(member_id)
    }

    /// Whether somebody is a member, and by the protocol of KIP-848.
    pub(crate) fn has_consumer_member(&self, member_id: &str) -> bool {
        self.members.get(member_id).is_some_and(|member| !member.is_classic())
    }

    /// The pattern by which a member is subscribed.
    pub(crate) fn pattern_of(&self, member_id: &str) -> Option<String> {
        self.members.get(member_id)?.pattern.clone()
    }

    /// Kafka's name of where the group stands.
    pub(crate) fn state_name(&self) -> &'static str {
        let is_there =
            |member: &Member| member.state == MemberState::Stable && member.epoch == self.assignment_epoch;
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(is_there) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// The assignor that most members ask for.
    pub(crate) fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        votes
            .into_iter()
            .max_by_key(|&(_, count)| count)
            .map_or_else(Assignor::default, |(assignor, _)| assignor)
    }

    /// Whether offsets may be committed.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `STALE_MEMBER_EPOCH`.
    pub(crate) fn check_commit(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        if epoch < 0 && self.is_empty() {
            return Ok(());
        }
        self.check_member(member_id, epoch)
    }

    /// Whether a member is in this epoch.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `STALE_MEMBER_EPOCH`, which classic members know as `ILLEGAL_GENERATION`.
    pub(crate) fn check_member(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        match &member.classic {
            _ if member.epoch == epoch => Ok(()),
            Some(_) => Err(ErrorCode::ILLEGAL_GENERATION),
            None => Err(ErrorCode::STALE_MEMBER_EPOCH),
        }
    }

    /// `ConsumerGroupHeartbeat`.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_MEMBER_EPOCH`, `FENCED_INSTANCE_ID`, `UNRELEASED_INSTANCE_ID`,
    /// `GROUP_MAX_SIZE_REACHED`.
    pub(crate) fn heartbeat(&mut self, now: Instant, beat: &Beat, topics: &Topics) -> Result<Told, Failure> {
        if beat.epoch < 0 {
            return self.leave(now, beat);
        }
        let before = self.enrol(now, beat)?;
        let deadline = Some(now + self.timing.session_timeout);
        let member = self.member(&beat.member_id)?;
        update(member, beat);
        member.deadline = deadline;
        self.retarget(topics);
        self.reconcile(now, &beat.member_id, beat.owned.as_ref())?;
        let member = self.member(&beat.member_id)?;
        // Who says everything, as after an error, is told everything.
        let says_all = beat.epoch == 0
            || (beat.rebalance_timeout.is_some()
                && (beat.topics.is_some() || beat.pattern.is_some())
                && beat.owned.is_some());
        let is_new = says_all || member.assigned != before;
        Ok(Told {
            member_id: beat.member_id.clone(),
            epoch: member.epoch,
            assignment: is_new.then(|| member.assigned.clone()),
        })
    }

    fn member(&mut self, id: &str) -> Result<&mut Member, Failure> {
        self.members.get_mut(id).ok_or_else(|| unknown(id))
    }

    /// Finds the member, or makes it one; what it had before this heartbeat.
    fn enrol(&mut self, now: Instant, beat: &Beat) -> Result<Assignment, Failure> {
        if let Some(instance) = &beat.instance_id
            && let Some(holder) = self.static_members.get(instance).cloned()
        {
            if holder != beat.member_id {
                return self.take_over(instance, &holder, beat);
            }
        } else if beat.instance_id.is_some() && beat.epoch > 0 {
            return Err(unknown(&beat.member_id));
        }
        if let Some(member) = self.members.get(&beat.member_id) {
            check_epoch(member, beat)?;
            return Ok(member.assigned.clone());
        }
        if beat.epoch > 0 {
            return Err(unknown(&beat.member_id));
        }
        if self.members.len() >= MEMBERS_MAX {
            let text = format!("the group has {MEMBERS_MAX} members, which is its limit");
            return fail(ErrorCode::GROUP_MAX_SIZE_REACHED, text);
        }
        if let Some(instance) = &beat.instance_id {
            self.static_members.insert(instance.clone(), beat.member_id.clone());
        }
        self.members.insert(beat.member_id.clone(), Member::new(now, beat.instance_id.clone()));
        Ok(Assignment::new())
    }

    /// A static member is back under another member id: it gets what it had.
    fn take_over(&mut self, instance: &str, holder: &str, beat: &Beat) -> Result<Assignment, Failure> {
        if beat.epoch > 0 {
            let text = format!(
                "static member {} with instance id {instance} was fenced by member {holder}",
                beat.member_id
            );
            return fail(ErrorCode::FENCED_INSTANCE_ID, text);
        }
        let may_be_replaced = |member: &Member| member.is_classic() || member.epoch == LEAVE_FOR_A_WHILE;
        if !self.members.get(holder).is_some_and(may_be_replaced) {
            let text = format!(
                "static member {} with instance id {instance} cannot join: the instance id is owned by member {holder}",
                beat.member_id
            );
            return fail(ErrorCode::UNRELEASED_INSTANCE_ID, text);
        }
        self.replace(instance, holder, &beat.member_id);
        Ok(Assignment::new())
    }

    /// Gives a static member's place to another member id.
    fn replace(&mut self, instance: &str, holder: &str, id: &str) {
        let Some(mut member) = self.members.remove(holder) else { return };
        member.epoch = 0;
        self.static_members.insert(instance.to_owned(), id.to_owned());
        self.members.insert(id.to_owned(), member);
        if let Some(target) = self.target.remove(holder) {
            self.target.insert(id.to_owned(), target);
        }
        if let Some(wanted) = self.wanted.remove(holder) {
            self.wanted.insert(id.to_owned(), wanted);
        }
    }

    fn leave(&mut self, now: Instant, beat: &Beat) -> Result<Told, Failure> {
        if let Some(instance) = &beat.instance_id {
            match self.static_members.get(instance) {
                None => return Err(unknown(&beat.member_id)),
                Some(holder) if *holder != beat.member_id => {
                    let text = format!(
                        "static member {} with instance id {instance} was fenced by member {holder}",
                        beat.member_id
                    );
                    return fail(ErrorCode::FENCED_INSTANCE_ID, text);
                }
                Some(_) => {}
            }
        }
        let session_timeout = self.timing.session_timeout;
        let member = self.member(&beat.member_id)?;
        if beat.epoch == LEAVE_FOR_A_WHILE {
            member.epoch = LEAVE_FOR_A_WHILE;
            member.deadline = Some(now + session_timeout);
            // It has let go of everything.
            member.revoking.clear();
            member.revoke_by = None;
            member.state = MemberState::Stable;
        } else {
            self.remove(&beat.member_id);
        }
        Ok(Told { member_id: beat.member_id.clone(), epoch: beat.epoch, assignment: None })
    }

    /// Removes a member, whose partitions are free then.
    pub(crate) fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(instance) = member.instance_id {
            self.static_members.remove(&instance);
        }
        self.target.remove(id);
        self.wanted.remove(id);
        if member.classic.is_none() && self.has_only_classic_members() {
            self.is_left_to_classic_members = true;
        } else {
            self.epoch += 1;
        }
    }

    /// Makes a new target where members or topics are others than when it was made.
    fn retarget(&mut self, topics: &Topics) {
        let wanted: BTreeMap<String, BTreeMap<TopicId, i32>> =
            self.members.iter().map(|(id, member)| (id.clone(), wanted_by(member, topics))).collect();
        if wanted != self.wanted {
            self.epoch += 1;
        }
        if self.epoch == self.assignment_epoch {
            return;
        }
        let candidates: Vec<Candidate<'_>> = wanted
            .iter()
            .map(|(id, topics)| Candidate { id, topics: topics.clone(), before: self.target.get(id) })
            .collect();
        self.target = assignor::assign(self.assignor(), &candidates);
        self.wanted = wanted;
        self.assignment_epoch = self.epoch;
    }

    /// When [`ConsumerGroup::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.members.values().filter_map(Member::expiry).min()
    }

    /// Time passed: members that were not heard of, or do not give up what they should, are gone.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_late = |member: &Member| member.expiry().is_some_and(|at| at <= now);
        let late: Vec<String> =
            self.members.iter().filter(|(_, member)| is_late(member)).map(|(id, _)| id.clone()).collect();
        for id in late {
            tracing::info!(member_id = id, "a member of a consumer group is late and is gone");
            self.remove(&id);
        }
    }

    /// Another node coordinates the group now. All of it is in the log; only time begins anew.
    pub(crate) fn move_coordinator(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            let silence = member.classic.as_mut().map(ClassicSide::forget_phases);
            member.deadline = Some(now + silence.unwrap_or(self.timing.session_timeout));
            let revokes = member.state == MemberState::Unrevoked && !member.is_classic();
            member.revoke_by = revokes.then(|| now + member.rebalance_timeout);
        }
    }
}

impl Member {
    /// The topics that it wants, by name or by its pattern.
    pub(crate) fn subscribed(&self) -> impl Iterator<Item = &String> {
        self.topics.iter().chain(&self.matching)
    }

    /// What it may still have: also what it is to give up.
    pub(crate) fn holds(&self) -> Assignment {
        let mut holds = self.assigned.clone();
        for (&topic, partitions) in &self.revoking {
            holds.entry(topic).or_default().extend(partitions);
        }
        holds
    }

    /// Whether it speaks the classic protocol.
    pub(crate) fn is_classic(&self) -> bool {
        self.classic.is_some()
    }

    /// When it is gone unless something is heard of it.
    fn expiry(&self) -> Option<Instant> {
        let phase = self.classic.as_ref().and_then(ClassicSide::phase_ends);
        [self.deadline, self.revoke_by, phase].into_iter().flatten().min()
    }

    fn new(now: Instant, instance_id: Option<String>) -> Self {
        Self {
            instance_id,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            topics: BTreeSet::new(),
            pattern: None,
            matching: BTreeSet::new(),
            assignor: None,
            assigned: Assignment::new(),
            revoking: Assignment::new(),
            rebalance_timeout: Duration::ZERO,
            deadline: Some(now),
            revoke_by: None,
            classic: None,
        }
    }
}

fn unknown(member_id: &str) -> Failure {
    Failure {
        code: ErrorCode::UNKNOWN_MEMBER_ID,
        text: format!("member {member_id} is not a member of the group").into(),
    }
}

/// A member that joins anew takes its place with epoch 0; the epoch before is accepted from one that can have
/// missed the answer.
fn check_epoch(member: &Member, beat: &Beat) -> Result<(), Failure> {
    if beat.epoch == 0 || beat.epoch == member.epoch {
        return Ok(());
    }
    let has_only_what_it_may = beat.owned.as_ref().is_some_and(|owned| is_subset(owned, &member.assigned));
    if beat.epoch < member.epoch && beat.epoch == member.previous_epoch && has_only_what_it_may {
        return Ok(());
    }
    let text = format!(
        "the member says epoch {}, the coordinator knows {}: it must abandon all its partitions and rejoin",
        beat.epoch, member.epoch
    );
    fail(ErrorCode::FENCED_MEMBER_EPOCH, text)
}

fn is_subset(part: &Assignment, whole: &Assignment) -> bool {
    part.iter().all(|(topic, partitions)| {
        partitions.is_empty() || whole.get(topic).is_some_and(|all| all.is_superset(partitions))
    })
}

fn update(member: &mut Member, beat: &Beat) {
    member.client_id.clone_from(&beat.client_id);
    member.client_host.clone_from(&beat.client_host);
    if beat.rack_id.is_some() {
        member.rack_id.clone_from(&beat.rack_id);
    }
    if let Some(timeout) = beat.rebalance_timeout {
        member.rebalance_timeout = timeout;
    }
    if let Some(topics) = &beat.topics {
        member.topics.clone_from(topics);
    }
    if let Some(pattern) = &beat.pattern {
        member.pattern = Some(pattern.clone()).filter(|pattern| !pattern.is_empty());
    }
    member.matching.clone_from(&beat.matching);
    if beat.assignor.is_some() {
        member.assignor = beat.assignor;
    }
    member.classic = None;
}

fn wanted_by(member: &Member, topics: &Topics) -> BTreeMap<TopicId, i32> {
    let found = member.subscribed().filter_map(|name| topics.get(name));
    found.map(|topic| (topic.id, topic.partitions.len() as i32)).collect()
}

//! Members of a consumer group that still speak the classic protocol: what `JoinGroup`, `SyncGroup`, `Heartbeat` and
//! `LeaveGroup` are to them while others speak that of KIP-848 already.
//!
//! A generation is the member's epoch. Nobody leads: the coordinator assigns, and a member that is to have something
//! else is told to join again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::ErrorCode;
use serde::{Deserialize, Serialize};

use super::{ConsumerGroup, Member, MemberState, Timing};
use crate::groups::assignor::Assignment;
use crate::groups::classic::{CONSUMER, Identity, Joined, Joining, MEMBERS_MAX, Synced, Syncing};
use crate::groups::consumer_protocol::{self, Subscription};
use crate::groups::migration::Migrant;
use crate::topics::Topics;

/// What a member is by the classic protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ClassicSide {
    session_timeout: Duration,
    /// What it could speak, the most wanted first, with its metadata for each.
    protocols: Vec<(String, Bytes)>,
    /// Until when it has to join again.
    #[serde(skip)]
    join_by: Option<Instant>,
    /// Until when it has to ask for what it was assigned.
    #[serde(skip)]
    sync_by: Option<Instant>,
}

impl ClassicSide {
    fn new(session_timeout: Duration, protocols: Vec<(String, Bytes)>) -> Self {
        Self { session_timeout, protocols, join_by: None, sync_by: None }
    }

    /// When the phase that the member is in ends its membership.
    pub(super) fn phase_ends(&self) -> Option<Instant> {
        [self.join_by, self.sync_by].into_iter().flatten().min()
    }

    /// Another node coordinates now, which knows of no phases; how long the member may be silent.
    pub(super) fn forget_phases(&mut self) -> Duration {
        (self.join_by, self.sync_by) = (None, None);
        self.session_timeout
    }

    /// The protocol that the member is told: all mean the same to the coordinator.
    fn protocol(&self) -> Option<&(String, Bytes)> {
        self.protocols.first()
    }
}

impl ConsumerGroup {
    /// The group that a classic one becomes: all stay in its generation, with what they were assigned there.
    ///
    /// # Errors
    /// Why it cannot become one.
    pub(crate) fn from_migrants(
        now: Instant,
        timing: Timing,
        generation: i32,
        migrants: Vec<Migrant>,
        topics: &Topics,
    ) -> Result<Self, &'static str> {
        let malformed = "the embedded consumer protocol is malformed";
        let mut group = Self::new(timing);
        (group.epoch, group.assignment_epoch) = (generation, generation);
        for migrant in migrants {
            let metadata = migrant.protocols.first().map(|(_, metadata)| &metadata[..]);
            let subscription = metadata.and_then(consumer_protocol::subscription).ok_or(malformed)?;
            let assigned = consumer_protocol::assignment(&migrant.assignment).ok_or(malformed)?;
            if assigned.has_user_data {
                return Err("an unsupported custom assignor is in use");
            }
            let mut member = Member::new(now, migrant.instance_id.clone());
            member.client_id = migrant.client_id;
            member.client_host = migrant.client_host;
            (member.epoch, member.previous_epoch) = (generation, generation);
            member.rebalance_timeout = migrant.rebalance_timeout;
            member.deadline = Some(now + migrant.session_timeout);
            member.rack_id = subscription.rack;
            member.topics = subscription.topics.into_iter().collect();
            member.assigned = consumer_protocol::by_id(assigned.partitions, topics);
            member.classic = Some(ClassicSide::new(migrant.session_timeout, migrant.protocols));
            if let Some(instance) = migrant.instance_id {
                group.static_members.insert(instance, migrant.id.clone());
            }
            group.target.insert(migrant.id.clone(), member.assigned.clone());
            group.wanted.insert(migrant.id.clone(), super::wanted_by(&member, topics));
            group.members.insert(migrant.id, member);
        }
        Ok(group)
    }

    /// The classic members, with what they are to have.
    pub(crate) fn migrants(&self, topics: &Topics) -> Vec<Migrant> {
        let none = Assignment::new();
        let migrant = |(id, member): (&String, &Member)| {
            let classic = member.classic.as_ref()?;
            let version = classic.protocol().map_or(0, |(_, metadata)| consumer_protocol::version(metadata));
            let target = self.target.get(id).unwrap_or(&none);
            Some(Migrant {
                id: id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                session_timeout: classic.session_timeout,
                rebalance_timeout: member.rebalance_timeout,
                protocols: classic.protocols.clone(),
                assignment: consumer_protocol::encode_assignment(version, target, topics),
            })
        };
        self.members.iter().filter_map(migrant).collect()
    }

    /// Whether there are members, and all speak the classic protocol.
    pub(crate) fn has_only_classic_members(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(Member::is_classic)
    }

    /// Whether the last member that spoke this protocol has gone from among classic ones.
    pub(crate) fn is_left_to_classic_members(&self) -> bool {
        self.is_left_to_classic_members
    }

    /// `JoinGroup`: as a heartbeat that says everything. It is answered at once.
    pub(crate) fn join(&mut self, now: Instant, joining: Joining, topics: &Topics) -> Joined {
        self.join_as_classic(now, joining, topics).unwrap_or_else(|refused| match refused {
            Refused::NeedsId(fresh) => Joined::refused(ErrorCode::MEMBER_ID_REQUIRED, &fresh),
            Refused::For(code) => Joined::refused(code, ""),
        })
    }

    fn join_as_classic(
        &mut self,
        now: Instant,
        joining: Joining,
        topics: &Topics,
    ) -> Result<Joined, Refused> {
        let is_new = joining.member_id.is_empty();
        let id = if is_new { joining.fresh_id.clone() } else { joining.member_id.clone() };
        if self.members.len() >= MEMBERS_MAX && !self.members.contains_key(&id) {
            return Err(Refused::For(ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        if !self.supports(&joining) {
            return Err(Refused::For(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        }
        if is_new && joining.needs_known_id && joining.instance_id.is_none() {
            return Err(Refused::NeedsId(id));
        }
        let metadata = joining.protocols.first().map(|(_, metadata)| &metadata[..]);
        // As Kafka, which meets an exception there.
        let subscription = metadata
            .and_then(consumer_protocol::subscription)
            .ok_or(Refused::For(ErrorCode::UNKNOWN_SERVER_ERROR))?;
        self.enrol_classic(now, &id, is_new, joining.instance_id.as_deref()).map_err(Refused::For)?;
        let owned = self.update_classic(now, &id, joining, subscription, topics);
        self.retarget(topics);
        self.reconcile(now, &id, Some(&owned)).map_err(|failure| Refused::For(failure.code))?;
        let member = self.members.get(&id).ok_or(Refused::For(ErrorCode::UNKNOWN_MEMBER_ID))?;
        let protocol = member.classic.as_ref().and_then(ClassicSide::protocol);
        Ok(Joined {
            generation: member.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: protocol.map(|(name, _)| name.clone()),
            member_id: id,
            ..Joined::default()
        })
    }

    /// Whether the newcomer speaks a protocol that all classic members speak.
    fn supports(&self, joining: &Joining) -> bool {
        let others: Vec<&ClassicSide> =
            self.members.values().filter_map(|member| member.classic.as_ref()).collect();
        let all_speak =
            |name: &str| others.iter().all(|it| it.protocols.iter().any(|(known, _)| known == name));
        joining.protocol_type == CONSUMER && joining.protocols.iter().any(|(name, _)| all_speak(name))
    }

    /// Makes somebody a member; a static member that is back under another id gets its place.
    fn enrol_classic(
        &mut self,
        now: Instant,
        id: &str,
        is_new: bool,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let holder = instance_id.and_then(|instance| self.static_members.get(instance).cloned());
        match (instance_id, holder) {
            (Some(instance), Some(holder)) if is_new => {
                self.replace(instance, &holder, id);
                return Ok(());
            }
            (Some(_), Some(holder)) if holder != id => return Err(ErrorCode::FENCED_INSTANCE_ID),
            (Some(_), None) if !is_new => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            (Some(instance), None) => {
                self.static_members.insert(instance.to_owned(), id.to_owned());
            }
            _ => {}
        }
        let instance_id = instance_id.map(str::to_owned);
        self.members.entry(id.to_owned()).or_insert_with(|| Member::new(now, instance_id));
        Ok(())
    }

    /// Takes over what a member says; what it says that it has.
    fn update_classic(
        &mut self,
        now: Instant,
        id: &str,
        joining: Joining,
        said: Subscription,
        topics: &Topics,
    ) -> Assignment {
        if let Some(member) = self.members.get_mut(id) {
            member.client_id = joining.client_id;
            member.client_host = joining.client_host;
            member.rebalance_timeout = joining.rebalance_timeout;
            member.deadline = Some(now + joining.session_timeout);
            member.topics = said.topics.into_iter().collect();
            (member.pattern, member.assignor) = (None, None);
            member.matching.clear();
            if said.rack.is_some() {
                member.rack_id = said.rack;
            }
            let mut classic = ClassicSide::new(joining.session_timeout, joining.protocols);
            classic.sync_by = Some(now + joining.rebalance_timeout);
            member.classic = Some(classic);
        }
        consumer_protocol::by_id(said.owned, topics)
    }

    /// A classic member, if it is who it says, in this generation.
    fn classic_member(&self, who: Identity<'_>) -> Result<&Member, ErrorCode> {
        if let Some(instance) = who.instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(holder) if holder != who.member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        let member = self.members.get(who.member_id).filter(|member| member.is_classic());
        let member = member.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch == who.generation { Ok(member) } else { Err(ErrorCode::ILLEGAL_GENERATION) }
    }

    /// `SyncGroup`: what the member may have.
    pub(crate) fn sync(&mut self, now: Instant, syncing: &Syncing<'_>, topics: &Topics) -> Synced {
        self.sync_as_classic(now, syncing.who, syncing.protocol, topics)
            .unwrap_or_else(|code| Synced { error: Some(code), ..Synced::default() })
    }

    fn sync_as_classic(
        &mut self,
        now: Instant,
        who: Identity<'_>,
        (protocol_type, protocol): (Option<&str>, Option<&str>),
        topics: &Topics,
    ) -> Result<Synced, ErrorCode> {
        let member = self.classic_member(who)?;
        let told = member.classic.as_ref().and_then(ClassicSide::protocol);
        let (name, metadata) = told.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if protocol_type.is_some_and(|it| it != CONSUMER) || protocol.is_some_and(|it| it != name.as_str()) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if self.assignment_epoch > member.epoch && member.state != MemberState::Unrevoked {
            self.expect_to_join(now, who.member_id);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let version = consumer_protocol::version(metadata);
        let assignment = consumer_protocol::encode_assignment(version, &member.assigned, topics);
        self.hear(now, who.member_id);
        if let Some(classic) = self.members.get_mut(who.member_id).and_then(|it| it.classic.as_mut()) {
            classic.sync_by = None;
        }
        let [protocol_type, protocol] = [protocol_type, protocol].map(|said| said.map(str::to_owned));
        Ok(Synced { error: None, protocol_type, protocol, assignment })
    }

    /// `Heartbeat`.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION`; `REBALANCE_IN_PROGRESS` asks the member to join
    /// again.
    pub(crate) fn classic_heartbeat(&mut self, now: Instant, who: Identity<'_>) -> Result<(), ErrorCode> {
        let member = self.classic_member(who)?;
        let has_news = member.epoch < self.assignment_epoch
            || match member.state {
                MemberState::Stable => false,
                MemberState::Unrevoked => true,
                MemberState::Unreleased => self.can_get_all(who.member_id, member),
            };
        self.hear(now, who.member_id);
        if has_news {
            self.expect_to_join(now, who.member_id);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Whether nobody else has anything any more of what a member is to have.
    fn can_get_all(&self, id: &str, member: &Member) -> bool {
        let target = self.target.get(id).into_iter().flatten();
        let mut partitions = target.flat_map(|(&topic, all)| all.iter().map(move |&index| (topic, index)));
        partitions.all(|(topic, index)| {
            member.assigned.get(&topic).is_some_and(|has| has.contains(&index))
                || self.is_free(id, topic, index)
        })
    }

    /// A member was told to join again, and has its rebalance timeout for it.
    fn expect_to_join(&mut self, now: Instant, id: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        let by = now + member.rebalance_timeout;
        if let Some(classic) = &mut member.classic {
            classic.join_by.get_or_insert(by);
        }
    }

    /// A classic member was heard of.
    fn hear(&mut self, now: Instant, id: &str) {
        if let Some(member) = self.members.get_mut(id)
            && let Some(classic) = &member.classic
        {
            member.deadline = Some(now + classic.session_timeout);
        }
    }

    /// `LeaveGroup` of one member of either protocol, by its id or, from administrators, by its instance id alone.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`.
    pub(crate) fn leave_at_once(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let id = match instance_id {
            None => member_id.to_owned(),
            Some(instance) => {
                let holder = self.static_members.get(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
                if !member_id.is_empty() && holder != member_id {
                    return Err(ErrorCode::FENCED_INSTANCE_ID);
                }
                holder.clone()
            }
        };
        if !self.members.contains_key(&id) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.remove(&id);
        Ok(())
    }
}

/// Why a `JoinGroup` makes nobody a member.
enum Refused {
    /// The client is to ask again with this id (KIP-394).
    NeedsId(String),
    For(ErrorCode),
}

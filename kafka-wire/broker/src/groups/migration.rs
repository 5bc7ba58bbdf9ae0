//! Requests of members of the classic protocol, to whichever kind of group theirs is by now; and the moves of a whole
//! group between both kinds (`group.consumer.migration.policy=bidirectional`).
//!
//! A classic group of consumers becomes one of KIP-848 when the first member joins that speaks it, and a classic one
//! again when the last of these is gone. Members stay, with what they have.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::ErrorCode;

use super::classic::{ClassicGroup, Identity, Joining, Syncing};
use super::consumer::{Beat, ConsumerGroup, Timing, Told};
use super::{Groups, Members, Reply};
use crate::error::{Failure, fail};
use crate::topics::Topics;

/// A member of the classic protocol on its way from one kind of group to the other.
#[derive(Clone, Debug)]
pub(crate) struct Migrant {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// What it is to have, as `ConsumerProtocolAssignment`.
    pub(crate) assignment: Bytes,
}

impl Groups {
    /// `JoinGroup`; the group begins to exist where the member has no id yet.
    ///
    /// # Errors
    /// As [`Groups::with_classic`].
    pub(crate) fn join(
        &mut self,
        now: Instant,
        id: &str,
        joining: Joining,
        topics: &Topics,
    ) -> Result<(), ErrorCode> {
        self.touch(id);
        match self.by_id.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Consumer(group)) if !group.is_empty() => {
                let connection = joining.connection;
                let told = group.join(now, joining, topics);
                self.replies.push((connection, Reply::Joined(told)));
                // The last static member of KIP-848 was replaced by one of the classic protocol.
                if group.has_only_classic_members() {
                    self.downgrade(now, id, topics);
                }
                Ok(())
            }
            _ => {
                let create = joining.member_id.is_empty();
                self.with_classic(id, create, |members, replies| members.join(now, joining, replies))
            }
        }
    }

    /// `SyncGroup`.
    ///
    /// # Errors
    /// As [`Groups::with_classic`].
    pub(crate) fn sync(
        &mut self,
        now: Instant,
        id: &str,
        syncing: Syncing<'_>,
        topics: &Topics,
    ) -> Result<(), ErrorCode> {
        match self.by_id.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Consumer(group)) => {
                let connection = syncing.connection;
                let told = group.sync(now, &syncing, topics);
                self.replies.push((connection, Reply::Synced(told)));
                Ok(())
            }
            _ => self.with_classic(id, false, |members, replies| members.sync(now, syncing, replies)),
        }
    }

    /// `Heartbeat`.
    ///
    /// # Errors
    /// As that of either kind of group; `UNKNOWN_MEMBER_ID` where there is none.
    pub(crate) fn heartbeat(&mut self, now: Instant, id: &str, who: Identity<'_>) -> Result<(), ErrorCode> {
        match self.by_id.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Classic(group)) => group.heartbeat(now, who),
            Some(Members::Consumer(group)) => group.classic_heartbeat(now, who),
            _ => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// `LeaveGroup` of one member.
    ///
    /// # Errors
    /// As that of either kind of group; `UNKNOWN_MEMBER_ID` where there is none.
    pub(crate) fn leave(
        &mut self,
        now: Instant,
        id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        self.touch(id);
        match self.by_id.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Classic(group)) => group.leave(now, member_id, instance_id, &mut self.replies),
            Some(Members::Consumer(group)) => group.leave_at_once(member_id, instance_id),
            _ => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// A member committed, which shows in a classic group that it lives; in others only heartbeats count.
    pub(crate) fn hear(&mut self, now: Instant, id: &str, member_id: &str) {
        if let Some(Members::Classic(group)) = self.by_id.get_mut(id).map(|group| &mut group.members) {
            group.hear(now, member_id);
        }
    }

    /// `ConsumerGroupHeartbeat`; with the first one of a member the group begins to exist, or becomes of this kind.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, and as [`ConsumerGroup::heartbeat`].
    pub(crate) fn consumer_heartbeat(
        &mut self,
        now: Instant,
        id: &str,
        beat: &Beat,
        timing: Timing,
        topics: &Topics,
    ) -> Result<Told, Failure> {
        self.touch(id);
        if beat.epoch == 0
            && let Some(group) = self.by_id.get_mut(id)
            && let Members::Classic(classic) = &mut group.members
            && !classic.is_empty()
            && classic.has_consumers()
        {
            classic.ask_to_join_again(&mut self.replies);
            let (generation, migrants) = (classic.generation, classic.migrants());
            let upgraded = ConsumerGroup::from_migrants(now, timing, generation, migrants, topics);
            let mut upgraded = upgraded.or_else(|why| {
                let text = format!("Cannot upgrade classic group {id} to consumer group because {why}.");
                fail(ErrorCode::GROUP_ID_NOT_FOUND, text)
            })?;
            let told = upgraded.heartbeat(now, beat, topics)?;
            tracing::info!(group = id, "a classic group becomes a consumer group");
            group.members = Members::Consumer(upgraded);
            return Ok(told);
        }
        let group = self.consumer(id, (beat.epoch == 0).then_some(timing))?;
        group.timing = timing;
        group.heartbeat(now, beat, topics)
    }

    /// Makes those groups classic that are left to classic members, who are to join again.
    pub(crate) fn downgrade_those_left(&mut self, now: Instant, topics: &Topics) {
        let is_left = |members: &Members| match members {
            Members::Consumer(group) => group.is_left_to_classic_members(),
            _ => false,
        };
        let left: Vec<String> =
            self.by_id.iter().filter(|(_, it)| is_left(&it.members)).map(|(id, _)| id.clone()).collect();
        for id in left {
            self.downgrade(now, &id, topics);
            // It is a classic group now: nothing refuses this.
            let _ = self.with_classic(&id, false, |members, replies| members.prepare(now, replies));
        }
    }

    fn downgrade(&mut self, now: Instant, id: &str, topics: &Topics) {
        self.touch(id);
        let initial_delay = self.initial_delay;
        let Some(group) = self.by_id.get_mut(id) else { return };
        let Members::Consumer(consumer) = &group.members else { return };
        tracing::info!(group = id, "a consumer group becomes a classic group");
        let (generation, migrants) = (consumer.epoch, consumer.migrants(topics));
        group.members =
            Members::Classic(ClassicGroup::from_migrants(now, initial_delay, generation, migrants));
    }
}

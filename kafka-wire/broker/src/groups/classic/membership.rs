//! Who belongs to a classic group: joining, leaving, and the phase of a rebalance in which all join again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::ErrorCode;

use super::{
    ClassicGroup, Initial, Joined, Joining, MEMBERS_MAX, Member, NEW_MEMBER_JOIN_TIMEOUT, State, answer_sync,
    answer_waiting,
};
use crate::groups::{Replies, Reply};

impl ClassicGroup {
    /// `JoinGroup`. Its answer comes when everybody has joined, or at once where nothing is to change.
    pub(crate) fn join(&mut self, now: Instant, joining: Joining, replies: &mut Replies) {
        let connection = joining.connection;
        let told = self.judge(now, joining, replies);
        if let Some(told) = told {
            replies.push((connection, Reply::Joined(told)));
        }
    }

    /// The answer, where it does not have to wait.
    fn judge(&mut self, now: Instant, joining: Joining, replies: &mut Replies) -> Option<Joined> {
        let id = joining.member_id.clone();
        let is_known = self.members.contains_key(&id) || self.pending.contains_key(&id);
        if !is_known && self.members.len() + self.pending.len() >= MEMBERS_MAX {
            return Some(Joined::refused(ErrorCode::GROUP_MAX_SIZE_REACHED, ""));
        }
        if !self.supports(&joining) {
            return Some(Joined::refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, &id));
        }
        if id.is_empty() {
            return self.join_as_new(now, joining, replies);
        }
        if self.pending.contains_key(&id) && joining.instance_id.is_none() {
            self.add(now, &id, joining, replies);
            return None;
        }
        if let Err(code) = self.check_member(&id, joining.instance_id.as_deref()) {
            return Some(Joined::refused(code, &id));
        }
        let is_leader = self.leader.as_ref() == Some(&id);
        let is_same = self.members.get(&id).is_some_and(|member| member.protocols == joining.protocols);
        match self.state {
            State::Empty => Some(Joined::refused(ErrorCode::UNKNOWN_MEMBER_ID, &id)),
            // It did not get the answer: it is told again.
            State::CompletingRebalance if is_same => Some(self.joined(&id)),
            // A leader that joins again has a reason that its metadata does not show, such as new partitions.
            State::Stable if is_same && !is_leader => Some(self.joined(&id)),
            _ => {
                self.update(&id, joining);
                self.rebalance_or_complete(now, replies);
                None
            }
        }
    }

    fn join_as_new(&mut self, now: Instant, joining: Joining, replies: &mut Replies) -> Option<Joined> {
        let fresh = joining.fresh_id.clone();
        match joining.instance_id.clone() {
            Some(instance) => match self.static_members.get(&instance).cloned() {
                Some(old) => return self.replace(now, &instance, &old, joining, replies),
                None => self.add(now, &fresh, joining, replies),
            },
            None if joining.needs_known_id => {
                self.pending.insert(fresh.clone(), now + joining.session_timeout);
                return Some(Joined::refused(ErrorCode::MEMBER_ID_REQUIRED, &fresh));
            }
            None => self.add(now, &fresh, joining, replies),
        }
        None
    }

    /// A static member is back, under a new member id (KIP-345).
    fn replace(
        &mut self,
        now: Instant,
        instance: &str,
        old: &str,
        joining: Joining,
        replies: &mut Replies,
    ) -> Option<Joined> {
        let fresh = joining.fresh_id.clone();
        let can_skip = joining.can_skip_assignment;
        let old_leader = self.leader.clone();
        if let Some(mut member) = self.members.remove(old) {
            answer_waiting(old, &mut member, ErrorCode::FENCED_INSTANCE_ID, replies);
            member.stay(now);
            self.members.insert(fresh.clone(), member);
        }
        self.static_members.insert(instance.to_owned(), fresh.clone());
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(fresh.clone());
        }
        self.update(&fresh, joining);
        match self.state {
            State::Stable if self.choose_protocol() == self.protocol => {
                if let Some(member) = self.members.get_mut(&fresh) {
                    member.joining = None;
                }
                self.save();
                let mut told = self.joined(&fresh);
                if can_skip {
                    told.skip_assignment = told.leader == fresh;
                } else {
                    // It must not assign anew: it is told that somebody else leads.
                    told.leader = old_leader.unwrap_or_default();
                    told.members = Vec::new();
                }
                Some(told)
            }
            State::Stable | State::CompletingRebalance => {
                self.prepare(now, replies);
                None
            }
            _ => {
                self.complete_join_if_all_are_there(now, replies);
                None
            }
        }
    }

    /// Whether the group could agree with the newcomer on a protocol.
    fn supports(&self, joining: &Joining) -> bool {
        if self.members.is_empty() {
            return !joining.protocol_type.is_empty() && !joining.protocols.is_empty();
        }
        let all_can = self.protocols_of_all();
        self.protocol_type.as_deref() == Some(&joining.protocol_type)
            && joining.protocols.iter().any(|(name, _)| all_can.contains(name))
    }

    /// The protocols that every member can speak.
    fn protocols_of_all(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, _) in self.members.values().flat_map(|member| &member.protocols) {
            *counts.entry(name).or_default() += 1;
        }
        let all = self.members.len();
        counts.into_iter().filter(|(_, count)| *count == all).map(|(name, _)| name.to_owned()).collect()
    }

    /// Everybody votes for the first of its protocols that all can speak; ties go to the first by name.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let candidates = self.protocols_of_all();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| candidates.contains(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    fn add(&mut self, now: Instant, id: &str, joining: Joining, replies: &mut Replies) {
        self.pending.remove(id);
        if self.members.is_empty() {
            self.protocol_type = Some(joining.protocol_type);
        }
        if let Some(instance) = &joining.instance_id {
            self.static_members.insert(instance.clone(), id.to_owned());
        }
        self.leader.get_or_insert_with(|| id.to_owned());
        if let Some(initial) = &mut self.initial {
            initial.has_grown = true;
        }
        let member = Member {
            instance_id: joining.instance_id,
            client_id: joining.client_id,
            client_host: joining.client_host,
            protocols: joining.protocols,
            assignment: Bytes::new(),
            session_timeout: joining.session_timeout,
            rebalance_timeout: joining.rebalance_timeout,
            deadline: Some(now + NEW_MEMBER_JOIN_TIMEOUT),
            joining: Some(joining.connection),
            syncing: None,
            owes_sync: false,
            is_new: true,
        };
        self.members.insert(id.to_owned(), member);
        self.rebalance_or_complete(now, replies);
    }

    fn update(&mut self, id: &str, joining: Joining) {
        if let Some(member) = self.members.get_mut(id) {
            member.protocols = joining.protocols;
            member.session_timeout = joining.session_timeout;
            member.rebalance_timeout = joining.rebalance_timeout;
            member.joining = Some(joining.connection);
        }
    }

    fn rebalance_or_complete(&mut self, now: Instant, replies: &mut Replies) {
        if self.state == State::PreparingRebalance {
            self.complete_join_if_all_are_there(now, replies);
        } else {
            self.prepare(now, replies);
        }
    }

    /// Begins a rebalance: everybody is to join again.
    pub(in crate::groups) fn prepare(&mut self, now: Instant, replies: &mut Replies) {
        for member in self.members.values_mut() {
            member.owes_sync = false;
            if self.state == State::CompletingRebalance {
                member.assignment = Bytes::new();
                if member.syncing.is_some() {
                    member.stay(now);
                }
                answer_sync(member, ErrorCode::REBALANCE_IN_PROGRESS, replies);
            }
        }
        let was_empty = self.state == State::Empty;
        self.state = State::PreparingRebalance;
        if was_empty {
            let delay = self.initial_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.initial = Some(Initial { delay, remaining, has_grown: false });
            self.phase_ends = Some(now + delay);
        } else {
            self.phase_ends = Some(now + self.rebalance_timeout());
            self.complete_join_if_all_are_there(now, replies);
        }
    }

    /// The longest that a member asked for.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn complete_join_if_all_are_there(&mut self, now: Instant, replies: &mut Replies) {
        let all_are_there =
            self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if self.state == State::PreparingRebalance && self.initial.is_none() && all_are_there {
            self.complete_join(now, replies);
        }
    }

    /// Begins the next generation, with those who have joined.
    pub(super) fn complete_join(&mut self, now: Instant, replies: &mut Replies) {
        let absent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in absent {
            self.forget(&id, replies);
        }
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members that did not join: their sessions will tell.
            self.phase_ends = Some(now + self.rebalance_timeout());
            return;
        }
        self.initial = None;
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.protocol = None;
            self.phase_ends = None;
            return self.save();
        }
        self.state = State::CompletingRebalance;
        self.protocol = self.choose_protocol();
        self.phase_ends = Some(now + self.rebalance_timeout());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let told = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.stay(now);
            member.is_new = false;
            member.owes_sync = true;
            if let Some(connection) = member.joining.take() {
                replies.push((connection, Reply::Joined(told)));
            }
        }
    }

    /// Makes sure that somebody who has joined leads; says whether somebody does.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.joining.is_some());
        match joined.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// What a member is told about the current generation.
    fn joined(&self, id: &str) -> Joined {
        let leads = self.leader.as_deref() == Some(id);
        let everybody = self.members.iter().filter(|_| leads).map(|(id, member)| {
            (id.clone(), member.instance_id.clone(), member.metadata(self.protocol.as_deref()))
        });
        Joined {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.to_owned(),
            members: everybody.collect(),
        }
    }

    /// `LeaveGroup` of one member, by its id or, from administrators, by its instance id alone.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`.
    pub(crate) fn leave(
        &mut self,
        now: Instant,
        member_id: &str,
        instance_id: Option<&str>,
        replies: &mut Replies,
    ) -> Result<(), ErrorCode> {
        if self.pending.remove(member_id).is_some() {
            self.complete_join_if_all_are_there(now, replies);
            return Ok(());
        }
        let by_instance = instance_id.filter(|_| member_id.is_empty());
        let id = match by_instance.map(|instance| self.static_members.get(instance)) {
            Some(found) => found.cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?,
            None => {
                self.check_member(member_id, instance_id)?;
                member_id.to_owned()
            }
        };
        self.remove(now, &id, replies);
        Ok(())
    }

    /// Removes a member, whose partitions go to others by a rebalance.
    pub(crate) fn remove(&mut self, now: Instant, id: &str, replies: &mut Replies) {
        self.forget(id, replies);
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare(now, replies),
            State::PreparingRebalance => self.complete_join_if_all_are_there(now, replies),
            State::Empty => {}
        }
    }

    pub(super) fn forget(&mut self, id: &str, replies: &mut Replies) {
        let Some(mut member) = self.members.remove(id) else { return };
        // Whoever still waits may come back as somebody new.
        if let Some(connection) = member.joining.take() {
            replies.push((connection, Reply::Joined(Joined::refused(ErrorCode::UNKNOWN_MEMBER_ID, ""))));
        }
        answer_waiting(id, &mut member, ErrorCode::UNKNOWN_MEMBER_ID, replies);
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }
}

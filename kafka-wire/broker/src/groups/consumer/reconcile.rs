//! How a member gets from what it has to what it is to have: it gives up first, and gets what is free.

use std::collections::BTreeSet;
use std::time::Instant;

use kafka_wire::{ErrorCode, TopicId};
use serde::{Deserialize, Serialize};

use super::{ConsumerGroup, Member};
use crate::error::{Failure, fail};
use crate::groups::assignor::Assignment;

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberState {
    /// It has what it is to have, in its epoch.
    Stable,
    /// It has something to give up.
    Unrevoked,
    /// It waits for what others have to give up.
    Unreleased,
}

impl ConsumerGroup {
    /// Brings a member, which says that it owns these partitions (or nothing of the kind), closer to its target.
    ///
    /// # Errors
    /// `FENCED_MEMBER_EPOCH` where the member is unknown by now.
    pub(super) fn reconcile(
        &mut self,
        now: Instant,
        id: &str,
        owned: Option<&Assignment>,
    ) -> Result<(), Failure> {
        let target_epoch = self.assignment_epoch;
        let Some(member) = self.members.get(id) else {
            return fail(ErrorCode::FENCED_MEMBER_EPOCH, "the member is gone");
        };
        let epoch = match member.state {
            MemberState::Stable if member.epoch == target_epoch => return Ok(()),
            MemberState::Unrevoked if owns_any(owned, &member.revoking) => return Ok(()),
            // What it had to give up is free: that is an epoch of its own.
            MemberState::Unrevoked => member.epoch + 1,
            MemberState::Stable | MemberState::Unreleased => member.epoch,
        };
        let next = self.next_step(id, member, epoch, owned);
        let Some(member) = self.members.get_mut(id) else { return Ok(()) };
        if next.epoch != member.epoch {
            member.previous_epoch = member.epoch;
            member.epoch = next.epoch;
        }
        let begins_to_revoke = next.state == MemberState::Unrevoked && member.revoking != next.revoking;
        member.state = next.state;
        member.assigned = next.assigned;
        member.revoking = next.revoking;
        if member.is_classic() {
            // It has other deadlines.
            member.revoke_by = None;
        } else if begins_to_revoke {
            member.revoke_by = Some(now + member.rebalance_timeout);
        } else if member.state != MemberState::Unrevoked {
            member.revoke_by = None;
        }
        Ok(())
    }

    fn next_step(&self, id: &str, member: &Member, epoch: i32, owned: Option<&Assignment>) -> Step {
        let none = BTreeSet::new();
        let no_target = Assignment::new();
        let target = self.target.get(id).unwrap_or(&no_target);
        let topics: BTreeSet<TopicId> = target.keys().chain(member.assigned.keys()).copied().collect();
        let (mut assigned, mut revoking, mut fresh) =
            (Assignment::new(), Assignment::new(), Assignment::new());
        let mut waits = false;
        for topic in topics {
            let target = target.get(&topic).unwrap_or(&none);
            let has = member.assigned.get(&topic).unwrap_or(&none);
            put(&mut assigned, topic, has & target);
            put(&mut revoking, topic, has - target);
            let wanted = target - has;
            let free: BTreeSet<i32> =
                wanted.iter().copied().filter(|&partition| self.is_free(id, topic, partition)).collect();
            waits |= free.len() < wanted.len();
            put(&mut fresh, topic, free);
        }
        if !revoking.is_empty() && owns_any(owned, &revoking) {
            return Step { state: MemberState::Unrevoked, epoch, assigned, revoking };
        }
        for (topic, partitions) in fresh {
            assigned.entry(topic).or_default().extend(partitions);
        }
        let state = if waits { MemberState::Unreleased } else { MemberState::Stable };
        Step { state, epoch: self.assignment_epoch, assigned, revoking: Assignment::new() }
    }

    /// Whether nobody else has a partition, or may still have it.
    pub(super) fn is_free(&self, id: &str, topic: TopicId, partition: i32) -> bool {
        let holds = |held: &Assignment| held.get(&topic).is_some_and(|all| all.contains(&partition));
        let others = self.members.iter().filter(|(other, _)| other.as_str() != id);
        others.into_iter().all(|(_, other)| !holds(&other.assigned) && !holds(&other.revoking))
    }
}

struct Step {
    state: MemberState,
    epoch: i32,
    assigned: Assignment,
    revoking: Assignment,
}

fn put(assignment: &mut Assignment, topic: TopicId, partitions: BTreeSet<i32>) {
    if !partitions.is_empty() {
        assignment.insert(topic, partitions);
    }
}

/// Whether a member that says what it owns (or does not say) may still own some of these.
fn owns_any(owned: Option<&Assignment>, these: &Assignment) -> bool {
    let Some(owned) = owned else { return true };
    owned.iter().any(|(topic, partitions)| these.get(topic).is_some_and(|some| !some.is_disjoint(partitions)))
}

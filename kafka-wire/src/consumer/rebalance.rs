//! What a rebalance asks of the application, on its way from the machine to the application's next poll.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::group::{Event, MemberIdentity};
use crate::types::TopicPartition;

/// The queue as both sides hold it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedRebalances(Arc<Mutex<Rebalances>>);

impl SharedRebalances {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Rebalances> {
        // A panic elsewhere leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most failures that wait for an application that does not poll; of more, those that came first are told.
const FAILURES_MAX: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rebalances {
    /// At most an assignment and a revocation for each rebalance, which does not end without the application; and
    /// [`FAILURES_MAX`].
    events: VecDeque<Event>,
    /// As whom the application acts: until it knows of a loss, as the member that it was.
    acts_as: Option<MemberIdentity>,
    newest: Option<MemberIdentity>,
    /// Polls begun and ended.
    polls: u64,
    is_waiting: bool,
    wants_poll: bool,
    /// The application has unsubscribed, and wants to hear of nothing that comes before the machine knows it.
    is_silent: bool,
}

// The application's side.
impl Rebalances {
    /// The application polls. Whether the machine must be told.
    pub(crate) fn polled(&mut self) -> bool {
        self.polls += 1;
        self.is_waiting = false;
        std::mem::take(&mut self.wants_poll)
    }

    /// It waits in a poll, until the next [`polled`](Self::polled).
    pub(crate) fn waits(&mut self) {
        self.is_waiting = true;
    }

    /// It waits no longer: it deals with what it has got, or with something else.
    pub(crate) fn stops_waiting(&mut self) {
        self.polls += 1;
        self.is_waiting = false;
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if !self.is_losing() {
            self.acts_as.clone_from(&self.newest);
        }
        Some(event)
    }

    /// The application unsubscribes: what has happened to the membership is its business no more.
    pub(crate) fn silence(&mut self) {
        self.events.clear();
        self.is_silent = true;
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// As whom it commits.
    pub(crate) fn acts_as(&self) -> Option<&MemberIdentity> {
        self.acts_as.as_ref()
    }
}

// The machine's side.
impl Rebalances {
    pub(super) fn push(&mut self, event: Event) {
        if self.is_silent {
            return;
        }
        if let Event::Failed(error) = &event
            && !self.is_worth_telling(error)
        {
            return;
        }
        let Event::Lost(lost) = event else {
            self.events.push_back(event);
            return;
        };
        // What the application has not heard of yet, it need not hear of any more.
        let mut unheard = BTreeSet::new();
        self.events.retain_mut(|event| match event {
            Event::Revoke(_) => false,
            Event::Assigned(assigned) => {
                unheard.extend(assigned.drain(..));
                false
            }
            Event::Lost(_) | Event::Failed(_) => true,
        });
        let lost: Vec<TopicPartition> = lost.into_iter().filter(|at| !unheard.contains(at)).collect();
        self.events.push_back(Event::Lost(lost));
    }

    /// Not what waits to be told already: a coordinator may refuse the same with every heartbeat.
    fn is_worth_telling(&self, error: &Error) -> bool {
        let failures = self.events.iter().filter_map(|event| match event {
            Event::Failed(known) => Some(known),
            _ => None,
        });
        let text = error.to_string();
        failures.clone().count() < FAILURES_MAX && failures.into_iter().all(|known| known.to_string() != text)
    }

    /// The subscription has ended: what comes now is of the next.
    pub(super) fn speak(&mut self) {
        self.is_silent = false;
    }

    pub(super) fn set_identity(&mut self, identity: Option<MemberIdentity>) {
        self.newest = identity;
        if !self.is_losing() {
            self.acts_as.clone_from(&self.newest);
        }
    }

    /// Whether the partition was lost and the application does not know it yet.
    pub(super) fn is_lost(&self, partition: &TopicPartition) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Lost(lost) if lost.contains(partition)))
    }

    /// How often the application has polled, and whether it waits in a poll; `None` before it has heard of all that
    /// has happened.
    pub(super) fn polls(&self) -> Option<(u64, bool)> {
        self.events.is_empty().then_some((self.polls, self.is_waiting))
    }

    /// The machine must be told of the next poll.
    pub(super) fn want_poll(&mut self) {
        self.wants_poll = true;
    }

    fn is_losing(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Lost(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn identity(generation: i32) -> MemberIdentity {
        MemberIdentity { member_id: "m".into(), generation, instance_id: None }
    }

    #[test]
    fn a_loss_takes_the_place_of_what_was_not_heard_of() {
        let mut rebalances = Rebalances::default();
        rebalances.push(Event::Assigned(vec![at(0)]));
        assert!(matches!(rebalances.next_event(), Some(Event::Assigned(_))));
        rebalances.push(Event::Assigned(vec![at(1)]));
        rebalances.push(Event::Revoke(vec![at(0)]));
        rebalances.push(Event::Lost(vec![at(0), at(1)]));
        assert!(rebalances.is_lost(&at(0)) && !rebalances.is_lost(&at(1)));
        assert!(matches!(rebalances.next_event(), Some(Event::Lost(lost)) if lost == [at(0)]));
        assert!(!rebalances.has_events());
    }

    #[test]
    fn the_same_failure_waits_once_and_not_too_many_do() {
        let mut rebalances = Rebalances::default();
        let refused = |what: usize| Event::Failed(Error::new(ErrorKind::Usage, format!("read topic {what}")));
        for _ in 0..3 {
            rebalances.push(refused(0));
        }
        assert_eq!(rebalances.events.len(), 1);
        (0..2 * FAILURES_MAX).for_each(|what| rebalances.push(refused(what)));
        rebalances.push(Event::Assigned(vec![at(0)]));
        assert_eq!(rebalances.events.len(), FAILURES_MAX + 1, "what is no failure always comes");
        rebalances.next_event();
        rebalances.push(refused(0));
        assert!(
            matches!(rebalances.events.back(), Some(Event::Failed(_))),
            "it is told again, once it was heard"
        );
    }

    #[test]
    fn the_application_acts_as_the_member_that_it_was_until_it_knows_of_a_loss() {
        let mut rebalances = Rebalances::default();
        rebalances.set_identity(Some(identity(1)));
        rebalances.push(Event::Lost(vec![at(0)]));
        rebalances.set_identity(None);
        rebalances.set_identity(Some(identity(2)));
        rebalances.push(Event::Assigned(vec![at(0)]));
        assert_eq!(rebalances.acts_as(), Some(&identity(1)));
        assert!(matches!(rebalances.next_event(), Some(Event::Lost(_))));
        assert_eq!(rebalances.acts_as(), Some(&identity(2)));
        // A rebalance that took nothing away is no reason to refuse a commit.
        rebalances.set_identity(Some(identity(3)));
        assert_eq!(rebalances.acts_as(), Some(&identity(3)));
    }
}

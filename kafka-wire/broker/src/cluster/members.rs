//! The cluster's part in groups: who coordinates them, what their members are told, and faults of members.

use uuid::Uuid;

use super::{Cluster, Now, Parked, Wait};
use crate::api;
use crate::journal::Entry;

/// The key type of groups, as `FindCoordinator` has it.
pub(crate) const GROUP: i8 = 0;

impl Cluster {
    /// Makes `node` the coordinator of a group, which knows of its members what the old one wrote to the log:
    /// the generation that was complete last. Requests that wait for a rebalance are answered
    /// `NOT_COORDINATOR`.
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// let broker = EmbeddedBroker::start(Options { nodes: 2, ..Options::default() })?;
    /// broker.control(|cluster, _| cluster.move_group_coordinator("billing", 1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn move_group_coordinator(&mut self, group: &str, node: i32) {
        self.moving_groups(|cluster| {
            cluster.coordinators.insert((GROUP, group.to_owned()), node);
        });
    }

    /// Does something that may change who coordinates which group.
    pub(super) fn moving_groups(&mut self, change: impl FnOnce(&mut Self)) {
        let before: Vec<(String, i32)> =
            self.groups.iter().map(|(id, _)| (id.to_owned(), self.coordinator(GROUP, id))).collect();
        change(self);
        for (id, node) in before {
            if self.coordinator(GROUP, &id) != node {
                self.groups.mark_moved(id);
            }
        }
    }

    /// The members of a group: their ids, with their `group.instance.id` where they have one.
    pub fn group_members(&self, group: &str) -> Vec<(String, Option<String>)> {
        self.groups.get(group).map_or_else(Vec::new, |group| group.members.ids())
    }

    /// Ends the membership of a member as if it had not been heard of for its session timeout: the others
    /// share its partitions, and it is told `UNKNOWN_MEMBER_ID` when it comes back. `member` is a member id or
    /// a `group.instance.id`. Says whether the member was there.
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// let broker = EmbeddedBroker::start(Options::default())?;
    /// broker.control(|cluster, now| {
    ///     for (member, _) in cluster.group_members("billing") {
    ///         assert!(cluster.expire_member(now, "billing", &member));
    ///     }
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn expire_member(&mut self, now: Now, group: &str, member: &str) -> bool {
        let expired = self.groups.expire_member(now.instant, group, member);
        self.settle(now);
        expired
    }

    /// Brings groups on: time passes, coordinators move, members are answered.
    pub(super) fn settle_groups(&mut self, now: Now) {
        self.groups.move_marked(now.instant);
        self.groups.expire(now.instant);
        self.groups.downgrade_those_left(now.instant, &self.topics);
        for (connection, reply) in self.groups.take_replies() {
            match self.parked.remove(&connection) {
                Some(Parked { wait: Wait::Group(context, action), .. }) => {
                    let answer = api::classic_group::replied(&context, reply);
                    self.deliver(now, &context, answer, action);
                }
                // Its client is gone; its membership ends by itself.
                None => {}
                Some(other) => {
                    self.parked.insert(connection, other);
                }
            }
        }
    }

    /// Writes down what has become of groups' members in this round.
    pub(super) fn save_members(&mut self) {
        if !self.journal.is_persistent() {
            return self.groups.forget_changes();
        }
        for (group, members) in self.groups.take_changes() {
            self.record(Entry::Members { group, members });
        }
    }

    /// A member id that nobody had: a name to know it by, and what is unique in this cluster.
    pub(crate) fn next_member_id(&mut self, name: &str) -> String {
        let unique = Uuid::from_bytes(self.unique_bytes());
        if name.is_empty() { unique.to_string() } else { format!("{name}-{unique}") }
    }

    pub(crate) fn delete_group(&mut self, id: &str) {
        self.record(Entry::GroupDeleted { group: id.to_owned() });
        self.groups.remove(id);
        self.shares.forget(|(group, ..)| group == id);
    }

    pub(crate) fn delete_offset(&mut self, group: &str, topic: &str, partition: i32) {
        if self.groups.delete_offset(group, topic, partition) {
            let (group, topic) = (group.to_owned(), topic.to_owned());
            self.record(Entry::OffsetDeleted { group, topic, partition });
        }
    }
}

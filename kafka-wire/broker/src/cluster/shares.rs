//! The cluster's part in share groups: their configuration, what is written down of them, and who waits for
//! records.

use std::time::Duration;

use kafka_wire::TopicId;

use super::{Cluster, ConnectionId, Now, Parked, Wait};
use crate::api;
use crate::config_table::Table;
use crate::journal::Entry;
use crate::setting::ConfigOwner;
use crate::shares::partition::{Limits, Saved, SharePartition};
use crate::shares::{Key, SessionId};

impl Cluster {
    /// What is set for a group, or Kafka's default.
    pub(crate) fn group_setting(&self, group: &str, name: &str) -> &str {
        let entries = self.configs.get(&ConfigOwner::Group(group.to_owned()));
        let default = || Table::GROUP.find(name).map_or("", |known| known.default);
        entries.and_then(|entries| entries.get(name)).map_or_else(default, String::as_str)
    }

    /// As [`Cluster::group_setting`], of a setting that is a number.
    pub(crate) fn group_number(&self, group: &str, name: &str) -> u64 {
        self.group_setting(group, name).trim().parse().unwrap_or(0)
    }

    /// For how long a share group's records are locked (`share.record.lock.duration.ms`).
    pub(crate) fn lock_duration(&self, group: &str) -> Duration {
        Duration::from_millis(self.group_number(group, "share.record.lock.duration.ms"))
    }

    /// A time in milliseconds, where one is set for the group.
    pub(crate) fn group_duration(&self, group: &str, name: &str) -> Option<Duration> {
        let entries = self.configs.get(&ConfigOwner::Group(group.to_owned()))?;
        entries.get(name)?.trim().parse().ok().map(Duration::from_millis)
    }

    /// Writes down what a share group did with a partition.
    pub(crate) fn save_share(&mut self, key: &Key) {
        if !self.journal.is_persistent() {
            return;
        }
        if let Some(partition) = self.shares.get(key) {
            let (group, topic, partition) = (key.0.clone(), key.1.0, (key.2, partition.save()));
            self.record(Entry::Share { group, topic, partition });
        }
    }

    /// Takes over what a journal says.
    pub(super) fn restore_share(&mut self, group: String, topic: TopicId, index: i32, saved: Saved) {
        // What is configured holds from the next fetch on.
        let limits = Limits { deliveries_max: i16::MAX, records_max: 0 };
        // The group goes on, without members.
        let _ = self.groups.share(&group, true);
        self.shares.insert((group, topic, index), SharePartition::restore(saved, limits));
    }

    /// Forgets what a share group did with a topic.
    pub(crate) fn delete_shares(&mut self, group: &str, topic: TopicId) {
        self.shares.forget(|(id, of, _)| id == group && *of == topic);
        if let Ok(members) = self.groups.share(group, false) {
            members.forget(topic);
        }
        self.record(Entry::ShareDeleted { group: group.to_owned(), topic: topic.0 });
    }

    /// Ends a session: what its member has is free again.
    pub(crate) fn close_share_session(&mut self, session: &SessionId) {
        for key in self.shares.close(session) {
            self.save_share(&key);
        }
    }

    /// As [`Cluster::close_share_session`], for all of a connection.
    pub(super) fn close_share_sessions(&mut self, connection: ConnectionId) {
        for key in self.shares.disconnected(connection) {
            self.save_share(&key);
        }
    }

    /// Frees records whose time is up, and hands to who waits what there is. `has_grown`: there are new records.
    pub(super) fn settle_shares(&mut self, now: Now, has_grown: bool) {
        for key in self.shares.expire(now.instant) {
            self.save_share(&key);
        }
        if !(self.shares.take_freed() || has_grown) {
            return;
        }
        let waiting = self.parked.iter().filter(|(_, parked)| matches!(parked.wait, Wait::SharedFetch(..)));
        let waiting: Vec<ConnectionId> = waiting.map(|(&connection, _)| connection).collect();
        for connection in waiting {
            let Some(Parked { until, wait: Wait::SharedFetch(mut context, pending) }) =
                self.parked.remove(&connection)
            else {
                continue;
            };
            context.now = now;
            match api::share_fetch::retry(self, &context, &pending) {
                Some(answer) => self.deliver(now, &context, answer, None),
                None => self.park(connection, until, Wait::SharedFetch(context, pending)),
            }
        }
    }
}

//! Consumer groups: the offsets they committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An offset that a group committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommittedOffset {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    offsets: BTreeMap<(String, i32), CommittedOffset>,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
}

impl Group {
    /// The offsets, by topic and partition.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = &CommittedOffset> {
        self.offsets.values()
    }

    /// The offset committed for a partition.
    pub(crate) fn offset(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(&(topic.to_owned(), partition))
    }
}

impl Groups {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.by_id.iter().map(|(id, group)| (id.as_str(), group))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    /// Commits offsets; the group begins to exist with them.
    pub(crate) fn commit(&mut self, id: &str, offsets: impl IntoIterator<Item = CommittedOffset>) {
        let group = self.by_id.entry(id.to_owned()).or_default();
        for offset in offsets {
            group.offsets.insert((offset.topic.clone(), offset.partition), offset);
        }
    }

    /// Deletes a group; says whether it was there.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        self.by_id.remove(id).is_some()
    }

    /// Forgets offsets of a deleted topic.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for group in self.by_id.values_mut() {
            group.offsets.retain(|(name, _), _| name != topic);
        }
    }
}

//! What the log has of groups' members, as bytes: the next coordinator, and the next owner of the folder, knows that.
//!
//! As the records of `__consumer_offsets`: of a classic group what its members agreed on last, of the others everything.
//! Deadlines are not among it; they begin anew.

use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Groups, Members};

/// The kinds of groups, as the first byte says.
const CLASSIC: u8 = 0;
const CONSUMER: u8 = 1;
const SHARE: u8 = 2;

impl Members {
    /// `None` of a group that has nothing in the log.
    fn to_log(&self) -> Option<Vec<u8>> {
        let encoded = match self {
            Self::Classic(group) => encode(CLASSIC, group.saved()?),
            Self::Consumer(group) => encode(CONSUMER, group),
            Self::Share(group) => encode(SHARE, group),
        };
        // Plain values into memory.
        encoded.ok()
    }
}

fn encode(kind: u8, group: &impl Serialize) -> postcard::Result<Vec<u8>> {
    postcard::to_extend(group, vec![kind])
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}

impl Groups {
    /// What is new in the log since this was called last, by group.
    pub(crate) fn take_changes(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut changes = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(group) = self.by_id.get_mut(&id) else { continue };
            let Some(members) = group.members.to_log().filter(|members| *members != group.written) else {
                continue;
            };
            group.written.clone_from(&members);
            changes.push((id, members));
        }
        changes
    }

    /// As [`Groups::take_changes`], where there is no log.
    pub(crate) fn forget_changes(&mut self) {
        self.touched.clear();
    }

    /// What the log has of all groups.
    pub(crate) fn logged(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().filter(|(_, group)| !group.written.is_empty()).map(|(id, group)| (id, &group.written[..]))
    }

    /// Takes over what a log says of a group's members; they have their session timeout from now on.
    ///
    /// # Errors
    /// When it says what no broker has written.
    pub(crate) fn restore(&mut self, now: Instant, id: &str, members: Vec<u8>) -> Result<(), String> {
        let (&kind, body) = members.split_first().ok_or("it is empty")?;
        let mut restored = match kind {
            CLASSIC => Members::Classic(decode::<super::ClassicGroup>(body)?.restored(self.initial_delay)),
            CONSUMER => Members::Consumer(decode(body)?),
            SHARE => Members::Share(decode(body)?),
            other => return Err(format!("there is no kind {other} of groups")),
        };
        restored.move_coordinator(now, &mut self.replies);
        let group = self.or_create(id);
        group.members = restored;
        group.written = members;
        Ok(())
    }
}

/// Topics' ids as bytes, in maps.
pub(super) mod by_topic {
    use std::collections::BTreeMap;

    use kafka_wire::TopicId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::groups) fn serialize<V: Serialize, S: Serializer>(
        map: &BTreeMap<TopicId, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(id, value)| (id.0, value)))
    }

    pub(in crate::groups) fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<TopicId, V>, D::Error> {
        let entries = Vec::<([u8; 16], V)>::deserialize(deserializer)?;
        Ok(entries.into_iter().map(|(id, value)| (TopicId(id), value)).collect())
    }
}

/// Maps by topic, by member.
pub(super) mod by_member {
    use std::collections::BTreeMap;

    use kafka_wire::TopicId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type ByTopic<V> = BTreeMap<TopicId, V>;

    pub(in crate::groups) fn serialize<V: Serialize, S: Serializer>(
        map: &BTreeMap<String, ByTopic<V>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(id, topics)| {
            (id, topics.iter().map(|(topic, value)| (topic.0, value)).collect::<Vec<_>>())
        }))
    }

    pub(in crate::groups) fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, ByTopic<V>>, D::Error> {
        let members = Vec::<(String, Vec<([u8; 16], V)>)>::deserialize(deserializer)?;
        let topics =
            |topics: Vec<([u8; 16], V)>| topics.into_iter().map(|(id, value)| (TopicId(id), value)).collect();
        Ok(members.into_iter().map(|(id, member)| (id, topics(member))).collect())
    }
}

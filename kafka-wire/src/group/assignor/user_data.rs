//! What the sticky strategies put into `user_data` of a subscription. It comes from other members: what
//! cannot be read counts as nothing held, as in Java.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::MemberSubscription;
use crate::types::TopicPartition;

/// What a member says it held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) generation: i32,
}

impl Claim {
    const NONE: Self = Self { partitions: Vec::new(), generation: -1 };
}

/// Version 1 of Java's `StickyAssignor`: what was held, and in which generation.
pub(super) fn encode_sticky(held: &BTreeSet<TopicPartition>, generation: i32) -> Bytes {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in held {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let mut bytes = BytesMut::new();
    bytes.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        // A topic's name has at most 249 bytes.
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(partitions.len() as i32);
        partitions.into_iter().for_each(|partition| bytes.put_i32(partition));
    }
    bytes.put_i32(generation);
    bytes.freeze()
}

pub(super) fn encode_cooperative(generation: i32) -> Bytes {
    Bytes::copy_from_slice(&generation.to_be_bytes())
}

/// Eager members own nothing any more when they join: what they held is in the user data alone.
pub(super) fn sticky_claim(member: &MemberSubscription) -> Claim {
    member.user_data.as_ref().and_then(|data| decode_sticky(data)).unwrap_or(Claim::NONE)
}

/// From version 2 of the subscription on it has the generation itself.
pub(super) fn cooperative_claim(member: &MemberSubscription) -> Claim {
    let generation = if member.generation >= 0 {
        member.generation
    } else {
        let data = member.user_data.as_deref().and_then(|mut data| data.try_get_i32().ok());
        data.unwrap_or(-1)
    };
    Claim { partitions: member.owned.clone(), generation }
}

fn decode_sticky(mut data: &[u8]) -> Option<Claim> {
    let mut partitions = Vec::new();
    for _ in 0..data.try_get_i32().ok()? {
        let length = usize::try_from(data.try_get_i16().ok()?).ok()?;
        let name = data.get(..length)?;
        let topic: Arc<str> = std::str::from_utf8(name).ok()?.into();
        data.advance(length);
        // Each takes four bytes, so that the count cannot ask for more than is there.
        for _ in 0..data.try_get_i32().ok()? {
            let partition = data.try_get_i32().ok()?;
            partitions.push(TopicPartition { topic: Arc::clone(&topic), partition });
        }
    }
    // Version 0 ends without it.
    let generation = data.try_get_i32().unwrap_or(-1);
    Some(Claim { partitions, generation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_is_read_back_and_an_older_version_has_no_generation() {
        let held: BTreeSet<TopicPartition> = [("a", 0), ("a", 7), ("b", 1)]
            .map(|(topic, partition)| TopicPartition::new(topic, partition))
            .into();
        let bytes = encode_sticky(&held, 5);
        let claim = decode_sticky(&bytes).unwrap();
        assert_eq!((claim.partitions, claim.generation), (held.iter().cloned().collect(), 5));
        let older = decode_sticky(&bytes[..bytes.len() - 4]).unwrap();
        assert_eq!((older.partitions.len(), older.generation), (3, -1));
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let held = BTreeSet::from([TopicPartition::new("topic", 3)]);
        let bytes = encode_sticky(&held, 5);
        for cut in 0..bytes.len() - 4 {
            assert_eq!(decode_sticky(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(decode_sticky(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode_sticky(&[0, 0, 0, 1, 0xff, 0xff]), None);
    }
}

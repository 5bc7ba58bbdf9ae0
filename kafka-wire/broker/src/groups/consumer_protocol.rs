//! What consumers in a classic group tell each other in bytes that are the coordinator's affair only when the group
//! moves to KIP-848 or back, or when it is to know whose offsets are in use: `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`, versions 0–3.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_wire::TopicId;

use super::assignor::Assignment;
use crate::topics::Topics;

/// The newest version that is known; later ones only add fields at the end.
const VERSION_MAX: i16 = 3;

/// What a consumer wants, and what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) topics: Vec<String>,
    pub(crate) owned: Vec<(String, Vec<i32>)>,
    pub(crate) rack: Option<String>,
}

/// The topics of a subscription; those up to the first byte that makes no sense.
pub(crate) fn topics(metadata: &[u8]) -> Vec<String> {
    let mut reader = Reader(metadata);
    let mut topics = Vec::new();
    let count = reader.i16().and_then(|_version| reader.i32()).unwrap_or(0);
    for _ in 0..count.max(0) {
        let Some(topic) = reader.string() else { break };
        topics.push(topic);
    }
    topics
}

/// The version of a subscription or an assignment; that of an empty one is 0.
pub(crate) fn version(bytes: &[u8]) -> i16 {
    Reader(bytes).i16().unwrap_or(0)
}

/// A subscription, unless its bytes make no sense.
pub(crate) fn subscription(metadata: &[u8]) -> Option<Subscription> {
    let mut reader = Reader(metadata);
    let version = reader.i16().filter(|version| *version >= 0)?;
    let topics = reader.array(Reader::string)?;
    reader.skip_bytes()?;
    let owned = if version >= 1 { reader.partitions()? } else { Vec::new() };
    if version >= 2 {
        let _generation = reader.i32()?;
    }
    let rack = if version >= 3 { reader.nullable_string()? } else { None };
    Some(Subscription { topics, owned, rack })
}

/// What a leader assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) partitions: Vec<(String, Vec<i32>)>,
    /// Whether an assignor of the application's own says more than that.
    pub(crate) has_user_data: bool,
}

/// An assignment, unless its bytes make no sense; who was told nothing yet has none.
pub(crate) fn assignment(bytes: &[u8]) -> Option<Assigned> {
    if bytes.is_empty() {
        return Some(Assigned::default());
    }
    let mut reader = Reader(bytes);
    reader.i16().filter(|version| *version >= 0)?;
    let partitions = reader.partitions()?;
    Some(Assigned { partitions, has_user_data: reader.skip_bytes()? > 0 })
}

/// An assignment in the form that members of this version read; topics that are gone are left out.
pub(crate) fn encode_assignment(version: i16, assignment: &Assignment, topics: &Topics) -> Bytes {
    let named: Vec<_> = assignment.iter().filter_map(|(&id, all)| Some((topics.name_of(id)?, all))).collect();
    let mut bytes = BytesMut::new();
    bytes.put_i16(version.clamp(0, VERSION_MAX));
    bytes.put_i32(named.len() as i32);
    for (topic, partitions) in named {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|&partition| bytes.put_i32(partition));
    }
    // No user data.
    bytes.put_i32(-1);
    bytes.freeze()
}

/// Partitions by the ids of topics that are there.
pub(crate) fn by_id(named: Vec<(String, Vec<i32>)>, topics: &Topics) -> Assignment {
    let mut assignment = Assignment::new();
    for (name, partitions) in named {
        let id: Option<TopicId> = topics.get(&name).map(|topic| topic.id);
        if let Some(id) = id {
            assignment.entry(id).or_default().extend(partitions);
        }
    }
    assignment
}

/// What is left to read. Nothing is set aside for what a length promises.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    fn string(&mut self) -> Option<String> {
        self.nullable_string()?
    }

    fn nullable_string(&mut self) -> Option<Option<String>> {
        let length = self.i16()?;
        if length == -1 {
            return Some(None);
        }
        let text = std::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()?;
        Some(Some(text.to_owned()))
    }

    /// How many bytes there were; none where there is nothing.
    fn skip_bytes(&mut self) -> Option<usize> {
        match self.i32()? {
            -1 => Some(0),
            length => self.take(usize::try_from(length).ok()?).map(<[u8]>::len),
        }
    }

    fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.i32()?).ok()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn partitions(&mut self) -> Option<Vec<(String, Vec<i32>)>> {
        self.array(|reader| Some((reader.string()?, reader.array(Self::i32)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(topic: &str, partitions: &[i32]) -> (String, Vec<i32>) {
        (topic.to_owned(), partitions.to_vec())
    }

    #[test]
    fn topics_are_read_as_far_as_the_bytes_go() {
        let metadata = [&[0, 1, 0, 0, 0, 2, 0, 1][..], b"a", &[0, 2], b"bc", &[0, 0, 0, 0]].concat();
        assert_eq!(topics(&metadata), ["a", "bc"]);
        assert_eq!(topics(&metadata[..10]), ["a"]);
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), [""; 0]);
        assert_eq!(topics(&[]), [""; 0]);
    }

    #[test]
    fn each_version_of_a_subscription_is_read_whole_or_not_at_all() {
        let wanted = [&[0, 0, 0, 1, 0, 1][..], b"a", &[0, 0, 0, 1, 9]].concat();
        let owned = [&[0, 0, 0, 1, 0, 1][..], b"a", &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]].concat();
        let (generation, rack) = ([0, 0, 0, 7], [&[0, 2][..], b"r1"].concat());
        let mut bytes = wanted;
        let mut read = Vec::new();
        for (version, more) in [(0, Vec::new()), (1, owned), (2, generation.to_vec()), (3, rack)] {
            bytes.extend(more);
            let whole = [&[0, version][..], &bytes].concat();
            assert_eq!(subscription(&whole[..whole.len() - 1]), None, "version {version}, cut");
            read.push(subscription(&whole).unwrap());
        }
        let a = || vec!["a".to_owned()];
        let owned = || vec![named("a", &[0, 3])];
        let without = Subscription { topics: a(), ..Subscription::default() };
        let with = Subscription { topics: a(), owned: owned(), rack: None };
        let rack = Some("r1".to_owned());
        assert_eq!(read, [without, with.clone(), with, Subscription { topics: a(), owned: owned(), rack }]);
        assert_eq!(subscription(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let mut all = Topics::new(None, 1);
        let id = TopicId([1; 16]);
        all.insert("a".into(), id, 4, 1, Default::default()).unwrap();
        let partitions = Assignment::from([(id, [0, 3].into()), (TopicId([2; 16]), [1].into())]);
        let bytes = encode_assignment(1, &partitions, &all);
        assert_eq!(version(&bytes), 1);
        let read = assignment(&bytes).unwrap();
        assert_eq!(read.partitions, [named("a", &[0, 3])], "the other topic is gone");
        assert!(!read.has_user_data);
        assert_eq!(by_id(read.partitions, &all), Assignment::from([(id, [0, 3].into())]));
        assert_eq!(assignment(&bytes[..bytes.len() - 1]), None);
        assert_eq!(assignment(&[]), Some(Assigned::default()));
        let with_more = [&bytes[..bytes.len() - 4], &[0, 0, 0, 1, 9]].concat();
        assert!(assignment(&with_more).unwrap().has_user_data);
    }
}

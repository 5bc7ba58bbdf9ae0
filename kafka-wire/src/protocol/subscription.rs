//! What members of a classic consumer group tell each other through their coordinator, which passes it on unread:
//! Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment, versions 0 to 3.
//!
//! Each stands behind a number of its version. Of a version that is not known yet, what is known is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes};

use super::reader::{Fault, Read, Reader};
use super::request::FrameBuilder;
use super::writer::Writer;
use crate::error::Result;
use crate::types::TopicPartition;

/// The newest version, which is what is written: older readers pass over what they do not know.
const VERSION: i16 = 3;

/// What a member wants, as it tells the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionData {
    /// The topics that it is subscribed to.
    pub topics: Vec<Arc<str>>,
    /// What its strategy adds.
    pub user_data: Option<Bytes>,
    /// What it owns (KIP-429); from version 1.
    pub owned: Vec<TopicPartition>,
    /// Since which generation, −1 when not told (KIP-792); from version 2.
    pub generation: i32,
    /// `client.rack` (KIP-881); from version 3.
    pub rack: Option<Arc<str>>,
}

impl SubscriptionData {
    /// Its bytes.
    ///
    /// # Errors
    /// `Usage` when a name is too long for the protocol.
    pub fn encode(&self) -> Result<Bytes> {
        encode(|writer| {
            writer.length(self.topics.len())?;
            for topic in &self.topics {
                writer.string(topic)?;
            }
            writer.nullable_bytes(self.user_data.as_ref())?;
            write_partitions(writer, &self.owned)?;
            writer.i32(self.generation);
            writer.nullable_string(self.rack.as_deref())
        })
    }

    /// From a member's bytes.
    ///
    /// # Errors
    /// `Protocol`, when they are no subscription.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        decode(bytes, "a member's subscription", |reader, version| {
            let topics = reader.array(2, |reader| Ok(Arc::from(reader.string()?.as_str())))?;
            let user_data = reader.nullable_bytes()?;
            let owned = if version >= 1 { read_partitions(reader)? } else { Vec::new() };
            let generation = if version >= 2 { reader.i32()? } else { -1 };
            let rack = if version >= 3 { reader.nullable_string()? } else { None };
            Ok(Self { topics, user_data, owned, generation, rack: rack.map(|rack| Arc::from(rack.as_str())) })
        })
    }
}

/// What the leader gives a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignmentData {
    /// The partitions that it is to read.
    pub partitions: Vec<TopicPartition>,
    /// What the strategy adds.
    pub user_data: Option<Bytes>,
}

impl AssignmentData {
    /// Its bytes.
    ///
    /// # Errors
    /// `Usage` when a name is too long for the protocol.
    pub fn encode(&self) -> Result<Bytes> {
        encode(|writer| {
            write_partitions(writer, &self.partitions)?;
            writer.nullable_bytes(self.user_data.as_ref())
        })
    }

    /// From the leader's bytes; none at all are an assignment of nothing.
    ///
    /// # Errors
    /// `Protocol`, when they are no assignment.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        decode(bytes, "a member's assignment", |reader, _| {
            Ok(Self { partitions: read_partitions(reader)?, user_data: reader.nullable_bytes()? })
        })
    }
}

fn encode(write: impl FnOnce(&mut Writer<'_>) -> Result<()>) -> Result<Bytes> {
    let mut frame = FrameBuilder::new();
    frame.buffer().put_i16(VERSION);
    write(&mut Writer::new(&mut frame, false))?;
    Ok(frame.finish().concat().into())
}

fn decode<T>(bytes: &Bytes, what: &str, read: impl FnOnce(&mut Reader<'_>, i16) -> Read<T>) -> Result<T> {
    let mut reader = Reader::new(bytes, false);
    let decoded = reader.i16().and_then(|version| {
        if version < 0 {
            return reader.fault(Fault::Negative(version.into()));
        }
        read(&mut reader, version)
    });
    decoded.map_err(|malformed| malformed.in_message(what))
}

fn write_partitions(writer: &mut Writer<'_>, partitions: &[TopicPartition]) -> Result<()> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    writer.length(topics.len())?;
    for (topic, numbers) in topics {
        writer.string(topic)?;
        writer.length(numbers.len())?;
        numbers.into_iter().for_each(|number| writer.i32(number));
    }
    Ok(())
}

fn read_partitions(reader: &mut Reader<'_>) -> Read<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    let topics = reader.count(6)?.unwrap_or_default();
    for _ in 0..topics {
        let topic: Arc<str> = Arc::from(reader.string()?.as_str());
        for partition in reader.array(4, Reader::i32)? {
            partitions.push(TopicPartition { topic: Arc::clone(&topic), partition });
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
    use super::super::messages::consumer_protocol_subscription::TopicPartition as OwnedTopic;
    use super::super::messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, Decodable as _, Encodable as _, StrBytes,
        TopicName,
    };
    use super::*;
    use crate::error::ErrorKind;

    fn partitions() -> impl Strategy<Value = Vec<TopicPartition>> {
        let partition = ("[a-c]", 0..4i32).prop_map(|(topic, number)| TopicPartition::new(topic, number));
        proptest::collection::btree_set(partition, 0..8).prop_map(|all| all.into_iter().collect())
    }

    fn subscription() -> impl Strategy<Value = SubscriptionData> {
        let user_data = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
        (proptest::collection::vec("[a-z]{1,9}", 0..4), user_data, partitions(), -1..9i32, "[a-z]{0,3}")
            .prop_map(|(topics, user_data, owned, generation, rack)| SubscriptionData {
                topics: topics.into_iter().map(Arc::from).collect(),
                user_data: user_data.map(Bytes::from),
                owned,
                generation,
                rack: (!rack.is_empty()).then(|| Arc::from(rack)),
            })
    }

    fn name(text: &str) -> StrBytes {
        StrBytes::from_string(text.to_owned())
    }

    /// The same as another implementation has it.
    fn reference(of: &SubscriptionData) -> ConsumerProtocolSubscription {
        let owned = of.owned.chunk_by(|a, b| a.topic == b.topic).map(|of_topic| {
            OwnedTopic::default()
                .with_topic(TopicName(name(&of_topic[0].topic)))
                .with_partitions(of_topic.iter().map(|at| at.partition).collect())
        });
        ConsumerProtocolSubscription::default()
            .with_topics(of.topics.iter().map(|topic| name(topic)).collect())
            .with_user_data(of.user_data.clone())
            .with_owned_partitions(owned.collect())
            .with_generation_id(of.generation)
            .with_rack_id(of.rack.as_deref().map(name))
    }

    fn in_version(message: &ConsumerProtocolSubscription, version: i16) -> Bytes {
        let mut bytes = bytes::BytesMut::new();
        bytes.put_i16(version);
        message.encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    proptest! {
        #[test]
        fn subscriptions_are_what_another_implementation_writes_and_reads(ours in subscription()) {
            let bytes = ours.encode().unwrap();
            prop_assert_eq!(&bytes, &in_version(&reference(&ours), VERSION));
            prop_assert_eq!(&SubscriptionData::decode(&bytes).unwrap(), &ours);
            // What an older member says of it.
            let old = SubscriptionData { rack: None, ..ours };
            prop_assert_eq!(&SubscriptionData::decode(&in_version(&reference(&old), 2)).unwrap(), &old);
            let old = SubscriptionData { generation: -1, ..old };
            prop_assert_eq!(&SubscriptionData::decode(&in_version(&reference(&old), 1)).unwrap(), &old);
            let old = SubscriptionData { owned: Vec::new(), ..old };
            prop_assert_eq!(&SubscriptionData::decode(&in_version(&reference(&old), 0)).unwrap(), &old);
        }

        #[test]
        fn assignments_are_what_another_implementation_reads(partitions in partitions()) {
            let ours = AssignmentData { partitions, user_data: None };
            let bytes = ours.encode().unwrap();
            prop_assert_eq!(&AssignmentData::decode(&bytes).unwrap(), &ours);
            let read = ConsumerProtocolAssignment::decode(&mut bytes.slice(2..), VERSION).unwrap();
            let read = read.assigned_partitions.into_iter().flat_map(|topic: AssignedTopic| {
                let name: Arc<str> = Arc::from(topic.topic.0.as_str());
                topic.partitions.into_iter().map(move |number| TopicPartition::new(Arc::clone(&name), number))
            });
            prop_assert_eq!(read.collect::<Vec<_>>(), ours.partitions);
        }

        #[test]
        fn no_bytes_of_a_member_do_any_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = SubscriptionData::decode(&bytes);
            let _ = AssignmentData::decode(&bytes);
        }
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known_and_lengths_are_checked() {
        let ours = SubscriptionData {
            topics: vec!["t".into()],
            user_data: None,
            owned: Vec::new(),
            generation: 4,
            rack: None,
        };
        let mut bytes = ours.encode().unwrap().to_vec();
        bytes[1] = 9;
        bytes.extend_from_slice(b"what version 9 adds");
        assert_eq!(SubscriptionData::decode(&bytes.into()).unwrap(), ours);
        for hostile in
            [&[0xff, 0xff, 0, 0, 0, 0][..], &[0, 3, 0x7f, 0xff, 0xff, 0xff], &[0, 3, 0, 0, 0, 1, 0, 9], &[0]]
        {
            let error = SubscriptionData::decode(&Bytes::copy_from_slice(hostile)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(AssignmentData::decode(&Bytes::copy_from_slice(hostile)).is_err());
        }
        assert_eq!(AssignmentData::decode(&Bytes::new()).unwrap(), AssignmentData::default());
    }
}

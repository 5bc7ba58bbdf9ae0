//! What members of a classic group tell each other, as Kafka's own client writes it in versions 0 to 3
//! (`GroupBytes.java`, kafka-clients 4.3.0).

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::TopicPartition;
use kafka_wire::protocol::subscription::{AssignmentData, SubscriptionData};
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Version};

use crate::messages::bytes_of;
use crate::{assert_current, program};

const AUTHORED: &str = include_str!("group_bytes.txt");

#[test]
fn the_bytes_of_groups_are_those_that_kafkas_client_writes() {
    if !real_kafka::available() {
        return;
    }
    let authored = java::run(&real_kafka::jars(Version::V4_3), &program("GroupBytes.java"), &[]);
    assert_current("tests/vectors/group_bytes.txt", &authored);
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|item| *item != "-")
}

fn partitions(text: &str) -> Vec<TopicPartition> {
    let partition = |text: &str| {
        let (topic, number) = text.rsplit_once('-').expect("topic and number");
        TopicPartition::new(topic, number.parse().expect("a number"))
    };
    list(text).map(partition).collect()
}

fn hex(text: &str) -> Option<Bytes> {
    text.strip_prefix('x').map(bytes_of)
}

/// What Kafka wrote is read, in the newest version written with the same bytes, and nowhere cut short.
#[test]
fn what_kafkas_client_says_in_a_group_is_read_and_said_the_same() {
    let mut newest = 0;
    for line in AUTHORED.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let bytes = hex(words[words.len() - 1]).expect("bytes");
        let version: i16 = words[1].parse().expect("a version");
        let (again, cut) = match words[..] {
            ["subscription", _, topics, data, owned, generation, rack, _] => {
                let expected = SubscriptionData {
                    topics: list(topics).map(Arc::from).collect(),
                    user_data: hex(data),
                    owned: if version >= 1 { partitions(owned) } else { Vec::new() },
                    generation: if version >= 2 { generation.parse().expect("a generation") } else { -1 },
                    rack: list(rack).next().filter(|_| version >= 3).map(Arc::from),
                };
                assert_eq!(SubscriptionData::decode(&bytes).expect(line), expected, "{line}");
                let cut = (0..bytes.len()).all(|end| SubscriptionData::decode(&bytes.slice(..end)).is_err());
                (expected.encode(), cut)
            }
            ["assignment", _, owned, data, _] => {
                let expected = AssignmentData { partitions: partitions(owned), user_data: hex(data) };
                assert_eq!(AssignmentData::decode(&bytes).expect(line), expected, "{line}");
                let cut = (1..bytes.len()).all(|end| AssignmentData::decode(&bytes.slice(..end)).is_err());
                (expected.encode(), cut)
            }
            _ => panic!("{line}"),
        };
        assert!(cut, "{line}");
        if version == 3 {
            assert_eq!(again.expect(line), bytes, "{line}");
            newest += 1;
        }
    }
    assert_eq!((AUTHORED.lines().count(), newest), (72, 18));
}

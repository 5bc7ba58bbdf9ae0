//! Answers that are decoded by hand because `kafka-protocol` lacks them, against what Kafka's own JSON converters make
//! of the same bytes.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::log_dirs::{DescribedLogDir, decode_log_dirs};
use kafka_wire::protocol::messages::{ApiKey, ListOffsetsRequest};
use kafka_wire::protocol::request::{FrameBuilder, Response};
use kafka_wire::protocol::share_group_offsets::{ShareGroupOffsets, decode_offsets, encode_offsets};
use kafka_wire::protocol::streams_group::{
    DescribedStreamsGroup, InternalTopic, StreamsAssignment, StreamsGroupMember, StreamsTask, Subtopology,
    decode_description,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Version};

use crate::messages::bytes_of;
use crate::{assert_current, program};

const ANSWERS: &str = include_str!("answers.txt");

#[test]
fn the_answers_are_those_that_kafkas_converters_read() {
    if !real_kafka::available() {
        return;
    }
    let apis = [ApiKey::ListOffsets, ApiKey::DescribeLogDirs, ApiKey::StreamsGroupDescribe];
    let keys =
        apis.into_iter().chain([ApiKey::DescribeShareGroupOffsets]).map(|api| (api as i16).to_string());
    let messages = program("messages.txt");
    let arguments = [messages.to_str().expect("a path in UTF-8"), &keys.collect::<Vec<_>>().join(",")];
    let read = java::run(&real_kafka::jars(Version::V4_3), &program("Answers.java"), &arguments);
    assert_current("tests/vectors/answers.txt", &read);
}

#[test]
fn our_codecs_read_what_kafkas_converters_read() {
    let mut compared = 0;
    for line in ANSWERS.lines() {
        let [key, version, hex, json] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let api = ApiKey::try_from(key.parse::<i16>().expect("a key")).expect("an API");
        let version = version.parse().expect("a version");
        let response = Response { api, version, body: bytes_of(hex) };
        let mut theirs: Value = serde_json::from_str(json).expect("JSON");
        // The connection looks at it.
        theirs.as_object_mut().expect("an object").remove("throttleTimeMs");
        let ours = match api {
            ApiKey::ListOffsets if version == 11 => list_offsets(response),
            ApiKey::ListOffsets => continue,
            ApiKey::DescribeLogDirs => log_dirs(&response),
            ApiKey::StreamsGroupDescribe => {
                let groups = decode_description(&response).expect(line);
                json!({ "groups": groups.iter().map(streams_group).collect::<Vec<_>>() })
            }
            ApiKey::DescribeShareGroupOffsets => {
                let groups = decode_offsets(&response).expect(line);
                let mut again = FrameBuilder::new();
                encode_offsets(&groups, version, &mut again).expect(line);
                // All but the pause.
                assert_eq!(again.finish().concat()[4..], response.body[4..], "{line}");
                json!({ "groups": groups.iter().map(|group| share_offsets(group, &response)).collect::<Vec<_>>() })
            }
            other => panic!("{other:?}"),
        };
        forget(&mut theirs, "topicId");
        assert_eq!(in_order(ours), in_order(theirs), "{api:?} {version}");
        compared += 1;
    }
    assert_eq!(compared, 2 * (1 + 5 + 1 + 2), "each version, full and bare");
}

/// What is skipped on purpose.
fn forget(value: &mut Value, name: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| forget(item, name)),
        Value::Object(fields) => {
            fields.remove(name);
            fields.values_mut().for_each(|field| forget(field, name));
        }
        _ => {}
    }
}

/// Lists of tasks and maps come out sorted by key.
fn in_order(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(in_order).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, field)| (name, in_order(field))).collect())
        }
        other => other,
    }
}

fn code(error: Option<ErrorCode>) -> i16 {
    error.map_or(0, ErrorCode::code)
}

fn list_offsets(response: Response) -> Value {
    let answer = response.decode::<ListOffsetsRequest>().expect("an answer");
    let topics = answer.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|at| {
            json!({ "partitionIndex": at.partition_index, "errorCode": at.error_code, "timestamp": at.timestamp,
                "offset": at.offset, "leaderEpoch": at.leader_epoch })
        });
        json!({ "name": topic.name.as_str(), "partitions": partitions.collect::<Vec<_>>() })
    });
    json!({ "topics": topics.collect::<Vec<_>>() })
}

fn log_dirs(response: &Response) -> Value {
    let (error, folders) = decode_log_dirs(response).expect("an answer");
    let results = folders.iter().map(|folder| log_dir(folder, response.version)).collect::<Vec<_>>();
    match response.version {
        3.. => json!({ "errorCode": code(error), "results": results }),
        _ => json!({ "results": results }),
    }
}

fn log_dir(folder: &DescribedLogDir, version: i16) -> Value {
    let topics = folder.topics.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|replica| {
            json!({ "partitionIndex": replica.partition, "partitionSize": replica.size_bytes,
                "offsetLag": replica.offset_lag, "isFutureKey": replica.is_future })
        });
        json!({ "name": name.as_str(), "partitions": partitions.collect::<Vec<_>>() })
    });
    let mut json = json!({ "errorCode": code(folder.error), "logDir": folder.path.as_str(),
        "topics": topics.collect::<Vec<_>>() });
    if version >= 4 {
        json["totalBytes"] = folder.total_bytes.into();
        json["usableBytes"] = folder.usable_bytes.into();
    }
    if version >= 5 {
        json["isCordoned"] = folder.is_cordoned.into();
    }
    json
}

fn share_offsets(group: &ShareGroupOffsets, response: &Response) -> Value {
    let topics = group.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|at| {
            let mut json = json!({ "partitionIndex": at.index, "startOffset": at.start_offset,
                "leaderEpoch": at.leader_epoch.map(|epoch| epoch.0), "errorCode": code(at.error),
                "errorMessage": at.error_message.as_deref() });
            if response.version >= 1 {
                json["lag"] = at.lag.into();
            }
            json
        });
        json!({ "topicName": topic.name.as_str(), "partitions": partitions.collect::<Vec<_>>() })
    });
    json!({ "groupId": group.group_id.as_str(), "topics": topics.collect::<Vec<_>>(),
        "errorCode": code(group.error), "errorMessage": group.error_message.as_deref() })
}

fn streams_group(group: &DescribedStreamsGroup) -> Value {
    let topology = group.topology.as_ref().map(|(epoch, subtopologies)| {
        json!({ "epoch": epoch, "subtopologies": subtopologies.iter().map(subtopology).collect::<Vec<_>>() })
    });
    json!({ "errorCode": code(group.error), "errorMessage": group.error_message.as_deref(),
        "groupId": group.group_id, "groupState": group.state.as_str(), "groupEpoch": group.epoch,
        "assignmentEpoch": group.assignment_epoch, "topology": topology,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
        "authorizedOperations": group.authorized_operations })
}

fn subtopology(part: &Subtopology) -> Value {
    let topics = |topics: &[InternalTopic]| -> Value {
        let topics = topics.iter().map(|topic| {
            json!({ "name": topic.name, "partitions": topic.partitions,
                "replicationFactor": topic.replication_factor, "topicConfigs": map(&topic.configs) })
        });
        topics.collect()
    };
    json!({ "subtopologyId": part.id, "sourceTopics": part.source_topics,
        "repartitionSinkTopics": part.repartition_sink_topics,
        "stateChangelogTopics": topics(&part.state_changelog_topics),
        "repartitionSourceTopics": topics(&part.repartition_source_topics) })
}

fn map(entries: &BTreeMap<String, String>) -> Value {
    entries.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

fn member(member: &StreamsGroupMember) -> Value {
    let offsets = |offsets: &BTreeMap<StreamsTask, i64>| -> Value {
        let offsets = offsets.iter().map(|(task, offset)| {
            json!({ "subtopologyId": &*task.subtopology, "partition": task.partition, "offset": offset })
        });
        offsets.collect()
    };
    let endpoint = member.user_endpoint.as_ref().map(|(host, port)| json!({ "host": host, "port": port }));
    json!({ "memberId": member.member_id, "memberEpoch": member.epoch, "instanceId": member.group_instance_id,
        "rackId": member.rack, "clientId": member.client_id, "clientHost": member.host,
        "topologyEpoch": member.topology_epoch, "processId": member.process_id, "userEndpoint": endpoint,
        "clientTags": map(&member.client_tags), "taskOffsets": offsets(&member.task_offsets),
        "taskEndOffsets": offsets(&member.task_end_offsets), "assignment": assignment(&member.assignment),
        "targetAssignment": assignment(&member.target_assignment), "isClassic": member.is_classic })
}

fn assignment(assignment: &StreamsAssignment) -> Value {
    let tasks = |tasks: &BTreeSet<StreamsTask>| -> Value {
        let mut parts: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for task in tasks {
            parts.entry(&task.subtopology).or_default().push(task.partition);
        }
        let parts = parts.into_iter();
        parts.map(|(id, partitions)| json!({ "subtopologyId": id, "partitions": partitions })).collect()
    };
    json!({ "activeTasks": tasks(&assignment.active), "standbyTasks": tasks(&assignment.standby),
        "warmupTasks": tasks(&assignment.warmup) })
}

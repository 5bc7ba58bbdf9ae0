//! Groups of the embedded broker beside those of real Kafka: the same requests, the same codes.

use std::net::TcpStream;
use std::time::Duration;

use kafka_wire::protocol::messages::consumer_group_heartbeat_request as beat;
use kafka_wire::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::protocol::messages::leave_group_request::MemberIdentity;
use kafka_wire::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_wire::protocol::messages::sync_group_request::SyncGroupRequestAssignment;

use super::offsets::STRANGE;
use super::*;

mod migration;

const CLASSIC: &str = "compared-classic";
const STATIC: &str = "compared-static";
const CONSUMER: &str = "compared-consumer";

fn id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// A consumer's subscription to the topic.
fn metadata() -> Bytes {
    Bytes::from([&[0, 0, 0, 0, 0, 1, 0, TOPIC.len() as u8][..], TOPIC.as_bytes(), &[0xff; 4]].concat())
}

fn joining(group: &str, member: &str, instance: Option<&str>, protocols: &[&str]) -> JoinGroupRequest {
    let protocols = protocols
        .iter()
        .map(|name| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata()));
    JoinGroupRequest::default()
        .with_group_id(id(group))
        .with_session_timeout_ms(45_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.collect())
}

impl Observer {
    fn note(&mut self, what: &str, seen: impl std::fmt::Debug) {
        self.seen.push(format!("{what}: {seen:?}"));
    }

    /// Joins, and notes what is told but for the ids; the member id.
    fn join(&mut self, what: &str, version: i16, request: JoinGroupRequest) -> String {
        let answer = self.call(version, request);
        self.note_joined(what, answer)
    }

    fn note_joined(&mut self, what: &str, it: JoinGroupResponse) -> String {
        let mut members: Vec<_> =
            it.members.iter().map(|it| (it.group_instance_id.clone(), it.metadata.len())).collect();
        members.sort();
        let leads = it.leader == it.member_id;
        let protocol = (it.protocol_type, it.protocol_name);
        self.note(what, (it.error_code, it.generation_id, protocol, leads, it.skip_assignment, members));
        it.member_id.to_string()
    }

    fn sync(&mut self, what: &str, group: &str, member: &str, generation: i32, to: &[&str]) {
        let assignments = to.iter().map(|member| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::from_static(b"assigned"))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(id(group))
            .with_generation_id(generation)
            .with_member_id(text(member))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.collect());
        let it = self.call(5, request);
        self.note(what, (it.error_code, it.protocol_type, it.protocol_name, it.assignment));
    }

    fn heartbeat(&mut self, what: &str, group: &str, member: (&str, Option<&str>), generation: i32) {
        let request = HeartbeatRequest::default()
            .with_group_id(id(group))
            .with_generation_id(generation)
            .with_member_id(text(member.0))
            .with_group_instance_id(member.1.map(text));
        let code = self.call(4, request).error_code;
        self.note(what, code);
    }

    fn commit_as(&mut self, what: &str, version: i16, group: &str, member: (&str, Option<&str>), epoch: i32) {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic =
            OffsetCommitRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(id(group))
            .with_generation_id_or_member_epoch(epoch)
            .with_member_id(text(member.0))
            .with_group_instance_id(member.1.map(text))
            .with_topics(vec![topic]);
        let code = self.call(version, request).topics[0].partitions[0].error_code;
        self.note(what, code);
    }

    fn leave(&mut self, what: &str, group: &str, member: (&str, Option<&str>)) {
        let identity = MemberIdentity::default()
            .with_member_id(text(member.0))
            .with_group_instance_id(member.1.map(text));
        let request = LeaveGroupRequest::default().with_group_id(id(group)).with_members(vec![identity]);
        let it = self.call(5, request);
        self.note(what, (it.error_code, it.members.iter().map(|it| it.error_code).collect::<Vec<_>>()));
        let request = LeaveGroupRequest::default().with_group_id(id(group)).with_member_id(text(member.0));
        let code = self.call(2, request).error_code;
        self.note(&format!("{what}, the old way and again"), code);
    }

    fn describe(&mut self, what: &str, group: &str) {
        for version in [5, 6] {
            let it = self.call(version, DescribeGroupsRequest::default().with_groups(vec![id(group)]));
            let it = &it.groups[0];
            let member = |it: &describe_groups_response::DescribedGroupMember| {
                (it.group_instance_id.clone(), it.member_metadata.len(), it.member_assignment.clone())
            };
            let mut members: Vec<_> = it.members.iter().map(member).collect();
            members.sort();
            let state = (it.group_state.clone(), it.protocol_type.clone(), it.protocol_data.clone());
            self.note(what, (it.error_code, state, members));
        }
        let it = self.call(1, ConsumerGroupDescribeRequest::default().with_group_ids(vec![id(group)]));
        let it = &it.groups[0];
        let mut members: Vec<_> = it
            .members
            .iter()
            .map(|it| {
                let counts = [&it.assignment, &it.target_assignment]
                    .map(|it| it.topic_partitions.iter().map(|topic| topic.partitions.len()).sum::<usize>());
                (
                    it.instance_id.clone(),
                    it.member_epoch,
                    it.subscribed_topic_names.clone(),
                    counts,
                    it.member_type,
                )
            })
            .collect();
        members.sort();
        let epochs = (it.group_epoch, it.assignment_epoch);
        self.note(what, (it.error_code, it.group_state.clone(), epochs, it.assignor_name.clone(), members));
    }

    fn delete_offset(&mut self, what: &str, group: &str, topic: &str) {
        let partition = OffsetDeleteRequestPartition::default();
        let topic =
            OffsetDeleteRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let it =
            self.call(0, OffsetDeleteRequest::default().with_group_id(id(group)).with_topics(vec![topic]));
        self.note(what, (it.error_code, it.topics.first().map(|topic| topic.partitions[0].error_code)));
    }

    fn delete_group(&mut self, what: &str, group: &str) {
        let it = self.call(2, DeleteGroupsRequest::default().with_groups_names(vec![id(group)]));
        self.note(what, it.results[0].error_code);
    }

    fn list(&mut self, what: &str, states: &[&str], types: &[&str]) {
        let request = ListGroupsRequest::default()
            .with_states_filter(states.iter().map(|it| text(it)).collect())
            .with_types_filter(types.iter().map(|it| text(it)).collect());
        let mut groups: Vec<_> = self
            .call(5, request)
            .groups
            .into_iter()
            .filter(|it| [CLASSIC, STATIC, CONSUMER].contains(&it.group_id.as_str()))
            .map(|it| (it.group_id, it.protocol_type, it.group_state, it.group_type))
            .collect();
        groups.sort();
        self.note(what, groups);
    }

    /// What a heartbeat of a consumer group's member is told: code, epoch, how many partitions.
    fn beat(&mut self, what: &str, request: ConsumerGroupHeartbeatRequest) -> Vec<beat::TopicPartitions> {
        let it = self.call(1, request);
        let told = it.assignment.map(|it| it.topic_partitions);
        let count = told.as_ref().map(|it| it.iter().map(|topic| topic.partitions.len()).sum::<usize>());
        self.note(what, (it.error_code, it.member_epoch, count));
        let owned = told.unwrap_or_default().into_iter().map(|it| {
            beat::TopicPartitions::default().with_topic_id(it.topic_id).with_partitions(it.partitions)
        });
        owned.collect()
    }
}

fn connect(address: &str) -> Observer {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    Observer { stream, seen: Vec::new(), has_acknowledged: false }
}

/// All answers, each as a line.
fn observe(address: &str) -> Vec<String> {
    let mut it = connect(address);
    it.create("a topic", TOPIC, 2, 1, &[]);
    let groups = [UNKNOWN, CLASSIC, STATIC, CONSUMER].into_iter().chain(migration::GROUPS);
    for group in groups {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        it.ask("coordinator", 4, &request, |answer| (answer.coordinators[0].error_code, ()));
        let request = DeleteGroupsRequest::default().with_groups_names(vec![id(group)]);
        it.ask("loaded", 2, &request, |answer| (answer.results[0].error_code, ()));
    }
    refusals(&mut it);
    let mut other = connect(address);
    generations(&mut it, &mut other);
    static_members(&mut it);
    epochs(&mut it);
    migration::observe(&mut it);
    it.seen.append(&mut other.seen);
    it.seen
}

fn refusals(it: &mut Observer) {
    it.join("no group id", 9, joining("", "", None, &["range"]));
    it.join("an unknown member", 9, joining(CLASSIC, "stranger", None, &["range"]));
    it.join("a short session", 9, joining(CLASSIC, "", None, &["range"]).with_session_timeout_ms(5_999));
    it.join("a long session", 9, joining(CLASSIC, "", None, &["range"]).with_session_timeout_ms(1_800_001));
    it.join("no protocol", 9, joining(CLASSIC, "", None, &[]));
    it.join("no protocol type", 9, joining(CLASSIC, "", None, &["range"]).with_protocol_type(text("")));
    it.heartbeat("an unknown group's heartbeat", UNKNOWN, ("stranger", None), 1);
    it.sync("an unknown group's sync", UNKNOWN, "stranger", 1, &[]);
    it.leave("an unknown group's leave", UNKNOWN, ("stranger", None));
    it.describe("an unknown group", UNKNOWN);
    it.delete_group("an unknown group's end", UNKNOWN);
    it.delete_offset("an unknown group's offset", UNKNOWN, TOPIC);
}

fn generations(it: &mut Observer, other: &mut Observer) {
    let first = it.join("without a member id", 9, joining(CLASSIC, "", None, &["range"]));
    it.join("with the member id", 9, joining(CLASSIC, &first, None, &["range"]));
    it.describe("before the assignment", CLASSIC);
    it.heartbeat("before the assignment", CLASSIC, (&first, None), 1);
    it.commit_as("before the assignment", 8, CLASSIC, (&first, None), 1);
    it.join("again before the assignment", 9, joining(CLASSIC, &first, None, &["range"]));
    it.sync("of another generation", CLASSIC, &first, 2, &[&first]);
    it.sync("of a stranger", CLASSIC, "stranger", 1, &[&first]);
    it.sync("the assignment", CLASSIC, &first, 1, &[&first]);
    it.sync("again", CLASSIC, &first, 1, &[]);
    it.heartbeat("stable", CLASSIC, (&first, None), 1);
    it.heartbeat("of a generation to come", CLASSIC, (&first, None), 2);
    it.heartbeat("of a stranger", CLASSIC, ("stranger", None), 1);
    it.heartbeat("of an unknown instance", CLASSIC, (&first, Some("nobody")), 1);
    for (member, generation) in
        [(first.as_str(), 1), (&first, 0), (&first, -1), ("stranger", 1), ("", -1), ("", 1)]
    {
        it.commit_as("commit", 8, CLASSIC, (member, None), generation);
        it.commit_as("commit", 9, CLASSIC, (member, None), generation);
    }
    it.describe("stable", CLASSIC);
    it.list("all", &[], &[]);
    it.list("stable", &["Stable"], &["classic"]);
    it.list("empty", &["Empty"], &["consumer"]);
    it.join("another protocol", 9, joining(CLASSIC, "", None, &["roundrobin"]));
    it.join(
        "another protocol type",
        9,
        joining(CLASSIC, "", None, &["range"]).with_protocol_type(text("connect")),
    );
    it.delete_group("with a member", CLASSIC);
    it.delete_offset("a topic with a reader", CLASSIC, TOPIC);
    it.delete_offset("an unknown topic", CLASSIC, UNKNOWN);

    let second = other.join("a second member", 9, joining(CLASSIC, "", None, &["roundrobin", "range"]));
    let request = joining(CLASSIC, &second, None, &["roundrobin", "range"]);
    let frame = encode_request(&Plain::new(request), 9, 1, None).expect("a request");
    other.stream.write_all(&frame.concat()).expect("send");
    // Its JoinGroup has arrived when the first member is asked to join again.
    let request = HeartbeatRequest::default()
        .with_group_id(id(CLASSIC))
        .with_generation_id(1)
        .with_member_id(text(&first));
    while it.call(4, request.clone()).error_code == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    it.heartbeat("to join again", CLASSIC, (&first, None), 1);
    it.sync("while all join", CLASSIC, &first, 1, &[]);
    it.commit_as("while all join", 8, CLASSIC, (&first, None), 1);
    it.describe("while all join", CLASSIC);
    it.join("the first again", 9, joining(CLASSIC, &first, None, &["range"]));
    let joined = other.read::<JoinGroupRequest>(9);
    other.note_joined("the second", joined);
    it.sync("the assignment for two", CLASSIC, &first, 2, &[&first]);
    other.sync("of whom nothing was said", CLASSIC, &second, 2, &[]);
    it.join("the leader again", 9, joining(CLASSIC, "", None, &["range"]));
    it.leave("leave", CLASSIC, (&second, None));
    it.leave("leave, too", CLASSIC, (&first, None));
    it.leave("a stranger leaves", CLASSIC, ("stranger", None));
    it.list("after all have left", &["preparingrebalance", "EMPTY"], &[]);
}

fn static_members(it: &mut Observer) {
    let joining = |member: &str| joining(STATIC, member, Some("one"), &["range"]);
    let first = it.join("a static member", 9, joining(""));
    it.sync("its assignment", STATIC, &first, 1, &[&first]);
    let second = it.join("it comes back", 9, joining(""));
    it.sync("its assignment as before", STATIC, &second, 1, &[]);
    it.heartbeat("of the one before", STATIC, (&first, Some("one")), 1);
    it.commit_as("of the one before", 8, STATIC, (&first, Some("one")), 1);
    it.join("the one before", 9, joining(&first));
    let third = it.join("it comes back by an old client", 8, joining(""));
    it.heartbeat("of the third", STATIC, (&third, Some("one")), 1);
    it.describe("a static member", STATIC);
    it.leave("the one before leaves", STATIC, (&first, Some("one")));
    it.leave("an unknown instance leaves", STATIC, ("", Some("nobody")));
    it.leave("by the instance", STATIC, ("", Some("one")));
    it.describe("empty", STATIC);
    it.commit_as("by nobody", 8, STATIC, ("", None), -1);
    it.delete_offset("a topic without a reader", STATIC, TOPIC);
    it.delete_group("without members", STATIC);
    it.delete_group("again", STATIC);
}

fn epochs(it: &mut Observer) {
    let request = |member: &str, epoch: i32| {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(id(CONSUMER))
            .with_member_id(text(member))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(-1)
    };
    let first = |member: &str| {
        request(member, 0)
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(vec![name(TOPIC)]))
            .with_topic_partitions(Some(Vec::new()))
    };
    it.beat("no group", request("a", 1));
    it.beat("no group to leave", request("a", -1));
    it.beat("no group id", first("a").with_group_id(id("")));
    it.beat("no member id", first(""));
    it.beat("no timeout", first("a").with_rebalance_timeout_ms(-1));
    it.beat("no topics", first("a").with_subscribed_topic_names(None));
    it.beat("no partitions", first("a").with_topic_partitions(None));
    it.beat("an epoch below all", request("a", -7));
    it.beat("an unknown assignor", first("a").with_server_assignor(Some(text("lucky"))));
    it.beat("a bad pattern", first("a").with_subscribed_topic_regex(Some(text("("))));
    it.describe("no group", CONSUMER);
    let all = it.beat("the first", first("a"));
    it.beat("nothing new", request("a", 1));
    it.beat("everything again", first("a").with_member_epoch(1).with_topic_partitions(Some(all.clone())));
    it.beat("joined again", first("a"));
    it.beat("a later epoch", request("a", 2));
    it.beat("a stranger", request("stranger", 1));
    let topic = it.id_of(TOPIC);
    for (member, epoch) in [("a", 1), ("a", 0), ("a", 2), ("a", -1), ("stranger", 1), ("", -1)] {
        it.commit_as("commit", 9, CONSUMER, (member, None), epoch);
        it.commit_as("commit", 8, CONSUMER, (member, None), epoch);
        it.commit_by_id("commit by id", CONSUMER, (member, epoch), &[topic, STRANGE]);
        it.offsets_by_id("offsets by id", CONSUMER, Some((member, epoch)), Some(&[STRANGE, topic]));
    }
    it.offsets_by_id("offsets by id", CONSUMER, None, Some(&[STRANGE, topic]));
    it.offsets_by_id("all offsets", CONSUMER, None, None);
    it.offsets_by_id("no group's offsets", UNKNOWN, None, Some(&[STRANGE, topic]));
    it.commit_by_id("no group's member", UNKNOWN, ("a", 1), &[STRANGE, topic]);
    it.describe("with one member", CONSUMER);
    it.list("consumer groups", &["stable"], &["consumer"]);
    it.beat("the second", first("b"));
    it.describe("with two members", CONSUMER);
    let left = it.beat("what the first keeps", request("a", 1).with_topic_partitions(Some(all.clone())));
    it.beat("it has not given up yet", request("a", 1).with_topic_partitions(Some(all)));
    it.beat("the second waits", request("b", 2).with_topic_partitions(Some(Vec::new())));
    it.beat("it has given up", request("a", 1).with_topic_partitions(Some(left)));
    it.beat("the second gets it", request("b", 2).with_topic_partitions(Some(Vec::new())));
    it.describe("in agreement", CONSUMER);
    it.delete_group("with members", CONSUMER);
    it.delete_offset("with a reader", CONSUMER, TOPIC);
    it.beat("the first leaves", request("a", -1));
    it.beat("it leaves again", request("a", -1));
    it.beat("a static member", first("c").with_instance_id(Some(text("one"))));
    it.beat("its place is taken", first("d").with_instance_id(Some(text("one"))));
    it.beat("it goes for a while", request("c", -2).with_instance_id(Some(text("one"))));
    it.beat("it is back", first("d").with_instance_id(Some(text("one"))));
    it.beat("the one before", request("c", 4).with_instance_id(Some(text("one"))));
    it.beat("an unknown instance", request("d", 4).with_instance_id(Some(text("two"))));
    it.beat("an unknown instance leaves", request("d", -1).with_instance_id(Some(text("two"))));
    it.beat("it leaves", request("d", -1).with_instance_id(Some(text("one"))));
    it.beat("the second leaves", request("b", -1));
    it.describe("empty", CONSUMER);
    it.delete_group("without members", CONSUMER);
}

#[test]
fn its_groups_answer_as_those_of_kafka_do() {
    if !real_kafka::available() {
        return;
    }
    // Ours assigns at once; Kafka 4.3 waits a second between two assignments, and makes them in the background.
    let options = real_kafka::Options::new(Version::V4_3, 1)
        .property("group.consumer.assignment.interval.ms", "0")
        .property("group.consumer.assignor.offload.enable", "false");
    let kafka = Cluster::start(options);
    let embedded = EmbeddedBroker::start(Options::default()).expect("start the embedded broker");
    let (expected, seen) = (observe(&kafka.bootstrap()), observe(&embedded.bootstrap()));
    assert!(expected.len() > 150, "{} answers", expected.len());
    assert_eq!(expected.len(), seen.len());
    let other: Vec<(&String, &String)> =
        expected.iter().zip(&seen).filter(|(expected, seen)| expected != seen).collect();
    assert!(other.is_empty(), "Kafka's answer, then ours: {other:#?}");
}

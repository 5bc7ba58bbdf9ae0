//! Groups of Kafka Streams (KIP-1071) on real Kafka, with an application of Kafka Streams as the member and Kafka's own
//! tool as the witness.

use std::collections::BTreeSet;
use std::path::Path;

use kafka_wire::admin::{
    AclOperation, GroupFilter, GroupState, GroupType, StreamsGroupDescription, StreamsTask,
};
use kafka_wire::{
    Admin, CommittedOffset, ErrorCode, Isolation, NewTopic, OffsetSpec, Record, Result, TopicPartition,
};
use tidewater_tests::java::Running;
use tidewater_tests::real_kafka::{self, Cluster, Version};

use crate::support::{admin, create, on_shared, producer, read_all, wait_until};

const GROUP: &str = "streams-copy";
const INPUT: &str = "streams-in";
const OUTPUT: &str = "streams-out";
const TOOL: &str = "org.apache.kafka.tools.streams.StreamsGroupCommand";

fn only<K, T>(results: Result<Vec<(K, Result<T>)>>) -> Result<T> {
    let mut results = results.expect("the call as a whole");
    assert_eq!(results.len(), 1);
    results.remove(0).1
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(INPUT, partition)
}

fn start_application(cluster: &Cluster, folder: &Path) -> Running {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/StreamsApplication.java");
    let folder = folder.to_str().expect("a path in UTF-8");
    let arguments = [&cluster.bootstrap(), GROUP, INPUT, OUTPUT, folder];
    Running::start(&real_kafka::jars_with_streams(cluster.version()), &source, &arguments, |_| {})
}

async fn described(admin: &Admin) -> Result<StreamsGroupDescription> {
    only(admin.describe_streams_groups([GROUP]).await)
}

#[test]
fn an_application_is_described_and_its_offsets_are_listed_set_and_deleted() {
    on_shared(Version::V4_3, async |cluster| {
        create(cluster, NewTopic::new(INPUT, 3)).await;
        create(cluster, NewTopic::new(OUTPUT, 3)).await;
        let producer = producer(cluster, "streams-producer");
        for partition in 0..3 {
            for value in ["a", "b", "c"] {
                let record = Record::to(INPUT).partition(partition).key("k").value(value);
                producer.send(record).await.expect("sent");
            }
        }
        let admin = admin(cluster);
        let folder = tempfile::tempdir().expect("a folder");
        let application = start_application(cluster, folder.path());
        copied(&admin, 9).await;
        wait_until("all tasks are given out", async || {
            described(&admin).await.is_ok_and(|group| {
                let tasks = group.members.iter().map(|member| member.assignment.active.len());
                group.state == GroupState::Stable && tasks.sum::<usize>() == 6
            })
        })
        .await;
        the_group_is_described(&admin).await;
        let shown = cluster.tool(TOOL, &["--describe", "--offsets", "--group", GROUP]);
        let mut lines = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert!(lines.any(|cells| cells == [GROUP, INPUT, "1", "0"]), "{shown}");
        let one = CommittedOffset { offset: 1, leader_epoch: None, metadata: String::new() };
        let refused = only(admin.alter_committed_offsets(GROUP, [(at(1), one.clone())]).await);
        assert!(refused.expect_err("it has a member").to_string().contains("the group has members"));
        let refused = only(admin.delete_groups([GROUP]).await);
        assert_eq!(refused.expect_err("it has a member").code(), Some(ErrorCode::NON_EMPTY_GROUP));
        end(&admin, application).await;

        only(admin.alter_committed_offsets(GROUP, [(at(1), one.clone())]).await).expect("set");
        assert_eq!(admin.list_committed_offsets(GROUP).await.expect("listed")[&at(1)], one);
        let application = start_application(cluster, folder.path());
        copied(&admin, 9 + 2).await;
        end(&admin, application).await;
        let copied = read_all(cluster, OUTPUT, Isolation::ReadCommitted).await;
        assert_eq!(copied.len(), 9 + 2, "two of partition 1 once more: {copied:?}");

        only(admin.delete_committed_offsets(GROUP, [at(1)]).await).expect("deleted");
        assert!(!admin.list_committed_offsets(GROUP).await.expect("listed").contains_key(&at(1)));
        only(admin.delete_groups([GROUP]).await).expect("deleted");
        assert_eq!(described(&admin).await.expect_err("gone").code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    });
}

/// Waits until all input is read, and so many records are in the output: a task reads while another one writes.
async fn copied(admin: &Admin, records: i64) {
    wait_until("all that is there is copied", async || {
        let committed = admin.list_settled_offsets(GROUP).await.expect("listed");
        let is_read = (0..3).all(|partition| committed.get(&at(partition)).is_some_and(|at| at.offset == 3));
        let ends = (0..3).map(|partition| (TopicPartition::new(OUTPUT, partition), OffsetSpec::Latest));
        let ends = admin.list_offsets(ends, Isolation::ReadUncommitted).await.expect("listed");
        let written = ends.into_iter().map(|(_, end)| end.expect("an end").offset.expect("an offset"));
        is_read && written.sum::<i64>() >= records
    })
    .await;
}

async fn end(admin: &Admin, application: Running) {
    application.end();
    wait_until("the application has left", async || {
        described(admin).await.is_ok_and(|group| group.state == GroupState::Empty)
    })
    .await;
}

async fn the_group_is_described(admin: &Admin) {
    let streams = GroupFilter { types: vec![GroupType::Streams], ..GroupFilter::default() };
    let listed = admin.list_groups_by(streams).await.expect("listed");
    assert!(listed.iter().any(|of| of.group_id == GROUP && of.protocol_type == "streams"), "{listed:?}");
    let another_kind = only(admin.describe_groups([GROUP]).await).expect_err("another kind of group");
    assert_eq!(another_kind.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));

    let group = described(admin).await.expect("described");
    assert_eq!((group.group_id.as_str(), group.topology_epoch), (GROUP, Some(0)));
    assert_eq!((group.authorized_operations.is_none(), group.epoch), (true, group.assignment_epoch));
    let [reads, writes] = &group.subtopologies[..] else { panic!("{group:?}") };
    let (reads, writes) = if reads.reads(INPUT) { (reads, writes) } else { (writes, reads) };
    let between = &reads.repartition_sink_topics[0];
    assert!(between.starts_with(GROUP) && between.ends_with("-repartition"), "{between}");
    assert_eq!(
        (&*reads.source_topics, &*writes.repartition_source_topics[0].name),
        (&[INPUT.into()][..], &**between)
    );
    assert_eq!(writes.repartition_source_topics[0].configs["cleanup.policy"], "delete");
    assert!(writes.reads(between) && !writes.reads(INPUT) && reads.state_changelog_topics.is_empty());

    for partition in 0..3 {
        let member = group.reader(&at(partition)).expect("a member that reads it");
        assert!(member.client_id.starts_with(GROUP) && !member.process_id.is_empty(), "{member:?}");
        assert_eq!(member.user_endpoint, Some(("app.example".to_owned(), 7070)));
        assert_eq!((&member.assignment, member.is_classic), (&member.target_assignment, false));
        assert_eq!((member.epoch, &member.group_instance_id, &member.rack), (group.epoch, &None, &None));
    }
    assert!(group.reader(&at(3)).is_none());
    let tasks = group.members.iter().flat_map(|member| &member.assignment.active).map(StreamsTask::to_string);
    let expected = ["0_0", "0_1", "0_2", "1_0", "1_1", "1_2"].map(str::to_owned);
    assert_eq!(tasks.collect::<BTreeSet<_>>(), BTreeSet::from(expected));

    let rights = admin.with_authorized_operations();
    let rights = described(&rights).await.expect("described").authorized_operations;
    assert!(rights.is_some_and(|rights| rights.contains(&AclOperation::Delete)));
}

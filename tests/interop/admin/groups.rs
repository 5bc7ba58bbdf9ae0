//! Groups of every kind but those of Kafka Streams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_wire::admin::{AclOperation, GroupFilter, GroupState, GroupType, MemberToRemove};
use kafka_wire::config::{GroupProtocol, OffsetReset};
use kafka_wire::{Admin, CommittedOffset, Consumer, ErrorCode, ErrorKind};
use tidewater_tests::real_kafka::{Cluster, Version};

use super::{at, code, only};
use crate::support::{consumer_config, wait_until};

pub(super) async fn groups(cluster: &Cluster, admin: &Admin) {
    let group = "admin-group";
    let offset = |offset| CommittedOffset { offset, leader_epoch: None, metadata: "by hand".to_owned() };
    only(admin.alter_committed_offsets(group, [(at("offsets", 0), offset(4))]).await).expect("set");
    let unknown = admin.alter_committed_offsets(group, [(at("absent", 0), offset(4))]).await;
    assert_eq!(code(only(unknown)), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let committed = admin.list_committed_offsets(group).await.expect("listed");
    assert_eq!(committed, BTreeMap::from([(at("offsets", 0), offset(4))]));
    let several = admin.list_committed_offsets_of([group, "admin-absent"]).await.expect("listed");
    let counts: BTreeMap<_, _> =
        several.into_iter().map(|(id, of)| (id, of.expect("offsets").len())).collect();
    assert_eq!(counts, BTreeMap::from([(group.to_owned(), 1), ("admin-absent".to_owned(), 0)]));
    let shown = cluster.tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        &["--describe", "--group", group],
    );
    assert!(shown.contains("offsets"), "{shown}");

    let listed = admin.list_groups().await.expect("listed");
    let listing = listed.iter().find(|listing| listing.group_id == group).expect("the group");
    assert_eq!((listing.group_type, listing.state), (GroupType::Classic, GroupState::Empty));
    let empty = GroupFilter {
        states: vec![GroupState::Empty],
        types: vec![GroupType::Classic],
        ..GroupFilter::default()
    };
    assert!(admin.list_groups_by(empty).await.expect("listed").contains(listing));
    let stable = GroupFilter { states: vec![GroupState::Stable], ..GroupFilter::default() };
    assert!(!admin.list_groups_by(stable).await.expect("listed").contains(listing));
    let described = only(admin.describe_groups([group]).await).expect("described");
    assert_eq!((described.state, described.members.len()), (GroupState::Empty, 0));
    assert_eq!(described.authorized_operations, None);
    let rights = admin.with_authorized_operations();
    let rights = only(rights.describe_groups([group]).await).expect("described").authorized_operations;
    assert!(rights.is_some_and(|rights| rights.contains(&AclOperation::Read)));
    assert_eq!(admin.list_settled_offsets(group).await.expect("listed"), committed);
    let streams = only(admin.describe_streams_groups([group]).await).expect_err("another kind of group");
    match cluster.version() {
        Version::V4_3 => assert_eq!(streams.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND)),
        _ => assert_eq!(streams.kind(), ErrorKind::Unsupported),
    }
    let of_another_kind =
        GroupFilter { protocol_types: vec!["connect".to_owned()], ..GroupFilter::default() };
    assert!(!admin.list_groups_by(of_another_kind).await.expect("listed").contains(listing));
    assert_eq!(code(only(admin.describe_groups(["admin-absent"]).await)), ErrorCode::GROUP_ID_NOT_FOUND);

    only(admin.delete_committed_offsets(group, [at("offsets", 0)]).await).expect("deleted");
    assert!(admin.list_committed_offsets(group).await.expect("listed").is_empty());
    only(admin.alter_committed_offsets(group, [(at("offsets", 0), offset(4))]).await).expect("set");
    only(admin.delete_groups([group]).await).expect("deleted");
    assert_eq!(code(only(admin.delete_groups([group]).await)), ErrorCode::GROUP_ID_NOT_FOUND);
    a_member_is_described_and_removed(cluster, admin, GroupProtocol::Classic).await;
    if cluster.version() == Version::V4_3 {
        a_member_is_described_and_removed(cluster, admin, GroupProtocol::Consumer).await;
        share_groups(admin).await;
    } else {
        let error = only(admin.list_share_group_offsets(["admin-share"]).await).expect_err("too old");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

/// A group with a member, by the classic protocol or that of KIP-848.
async fn a_member_is_described_and_removed(cluster: &Cluster, admin: &Admin, protocol: GroupProtocol) {
    let group = format!("admin-{protocol:?}").to_lowercase();
    let mut config = consumer_config(cluster, "admin-member");
    config.group_id = Some(group.clone());
    config.auto_offset_reset = OffsetReset::Earliest;
    config.group.protocol = protocol;
    let mut consumer = Consumer::new(config).expect("a consumer");
    consumer.subscribe(["offsets"]).expect("subscribe");
    wait_until("the member reads", async || {
        !consumer.poll(Duration::from_millis(100)).await.expect("poll").is_empty()
    })
    .await;

    let described = only(admin.describe_groups([&group]).await).expect("described");
    let expected = if protocol == GroupProtocol::Classic { GroupType::Classic } else { GroupType::Consumer };
    assert_eq!((described.group_type, described.state), (expected, GroupState::Stable));
    assert_eq!(described.epoch.is_some(), protocol == GroupProtocol::Consumer);
    let [member] = &described.members[..] else { panic!("{described:?}") };
    assert_eq!((member.client_id.as_str(), &member.group_instance_id), ("admin-member", &None));
    assert_eq!(member.assignment, BTreeSet::from([at("offsets", 0)]));
    assert_eq!(member.subscribed_topics, ["offsets"]);
    let listed = admin.list_groups().await.expect("listed");
    assert!(listed.iter().any(|of| of.group_id == group && of.group_type == expected), "{listed:?}");

    // What belongs to members is theirs alone.
    let offset = CommittedOffset { offset: 4, leader_epoch: None, metadata: String::new() };
    let error = only(admin.alter_committed_offsets(&group, [(at("offsets", 0), offset)]).await)
        .expect_err("the group has a member");
    assert!(error.to_string().contains("the group has members"), "{error}");
    let subscribed = admin.delete_committed_offsets(&group, [at("offsets", 0)]).await;
    assert_eq!(code(only(subscribed)), ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    assert_eq!(code(only(admin.delete_groups([&group]).await)), ErrorCode::NON_EMPTY_GROUP);
    let nobody = MemberToRemove::Member("nobody".to_owned());
    let unknown = admin.remove_group_members(&group, [nobody], "a test").await;
    assert_eq!(code(only(unknown)), ErrorCode::UNKNOWN_MEMBER_ID);
    let removed = admin.remove_all_group_members(&group, "a test").await;
    assert_eq!(removed.as_ref().expect("removed")[0].0, MemberToRemove::Member(member.member_id.clone()));
    only(removed).expect("removed");
    wait_until("the group is empty", async || {
        only(admin.describe_groups([&group]).await).is_ok_and(|group| group.members.is_empty())
    })
    .await;
    drop(consumer);
}

async fn share_groups(admin: &Admin) {
    let group = "admin-share";
    only(admin.alter_share_group_offsets(group, [(at("offsets", 0), 5)]).await).expect("set");
    let start = async || {
        let offsets = only(admin.list_share_group_offsets([group]).await).expect("listed");
        offsets.get(&at("offsets", 0)).map(|offset| offset.start_offset)
    };
    wait_until("the share group begins at 5", async || start().await == Some(5)).await;
    let listed = only(admin.list_share_group_offsets([group]).await).expect("listed");
    assert_eq!(listed[&at("offsets", 0)].lag, Some(5));
    let rights = admin.with_authorized_operations();
    let described = only(rights.describe_groups([group]).await).expect("described");
    assert!(described.authorized_operations.is_some_and(|rights| rights.contains(&AclOperation::Delete)));
    assert_eq!((described.group_type, described.state), (GroupType::Share, GroupState::Empty));
    only(admin.delete_share_group_offsets(group, ["offsets"]).await).expect("deleted");
    assert_eq!(start().await, None);
    only(admin.delete_groups([group]).await).expect("deleted");
}

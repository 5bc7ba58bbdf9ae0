//! Offsets of topics that are named by id (OffsetCommit and OffsetFetch 10), on both.

use std::io::Write as _;

use kafka_wire::TopicId;
use kafka_wire::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_wire::protocol::offsets_by_id::{BY_ID_FROM, OffsetCommitById, OffsetFetchById};
use kafka_wire::protocol::request::Request;

use super::*;

/// The id of no topic.
pub(super) const STRANGE: TopicId = TopicId([9; 16]);

impl Observer {
    pub(super) fn id_of(&mut self, topic: &str) -> TopicId {
        let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let answer = self.call(12, MetadataRequest::default().with_topics(Some(vec![topic])));
        TopicId(answer.topics[0].topic_id.into_bytes())
    }

    /// Sends what `kafka-protocol` cannot write.
    pub(super) fn request(&mut self, request: &dyn Request, version: i16) -> Response {
        let frame = encode_request(request, version, 1, None).expect("a request");
        self.stream.write_all(&frame.concat()).expect("send");
        self.response(request.api(), version)
    }

    /// Commits for partition 0 of each topic, and notes the codes in their order.
    pub(super) fn commit_by_id(&mut self, what: &str, group: &str, member: (&str, i32), ids: &[TopicId]) {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(member.1)
            .with_member_id(text(member.0))
            .with_topics(vec![topic; ids.len()]);
        let request = OffsetCommitById { request, topics: ids.to_vec() };
        let answer = self.request(&request, BY_ID_FROM).decode::<OffsetCommitRequest>().expect("an answer");
        let code = |id: &TopicId| {
            let topic = answer.topics.iter().find(|topic| topic.topic_id.into_bytes() == id.0);
            topic.map(|topic| topic.partitions[0].error_code)
        };
        let codes: Vec<_> = ids.iter().map(code).collect();
        self.seen.push(format!("{what}: {member:?} {codes:?}"));
    }

    /// Asks for partition 0 of each topic, or for all that the group has.
    pub(super) fn offsets_by_id(
        &mut self,
        what: &str,
        group: &str,
        member: Option<(&str, i32)>,
        ids: Option<&[TopicId]>,
    ) {
        let topic = OffsetFetchRequestTopics::default().with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_member_id(member.map(|(id, _)| text(id)))
            .with_member_epoch(member.map_or(-1, |(_, epoch)| epoch))
            .with_topics(ids.map(|ids| vec![topic; ids.len()]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let request = OffsetFetchById { request, topics: vec![ids.unwrap_or_default().to_vec()] };
        let answer = self.request(&request, BY_ID_FROM).decode::<OffsetFetchRequest>().expect("an answer");
        let group = &answer.groups[0];
        let strange = group.topics.iter().filter(|topic| topic.topic_id.into_bytes() == STRANGE.0).count();
        let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
        let mut told: Vec<_> = partitions.map(|it| (it.committed_offset, it.error_code)).collect();
        told.sort_unstable();
        self.seen.push(format!("{what}: {member:?} {} {strange} {told:?}", group.error_code));
    }
}

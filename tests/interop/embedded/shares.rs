//! Share groups on both: where they are in each partition, and how much is left (KIP-932, KIP-1226).

use kafka_wire::TopicId;
use kafka_wire::protocol::messages::alter_share_group_offsets_request as altering;
use kafka_wire::protocol::messages::delete_share_group_offsets_request as deleting;
use kafka_wire::protocol::messages::share_acknowledge_request as acknowledging;
use kafka_wire::protocol::messages::share_fetch_request as fetching;
use kafka_wire::protocol::share_group_offsets::{
    DescribeShareGroupOffsetsRequest, ShareGroupOffsets, decode_offsets,
};
use tidewater_tests::real_kafka;

use uuid::Uuid;

use super::*;

const SHARED: &str = "compared-shares";
const WORKERS: &str = "compared-workers";
const MEMBER: &str = "4b6d0000-0000-4000-8000-000000000001";
const ACCEPT: i8 = 1;
const REJECT: i8 = 3;

impl Observer {
    fn offsets_of(&mut self, what: &str, version: i16, group: &str) {
        let request = DescribeShareGroupOffsetsRequest { group_ids: vec![group.to_owned()] };
        let answer = decode_offsets(&self.request(&request, version)).expect("an answer");
        let ShareGroupOffsets { error, topics, .. } = &answer[0];
        let mut offsets = Vec::new();
        for topic in topics {
            for at in &topic.partitions {
                // Once something was acknowledged, Kafka tells the start that it has written down last.
                let start = at.start_offset.filter(|_| !self.has_acknowledged);
                offsets.push((topic.name.to_string(), at.index, start, at.lag, at.error));
            }
        }
        offsets.sort_by_key(|it| (it.0.clone(), it.1));
        self.seen.push(format!("{what} (v{version}): {error:?} {offsets:?}"));
    }

    fn alter(&mut self, what: &str, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let partitions = offsets.iter().map(|&(partition, offset)| {
            altering::AlterShareGroupOffsetsRequestPartition::default()
                .with_partition_index(partition)
                .with_start_offset(offset)
        });
        let topic = altering::AlterShareGroupOffsetsRequestTopic::default()
            .with_topic_name(name(topic))
            .with_partitions(partitions.collect());
        let request = AlterShareGroupOffsetsRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(vec![topic]);
        self.ask(what, 0, &request, |answer| {
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
            let mut codes: Vec<_> = partitions.map(|it| (it.partition_index, it.error_code)).collect();
            codes.sort_unstable();
            let passing = codes.iter().map(|(_, code)| *code).find(|code| is_passing(*code));
            (passing.unwrap_or(answer.error_code), codes)
        });
    }

    fn forget(&mut self, what: &str, group: &str, topic: &str) {
        let topic = deleting::DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(name(topic));
        let request = DeleteShareGroupOffsetsRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(vec![topic]);
        self.ask(what, 0, &request, |answer| {
            let codes: Vec<i16> = answer.responses.iter().map(|topic| topic.error_code).collect();
            let passing = codes.iter().copied().find(|code| is_passing(*code));
            (passing.unwrap_or(answer.error_code), codes)
        });
    }

    fn beat_as_worker(&mut self, what: &str, epoch: i32) -> i32 {
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(WORKERS)))
            .with_member_id(text(MEMBER))
            .with_member_epoch(epoch)
            .with_subscribed_topic_names((epoch == 0).then(|| vec![name(SHARED)]));
        let answer = self.call(1, request);
        self.seen.push(format!("{what}: {}", answer.error_code));
        answer.member_epoch
    }

    /// Fetches until there is something; what was acquired.
    fn share_fetch(&mut self, what: &str, topic: TopicId, mut epoch: i32) -> i32 {
        for _ in 0..100 {
            let partition = fetching::FetchPartition::default().with_partition_index(0);
            let asked = fetching::FetchTopic::default()
                .with_topic_id(Uuid::from_bytes(topic.0))
                .with_partitions(vec![partition]);
            let request = ShareFetchRequest::default()
                .with_group_id(Some(GroupId(text(WORKERS))))
                .with_member_id(Some(text(MEMBER)))
                .with_share_session_epoch(epoch)
                .with_max_wait_ms(500)
                .with_max_bytes(1 << 20)
                .with_max_records(500)
                .with_topics(vec![asked]);
            let answer = self.call(1, request);
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
            epoch += 1;
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
            let acquired: Vec<_> = partitions
                .flat_map(|it| &it.acquired_records)
                .map(|it| (it.first_offset, it.last_offset, it.delivery_count))
                // Kafka acquires nothing, too, of the batch before the start.
                .filter(|(first, last, _)| first <= last)
                .collect();
            if !acquired.is_empty() {
                self.seen.push(format!("{what}: {acquired:?}"));
                return epoch;
            }
        }
        panic!("{what}: nothing to be had");
    }

    fn acknowledge(&mut self, what: &str, topic: TopicId, epoch: i32, first: i64, types: &[i8]) {
        let batch = acknowledging::AcknowledgementBatch::default()
            .with_first_offset(first)
            .with_last_offset(first + types.len() as i64 - 1)
            .with_acknowledge_types(types.to_vec());
        let partition =
            acknowledging::AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]);
        let asked = acknowledging::AcknowledgeTopic::default()
            .with_topic_id(Uuid::from_bytes(topic.0))
            .with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(WORKERS))))
            .with_member_id(Some(text(MEMBER)))
            .with_share_session_epoch(epoch)
            .with_topics(vec![asked]);
        let answer = self.call(1, request);
        self.has_acknowledged = true;
        let codes: Vec<_> =
            answer.responses.iter().flat_map(|it| &it.partitions).map(|it| it.error_code).collect();
        self.seen.push(format!("{what}: {} {codes:?}", answer.error_code));
    }

    /// Writes records, each in a batch of its own; the node may have to hear of the topic first.
    fn write(&mut self, records: usize) {
        let data = PartitionProduceData::default().with_records(Some(batch(None, false)));
        let topic = TopicProduceData::default().with_name(name(SHARED)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000);
        let request = request.with_topic_data(vec![topic]);
        for _ in 0..records {
            let is_written = (0..400).any(|_| {
                let answer = self.call(12, request.clone());
                let code = answer.responses[0].partition_responses[0].error_code;
                let waits = is_passing(code) || code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code();
                assert!(code == 0 || waits, "code {code}");
                if waits {
                    std::thread::sleep(Duration::from_millis(25));
                }
                !waits
            });
            assert!(is_written, "the topic is still not known");
        }
    }
}

/// All answers, each as a line.
fn observe(address: &str) -> Vec<String> {
    let stream = TcpStream::connect(address).expect("connect");
    let mut it = Observer { stream, seen: Vec::new(), has_acknowledged: false };
    it.create("a topic", SHARED, 2, 1, &[]);
    it.write(5);
    for group in [UNKNOWN, WORKERS] {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        it.ask("coordinator", 4, &request, |answer| (answer.coordinators[0].error_code, ()));
        let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
        it.ask("loaded", 2, &request, |answer| (answer.results[0].error_code, ()));
    }
    it.offsets_of("no group", 0, UNKNOWN);
    it.offsets_of("no group", 1, UNKNOWN);
    it.forget("no group's offsets", UNKNOWN, SHARED);
    it.alter("no such topic", WORKERS, UNKNOWN, &[(0, 1)]);
    it.alter("a group that is not there", WORKERS, SHARED, &[(0, 1), (7, 1)]);
    it.offsets_of("it is there now", 0, WORKERS);
    it.offsets_of("it is there now", 1, WORKERS);
    it.beat_as_worker("a member", 0);
    it.alter("with a member", WORKERS, SHARED, &[(0, 2)]);
    it.forget("with a member", WORKERS, SHARED);
    let topic = it.id_of(SHARED);
    let epoch = it.share_fetch("from where it was set", topic, 0);
    it.acknowledge("not the first", topic, epoch, 2, &[ACCEPT, REJECT]);
    it.offsets_of("two in the middle are done with", 1, WORKERS);
    it.acknowledge("the first", topic, epoch + 1, 1, &[ACCEPT]);
    it.offsets_of("one is left", 1, WORKERS);
    it.write(3);
    it.offsets_of("and three new ones", 1, WORKERS);
    it.acknowledge("none of its own", topic, epoch + 2, 1, &[ACCEPT]);
    it.beat_as_worker("it leaves", -1);
    it.alter("without a member", WORKERS, SHARED, &[(0, 0), (1, 0)]);
    it.has_acknowledged = false;
    it.offsets_of("all over again", 1, WORKERS);
    it.forget("an unknown topic", WORKERS, UNKNOWN);
    it.forget("the topic", WORKERS, SHARED);
    it.offsets_of("nothing is known", 1, WORKERS);
    it.seen
}

#[test]
fn its_share_groups_are_where_those_of_kafka_are() {
    if !real_kafka::available() {
        return;
    }
    let kafka = Cluster::shared(Version::V4_3);
    let embedded = EmbeddedBroker::start(Options::default()).expect("start the embedded broker");
    let (expected, seen) = (observe(&kafka.bootstrap()), observe(&embedded.bootstrap()));
    assert_eq!((expected.len(), seen.len()), (seen.len(), expected.len()));
    let other: Vec<(&String, &String)> =
        expected.iter().zip(&seen).filter(|(expected, seen)| expected != seen).collect();
    assert!(other.is_empty(), "Kafka's answer, then ours: {other:#?}");
}

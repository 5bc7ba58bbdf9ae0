//! The role in an engine, against a broker whose answers can be read and make no sense, on a clock that the test moves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use bytes::BytesMut;

use super::*;
use crate::config::ClientConfig;
use crate::engine::{ConnectionId, Engine};
use crate::error::ErrorCode;
use crate::producer::Done;
use crate::protocol::header::{ReceivedRequest, encode_response};
use crate::protocol::messages::api_versions_response::ApiVersion;
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use crate::protocol::messages::{
    self, ApiKey, ApiVersionsResponse, Encodable, InitProducerIdResponse, MetadataResponse, StrBytes,
    TopicName,
};
use crate::record::{self, BatchBuilder, Compression};

const PARTITIONS: i32 = 2;
const ID: uuid::Uuid = uuid::Uuid::from_bytes([7; 16]);

type Answer = messages::ProduceResponse;
type Fates = Arc<Mutex<Vec<Result<Option<i64>>>>>;

/// An idempotent producer, and a broker that leads all of the topic `t`.
struct World {
    now: Instant,
    engine: Engine<ProducerRole>,
    pending: VecDeque<(ConnectionId, ReceivedRequest)>,
    produce_version: i16,
    /// The base sequences of what is in each partition's log.
    logs: BTreeMap<i32, Vec<i32>>,
    fates: Fates,
    spoil: Option<Spoil>,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new(produce_version: i16) -> Self {
        let client = ClientConfig::bootstrap("h:9001").unwrap();
        let delivery_timeout = Duration::from_secs(3600);
        let config = ProducerConfig { client, delivery_timeout, ..ProducerConfig::default() };
        let role = ProducerRole::new(&config, 1, Box::new(|_, _| {}));
        let now = Instant::now();
        Self {
            now,
            engine: Engine::new(now, &config.client, 1, role),
            pending: VecDeque::new(),
            produce_version,
            logs: BTreeMap::new(),
            fates: Arc::default(),
            spoil: None,
        }
    }

    /// A batch of one record to each partition.
    fn send(&mut self) {
        for partition in 0..PARTITIONS {
            let mut records = BatchBuilder::new(Compression::NONE, 64);
            records.append(1, None, Some(b"v"), &[]).unwrap();
            let fates = Arc::clone(&self.fates);
            let batch = Batch {
                partition: TopicPartition::new("t", partition),
                records: records.seal(),
                created: self.now,
                done: Done::new(1, move |fate| {
                    fates.lock().unwrap().push(fate.outcome.map(|written| written.base_offset));
                }),
            };
            self.engine.handle_command(self.now, Command::Send(batch));
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some((connection, request)) = self.engine.next_request(self.now) {
            self.pending.push_back((connection, request));
        }
    }

    /// Lets the broker answer for so long.
    fn live(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some((connection, request)) = self.pending.pop_front() {
                self.serve(connection, request);
            }
            let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) else { break };
            self.now = due.max(self.now);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn serve(&mut self, to: ConnectionId, request: ReceivedRequest) {
        let header = (request.api, request.version, request.correlation_id);
        match request.api {
            ApiKey::ApiVersions => self.respond(to, header, &versions(self.produce_version)),
            ApiKey::Metadata => self.respond(to, header, &metadata()),
            ApiKey::InitProducerId => {
                let identity = InitProducerIdResponse::default().with_producer_id(messages::ProducerId(5));
                self.respond(to, header, &identity);
            }
            ApiKey::Produce => {
                let mut answer = self.produce(&request.decode().unwrap());
                self.spoil.into_iter().for_each(|spoil| spoil(&mut answer));
                self.respond(to, header, &answer);
            }
            other => panic!("{other:?}"),
        }
    }

    fn respond(&mut self, to: ConnectionId, header: (ApiKey, i16, i32), answer: &impl Encodable) {
        let chunks = encode_response(header.0, header.1, header.2, answer).unwrap();
        self.engine.handle_bytes(self.now, to, &mut BytesMut::from(&chunks.concat()[..]));
        self.drain();
    }

    fn produce(&mut self, request: &messages::ProduceRequest) -> Answer {
        let topic = &request.topic_data[0];
        let partitions = topic.partition_data.iter().map(|data| {
            let batch = record::batches(data.records.clone().unwrap()).next().unwrap().unwrap();
            let log = self.logs.entry(data.index).or_default();
            let place = log.iter().position(|sequence| *sequence == batch.header.base_sequence);
            let offset = place.unwrap_or_else(|| {
                log.push(batch.header.base_sequence);
                log.len() - 1
            });
            PartitionProduceResponse::default().with_index(data.index).with_base_offset(offset as i64)
        });
        let answer = TopicProduceResponse::default().with_partition_responses(partitions.collect());
        let answer = if self.produce_version < 13 {
            answer.with_name(TopicName(StrBytes::from_static_str("t")))
        } else {
            answer.with_topic_id(ID)
        };
        Answer::default().with_responses(vec![answer])
    }
}

fn versions(produce: i16) -> ApiVersionsResponse {
    let keys = [
        (ApiKey::Produce, produce),
        (ApiKey::Metadata, 12),
        (ApiKey::ApiVersions, 4),
        (ApiKey::InitProducerId, 4),
    ];
    let keys = keys.map(|(key, max)| ApiVersion::default().with_api_key(key as i16).with_max_version(max));
    ApiVersionsResponse::default().with_api_keys(keys.to_vec())
}

fn metadata() -> MetadataResponse {
    let node = messages::BrokerId(1);
    let host = StrBytes::from_static_str("h");
    let broker = MetadataResponseBroker::default().with_node_id(node).with_host(host).with_port(9001);
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(3)
    };
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
        .with_topic_id(ID)
        .with_partitions((0..PARTITIONS).map(partition).collect());
    MetadataResponse::default().with_topics(vec![topic]).with_brokers(vec![broker]).with_controller_id(node)
}

/// Refuses everything, and tells of a leader that is not there.
fn refuse(answer: &mut Answer) {
    let nobody =
        LeaderIdAndEpoch::default().with_leader_id(messages::BrokerId(99)).with_leader_epoch(i32::MAX);
    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
        partition.error_code = ErrorCode::NOT_LEADER_OR_FOLLOWER.code();
        partition.base_offset = -1;
        partition.current_leader = nobody.clone();
    }
}

fn add_endpoint(answer: &mut Answer, port: i32) {
    let host = StrBytes::from_static_str("h");
    let node = messages::BrokerId(99);
    answer.node_endpoints.push(NodeEndpoint::default().with_node_id(node).with_host(host).with_port(port));
}

type Spoil = fn(&mut Answer);

/// What is done to answers, and whether batches have their fate all the same.
const NONSENSE: [(&str, bool, Spoil); 9] = [
    ("a negative throttle time", true, |answer| answer.throttle_time_ms = i32::MIN),
    ("everything twice", true, |answer| {
        answer
            .responses
            .iter_mut()
            .for_each(|it| it.partition_responses.extend(it.partition_responses.clone()));
        answer.responses.extend(answer.responses.clone());
    }),
    ("partitions that nothing was sent to", true, |answer| {
        for topic in &mut answer.responses {
            let refused = |index| PartitionProduceResponse::default().with_index(index).with_error_code(87);
            topic.partition_responses.extend([2, -1, i32::MAX].map(refused));
        }
    }),
    ("another topic", true, |answer| {
        let mut others = answer.clone();
        refuse(&mut others);
        others.responses.iter_mut().for_each(|topic| {
            topic.topic_id = uuid::Uuid::from_bytes([9; 16]);
            topic.name = TopicName(StrBytes::from_static_str("nobody's"));
        });
        answer.responses.extend(others.responses);
    }),
    ("an endpoint that cannot be", true, |answer| add_endpoint(answer, 70_000)),
    ("a leader that is not there", false, refuse),
    ("a leader behind an impossible port", false, |answer| {
        refuse(answer);
        add_endpoint(answer, 70_000);
    }),
    ("another topic alone", false, |answer| {
        answer.responses.iter_mut().for_each(|topic| {
            topic.topic_id = uuid::Uuid::from_bytes([9; 16]);
            topic.name = TopicName(StrBytes::from_static_str("nobody's"));
        });
    }),
    ("nothing", false, |answer| answer.responses.clear()),
];

#[test]
fn entries_of_an_answer_that_make_no_sense_lose_nothing_and_write_nothing_twice() {
    for (what, is_harmless, spoil) in NONSENSE {
        for version in [12, 13] {
            let mut world = World::new(version);
            world.spoil = Some(spoil);
            (0..3).for_each(|_| world.send());
            world.live(Duration::from_secs(10));
            let known = world.fates.lock().unwrap().len();
            assert_eq!(known, if is_harmless { 6 } else { 0 }, "{what}, version {version}");
            world.spoil = None;
            world.send();
            world.live(Duration::from_secs(10));
            let fates: Vec<_> =
                world.fates.lock().unwrap().iter().map(|fate| fate.clone().unwrap()).collect();
            assert_eq!(fates.len(), 8, "{what}, version {version}");
            for log in world.logs.values() {
                assert_eq!(log, &[0, 1, 2, 3], "{what}, version {version}");
            }
        }
    }
}

#[test]
fn a_broker_that_asks_for_an_endless_pause_is_written_to_again() {
    let mut world = World::new(13);
    world.spoil = Some(|answer| answer.throttle_time_ms = i32::MAX);
    world.send();
    world.live(Duration::from_secs(1));
    world.spoil = None;
    world.send();
    world.live(Duration::from_secs(290));
    assert_eq!(world.fates.lock().unwrap().len(), 2, "it gets its pause");
    world.live(Duration::from_secs(20));
    assert_eq!(world.fates.lock().unwrap().len(), 4);
}

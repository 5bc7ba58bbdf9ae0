//! A scripted cluster, the machine in an engine, and a clock that the test moves.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::super::*;
use crate::config::ClientConfig;
use crate::consumer::batch::FetchedBatch;
use crate::consumer::model::{Event, ModelLog, Seen};
use crate::engine::{ConnectionId, Engine, Output};
use crate::protocol::header::{ReceivedRequest, encode_response, read_request};
use crate::protocol::limits::Limits;
use crate::protocol::messages::api_versions_response::ApiVersion;
use crate::protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use crate::protocol::messages::{
    self, ApiKey, ApiVersionsResponse, Encodable, FetchRequest, FetchResponse, FindCoordinatorResponse,
    ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetFetchRequest,
    OffsetFetchResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, StrBytes, TopicName,
};

pub(super) const NODES: i32 = 2;
pub(super) const PARTITIONS: i32 = 3;
/// When the model's first record was written; the tests run an hour later.
pub(super) const LOG_TIME_MS: i64 = 1_700_000_000_000;

/// One partition of the topic `t` in the cluster.
#[derive(Default)]
pub(super) struct Part {
    pub(super) log: ModelLog,
    pub(super) leader: i32,
    /// The follower in the client's rack, and how far it has come.
    pub(super) follower: Option<(i32, i64)>,
    pub(super) start: i64,
    /// What a follower's shorter log ended at, with its epoch.
    pub(super) truncated: Option<(i32, i64)>,
}

const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// What a broker remembers of a fetch session: position, epochs and size per partition, and what was told.
#[derive(Default)]
pub(super) struct Session {
    pub(super) epoch: i32,
    pub(super) wanted: BTreeMap<i32, messages::fetch_request::FetchPartition>,
    pub(super) told: BTreeMap<i32, i64>,
}

/// What a client without the right to read a topic may still do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Nothing is missing.
    No,
    /// The topic is described, and not read.
    ButDescribed,
    /// Metadata refuses it, too.
    AtAll,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) engine: Engine<ConsumerMachine>,
    pub(super) buffers: SharedBuffers,
    pub(super) config: ConsumerConfig,
    pub(super) parts: Vec<Part>,
    pub(super) topic_id: u8,
    pub(super) connections: BTreeMap<ConnectionId, i32>,
    pub(super) pending: VecDeque<(ConnectionId, ReceivedRequest)>,
    /// By node and id.
    pub(super) sessions: BTreeMap<(i32, i32), Session>,
    pub(super) last_session: i32,
    pub(super) keeps_sessions: bool,
    pub(super) fetch_version: i16,
    /// How often leaders were asked where an epoch ended, and how they refuse the first times (last first).
    pub(super) epoch_questions: usize,
    pub(super) epoch_refusals: Vec<i16>,
    pub(super) full_fetches: usize,
    pub(super) incremental_fetches: usize,
    pub(super) flip: Option<usize>,
    /// What is done to answers before they are sent.
    pub(super) spoil_fetch: Option<fn(&mut FetchResponse)>,
    pub(super) spoil_metadata: Option<fn(&mut MetadataResponse)>,
    pub(super) spoil_offsets: Option<fn(&mut ListOffsetsResponse)>,
    pub(super) spoil_epochs: Option<fn(&mut OffsetForLeaderEpochResponse)>,
    /// How many answers to fetches end after their header.
    pub(super) bodiless_fetches: u32,
    /// Whether the coordinator leaves out what is asked for, which is that 2 is committed.
    pub(super) forgets_commits: bool,
    /// Where the right to read is missing.
    pub(super) unreadable: Unreadable,
    /// How often a node was asked for a partition, by new requests and by those of a session.
    pub(super) asked: BTreeMap<(i32, i32), usize>,
    pub(super) seen: Vec<Vec<Seen>>,
    pub(super) next: Vec<Option<i64>>,
    pub(super) errors: Vec<Error>,
}

pub(super) fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

/// Whether a checksum covers the byte at `at`: it does not cover base offset, length and leader epoch.
pub(super) fn is_checked(records: &[u8], at: usize) -> bool {
    let mut start = 0;
    while let Some(length) = records.get(start + 8..start + 12) {
        let end = start + 12 + i32::from_be_bytes(length.try_into().unwrap()) as usize;
        if end > records.len() || at < start + 17 {
            return false;
        }
        if at < end {
            return true;
        }
        start = end;
    }
    false
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    pub(super) fn new(change: impl FnOnce(&mut ConsumerConfig)) -> Self {
        let mut config = ConsumerConfig {
            client: ClientConfig::bootstrap("h:9001").unwrap(),
            max_partition_fetch_bytes: 400,
            queued_max_bytes: 3000,
            ..ConsumerConfig::default()
        };
        change(&mut config);
        let buffers = SharedBuffers::new(config.queued_max_bytes);
        let now = Instant::now();
        let machine = ConsumerMachine::new(
            config.clone(),
            WallClock::new(now, LOG_TIME_MS + 3_600_000),
            buffers.clone(),
        );
        let parts = (0..PARTITIONS).map(|index| Part { leader: 1 + index % NODES, ..Part::default() });
        let mut world = Self {
            now,
            engine: Engine::new(now, &config.client, 7, machine),
            buffers,
            config,
            parts: parts.collect(),
            topic_id: 1,
            connections: BTreeMap::new(),
            pending: VecDeque::new(),
            sessions: BTreeMap::new(),
            last_session: 0,
            keeps_sessions: true,
            fetch_version: 17,
            epoch_questions: 0,
            epoch_refusals: Vec::new(),
            full_fetches: 0,
            incremental_fetches: 0,
            flip: None,
            spoil_fetch: None,
            spoil_metadata: None,
            spoil_offsets: None,
            spoil_epochs: None,
            bodiless_fetches: 0,
            forgets_commits: false,
            unreadable: Unreadable::No,
            asked: BTreeMap::new(),
            seen: vec![Vec::new(); PARTITIONS as usize],
            next: vec![None; PARTITIONS as usize],
            errors: Vec::new(),
        };
        world.engine.handle_timeout(now);
        world.drain();
        world
    }

    pub(super) fn assign(&mut self, number: i32, position: impl Into<Position>) {
        let position = position.into();
        let generation = self.buffers.lock().assign_at(&partition(number), position);
        self.next[number as usize] = None;
        self.command(Command::Assign(vec![(partition(number), generation, position)]));
    }

    pub(super) fn assign_all(&mut self, position: Position) {
        (0..PARTITIONS).for_each(|number| self.assign(number, position));
    }

    pub(super) fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Dial { connection, address, .. } => {
                    self.connections.insert(connection, i32::from(address.port) - 9000);
                    self.engine.handle_connected(self.now, connection);
                }
                Output::Login { .. } => panic!("nobody asks who this is"),
                Output::Close { connection } => {
                    self.connections.remove(&connection);
                }
                Output::Transmit { connection, chunks, .. } => {
                    let frame = Bytes::from(chunks.concat());
                    self.pending.push_back((connection, read_request(&frame.slice(4..)).unwrap()));
                }
            }
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut wakes = 0;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            wakes += 1;
            assert!(wakes < 1000, "it is always due: {:?}", self.engine.role());
            self.now = due.max(self.now);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Answers the oldest request; whether there was one.
    pub(super) fn serve(&mut self) -> bool {
        let Some((connection, request)) = self.pending.pop_front() else { return false };
        let Some(node) = self.connections.get(&connection).copied() else { return true };
        let (api, version, id) = (request.api, request.version, request.correlation_id);
        match api {
            ApiKey::ApiVersions => self.answer(connection, (api, version, id), &self.versions()),
            ApiKey::Metadata => {
                request.decode::<MetadataRequest>().unwrap();
                let mut answer = self.metadata();
                self.spoil_metadata.into_iter().for_each(|spoil| spoil(&mut answer));
                self.answer(connection, (api, version, id), &answer);
            }
            ApiKey::ListOffsets => {
                let mut answer = self.list_offsets(node, &request.decode::<ListOffsetsRequest>().unwrap());
                self.spoil_offsets.into_iter().for_each(|spoil| spoil(&mut answer));
                self.answer(connection, (api, version, id), &answer);
            }
            ApiKey::FindCoordinator => {
                let found = Coordinator::default()
                    .with_key("g".into())
                    .with_node_id(messages::BrokerId(1))
                    .with_host("h".into())
                    .with_port(9001);
                let found = FindCoordinatorResponse::default().with_coordinators(vec![found]);
                self.answer(connection, (api, version, id), &found);
            }
            ApiKey::OffsetFetch => {
                let answer = self.committed(&request.decode::<OffsetFetchRequest>().unwrap());
                self.answer(connection, (api, version, id), &answer);
            }
            ApiKey::OffsetForLeaderEpoch => {
                let mut answer =
                    self.ends_of_epochs(node, &request.decode::<OffsetForLeaderEpochRequest>().unwrap());
                self.spoil_epochs.into_iter().for_each(|spoil| spoil(&mut answer));
                self.answer(connection, (api, version, id), &answer);
            }
            ApiKey::Fetch => {
                let mut answer = self.fetch(node, &request.decode::<FetchRequest>().unwrap());
                self.spoil_fetch.into_iter().for_each(|spoil| spoil(&mut answer));
                if self.bodiless_fetches > 0 {
                    self.bodiless_fetches -= 1;
                    return self.answer_with_header_alone(connection, id);
                }
                self.answer(connection, (api, version, id), &answer);
            }
            other => panic!("{other:?}"),
        }
        true
    }

    pub(super) fn answer(
        &mut self,
        connection: ConnectionId,
        header: (ApiKey, i16, i32),
        answer: &impl Encodable,
    ) {
        let chunks = encode_response(header.0, header.1, header.2, answer).unwrap();
        let mut buffer = BytesMut::from(&chunks.concat()[..]);
        self.engine.handle_bytes(self.now, connection, &mut buffer);
        self.drain();
    }

    fn answer_with_header_alone(&mut self, connection: ConnectionId, id: i32) -> bool {
        let tags: &[u8] = if self.fetch_version < 12 { &[] } else { &[0] };
        let frame = [&(4 + tags.len() as i32).to_be_bytes()[..], &id.to_be_bytes(), tags].concat();
        self.engine.handle_bytes(self.now, connection, &mut BytesMut::from(&frame[..]));
        self.drain();
        true
    }

    pub(super) fn versions(&self) -> ApiVersionsResponse {
        let keys = [
            (ApiKey::Metadata, 4, 12),
            (ApiKey::ApiVersions, 0, 4),
            (ApiKey::ListOffsets, 2, 9),
            (ApiKey::FindCoordinator, 4, 4),
            (ApiKey::OffsetFetch, 2, 7),
            (ApiKey::Fetch, 4, self.fetch_version),
            // Brokers as old as Fetch 6 are do not let clients ask.
            (ApiKey::OffsetForLeaderEpoch, 0, if self.fetch_version < 9 { 0 } else { 4 }),
        ];
        let keys = keys.map(|(key, min, max)| {
            ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
        });
        ApiVersionsResponse::default().with_api_keys(keys.to_vec())
    }

    pub(super) fn id(&self) -> uuid::Uuid {
        uuid::Uuid::from_bytes([self.topic_id; 16])
    }

    pub(super) fn metadata(&self) -> MetadataResponse {
        let brokers = (1..=NODES).map(|id| {
            let host = StrBytes::from_static_str("h");
            let broker = MetadataResponseBroker::default().with_node_id(messages::BrokerId(id));
            broker.with_host(host).with_port(9000 + id)
        });
        let partitions = self.parts.iter().enumerate().map(|(index, part)| {
            MetadataResponsePartition::default()
                .with_partition_index(index as i32)
                .with_leader_id(messages::BrokerId(part.leader))
                .with_leader_epoch(part.log.epoch())
        });
        let named =
            MetadataResponseTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("t"))));
        let topic = if self.unreadable == Unreadable::AtAll {
            named.with_error_code(TOPIC_AUTHORIZATION_FAILED)
        } else {
            named.with_topic_id(self.id()).with_partitions(partitions.collect())
        };
        MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_controller_id(messages::BrokerId(1))
            .with_topics(vec![topic])
    }

    pub(super) fn committed(&self, request: &OffsetFetchRequest) -> OffsetFetchResponse {
        let topics = request.topics.iter().flatten().map(|topic| {
            let asked = topic.partition_indexes.iter().filter(|_| !self.forgets_commits);
            let committed = asked.map(|index| {
                let committed = OffsetFetchResponsePartition::default().with_committed_offset(2);
                committed.with_partition_index(*index).with_committed_leader_epoch(-1)
            });
            OffsetFetchResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(committed.collect())
        });
        OffsetFetchResponse::default().with_topics(topics.collect())
    }

    pub(super) fn list_offsets(&self, node: i32, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let partitions = request.topics[0].partitions.iter().map(|asked| {
            let part = &self.parts[asked.partition_index as usize];
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            if part.leader != node {
                return answer.with_error_code(6);
            }
            if self.unreadable == Unreadable::AtAll {
                return answer.with_error_code(TOPIC_AUTHORIZATION_FAILED);
            }
            let end = if request.isolation_level == 1 {
                part.log.last_stable_offset()
            } else {
                part.log.high_watermark()
            };
            let offset = match asked.timestamp {
                -2 => part.start,
                -1 => end,
                asked if asked <= LOG_TIME_MS => part.start,
                _ => -1,
            };
            answer.with_offset(offset).with_leader_epoch(-1)
        });
        let topic = ListOffsetsTopicResponse::default().with_name(TopicName(StrBytes::from_static_str("t")));
        ListOffsetsResponse::default().with_topics(vec![topic.with_partitions(partitions.collect())])
    }

    pub(super) fn fetch(&mut self, node: i32, request: &FetchRequest) -> FetchResponse {
        let refused = |code: i16| FetchResponse::default().with_error_code(code);
        let mut id = request.session_id;
        if request.session_epoch == -1 && id > 0 {
            self.sessions.remove(&(node, id));
            return FetchResponse::default();
        }
        if request.session_epoch <= 0 {
            self.full_fetches += 1;
            self.sessions.remove(&(node, id));
            self.last_session += 1;
            id = self.last_session;
            self.sessions.insert((node, id), Session { epoch: 1, ..Session::default() });
        } else {
            self.incremental_fetches += 1;
            let Some(session) = self.sessions.get_mut(&(node, id)) else { return refused(70) };
            if session.epoch != request.session_epoch {
                return refused(71);
            }
            session.epoch += 1;
        }
        let mut session = self.sessions.remove(&(node, id)).unwrap();
        for forgotten in request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
            session.wanted.remove(forgotten);
            session.told.remove(forgotten);
        }
        for wanted in request.topics.iter().flat_map(|topic| &topic.partitions) {
            session.wanted.insert(wanted.partition, wanted.clone());
        }
        let by_id = request.topics.iter().chain([]).any(|topic| !topic.topic_id.is_nil());
        let mut data = Vec::new();
        for wanted in session.wanted.values() {
            let answer = self.fetch_partition(node, wanted, !request.rack_id.is_empty());
            let ends = answer.high_watermark + answer.last_stable_offset;
            let news = session.told.insert(wanted.partition, ends) != Some(ends);
            let records = answer.records.as_ref().is_some_and(|records| !records.is_empty());
            let moves = answer.diverging_epoch.end_offset >= 0 || answer.preferred_read_replica.0 >= 0;
            if news || records || answer.error_code != 0 || moves {
                data.push(answer);
            }
        }
        if self.keeps_sessions {
            self.sessions.insert((node, id), session);
        } else {
            id = 0;
        }
        let topic = FetchableTopicResponse::default().with_partitions(data);
        let topic = if by_id || self.fetch_version >= 13 {
            topic.with_topic_id(self.id())
        } else {
            topic.with_topic(TopicName(StrBytes::from_static_str("t")))
        };
        FetchResponse::default().with_session_id(id).with_responses(vec![topic])
    }

    pub(super) fn fetch_partition(
        &mut self,
        node: i32,
        wanted: &messages::fetch_request::FetchPartition,
        says_its_rack: bool,
    ) -> PartitionData {
        *self.asked.entry((node, wanted.partition)).or_default() += 1;
        let part = &self.parts[wanted.partition as usize];
        let answer = PartitionData::default().with_partition_index(wanted.partition).with_high_watermark(-1);
        match part.follower {
            Some((follower, reached)) if follower == node && wanted.fetch_offset > reached => {
                return answer.with_error_code(1);
            }
            Some((follower, _)) if follower == node => {}
            Some((follower, reached))
                if part.leader == node && says_its_rack && wanted.fetch_offset <= reached =>
            {
                return answer
                    .with_high_watermark(part.log.high_watermark())
                    .with_last_stable_offset(part.log.last_stable_offset())
                    .with_preferred_read_replica(follower.into());
            }
            _ if part.leader != node => return answer.with_error_code(6),
            _ if self.unreadable != Unreadable::No => {
                return answer.with_error_code(TOPIC_AUTHORIZATION_FAILED);
            }
            _ => {}
        }
        match wanted.current_leader_epoch - part.log.epoch() {
            // Before version 9 it is not said.
            _ if wanted.current_leader_epoch < 0 => {}
            1.. => return answer.with_error_code(75),
            ..0 => return answer.with_error_code(74),
            0 => {}
        }
        if let Some((epoch, end_offset)) = part.truncated
            && wanted.last_fetched_epoch >= 0
            && end_offset < wanted.fetch_offset
        {
            // Whoever reads on from there finds the new leader's records.
            self.parts[wanted.partition as usize].truncated = None;
            let diverging = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
            return answer.with_diverging_epoch(diverging);
        }
        if !(part.start..=part.log.high_watermark()).contains(&wanted.fetch_offset) {
            return answer.with_error_code(1);
        }
        let isolation = self.config.isolation;
        let fetched = part.log.fetch(wanted.fetch_offset, wanted.partition_max_bytes as usize, isolation);
        let mut records = fetched.records;
        if let Some(at) = self.flip.filter(|at| is_checked(&records, *at)) {
            let mut damaged = BytesMut::from(&records[..]);
            damaged[at] ^= 0x10;
            records = damaged.freeze();
            self.flip = None;
        }
        let aborted = fetched.aborted.iter().map(|aborted| {
            AbortedTransaction::default()
                .with_producer_id(messages::ProducerId(aborted.producer_id))
                .with_first_offset(aborted.first_offset)
        });
        answer
            .with_high_watermark(fetched.high_watermark)
            .with_last_stable_offset(fetched.last_stable_offset)
            .with_log_start_offset(part.start)
            .with_aborted_transactions(Some(aborted.collect()))
            .with_records(Some(records))
    }

    /// The application takes up to `count` batches.
    pub(super) fn take(&mut self, count: usize) {
        for _ in 0..count {
            let mut buffers = self.buffers.lock();
            let Some(taken) = buffers.take() else { return };
            let room = buffers.take_room_wanted();
            drop(buffers);
            match taken {
                Ok(taken) => {
                    let batch = FetchedBatch::open(taken.partition, taken.step, &Limits::DEFAULT).unwrap();
                    let index = batch.topic_partition().partition as usize;
                    if let Some(next) = self.next[index].replace(batch.next_offset()) {
                        assert_eq!(batch.base_offset(), next, "steps of {index} join");
                    }
                    self.seen[index].extend(batch.iter().map(|record| Seen {
                        offset: record.offset,
                        timestamp_ms: record.timestamp_ms,
                        value: record.value.unwrap().to_vec(),
                    }));
                }
                Err(error) => self.errors.push(error),
            }
            if room {
                self.command(Command::Room);
            }
        }
    }

    /// Serves, reads and lets time pass until there is nothing new for a while.
    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            for _ in 0..20 {
                self.serve();
                self.take(1);
            }
            self.pass(Duration::from_millis(200));
        }
    }

    pub(super) fn disconnect_all(&mut self) {
        let connections = std::mem::take(&mut self.connections);
        self.pending.clear();
        for connection in connections.into_keys() {
            let error = Error::new(ErrorKind::Network, "reset");
            self.engine.handle_disconnected(self.now, connection, error);
        }
        self.drain();
    }

    pub(super) fn append(&mut self, number: usize, records: u8) {
        let event = Event::Append { producer: None, records, removed: 0, log_append_time: false };
        self.parts[number].log.apply(&event);
    }

    pub(super) fn move_leader(&mut self, number: usize) {
        let part = &mut self.parts[number];
        part.leader = 1 + part.leader % NODES;
        part.follower = None;
        part.log.apply(&Event::NewLeader);
    }
}

//! A client that speaks to a [`Cluster`] directly, on a virtual clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::protocol::header::{encode_request, read_response};
use kafka_wire::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::protocol::messages::fetch_response::PartitionData;
use kafka_wire::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::protocol::messages::produce_response::PartitionProduceResponse;
use kafka_wire::protocol::messages::*;
use kafka_wire::protocol::request::{Plain, Request, Response, api_of};
use kafka_wire::record::{BatchBuilder, batches};
use kafka_wire::{Compression, ProducerIdentity};
use tidewater_broker::{Cluster, ConnectionId, Now, Options, Output, Peer};
use uuid::Uuid;

pub(crate) const TOPIC: &str = "orders";

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(Response),
    NotAnswered,
    Closed,
    Waiting,
}

/// Answers that nobody has asked for yet.
#[derive(Default)]
pub(crate) struct Answers {
    by_connection: HashMap<ConnectionId, Bytes>,
}

impl Answers {
    pub(crate) fn count(&self) -> usize {
        self.by_connection.len()
    }

    pub(crate) fn take<M: Exchange + Send>(
        &mut self,
        connection: ConnectionId,
        version: i16,
    ) -> Option<M::Response> {
        let frame = self.by_connection.remove(&connection)?;
        Some(read_response(&frame, api_of::<M>(), version, 7).unwrap().decode::<M>().unwrap())
    }
}

pub(crate) struct Harness {
    pub(crate) cluster: Cluster,
    pub(crate) now: Now,
    /// Who the requests come from.
    pub(crate) peer: Peer,
    /// How often the cluster was started: its seed.
    pub(crate) runs: u64,
    waiting: Option<(ConnectionId, ApiKey, i16)>,
    /// Answers to requests that were posted.
    kept: Vec<(ConnectionId, Bytes)>,
}

#[allow(clippy::disallowed_methods, reason = "the zero of a virtual clock")]
pub(crate) fn start_of_time() -> Now {
    Now { instant: Instant::now(), unix_ms: 1_000_000 }
}

impl Harness {
    /// A cluster with the topic `orders` of two partitions.
    pub(crate) fn new(options: Options) -> Self {
        let now = start_of_time();
        let cluster = Cluster::new(now, options.with_topic(TOPIC, 2), 1).unwrap();
        Self { cluster, now, peer: Peer::default(), runs: 1, waiting: None, kept: Vec::new() }
    }

    pub(crate) fn topic_id(&mut self) -> Uuid {
        let metadata: MetadataResponse = self.call(12, MetadataRequest::default().with_topics(None));
        metadata.topics.iter().find(|topic| topic.name.as_ref().unwrap().as_str() == TOPIC).unwrap().topic_id
    }

    /// Sends a request to `node` on a connection of its own.
    pub(crate) fn send<M: Exchange + Send>(&mut self, node: i32, version: i16, message: M) -> Outcome {
        let connection = self.cluster.handle_connected_from(node, self.peer.clone());
        self.send_on(connection, version, message)
    }

    /// Sends a request on the connection of the one before.
    pub(crate) fn send_again<M: Exchange + Send>(&mut self, version: i16, message: M) -> Outcome {
        let (connection, _, _) = self.waiting.unwrap();
        self.send_on(connection, version, message)
    }

    fn send_on<M: Exchange + Send>(&mut self, connection: ConnectionId, version: i16, message: M) -> Outcome {
        self.submit(connection, version, &Plain::new(message))
    }

    fn submit(&mut self, connection: ConnectionId, version: i16, request: &dyn Request) -> Outcome {
        let chunks = encode_request(request, version, 7, Some("test")).unwrap();
        let frame = Bytes::from(chunks.concat()).slice(4..);
        self.cluster.handle_request(self.now, connection, frame);
        self.waiting = Some((connection, request.api(), version));
        self.outcome()
    }

    /// Asks node 0, which answers at once, what `kafka-protocol` cannot write.
    pub(crate) fn ask(&mut self, request: &dyn Request, version: i16) -> Response {
        let connection = self.cluster.handle_connected_from(0, self.peer.clone());
        match self.submit(connection, version, request) {
            Outcome::Answered(response) => response,
            other => panic!("{:?} version {version}: {other:?}", request.api()),
        }
    }

    /// Sends a request to `node` on a connection of its own, whose answer is collected later.
    pub(crate) fn post<M: Exchange + Send>(&mut self, node: i32, version: i16, message: M) -> ConnectionId {
        let connection = self.cluster.handle_connected(node);
        let chunks = encode_request(&Plain::new(message), version, 7, Some("test")).unwrap();
        let frame = Bytes::from(chunks.concat()).slice(4..);
        self.cluster.handle_request(self.now, connection, frame);
        connection
    }

    /// Takes what was answered by now, to whomever.
    pub(crate) fn collect(&mut self, answers: &mut Answers) {
        self.keep_outputs();
        for (connection, frame) in self.kept.drain(..) {
            answers.by_connection.insert(connection, frame);
        }
    }

    fn keep_outputs(&mut self) {
        while let Some(output) = self.cluster.poll_output() {
            self.keep(output);
        }
    }

    fn keep(&mut self, output: Output) {
        if let Output::Send { connection, frame } = output {
            self.kept.push((connection, Bytes::from(frame.concat()).slice(4..)));
        }
    }

    /// What became of the last request by now.
    pub(crate) fn outcome(&mut self) -> Outcome {
        let (asked, api, version) = self.waiting.unwrap();
        while let Some(output) = self.cluster.poll_output() {
            match output {
                Output::Send { connection, frame } if connection == asked => {
                    let frame = Bytes::from(frame.concat());
                    let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
                    assert_eq!(length as usize, frame.len() - 4);
                    return Outcome::Answered(read_response(&frame.slice(4..), api, version, 7).unwrap());
                }
                Output::Continue { connection } if connection == asked => return Outcome::NotAnswered,
                Output::Close { connection } if connection == asked => return Outcome::Closed,
                other => self.keep(other),
            }
        }
        Outcome::Waiting
    }

    /// Lets time pass, from one deadline of the cluster to the next.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now.instant + by;
        while let Some(deadline) = self.cluster.poll_timeout().filter(|deadline| *deadline <= end) {
            self.advance_to(deadline.max(self.now.instant));
        }
        self.advance_to(end);
    }

    fn advance_to(&mut self, instant: Instant) {
        self.now.unix_ms += (instant - self.now.instant).as_millis() as i64;
        self.now.instant = instant;
        self.cluster.handle_timeout(self.now);
    }

    /// Sends a request to node 0, which answers at once.
    pub(crate) fn call<M: Exchange + Send>(&mut self, version: i16, message: M) -> M::Response {
        self.call_node(0, version, message)
    }

    pub(crate) fn call_node<M: Exchange + Send>(
        &mut self,
        node: i32,
        version: i16,
        message: M,
    ) -> M::Response {
        match self.send(node, version, message) {
            Outcome::Answered(response) => response.decode::<M>().unwrap(),
            other => panic!("{:?} version {version}: {other:?}", api_of::<M>()),
        }
    }

    pub(crate) fn produce(&mut self, version: i16, partition: i32, batch: Bytes) -> PartitionProduceResponse {
        let id = self.topic_id();
        let response = self.call(version, produce_request(version, id, partition, batch, None));
        response.responses[0].partition_responses[0].clone()
    }

    pub(crate) fn produce_in_transaction(
        &mut self,
        version: i16,
        transactional_id: &str,
        partition: i32,
        batch: Bytes,
    ) -> i16 {
        let id = self.topic_id();
        let request = produce_request(version, id, partition, batch, Some(transactional_id));
        self.call(version, request).responses[0].partition_responses[0].error_code
    }

    /// From here on requests come from this user, such as `alice`.
    pub(crate) fn be(&mut self, user: &str) {
        self.peer.principal = Some(format!("User:{user}"));
    }

    /// Fetches without waiting.
    pub(crate) fn fetch(&mut self, partition: i32, offset: i64, read_committed: bool) -> PartitionData {
        let mut request = fetch_request(12, Uuid::nil(), partition, offset);
        request.max_wait_ms = 0;
        request.isolation_level = i8::from(read_committed);
        self.call(12, request).responses[0].partitions[0].clone()
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name() -> TopicName {
    TopicName(text(TOPIC))
}

pub(crate) fn produce_request(
    version: i16,
    topic_id: Uuid,
    partition: i32,
    batch: Bytes,
    transactional_id: Option<&str>,
) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let mut topic = TopicProduceData::default().with_partition_data(vec![data]);
    if version >= 13 {
        topic.topic_id = topic_id;
    } else {
        topic.name = topic_name();
    }
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
        .with_topic_data(vec![topic])
}

/// Waits up to a second for a byte.
pub(crate) fn fetch_request(version: i16, topic_id: Uuid, partition: i32, offset: i64) -> FetchRequest {
    let mut wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    wanted.current_leader_epoch = -1;
    let mut topic = FetchTopic::default().with_partitions(vec![wanted]);
    if version >= 13 {
        topic.topic_id = topic_id;
    } else {
        topic.topic = topic_name();
    }
    let mut request = FetchRequest::default()
        .with_max_wait_ms(1000)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
        .with_session_id(0)
        .with_session_epoch(-1);
    if version < 15 {
        request.replica_id = BrokerId(-1);
    }
    request
}

/// A batch of records with these values, at time 1000 and later by one.
pub(crate) fn batch(
    values: &[&str],
    producer: Option<(ProducerIdentity, i32)>,
    transactional: bool,
) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE, 1024);
    for (value, at) in values.iter().zip(1000..) {
        builder.append(at, None, Some(value.as_bytes()), &[]).unwrap();
    }
    let (identity, sequence) = producer.unzip();
    builder.seal().to_bytes(identity, sequence.unwrap_or(0), transactional).freeze()
}

/// Offsets and values of the data records in fetched bytes; control records are left out.
pub(crate) fn records(bytes: &Option<Bytes>) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for batch in batches(bytes.clone().unwrap_or_default()) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        if batch.control().unwrap().is_some() {
            continue;
        }
        let records = batch.open(&kafka_wire::protocol::limits::Limits::DEFAULT).unwrap();
        for record in records.iter() {
            found.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    found
}

pub(crate) fn values(bytes: &Option<Bytes>) -> Vec<String> {
    records(bytes).into_iter().map(|(_, value)| value).collect()
}

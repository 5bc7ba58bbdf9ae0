//! The broker over sockets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;
use kafka_wire::protocol::header::{encode_request, read_response};
use kafka_wire::protocol::messages::*;
use kafka_wire::protocol::request::{Plain, api_of};
use tidewater_broker::{EmbeddedBroker, Options};
use uuid::Uuid;

use crate::harness::*;

struct Connection(TcpStream);

impl Connection {
    fn open(broker: &EmbeddedBroker, node: usize) -> Self {
        Self(TcpStream::connect(broker.addresses()[node]).unwrap())
    }

    fn send<M: Exchange + Send>(&mut self, version: i16, id: i32, message: M) {
        let chunks = encode_request(&Plain::new(message), version, id, None).unwrap();
        self.0.write_all(&chunks.concat()).unwrap();
    }

    fn receive<M: Exchange>(&mut self, version: i16, id: i32) -> M::Response {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame).unwrap();
        read_response(&Bytes::from(frame), api_of::<M>(), version, id).unwrap().decode::<M>().unwrap()
    }

    fn ends(mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

fn produce(value: &str, acks: i16) -> ProduceRequest {
    produce_request(9, Uuid::nil(), 0, batch(&[value], None, false), None).with_acks(acks)
}

#[test]
fn requests_of_one_connection_are_answered_in_order() {
    let broker = EmbeddedBroker::start(Options::default().with_topic(TOPIC, 1)).unwrap();
    let mut connection = Connection::open(&broker, 0);
    let large = "x".repeat(500_000);
    for id in 0..20 {
        connection.send(9, id, produce(if id % 2 == 0 { &large } else { "small" }, -1));
    }
    connection.send(9, 20, produce("not answered", 0));
    connection.send(12, 21, fetch_request(12, Uuid::nil(), 0, 19));
    for id in 0..20 {
        let answer = connection.receive::<ProduceRequest>(9, id);
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, i64::from(id));
    }
    let fetched = connection.receive::<FetchRequest>(12, 21);
    assert_eq!(values(&fetched.responses[0].partitions[0].records), ["small", "not answered"]);
    connection.send(12, 22, fetch_request(12, Uuid::nil(), 0, 0).with_max_bytes(i32::MAX));
    let fetched = connection.receive::<FetchRequest>(12, 22);
    assert_eq!(values(&fetched.responses[0].partitions[0].records)[0], large);
}

#[test]
fn a_waiting_fetch_is_woken_by_another_connection() {
    let broker = EmbeddedBroker::start(Options::default().with_topic(TOPIC, 1)).unwrap();
    let (mut reader, mut writer) = (Connection::open(&broker, 0), Connection::open(&broker, 0));
    reader.send(12, 1, fetch_request(12, Uuid::nil(), 0, 0).with_max_wait_ms(600_000));
    writer.send(9, 1, produce("news", 1));
    writer.receive::<ProduceRequest>(9, 1);
    let fetched = reader.receive::<FetchRequest>(12, 1);
    assert_eq!(values(&fetched.responses[0].partitions[0].records), ["news"]);
}

#[test]
fn a_newer_client_learns_what_is_served_and_strangers_are_closed() {
    let broker = EmbeddedBroker::start(Options::default()).unwrap();
    let mut connection = Connection::open(&broker, 0);
    // ApiVersions version 9, which nobody serves, is answered in version 0.
    connection.0.write_all(&[0, 0, 0, 12, 0, 18, 0, 9, 0, 0, 0, 5, 0xff, 0xff, 0, 0]).unwrap();
    let answer = connection.receive::<ApiVersionsRequest>(0, 5);
    assert_eq!(answer.error_code, 35);
    assert!(answer.api_keys.iter().any(|api| api.api_key == ApiKey::Produce as i16));
    for hostile in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 8, 0, 99, 0, 0, 0, 0, 0, 1],
        // Metadata version 0 with an array of two billion topics.
        &[0, 0, 0, 14, 0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
    ] {
        let mut connection = Connection::open(&broker, 0);
        connection.0.write_all(hostile).unwrap();
        assert!(connection.ends(), "{hostile:?}");
    }
}

#[test]
fn a_stopped_node_takes_no_connections_until_it_is_started() {
    let broker = EmbeddedBroker::start(Options { nodes: 2, ..Options::default() }).unwrap();
    // However far it has got with accepting them.
    for _ in 0..20 {
        let before = Connection::open(&broker, 1);
        broker.control(|cluster, now| cluster.stop_node(now, 1));
        assert!(before.ends());
        assert!(Connection::open(&broker, 1).ends());
        broker.control(|cluster, _| cluster.start_node(1));
    }
    let mut after = Connection::open(&broker, 1);
    after.send(3, 1, ApiVersionsRequest::default());
    assert_eq!(after.receive::<ApiVersionsRequest>(3, 1).error_code, 0);
    let address = broker.addresses()[0];
    broker.stop();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_moved_node_is_found_at_its_new_address() {
    let broker = EmbeddedBroker::start(Options { nodes: 2, ..Options::default() }).unwrap();
    for _ in 0..20 {
        let before = Connection::open(&broker, 1);
        broker.move_node(1).unwrap();
        assert!(before.ends(), "however far it has got with accepting it");
    }
    let old = broker.addresses()[1];
    let new = broker.move_node(1).unwrap();
    let mut after = Connection::open(&broker, 1);
    after.send(12, 1, MetadataRequest::default().with_topics(None));
    let brokers = after.receive::<MetadataRequest>(12, 1).brokers;
    assert_eq!(brokers[1].port, i32::from(new.port()));
    // The old port was let go before the new one was listened to.
    assert!(old != new && TcpStream::connect(old).is_err());
    assert!(broker.bootstrap().ends_with(&new.to_string()));
    assert!(broker.move_node(7).is_err());
}

//! The cluster goes away, comes back elsewhere, or stops answering; a client that is left alone heals.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig, Properties};
use kafka_wire::{Admin, Consumer, ErrorCode, NewTopic, Position, Producer, Record, TopicPartition};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule, TopicOptions};

use crate::tls::{TlsFront, certificate};
use crate::{block_on, broker};

/// An address that stays while what is behind it changes: as a name in DNS does.
struct Front {
    address: SocketAddr,
    behind: Arc<Mutex<SocketAddr>>,
}

impl Front {
    fn start(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let behind = Arc::new(Mutex::new(behind));
        let target = Arc::clone(&behind);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(*target.lock().unwrap()) else { continue };
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    thread::spawn(move || {
                        // Either side may end it.
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { address, behind }
    }
}

fn properties(bootstrap: &str) -> Properties {
    let mut properties = Properties::new();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
        ("linger.ms", "0"),
        ("retry.backoff.ms", "5"),
        ("reconnect.backoff.ms", "5"),
        ("reconnect.backoff.max.ms", "50"),
        ("fetch.max.wait.ms", "50"),
    ] {
        properties.set(name, value).unwrap();
    }
    properties
}

fn producer(properties: &Properties) -> Producer {
    Producer::new(ProducerConfig::from_properties(properties).unwrap()).unwrap()
}

fn consumer(properties: &Properties) -> Consumer {
    let mut consumer = Consumer::new(ConsumerConfig::from_properties(properties).unwrap()).unwrap();
    consumer.assign([(TopicPartition::new("t", 0), Position::Beginning)]).unwrap();
    consumer
}

/// Polls until a record comes, and gives its value.
fn next(consumer: &mut Consumer) -> String {
    for _ in 0..600 {
        let batch = consumer.poll_blocking(Duration::from_millis(100)).unwrap();
        let mut values = batch.iter().map(|record| record.value.unwrap_or_default().to_vec());
        if let Some(value) = values.next() {
            assert!(values.next().is_none(), "one record at a time is written here");
            return String::from_utf8(value).unwrap();
        }
    }
    panic!("no record in a minute");
}

fn send(producer: &Producer, value: &str) {
    block_on(producer.send(Record::to("t").value(value))).unwrap();
}

/// All brokers go away and come back with other addresses; the bootstrap servers' names lead to the new ones.
#[test]
fn clients_follow_a_cluster_that_comes_back_elsewhere() {
    let data = tempfile::tempdir().unwrap();
    let start = || {
        let topics = vec![TopicOptions::new("t", 1)];
        broker(Options { nodes: 2, data: Some(data.path().to_owned()), topics, ..Options::default() })
    };
    let first = start();
    let front = Front::start(first.addresses()[0]);
    let properties = properties(&front.address.to_string());
    let (producer, mut consumer) = (producer(&properties), consumer(&properties));
    send(&producer, "before");
    assert_eq!(next(&mut consumer), "before");
    let taken = first.addresses().to_vec();
    first.stop();
    // So that the new brokers cannot have the old ports.
    let _taken: Vec<_> = taken.iter().filter_map(|address| TcpListener::bind(address).ok()).collect();
    let waiting = producer.enqueue_blocking(Record::to("t").value("meanwhile")).unwrap();
    let second = start();
    assert!(second.addresses().iter().all(|address| !taken.contains(address)));
    *front.behind.lock().unwrap() = second.addresses()[1];
    block_on(waiting).unwrap();
    assert_eq!(next(&mut consumer), "meanwhile");
    send(&producer, "after");
    assert_eq!(next(&mut consumer), "after");
}

/// All brokers were gone, and kept what they knew of the group: the member stays one, and reads on where it had
/// committed, by itself.
#[test]
fn members_of_a_group_read_on_after_all_brokers_were_gone() {
    for protocol in ["classic", "consumer"] {
        let data = tempfile::tempdir().unwrap();
        let start = || {
            let (topics, data) = (vec![TopicOptions::new("t", 1)], Some(data.path().to_owned()));
            broker(Options { nodes: 2, data, topics, ..Options::default() })
        };
        let first = start();
        let front = Front::start(first.addresses()[0]);
        let mut properties = properties(&front.address.to_string());
        let producer = producer(&properties);
        for (name, value) in
            [("group.id", "g"), ("group.protocol", protocol), ("auto.offset.reset", "earliest")]
        {
            properties.set(name, value).unwrap();
        }
        let mut member = Consumer::new(ConsumerConfig::from_properties(&properties).unwrap()).unwrap();
        member.subscribe(["t"]).unwrap();
        send(&producer, "before");
        assert_eq!(next(&mut member), "before");
        member.commit_blocking().unwrap();
        let members = first.control(|cluster, _| cluster.group_members("g"));
        assert_eq!(members.len(), 1, "{protocol}");
        first.stop();
        let second = start();
        *front.behind.lock().unwrap() = second.addresses()[1];
        for round in 0..3 {
            let value = format!("after {round}");
            send(&producer, &value);
            assert_eq!(next(&mut member), value, "{protocol}");
            member.commit_blocking().unwrap();
        }
        assert_eq!(second.control(|cluster, _| cluster.group_members("g")), members, "{protocol}");
        assert_eq!(second.control(|cluster, _| cluster.committed_offset("g", "t", 0)), Some(4), "{protocol}");
    }
}

/// The new topic's leader is another broker, and its epochs begin at 0 again: nobody stays with the old one.
#[test]
fn a_topic_that_is_created_anew_is_written_and_read_on() {
    let broker = broker(Options { nodes: 2, ..Options::default() }.with_topic("t", 1));
    let mut properties = properties(&broker.bootstrap());
    properties.set("auto.offset.reset", "earliest").unwrap();
    let (producer, mut consumer) = (producer(&properties), consumer(&properties));
    let admin = Admin::new(ClientConfig::from_properties(&properties).unwrap()).unwrap();
    for round in 0..3 {
        for leader in [0, 1, 0, 1] {
            broker.control(|cluster, now| cluster.move_leader(now, "t", 0, leader));
            let value = format!("round {round}, leader {leader}");
            send(&producer, &value);
            assert_eq!(next(&mut consumer), value);
        }
        block_on(admin.delete_topics(["t"])).unwrap().remove(0).1.unwrap();
        block_on(admin.create_topics([NewTopic::new("t", 1)])).unwrap().remove(0).1.unwrap();
        broker.control(|cluster, now| cluster.move_leader(now, "t", 0, 0));
    }
}

/// Who leads a partition now is told with the refusal (KIP-951): it takes no metadata, of which there is none here.
#[test]
fn a_leader_that_has_moved_is_found_by_the_answer_of_the_old_one() {
    let broker = broker(Options { nodes: 2, ..Options::default() }.with_topic("t", 1));
    let properties = properties(&broker.bootstrap());
    let (producer, mut consumer) = (producer(&properties), consumer(&properties));
    send(&producer, "before");
    assert_eq!(next(&mut consumer), "before");
    broker.add_rule(Rule::new(Action::Error(ErrorCode::LEADER_NOT_AVAILABLE)).api(ApiKey::Metadata));
    for leader in [0, 1, 0, 1] {
        broker.control(|cluster, now| cluster.move_leader(now, "t", 0, leader));
        let value = format!("leader {leader}");
        send(&producer, &value);
        assert_eq!(next(&mut consumer), value);
    }
}

/// A line that is open and dead: a load balancer has forgotten it, or the broker hangs.
#[test]
fn a_line_that_nobody_answers_on_is_given_up_and_replaced() {
    let topics = vec![TopicOptions::new("t", 1)];
    let broker = broker(Options { topics, ..Options::default() });
    let mut properties = properties(&broker.bootstrap());
    properties.set("request.timeout.ms", "300").unwrap();
    let (producer, mut consumer) = (producer(&properties), consumer(&properties));
    for (number, api) in
        [ApiKey::Metadata, ApiKey::ApiVersions, ApiKey::Produce, ApiKey::Fetch, ApiKey::ListOffsets]
            .into_iter()
            .enumerate()
    {
        broker.add_rule(Rule::new(Action::Ignore).api(api).times(1));
        send(&producer, &number.to_string());
        assert_eq!(next(&mut consumer), number.to_string(), "after {api:?} was not answered");
    }
}

/// A server with a wrong certificate, and one that speaks no TLS at all, beside a good one.
#[test]
fn bad_servers_in_the_list_do_no_harm_beside_a_good_one() {
    let broker = broker(Options::default());
    let good = TlsFront::start(&broker, "good");
    let elsewhere = TlsFront::start(&broker, "elsewhere");
    let port = |address: SocketAddr| format!("localhost:{}", address.port());
    let servers = [port(elsewhere.address), port(broker.addresses()[0]), port(good.address)].join(",");
    let mut properties = properties(&servers);
    properties.set("security.protocol", "SSL").unwrap();
    properties.set("ssl.truststore.location", certificate("authority.pem").to_str().unwrap()).unwrap();
    // Which server is asked first is drawn by lot.
    for _ in 0..10 {
        let admin = Admin::new(ClientConfig::from_properties(&properties).unwrap()).unwrap();
        assert_eq!(block_on(admin.describe_cluster()).unwrap().brokers.len(), 1);
    }
}

#[test]
fn a_consumer_is_dropped_at_once_whatever_has_become_of_its_topic_and_brokers() {
    let start = || broker(Options { topics: vec![TopicOptions::new("t", 1)], ..Options::default() });
    let deleted: fn(EmbeddedBroker) = |broker| {
        let admin = Admin::new(ClientConfig::bootstrap(&broker.bootstrap()).unwrap()).unwrap();
        block_on(admin.delete_topics(["t"])).unwrap();
    };
    let stopped: fn(EmbeddedBroker) = EmbeddedBroker::stop;
    let silent: fn(EmbeddedBroker) = |broker| {
        broker.add_rule(Rule::new(Action::Ignore));
        // It goes on without an owner, and answers nothing.
        std::mem::forget(broker);
    };
    for happen in [deleted, stopped, silent] {
        let broker = start();
        let properties = properties(&broker.bootstrap());
        let (producer, mut consumer) = (producer(&properties), consumer(&properties));
        send(&producer, "x");
        assert_eq!(next(&mut consumer), "x");
        happen(broker);
        // What it hears of it is not the question here.
        let _ = consumer.poll_blocking(Duration::from_millis(50));
        let (done, dropped) = mpsc::channel();
        thread::spawn(move || {
            drop(consumer);
            done.send(()).unwrap();
        });
        // Only a guard against hanging for ever; a minute is far beyond any schedule.
        assert!(dropped.recv_timeout(Duration::from_secs(60)).is_ok());
    }
}

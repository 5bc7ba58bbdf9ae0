//! Names that lead nowhere, elsewhere, or to where only the application knows.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use kafka_wire::config::{Backoff, ClientConfig, ConsumerConfig, HostResolver, ProducerConfig};
use kafka_wire::{Admin, Consumer, Position, Producer, Record, TopicPartition};
use tidewater_broker::{EmbeddedBroker, Options};

use crate::{block_on, broker};

const NAME: &str = "kafka.test";
const PORT: u16 = 9092;

/// A name service that a test can change.
#[derive(Clone, Default)]
struct Names(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    addresses: BTreeMap<String, SocketAddr>,
    /// How often a name was asked for that leads nowhere.
    failures: usize,
}

impl Names {
    fn set(&self, name: &str, address: SocketAddr) {
        self.0.0.lock().unwrap().addresses.insert(name.to_owned(), address);
    }

    fn resolver(&self) -> HostResolver {
        let names = self.clone();
        HostResolver::new(move |broker| {
            let mut state = names.0.0.lock().unwrap();
            match state.addresses.get(&broker.host) {
                Some(address) => Ok(vec![*address]),
                None => {
                    state.failures += 1;
                    names.0.1.notify_all();
                    Err(io::Error::new(io::ErrorKind::NotFound, "no such name"))
                }
            }
        })
    }

    /// Waits until names were asked for in vain so often.
    fn wait_for_failures(&self, count: usize) {
        let state = self.0.0.lock().unwrap();
        let is_missing = |state: &mut State| state.failures < count;
        // Only a guard against hanging for ever.
        let waited = self.0.1.wait_timeout_while(state, Duration::from_secs(60), is_missing).unwrap();
        assert!(!waited.1.timed_out(), "nobody asks any more");
    }
}

/// A broker that tells clients its name, whatever address it has.
fn named(broker: &EmbeddedBroker) -> SocketAddr {
    broker.control(|cluster, _| cluster.set_address(0, NAME, PORT));
    broker.addresses()[0]
}

fn client(servers: &str, names: &Names) -> ClientConfig {
    let mut client = ClientConfig::bootstrap(servers).unwrap();
    client.host_resolver = Some(names.resolver());
    client.reconnect_backoff = Backoff { initial: Duration::from_millis(5), max: Duration::from_millis(50) };
    client
}

fn producer(names: &Names) -> Producer {
    let client = client(&format!("{NAME}:{PORT}"), names);
    Producer::new(ProducerConfig { client, ..ProducerConfig::default() }).unwrap()
}

fn consumer(names: &Names) -> Consumer {
    let client = client(&format!("{NAME}:{PORT}"), names);
    let mut consumer = Consumer::new(ConsumerConfig { client, ..ConsumerConfig::default() }).unwrap();
    consumer.assign([(TopicPartition::new("t", 0), Position::Beginning)]).unwrap();
    consumer
}

fn next(consumer: &mut Consumer) -> String {
    let batch = consumer.poll_blocking(Duration::from_secs(60)).unwrap();
    let values: Vec<_> = batch.iter().map(|record| record.value.unwrap_or_default()).collect();
    assert_eq!(values.len(), 1, "one record at a time is written here");
    String::from_utf8(values[0].to_vec()).unwrap()
}

/// Nothing can be resolved when the clients start, and for a while; then it can.
#[test]
fn clients_that_start_before_their_names_can_be_resolved_wait_for_it() {
    let broker = broker(Options::default().with_topic("t", 1));
    let address = named(&broker);
    let names = Names::default();
    let (producer, mut consumer) = (producer(&names), consumer(&names));
    let sent = thread::spawn(move || block_on(producer.send(Record::to("t").value("early"))));
    let read = thread::spawn(move || next(&mut consumer));
    names.wait_for_failures(20);
    assert!(!sent.is_finished() && !read.is_finished(), "no failure is theirs to hear of yet");
    names.set(NAME, address);
    assert_eq!(sent.join().unwrap().unwrap().offset, Some(0));
    assert_eq!(read.join().unwrap(), "early");
}

/// The name of a broker leads to another address from now on: it has moved.
#[test]
fn a_broker_whose_name_leads_elsewhere_is_followed() {
    let broker = broker(Options::default().with_topic("t", 1));
    let names = Names::default();
    names.set(NAME, named(&broker));
    let (producer, mut consumer) = (producer(&names), consumer(&names));
    for round in 0..3 {
        let value = format!("round {round}");
        block_on(producer.send(Record::to("t").value(&value))).unwrap();
        assert_eq!(next(&mut consumer), value);
        let before = broker.addresses()[0];
        broker.move_node(0).unwrap();
        names.set(NAME, named(&broker));
        assert_ne!(broker.addresses()[0], before);
    }
}

/// A resolver that hangs, one that panics and one that knows no address are like any server that cannot be reached.
#[test]
fn names_that_cannot_be_resolved_do_no_harm_beside_one_that_can() {
    let broker = broker(Options::default());
    let address = broker.addresses()[0];
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let resolver = HostResolver::new(move |broker| match broker.host.as_str() {
        "hangs.test" => {
            // Until the test is over.
            let _ = ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
            Ok(vec![])
        }
        "panics.test" => panic!("the application's fault"),
        "empty.test" => Ok(vec![]),
        _ => Ok(vec![address]),
    });
    let mut config =
        ClientConfig::bootstrap("hangs.test:1,panics.test:1,empty.test:1,kafka.test:9092").unwrap();
    config.host_resolver = Some(resolver);
    config.connection_setup_timeout = Duration::from_millis(200);
    config.connection_setup_timeout_max = Duration::from_secs(5);
    // Which server is asked first is drawn by lot.
    for _ in 0..10 {
        let admin = Admin::new(config.clone()).unwrap();
        assert_eq!(block_on(admin.describe_cluster()).unwrap().brokers.len(), 1);
    }
    drop(end);
}

//! The end of a client, closed or dropped, in every state: it comes, and whatever was asked is answered.

use std::net::TcpListener;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use kafka_wire::config::{
    AcknowledgementMode, ClientConfig, ConsumerConfig, GroupProtocol, OffsetReset, ProducerConfig,
    Properties, ShareConsumerConfig,
};
use kafka_wire::record::BatchBuilder;
use kafka_wire::{
    Admin, CloseOptions, CommittedOffset, Compression, Consumer, ErrorKind, Position, Producer, Record,
    ShareConsumer, TopicPartition, TransactionalProducer,
};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule};

use crate::cancel::dropped_at;
use crate::{admin, block_on, broker, share};

/// Nothing that ends takes so long, unless it waits for an answer that never comes.
const GUARD: Duration = Duration::from_secs(25);

/// What a client is given to close.
const SHORT: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Close,
    Drop,
}

/// Ends one client, and waits for the answers to what it was asked last.
type End = Box<dyn FnOnce(Way) + Send>;

/// Ends all of them at the same time.
fn end_all(state: &str, way: Way, ends: Vec<(&'static str, End)>) {
    let (ended, heard) = mpsc::channel();
    let mut open: Vec<&str> = ends.iter().map(|(name, _)| *name).collect();
    for (name, end) in ends {
        let ended = ended.clone();
        thread::spawn(move || {
            end(way);
            ended.send(name).unwrap();
        });
    }
    drop(ended);
    while !open.is_empty() {
        let Ok(name) = heard.recv_timeout(GUARD) else { panic!("{state}, {way:?}: {open:?} do not end") };
        open.retain(|it| *it != name);
    }
}

fn properties(bootstrap: &str, settings: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::new();
    for (name, value) in [("bootstrap.servers", bootstrap)].iter().chain(settings) {
        properties.set(*name, *value).unwrap();
    }
    properties
}

fn at() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn record(value: &str) -> Record<'_> {
    Record::to("t").partition(0).value(value)
}

/// What is to be done with a client once the state has come about.
type Act = Box<dyn FnOnce() -> End>;

/// With 32 KiB of memory, which is soon full.
fn producer(bootstrap: &str, is_up: bool) -> Act {
    let settings = [("buffer.memory", "32768"), ("batch.size", "16384")];
    let config = ProducerConfig::from_properties(&properties(bootstrap, &settings)).unwrap();
    let producer = Producer::new(config).unwrap();
    if is_up {
        block_on(producer.send(record("first"))).unwrap();
    }
    Box::new(move || {
        let mut receipts = Vec::new();
        let text = "x".repeat(1000);
        while let Ok(receipt) = producer.try_enqueue(record(&text)) {
            receipts.push(receipt);
            // Where records are taken it never gets full.
            if receipts.len() == 1000 {
                break;
            }
        }
        drop(dropped_at(0, producer.enqueue(record(&text))));
        dropped_at(0, producer.flush());
        Box::new(move |way| {
            if way == Way::Close {
                let blocked = [0; 3].map(|_| {
                    let (producer, text) = (producer.clone(), text.clone());
                    thread::spawn(move || block_on(producer.send(record(&text))).map(drop))
                });
                block_on(producer.close(SHORT)).unwrap();
                for sender in blocked {
                    // Sent before the end or not: it is told.
                    if let Err(error) = sender.join().unwrap() {
                        assert_ne!(error.kind(), ErrorKind::Timeout, "{error}");
                    }
                }
                assert_eq!(block_on(producer.send(record("late"))).unwrap_err().kind(), ErrorKind::Closed);
                block_on(producer.flush());
            }
            drop(producer);
            receipts.into_iter().for_each(|receipt| drop(block_on(receipt)));
        })
    })
}

fn transactional(bootstrap: &str, is_up: bool) -> Act {
    let settings = [("transactional.id", "job")];
    let config = ProducerConfig::from_properties(&properties(bootstrap, &settings)).unwrap();
    let producer = TransactionalProducer::new(&config).unwrap();
    if is_up {
        block_on(producer.init()).unwrap();
        producer.begin().unwrap();
    }
    Box::new(move || {
        let begun = dropped_at(0, producer.init());
        assert!(is_up || begun.is_none());
        let mut builder = BatchBuilder::new(Compression::NONE, 100);
        builder.append(1, None, Some(b"open"), &[]).unwrap();
        let receipt = producer.produce(at(), builder.seal()).unwrap();
        let commit = producer.commit();
        Box::new(move |way| {
            if way == Way::Close {
                block_on(producer.close(SHORT)).unwrap();
                assert_eq!(block_on(producer.commit()).unwrap_err().kind(), ErrorKind::Closed);
            }
            drop(producer);
            drop(block_on(receipt));
            drop(block_on(commit));
        })
    })
}

fn consumer(bootstrap: &str, is_up: bool, group: Option<GroupProtocol>) -> Act {
    let mut config = ConsumerConfig {
        client: ClientConfig::bootstrap(bootstrap).unwrap(),
        group_id: Some(format!("group-{group:?}")),
        auto_offset_reset: OffsetReset::Earliest,
        fetch_max_wait: Duration::from_millis(50),
        ..ConsumerConfig::default()
    };
    config.group.protocol = group.unwrap_or_default();
    let mut consumer = Consumer::new(config).unwrap();
    match group {
        Some(_) => consumer.subscribe(["t"]).unwrap(),
        None => consumer.assign([(at(), Position::Beginning)]).unwrap(),
    }
    if is_up {
        assert!(!consumer.poll_blocking(GUARD).unwrap().is_empty());
    }
    Box::new(move || {
        drop(dropped_at(0, consumer.poll(GUARD)));
        drop(dropped_at(0, consumer.committed([at()])));
        let (answer, answered) = mpsc::channel();
        let offset = CommittedOffset { offset: 1, leader_epoch: None, metadata: String::new() };
        consumer.commit_async([(at(), offset)], move |outcome| answer.send(outcome).unwrap()).unwrap();
        let described = consumer.describe_topic("unheard of");
        Box::new(move |way| {
            match way {
                Way::Close => {
                    let options = CloseOptions { timeout: SHORT, ..CloseOptions::default() };
                    // What could not be done in this time is not the question here.
                    drop(block_on(consumer.close_with(options)));
                }
                Way::Drop => drop(consumer),
            }
            drop(answered.recv().expect("an answer"));
            assert!(block_on(described).is_err());
        })
    })
}

fn share_consumer(bootstrap: &str, is_up: bool) -> Act {
    let mut consumer = ShareConsumer::new(ShareConsumerConfig {
        client: ClientConfig::bootstrap(bootstrap).unwrap(),
        group_id: Some("g".to_owned()),
        acknowledgement_mode: AcknowledgementMode::Implicit,
        ..Default::default()
    })
    .unwrap();
    consumer.subscribe(["t"]).unwrap();
    if is_up {
        assert!(!block_on(consumer.poll(GUARD)).unwrap().is_empty());
    }
    Box::new(move || {
        drop(dropped_at(0, consumer.commit()));
        drop(dropped_at(0, consumer.poll(GUARD)));
        Box::new(move |way| match way {
            Way::Close => drop(block_on(consumer.close(SHORT))),
            Way::Drop => drop(consumer),
        })
    })
}

fn administrator(bootstrap: &str, is_up: bool) -> Act {
    let admin = Admin::new(ClientConfig::bootstrap(bootstrap).unwrap()).unwrap();
    if is_up {
        block_on(admin.list_topics()).unwrap();
    }
    Box::new(move || {
        drop(dropped_at(0, admin.list_topics()));
        Box::new(move |way| {
            // It has no close, but each call its time.
            if way == Way::Close {
                drop(block_on(admin.with_timeout(SHORT).list_topics()));
            }
            drop(admin);
        })
    })
}

/// One client of each kind.
fn clients(bootstrap: &str, is_up: bool) -> Vec<(&'static str, Act)> {
    vec![
        ("producer", producer(bootstrap, is_up)),
        ("transactional producer", transactional(bootstrap, is_up)),
        ("consumer", consumer(bootstrap, is_up, None)),
        ("member", consumer(bootstrap, is_up, Some(GroupProtocol::Classic))),
        ("member by KIP-848", consumer(bootstrap, is_up, Some(GroupProtocol::Consumer))),
        ("share consumer", share_consumer(bootstrap, is_up)),
        ("admin", administrator(bootstrap, is_up)),
    ]
}

fn end_in(state: &str, way: Way, clients: Vec<(&'static str, Act)>) {
    let ends = clients.into_iter().map(|(name, act)| (name, act())).collect();
    end_all(state, way, ends);
}

/// Clients that have worked with a broker end after something has happened to it.
fn end_after(state: &str, happen: impl Fn(&EmbeddedBroker)) {
    for way in [Way::Close, Way::Drop] {
        let broker = share::broker(1, &[]);
        share::write(&broker, 0..10);
        let clients = clients(&broker.bootstrap(), true);
        happen(&broker);
        end_in(state, way, clients);
    }
}

#[test]
fn clients_end_before_they_have_reached_a_broker() {
    // Nobody listens on the first port any more, and nobody accepts on the second.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for way in [Way::Close, Way::Drop] {
        end_in("dead", way, clients(&dead.to_string(), false));
        end_in("silent", way, clients(&silent.local_addr().unwrap().to_string(), false));
    }
}

#[test]
fn clients_end_while_all_is_well() {
    end_after("well", |_| ());
}

#[test]
fn clients_end_while_the_broker_hangs() {
    end_after("paused", |broker| broker.control(|cluster, _| cluster.pause_node(0)));
}

#[test]
fn clients_end_while_the_broker_is_gone() {
    end_after("gone", |broker| broker.control(|cluster, now| cluster.stop_node(now, 0)));
}

#[test]
fn clients_end_while_they_are_throttled() {
    end_after("throttled", |broker| {
        broker.add_rule(Rule::new(Action::Throttle(GUARD * 2)));
    });
}

#[test]
fn clients_end_after_their_topic_was_deleted() {
    end_after("deleted", |broker| {
        block_on(admin(broker).delete_topics(["t"])).unwrap();
    });
}

#[test]
fn any_time_to_close_may_be_given() {
    let broker = broker(Options::default().with_topic("t", 1));
    let properties = |settings| properties(&broker.bootstrap(), settings);
    let config = ProducerConfig::from_properties(&properties(&[])).unwrap();
    block_on(Producer::new(config).unwrap().close(Duration::MAX)).unwrap();
    let config = ProducerConfig::from_properties(&properties(&[("transactional.id", "job")])).unwrap();
    block_on(TransactionalProducer::new(&config).unwrap().close(Duration::MAX)).unwrap();
    let consumer = Consumer::new(ConsumerConfig::from_properties(&properties(&[])).unwrap()).unwrap();
    let options = CloseOptions { timeout: Duration::MAX, ..CloseOptions::default() };
    block_on(consumer.close_with(options)).unwrap();
    assert!(block_on(admin(&broker).with_timeout(Duration::MAX).list_topics()).unwrap().contains_key("t"));
}

/// However long the end takes: who comes after it is told at once, and does not disturb it.
#[test]
fn behind_close_nothing_is_taken() {
    let broker = broker(Options::default().with_topic("t", 1));
    let settings = properties(&broker.bootstrap(), &[("transactional.id", "job")]);
    let producer = TransactionalProducer::new(&ProducerConfig::from_properties(&settings).unwrap()).unwrap();
    block_on(producer.init()).unwrap();
    producer.begin().unwrap();
    let mut builder = BatchBuilder::new(Compression::NONE, 100);
    builder.append(1, None, Some(b"open"), &[]).unwrap();
    block_on(producer.produce(at(), builder.seal()).unwrap()).unwrap();
    let plain = properties(&broker.bootstrap(), &[("linger.ms", "0")]);
    let plain = Producer::from_properties(&plain).unwrap();
    block_on(plain.send(record("first"))).unwrap();
    broker.control(|cluster, _| cluster.pause_node(0));
    let last = plain.enqueue_blocking(record("last")).unwrap();
    let (mut closing, mut closing_plain) = (pin!(producer.close(GUARD)), pin!(plain.close(GUARD)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(closing.as_mut().poll(&mut context).is_pending());
    assert!(closing_plain.as_mut().poll(&mut context).is_pending());
    assert_eq!(producer.begin().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(block_on(producer.close(SHORT)).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(block_on(plain.close(SHORT)).unwrap_err().kind(), ErrorKind::Closed);
    broker.control(|cluster, now| cluster.resume_node(now, 0));
    block_on(closing).unwrap();
    block_on(closing_plain).unwrap();
    block_on(last).unwrap();
}

fn poll_until(member: &mut Consumer, is_so: impl Fn(&Consumer) -> bool) {
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..GUARD.as_millis() / PAUSE.as_millis() {
        if is_so(member) {
            return;
        }
        assert!(member.poll_blocking(PAUSE).unwrap().is_empty());
    }
    panic!("it does not come about: {:?}", member.assignment());
}

/// Who ends in the middle of a rebalance holds up nobody.
#[test]
fn members_end_in_the_middle_of_a_rebalance() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        for way in [Way::Close, Way::Drop] {
            let broker = broker(Options {
                consumer_heartbeat_interval: Duration::from_millis(50),
                ..Options::default().with_topic("t", 4)
            });
            let member = || {
                let mut config = ConsumerConfig {
                    client: ClientConfig::bootstrap(&broker.bootstrap()).unwrap(),
                    group_id: Some("g".to_owned()),
                    ..ConsumerConfig::default()
                };
                config.group.protocol = protocol;
                config.group.heartbeat_interval = Duration::from_millis(50);
                let mut member = Consumer::new(config).unwrap();
                member.subscribe(["t"]).unwrap();
                member
            };
            let api = match protocol {
                GroupProtocol::Classic => ApiKey::JoinGroup,
                GroupProtocol::Consumer => ApiKey::ConsumerGroupHeartbeat,
            };
            let requests = || broker.control(|cluster, _| cluster.requests(api));
            let mut first = member();
            poll_until(&mut first, |first| first.assignment().len() == 4);
            // The first does not poll, so it lets go of nothing, and the second waits for it.
            let before = requests();
            let mut second = member();
            poll_until(&mut second, |_| requests() >= before + 2);
            let third = member();
            let end = |member: Consumer| -> End {
                Box::new(move |way| match way {
                    Way::Close => drop(block_on(member.close())),
                    Way::Drop => drop(member),
                })
            };
            end_all("rebalance", way, vec![("first", end(first)), ("third", end(third))]);
            poll_until(&mut second, |second| second.assignment().len() == 4);
        }
    }
}

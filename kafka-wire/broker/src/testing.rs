//! Testing your own code: what breaks, and how to let it.
//!
//! Each example here is a test: it runs as it stands, with a real client on real sockets. In a test of yours it is a
//! function under `#[tokio::test]`; the broker needs no runtime of yours, and any Kafka client can be the other end.
//!
//! # A broker per test
//!
//! A cluster is up in about a millisecond and is gone when it is dropped, so that tests share nothing. Ports are free
//! ones, topics are there when [`start`](crate::EmbeddedBroker::start) returns, and groups wait for nobody
//! ([`initial_rebalance_delay`](crate::Options::initial_rebalance_delay) is 0).
//!
//! ```
//! # use std::time::Duration;
//! use kafka_wire::config::Properties;
//! use kafka_wire::{Consumer, Producer, Record};
//! use tidewater_broker::{EmbeddedBroker, Options};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 3))?;
//! let properties = Properties::parse(&format!("bootstrap.servers={}", broker.bootstrap()))?;
//! let producer = Producer::from_properties(&properties)?;
//! producer.send(Record::to("orders").key("42").value("paid")).await?;
//!
//! let mut consumer = Consumer::builder()
//!     .bootstrap(&broker.bootstrap())
//!     .group("billing")
//!     .set("auto.offset.reset", "earliest")
//!     .subscribe(["orders"])
//!     .build()?;
//! let batch = loop {
//!     let batch = consumer.poll(Duration::from_millis(100)).await?;
//!     if !batch.is_empty() {
//!         break batch;
//!     }
//! };
//! assert_eq!(batch.iter().next().and_then(|record| record.value), Some(&b"paid"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # What is in it
//!
//! Without a client of its own a test puts records where the code under test reads
//! ([`append`](crate::Cluster::append)), and looks at what that has written ([`records`](crate::Cluster::records)), how
//! far it has got ([`committed_offset`](crate::Cluster::committed_offset)) and who is in its group
//! ([`group_members`](crate::Cluster::group_members)):
//!
//! ```
//! # use std::time::Duration;
//! # use kafka_wire::config::Properties;
//! # use kafka_wire::{Consumer, Producer, Record};
//! # use tidewater_broker::{EmbeddedBroker, Options};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 1).with_topic("bills", 1))?;
//! for (key, value) in [("42", "7.50"), ("43", "8.00")] {
//!     let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
//!     broker.control(|cluster, now| cluster.append(now, "orders", 0, key, value))?;
//! }
//!
//! // What is to be tested: it writes a bill for each order, and commits.
//! # let properties = Properties::parse(&format!("bootstrap.servers={}", broker.bootstrap()))?;
//! # let producer = Producer::from_properties(&properties)?;
//! # let mut consumer = Consumer::builder()
//! #     .bootstrap(&broker.bootstrap())
//! #     .group("billing")
//! #     .set("auto.offset.reset", "earliest")
//! #     .subscribe(["orders"])
//! #     .build()?;
//! let mut billed = 0;
//! while billed < 2 {
//!     let batch = consumer.poll(Duration::from_millis(100)).await?;
//!     for order in &batch {
//!         producer.send(Record::to("bills").key(order.key.unwrap_or_default()).value("billed")).await?;
//!         billed += 1;
//!     }
//!     consumer.commit().await?;
//! }
//!
//! let bills = broker.control(|cluster, _| cluster.records("bills", 0))?;
//! assert_eq!(bills.iter().filter_map(|bill| bill.key.as_deref()).collect::<Vec<_>>(), [b"42", b"43"]);
//! assert_eq!(broker.control(|cluster, _| cluster.committed_offset("billing", "orders", 0)), Some(2));
//! assert_eq!(broker.control(|cluster, _| cluster.group_members("billing")).len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Requests that go wrong
//!
//! A [`Rule`](crate::Rule) says which requests (by API, node, client, group, topic, partition), how many of them
//! ([`skip`](crate::Rule::skip), [`times`](crate::Rule::times)), and an [`Action`](crate::Action) what happens to them.
//! Rules are tried in the order in which they were added; the first that matches decides.
//! [`rule_hits`](crate::Cluster::rule_hits) tells how often that was: a test that ends without a hit has tested nothing.
//!
//! | to see what your code does when | |
//! |---|---|
//! | a broker refuses | [`Action::Error`](crate::Action::Error) |
//! | it is slow | [`Action::Delay`](crate::Action::Delay), or [`ApplyThenDelay`](crate::Action::ApplyThenDelay): done at once, and told late |
//! | it asks to slow down | [`Action::Throttle`](crate::Action::Throttle), or quotas by `AlterClientQuotas` |
//! | it never answers | [`Action::Ignore`](crate::Action::Ignore) |
//! | the connection breaks before anything was done | [`Action::Disconnect`](crate::Action::Disconnect) |
//! | it breaks after all was done | [`Action::ApplyThenDisconnect`](crate::Action::ApplyThenDisconnect) |
//! | an answer is damaged | [`Action::Corrupt`](crate::Action::Corrupt); [`CorruptRecords`](crate::Action::CorruptRecords) for the records in it |
//!
//! An error that passes, one that does not, and an answer that is lost:
//!
//! ```
//! # use kafka_wire::config::Properties;
//! # use kafka_wire::{Producer, Record};
//! use tidewater_broker::{Action, ApiKey, EmbeddedBroker, ErrorCode, Options, Rule};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 1))?;
//! # let properties = Properties::parse(&format!("bootstrap.servers={}", broker.bootstrap()))?;
//! # let producer = Producer::from_properties(&properties)?;
//! let moved = Rule::new(Action::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER)).api(ApiKey::Produce).topic("orders");
//! let moved = broker.add_rule(moved.times(2));
//! producer.send(Record::to("orders").value("a")).await?;
//! assert_eq!(broker.control(|cluster, _| cluster.rule_hits(moved)), 2);
//!
//! let full = Rule::new(Action::Error(ErrorCode::POLICY_VIOLATION)).api(ApiKey::Produce).times(1);
//! broker.add_rule(full);
//! let error = producer.send(Record::to("orders").value("refused")).await.unwrap_err();
//! assert_eq!(error.code(), Some(ErrorCode::POLICY_VIOLATION));
//!
//! // The record is written, and the producer does not hear of it: it sends it again, and it is there once.
//! broker.add_rule(Rule::new(Action::ApplyThenDisconnect).api(ApiKey::Produce).times(1));
//! assert_eq!(producer.send(Record::to("orders").value("b")).await?.offset, Some(1));
//! assert_eq!(producer.send(Record::to("orders").value("c")).await?.offset, Some(2));
//! # Ok(())
//! # }
//! ```
//!
//! Silence, and damage on the way:
//!
//! ```
//! # use std::time::Duration;
//! # use kafka_wire::config::Properties;
//! # use kafka_wire::{Consumer, Position, Producer, Record, TopicPartition};
//! use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 1))?;
//! let silent = broker.add_rule(Rule::new(Action::Ignore).api(ApiKey::Produce));
//! let hasty = "request.timeout.ms=100\ndelivery.timeout.ms=200\nlinger.ms=0";
//! let properties = Properties::parse(&format!("bootstrap.servers={}\n{hasty}", broker.bootstrap()))?;
//! let error = Producer::from_properties(&properties)?.send(Record::to("orders").value("a")).await.unwrap_err();
//! assert!(error.possibly_written(), "nobody has said that it is not there");
//! broker.remove_rule(silent);
//!
//! # let properties = Properties::parse(&format!("bootstrap.servers={}", broker.bootstrap()))?;
//! # let producer = Producer::from_properties(&properties)?;
//! producer.send(Record::to("orders").value("whole")).await?;
//! let damaged = broker.add_rule(Rule::new(Action::CorruptRecords).api(ApiKey::Fetch).times(1));
//! let mut consumer = Consumer::from_properties(&properties)?;
//! consumer.assign([(TopicPartition::new("orders", 0), Position::Beginning)])?;
//! let batch = loop {
//!     let batch = consumer.poll(Duration::from_millis(100)).await?;
//!     if !batch.is_empty() {
//!         break batch;
//!     }
//! };
//! assert_eq!(batch.iter().next().and_then(|record| record.value), Some(&b"whole"[..]));
//! assert_eq!(broker.control(|cluster, _| cluster.rule_hits(damaged)), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Nodes that fail
//!
//! By [`EmbeddedBroker::control`](crate::EmbeddedBroker::control) a test does something to the
//! [`Cluster`](crate::Cluster), between two requests of whatever clients there are:
//!
//! | what happens | |
//! |---|---|
//! | a node crashes, and comes back | [`stop_node`](crate::Cluster::stop_node), [`start_node`](crate::Cluster::start_node) |
//! | it hangs, and goes on | [`pause_node`](crate::Cluster::pause_node), [`resume_node`](crate::Cluster::resume_node) |
//! | it comes back at another address | [`EmbeddedBroker::move_node`](crate::EmbeddedBroker::move_node) |
//! | its connections break | [`disconnect_all`](crate::Cluster::disconnect_all) |
//! | a leader moves | [`move_leader`](crate::Cluster::move_leader) |
//! | a coordinator or the controller moves | [`move_group_coordinator`](crate::Cluster::move_group_coordinator), [`move_transaction_coordinator`](crate::Cluster::move_transaction_coordinator), [`move_controller`](crate::Cluster::move_controller) |
//! | acknowledged records are lost | [`truncate`](crate::Cluster::truncate), as by an unclean election |
//! | a topic goes, comes anew, or grows | [`delete_topic`](crate::Cluster::delete_topic), [`create_topic`](crate::Cluster::create_topic), [`add_partitions`](crate::Cluster::add_partitions) |
//! | old records go | [`delete_records`](crate::Cluster::delete_records), [`compact`](crate::Cluster::compact) |
//! | a member of a group is not heard of | [`expire_member`](crate::Cluster::expire_member) |
//! | a broker is older | [`set_api_versions`](crate::Cluster::set_api_versions) |
//!
//! ```
//! # use kafka_wire::config::Properties;
//! # use kafka_wire::{Producer, Record};
//! # use tidewater_broker::{EmbeddedBroker, Options};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = EmbeddedBroker::start(Options { nodes: 3, ..Options::default() }.with_topic("orders", 1))?;
//! # let properties = Properties::parse(&format!("bootstrap.servers={}", broker.bootstrap()))?;
//! # let producer = Producer::from_properties(&properties)?;
//! producer.send(Record::to("orders").value("a")).await?;
//! broker.control(|cluster, now| cluster.move_leader(now, "orders", 0, 1));
//! producer.send(Record::to("orders").value("b")).await?;
//! broker.control(|cluster, now| cluster.stop_node(now, 1));
//! producer.send(Record::to("orders").value("c")).await?;
//! broker.control(|cluster, _| cluster.start_node(1));
//!
//! // All three hang: what is sent in the meantime is written when they go on.
//! broker.control(|cluster, _| (0..3).for_each(|node| cluster.pause_node(node)));
//! let receipt = producer.enqueue(Record::to("orders").value("d")).await?;
//! broker.control(|cluster, now| (0..3).for_each(|node| cluster.resume_node(now, node)));
//! assert_eq!(receipt.await?.offset, Some(3));
//!
//! // Its leader comes back at another address, which the others tell.
//! broker.control(|cluster, now| cluster.move_leader(now, "orders", 0, 2));
//! broker.move_node(2)?;
//! assert_eq!(producer.send(Record::to("orders").value("e")).await?.offset, Some(4));
//! # Ok(())
//! # }
//! ```
//!
//! # Crashes of the whole cluster
//!
//! With [`Options::data`](crate::Options::data) a cluster lives in a folder. Whatever it has acknowledged is there after
//! `kill -9` of its process and a new start: records, topics and their configuration, access control lists, users, quotas,
//! groups with their members and offsets, transactions, what share groups have done. As with Kafka a member that is back
//! within its session timeout goes on with the partitions that it has.
//!
//! ```
//! # use kafka_wire::config::Properties;
//! # use kafka_wire::{Producer, Record};
//! # use tidewater_broker::{EmbeddedBroker, Options};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! for offset in 0..2 {
//!     let options = Options { data: Some(folder.path().to_owned()), ..Options::default() };
//!     let broker = EmbeddedBroker::start(options.with_topic("orders", 1))?;
//! #   let properties = Properties::parse(&format!("bootstrap.servers={}", broker.bootstrap()))?;
//! #   let producer = Producer::from_properties(&properties)?;
//!     assert_eq!(producer.send(Record::to("orders").value("a")).await?.offset, Some(offset));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Who may do what
//!
//! [`Options::tls`](crate::Options::tls), [`sasl`](crate::Options::sasl) and [`authorizer`](crate::Options::authorizer)
//! make a cluster that asks who is there: wrong passwords, tokens of somebody else, certificates that nobody signed and
//! things that are not allowed get the answers that Kafka gives.
//!
//! ```
//! # use kafka_wire::config::Properties;
//! # use kafka_wire::{Producer, Record};
//! use tidewater_broker::{Acl, AuthorizerOptions, EmbeddedBroker, ErrorCode, Operation, Options, SaslOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = EmbeddedBroker::start(Options {
//!     sasl: Some(SaslOptions::default().with_user("alice", "secret")),
//!     authorizer: Some(AuthorizerOptions::default()),
//!     ..Options::default().with_topic("orders", 1).with_topic("secrets", 1)
//! })?;
//! broker.control(|cluster, _| cluster.add_acl(Acl::allow("User:alice", Operation::Write).topic("orders")));
//! let properties = Properties::parse(&format!(
//!     "bootstrap.servers={}\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\nsasl.jaas.config=\
//!      org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" password=\"secret\";",
//!     broker.bootstrap()
//! ))?;
//! let producer = Producer::from_properties(&properties)?;
//! producer.send(Record::to("orders").value("a")).await?;
//! let error = producer.send(Record::to("secrets").value("a")).await.unwrap_err();
//! assert_eq!(error.code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
//! # Ok(())
//! # }
//! ```
//!
//! # Without sockets and clocks
//!
//! [`Cluster`](crate::Cluster) is the same as a value: requests and time go in, answers come out, and nothing happens
//! between. That is for simulations, where a run is to be repeated byte by byte.

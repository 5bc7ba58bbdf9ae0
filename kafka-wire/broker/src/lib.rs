//! An embedded Kafka broker: for demos, for tests, and for breaking things on purpose.
//!
//! [`EmbeddedBroker::start`] runs a cluster of one or several nodes on a thread of its own and answers any
//! Kafka client over TCP. [`Cluster`] is the same without sockets, clock or threads: a value that is handed
//! requests and the time, for simulations. [`testing`] shows how to test your own code with it, fault by fault.
//!
//! A producer whose answer gets lost: it asks again, and the record is there once.
//!
//! ```
//! use kafka_wire::config::Properties;
//! use kafka_wire::{Producer, Record};
//! use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule};
//!
//! let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 1))?;
//! let rule = broker.add_rule(Rule::new(Action::ApplyThenDisconnect).api(ApiKey::Produce).times(1));
//!
//! let properties = Properties::parse(&format!("bootstrap.servers={}", broker.bootstrap()))?;
//! let producer = Producer::from_properties(&properties)?;
//! let first = producer.enqueue_blocking(Record::to("orders").value("7.50"))?.wait()?;
//! let second = producer.enqueue_blocking(Record::to("orders").value("8.00"))?.wait()?;
//!
//! assert_eq!((first.offset, second.offset), (Some(0), Some(1)));
//! assert_eq!(broker.control(|cluster, _| cluster.rule_hits(rule)), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Several nodes share one log: nothing is replicated, leaders and coordinators are only places, and
//! truncation is a command. Answers are those of Kafka 4.3 (compared by `tests/interop/embedded.rs` and
//! `embedded_admin.rs`) except where a module of `api` says otherwise.
//!
//! Its listeners speak TLS and SASL, and access control lists hold, where the options say so:
//!
//! ```
//! use tidewater_broker::{Acl, AuthorizerOptions, EmbeddedBroker, Operation, Options, SaslOptions};
//!
//! let broker = EmbeddedBroker::start(Options {
//!     sasl: Some(SaslOptions::default().with_user("alice", "secret")),
//!     authorizer: Some(AuthorizerOptions::default()),
//!     ..Options::default().with_topic("orders", 3)
//! })?;
//! broker.control(|cluster, _| cluster.add_acl(Acl::allow("User:alice", Operation::Read).topic("orders")));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Quotas of all kinds hold; a request counts as one millisecond of a thread. Topics are compacted where their
//! configuration says so. Without a folder all records are in memory until `retention.bytes` or `retention.ms`
//! lets them go; with one, what is deleted leaves the index but not the file.

mod api;
mod authorizer;
mod batch;
mod certificate;
mod cluster;
mod config_table;
mod error;
mod faults;
mod features;
mod groups;
mod journal;
mod listen;
mod log;
mod options;
mod processor;
mod producers;
mod quotas;
mod sasl;
mod sessions;
mod setting;
mod shares;
pub mod testing;
mod tokens;
mod topic_config;
mod topics;
mod transactions;
mod users;

pub use kafka_wire::ErrorCode;
pub use kafka_wire::config::Secret;
pub use kafka_wire::protocol::messages::ApiKey;
pub use kafka_wire::security::Mechanism;

pub use self::authorizer::{Acl, AuthorizerOptions, Operation, PatternType, ResourceType};
pub use self::cluster::{Cluster, ConnectionId, Now, Output, Peer, PushedMetrics, StoredRecord};
pub use self::faults::{Action, Rule, RuleId};
pub use self::listen::EmbeddedBroker;
pub use self::options::{Options, SaslOptions, TlsOptions, TopicOptions, TransactionVersion};

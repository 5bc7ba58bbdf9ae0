//! Testing your own code: the embedded broker.
//!
//! The crate `tidewater-broker` is a Kafka cluster in your test's process: one to several nodes on real sockets, made in
//! a millisecond, with both group protocols, share groups, transactions, TLS, SASL, access control lists and quotas. It
//! speaks to any Kafka client, and `tidewater broker` is the same as a program. Its own documentation has examples that
//! run; in short:
//!
//! ```text
//! let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 3))?;
//! let properties = Properties::parse(&format!("bootstrap.servers={}", broker.bootstrap()))?;
//! ```
//!
//! | to see what your code does when | |
//! |---|---|
//! | an answer is lost, and the record written all the same | a rule with `Action::ApplyThenDisconnect` |
//! | a broker answers an error, late, or never | `Action::Error`, `Action::Delay`, `Action::Ignore` |
//! | only some requests fail | `Rule::api`, `node`, `client_id`, `group`, `topic`, `partition`, `skip`, `times` |
//! | a node crashes, restarts, hangs | `Cluster::stop_node`, `start_node`, `pause_node`, by `EmbeddedBroker::control` |
//! | a leader or coordinator moves, a log is truncated | `Cluster::move_leader`, `move_group_coordinator`, `truncate` |
//! | it finds certain records, or is done with them | `Cluster::append`, `records`, `committed_offset`, `group_members` |
//! | it runs on after `kill -9` | `Options::data`, a folder: what was acknowledged is still there |
//!
//! Nothing of it is a mock of this client: the broker uses only the code for bytes on the wire, so a bug of the client
//! cannot hide in it. It is compared with Kafka by tests, and is not Kafka: before a release, run against a real one, too.
//!
//! For logic above the client no broker is needed: a [`RecordRef`](crate::RecordRef) is plain borrowed bytes, and a
//! function of `Option<&[u8]>` can be called by any test.

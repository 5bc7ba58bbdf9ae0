//! What [`Admin`](crate::Admin) tells and takes: all that Kafka's own `Admin` can do with brokers up to 4.3, but for
//! what is listed below.
//!
//! Groups of every kind are listed and deleted, and their offsets read, set and deleted, by the same calls; only
//! descriptions of Streams groups, and offsets of share groups, are something else than those of other groups. What
//! Java has options for is a method of its own here (`validate_…`, `…_of`) or a setting of the handle:
//! [`with_timeout`](crate::Admin::with_timeout),
//! [`with_authorized_operations`](crate::Admin::with_authorized_operations).
//!
//! Absent, each for its reason: asking controllers without a broker between (`bootstrap.controllers`, KIP-919), since
//! brokers pass on all that they may; adding a voter without waiting for it (AddRaftVoter 1), which controllers use
//! that join by themselves, and Java's `Admin` does not; OffsetCommit and OffsetFetch 10, which name topics by id
//! only: every broker that speaks them speaks 9, in which an offset needs nothing but its topic's name.

// Layer 9. An operation is described by the shape of its calls (`Operation`); sending, retrying and collecting is the
// same for all (`Batch`). The handle is `Admin` in `net`.

pub(crate) mod acls;
mod batch;
pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod features;
pub(crate) mod groups;
pub(crate) mod log_dirs;
mod names;
pub(crate) mod partitions;
pub(crate) mod quorum;
pub(crate) mod quotas;
pub(crate) mod records;
pub(crate) mod tokens;
pub(crate) mod topics;
pub(crate) mod transactions;
pub(crate) mod users;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _};

pub use acls::{
    AclBinding, AclFilter, AclOperation, AclPermission, PatternFilter, PatternType, ResourceType,
};
pub use cluster::ClusterDescription;
pub use configs::{
    ConfigChange, ConfigEntry, ConfigResource, ConfigResourceKind, ConfigSource, ConfigSynonym, ConfigType,
};
pub use features::{FeatureLevels, FeatureMetadata, FeatureUpdate, UpgradeType};
pub use groups::describe::{GroupDescription, GroupMember};
pub use groups::share_offsets::ShareGroupOffset;
pub use groups::streams::StreamsGroupDescription;
pub use groups::{GroupFilter, GroupListing, GroupState, GroupType, MemberToRemove};
pub use log_dirs::{LogDir, LogDirReplica, Replica};
pub use partitions::{ElectionType, Reassignment};
pub use quorum::{QuorumDescription, QuorumReplica, RaftEndpoint};
pub use quotas::{QuotaEntity, QuotaFilter, QuotaMatch};
pub use tokens::{DelegationToken, NewDelegationToken};
pub use topics::describe::{PartitionDescription, TopicDescription};
pub use topics::{CreatedTopic, NewPartitions, NewTopic};
pub use transactions::{
    HangingTransaction, ProducerState, TransactionDescription, TransactionFilter, TransactionListing,
    TransactionState,
};
pub use users::{ScramChange, ScramCredentialInfo, ScramMechanism};

pub(crate) use batch::{Batch, Key, Operation, Outcome, Outcomes, Refusal, Unknown};

use crate::engine::{Core, Role, Token};
use crate::error::Result;
use crate::metrics::{Groups, Sink};
use crate::protocol::request::Response;

pub use crate::protocol::streams_group::{
    InternalTopic, StreamsAssignment, StreamsGroupMember, StreamsTask, Subtopology,
};

/// An operation under way.
pub(crate) trait Job: Send {
    /// Makes the calls that can be made now.
    fn advance(&mut self, now: Instant, core: &mut Core) -> Vec<Token>;
    /// One of them was answered.
    fn handle_response(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core);
    /// When to advance again, at the latest.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Whether it has replied.
    fn is_done(&self) -> bool;
    /// The topics whose metadata it needs.
    fn topics(&self) -> Vec<Arc<str>>;
}

/// What the handle asks for.
pub(crate) enum Command {
    /// Do this.
    Run(Box<dyn Job>),
}

/// The role behind `Admin`.
#[derive(Default)]
pub(crate) struct AdminRole {
    jobs: BTreeMap<u64, Box<dyn Job>>,
    owners: HashMap<Token, u64>,
    watched: BTreeSet<Arc<str>>,
    next_job: u64,
}

impl AdminRole {
    pub(crate) fn new() -> Self {
        Self { jobs: BTreeMap::new(), owners: HashMap::new(), watched: BTreeSet::new(), next_job: 0 }
    }

    fn advance(&mut self, now: Instant, id: u64, core: &mut Core) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        for token in job.advance(now, core) {
            self.owners.insert(token, id);
        }
        if job.is_done() {
            self.jobs.remove(&id);
            self.unwatch(core);
        }
    }

    fn unwatch(&mut self, core: &mut Core) {
        let needed: BTreeSet<Arc<str>> = self.jobs.values().flat_map(|job| job.topics()).collect();
        core.unwatch_topics(self.watched.difference(&needed).map(|topic| &**topic));
        self.watched = needed;
    }
}

impl Role for AdminRole {
    type Command = Command;
    const METRIC_GROUPS: Groups =
        Groups { client: "admin-client-metrics", node: "admin-client-node-metrics" };

    fn handle_command(&mut self, now: Instant, command: Command, core: &mut Core) {
        let Command::Run(job) = command;
        let topics = job.topics();
        core.watch_topics(now, topics.iter().cloned());
        self.watched.extend(topics);
        let id = self.next_job;
        self.next_job += 1;
        self.jobs.insert(id, job);
        self.advance(now, id, core);
    }

    fn handle_response(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core) {
        let Some(id) = self.owners.remove(&token) else { return };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.handle_response(now, token, result, core);
            self.advance(now, id, core);
        }
    }

    fn handle_progress(&mut self, now: Instant, core: &mut Core) {
        let ids: Vec<u64> = self.jobs.keys().copied().collect();
        for id in ids {
            self.advance(now, id, core);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.jobs.values().filter_map(|job| job.poll_timeout()).min()
    }

    fn is_closed(&self) -> bool {
        // Every operation has a caller who holds the handle; without one, the driver is stopped.
        false
    }

    fn measure(&self, _now: Instant, _sink: &mut Sink<'_>) {}
}

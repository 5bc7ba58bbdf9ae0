//! What [`Admin`](crate::Admin) tells and takes: all that Kafka's own `Admin` can do, but for what is listed below.
//!
//! Absent, because the messages that are at hand lack them: describing groups of Kafka Streams (KIP-1071; they are
//! listed and deleted, and their offsets read and set, as those of any group), the lag of share groups
//! (DescribeShareGroupOffsets 1), whether a log directory is cordoned (DescribeLogDirs 5), adding a voter without
//! waiting for it (AddRaftVoter 1), `earliest-pending-upload` offsets (ListOffsets 11), and asking controllers
//! without a broker between (`bootstrap.controllers`, KIP-919). Offsets of groups are read and set in versions before
//! 10, which name topics by name.

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

pub(crate) use batch::{Batch, Operation, Outcome, Outcomes, Refusal, Unknown};

use crate::engine::{Core, Role, Token};
use crate::error::Result;
use crate::metrics::{Groups, Sink};
use crate::protocol::request::Response;

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

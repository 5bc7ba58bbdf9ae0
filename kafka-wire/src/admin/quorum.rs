//! The controllers that keep the cluster's metadata (KIP-595), and who of them votes (KIP-853).

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Whole;
use super::wire::{known, millis, one, outcome, refusal, text, topic_name};
use super::{Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::messages::RemoveRaftVoterRequest;
use crate::protocol::messages::add_raft_voter_request::{AddRaftVoterRequest, Listener};
use crate::protocol::messages::describe_quorum_request::{DescribeQuorumRequest, PartitionData, TopicData};
use crate::protocol::messages::describe_quorum_response::{Node, ReplicaState};
use crate::protocol::request::{Plain, Request, Response};
use crate::types::{BrokerId, Uuid};

/// The log that holds the cluster's metadata.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// How the controllers stand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuorumDescription {
    /// Who leads; `None` during an election.
    pub leader: Option<BrokerId>,
    /// Which leadership this is.
    pub leader_epoch: i32,
    /// Up to where the log is on most voters.
    pub high_watermark: i64,
    /// Who elects leaders and is elected.
    pub voters: Vec<QuorumReplica>,
    /// Who only follows: brokers, and controllers that do not vote.
    pub observers: Vec<QuorumReplica>,
    /// Where the voters listen (from Kafka 3.9).
    pub nodes: BTreeMap<BrokerId, Vec<RaftEndpoint>>,
}

/// A node that has the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuorumReplica {
    /// Its node id.
    pub id: BrokerId,
    /// The folder that it has it in (from Kafka 3.9), where it is known.
    pub directory_id: Option<Uuid>,
    /// How far it has it.
    pub log_end_offset: i64,
    /// When it last fetched, by the leader's clock, in milliseconds since 1970.
    pub last_fetch_ms: Option<i64>,
    /// When it last had all there was.
    pub last_caught_up_ms: Option<i64>,
}

/// Where a controller listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftEndpoint {
    /// The name of the listener, such as `CONTROLLER`.
    pub listener: String,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl QuorumReplica {
    fn read(replica: ReplicaState) -> Self {
        Self {
            id: BrokerId(replica.replica_id.0),
            directory_id: Some(Uuid(replica.replica_directory_id.into_bytes())).filter(|id| !id.is_zero()),
            log_end_offset: replica.log_end_offset,
            last_fetch_ms: known(replica.last_fetch_timestamp),
            last_caught_up_ms: known(replica.last_caught_up_timestamp),
        }
    }
}

fn read_node(node: Node) -> (BrokerId, Vec<RaftEndpoint>) {
    let endpoints = node.listeners.into_iter().map(|listener| RaftEndpoint {
        listener: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
    });
    (BrokerId(node.node_id.0), endpoints.collect())
}

pub(crate) struct DescribeQuorum;

impl Operation for DescribeQuorum {
    type Key = Whole;
    type Item = ();
    type Output = QuorumDescription;
    const ATTEMPT: &'static str = "describe the metadata quorum of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let topic = TopicData::default()
            .with_topic_name(topic_name(METADATA_TOPIC))
            .with_partitions(vec![PartitionData::default()]);
        Box::new(Plain::new(DescribeQuorumRequest::default().with_topics(vec![topic])))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<DescribeQuorumRequest>()?;
        if let Some(refusal) = refusal(answer.error_code, answer.error_message) {
            return Ok(one(items, Err(refusal)));
        }
        let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let partition = partition
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "the answer does not mention the metadata log"))?;
        let read = |replicas: Vec<ReplicaState>| replicas.into_iter().map(QuorumReplica::read).collect();
        let description = QuorumDescription {
            leader: (partition.leader_id.0 >= 0).then_some(BrokerId(partition.leader_id.0)),
            leader_epoch: partition.leader_epoch,
            high_watermark: partition.high_watermark,
            voters: read(partition.current_voters),
            observers: read(partition.observers),
            nodes: answer.nodes.into_iter().map(read_node).collect(),
        };
        Ok(one(items, outcome(partition.error_code, partition.error_message, description)))
    }
}

/// Lets a controller vote.
pub(crate) struct AddRaftVoter {
    pub(crate) id: BrokerId,
    pub(crate) directory_id: Uuid,
    pub(crate) endpoints: Vec<RaftEndpoint>,
}

impl Operation for AddRaftVoter {
    type Key = Whole;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "add a voter to the metadata quorum of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], timeout: Duration) -> Box<dyn Request> {
        let listeners = self.endpoints.iter().map(|endpoint| {
            Listener::default()
                .with_name(text(&endpoint.listener))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        });
        let request = AddRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_timeout_ms(millis(timeout))
            .with_voter_id(self.id.0)
            .with_voter_directory_id(uuid::Uuid::from_bytes(self.directory_id.0))
            .with_listeners(listeners.collect());
        Box::new(Plain::new(request))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, ()>> {
        let answer = response.decode::<AddRaftVoterRequest>()?;
        Ok(one(items, outcome(answer.error_code, answer.error_message, ())))
    }
}

/// Lets a controller vote no more.
pub(crate) struct RemoveRaftVoter {
    pub(crate) id: BrokerId,
    pub(crate) directory_id: Uuid,
}

impl Operation for RemoveRaftVoter {
    type Key = Whole;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "remove a voter from the metadata quorum of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let request = RemoveRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_voter_id(self.id.0)
            .with_voter_directory_id(uuid::Uuid::from_bytes(self.directory_id.0));
        Box::new(Plain::new(request))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, ()>> {
        let answer = response.decode::<RemoveRaftVoterRequest>()?;
        Ok(one(items, outcome(answer.error_code, answer.error_message, ())))
    }
}

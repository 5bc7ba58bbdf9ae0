//! The cluster as a whole: its brokers.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::acls::{self, AclOperation};
use super::wire::{one, outcome};
use super::{Key, Operation, Outcomes, Refusal, Unknown};
use crate::cluster::{Broker, Cluster};
use crate::config::HostPort;
use crate::engine::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::messages::{
    self, DescribeClusterRequest, GetTelemetrySubscriptionsRequest, UnregisterBrokerRequest,
};
use crate::protocol::metadata::{MetadataRequest, MetadataResponse};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::{BrokerId, Uuid};

/// A cluster, as one of its brokers describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: Option<Arc<str>>,
    /// The controller; with KRaft, some broker that passes requests on to it.
    pub controller: Option<BrokerId>,
    /// The brokers that are up, by id.
    pub brokers: Vec<Broker>,
    /// The brokers that are registered and not up, by id (KIP-1073, told from Kafka 4.0).
    pub fenced_brokers: Vec<Broker>,
    /// What this client may do with the cluster (from Kafka 2.8); `None` unless
    /// [asked for](crate::Admin::with_authorized_operations).
    pub authorized_operations: Option<BTreeSet<AclOperation>>,
}

/// The key of an operation on the cluster as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Whole;

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cluster")
    }
}

impl Key for Whole {}

/// By Metadata, which every broker knows.
pub(crate) struct DescribeByMetadata;

impl Operation for DescribeByMetadata {
    type Key = Whole;
    type Item = ();
    type Output = ClusterDescription;
    const ATTEMPT: &'static str = "describe";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        Box::new(MetadataRequest { topics: Some(Vec::new()), allow_auto_topic_creation: false })
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = MetadataResponse::decode(&response)?;
        if let Some(code) = answer.error {
            return Ok(one(items, Err(Refusal { code, message: None })));
        }
        let brokers = answer.brokers.into_iter().map(|node| Broker {
            id: node.id,
            address: HostPort { host: node.host.to_string(), port: node.port },
            rack: node.rack.map(|rack| Arc::from(rack.as_str())),
        });
        let mut brokers: Vec<Broker> = brokers.collect();
        brokers.sort_by_key(|broker| broker.id);
        let cluster_id = answer.cluster_id.map(|id| Arc::from(id.as_str()));
        let description = ClusterDescription {
            cluster_id,
            controller: answer.controller,
            brokers,
            fenced_brokers: Vec::new(),
            authorized_operations: None,
        };
        Ok(one(items, Ok(description)))
    }
}

/// By DescribeCluster (KIP-700), which also tells of brokers that are down.
pub(crate) struct DescribeCluster {
    /// Whether to say what this client may do with it.
    pub(crate) authorized_operations: bool,
}

impl Operation for DescribeCluster {
    type Key = Whole;
    type Item = ();
    type Output = ClusterDescription;
    const ATTEMPT: &'static str = "describe";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let request = DescribeClusterRequest::default()
            .with_include_cluster_authorized_operations(self.authorized_operations);
        Box::new(ByVersion::new(0..=2, move |version| {
            request.clone().with_include_fenced_brokers(version >= 2)
        }))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<DescribeClusterRequest>()?;
        let (mut brokers, mut fenced_brokers) = (Vec::new(), Vec::new());
        for node in answer.brokers {
            // A broker that nobody could connect to is passed over: the others count.
            let Ok(port) = u16::try_from(node.port) else { continue };
            let broker = Broker {
                id: BrokerId(node.broker_id.0),
                address: HostPort { host: node.host.to_string(), port },
                rack: node.rack.map(|rack| Arc::from(rack.as_str())),
            };
            if node.is_fenced { &mut fenced_brokers } else { &mut brokers }.push(broker);
        }
        brokers.sort_by_key(|broker| broker.id);
        fenced_brokers.sort_by_key(|broker| broker.id);
        let description = ClusterDescription {
            cluster_id: Some(Arc::from(answer.cluster_id.as_str())),
            controller: (answer.controller_id.0 >= 0).then_some(BrokerId(answer.controller_id.0)),
            brokers,
            fenced_brokers,
            authorized_operations: acls::operations(answer.cluster_authorized_operations),
        };
        Ok(one(items, outcome(answer.error_code, answer.error_message, description)))
    }
}

/// Forgets a broker that is gone for good.
pub(crate) struct UnregisterBroker;

impl Operation for UnregisterBroker {
    type Key = BrokerId;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "unregister broker";

    fn target(&self, _: &BrokerId, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(BrokerId, ())], _: Duration) -> Box<dyn Request> {
        let broker = items.first().map_or(-1, |(broker, ())| broker.0);
        let request = UnregisterBrokerRequest::default();
        Box::new(Plain::new(request.with_broker_id(messages::BrokerId(broker))))
    }

    fn read(&self, items: &[(BrokerId, ())], response: Response) -> Result<Outcomes<BrokerId, ()>> {
        let answer = response.decode::<UnregisterBrokerRequest>()?;
        Ok(one(items, outcome(answer.error_code, answer.error_message, ())))
    }
}

/// The id that the brokers give this client for its metrics (KIP-714).
pub(crate) struct ClientInstanceId;

impl Operation for ClientInstanceId {
    type Key = Whole;
    type Item = ();
    type Output = Uuid;
    const ATTEMPT: &'static str = "ask for this client's instance id of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        Box::new(Plain::new(GetTelemetrySubscriptionsRequest::default()))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Uuid>> {
        let answer = response.decode::<GetTelemetrySubscriptionsRequest>()?;
        let id = Uuid(answer.client_instance_id.into_bytes());
        Ok(one(items, outcome(answer.error_code, None, id)))
    }
}

/// The one result of an operation on one thing.
pub(crate) fn only<K, T>(results: Vec<(K, Result<T>)>) -> Result<T> {
    let first = results.into_iter().next();
    first.map_or_else(
        || Err(Error::new(ErrorKind::Protocol, "the operation has no result")),
        |(_, result)| result,
    )
}

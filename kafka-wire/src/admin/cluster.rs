//! What all brokers together are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Operation, Outcomes, Refusal, Unknown};
use crate::cluster::{Broker, Cluster};
use crate::config::HostPort;
use crate::engine::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::metadata::{MetadataRequest, MetadataResponse};
use crate::protocol::request::{Request, Response};
use crate::types::BrokerId;

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
}

/// The key of an operation on the cluster as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Whole;

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cluster")
    }
}

pub(crate) struct DescribeCluster;

impl Operation for DescribeCluster {
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

    fn read(&self, _: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = MetadataResponse::decode(&response)?;
        if let Some(code) = answer.error {
            return Ok(vec![(Whole, Err(Refusal { code, message: None }))]);
        }
        let brokers = answer.brokers.into_iter().map(|node| Broker {
            id: node.id,
            address: HostPort { host: node.host.to_string(), port: node.port },
            rack: node.rack.map(|rack| Arc::from(rack.as_str())),
        });
        let mut brokers: Vec<Broker> = brokers.collect();
        brokers.sort_by_key(|broker| broker.id);
        let cluster_id = answer.cluster_id.map(|id| Arc::from(id.as_str()));
        Ok(vec![(Whole, Ok(ClusterDescription { cluster_id, controller: answer.controller, brokers }))])
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

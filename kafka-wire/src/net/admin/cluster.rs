//! The cluster: brokers, features, controllers.

use super::{Admin, Results, keys, pairs};
use crate::admin::cluster::{
    ClientInstanceId, ClusterDescription, DescribeByMetadata, DescribeCluster, UnregisterBroker, only,
};
use crate::admin::features::{DescribeFeatures, FeatureMetadata, FeatureUpdate, UpdateFeatures};
use crate::admin::quorum::{AddRaftVoter, DescribeQuorum, QuorumDescription, RaftEndpoint, RemoveRaftVoter};
use crate::error::{ErrorKind, Result};
use crate::types::{BrokerId, Uuid};

impl Admin {
    /// The cluster's id, controller and brokers.
    ///
    /// # Errors
    /// When no broker answers in time.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let authorized_operations = self.authorized_operations;
        match self.ask(DescribeCluster { authorized_operations }).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => self.ask(DescribeByMetadata).await,
            described => described,
        }
    }

    /// Makes the cluster forget a broker that is gone for good (KIP-500).
    ///
    /// # Errors
    /// `BROKER_ID_NOT_REGISTERED`, or when the controller does not answer in time.
    pub async fn unregister_broker(&self, broker: BrokerId) -> Result<()> {
        only(self.run(UnregisterBroker, keys([broker])).await?)
    }

    /// The features that the cluster runs with, and those that a broker of it could run with (KIP-584).
    ///
    /// # Errors
    /// When no broker answers in time.
    pub async fn describe_features(&self) -> Result<FeatureMetadata> {
        self.ask(DescribeFeatures { broker: None }).await
    }

    /// As [`Admin::describe_features`], with those that this broker could run with: before an upgrade each is to be
    /// asked.
    ///
    /// # Errors
    /// When the broker does not answer in time.
    pub async fn describe_features_of(&self, broker: BrokerId) -> Result<FeatureMetadata> {
        self.ask(DescribeFeatures { broker: Some(broker) }).await
    }

    /// Changes the levels of features; from Kafka 4.0 all of them or none.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each feature has its own, such as `INVALID_UPDATE_VERSION`.
    pub async fn update_features<T: Into<String>>(
        &self,
        updates: impl IntoIterator<Item = (T, FeatureUpdate)>,
    ) -> Result<Results<String, ()>> {
        let updates = updates.into_iter().map(|(feature, update)| (feature.into(), update));
        self.run(UpdateFeatures { validate_only: false }, pairs::<String, String, _, _>(updates)).await
    }

    /// Asks whether the levels of features could be changed; changes none.
    ///
    /// # Errors
    /// As [`Admin::update_features`].
    pub async fn validate_feature_updates<T: Into<String>>(
        &self,
        updates: impl IntoIterator<Item = (T, FeatureUpdate)>,
    ) -> Result<Results<String, ()>> {
        let updates = updates.into_iter().map(|(feature, update)| (feature.into(), update));
        self.run(UpdateFeatures { validate_only: true }, pairs::<String, String, _, _>(updates)).await
    }

    /// How the controllers stand that keep the cluster's metadata (KIP-836).
    ///
    /// # Errors
    /// `Unsupported` where the cluster has ZooKeeper; when no broker answers in time.
    pub async fn describe_metadata_quorum(&self) -> Result<QuorumDescription> {
        self.ask(DescribeQuorum).await
    }

    /// Lets a controller vote, that follows already (KIP-853).
    ///
    /// # Errors
    /// `UNSUPPORTED_VERSION` where the quorum is fixed by `controller.quorum.voters`, `DUPLICATE_VOTER`; when it
    /// does not come to pass in time.
    pub async fn add_raft_voter(
        &self,
        id: BrokerId,
        directory_id: Uuid,
        endpoints: Vec<RaftEndpoint>,
    ) -> Result<()> {
        self.ask(AddRaftVoter { id, directory_id, endpoints }).await
    }

    /// Lets a controller vote no more (KIP-853).
    ///
    /// # Errors
    /// As [`Admin::add_raft_voter`], `VOTER_NOT_FOUND`.
    pub async fn remove_raft_voter(&self, id: BrokerId, directory_id: Uuid) -> Result<()> {
        self.ask(RemoveRaftVoter { id, directory_id }).await
    }

    /// The id that the brokers would give this client for its metrics (KIP-714): a new one each time.
    ///
    /// # Errors
    /// `Unsupported` where no broker has a receiver of metrics.
    pub async fn client_instance_id(&self) -> Result<Uuid> {
        self.ask(ClientInstanceId).await
    }
}

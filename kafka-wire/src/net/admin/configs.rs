//! Configurations.

use super::{Admin, Results, keys, pairs};
use crate::admin::configs::{
    AlterConfigs, ConfigChange, ConfigEntry, ConfigResource, ConfigResourceKind, DescribeConfigs,
    ListConfigResources,
};
use crate::error::Result;

impl Admin {
    /// The configurations of topics, brokers and other things, defaults included.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each thing has its own.
    pub async fn describe_configs(
        &self,
        resources: impl IntoIterator<Item = ConfigResource>,
    ) -> Result<Results<ConfigResource, Vec<ConfigEntry>>> {
        self.run(DescribeConfigs { documentation: false }, keys(resources)).await
    }

    /// As [`Admin::describe_configs`], with what each configuration is for (from Kafka 2.6).
    ///
    /// # Errors
    /// As [`Admin::describe_configs`].
    pub async fn describe_configs_with_documentation(
        &self,
        resources: impl IntoIterator<Item = ConfigResource>,
    ) -> Result<Results<ConfigResource, Vec<ConfigEntry>>> {
        self.run(DescribeConfigs { documentation: true }, keys(resources)).await
    }

    /// Changes single configurations, and leaves the others.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each thing has its own, such as `INVALID_CONFIG`.
    pub async fn incremental_alter_configs(
        &self,
        changes: impl IntoIterator<Item = (ConfigResource, Vec<ConfigChange>)>,
    ) -> Result<Results<ConfigResource, ()>> {
        self.run(AlterConfigs { validate_only: false }, pairs(changes)).await
    }

    /// Asks whether configurations could be changed; changes none.
    ///
    /// # Errors
    /// As [`Admin::incremental_alter_configs`].
    pub async fn validate_config_changes(
        &self,
        changes: impl IntoIterator<Item = (ConfigResource, Vec<ConfigChange>)>,
    ) -> Result<Results<ConfigResource, ()>> {
        self.run(AlterConfigs { validate_only: true }, pairs(changes)).await
    }

    /// The things of these kinds that have a configuration, or can have one; of all kinds with none (KIP-1142).
    /// Before Kafka 4.1 only [`ConfigResourceKind::ClientMetrics`] can be listed.
    ///
    /// # Errors
    /// `Unsupported` before Kafka 3.7; when no broker answers in time.
    pub async fn list_config_resources(
        &self,
        kinds: impl IntoIterator<Item = ConfigResourceKind>,
    ) -> Result<Vec<ConfigResource>> {
        self.ask(ListConfigResources { kinds: kinds.into_iter().collect() }).await
    }
}

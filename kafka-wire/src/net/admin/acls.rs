//! Access control lists and quotas.

use std::collections::BTreeMap;

use super::{Admin, Results, keys, pairs};
use crate::admin::acls::{AclBinding, AclFilter, CreateAcls, DeleteAcls, DescribeAcls};
use crate::admin::quotas::{AlterQuotas, DescribeQuotas, QuotaEntity, QuotaFilter};
use crate::error::Result;

impl Admin {
    /// The access control entries that `filter` means.
    ///
    /// # Errors
    /// `SECURITY_DISABLED` where the brokers have no authorizer; when no broker answers in time.
    pub async fn describe_acls(&self, filter: AclFilter) -> Result<Vec<AclBinding>> {
        self.ask(DescribeAcls { filter }).await
    }

    /// Creates access control entries; one that is there already stays.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each entry has its own, such as `SECURITY_DISABLED`.
    pub async fn create_acls(
        &self,
        entries: impl IntoIterator<Item = AclBinding>,
    ) -> Result<Results<AclBinding, ()>> {
        self.run(CreateAcls, keys(entries)).await
    }

    /// Deletes the access control entries that the filters mean, and tells which those were.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each filter has its own, such as `SECURITY_DISABLED`.
    pub async fn delete_acls(
        &self,
        filters: impl IntoIterator<Item = AclFilter>,
    ) -> Result<Results<AclFilter, Vec<AclBinding>>> {
        self.run(DeleteAcls, keys(filters)).await
    }

    /// The quotas of the entities that `filter` means (KIP-546), such as `producer_byte_rate`.
    ///
    /// # Errors
    /// When no broker answers in time, or the filter makes no sense to it.
    pub async fn describe_client_quotas(
        &self,
        filter: QuotaFilter,
    ) -> Result<BTreeMap<QuotaEntity, BTreeMap<String, f64>>> {
        self.ask(DescribeQuotas { filter }).await
    }

    /// Sets quotas by name, or removes them with `None`.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each entity has its own.
    pub async fn alter_client_quotas(
        &self,
        changes: impl IntoIterator<Item = (QuotaEntity, BTreeMap<String, Option<f64>>)>,
    ) -> Result<Results<QuotaEntity, ()>> {
        self.run(AlterQuotas { validate_only: false }, pairs(changes)).await
    }

    /// Asks whether quotas could be changed; changes none.
    ///
    /// # Errors
    /// As [`Admin::alter_client_quotas`].
    pub async fn validate_client_quotas(
        &self,
        changes: impl IntoIterator<Item = (QuotaEntity, BTreeMap<String, Option<f64>>)>,
    ) -> Result<Results<QuotaEntity, ()>> {
        self.run(AlterQuotas { validate_only: true }, pairs(changes)).await
    }
}

//! Access control lists: who may do what to what, from where.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::cluster::Whole;
use super::names::numbered;
use super::wire::{one, outcome, refusal, text};
use super::{Key, Operation, Outcome, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::create_acls_request::{AclCreation, CreateAclsRequest};
use crate::protocol::messages::delete_acls_request::{DeleteAclsFilter, DeleteAclsRequest};
use crate::protocol::messages::delete_acls_response::DeleteAclsMatchingAcl;
use crate::protocol::messages::describe_acls_request::DescribeAclsRequest;
use crate::protocol::messages::describe_acls_response::DescribeAclsResource;
use crate::protocol::request::{Plain, Request, Response};

/// Stands for anything in a filter.
const ANY: i8 = 1;

numbered! {
    /// What access is given to.
    ResourceType, "a resource type" {
        /// A topic, by name.
        Topic = 2 "TOPIC",
        /// A group, by id.
        Group = 3 "GROUP",
        /// The cluster; its name is `kafka-cluster`.
        Cluster = 4 "CLUSTER",
        /// A transactional id.
        TransactionalId = 5 "TRANSACTIONAL_ID",
        /// A delegation token, by id.
        DelegationToken = 6 "DELEGATION_TOKEN",
        /// A principal whose tokens are managed, such as `User:alice`.
        User = 7 "USER",
    }
}

numbered! {
    /// How the name of an entry is compared with that of a resource.
    PatternType, "a pattern type" {
        /// They are the same; `*` is all.
        Literal = 3 "LITERAL",
        /// The resource's begins with it.
        Prefixed = 4 "PREFIXED",
    }
}

numbered! {
    /// How the name of a filter is compared with that of an entry.
    PatternFilter, "a pattern filter" {
        /// They are the same, whatever the entry's type.
        Any = 1 "ANY",
        /// The entry holds for a resource of this name: literal, prefixed, or `*`.
        Match = 2 "MATCH",
        /// They are the same and the entry is literal.
        Literal = 3 "LITERAL",
        /// They are the same and the entry is prefixed.
        Prefixed = 4 "PREFIXED",
    }
}

numbered! {
    /// What is done to a resource.
    AclOperation, "an operation" {
        /// Anything.
        All = 2 "ALL",
        /// Fetch, and commit offsets.
        Read = 3 "READ",
        /// Produce.
        Write = 4 "WRITE",
        /// Create.
        Create = 5 "CREATE",
        /// Delete.
        Delete = 6 "DELETE",
        /// Change, and manage access.
        Alter = 7 "ALTER",
        /// Look at.
        Describe = 8 "DESCRIBE",
        /// What brokers ask of each other.
        ClusterAction = 9 "CLUSTER_ACTION",
        /// Look at configurations.
        DescribeConfigs = 10 "DESCRIBE_CONFIGS",
        /// Change configurations.
        AlterConfigs = 11 "ALTER_CONFIGS",
        /// Produce idempotently; any `WRITE` includes it since Kafka 2.8.
        IdempotentWrite = 12 "IDEMPOTENT_WRITE",
        /// Create delegation tokens of another user.
        CreateTokens = 13 "CREATE_TOKENS",
        /// Look at delegation tokens of another user.
        DescribeTokens = 14 "DESCRIBE_TOKENS",
        /// Take part in two-phase commit (KIP-939).
        TwoPhaseCommit = 15 "TWO_PHASE_COMMIT",
    }
}

/// The operations that an answer names by bits; `None` where it was not asked for them.
pub(super) fn operations(bits: i32) -> Option<BTreeSet<AclOperation>> {
    let is_set = |operation: &AclOperation| bits >> operation.to_wire() & 1 == 1;
    (bits != i32::MIN).then(|| AclOperation::ALL.iter().copied().filter(is_set).collect())
}

numbered! {
    /// Whether it is allowed; one denial outweighs all permissions.
    AclPermission, "a permission" {
        /// It is not.
        Deny = 2 "DENY",
        /// It is.
        Allow = 3 "ALLOW",
    }
}

/// One entry of the access control lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AclBinding {
    /// To what kind of thing.
    pub resource_type: ResourceType,
    /// To which; `*` for all with [`PatternType::Literal`].
    pub resource_name: String,
    /// How the name is meant.
    pub pattern_type: PatternType,
    /// Who, such as `User:alice`; `User:*` for all.
    pub principal: String,
    /// From where, as an address; `*` for everywhere.
    pub host: String,
    /// What is done.
    pub operation: AclOperation,
    /// Whether that is allowed.
    pub permission: AclPermission,
}

impl AclBinding {
    /// `principal` may do `operation` to this resource, from everywhere.
    pub fn allow(
        principal: impl Into<String>,
        operation: AclOperation,
        resource_type: ResourceType,
        resource_name: impl Into<String>,
    ) -> Self {
        Self {
            resource_type,
            resource_name: resource_name.into(),
            pattern_type: PatternType::Literal,
            principal: principal.into(),
            host: "*".to_owned(),
            operation,
            permission: AclPermission::Allow,
        }
    }

    /// For all resources whose names begin so.
    #[must_use]
    pub fn prefixed(self) -> Self {
        Self { pattern_type: PatternType::Prefixed, ..self }
    }

    /// Denied instead.
    #[must_use]
    pub fn denied(self) -> Self {
        Self { permission: AclPermission::Deny, ..self }
    }

    /// From this address only.
    #[must_use]
    pub fn from_host(self, host: impl Into<String>) -> Self {
        Self { host: host.into(), ..self }
    }

    fn to_wire(&self) -> AclCreation {
        AclCreation::default()
            .with_resource_type(self.resource_type.to_wire())
            .with_resource_name(text(&self.resource_name))
            .with_resource_pattern_type(self.pattern_type.to_wire())
            .with_principal(text(&self.principal))
            .with_host(text(&self.host))
            .with_operation(self.operation.to_wire())
            .with_permission_type(self.permission.to_wire())
    }
}

impl Key for AclBinding {}

impl fmt::Display for AclBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource_type, resource_name, pattern_type, principal, host, operation, permission } =
            self;
        write!(
            f,
            "{permission} {operation} on {resource_type}:{pattern_type}:{resource_name} to {principal} from {host}"
        )
    }
}

/// Which entries are meant; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AclFilter {
    /// To what kind of thing.
    pub resource_type: Option<ResourceType>,
    /// To which.
    pub resource_name: Option<String>,
    /// How the name is compared.
    pub pattern: PatternFilter,
    /// Who.
    pub principal: Option<String>,
    /// From where.
    pub host: Option<String>,
    /// What is done.
    pub operation: Option<AclOperation>,
    /// Whether that is allowed.
    pub permission: Option<AclPermission>,
}

impl Default for AclFilter {
    /// All entries.
    fn default() -> Self {
        Self {
            resource_type: None,
            resource_name: None,
            pattern: PatternFilter::Any,
            principal: None,
            host: None,
            operation: None,
            permission: None,
        }
    }
}

impl From<AclBinding> for AclFilter {
    /// This entry and no other.
    fn from(entry: AclBinding) -> Self {
        Self {
            resource_type: Some(entry.resource_type),
            resource_name: Some(entry.resource_name),
            pattern: PatternFilter::from_wire(entry.pattern_type.to_wire()),
            principal: Some(entry.principal),
            host: Some(entry.host),
            operation: Some(entry.operation),
            permission: Some(entry.permission),
        }
    }
}

impl Key for AclFilter {}

impl fmt::Display for AclFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn or_any(value: Option<&impl ToString>) -> String {
            value.map_or_else(|| "any".to_owned(), ToString::to_string)
        }
        write!(
            f,
            "{} {} on {}:{}:{} to {} from {}",
            or_any(self.permission.as_ref()),
            or_any(self.operation.as_ref()),
            or_any(self.resource_type.as_ref()),
            self.pattern,
            or_any(self.resource_name.as_ref()),
            or_any(self.principal.as_ref()),
            or_any(self.host.as_ref()),
        )
    }
}

pub(crate) struct DescribeAcls {
    pub(crate) filter: AclFilter,
}

impl Operation for DescribeAcls {
    type Key = Whole;
    type Item = ();
    type Output = Vec<AclBinding>;
    const ATTEMPT: &'static str = "list the access control entries of";

    fn target(&self, _: &Whole, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Any)
    }

    fn request(&self, _: &[(Whole, ())], _: Duration) -> Box<dyn Request> {
        let filter = &self.filter;
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(filter.resource_type.map_or(ANY, ResourceType::to_wire))
            .with_resource_name_filter(filter.resource_name.as_deref().map(text))
            .with_pattern_type_filter(filter.pattern.to_wire())
            .with_principal_filter(filter.principal.as_deref().map(text))
            .with_host_filter(filter.host.as_deref().map(text))
            .with_operation(filter.operation.map_or(ANY, AclOperation::to_wire))
            .with_permission_type(filter.permission.map_or(ANY, AclPermission::to_wire));
        Box::new(Plain::new(request))
    }

    fn read(&self, items: &[(Whole, ())], response: Response) -> Result<Outcomes<Whole, Self::Output>> {
        let answer = response.decode::<DescribeAclsRequest>()?;
        let entries = answer.resources.into_iter().flat_map(read_resource).collect();
        Ok(one(items, outcome(answer.error_code, answer.error_message, entries)))
    }
}

fn read_resource(resource: DescribeAclsResource) -> impl Iterator<Item = AclBinding> {
    let name = resource.resource_name.to_string();
    let resource_type = ResourceType::from_wire(resource.resource_type);
    let pattern_type = PatternType::from_wire(resource.pattern_type);
    resource.acls.into_iter().map(move |entry| AclBinding {
        resource_type,
        resource_name: name.clone(),
        pattern_type,
        principal: entry.principal.to_string(),
        host: entry.host.to_string(),
        operation: AclOperation::from_wire(entry.operation),
        permission: AclPermission::from_wire(entry.permission_type),
    })
}

pub(crate) struct CreateAcls;

impl Operation for CreateAcls {
    type Key = AclBinding;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "create the access control entry";

    fn target(&self, _: &AclBinding, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(AclBinding, ())], _: Duration) -> Box<dyn Request> {
        let entries = items.iter().map(|(entry, ())| entry.to_wire()).collect();
        Box::new(Plain::new(CreateAclsRequest::default().with_creations(entries)))
    }

    fn read(&self, items: &[(AclBinding, ())], response: Response) -> Result<Outcomes<AclBinding, ()>> {
        let answer = response.decode::<CreateAclsRequest>()?;
        let outcomes =
            answer.results.into_iter().map(|created| outcome(created.error_code, created.error_message, ()));
        // The answers have the order of the entries and no other sign of which is which.
        Ok(items.iter().map(|(entry, ())| entry.clone()).zip(outcomes).collect())
    }
}

pub(crate) struct DeleteAcls;

impl Operation for DeleteAcls {
    type Key = AclFilter;
    type Item = ();
    /// What was deleted.
    type Output = Vec<AclBinding>;
    const ATTEMPT: &'static str = "delete the access control entries";

    fn target(&self, _: &AclFilter, _: &Cluster) -> Result<Target, Unknown> {
        Ok(Target::Controller)
    }

    fn request(&self, items: &[(AclFilter, ())], _: Duration) -> Box<dyn Request> {
        let filters = items.iter().map(|(filter, ())| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(filter.resource_type.map_or(ANY, ResourceType::to_wire))
                .with_resource_name_filter(filter.resource_name.as_deref().map(text))
                .with_pattern_type_filter(filter.pattern.to_wire())
                .with_principal_filter(filter.principal.as_deref().map(text))
                .with_host_filter(filter.host.as_deref().map(text))
                .with_operation(filter.operation.map_or(ANY, AclOperation::to_wire))
                .with_permission_type(filter.permission.map_or(ANY, AclPermission::to_wire))
        });
        Box::new(Plain::new(DeleteAclsRequest::default().with_filters(filters.collect())))
    }

    fn read(
        &self,
        items: &[(AclFilter, ())],
        response: Response,
    ) -> Result<Outcomes<AclFilter, Self::Output>> {
        let answer = response.decode::<DeleteAclsRequest>()?;
        let outcomes = answer.filter_results.into_iter().map(|result| {
            let deleted: Outcome<Vec<AclBinding>> =
                result.matching_acls.into_iter().map(read_deleted).collect();
            refusal(result.error_code, result.error_message).map_or(deleted, Err)
        });
        Ok(items.iter().map(|(filter, ())| filter.clone()).zip(outcomes).collect())
    }
}

fn read_deleted(entry: DeleteAclsMatchingAcl) -> Outcome<AclBinding> {
    let binding = AclBinding {
        resource_type: ResourceType::from_wire(entry.resource_type),
        resource_name: entry.resource_name.to_string(),
        pattern_type: PatternType::from_wire(entry.pattern_type),
        principal: entry.principal.to_string(),
        host: entry.host.to_string(),
        operation: AclOperation::from_wire(entry.operation),
        permission: AclPermission::from_wire(entry.permission_type),
    };
    outcome(entry.error_code, entry.error_message, binding)
}

//! Who may do what: access control lists as Kafka's `StandardAuthorizer` judges them.
//!
//! Super users may do everything. Otherwise a denial wins, then a permission, and what no list names is
//! refused, or allowed under `allow.everyone.if.no.acl.found`.

use std::collections::BTreeSet;

use kafka_wire::ErrorCode;
use serde::{Deserialize, Serialize};

/// Lists kept at most; `CreateAcls` refuses more.
pub(crate) const ACLS_MAX: usize = 100_000;
/// The one name that the resource [`ResourceType::Cluster`] has.
pub(crate) const CLUSTER_NAME: &str = "kafka-cluster";
/// The name, or host, that stands for every one.
const ANY: &str = "*";
/// The principal that stands for every user.
const EVERYONE: &str = "User:*";

/// How a cluster authorizes; without it everybody may do everything, and lists can be neither written nor
/// read (`SECURITY_DISABLED`), as in Kafka without `authorizer.class.name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizerOptions {
    /// Principals that may do everything (`super.users`), such as `User:admin`; `User:ANONYMOUS` is who has
    /// not authenticated.
    pub super_users: Vec<String>,
    /// Whether a resource that no list names is open to all (`allow.everyone.if.no.acl.found`); false by
    /// default, as in Kafka.
    pub allow_everyone_if_no_acl_found: bool,
}

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)* }

        impl $name {
            pub(crate) const fn to_wire(self) -> i8 {
                self as i8
            }

            pub(crate) const fn from_wire(number: i8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

wire_enum! {
    /// What somebody wants to do (Kafka's `AclOperation`, with its numbers).
    Operation {
        /// Everything.
        All = 2,
        /// Read records, or be a member of a group. Implies `Describe`.
        Read = 3,
        /// Write records, or use a transactional id. Implies `Describe`.
        Write = 4,
        /// Create topics.
        Create = 5,
        /// Delete topics, records, groups. Implies `Describe`.
        Delete = 6,
        /// Change partitions, access control lists, quotas. Implies `Describe`.
        Alter = 7,
        /// See that it is there, and its state.
        Describe = 8,
        /// What brokers ask of each other.
        ClusterAction = 9,
        /// See its configuration.
        DescribeConfigs = 10,
        /// Change its configuration. Implies `DescribeConfigs`.
        AlterConfigs = 11,
        /// Write with a producer id without transactions; before Kafka 2.8 needed by idempotent producers.
        IdempotentWrite = 12,
        /// Create delegation tokens for another user.
        CreateTokens = 13,
        /// See delegation tokens of another user.
        DescribeTokens = 14,
        /// Take part in two-phase commit (KIP-939).
        TwoPhaseCommit = 15,
    }
}

wire_enum! {
    /// What is protected (Kafka's `ResourceType`, with its numbers).
    ResourceType {
        /// A topic.
        Topic = 2,
        /// A group of consumers.
        Group = 3,
        /// The cluster; its only name is `kafka-cluster`.
        Cluster = 4,
        /// A transactional id.
        TransactionalId = 5,
        /// A delegation token, by its id.
        DelegationToken = 6,
        /// A user, whose tokens are asked for.
        User = 7,
    }
}

wire_enum! {
    /// How a list's name is compared with a resource's.
    PatternType {
        /// The same name; `*` is every name.
        Literal = 3,
        /// Every name that begins like this.
        Prefixed = 4,
    }
}

impl ResourceType {
    /// What a refusal says.
    const fn refusal(self) -> ErrorCode {
        match self {
            Self::Topic => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            Self::Group => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            Self::Cluster => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            Self::TransactionalId => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Self::DelegationToken | Self::User => ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED,
        }
    }

    /// What can be done with it at all.
    pub(crate) const fn operations(self) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, CreateTokens, Delete, Describe, DescribeConfigs,
            DescribeTokens, IdempotentWrite, Read, TwoPhaseCommit, Write,
        };
        match self {
            Self::Topic => &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs],
            Self::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            Self::Cluster => {
                &[Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite]
            }
            Self::TransactionalId => &[Write, Describe, TwoPhaseCommit],
            Self::DelegationToken => &[Describe],
            Self::User => &[CreateTokens, DescribeTokens],
        }
    }
}

/// One entry of an access control list: a principal, from a host, is allowed or denied an operation on the
/// resources of a pattern.
///
/// ```
/// use tidewater_broker::{Acl, Operation};
/// let reads = Acl::allow("User:alice", Operation::Read).topic("orders");
/// let no_secrets = Acl::deny("User:*", Operation::All).topic_prefix("secret-");
/// # let _ = (reads, no_secrets);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acl {
    pub(crate) resource_type: ResourceType,
    pub(crate) pattern_type: PatternType,
    pub(crate) name: String,
    pub(crate) principal: String,
    pub(crate) host: String,
    pub(crate) operation: Operation,
    pub(crate) allows: bool,
}

impl Acl {
    /// Allows `principal` (such as `User:alice`, or `User:*`) an operation on the cluster, or on what
    /// [`Acl::on`] and the others name.
    pub fn allow(principal: impl Into<String>, operation: Operation) -> Self {
        Self {
            resource_type: ResourceType::Cluster,
            pattern_type: PatternType::Literal,
            name: CLUSTER_NAME.to_owned(),
            principal: principal.into(),
            host: ANY.to_owned(),
            operation,
            allows: true,
        }
    }

    /// Denies it, whatever else allows it.
    pub fn deny(principal: impl Into<String>, operation: Operation) -> Self {
        Self { allows: false, ..Self::allow(principal, operation) }
    }

    /// On the resources of a type whose names match.
    #[must_use]
    pub fn on(
        mut self,
        resource_type: ResourceType,
        pattern_type: PatternType,
        name: impl Into<String>,
    ) -> Self {
        (self.resource_type, self.pattern_type, self.name) = (resource_type, pattern_type, name.into());
        self
    }

    /// On this topic; `*` is every topic.
    #[must_use]
    pub fn topic(self, name: impl Into<String>) -> Self {
        self.on(ResourceType::Topic, PatternType::Literal, name)
    }

    /// On every topic whose name begins so.
    #[must_use]
    pub fn topic_prefix(self, prefix: impl Into<String>) -> Self {
        self.on(ResourceType::Topic, PatternType::Prefixed, prefix)
    }

    /// On this group; `*` is every group.
    #[must_use]
    pub fn group(self, id: impl Into<String>) -> Self {
        self.on(ResourceType::Group, PatternType::Literal, id)
    }

    /// On this transactional id; `*` is every one.
    #[must_use]
    pub fn transactional_id(self, id: impl Into<String>) -> Self {
        self.on(ResourceType::TransactionalId, PatternType::Literal, id)
    }

    /// Only from this host, by its address; from every host by default.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Whether it speaks of this resource.
    fn names(&self, resource_type: ResourceType, name: &str) -> bool {
        self.resource_type == resource_type
            && match self.pattern_type {
                PatternType::Literal => self.name == name || self.name == ANY,
                PatternType::Prefixed => name.starts_with(&self.name),
            }
    }

    fn speaks_of(&self, who: Who<'_>) -> bool {
        (self.principal == who.principal || self.principal == EVERYONE)
            && (self.host == who.host || self.host == ANY)
    }

    /// Whether it decides about `operation`: permissions imply lesser ones, denials do not.
    fn covers(&self, operation: Operation) -> bool {
        use Operation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
        if self.operation == operation || self.operation == All {
            return true;
        }
        self.allows
            && match operation {
                Describe => matches!(self.operation, Read | Write | Delete | Alter),
                DescribeConfigs => self.operation == AlterConfigs,
                _ => false,
            }
    }

    /// Whether a denial leaves nothing of what `allowed` names.
    fn overrules(&self, allowed: &Self) -> bool {
        self.resource_type == allowed.resource_type
            && match self.pattern_type {
                PatternType::Literal => {
                    self.name == ANY
                        || (self.name == allowed.name && allowed.pattern_type == PatternType::Literal)
                }
                PatternType::Prefixed => allowed.name.starts_with(&self.name),
            }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    /// Type and name: `User:alice`.
    pub(crate) principal: &'a str,
    /// The address that the connection comes from.
    pub(crate) host: &'a str,
}

/// The lists of a cluster, and how it judges by them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorizer {
    options: Option<AuthorizerOptions>,
    acls: BTreeSet<Acl>,
}

impl Authorizer {
    pub(crate) fn new(options: Option<AuthorizerOptions>) -> Self {
        Self { options, acls: BTreeSet::new() }
    }

    /// Whether there is one at all.
    pub(crate) fn is_enabled(&self) -> bool {
        self.options.is_some()
    }

    pub(crate) fn acls(&self) -> &BTreeSet<Acl> {
        &self.acls
    }

    pub(crate) fn add(&mut self, acl: Acl) {
        self.acls.insert(acl);
    }

    pub(crate) fn remove(&mut self, acl: &Acl) {
        self.acls.remove(acl);
    }

    /// Refuses what `who` may not do.
    ///
    /// # Errors
    /// The code of the resource's type.
    pub(crate) fn check(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource_type: ResourceType,
        name: &str,
    ) -> Result<(), ErrorCode> {
        if self.allows(who, operation, resource_type, name) { Ok(()) } else { Err(resource_type.refusal()) }
    }

    pub(crate) fn allows(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource_type: ResourceType,
        name: &str,
    ) -> bool {
        let Some(options) = &self.options else { return true };
        if is_super_user(options, who) {
            return true;
        }
        let mut any = false;
        let mut allowed = false;
        for acl in self.acls.iter().filter(|acl| acl.names(resource_type, name)) {
            any = true;
            if acl.speaks_of(who) && acl.covers(operation) {
                if !acl.allows {
                    return false;
                }
                allowed = true;
            }
        }
        allowed || (!any && options.allow_everyone_if_no_acl_found)
    }

    /// Whether `who` may do it with some resource of the type (`authorizeByResourceType`).
    pub(crate) fn allows_any(&self, who: Who<'_>, operation: Operation, resource_type: ResourceType) -> bool {
        let Some(options) = &self.options else { return true };
        if is_super_user(options, who) {
            return true;
        }
        let mine =
            |acl: &&Acl| acl.resource_type == resource_type && acl.speaks_of(who) && acl.covers(operation);
        let denials: Vec<&Acl> = self.acls.iter().filter(mine).filter(|acl| !acl.allows).collect();
        let survives = |acl: &Acl| !denials.iter().any(|denial| denial.overrules(acl));
        let any_allowed = self.acls.iter().filter(mine).any(|acl| acl.allows && survives(acl));
        any_allowed
            || (options.allow_everyone_if_no_acl_found && !denials.iter().any(|denial| denial.name == ANY))
    }

    /// All that `who` may do with a resource, as the bits that answers carry (KIP-430).
    pub(crate) fn allowed_operations(&self, who: Who<'_>, resource_type: ResourceType, name: &str) -> i32 {
        let allowed = |operation: &&Operation| self.allows(who, **operation, resource_type, name);
        resource_type
            .operations()
            .iter()
            .filter(allowed)
            .fold(0, |bits, operation| bits | 1 << operation.to_wire())
    }
}

fn is_super_user(options: &AuthorizerOptions, who: Who<'_>) -> bool {
    options.super_users.iter().any(|user| user == who.principal)
}

#[cfg(test)]
mod tests;

//! `tidewater acl`: who may do what; the flags are kafka-acls'.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use kafka_wire::admin::{
    AclBinding, AclFilter, AclOperation, AclPermission, PatternFilter, PatternType, ResourceType,
};
use serde::Serialize;

use super::admin::Common;
use super::common::{Failure, Result, block_on};

/// What to do, and where.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show entries; all without flags.
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        common: Common,
    },
    /// Add entries.
    Add {
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        common: Common,
    },
    /// Remove the entries that the flags mean, and show them.
    Remove {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        common: Common,
    },
}

/// What access is given to.
#[derive(Args)]
struct Resources {
    /// A topic; * for all; may be repeated
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// A group; * for all; may be repeated
    #[arg(long, value_name = "ID")]
    group: Vec<String>,
    /// A transactional id; * for all; may be repeated
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// A delegation token; may be repeated
    #[arg(long, value_name = "ID")]
    delegation_token: Vec<String>,
    /// A principal whose tokens are managed, such as User:alice; may be repeated
    #[arg(long, value_name = "PRINCIPAL")]
    user_principal: Vec<String>,
    /// The cluster
    #[arg(long)]
    cluster: bool,
}

/// The one name of the cluster as a resource.
const CLUSTER: &str = "kafka-cluster";

impl Resources {
    fn all(&self) -> Vec<(ResourceType, &str)> {
        let named = [
            (ResourceType::Topic, &self.topic),
            (ResourceType::Group, &self.group),
            (ResourceType::TransactionalId, &self.transactional_id),
            (ResourceType::DelegationToken, &self.delegation_token),
            (ResourceType::User, &self.user_principal),
        ];
        let mut all = Vec::new();
        for (kind, names) in named {
            all.extend(names.iter().map(|name| (kind, name.as_str())));
        }
        if self.cluster {
            all.push((ResourceType::Cluster, CLUSTER));
        }
        all
    }
}

#[derive(Args)]
struct Entries {
    #[command(flatten)]
    resources: Resources,
    /// The names are beginnings of names
    #[arg(long)]
    prefixed: bool,
    /// Who may, such as User:alice; may be repeated
    #[arg(long, value_name = "PRINCIPAL")]
    allow_principal: Vec<String>,
    /// Who may not; may be repeated
    #[arg(long, value_name = "PRINCIPAL")]
    deny_principal: Vec<String>,
    /// From which address; everywhere without; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    host: Vec<String>,
    /// What: read, write, create, delete, alter, describe, all …; may be repeated
    #[arg(long)]
    operation: Vec<AclOperation>,
    /// What a producer needs: write, describe and create on topics, write and describe on transactional ids
    #[arg(long)]
    producer: bool,
    /// What a consumer needs: read and describe on topics, read on groups
    #[arg(long)]
    consumer: bool,
}

impl Entries {
    fn operations(&self, resource: ResourceType) -> BTreeSet<AclOperation> {
        use AclOperation::{Create, Describe, Read, Write};
        let mut operations: BTreeSet<AclOperation> = self.operation.iter().copied().collect();
        match resource {
            ResourceType::Topic if self.producer => operations.extend([Write, Describe, Create]),
            ResourceType::TransactionalId if self.producer => operations.extend([Write, Describe]),
            _ => {}
        }
        match resource {
            ResourceType::Topic if self.consumer => operations.extend([Read, Describe]),
            ResourceType::Group if self.consumer => operations.extend([Read]),
            _ => {}
        }
        operations
    }

    fn bindings(&self) -> Result<Vec<AclBinding>> {
        let allowed = self.allow_principal.iter().map(|who| (who, AclPermission::Allow));
        let denied = self.deny_principal.iter().map(|who| (who, AclPermission::Deny));
        let everywhere = [String::from("*")];
        let hosts = if self.host.is_empty() { &everywhere[..] } else { &self.host };
        let pattern_type = if self.prefixed { PatternType::Prefixed } else { PatternType::Literal };
        let mut bindings = Vec::new();
        for (who, permission) in allowed.chain(denied) {
            for host in hosts {
                for (resource_type, name) in self.resources.all() {
                    for operation in self.operations(resource_type) {
                        bindings.push(AclBinding {
                            resource_type,
                            resource_name: name.to_owned(),
                            // There is one cluster, and it has no other name.
                            pattern_type: if name == CLUSTER { PatternType::Literal } else { pattern_type },
                            principal: who.clone(),
                            host: host.clone(),
                            operation,
                            permission,
                        });
                    }
                }
            }
        }
        if bindings.is_empty() {
            return Err(Failure::usage(
                "add which entries? they need --allow-principal or --deny-principal, a resource such as --topic, and \
                 --operation, --producer or --consumer",
            ));
        }
        Ok(bindings)
    }
}

#[derive(Args)]
struct Filter {
    #[command(flatten)]
    resources: Resources,
    /// How names are compared: any, match (what holds for a resource of that name), literal, prefixed
    #[arg(long, default_value = "any")]
    pattern: PatternFilter,
    /// Only of this principal
    #[arg(long)]
    principal: Option<String>,
    /// Only from this address
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Only this operation
    #[arg(long)]
    operation: Option<AclOperation>,
    /// Only allow, or only deny
    #[arg(long)]
    permission: Option<AclPermission>,
}

impl Filter {
    fn filters(&self) -> Vec<AclFilter> {
        let any = AclFilter {
            resource_type: None,
            resource_name: None,
            pattern: self.pattern,
            principal: self.principal.clone(),
            host: self.host.clone(),
            operation: self.operation,
            permission: self.permission,
        };
        let resources = self.resources.all();
        if resources.is_empty() {
            return vec![any];
        }
        let of = |(kind, name): (ResourceType, &str)| AclFilter {
            resource_type: Some(kind),
            resource_name: Some(name.to_owned()),
            ..any.clone()
        };
        resources.into_iter().map(of).collect()
    }

    fn means_all(&self) -> bool {
        self.filters() == [AclFilter::default()]
    }
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::List { filter, common } => {
                let admin = common.admin()?;
                let mut entries = BTreeSet::new();
                for filter in filter.filters() {
                    entries.extend(admin.describe_acls(filter).await?);
                }
                show(&common, entries)
            }
            Verb::Add { entries, common } => {
                let added = common.admin()?.create_acls(entries.bindings()?).await?;
                common.report("entry", "added", &added, None)
            }
            Verb::Remove { filter, common } => {
                if filter.means_all() {
                    return Err(Failure::usage(
                        "remove which entries? without a flag it would be all of them",
                    ));
                }
                let mut entries = BTreeSet::new();
                for (_, removed) in common.admin()?.delete_acls(filter.filters()).await? {
                    entries.extend(removed?);
                }
                show(&common, entries)
            }
        }
    })
}

#[derive(Serialize)]
struct Line {
    resource_type: String,
    pattern_type: String,
    resource_name: String,
    principal: String,
    host: String,
    operation: String,
    permission: String,
}

fn show(common: &Common, entries: BTreeSet<AclBinding>) -> Result<()> {
    let line = |entry: AclBinding| Line {
        resource_type: entry.resource_type.to_string(),
        pattern_type: entry.pattern_type.to_string(),
        resource_name: entry.resource_name,
        principal: entry.principal,
        host: entry.host,
        operation: entry.operation.to_string(),
        permission: entry.permission.to_string(),
    };
    let lines: Vec<Line> = entries.into_iter().map(line).collect();
    let columns = ["RESOURCE", "PATTERN", "NAME", "PRINCIPAL", "HOST", "OPERATION", "PERMISSION"];
    common.table(&columns, &lines, |line| {
        [
            &line.resource_type,
            &line.pattern_type,
            &line.resource_name,
            &line.principal,
            &line.host,
            &line.operation,
            &line.permission,
        ]
        .map(String::clone)
        .to_vec()
    })
}

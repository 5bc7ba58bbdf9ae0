//! `tidewater quota`: how much users, client ids and addresses may use.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use kafka_wire::admin::{QuotaEntity, QuotaFilter, QuotaMatch};
use serde::Serialize;

use super::admin::{Common, entry};
use super::common::{Failure, Result, block_on};

/// What to do, and where.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show quotas; all without flags.
    Describe {
        #[command(flatten)]
        entity: Entity,
        #[command(flatten)]
        common: Common,
    },
    /// Set and remove quotas.
    Alter {
        #[command(flatten)]
        entity: Entity,
        /// Set it: producer_byte_rate, consumer_byte_rate, request_percentage, controller_mutation_rate or
        /// connection_creation_rate; may be repeated
        #[arg(long, value_name = "NAME=NUMBER", value_parser = rate)]
        add: Vec<(String, f64)>,
        /// Remove it; may be repeated
        #[arg(long, value_name = "NAME")]
        delete: Vec<String>,
        /// Only ask whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// For whom.
#[derive(Args)]
struct Entity {
    /// A user
    #[arg(long, conflicts_with = "user_default")]
    user: Option<String>,
    /// All users that have none of their own
    #[arg(long)]
    user_default: bool,
    /// A client id
    #[arg(long, conflicts_with = "client_id_default")]
    client_id: Option<String>,
    /// All client ids that have none of their own
    #[arg(long)]
    client_id_default: bool,
    /// An address
    #[arg(long, conflicts_with = "ip_default")]
    ip: Option<String>,
    /// All addresses that have none of their own
    #[arg(long)]
    ip_default: bool,
}

fn rate(text: &str) -> Result<(String, f64), String> {
    let (name, number) = entry(text)?;
    let number = number.parse().map_err(|_| "expected NAME=NUMBER".to_owned())?;
    Ok((name, number))
}

impl Entity {
    /// The types that are named, with names or `None` for the default.
    fn parts(&self) -> impl Iterator<Item = (&'static str, Option<String>)> {
        let parts = [
            ("user", &self.user, self.user_default),
            ("client-id", &self.client_id, self.client_id_default),
            ("ip", &self.ip, self.ip_default),
        ];
        let named = parts
            .map(|(kind, name, is_default)| (name.is_some() || is_default).then(|| (kind, name.clone())));
        named.into_iter().flatten()
    }

    fn filter(&self) -> QuotaFilter {
        let which = |(kind, name): (&str, Option<String>)| {
            (kind.to_owned(), name.map_or(QuotaMatch::Default, QuotaMatch::Exact))
        };
        QuotaFilter { components: self.parts().map(which).collect(), strict: false }
    }
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::Describe { entity, common } => {
                let quotas = common.admin()?.describe_client_quotas(entity.filter()).await?;
                describe(&common, quotas)
            }
            Verb::Alter { entity, add, delete, dry_run, common } => {
                let quota_entity =
                    entity.parts().fold(QuotaEntity::default(), |all, (kind, name)| all.and(kind, name));
                let mut changes: BTreeMap<String, Option<f64>> =
                    add.into_iter().map(|(name, number)| (name, Some(number))).collect();
                changes.extend(delete.into_iter().map(|name| (name, None)));
                if quota_entity == QuotaEntity::default() || changes.is_empty() {
                    return Err(Failure::usage(
                        "change what? --user, --client-id or --ip says whose, and --add or --delete which quota",
                    ));
                }
                let (admin, changes) = (common.admin()?, [(quota_entity, changes)]);
                if dry_run {
                    let checked = admin.validate_client_quotas(changes).await?;
                    return common.report("quota of", "would change", &checked, None);
                }
                common.report("quota of", "changed", &admin.alter_client_quotas(changes).await?, None)
            }
        }
    })
}

fn describe(common: &Common, quotas: BTreeMap<QuotaEntity, BTreeMap<String, f64>>) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        entity: BTreeMap<String, Option<String>>,
        quotas: BTreeMap<String, f64>,
    }
    for (entity, quotas) in quotas {
        let parts = entity.parts().map(|(kind, name)| (kind.to_owned(), name.map(str::to_owned))).collect();
        let line = Line { entity: parts, quotas };
        common.print(&line, || {
            let quotas = line.quotas.iter().map(|(name, value)| format!("{name}={value}"));
            format!("{entity}: {}", quotas.collect::<Vec<_>>().join(", "))
        })?;
    }
    Ok(())
}

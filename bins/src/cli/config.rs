//! `tidewater config`: configurations of topics, brokers, loggers, client metrics and groups.

use clap::{Args, Subcommand, ValueEnum};
use kafka_wire::admin::{ConfigEntry, ConfigResourceKind};
use kafka_wire::{ConfigChange, ConfigResource};
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
    /// Show what is set; with --all also the defaults.
    Describe {
        #[command(flatten)]
        what: What,
        /// Also what nobody has set
        #[arg(short, long)]
        all: bool,
        /// Also what each is for
        #[arg(short, long)]
        documentation: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Change single configurations, and leave the others.
    Alter {
        #[command(flatten)]
        what: What,
        /// Set it; may be repeated
        #[arg(long, value_name = "NAME=VALUE", value_parser = entry)]
        add_config: Vec<(String, String)>,
        /// Give it the default back; may be repeated
        #[arg(long, value_name = "NAME")]
        delete_config: Vec<String>,
        /// Add to a list; may be repeated
        #[arg(long, value_name = "NAME=VALUE", value_parser = entry)]
        append: Vec<(String, String)>,
        /// Take from a list; may be repeated
        #[arg(long, value_name = "NAME=VALUE", value_parser = entry)]
        subtract: Vec<(String, String)>,
        /// Only ask whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List what has a configuration of its own, or can have one.
    List {
        /// Of this kind; of all kinds without
        #[arg(value_enum)]
        kind: Option<Kind>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct What {
    /// What has the configuration
    #[arg(value_enum)]
    kind: Kind,
    /// Its name: a topic's, a broker's node id, a group's id. `broker` without a name is the default of all brokers
    name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl Kind {
    fn of(self) -> ConfigResourceKind {
        match self {
            Self::Topic => ConfigResourceKind::Topic,
            Self::Broker => ConfigResourceKind::Broker,
            Self::BrokerLogger => ConfigResourceKind::BrokerLogger,
            Self::ClientMetrics => ConfigResourceKind::ClientMetrics,
            Self::Group => ConfigResourceKind::Group,
        }
    }
}

impl What {
    fn resource(self) -> Result<ConfigResource> {
        match self.name {
            Some(name) => Ok(ConfigResource::new(self.kind.of(), name)),
            None if self.kind == Kind::Broker => Ok(ConfigResource::all_brokers()),
            None => Err(Failure::usage(
                "say which: only `broker` may stand alone, for the default of all brokers",
            )),
        }
    }
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::Describe { what, all, documentation, common } => {
                let (admin, resource) = (common.admin()?, [what.resource()?]);
                let described = if documentation {
                    admin.describe_configs_with_documentation(resource).await?
                } else {
                    admin.describe_configs(resource).await?
                };
                described.into_iter().try_for_each(|(_, entries)| describe(&common, entries?, all))
            }
            Verb::Alter { what, add_config, delete_config, append, subtract, dry_run, common } => {
                let set = add_config.into_iter().map(|(name, value)| ConfigChange::set(name, value));
                let delete = delete_config.into_iter().map(ConfigChange::delete);
                let append = append.into_iter().map(|(name, value)| ConfigChange::Append { name, value });
                let subtract =
                    subtract.into_iter().map(|(name, value)| ConfigChange::Subtract { name, value });
                let changes: Vec<_> = set.chain(delete).chain(append).chain(subtract).collect();
                if changes.is_empty() {
                    return Err(Failure::usage(
                        "change what? --add-config, --delete-config, --append or --subtract says it",
                    ));
                }
                let (admin, changes) = (common.admin()?, [(what.resource()?, changes)]);
                if dry_run {
                    let checked = admin.validate_config_changes(changes).await?;
                    return common.report("configuration of", "would change", &checked, None);
                }
                let changed = admin.incremental_alter_configs(changes).await?;
                common.report("configuration of", "changed", &changed, None)
            }
            Verb::List { kind, common } => {
                let listed = common.admin()?.list_config_resources(kind.map(Kind::of)).await?;
                list(&common, listed)
            }
        }
    })
}

#[derive(Serialize)]
struct EntryLine {
    name: String,
    value: Option<String>,
    source: String,
    read_only: bool,
    sensitive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    documentation: Option<String>,
}

fn describe(common: &Common, mut entries: Vec<ConfigEntry>, all: bool) -> Result<()> {
    entries.retain(|entry| all || entry.is_set);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries {
        let line = EntryLine {
            name: entry.name,
            value: entry.value.filter(|_| !entry.is_sensitive),
            source: entry.source.to_string(),
            read_only: entry.is_read_only,
            sensitive: entry.is_sensitive,
            documentation: entry.documentation,
        };
        common.print(&line, || {
            let value =
                line.value.as_deref().unwrap_or(if line.sensitive { "[hidden]" } else { "[not told]" });
            let about = line.documentation.as_ref().map(|text| format!("\n  {text}")).unwrap_or_default();
            let source = if all { format!("  ({})", line.source) } else { String::new() };
            format!("{}={value}{source}{about}", line.name)
        })?;
    }
    Ok(())
}

fn list(common: &Common, mut resources: Vec<ConfigResource>) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        kind: String,
        name: String,
    }
    resources.sort();
    let lines: Vec<Line> = resources
        .into_iter()
        .map(|resource| Line { kind: resource.kind.to_string(), name: resource.name })
        .collect();
    common.table(&["KIND", "NAME"], &lines, |line| vec![line.kind.clone(), line.name.clone()])
}

//! `tidewater cluster`: brokers, controllers, features, folders, and who has and leads partitions.

mod election;
mod plan;
mod reassign;

use clap::{Args, Subcommand};
use kafka_wire::BrokerId;
use kafka_wire::admin::{FeatureUpdate, QuorumReplica, UpgradeType};
use serde::Serialize;

use super::admin::{Common, entry, or_dash};
use super::common::{Result, block_on};

/// What to do, and where.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the cluster's id, controller and brokers.
    Describe {
        #[command(flatten)]
        common: Common,
    },
    /// Show how the controllers stand that keep the cluster's metadata.
    Quorum {
        #[command(flatten)]
        common: Common,
    },
    /// Show the features that the cluster runs with, or change them.
    Features {
        /// Change a feature to this level; may be repeated
        #[arg(long, value_name = "NAME=LEVEL", value_parser = level)]
        upgrade: Vec<(String, i16)>,
        /// Change a feature to this lower level, if nothing is lost; may be repeated
        #[arg(long, value_name = "NAME=LEVEL", value_parser = level)]
        downgrade: Vec<(String, i16)>,
        /// Only ask whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show the folders of brokers, and how much is in them.
    LogDirs {
        /// Only of these brokers; may be repeated
        #[arg(long, value_name = "ID")]
        broker: Vec<i32>,
        #[command(flatten)]
        common: Common,
    },
    /// Elect leaders of partitions: the preferred ones, or unclean ones where there is no other way.
    ElectLeaders(election::Options),
    /// Move partitions to other brokers, or show which moves are under way.
    Reassign(reassign::Options),
    /// Forget a broker that is gone for good.
    Unregister {
        /// Its node id
        broker: i32,
        #[command(flatten)]
        common: Common,
    },
}

fn level(text: &str) -> Result<(String, i16), String> {
    let (name, level) = entry(text)?;
    Ok((name, level.parse().map_err(|_| "expected NAME=LEVEL".to_owned())?))
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::Describe { common } => describe(&common).await,
            Verb::Quorum { common } => quorum(&common).await,
            Verb::Features { upgrade, downgrade, dry_run, common } => {
                let up = upgrade.into_iter().map(|(name, level)| (name, FeatureUpdate::upgrade(level)));
                let down = downgrade.into_iter().map(|(name, level)| {
                    (name, FeatureUpdate { level, upgrade_type: UpgradeType::SafeDowngrade })
                });
                let updates: Vec<_> = up.chain(down).collect();
                if updates.is_empty() {
                    return features(&common).await;
                }
                let admin = common.admin()?;
                if dry_run {
                    let checked = admin.validate_feature_updates(updates).await?;
                    return common.report("feature", "would change", &checked, None);
                }
                common.report("feature", "changed", &admin.update_features(updates).await?, None)
            }
            Verb::LogDirs { broker, common } => log_dirs(&common, broker).await,
            Verb::ElectLeaders(options) => election::run(options).await,
            Verb::Reassign(options) => reassign::run(options).await,
            Verb::Unregister { broker, common } => {
                let gone = common.admin()?.unregister_broker(BrokerId(broker)).await;
                common.report("broker", "unregistered", &[(broker, gone)], None)
            }
        }
    })
}

#[derive(Serialize)]
struct BrokerLine {
    id: i32,
    host: String,
    port: u16,
    rack: Option<String>,
    fenced: bool,
}

async fn describe(common: &Common) -> Result<()> {
    #[derive(Serialize)]
    struct Description {
        cluster_id: Option<String>,
        controller: Option<i32>,
        brokers: Vec<BrokerLine>,
    }
    let cluster = common.admin()?.describe_cluster().await?;
    let line = |broker: kafka_wire::Broker, fenced| BrokerLine {
        id: broker.id.0,
        host: broker.address.host,
        port: broker.address.port,
        rack: broker.rack.map(|rack| rack.to_string()),
        fenced,
    };
    let up = cluster.brokers.into_iter().map(|broker| line(broker, false));
    let down = cluster.fenced_brokers.into_iter().map(|broker| line(broker, true));
    let description = Description {
        cluster_id: cluster.cluster_id.map(|id| id.to_string()),
        controller: cluster.controller.map(|id| id.0),
        brokers: up.chain(down).collect(),
    };
    common.print(&description, || {
        let mut text = format!(
            "Cluster: {}\tController: {}",
            or_dash(description.cluster_id.as_ref()),
            or_dash(description.controller)
        );
        for broker in &description.brokers {
            let state = if broker.fenced { "down" } else { "up" };
            let rack = or_dash(broker.rack.as_ref());
            text += &format!(
                "\n\tBroker: {}\tAddress: {}:{}\tRack: {rack}\t{state}",
                broker.id, broker.host, broker.port
            );
        }
        text
    })
}

#[derive(Serialize)]
struct ReplicaLine {
    node: i32,
    directory_id: Option<String>,
    log_end_offset: i64,
    lag: i64,
    last_caught_up_ms: Option<i64>,
    status: &'static str,
}

async fn quorum(common: &Common) -> Result<()> {
    let quorum = common.admin()?.describe_metadata_quorum().await?;
    let leader = quorum.voters.iter().find(|voter| Some(voter.id) == quorum.leader);
    let end = leader.map_or(quorum.high_watermark, |leader| leader.log_end_offset);
    let line = |replica: &QuorumReplica, status| ReplicaLine {
        node: replica.id.0,
        directory_id: replica.directory_id.map(|id| id.to_string()),
        log_end_offset: replica.log_end_offset,
        lag: (end - replica.log_end_offset).max(0),
        last_caught_up_ms: replica.last_caught_up_ms,
        status: if Some(replica.id) == quorum.leader { "Leader" } else { status },
    };
    let voters = quorum.voters.iter().map(|replica| line(replica, "Follower"));
    let lines: Vec<_> =
        voters.chain(quorum.observers.iter().map(|replica| line(replica, "Observer"))).collect();
    let columns = ["NODE", "DIRECTORY", "LOG-END-OFFSET", "LAG", "LAST-CAUGHT-UP-MS", "STATUS"];
    common.table(&columns, &lines, |line| {
        vec![
            line.node.to_string(),
            or_dash(line.directory_id.as_ref()),
            line.log_end_offset.to_string(),
            line.lag.to_string(),
            or_dash(line.last_caught_up_ms),
            line.status.to_owned(),
        ]
    })
}

async fn features(common: &Common) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        feature: String,
        finalized: Option<i16>,
        supported_min: i16,
        supported_max: i16,
    }
    let features = common.admin()?.describe_features().await?;
    let lines: Vec<Line> = features
        .supported
        .into_iter()
        .map(|(feature, supported)| Line {
            finalized: features.finalized.get(&feature).map(|levels| levels.max),
            supported_min: supported.min,
            supported_max: supported.max,
            feature,
        })
        .collect();
    common.table(&["FEATURE", "FINALIZED", "SUPPORTED-MIN", "SUPPORTED-MAX"], &lines, |line| {
        vec![
            line.feature.clone(),
            or_dash(line.finalized),
            line.supported_min.to_string(),
            line.supported_max.to_string(),
        ]
    })
}

async fn log_dirs(common: &Common, brokers: Vec<i32>) -> Result<()> {
    #[derive(Serialize)]
    struct Line {
        broker: i32,
        directory: String,
        error: Option<String>,
        replicas: usize,
        bytes: i64,
        usable_bytes: Option<i64>,
        total_bytes: Option<i64>,
    }
    let admin = common.admin()?;
    let mut brokers: Vec<BrokerId> = brokers.into_iter().map(BrokerId).collect();
    if brokers.is_empty() {
        brokers = admin.describe_cluster().await?.brokers.into_iter().map(|broker| broker.id).collect();
    }
    let mut lines = Vec::new();
    for (broker, folders) in admin.describe_log_dirs(brokers).await? {
        let line = |(directory, folder): (String, kafka_wire::admin::LogDir)| Line {
            broker: broker.0,
            directory,
            error: folder.error.map(|code| code.name().to_owned()),
            replicas: folder.replicas.len(),
            bytes: folder.replicas.values().map(|replica| replica.size_bytes).sum(),
            usable_bytes: folder.usable_bytes,
            total_bytes: folder.total_bytes,
        };
        lines.extend(folders?.into_iter().map(line));
    }
    lines.sort_by_key(|line| line.broker);
    let columns = ["BROKER", "DIRECTORY", "REPLICAS", "BYTES", "USABLE", "TOTAL", "ERROR"];
    common.table(&columns, &lines, |line| {
        vec![
            line.broker.to_string(),
            line.directory.clone(),
            line.replicas.to_string(),
            line.bytes.to_string(),
            or_dash(line.usable_bytes),
            or_dash(line.total_bytes),
            or_dash(line.error.as_ref()),
        ]
    })
}

//! `tidewater group`: groups, their members and how far they are; the verbs are kafka-consumer-groups'.

mod describe;
mod reset;

use clap::{Args, Subcommand};
use kafka_wire::ErrorCode;
use kafka_wire::admin::{GroupFilter, GroupState, GroupType, MemberToRemove};
use serde::Serialize;

use super::admin::{Common, TopicPartitions};
use super::common::{Result, block_on};

/// What to do, and where.
#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the ids of all groups.
    List {
        /// Only groups in this state: Stable, Empty, Dead …; may be repeated
        #[arg(long)]
        state: Vec<GroupState>,
        /// Only groups of this type: classic, consumer, share, streams; may be repeated
        #[arg(long = "type")]
        types: Vec<GroupType>,
        /// Also print type, protocol and state
        #[arg(short, long)]
        long: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show how far groups are behind, partition by partition.
    Describe {
        /// Their ids; all groups without
        #[arg(value_name = "GROUP")]
        groups: Vec<String>,
        /// Show state, protocol and the number of members instead
        #[arg(long)]
        state: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show the members of a group, and what they read.
    Members {
        /// Its id
        group: String,
        #[command(flatten)]
        common: Common,
    },
    /// Change where a group goes on. Only shows what would be done, unless --execute says otherwise.
    ResetOffsets(reset::Options),
    /// Delete groups that have no members, with their offsets.
    Delete {
        /// Their ids
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
        /// A group that is not there is no error
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete the offsets that a group has committed, of topics that it does not read.
    DeleteOffsets {
        /// Its id
        group: String,
        /// Of which topic, or some of its partitions; may be repeated
        #[arg(long, required = true, value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse)]
        topic: Vec<TopicPartitions>,
        #[command(flatten)]
        common: Common,
    },
    /// Remove members from a group: static ones that will not come back, or ones that hang.
    RemoveMembers {
        /// Its id
        group: String,
        /// A member's id; may be repeated
        #[arg(long)]
        member: Vec<String>,
        /// A static member's group.instance.id; may be repeated
        #[arg(long)]
        instance: Vec<String>,
        /// All members
        #[arg(long, conflicts_with_all = ["member", "instance"], required_unless_present_any = ["member", "instance"])]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Does it.
pub(super) fn run(options: Options) -> Result<()> {
    block_on(async {
        match options.verb {
            Verb::List { state, types, long, common } => {
                let filter = GroupFilter { states: state, types, ..GroupFilter::default() };
                list(&common, filter, long).await
            }
            Verb::Describe { groups, state, common } => {
                let admin = common.admin()?;
                let groups = describe::describe(&admin, groups).await?;
                if state {
                    describe::states(&common, &groups)
                } else {
                    describe::lags(&common, &admin, &groups).await
                }
            }
            Verb::Members { group, common } => {
                let groups = describe::describe(&common.admin()?, vec![group]).await?;
                describe::members(&common, &groups)
            }
            Verb::ResetOffsets(options) => reset::run(options).await,
            Verb::Delete { groups, if_exists, common } => {
                let deleted = common.admin()?.delete_groups(groups).await?;
                common.report(
                    "group",
                    "deleted",
                    &deleted,
                    if_exists.then_some(ErrorCode::GROUP_ID_NOT_FOUND),
                )
            }
            Verb::DeleteOffsets { group, topic, common } => {
                let admin = common.admin()?;
                let mut partitions = Vec::new();
                for topic in topic {
                    partitions.extend(topic.resolve(&admin).await?);
                }
                let deleted = admin.delete_committed_offsets(group, partitions).await?;
                common.report("offset", "deleted", &deleted, None)
            }
            Verb::RemoveMembers { group, member, instance, all, common } => {
                let admin = common.admin()?;
                let reason = "removed by tidewater group";
                let named = member.into_iter().map(MemberToRemove::Member);
                let members = named.chain(instance.into_iter().map(MemberToRemove::Instance));
                let removed = match all {
                    true => admin.remove_all_group_members(group, reason).await?,
                    false => admin.remove_group_members(group, members, reason).await?,
                };
                common.report("member", "removed", &removed, None)
            }
        }
    })
}

#[derive(Serialize)]
struct ListLine {
    group: String,
    #[serde(rename = "type")]
    kind: String,
    protocol: String,
    state: String,
}

async fn list(common: &Common, filter: GroupFilter, long: bool) -> Result<()> {
    let groups = common.admin()?.list_groups_by(filter).await?;
    let lines: Vec<ListLine> = groups
        .into_iter()
        .map(|group| ListLine {
            kind: group.group_type.to_string(),
            state: group.state.to_string(),
            protocol: group.protocol_type,
            group: group.group_id,
        })
        .collect();
    if !long {
        return lines.iter().try_for_each(|line| common.print(line, || line.group.clone()));
    }
    common.table(&["GROUP", "TYPE", "PROTOCOL", "STATE"], &lines, |line| {
        vec![line.group.clone(), line.kind.clone(), line.protocol.clone(), line.state.clone()]
    })
}

//! `tidewater cluster elect-leaders`.

use clap::Args;
use kafka_wire::ErrorCode;
use kafka_wire::admin::ElectionType;

use crate::cli::admin::{Common, TopicPartitions};
use crate::cli::common::Result;

/// Of which partitions leaders are elected.
#[derive(Args)]
pub(super) struct Options {
    /// Of a topic, or some of its partitions; may be repeated
    #[arg(long, value_name = "TOPIC[:PARTITION,…]", value_parser = TopicPartitions::parse, required_unless_present = "all")]
    topic: Vec<TopicPartitions>,
    /// Of all that need it
    #[arg(long, conflicts_with = "topic")]
    all: bool,
    /// Also replicas that are not in sync, where no other is up: what they lack is lost
    #[arg(long)]
    unclean: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(options: Options) -> Result<()> {
    let admin = options.common.admin()?;
    let election = if options.unclean { ElectionType::Unclean } else { ElectionType::Preferred };
    let elected = if options.all {
        admin.elect_all_leaders(election).await?
    } else {
        let mut partitions = Vec::new();
        for topic in &options.topic {
            partitions.extend(topic.resolve(&admin).await?);
        }
        admin.elect_leaders(election, partitions).await?
    };
    options.common.report("leader of", "elected", &elected, Some(ErrorCode::ELECTION_NOT_NEEDED))
}

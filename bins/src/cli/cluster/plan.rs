//! Plans of reassignments, in the JSON of kafka-reassign-partitions.

use std::collections::BTreeMap;
use std::path::Path;

use kafka_wire::admin::TopicDescription;
use kafka_wire::{BrokerId, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::cli::common::{Failure, Result};

/// Who is to have which partitions.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    version: u32,
    partitions: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    log_dirs: Vec<String>,
}

impl Plan {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let failed = |cause: &dyn std::fmt::Display| {
            Failure::usage(format_args!("read the plan {}: {cause}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let plan: Self = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        plan.check().map_err(|cause| failed(&cause))?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("it has version {}, expected 1", self.version));
        }
        if self.partitions.is_empty() {
            return Err("it has no partitions".to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        for entry in &self.partitions {
            let at = TopicPartition::new(entry.topic.as_str(), entry.partition);
            if entry.replicas.is_empty() {
                return Err(format!("{at} has no replicas"));
            }
            if entry.log_dirs.iter().any(|folder| folder != "any") {
                return Err(format!("{at} names folders; only `any` can be planned here"));
            }
            if !seen.insert(at.clone()) {
                return Err(format!("{at} is in it twice"));
            }
        }
        Ok(())
    }

    pub(super) fn new(moves: impl IntoIterator<Item = (TopicPartition, Vec<BrokerId>)>) -> Self {
        let entry = |(at, replicas): (TopicPartition, Vec<BrokerId>)| Entry {
            topic: at.topic.to_string(),
            partition: at.partition,
            replicas: replicas.into_iter().map(|broker| broker.0).collect(),
            log_dirs: Vec::new(),
        };
        Self { version: 1, partitions: moves.into_iter().map(entry).collect() }
    }

    pub(super) fn moves(&self) -> BTreeMap<TopicPartition, Vec<BrokerId>> {
        let of = |entry: &Entry| {
            let replicas = entry.replicas.iter().map(|id| BrokerId(*id)).collect();
            (TopicPartition::new(entry.topic.as_str(), entry.partition), replicas)
        };
        self.partitions.iter().map(of).collect()
    }
}

/// Spreads the partitions of topics over `brokers`, each with as many replicas as now: first replicas in turn, the
/// others behind them with a distance that grows by each round, so that the load of a broker that fails is shared
/// (Kafka's `AdminUtils` without racks, with its random start at 0).
pub(super) fn spread(
    topics: &[TopicDescription],
    brokers: &[BrokerId],
) -> Result<BTreeMap<TopicPartition, Vec<BrokerId>>> {
    let mut plan = BTreeMap::new();
    for topic in topics {
        for (number, partition) in topic.partitions.iter().enumerate() {
            let (replicas, count) = (partition.replicas.len(), brokers.len());
            if replicas > count {
                let text = format!(
                    "spread topic {} over {count} brokers: its partitions have {replicas} replicas",
                    topic.name
                );
                return Err(Failure::usage(text));
            }
            let (first, round) = (number % count, number / count);
            let distance = |replica: usize| 1 + (round + replica) % (count - 1);
            let others = (0..replicas.saturating_sub(1)).map(|replica| (first + distance(replica)) % count);
            let replicas = std::iter::once(first).chain(others).take(replicas).map(|index| brokers[index]);
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            plan.insert(TopicPartition::new(topic.name.as_str(), number), replicas.collect());
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        serde_json::from_str::<Plan>(text).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn a_plan_is_read_as_kafkas_tool_writes_it() {
        let text = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[2,0],"log_dirs":["any","any"]}]}"#;
        assert_eq!(check(text), Ok(()));
        let moves = serde_json::from_str::<Plan>(text).unwrap().moves();
        assert_eq!(moves, BTreeMap::from([(TopicPartition::new("t", 0), vec![BrokerId(2), BrokerId(0)])]));
        let written = serde_json::to_string(&Plan::new(moves)).unwrap();
        assert_eq!(written, r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[2,0]}]}"#);
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused_with_the_reason() {
        let entry = r#"{"topic":"t","partition":0,"replicas":[1]}"#;
        for (text, reason) in [
            (r#"{"version":2,"partitions":[]}"#.to_owned(), "version 2"),
            (r#"{"version":1,"partitions":[]}"#.to_owned(), "no partitions"),
            (format!(r#"{{"version":1,"partitions":[{entry},{entry}]}}"#), "t-0 is in it twice"),
            (format!(r#"{{"version":1,"partitions":[{}]}}"#, entry.replace("[1]", "[]")), "no replicas"),
            (
                format!(
                    r#"{{"version":1,"partitions":[{}]}}"#,
                    entry.replace("]}", r#"],"log_dirs":["/a"]}"#)
                ),
                "names folders",
            ),
            ("{}".to_owned(), "missing field `version`"),
        ] {
            let error = check(&text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}

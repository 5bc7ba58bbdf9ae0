//! What the administrative commands share: how the cluster is reached, and how outcomes are told.

use std::fmt;
use std::io::Write as _;

use clap::Args;
use kafka_wire::config::ClientConfig;
use kafka_wire::{Admin, ErrorCode, TopicPartition};
use serde::Serialize;
use serde_json::json;

use super::common::{Connection, Failure, Result, describe_topic_with, say};

/// Where, and how it is shown.
#[derive(Args)]
pub(super) struct Common {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Common {
    pub(super) fn admin(&self) -> Result<Admin> {
        let properties = self.connection.properties(&[], &[])?;
        Ok(Admin::new(ClientConfig::from_properties(&properties)?)?)
    }

    /// One thing: as JSON, or as text.
    pub(super) fn print(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let line = if self.json { serde_json::to_string(value).map_err(Failure::failed)? } else { text() };
        Ok(writeln!(std::io::stdout(), "{line}")?)
    }

    /// Many things: as JSON one a line, or as a table with these columns.
    pub(super) fn table<T: Serialize>(
        &self,
        columns: &[&str],
        rows: &[T],
        cells: impl Fn(&T) -> Vec<String>,
    ) -> Result<()> {
        if self.json {
            return rows.iter().try_for_each(|row| self.print(row, String::new));
        }
        let header = columns.iter().map(ToString::to_string).collect();
        let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().map(cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        let mut out = std::io::stdout().lock();
        for line in &lines {
            let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// One line for each thing of this kind; the last failure ends it, after all have been told.
    pub(super) fn report<K: fmt::Display, T>(
        &self,
        kind: &str,
        done: &str,
        outcomes: &[(K, kafka_wire::Result<T>)],
        passed_over: Option<ErrorCode>,
    ) -> Result<()> {
        let mut failures = Vec::new();
        for (thing, outcome) in outcomes {
            match outcome {
                Err(error) if passed_over.is_none() || error.code() != passed_over => failures.push(error),
                _ => {
                    let outcome = if outcome.is_ok() { done } else { "unchanged" };
                    let line = json!({ kind: thing.to_string(), "outcome": outcome });
                    self.print(&line, || format!("{outcome} {kind} {thing}"))?;
                }
            }
        }
        let Some((last, others)) = failures.split_last() else { return Ok(()) };
        for error in others {
            say(format_args!("error: {error}"));
        }
        Err((*last).clone().into())
    }
}

/// What is shown for nothing, as Kafka's tools do.
pub(super) fn or_dash(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Numbers with commas between them.
pub(super) fn commas<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",")
}

/// `NAME=VALUE`.
pub(super) fn entry(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A topic, or some of its partitions: `orders`, `orders:0`, `orders:0,3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicPartitions {
    pub(super) topic: String,
    /// Empty for all.
    pub(super) partitions: Vec<i32>,
}

impl TopicPartitions {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((topic, numbers)) = text.split_once(':') else {
            return Ok(Self { topic: text.to_owned(), partitions: Vec::new() });
        };
        let number = |text: &str| text.parse::<i32>().ok().filter(|number| *number >= 0);
        let partitions: Option<Vec<i32>> = numbers.split(',').map(number).collect();
        let partitions = partitions.ok_or("expected TOPIC or TOPIC:PARTITION,PARTITION")?;
        Ok(Self { topic: topic.to_owned(), partitions })
    }

    /// The partitions, all of them looked up where none is named.
    pub(super) async fn resolve(&self, admin: &Admin) -> Result<Vec<TopicPartition>> {
        let count = describe_topic_with(admin, &self.topic).await?.partitions.len();
        let all = 0..i32::try_from(count).unwrap_or(i32::MAX);
        if let Some(missing) = self.partitions.iter().find(|number| !all.contains(number)) {
            return Err(Failure::usage(format_args!(
                "use partition {missing} of topic {}: it has {count} partitions, numbered from 0",
                self.topic
            )));
        }
        let numbers = if self.partitions.is_empty() { all.collect() } else { self.partitions.clone() };
        Ok(numbers.into_iter().map(|number| TopicPartition::new(self.topic.as_str(), number)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_behind_a_colon() {
        let some = |topic: &str, partitions: &[i32]| {
            Ok(TopicPartitions { topic: topic.to_owned(), partitions: partitions.to_vec() })
        };
        assert_eq!(TopicPartitions::parse("a"), some("a", &[]));
        assert_eq!(TopicPartitions::parse("a:0"), some("a", &[0]));
        assert_eq!(TopicPartitions::parse("a:2,1"), some("a", &[2, 1]));
        for text in ["a:", "a:x", "a:1,", "a:-1"] {
            assert!(TopicPartitions::parse(text).is_err(), "{text}");
        }
    }
}

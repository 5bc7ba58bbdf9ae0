//! The manifest: what one committed epoch of a job is. Where it is stored, the epoch is committed.
//!
//! It is JSON: a few kilobytes that any Kafka console consumer shows, read once at a start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::StateObject;
use crate::error::{Error, ErrorKind, Result};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = 1;

/// A committed epoch: with this and the state objects that it names, a job goes on as if it had never stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub version: u16,
    /// The job's id (`--group`).
    pub job: String,
    /// Hash of the job's graph: stateful operators, their kinds and parameters, sources and sinks.
    pub graph: String,
    /// The process run that wrote it; its state objects lie under this name.
    pub instance: String,
    /// The Kafka cluster that sources and sinks are on; none for a job without Kafka.
    pub cluster: Option<String>,
    /// The epoch. Numbers may be skipped, never reused within a job.
    pub epoch: u64,
    /// Positions of the sources.
    pub sources: Vec<SourceState>,
    /// The outputs, by topic: partition counts that keyed output relies on.
    pub outputs: BTreeMap<String, OutputState>,
    /// Objects of operator state, for each operator in the order in which they are restored.
    pub state: Vec<StateObject>,
    /// The input was bounded and all of it is done: a restart has nothing to do.
    pub finished: bool,
}

/// Where a source stood at the end of the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// The source operator, by its uid.
    pub uid: String,
    /// What it reads: a topic's name.
    pub topic: String,
    /// The topic's id: a topic deleted and created anew has another one, and other offsets.
    pub topic_id: Option<String>,
    /// Its partitions, ascending. A partition that is not here is new: it is read from its start.
    pub partitions: Vec<PartitionState>,
}

/// Where one partition stood at the end of the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The partition's number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, where there was one (KIP-320).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
    /// The watermark it had emitted, event time in milliseconds; none before its first record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_ms: Option<i64>,
    /// Whether it was idle, and so left out of the source's watermark.
    #[serde(default, skip_serializing_if = "is_false")]
    pub idle: bool,
    /// For a bounded run the offset to stop before, fixed at the first start for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
}

/// An output topic as the job first met it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputState {
    /// The topic's id.
    pub topic_id: Option<String>,
    /// How many partitions keys are spread over until the next restart.
    pub partitions: u32,
}

/// The running job, as far as a manifest must agree with it.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The job's id.
    pub job: &'a str,
    /// Hash of the job's graph.
    pub graph: &'a str,
    /// Id of the cluster connected to, where there is one.
    pub cluster: Option<&'a str>,
    /// Ids, by name, of the topics as the cluster has them now.
    pub topic_ids: &'a BTreeMap<String, String>,
}

impl Manifest {
    /// As it is stored.
    ///
    /// # Errors
    /// Never in practice: every field has a JSON form.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("encode the manifest of epoch {}", self.epoch))
                .with_cause(error)
        })
    }

    /// Reads a stored manifest. `found_at` says where it was found, for the message.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when a newer version wrote it, [`ErrorKind::CorruptState`] when it is not a manifest.
    pub fn decode(bytes: &[u8], found_at: &str) -> Result<Self> {
        let corrupt = |error: serde_json::Error| {
            Error::new(
                ErrorKind::CorruptState,
                format!("read the manifest at {found_at} ({} bytes)", bytes.len()),
            )
            .with_cause(error)
            .with_hint(
                "something else has written there; start anew with --fresh, or give the job another --group",
            )
        };
        let Version { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if version > FORMAT_VERSION {
            let attempted = format!(
                "read the manifest at {found_at}: it has format version {version}, this program reads up to {FORMAT_VERSION}"
            );
            return Err(Error::new(ErrorKind::Refused, attempted)
                .with_hint("a newer version wrote it: run the job with that version or a later one"));
        }
        serde_json::from_slice(bytes).map_err(corrupt)
    }

    /// Refuses to go on from this manifest if it is not of the job, cluster, graph and topics that are `expected`.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`], naming both sides of the difference and what to do.
    pub fn check(&self, expected: &Expected<'_>) -> Result<()> {
        let epoch = self.epoch;
        if self.job != expected.job {
            return Err(refused(
                epoch,
                format!("is of job \"{}\", this is job \"{}\"", self.job, expected.job),
                "give each job a --group of its own",
            ));
        }
        if let (Some(stored), Some(now)) = (self.cluster.as_deref(), expected.cluster)
            && stored != now
        {
            return Err(refused(
                epoch,
                format!("is of Kafka cluster {stored}, the job is connected to {now}"),
                "check --bootstrap; to start on the new cluster from nothing, use --fresh",
            ));
        }
        let inputs = self.sources.iter().map(|source| (&source.topic, &source.topic_id));
        let outputs = self.outputs.iter().map(|(topic, output)| (topic, &output.topic_id));
        for (topic, stored) in inputs.chain(outputs) {
            if let (Some(stored), Some(now)) = (stored, expected.topic_ids.get(topic))
                && stored != now
            {
                return Err(refused(
                    epoch,
                    format!("is of topic \"{topic}\" with id {stored}, the topic now has id {now}"),
                    "the topic was deleted and created anew, its offsets mean nothing now; to start anew, use --fresh",
                ));
            }
        }
        if self.graph != expected.graph {
            return Err(refused(
                epoch,
                format!("is of a job with graph {}, this one has graph {}", self.graph, expected.graph),
                "sources, sinks, stateful operators or their parameters have changed; run the old program, \
                 or start anew with --fresh or under another --group",
            ));
        }
        Ok(())
    }
}

fn refused(epoch: u64, difference: String, hint: &'static str) -> Error {
    Error::new(ErrorKind::Refused, format!("go on from the manifest of epoch {epoch}: it {difference}"))
        .with_hint(hint)
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Version {
    version: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::ObjectRef;
    use crate::state::{KeyGroupRange, SnapshotKind};

    fn manifest() -> Manifest {
        Manifest {
            version: FORMAT_VERSION,
            job: "clicks".into(),
            graph: "9a3f".into(),
            instance: "i1".into(),
            cluster: Some("c1".into()),
            epoch: 7,
            sources: vec![SourceState {
                uid: "clicks".into(),
                topic: "clicks".into(),
                topic_id: Some("t1".into()),
                partitions: vec![PartitionState {
                    partition: 0,
                    offset: 42,
                    leader_epoch: Some(3),
                    watermark_ms: Some(-5),
                    idle: true,
                    end: Some(i64::MAX),
                }],
            }],
            outputs: [("totals".to_owned(), OutputState { topic_id: Some("t2".into()), partitions: 4 })]
                .into(),
            state: vec![StateObject {
                uid: "window".into(),
                epoch: 6,
                kind: SnapshotKind::Delta,
                groups: KeyGroupRange::ALL,
                object: ObjectRef { path: "i1/6-0-window".into(), length: 99, crc32c: u32::MAX },
            }],
            finished: false,
        }
    }

    fn check(manifest: &Manifest, job: &str, graph: &str, cluster: &str, clicks_id: &str) -> Result<()> {
        let topic_ids = [("clicks".to_owned(), clicks_id.to_owned())].into();
        manifest.check(&Expected { job, graph, cluster: Some(cluster), topic_ids: &topic_ids })
    }

    #[test]
    fn what_is_written_is_read() {
        let manifest = manifest();
        let bytes = manifest.encode().unwrap();
        assert_eq!(Manifest::decode(&bytes, "here").unwrap(), manifest);
    }

    #[test]
    fn another_job_cluster_topic_or_graph_is_refused_by_name() {
        let manifest = manifest();
        check(&manifest, "clicks", "9a3f", "c1", "t1").unwrap();
        for (result, says) in [
            (check(&manifest, "other", "9a3f", "c1", "t1"), "is of job \"clicks\", this is job \"other\""),
            (check(&manifest, "clicks", "beef", "c1", "t1"), "graph 9a3f, this one has graph beef"),
            (check(&manifest, "clicks", "9a3f", "c2", "t1"), "cluster c1, the job is connected to c2"),
            (
                check(&manifest, "clicks", "9a3f", "c1", "t9"),
                "\"clicks\" with id t1, the topic now has id t9",
            ),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains(says), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn a_newer_format_is_refused_and_anything_else_is_an_error() {
        let newer = br#"{"version":2,"what":"ever"}"#;
        let error = Manifest::decode(newer, "topic m, offset 3").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("topic m, offset 3: it has format version 2"), "{error}");
        let bytes = manifest().encode().unwrap();
        for length in 0..bytes.len() {
            let error = Manifest::decode(&bytes[..length], "there").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptState, "{length}");
        }
    }
}

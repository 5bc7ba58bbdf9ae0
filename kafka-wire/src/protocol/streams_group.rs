//! StreamsGroupDescribe (KIP-1071), which `kafka-protocol` lacks: version 0 (Kafka 4.1).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::answer;
use super::messages::{ApiKey, StrBytes};
use super::reader::{Read, Reader};
use super::request::{FrameBuilder, Request, Response};
use super::writer::Writer;
use crate::error::{ErrorCode, Result};

const VERSIONS: RangeInclusive<i16> = 0..=0;

/// Asks the coordinator of groups of Kafka Streams how they stand.
#[derive(Clone, Debug)]
pub struct StreamsGroupDescribeRequest {
    /// The groups.
    pub group_ids: Vec<String>,
    /// Whether the answer is to say what the client may do with each.
    pub include_authorized_operations: bool,
}

impl Request for StreamsGroupDescribeRequest {
    fn api(&self) -> ApiKey {
        ApiKey::StreamsGroupDescribe
    }

    fn versions(&self) -> RangeInclusive<i16> {
        VERSIONS
    }

    fn encode(&self, _: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, true);
        writer.length(self.group_ids.len())?;
        self.group_ids.iter().try_for_each(|id| writer.string(id))?;
        writer.bool(self.include_authorized_operations);
        writer.no_tags();
        Ok(())
    }
}

/// A group in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedStreamsGroup {
    /// Why it is not described.
    pub error: Option<ErrorCode>,
    /// What the coordinator says about it.
    pub error_message: Option<StrBytes>,
    /// Its id.
    pub group_id: String,
    /// How it stands, in Kafka's word.
    pub state: StrBytes,
    /// How often it has changed.
    pub epoch: i32,
    /// Of which epoch the assignment is that the members are led to.
    pub assignment_epoch: i32,
    /// The epoch of its topology and the parts of it; `None` before the first member has told it.
    pub topology: Option<(i32, Vec<Subtopology>)>,
    /// Its members.
    pub members: Vec<StreamsGroupMember>,
    /// What the client may do with it, as bits; `i32::MIN` where that was not asked for.
    pub authorized_operations: i32,
}

/// A part of a topology whose tasks each read one partition of its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subtopology {
    /// Its number, as a text.
    pub id: String,
    /// The application's topics that it reads.
    pub source_topics: Vec<String>,
    /// The topics that it writes for other parts of the topology.
    pub repartition_sink_topics: Vec<String>,
    /// The topics that its state is kept in.
    pub state_changelog_topics: Vec<InternalTopic>,
    /// The topics written by other parts of the topology that it reads.
    pub repartition_source_topics: Vec<InternalTopic>,
}

/// A topic that the group makes for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InternalTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it is to have; 0 where its sources decide.
    pub partitions: i32,
    /// How many replicas each is to have; 0 for the brokers' default.
    pub replication_factor: i16,
    /// Its configuration, where it differs from the brokers' defaults.
    pub configs: BTreeMap<String, String>,
}

/// One process, or one thread of it, of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamsGroupMember {
    /// What the coordinator calls it.
    pub member_id: String,
    /// How far it has followed the group.
    pub epoch: i32,
    /// `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// `client.rack`.
    pub rack: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connected from.
    pub host: String,
    /// Which topology it runs.
    pub topology_epoch: i32,
    /// The process that it is a thread of: all have its state in common.
    pub process_id: String,
    /// `application.server`: where it answers queries of its state, host and port.
    pub user_endpoint: Option<(String, u16)>,
    /// Tags for the placing of standby tasks (`client.tag.*`).
    pub client_tags: BTreeMap<String, String>,
    /// How far its state is in the changelogs.
    pub task_offsets: BTreeMap<StreamsTask, i64>,
    /// Up to where those changelogs go.
    pub task_end_offsets: BTreeMap<StreamsTask, i64>,
    /// What it has.
    pub assignment: StreamsAssignment,
    /// What it is to have.
    pub target_assignment: StreamsAssignment,
    /// Whether it is still a member by the classic protocol.
    pub is_classic: bool,
}

/// A share of the work: one partition of a subtopology's sources.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct StreamsTask {
    /// Of which subtopology.
    pub subtopology: Arc<str>,
    /// Which partition.
    pub partition: i32,
}

/// As Kafka Streams writes it: `0_3`.
impl fmt::Display for StreamsTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

/// The tasks of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamsAssignment {
    /// Those that it works on.
    pub active: BTreeSet<StreamsTask>,
    /// Those whose state it copies, to take over when another member fails.
    pub standby: BTreeSet<StreamsTask>,
    /// Those whose state it copies to take over soon.
    pub warmup: BTreeSet<StreamsTask>,
}

/// Decodes the answer to a [`StreamsGroupDescribeRequest`].
///
/// # Errors
/// `Protocol`, when the bytes are not such an answer.
pub fn decode_description(response: &Response) -> Result<Vec<DescribedStreamsGroup>> {
    answer::decode(response, ApiKey::StreamsGroupDescribe, VERSIONS, 0, |reader| {
        reader.i32()?; // the pause, which the connection has looked at
        let groups = reader.array(22, DescribedStreamsGroup::read)?;
        reader.skip_tags()?;
        Ok(groups)
    })
}

impl DescribedStreamsGroup {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let group = Self {
            error: ErrorCode::from_wire(reader.i16()?),
            error_message: reader.nullable_string()?,
            group_id: text(reader)?,
            state: reader.string()?,
            epoch: reader.i32()?,
            assignment_epoch: reader.i32()?,
            topology: nullable(reader, read_topology)?,
            members: reader.array(36, StreamsGroupMember::read)?,
            authorized_operations: reader.i32()?,
        };
        reader.skip_tags()?;
        Ok(group)
    }
}

fn read_topology(reader: &mut Reader<'_>) -> Read<(i32, Vec<Subtopology>)> {
    let epoch = reader.i32()?;
    let subtopologies = reader.nullable_array(6, Subtopology::read)?.unwrap_or_default();
    reader.skip_tags()?;
    Ok((epoch, subtopologies))
}

impl Subtopology {
    /// Whether its tasks read this topic.
    pub fn reads(&self, topic: &str) -> bool {
        let mut between = self.repartition_source_topics.iter().map(|internal| &internal.name);
        self.source_topics.iter().any(|source| source == topic) || between.any(|name| name == topic)
    }

    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let subtopology = Self {
            id: text(reader)?,
            source_topics: reader.array(1, text)?,
            repartition_sink_topics: reader.array(1, text)?,
            state_changelog_topics: reader.array(9, InternalTopic::read)?,
            repartition_source_topics: reader.array(9, InternalTopic::read)?,
        };
        reader.skip_tags()?;
        Ok(subtopology)
    }
}

impl InternalTopic {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let topic = Self {
            name: text(reader)?,
            partitions: reader.i32()?,
            replication_factor: reader.i16()?,
            configs: read_map(reader)?,
        };
        reader.skip_tags()?;
        Ok(topic)
    }
}

impl StreamsGroupMember {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let member = Self {
            member_id: text(reader)?,
            epoch: reader.i32()?,
            group_instance_id: nullable_text(reader)?,
            rack: nullable_text(reader)?,
            client_id: text(reader)?,
            host: text(reader)?,
            topology_epoch: reader.i32()?,
            process_id: text(reader)?,
            user_endpoint: nullable(reader, read_endpoint)?,
            client_tags: read_map(reader)?,
            task_offsets: read_task_offsets(reader)?,
            task_end_offsets: read_task_offsets(reader)?,
            assignment: StreamsAssignment::read(reader)?,
            target_assignment: StreamsAssignment::read(reader)?,
            is_classic: reader.bool()?,
        };
        reader.skip_tags()?;
        Ok(member)
    }
}

impl StreamsAssignment {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let assignment =
            Self { active: read_tasks(reader)?, standby: read_tasks(reader)?, warmup: read_tasks(reader)? };
        reader.skip_tags()?;
        Ok(assignment)
    }
}

fn read_tasks(reader: &mut Reader<'_>) -> Read<BTreeSet<StreamsTask>> {
    let tasks = reader.array(3, |reader| {
        let subtopology: Arc<str> = Arc::from(&*reader.string()?);
        let partitions = reader.array(4, Reader::i32)?;
        reader.skip_tags()?;
        Ok((subtopology, partitions))
    })?;
    let tasks = tasks.into_iter().flat_map(|(subtopology, partitions)| {
        let task = move |partition| StreamsTask { subtopology: Arc::clone(&subtopology), partition };
        partitions.into_iter().map(task)
    });
    Ok(tasks.collect())
}

fn read_task_offsets(reader: &mut Reader<'_>) -> Read<BTreeMap<StreamsTask, i64>> {
    let offsets = reader.array(14, |reader| {
        let subtopology = Arc::from(&*reader.string()?);
        let offset = (StreamsTask { subtopology, partition: reader.i32()? }, reader.i64()?);
        reader.skip_tags()?;
        Ok(offset)
    })?;
    Ok(offsets.into_iter().collect())
}

fn read_endpoint(reader: &mut Reader<'_>) -> Read<(String, u16)> {
    // An i16 on the wire that is not signed.
    let endpoint = (text(reader)?, reader.i16()?.cast_unsigned());
    reader.skip_tags()?;
    Ok(endpoint)
}

fn read_map(reader: &mut Reader<'_>) -> Read<BTreeMap<String, String>> {
    let entries = reader.array(3, |reader| {
        let entry = (text(reader)?, text(reader)?);
        reader.skip_tags()?;
        Ok(entry)
    })?;
    Ok(entries.into_iter().collect())
}

/// A struct that may be null says by a byte whether it is.
fn nullable<T>(reader: &mut Reader<'_>, read: impl FnOnce(&mut Reader<'_>) -> Read<T>) -> Read<Option<T>> {
    match reader.i8()? {
        ..0 => Ok(None),
        _ => read(reader).map(Some),
    }
}

fn text(reader: &mut Reader<'_>) -> Read<String> {
    reader.string().map(|text| text.to_string())
}

fn nullable_text(reader: &mut Reader<'_>) -> Read<Option<String>> {
    Ok(reader.nullable_str()?.map(str::to_owned))
}

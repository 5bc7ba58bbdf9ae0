//! Fetch 4–18: long polls, sessions (KIP-227), `read_committed` with aborted transactions, truncation
//! detection (KIP-320), topic ids from 13 on, leader hints from 16 on.
//!
//! Answers hold whole batches only, never the torn one that Kafka sends when a limit cuts it. Followers do
//! not fetch here, so the fields for them are ignored.

mod encode;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::protocol::messages::FetchRequest;
use kafka_wire::{ErrorCode, TopicId};

use self::encode::encode;
use super::{Answer, Context};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::producers::AbortedTransaction;
use crate::quotas::CONSUMER_BYTE_RATE;
use crate::sessions::{Told, Wanted};
use crate::topics::Partition;

/// From here on topics are named by their ids.
const TOPIC_IDS_FROM: i16 = 13;

/// A fetch that is not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) deadline: Instant,
    wanted: Vec<Wanted>,
    bytes_min: usize,
    bytes_max: usize,
    read_committed: bool,
    session: Session,
}

#[derive(Clone, Copy, Debug)]
enum Session {
    None,
    /// Opened by this request: the answer tells about all partitions.
    Opened(i32),
    /// The answer tells only what is new.
    Continued(i32),
}

impl Pending {
    pub(crate) fn reads_any(&self, partitions: &[(Arc<str>, i32)]) -> bool {
        self.wanted.iter().any(|wanted| {
            partitions.iter().any(|(topic, index)| {
                *index == wanted.partition && (wanted.id.is_some() || **topic == *wanted.topic)
            })
        })
    }
}

/// A leader and its epoch.
type Leader = (i32, i32);

/// The answer for one partition.
#[derive(Debug)]
struct Fetched<'a> {
    wanted: &'a Wanted,
    error_code: i16,
    high_watermark: i64,
    last_stable_offset: i64,
    start_offset: i64,
    diverging_epoch: Option<(i32, i64)>,
    /// Where the client asked another node.
    current_leader: Option<Leader>,
    aborted: Option<Vec<AbortedTransaction>>,
    records: Vec<Bytes>,
    bytes: usize,
}

pub(crate) fn handle(cluster: &mut Cluster, context: &Context, request: FetchRequest) -> Answer {
    if let Some(code) = context.injected_for_request() {
        return refuse(context, code);
    }
    let (changed, forgotten) = read_topics(&request, context.version);
    let (id, epoch) = (request.session_id, request.session_epoch);
    // Epoch -1: no session, or the end of one. 0: a new one. Others go on with one.
    let (wanted, session) = match epoch {
        -1 | 0 => {
            cluster.sessions.close(id);
            let session = match epoch {
                0 if context.version >= 7 => Session::Opened(cluster.sessions.open(context.node, &changed)),
                _ => Session::None,
            };
            (changed, session)
        }
        _ => match cluster.sessions.update(context.node, id, epoch, changed, &forgotten) {
            // As Kafka: a session without partitions is over, and its last answer names none.
            Ok(wanted) if wanted.is_empty() => {
                cluster.sessions.close(id);
                (wanted, Session::None)
            }
            Ok(wanted) => (wanted, Session::Continued(id)),
            Err(code) => return refuse(context, code),
        },
    };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let pending = Pending {
        deadline: context.now.instant + wait,
        wanted,
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
        read_committed: request.isolation_level == 1,
        session,
    };
    let is_unwilling = wait.is_zero() || pending.wanted.is_empty();
    if is_unwilling || is_ready(cluster, context, &pending) {
        complete(cluster, context, &pending)
    } else {
        Answer::Wait(Box::new(pending))
    }
}

fn refuse(context: &Context, code: ErrorCode) -> Answer {
    encode(context, code.code(), 0, &[], &[])
}

type Forgotten = Vec<(Arc<str>, TopicId, i32)>;

fn read_topics(request: &FetchRequest, version: i16) -> (Vec<Wanted>, Forgotten) {
    let name = |name: &str| Arc::from(if version >= TOPIC_IDS_FROM { "" } else { name });
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let name: Arc<str> = name(&topic.topic);
        for partition in &topic.partitions {
            wanted.push(Wanted {
                topic: Arc::clone(&name),
                id: TopicId(topic.topic_id.into_bytes()),
                partition: partition.partition,
                leader_epoch: partition.current_leader_epoch,
                offset: partition.fetch_offset,
                last_fetched_epoch: partition.last_fetched_epoch,
                bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            });
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let name: Arc<str> = name(&topic.topic);
        let id = TopicId(topic.topic_id.into_bytes());
        forgotten.extend(topic.partitions.iter().map(|&partition| (Arc::clone(&name), id, partition)));
    }
    (wanted, forgotten)
}

/// Whether the fetch has enough to be answered before its deadline: its minimum of bytes, or an error.
pub(crate) fn is_ready(cluster: &Cluster, context: &Context, pending: &Pending) -> bool {
    let mut bytes = 0;
    for wanted in &pending.wanted {
        let Ok(partition) = find(cluster, context, wanted) else { return true };
        if diverging(partition, wanted).is_some() {
            return true;
        }
        let bound = bound(partition, pending.read_committed);
        let missing = pending.bytes_min.saturating_sub(bytes);
        bytes += partition.log.readable_bytes(wanted.offset, bound, missing).min(wanted.bytes_max.max(1));
        if bytes >= pending.bytes_min {
            return true;
        }
    }
    bytes >= pending.bytes_min
}

/// Answers the fetch with what there is.
pub(crate) fn complete(cluster: &mut Cluster, context: &Context, pending: &Pending) -> Answer {
    let mut fetched = Vec::with_capacity(pending.wanted.len());
    let mut left = pending.bytes_max;
    let mut any = false;
    for wanted in &pending.wanted {
        let partition = read(cluster, context, pending, wanted, left, !any);
        left = left.saturating_sub(partition.bytes);
        any |= partition.bytes > 0;
        fetched.push(partition);
    }
    if any && is_throttled(cluster, context, &fetched) {
        // As Kafka: nothing is handed out, and the client asks for the same again after the pause.
        return match pending.session {
            Session::Continued(id) => encode(context, 0, id, &[], &[]),
            Session::Opened(id) => {
                cluster.sessions.close(id);
                encode(context, 0, 0, &[], &[])
            }
            Session::None => encode(context, 0, 0, &[], &[]),
        };
    }
    let id = match pending.session {
        Session::None => 0,
        Session::Opened(id) | Session::Continued(id) => id,
    };
    if id != 0 {
        fetched.retain(|partition| {
            let told =
                Told { high_watermark: partition.high_watermark, start_offset: partition.start_offset };
            let is_news = cluster.sessions.tell(id, partition.wanted, told, partition.bytes > 0);
            is_news
                || matches!(pending.session, Session::Opened(_))
                || partition.error_code != 0
                || partition.diverging_epoch.is_some()
        });
    }
    let mut endpoints = Vec::new();
    for (leader, _) in fetched.iter().filter_map(|partition| partition.current_leader) {
        if let Some(node) = cluster.nodes.get(&leader)
            && !endpoints.iter().any(|&(known, _)| known == leader)
        {
            endpoints.push((leader, node));
        }
    }
    encode(context, 0, id, &fetched, &endpoints)
}

/// Whether these records are more than the client's quota has room for; then it does not get them.
fn is_throttled(cluster: &mut Cluster, context: &Context, fetched: &[Fetched<'_>]) -> bool {
    let bytes: usize = fetched.iter().map(|partition| partition.bytes).sum();
    cluster.charge(context, CONSUMER_BYTE_RATE, bytes as f64);
    if cluster.pause_of(context).is_zero() {
        return false;
    }
    let client_id = context.client_id.as_deref().unwrap_or_default();
    cluster.quotas.take_back(CONSUMER_BYTE_RATE, context.user(), client_id, bytes as f64);
    true
}

/// The partition, where this node may serve it to this client.
fn find<'a>(
    cluster: &'a Cluster,
    context: &Context,
    wanted: &Wanted,
) -> Result<&'a Partition, (ErrorCode, Option<Leader>)> {
    let by_id = context.version >= TOPIC_IDS_FROM;
    let name: &str = match cluster.topics.name_of(wanted.id) {
        Some(name) if by_id => name,
        None if by_id => return Err((ErrorCode::UNKNOWN_TOPIC_ID, None)),
        _ => &wanted.topic,
    };
    if let Some(code) = context.injected_for_partition(name, wanted.partition) {
        return Err((code, None));
    }
    context.authorize(Operation::Read, ResourceType::Topic, name).map_err(|code| (code, None))?;
    let Some(partition) = cluster.topics.partition(name, wanted.partition) else {
        return Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
    };
    let leader = Some((partition.leader, partition.leader_epoch));
    if wanted.leader_epoch >= 0 && wanted.leader_epoch < partition.leader_epoch {
        return Err((ErrorCode::FENCED_LEADER_EPOCH, leader));
    }
    if wanted.leader_epoch > partition.leader_epoch {
        return Err((ErrorCode::UNKNOWN_LEADER_EPOCH, None));
    }
    if partition.leader != context.node {
        return Err((ErrorCode::NOT_LEADER_OR_FOLLOWER, leader));
    }
    let log = &partition.log;
    if wanted.last_fetched_epoch > partition.leader_epoch {
        return Err((ErrorCode::OFFSET_OUT_OF_RANGE, None));
    }
    if diverging(partition, wanted).is_none()
        && !(log.start_offset()..=log.end_offset()).contains(&wanted.offset)
    {
        return Err((ErrorCode::OFFSET_OUT_OF_RANGE, None));
    }
    Ok(partition)
}

fn bound(partition: &Partition, read_committed: bool) -> i64 {
    if read_committed { partition.log.last_stable_offset() } else { partition.log.end_offset() }
}

/// Where the client's log and this one part, if the client read what was truncated since (KIP-320).
fn diverging(partition: &Partition, wanted: &Wanted) -> Option<(i32, i64)> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    let (epoch, end) = partition.log.end_of_epoch(wanted.last_fetched_epoch, partition.leader_epoch)?;
    (epoch < wanted.last_fetched_epoch || end < wanted.offset).then_some((epoch, end))
}

fn read<'a>(
    cluster: &Cluster,
    context: &Context,
    pending: &Pending,
    wanted: &'a Wanted,
    left: usize,
    is_first: bool,
) -> Fetched<'a> {
    let mut fetched = Fetched {
        wanted,
        error_code: 0,
        high_watermark: -1,
        last_stable_offset: -1,
        start_offset: -1,
        diverging_epoch: None,
        current_leader: None,
        aborted: None,
        records: Vec::new(),
        bytes: 0,
    };
    let partition = match find(cluster, context, wanted) {
        Ok(partition) => partition,
        Err((code, current_leader)) => {
            return Fetched { error_code: code.code(), current_leader, ..fetched };
        }
    };
    let log = &partition.log;
    fetched.high_watermark = log.end_offset();
    fetched.last_stable_offset = log.last_stable_offset();
    fetched.start_offset = log.start_offset();
    fetched.diverging_epoch = diverging(partition, wanted);
    if fetched.diverging_epoch.is_some() {
        return fetched;
    }
    let bytes_max = wanted.bytes_max.min(left);
    match log.read(wanted.offset, bound(partition, pending.read_committed), bytes_max, is_first) {
        Ok(slice) => {
            if pending.read_committed {
                fetched.aborted = Some(log.producers.aborted(wanted.offset, slice.next_offset));
            }
            fetched.bytes = slice.bytes;
            fetched.records = slice.chunks;
            if context.corrupts_records {
                damage(&mut fetched.records);
            }
            fetched
        }
        Err(error) => {
            tracing::error!(%error, partition = wanted.partition, "a partition cannot be read");
            Fetched { error_code: ErrorCode::KAFKA_STORAGE_ERROR.code(), ..fetched }
        }
    }
}

/// Makes the last byte another, under a checksum that stays.
fn damage(records: &mut [Bytes]) {
    if let Some(last) = records.last_mut() {
        let mut copy = last.to_vec();
        if let Some(byte) = copy.last_mut() {
            *byte = !*byte;
        }
        *last = Bytes::from(copy);
    }
}

//! The topics that are written to, and which of their partitions a record goes to.

use std::sync::Arc;

use hashbrown::HashMap;

use super::AccumulatorConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::producer::partitioner::{TopicPartitions, partition_for_key};
use crate::producer::record::Record;
use crate::producer::sticky::Sticky;
use crate::types::BrokerId;

/// Topics a producer may know: a bound against names made from data, far above what a cluster holds.
const TOPICS_MAX: usize = 100_000;

/// What is known of a topic's partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicShape {
    /// Who leads each, in order.
    pub leaders: Vec<Option<BrokerId>>,
    /// Those that records without a key are to be kept to, as far as there are any: their leaders are in
    /// the client's rack (KIP-1123).
    pub near: Vec<i32>,
}

impl TopicShape {
    /// The partitions with a leader.
    fn available(&self) -> Vec<i32> {
        let led = self.leaders.iter().enumerate().filter(|(_, leader)| leader.is_some());
        led.map(|(partition, _)| partition as i32).collect()
    }
}

/// Partitions by their places in the accumulator's list of lanes.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_name: HashMap<Arc<str>, Topic>,
    unwatched: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// Per partition, its lane.
    lanes: Vec<usize>,
    /// Those with a leader.
    available: Vec<i32>,
    near: Vec<i32>,
    sticky: Sticky,
    /// Why its metadata is not there.
    failure: Option<Error>,
}

impl Topics {
    /// The lane for `record`, or `None` while its topic is unknown. `queued` says how many batches a lane has
    /// before it; `None` where it takes none at the moment.
    pub(super) fn choose(
        &mut self,
        record: &Record<'_>,
        size: usize,
        config: &AccumulatorConfig,
        queued: impl Fn(usize) -> Option<usize>,
    ) -> Result<Option<usize>> {
        let Some(topic) = self.by_name.get_mut(record.topic) else {
            self.begin(record.topic, config.seed)?;
            return Ok(None);
        };
        if topic.lanes.is_empty() {
            return match &topic.failure {
                Some(failure) if !failure.is_retriable() => Err(failure.clone()),
                _ => Ok(None),
            };
        }
        let partitions = topic.lanes.len() as u32;
        let of_application = || {
            let known = TopicPartitions { name: &topic.name, count: partitions, available: &topic.available };
            config.partitioner.as_ref()?.partition(record, &known)
        };
        let partition = match record.partition.or_else(of_application) {
            Some(partition) => partition,
            None => match record.key.filter(|_| !config.ignore_keys) {
                Some(key) => partition_for_key(key, partitions),
                None => topic.choose_sticky(size, config, queued),
            },
        };
        let lane = usize::try_from(partition).ok().and_then(|partition| topic.lanes.get(partition));
        lane.copied().map(Some).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("send to partition {partition} of {}, which has {partitions}", record.topic),
            )
        })
    }

    fn begin(&mut self, name: &str, seed: u64) -> Result<()> {
        if self.by_name.len() >= TOPICS_MAX {
            let text = format!("send to {name}: this producer already knows {TOPICS_MAX} topics");
            return Err(Error::new(ErrorKind::Usage, text)
                .with_hint("topic names seem to be made from data; use fewer topics"));
        }
        let name: Arc<str> = name.into();
        let topic = Topic {
            name: Arc::clone(&name),
            lanes: Vec::new(),
            available: Vec::new(),
            near: Vec::new(),
            sticky: Sticky::new(seed.wrapping_add(self.by_name.len() as u64)),
            failure: None,
        };
        self.by_name.insert(Arc::clone(&name), topic);
        self.unwatched.push(name);
        Ok(())
    }

    /// Whether there is something for [`Self::take_unwatched`].
    pub(super) fn has_unwatched(&self) -> bool {
        !self.unwatched.is_empty()
    }

    /// Topics that somebody wants to send to and whose metadata nobody watches yet.
    pub(super) fn take_unwatched(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.unwatched)
    }

    /// Metadata of a topic has come; `add` makes a lane for a partition that was not known before. The lanes of
    /// its partitions, in order.
    pub(super) fn update(
        &mut self,
        name: &str,
        shape: &TopicShape,
        mut add: impl FnMut(&Arc<str>, i32) -> usize,
    ) -> &[usize] {
        let Some(topic) = self.by_name.get_mut(name) else { return &[] };
        topic.failure = None;
        // Partitions are never taken away while a producer lives: a topic that was created anew with fewer
        // answers for those beyond its end itself.
        for partition in topic.lanes.len()..shape.leaders.len() {
            topic.lanes.push(add(&topic.name, partition as i32));
        }
        let available = shape.available();
        if (&topic.available, &topic.near) != (&available, &shape.near) {
            topic.available = available;
            topic.near.clone_from(&shape.near);
            topic.sticky.leave();
        }
        &topic.lanes
    }

    /// There is no metadata of a topic: why.
    pub(super) fn fail(&mut self, name: &str, failure: Error) {
        if let Some(topic) = self.by_name.get_mut(name) {
            topic.failure = Some(failure);
        }
    }

    /// Why a wait for the topic was in vain, as far as it is known.
    pub(super) fn failure(&self, name: &str) -> Option<&Error> {
        self.by_name.get(name)?.failure.as_ref()
    }
}

impl Topic {
    /// A partition for a record that nothing else decides; see [`Sticky`].
    fn choose_sticky(
        &mut self,
        size: usize,
        config: &AccumulatorConfig,
        queued: impl Fn(usize) -> Option<usize>,
    ) -> i32 {
        let Self { lanes, available, near, sticky, .. } = self;
        let candidates = if near.is_empty() { available } else { near };
        let queued = |partition: i32| {
            if !config.is_adaptive {
                return Some(0);
            }
            queued(*lanes.get(usize::try_from(partition).ok()?)?)
        };
        let partition = sticky.partition(candidates, lanes.len() as u32, queued);
        sticky.record(size, config.batch_size.max(1));
        partition
    }
}

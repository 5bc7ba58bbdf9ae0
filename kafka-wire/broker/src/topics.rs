//! The cluster's topics and partitions.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::{ErrorCode, TopicId};

use crate::error::{Failure, fail};
use crate::log::Log;
use crate::topic_config::TopicConfig;

/// One partition: its log and who leads it.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) log: Log,
    /// The nodes that "have" it; they share the log.
    pub(crate) replicas: Vec<i32>,
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
}

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) replication_factor: i16,
    pub(crate) config: TopicConfig,
}

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    by_name: BTreeMap<Arc<str>, Topic>,
    names: BTreeMap<TopicId, Arc<str>>,
    folder: Option<PathBuf>,
    nodes: i32,
}

impl Topics {
    /// No topics yet; their logs go to `folder`, or stay in memory.
    pub(crate) fn new(folder: Option<PathBuf>, nodes: u16) -> Self {
        Self { by_name: BTreeMap::new(), names: BTreeMap::new(), folder, nodes: i32::from(nodes) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.by_name.values_mut()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    /// The name of the topic with this id.
    pub(crate) fn name_of(&self, id: TopicId) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// Adds a topic that was checked.
    pub(crate) fn insert(
        &mut self,
        name: Arc<str>,
        id: TopicId,
        partitions: i32,
        replication_factor: i16,
        config: TopicConfig,
    ) -> io::Result<()> {
        let mut topic = Topic { name, id, partitions: Vec::new(), replication_factor, config };
        grow(&mut topic, partitions, self.folder.as_deref(), self.nodes)?;
        self.names.insert(id, Arc::clone(&topic.name));
        self.by_name.insert(Arc::clone(&topic.name), topic);
        Ok(())
    }

    /// Adds partitions up to `count`.
    pub(crate) fn grow(&mut self, name: &str, count: i32) -> io::Result<()> {
        match self.by_name.get_mut(name) {
            Some(topic) => grow(topic, count, self.folder.as_deref(), self.nodes),
            None => Ok(()),
        }
    }

    /// Deletes a topic and its files.
    pub(crate) fn remove(&mut self, name: &str) -> io::Result<()> {
        let Some(topic) = self.by_name.remove(name) else { return Ok(()) };
        self.names.remove(&topic.id);
        match &self.folder {
            Some(folder) => match fs::remove_dir_all(folder.join(topic.id.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }
}

fn grow(topic: &mut Topic, count: i32, folder: Option<&Path>, nodes: i32) -> io::Result<()> {
    let folder = folder.map(|folder| folder.join(topic.id.to_string()));
    if let Some(folder) = &folder {
        fs::create_dir_all(folder)?;
    }
    for index in topic.partitions.len() as i32..count {
        let log = match &folder {
            Some(folder) => Log::open(&folder.join(format!("{index}.log")))?,
            None => Log::in_memory(),
        };
        let leader = index % nodes;
        let replicas = (0..i32::from(topic.replication_factor)).map(|n| (leader + n) % nodes).collect();
        let leader_epoch = log.last_epoch().unwrap_or(0);
        topic.partitions.push(Partition { log, replicas, leader, leader_epoch });
    }
    Ok(())
}

/// Checks a topic name as Kafka's `Topic.validate` does.
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION`.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let problem = if name.is_empty() {
        "the empty string is not allowed"
    } else if matches!(name, "." | "..") {
        "'.' or '..' is not allowed"
    } else if name.len() > 249 {
        "it is longer than 249 characters"
    } else if !name.chars().all(legal) {
        "it contains a character other than ASCII alphanumerics, '.', '_' and '-'"
    } else {
        return Ok(());
    };
    fail(ErrorCode::INVALID_TOPIC_EXCEPTION, format!("topic name '{name}' is invalid: {problem}"))
}

//! How a cluster starts: empty, or from its folder.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use kafka_wire::TopicId;

use super::{Cluster, Node, Now, mix};
use crate::authorizer::Authorizer;
use crate::faults::Faults;
use crate::features::Features;
use crate::groups::Groups;
use crate::journal::{Entry, Journal};
use crate::options::Options;
use crate::quotas::Quotas;
use crate::sasl::jwks::Jwks;
use crate::sessions::FetchSessions;
use crate::setting::Setting;
use crate::shares::Shares;
use crate::tokens::Tokens;
use crate::topic_config::TopicConfig;
use crate::topics::Topics;
use crate::transactions::Transactions;
use crate::users::Users;

const JOURNAL_FILE: &str = "journal";
const TOPICS_FOLDER: &str = "topics";
const LOCK_FILE: &str = "lock";

impl Cluster {
    /// A cluster as `options` say; `seed` tells this run from all others. With a data folder it goes on where
    /// that left off, under the identity that it got first.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or a topic or a key of the options is not possible.
    pub fn new(now: Now, options: Options, seed: u64) -> io::Result<Self> {
        let folder = options.data.clone();
        let (lock, entries) = match &folder {
            Some(folder) => {
                fs::create_dir_all(folder.join(TOPICS_FOLDER))?;
                (Some(lock(folder)?), Journal::read(&folder.join(JOURNAL_FILE))?)
            }
            None => (None, Vec::new()),
        };
        let jwks = options.sasl.as_ref().and_then(|sasl| sasl.oauth_jwks.as_deref());
        let jwks = jwks.map(Jwks::parse).transpose()?.unwrap_or_default();
        let mut cluster = Self::empty(now, options, seed);
        (cluster.lock, cluster.jwks) = (lock, jwks);
        for entry in entries {
            cluster.apply(now, entry)?;
        }
        // What was under way stays so until somebody lets it go on.
        cluster.holds_reassignments = !cluster.reassignments.is_empty();
        cluster.start_with_users();
        if let Some(folder) = &folder {
            cluster.remove_strangers(&folder.join(TOPICS_FOLDER))?;
            cluster.journal = Journal::rewrite(&folder.join(JOURNAL_FILE), &cluster.facts())?;
        }
        for topic in cluster.options.topics.clone() {
            if cluster.topics.get(&topic.name).is_none() {
                let configs = topic.configs.into_iter().collect();
                cluster
                    .create(&topic.name, topic.partitions, 1, configs, false)
                    .map_err(|failure| io::Error::new(io::ErrorKind::InvalidInput, failure.text))?;
            }
        }
        match cluster.broken.take() {
            Some(broken) => Err(io::Error::other(broken)),
            None => Ok(cluster),
        }
    }

    fn empty(now: Now, options: Options, seed: u64) -> Self {
        let node = Node {
            host: "127.0.0.1".to_owned(),
            port: 0,
            rack: None,
            is_up: true,
            is_paused: false,
            is_registered: true,
        };
        let nodes = options.nodes.max(1);
        Self {
            cluster_id: format!("tidewater-{:016x}", mix(seed)),
            nodes: (0..i32::from(nodes)).map(|id| (id, node.clone())).collect(),
            topics: Topics::new(options.data.as_ref().map(|folder| folder.join(TOPICS_FOLDER)), nodes),
            transactions: Transactions::new(options.marker_delay),
            groups: Groups::new(options.initial_rebalance_delay),
            shares: Shares::default(),
            sessions: FetchSessions::default(),
            faults: Faults::default(),
            authorizer: Arc::new(Authorizer::new(options.authorizer.clone())),
            configs: BTreeMap::new(),
            quotas: Quotas::default(),
            users: Users::default(),
            tokens: Tokens::default(),
            jwks: Jwks::default(),
            features: Features::new(options.transaction_version),
            metrics: VecDeque::new(),
            reassignments: BTreeMap::new(),
            holds_reassignments: false,
            controller: 0,
            controller_epoch: 1,
            api_versions: BTreeMap::new(),
            requests: BTreeMap::new(),
            facts_recorded: 0,
            coordinators: BTreeMap::new(),
            connections: BTreeMap::new(),
            parked: BTreeMap::new(),
            output: VecDeque::new(),
            journal: Journal::in_memory(),
            lock: None,
            broken: None,
            grown: Vec::new(),
            seed,
            run_seed: seed,
            names_made: 0,
            topics_created: 0,
            next_connection: 0,
            next_retention: now.instant,
            next_age_check: now.instant + super::AGE_INTERVAL,
            next_compaction: now.instant + super::COMPACTION_INTERVAL,
            options,
        }
    }

    fn start_with_users(&mut self) {
        let Some(sasl) = self.options.sasl.clone() else { return };
        let mut users = std::mem::take(&mut self.users);
        users.start_with(&sasl.users, || self.unique_bytes().to_vec());
        self.users = users;
    }

    fn apply(&mut self, now: Now, entry: Entry) -> io::Result<()> {
        match entry {
            Entry::Cluster { seed, cluster_id } => {
                self.seed = seed;
                self.cluster_id = cluster_id;
            }
            Entry::Topic { number, name, id, partitions, replication_factor, configs } => {
                self.topics_created = self.topics_created.max(number);
                let config = TopicConfig { entries: configs.into_iter().collect() };
                self.add_topic(&name, TopicId(id), partitions, replication_factor, config)
                    .map_err(|failure| io::Error::other(failure.text))?;
            }
            Entry::Partitions { name, count } => self.topics.grow(&name, count)?,
            Entry::Configs { name, configs } => {
                if let Some(topic) = self.topics.get_mut(&name) {
                    topic.config.entries = configs.into_iter().collect();
                }
            }
            Entry::Deleted { name } => {
                if let Some(id) = self.topics.get(&name).map(|topic| topic.id) {
                    self.shares.forget(|(_, topic, _)| *topic == id);
                }
                self.topics.remove(&name)?;
                self.groups.forget_topic(&name);
                self.transactions.forget_topic(&name);
                self.reassignments.retain(|(topic, _), _| *topic != name);
            }
            Entry::LogStart { topic, partition, offset } => {
                if let Some(partition) = self.topics.partition_mut(&topic, partition) {
                    partition.log.delete_before(offset);
                }
            }
            Entry::Leader { topic, partition, leader, epoch } => {
                let is_there = self.nodes.contains_key(&leader);
                if let Some(partition) = self.topics.partition_mut(&topic, partition) {
                    partition.leader_epoch = partition.leader_epoch.max(epoch);
                    partition.leader = if is_there { leader } else { partition.leader };
                }
            }
            Entry::Offsets { group, offsets } => self.groups.commit(&group, offsets),
            Entry::Members { group, members } => {
                self.groups.restore(now.instant, &group, members).map_err(|error| {
                    io::Error::other(format!("read the members of group {group} from the journal: {error}"))
                })?;
            }
            Entry::GroupDeleted { group } => {
                self.groups.remove(&group);
                self.shares.forget(|(id, ..)| *id == group);
            }
            Entry::Share { group, topic, partition: (index, saved) } => {
                self.restore_share(group, TopicId(topic), index, saved);
            }
            Entry::ShareDeleted { group, topic } => {
                self.shares.forget(|(id, of, _)| *id == group && of.0 == topic);
            }
            Entry::OffsetDeleted { group, topic, partition } => {
                self.groups.delete_offset(&group, &topic, partition);
            }
            Entry::ProducerIds { next } => self.transactions.restore_producer_ids(next),
            Entry::Setting(setting) => self.apply_setting(*setting),
            Entry::Transaction(transaction) => self.transactions.restore(*transaction, now.instant),
        }
        Ok(())
    }

    /// Replaces the journal by its shortest form.
    pub(super) fn rewrite_journal(&mut self) {
        let path = self.journal.path().to_owned();
        match Journal::rewrite(&path, &self.facts()) {
            Ok(journal) => self.journal = journal,
            Err(error) => self.give_up("rewrite the journal", &error),
        }
    }

    /// The shortest list of entries that says what this cluster is.
    fn facts(&self) -> Vec<Entry> {
        let mut facts = vec![Entry::Cluster { seed: self.seed, cluster_id: self.cluster_id.clone() }];
        for topic in self.topics.iter() {
            let name = topic.name.to_string();
            facts.push(Entry::Topic {
                number: self.topics_created,
                name: name.clone(),
                id: topic.id.0,
                partitions: topic.partitions.len() as i32,
                replication_factor: topic.replication_factor,
                configs: topic.config.entries.clone().into_iter().collect(),
            });
            for (index, partition) in (0..).zip(&topic.partitions) {
                let (leader, epoch) = (partition.leader, partition.leader_epoch);
                facts.push(Entry::Leader { topic: name.clone(), partition: index, leader, epoch });
                let replicas = partition.replicas.clone();
                facts.push(Entry::Setting(Box::new(Setting::Replicas {
                    topic: name.clone(),
                    partition: index,
                    replicas,
                })));
                let offset = partition.log.start_offset();
                facts.push(Entry::LogStart { topic: name.clone(), partition: index, offset });
            }
        }
        for (group, content) in self.groups.iter() {
            let offsets = content.offsets().cloned().collect();
            facts.push(Entry::Offsets { group: group.to_owned(), offsets });
        }
        for (group, members) in self.groups.logged() {
            let (group, members) = (group.to_owned(), members.to_vec());
            facts.push(Entry::Members { group, members });
        }
        facts.extend(self.settings().into_iter().map(|setting| Entry::Setting(Box::new(setting))));
        for ((group, topic, index), partition) in self.shares.iter() {
            let (group, partition) = (group.clone(), (*index, partition.save()));
            facts.push(Entry::Share { group, topic: topic.0, partition });
        }
        facts.push(Entry::ProducerIds { next: self.transactions.next_producer_id() });
        facts.extend(self.transactions.iter().map(|it| Entry::Transaction(Box::new(it.clone()))));
        facts
    }

    /// Removes folders of topics that the journal does not know: a crash came between both.
    fn remove_strangers(&self, folder: &Path) -> io::Result<()> {
        for found in fs::read_dir(folder)? {
            let found = found?;
            let known = self.topics.iter().any(|topic| found.file_name() == topic.id.to_string().as_str());
            if !known {
                fs::remove_dir_all(found.path())?;
            }
        }
        Ok(())
    }
}

/// Two brokers must never write into one folder.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::create(folder.join(LOCK_FILE))?;
    file.try_lock().map_err(|error| {
        let text =
            format!("lock {}: {error}; another broker uses this folder: stop it first", folder.display());
        io::Error::new(io::ErrorKind::ResourceBusy, text)
    })?;
    Ok(file)
}

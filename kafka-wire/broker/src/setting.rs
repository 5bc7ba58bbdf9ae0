//! What administrators set, beside topics and records: one fact of each kind, as the journal keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::authorizer::Acl;
use crate::cluster::Cluster;
use crate::journal::Entry;
use crate::quotas::Entity;
use crate::tokens::Token;
use crate::users::{ScramKey, StoredCredential};

/// Whose configuration it is, beside topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum ConfigOwner {
    /// A node, or all of them.
    Broker(Option<i32>),
    ClientMetrics(String),
    Group(String),
}

/// One fact. The variants' order is the journal's format: append, never reorder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Setting {
    /// An access control list has this entry.
    Acl(Acl),
    /// It has this entry no more.
    AclRemoved(Acl),
    /// All that is set on a resource.
    Configs { owner: ConfigOwner, entries: BTreeMap<String, String> },
    /// All quotas of an entity.
    Quotas { entity: Entity, values: BTreeMap<String, f64> },
    /// A user's keys for a SCRAM mechanism, or none any more.
    Scram { key: ScramKey, credential: Option<StoredCredential> },
    /// A delegation token as it is now.
    Token(Token),
    /// There is no such token any more.
    TokenRemoved { id: String },
    /// A feature is finalized at this level.
    Feature { name: String, level: i16 },
    /// The nodes that have a partition, the preferred leader first.
    Replicas { topic: String, partition: i32, replicas: Vec<i32> },
    /// The nodes that a partition is to have once reassignments are held no longer, or none any more.
    Reassignment { topic: String, partition: i32, replicas: Option<Vec<i32>> },
    /// Which node is the controller, and in which epoch.
    Controller { node: i32, epoch: i32 },
}

impl Cluster {
    /// Puts a fact in force and writes it down.
    pub(crate) fn set(&mut self, setting: Setting) {
        self.apply_setting(setting.clone());
        self.record(Entry::Setting(Box::new(setting)));
    }

    pub(crate) fn apply_setting(&mut self, setting: Setting) {
        match setting {
            Setting::Acl(acl) => Arc::make_mut(&mut self.authorizer).add(acl),
            Setting::AclRemoved(acl) => Arc::make_mut(&mut self.authorizer).remove(&acl),
            Setting::Configs { owner, entries } if entries.is_empty() => {
                self.configs.remove(&owner);
            }
            Setting::Configs { owner, entries } => {
                self.configs.insert(owner, entries);
            }
            Setting::Quotas { entity, values } => self.quotas.set(entity, values),
            Setting::Scram { key, credential } => self.users.set(key, credential),
            Setting::Token(token) => self.tokens.put(token),
            Setting::TokenRemoved { id } => self.tokens.remove(&id),
            Setting::Feature { name, level } => self.features.set(&name, level),
            Setting::Replicas { topic, partition, replicas } => {
                if let Some(partition) = self.topics.partition_mut(&topic, partition) {
                    partition.replicas = replicas;
                }
            }
            Setting::Reassignment { topic, partition, replicas } => {
                let key = (topic, partition);
                match replicas {
                    Some(replicas) => drop(self.reassignments.insert(key, replicas)),
                    None => drop(self.reassignments.remove(&key)),
                }
            }
            Setting::Controller { node, epoch } => {
                let is_there = self.nodes.contains_key(&node);
                self.controller = if is_there { node } else { self.controller };
                self.controller_epoch = epoch;
            }
        }
    }

    /// The shortest list of facts that says what is set, but for partitions.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let mut settings: Vec<Setting> = self.authorizer.acls().iter().cloned().map(Setting::Acl).collect();
        for (owner, entries) in &self.configs {
            settings.push(Setting::Configs { owner: owner.clone(), entries: entries.clone() });
        }
        for (entity, values) in self.quotas.iter() {
            settings.push(Setting::Quotas { entity: entity.clone(), values: values.clone() });
        }
        for (key, credential) in self.users.iter() {
            settings.push(Setting::Scram { key: key.clone(), credential: Some(credential.clone()) });
        }
        settings.extend(self.tokens.iter().cloned().map(Setting::Token));
        for (name, level) in self.features.changed() {
            settings.push(Setting::Feature { name: name.to_owned(), level });
        }
        for ((topic, partition), replicas) in &self.reassignments {
            let (topic, partition, replicas) = (topic.clone(), *partition, Some(replicas.clone()));
            settings.push(Setting::Reassignment { topic, partition, replicas });
        }
        settings.push(Setting::Controller { node: self.controller, epoch: self.controller_epoch });
        settings
    }
}

//! What administrators set, beside topics and records: one fact of each kind, as the journal keeps it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::authorizer::Acl;
use crate::cluster::Cluster;
use crate::journal::Entry;

/// One fact. The variants' order is the journal's format: append, never reorder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Setting {
    /// An access control list has this entry.
    Acl(Acl),
    /// It has this entry no more.
    AclRemoved(Acl),
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
        }
    }

    /// The shortest list of facts that says what is set.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        self.authorizer.acls().iter().cloned().map(Setting::Acl).collect()
    }
}

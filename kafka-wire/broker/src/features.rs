//! Features: what the cluster has agreed on, by name and level (KIP-584).

use std::collections::BTreeMap;

use crate::options::TransactionVersion;

/// A feature that the cluster supports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supported {
    pub(crate) name: &'static str,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

const TRANSACTION_VERSION: &str = "transaction.version";

/// By name; ranges and defaults (the largest level) are those of Kafka 4.3.
pub(crate) const SUPPORTED: &[Supported] = &[
    Supported { name: "group.version", min: 0, max: 1 },
    Supported { name: "metadata.version", min: 7, max: METADATA_VERSION },
    Supported { name: "share.version", min: 0, max: 1 },
    Supported { name: TRANSACTION_VERSION, min: 0, max: TransactionVersion::V2.level() },
];

/// `MetadataVersion.LATEST_PRODUCTION` of Kafka 4.3.
const METADATA_VERSION: i16 = 30;

/// What is finalized.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    transaction_version: i16,
    changed: BTreeMap<&'static str, i16>,
    epoch: i64,
}

impl Features {
    pub(crate) fn new(transaction_version: TransactionVersion) -> Self {
        Self { transaction_version: transaction_version.level(), changed: BTreeMap::new(), epoch: 1 }
    }

    /// The level of a feature; 0 is "off".
    pub(crate) fn level(&self, feature: &Supported) -> i16 {
        let default =
            if feature.name == TRANSACTION_VERSION { self.transaction_version } else { feature.max };
        self.changed.get(feature.name).copied().unwrap_or(default)
    }

    /// Grows with each change.
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch
    }

    pub(crate) fn set(&mut self, name: &str, level: i16) {
        if let Some(feature) = find(name) {
            self.changed.insert(feature.name, level);
            self.epoch += 1;
        }
    }

    /// What was set by request.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&'static str, i16)> {
        self.changed.iter().map(|(&name, &level)| (name, level))
    }
}

pub(crate) fn find(name: &str) -> Option<&'static Supported> {
    SUPPORTED.iter().find(|feature| feature.name == name)
}

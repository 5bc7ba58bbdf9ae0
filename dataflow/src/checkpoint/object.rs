//! What a manifest says about a stored object: enough to find it and to notice any change of it.

use serde::{Deserialize, Serialize};

use crate::state::{KeyGroupRange, SnapshotKind};

/// A stored object: where it is and what it must be. Nothing is read from it unless both match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its path below the store's root, `{instance}/{epoch}-{worker}-{uid}`.
    pub path: String,
    /// Its length in bytes, header included.
    pub length: u64,
    /// CRC-32C of its payload.
    pub crc32c: u32,
}

/// One object in the chain that makes up an operator's state: a base or a delta of some key groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateObject {
    /// The operator, by its uid.
    pub uid: String,
    /// The epoch whose end it is the state of.
    pub epoch: u64,
    /// Whether it stands alone or builds on what came before.
    pub kind: SnapshotKind,
    /// The key groups that it speaks for.
    pub groups: KeyGroupRange,
    /// The stored object.
    #[serde(flatten)]
    pub object: ObjectRef,
}

//! Keyed state: key groups, the logic of stateful operators as values, and how state becomes bytes. Layer 2.

mod codec;
pub mod key_group;
pub mod logic;

pub use key_group::{KEY_GROUPS, KeyGroup, KeyGroupRange, KeyHasher, Keyed, key_hash, owner};
pub use logic::{KeyedLogic, SnapshotKind};

//! Keyed state: key groups, the logic of stateful operators as values, and how state becomes bytes. Layer 2.

pub mod aggregate;
mod codec;
pub mod key_group;
pub mod logic;
mod running;
pub(crate) mod section;
pub(crate) mod table;

pub use aggregate::{Aggregate, And, Avg, Count, Max, Min, Ordered, Reduce, Sum, Summable};
pub use key_group::{KEY_GROUPS, KeyGroup, KeyGroupRange, KeyHasher, Keyed, key_hash, owner};
pub use logic::{KeyedLogic, SnapshotKind};
pub use running::Running;

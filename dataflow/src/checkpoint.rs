//! Durable state: objects written once, what a manifest says of them, and which of them are still needed. Layer 3.
//!
//! What makes a set of objects a checkpoint is that a committed manifest names them; until then they are
//! orphans that nobody reads. So nothing here has to be atomic beyond one object.

mod chain;
mod collector;
mod folder;
pub mod object;
mod policy;
mod store;

pub use chain::{live, needed_by};
pub use collector::Collector;
pub use object::{ObjectRef, StateObject};
pub use policy::SnapshotPolicy;
pub use store::StateStore;

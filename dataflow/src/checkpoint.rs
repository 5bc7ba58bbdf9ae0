//! Durable state: objects written once, what a manifest says of them, and which of them are still needed. Layer 3.

pub mod object;

pub use object::{ObjectRef, StateObject};

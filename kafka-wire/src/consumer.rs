//! Reading: positions, fetch sessions, the filter of `read_committed`, and buffers. Layer 7.
//!
//! The [`ConsumerMachine`] fetches into [`SharedBuffers`]; the application takes from them. Everything is
//! accounted for per batch, nothing per record.

mod aborted;
mod account;
mod assigned;
mod assignment;
mod batch;
mod buffers;
mod fetched;
mod fetcher;
mod group_offsets;
mod lookup;
mod machine;
mod measures;
mod membership;
#[cfg(test)]
mod model;
mod pattern;
mod position;
mod rebalance;
mod session;
mod validation;

pub use batch::FetchedBatch;
pub(crate) use buffers::{SharedBuffers, Taken};
pub(crate) use machine::{Command, ConsumerMachine};
pub(crate) use membership::{Wanted, not_a_member};
pub(crate) use pattern::TopicPattern;
pub use position::{OffsetAndEpoch, Position};
pub(crate) use rebalance::SharedRebalances;

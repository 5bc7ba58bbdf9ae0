//! The plumbing on timely: everything that knows timely, and nothing that knows what a job does. Layer 4.
//!
//! Edges carry [`Parcel`]s, batches whose item type is erased, so that every operator here is compiled
//! once and pays for the erasure once per batch. What differs per job comes in as boxed closures over
//! parcels. The operators keep the rules of time and of epochs (design D4, D5):
//!
//! - [`operator::source`] stamps what it reads with (epoch, watermark) and acknowledges positions;
//! - [`operator::stateless`] runs a fused chain of user functions on each parcel;
//! - [`operator::keyed`] aligns epochs, advances watermarks, snapshots;
//! - [`operator::sink`] hands a complete epoch's output to the transaction;
//! - [`operator::commit`] closes an epoch when everything in it has been acknowledged.

pub(crate) mod ack;
pub(crate) mod bridge;
pub(crate) mod control;
pub(crate) mod crash;
pub(crate) mod credit;
pub(crate) mod epoch;
pub(crate) mod operator;
pub(crate) mod parcel;
pub(crate) mod timestamp;
pub(crate) mod worker;

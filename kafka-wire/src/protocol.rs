//! Kafka's wire protocol: frames, requests and answers. Layer 2.
//!
//! Nothing that a peer sent reaches a decoder of `kafka-protocol` before a guard has checked every
//! length in it.

pub mod messages;
pub mod request;

//! Kafka's wire protocol: frames, requests and answers. Layer 2.
//!
//! Nothing that a peer sent reaches a decoder of `kafka-protocol` before a guard has checked every
//! length in it. The calls that carry records or run on every connection are decoded here, without
//! copying.

mod answer;
mod api_key;
pub mod api_versions;
pub mod fetch;
pub mod frame;
pub mod guard;
pub mod header;
pub mod limits;
pub mod log_dirs;
pub mod messages;
pub mod metadata;
pub mod offsets_by_id;
pub mod produce;
mod reader;
pub mod request;
pub mod share;
pub mod share_group_offsets;
pub mod streams_group;
pub mod subscription;
pub mod versions;
mod writer;

pub use answer::{LeaderHint, NodeEndpoint, TopicRef};

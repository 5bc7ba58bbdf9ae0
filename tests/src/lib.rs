//! Harness of the integration tests: real Kafka clusters, Java programs, and what tests share.

pub mod clicks;
pub mod crashes;
pub mod foreign;
pub mod issuer;
pub mod java;
pub mod jobs;
pub mod kills;
pub mod patience;
pub mod process;
pub mod programs;
pub mod proxy;
mod python;
pub mod real_kafka;
pub mod registry;

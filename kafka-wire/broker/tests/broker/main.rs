//! The broker as its clients see it: requests in, answers out, on a virtual clock or over TCP.

#![allow(clippy::unwrap_used, reason = "a failed step says by its panic what is wrong")]

mod administration;
mod authentication;
mod authorization;
mod classic_groups;
mod compaction;
mod consumer_groups;
mod contents;
mod faults;
mod harness;
mod migration;
mod offsets;
mod quotas;
mod records;
mod restart;
mod share_groups;
mod tcp;
mod telemetry;
mod transactions;

//! The binary as its users see it: arguments and lines in; output, messages and exit codes out.

#![allow(clippy::unwrap_used, reason = "a failed step says by its panic what is wrong")]

mod admin;
mod bad_input;
mod broker;
mod examples;
mod harness;
mod jobs;
mod records;
mod topics;
mod verifiable;

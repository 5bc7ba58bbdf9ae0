//! The commit of an epoch. Layer 5.

pub mod manifest;

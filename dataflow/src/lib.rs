//! Exactly-once stream processing on timely dataflow.

pub mod checkpoint;
pub mod commit;
mod error;
pub mod state;

pub use error::{Error, ErrorKind, Result};

//! Exactly-once stream processing on timely dataflow.

pub mod checkpoint;
pub mod commit;
mod error;
pub mod state;
pub mod time;

pub use error::{Error, ErrorKind, Result};

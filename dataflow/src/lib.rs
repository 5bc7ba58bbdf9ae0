//! Exactly-once stream processing on timely dataflow.

mod error;
pub mod state;

pub use error::{Error, ErrorKind, Result};

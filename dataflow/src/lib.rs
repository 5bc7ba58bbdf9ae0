//! Exactly-once stream processing on timely dataflow.

pub mod checkpoint;
pub mod commit;
mod decimal;
mod error;
pub mod format;
pub mod state;
pub mod time;
pub mod window;

pub use decimal::{Decimal, ParseDecimalError};
pub use error::{Error, ErrorKind, Result};

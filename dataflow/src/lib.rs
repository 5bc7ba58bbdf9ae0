//! Exactly-once stream processing on timely dataflow.

pub mod checkpoint;
pub mod commit;
pub mod config;
mod decimal;
mod error;
pub mod format;
pub mod metrics;
pub mod state;
pub mod time;
pub mod window;

pub use config::{Config, ConfigBuilder};
pub use decimal::{Decimal, ParseDecimalError};
pub use error::{Error, ErrorKind, Result};

//! Exactly-once stream processing on timely dataflow.

pub mod checkpoint;
pub mod commit;
pub mod config;
mod decimal;
mod engine;
mod error;
pub mod format;
pub mod job;
pub mod memory;
pub mod metrics;
pub mod sink;
pub mod source;
pub mod state;
pub mod stream;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod window;

pub use commit::Committed;
pub use config::{Config, ConfigBuilder};
pub use decimal::{Decimal, ParseDecimalError};
pub use engine::control::BoxFuture;
pub use engine::parcel::Data;
pub use error::{Error, ErrorKind, Result};
pub use job::{Job, JobHandle, Outcome, Settings, Status};
pub use sink::{KafkaSink, MemorySink, PrintSink, Sink};
pub use source::{KafkaSource, MemorySource, Source, StartAt};
pub use state::{Aggregate, Avg, Count, Max, Min, Reduce, Sum};
pub use stream::{KeyedStream, Stream, WindowedStream};
pub use time::WatermarkStrategy;
pub use window::{Tumbling, WindowResult};

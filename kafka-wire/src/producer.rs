//! The producer: records become batches on the caller's thread, batches reach the log once and in order.
//! Layer 7.
//!
//! ```text
//! send → partitioner → accumulator (open batch, sealed by size or linger) → sender (order, sequences,
//! retries) → one request per broker, up to five unanswered → completion of the batch → receipts
//! ```

mod accumulator;
mod batch;
mod debts;
mod interceptor;
mod measures;
mod partitioner;
mod pool;
mod receipt;
mod record;
mod role;
mod sender;
mod sticky;
mod verdict;
mod waiters;

pub use accumulator::TopicShape;
#[cfg(feature = "net")]
pub(crate) use accumulator::{Accumulator, AccumulatorConfig, Moment, ReadyBatch, SealJob};
pub use batch::{Batch, Done, Fate};
#[cfg(feature = "net")]
pub(crate) use interceptor::Interceptors;
pub use interceptor::ProducerInterceptor;
#[cfg(feature = "net")]
pub(crate) use partitioner::RoundRobin;
pub use partitioner::{Partitioner, TopicPartitions, partition_for_key};
#[cfg(feature = "net")]
pub(crate) use receipt::Completion;
pub use receipt::{BatchMetadata, BatchReceipt, Receipt, RecordMetadata};
pub use record::{OwnedRecord, Record};
pub use role::{Command, ProducerRole, Purge, TopicListener};
#[cfg(feature = "net")]
pub(crate) use waiters::WaitReason;

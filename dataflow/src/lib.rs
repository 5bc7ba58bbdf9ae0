//! Exactly-once stream processing on timely dataflow, fed by a native Kafka client.
//!
//! A [`Job`] is a graph: sources, what is done to their streams, sinks. It runs on as many worker threads as you like,
//! and goes on where it was after any crash. Words, counted per ten seconds of event time:
//!
//! ```
//! use std::time::Duration;
//! use dataflow::commit::MemoryStore;
//! use dataflow::memory::MemoryLog;
//! use dataflow::{Count, Job, MemorySink, MemorySource, Settings, Tumbling};
//!
//! let log = MemoryLog::new();
//! log.create_topic("lines", 2);
//! log.create_topic("counts", 1);
//! log.append("lines", 0, 1_000, &"to be or not to be".to_string())?;
//! log.append("lines", 1, 2_000, &"be quick".to_string())?;
//!
//! let mut job = Job::new("word-count");
//! job.source(MemorySource::<String>::new(&log, "lines"))
//!     .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!     .key_by(|word| word.clone())
//!     .window(Tumbling::of(Duration::from_secs(10)))
//!     .uid("words")
//!     .aggregate(Count)
//!     .map(|window| (window.key, window.value))
//!     .sink(MemorySink::new(&log, "counts"));
//! job.commit_to(MemoryStore::new(&log));
//! job.run(Settings { workers: 2, bounded: true, ..Settings::default() })?;
//!
//! let mut counts: Vec<(i64, (String, u64))> = log.read("counts")?.concat();
//! counts.sort();
//! assert_eq!(counts[0], (9_999, ("be".to_string(), 3)));
//! # Ok::<(), dataflow::Error>(())
//! ```
//!
//! On Kafka the source is a [`KafkaSource`], the sink a [`KafkaSink`], `commit_to` is not needed, and
//! `Settings::from(&config)` takes a [`Config`] with Kafka's properties and the job's own ([`config`] lists them).
//!
//! # What is promised
//!
//! - **Each record counts once.** An epoch (200 ms by default) covers what was read, how the state changed for it, and
//!   what was written; one Kafka transaction commits all three. A crash at any moment loses the epochs that were not
//!   committed, and the job reads their input again. Readers with `read_committed` never see the attempt.
//! - **Windows close by event time**, when every partition's watermark has passed their end, so results do not depend
//!   on how fast records came. A record behind the watermark is late: counted, and handed to whoever asks for it
//!   ([`WindowedStream::aggregate_with_late`]), never mixed in silently.
//! - **Order** holds within a partition and, behind [`Stream::key_by`], within a key of one partition.
//! - **What runs outside is not part of it**: a function that calls another system may do so again after a crash, and
//!   [`PrintSink`] may print twice.
//! - A job's state is kept by the names of its operators (`uid`): keep those when the code around them changes. State
//!   of another job, graph or cluster is refused, never guessed at.
//!
//! # Errors
//!
//! An [`Error`] says what was attempted, with the numbers, the cause, and what to do. What may pass (a broker that
//! restarts, a full disk) restarts the job from its last commit, with growing pauses, `max.restarts` times in a row;
//! anything else ends it: [`Job::run`] and [`JobHandle::wait`] return it. A record that cannot be read is named with
//! topic, partition and offset, and stops the job, unless the source is told to skip or to keep such records
//! ([`format::PoisonPolicy`], [`KafkaSource::or_poison`]). A panic in your function is an error of the job and names
//! the operator.
//!
//! # Threads
//!
//! Workers are plain threads: functions given to a stream run on them and hold up their worker while they run. I/O has
//! one thread for the whole job. Nothing needs an async runtime around it. What sources have read and nobody has taken
//! yet is bounded by `Settings::buffer_bytes`: a slow sink slows the sources down.
//!
//! # Cancel safety
//!
//! [`JobHandle::stop`] closes and commits the running epoch, then the job ends. Killing the process is safe, too: it is
//! what the tests do. Dropping the futures of [`checkpoint::StateStore`] may leave an object that no manifest names;
//! such are collected later.
//!
//! # Features
//!
//! `testing`: the embedded broker, for tests of your own jobs in one process. Off by default; the memory log above
//! needs no feature.

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

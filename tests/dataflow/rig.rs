//! A job on an embedded broker, watched commit by commit.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dataflow::testing::TestClient;
use dataflow::testing::embedded::{EmbeddedBroker, Options, TransactionVersion};
use dataflow::{Committed, Config, Job, JobHandle, KafkaSink, KafkaSource, Settings};

/// A broker with the topics `in` (2 partitions) and `out`, and a client of it.
pub struct Rig {
    pub broker: EmbeddedBroker,
    pub client: TestClient,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(TransactionVersion::V2)
    }

    pub fn with(transaction_version: TransactionVersion) -> Self {
        let options = Options { auto_create_topics: false, transaction_version, ..Options::default() };
        let options = options.with_topic("in", 2).with_topic("out", 2);
        let broker = EmbeddedBroker::start(options).unwrap();
        let client = TestClient::new(&broker.bootstrap()).unwrap();
        Self { broker, client }
    }

    pub fn config(&self) -> Config {
        self.client.config().unwrap()
    }

    /// Settings of an unbounded run with id `job`.
    pub fn settings(&self) -> Settings {
        let mut config = self.config();
        config.job_id = Some("job".to_owned());
        Settings {
            epoch_interval: Duration::from_millis(20),
            restart_backoff: Duration::from_millis(10),
            ..Settings::from(&config)
        }
    }

    pub fn bounded(&self) -> Settings {
        Settings { bounded: true, ..self.settings() }
    }

    /// Writes values, each under itself as key.
    pub fn write(&self, values: impl IntoIterator<Item = u32>) {
        let values = values.into_iter().map(|value| (value.to_string(), value.to_string()));
        self.client.write("in", values).unwrap();
    }

    /// What is committed to `out`, sorted.
    pub fn committed(&self) -> Vec<u32> {
        let values = self.client.read_committed("out").unwrap();
        let number = |value: Vec<u8>| String::from_utf8(value).unwrap().parse().unwrap();
        let mut numbers: Vec<u32> = values.into_iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Copies numbers from `in` to `out`.
pub fn copy() -> Job {
    let mut job = Job::new("copy");
    job.source(KafkaSource::string("in")).sink(KafkaSink::string("out").key(|value| value.clone()));
    job
}

/// A job that runs, and what it has committed.
pub struct Running {
    pub handle: JobHandle,
    commits: Receiver<Committed>,
}

impl Running {
    pub fn start(mut job: Job, settings: Settings) -> Self {
        let (sender, commits) = channel();
        job.on_commit(move |committed| {
            // A test that waits for nothing more has dropped the other end.
            let _ = sender.send(*committed);
        });
        Self { handle: job.start(settings).unwrap(), commits }
    }

    /// Waits until so many more records have been written and committed.
    pub fn until_written(&self, records: u64) {
        let mut written = 0;
        while written < records {
            written += self.commits.recv().expect("the job ended early").records_out;
        }
        assert_eq!(written, records);
    }

    /// Ends it, with what was under way committed.
    pub fn stop(self) {
        self.handle.stop();
        self.handle.wait().unwrap();
    }
}

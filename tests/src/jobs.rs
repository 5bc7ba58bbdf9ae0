//! The job `clicks` in a process of its own, which a test may kill.
//!
//! The process is the test binary itself, run again for one test, [`run_child`], which is nothing otherwise.

use std::path::Path;
use std::time::Duration;

use dataflow::config::ConfigBuilder;
use dataflow::{Count, Decimal, Job, KafkaSink, KafkaSource, Settings, Sum, Tumbling};
use serde::{Deserialize, Serialize};

use crate::clicks::DISORDER_MS;
use crate::process::Server;

#[derive(Clone, Serialize, Deserialize)]
struct Click {
    user: String,
    amount: Decimal,
    ts: i64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Total {
    user: String,
    start: i64,
    end: i64,
    count: u64,
    sum: Decimal,
}

/// Per user and ten seconds: how many clicks, for how much.
pub fn clicks(input: &str, output: &str) -> Job {
    let mut job = Job::new("clicks");
    job.source(
        KafkaSource::json::<Click>(input)
            .event_time(|click| click.ts)
            .bounded_disorder(Duration::from_millis(DISORDER_MS as u64 + 1)),
    )
    .key_by(|click| click.user.clone())
    .window(Tumbling::of(Duration::from_secs(10)))
    .uid("clicks-per-user")
    .aggregate(Count.and(Sum::of(|click: &Click| click.amount)))
    .map(|window| {
        let (count, sum) = window.value;
        Total { user: window.key, start: window.start_ms, end: window.end_ms, count, sum }
    })
    .sink(KafkaSink::json(output).key(|total: &Total| total.user.clone()));
    job
}

/// How a child runs its job.
#[derive(Clone, Debug)]
pub struct Child<'a> {
    /// `host:port` of the brokers.
    pub bootstrap: &'a str,
    /// The topic with the clicks.
    pub input: &'a str,
    /// The topic for the totals; its name is the job's id, too.
    pub output: &'a str,
    /// The folder for state and log.
    pub folder: &'a Path,
    /// How many workers.
    pub workers: usize,
    /// Whether the run is bounded.
    pub bounded: bool,
    /// Records to an epoch.
    pub epoch_records: u64,
    /// Where it dies: see `dataflow`'s crash points.
    pub crash_at: Option<&'a str>,
}

impl Child<'_> {
    /// Starts it. `test` is the path of the test in this binary that calls [`run_child`].
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, test: &str) -> Server {
        self.start_under(&[], test)
    }

    /// As [`Self::start`], with more variables and a program that runs it, such as strace, before it.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_under(&self, prefix: &[&str], test: &str) -> Server {
        let set = |name: &str, value: &str| format!("{name}={value}");
        let binary = std::env::current_exe().expect("this binary");
        let mut arguments = vec![
            set("CHILD_BOOTSTRAP", self.bootstrap),
            set("CHILD_INPUT", self.input),
            set("CHILD_OUTPUT", self.output),
            set("CHILD_STATE", &self.folder.join("state").to_string_lossy()),
            set("CHILD_WORKERS", &self.workers.to_string()),
            set("CHILD_BOUNDED", &self.bounded.to_string()),
            set("CHILD_EPOCH_RECORDS", &self.epoch_records.to_string()),
        ];
        arguments.extend(self.crash_at.map(|place| set("DATAFLOW_CRASH_AT", place)));
        arguments.extend(prefix.iter().map(|part| (*part).to_owned()));
        arguments.push(binary.to_string_lossy().into_owned());
        arguments.extend(["--exact", test, "--nocapture"].map(str::to_owned));
        Server::start(self.folder, self.output, "env", &arguments).expect("the child")
    }

    /// Runs it to its end: its exit code, 137 when it was killed.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn run(&self, test: &str) -> Option<i32> {
        self.start(test).wait().expect("the child's end").code()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join(format!("{}.log", self.output))).unwrap_or_default()
    }
}

/// What a child does: the body of a test that is nothing unless it is one.
///
/// # Panics
/// When the job fails.
pub fn run_child() {
    let variable = |name: &str| std::env::var(format!("CHILD_{name}"));
    let Ok(bootstrap) = variable("BOOTSTRAP") else { return };
    let get = |name: &str| variable(name).expect("a child has all variables");
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let config = ConfigBuilder::new()
        .set("bootstrap.servers", &bootstrap)
        .and_then(|builder| builder.set("state.url", &get("STATE")))
        .and_then(|builder| builder.set("group.id", &get("OUTPUT")))
        .and_then(|builder| builder.set("parallelism", &get("WORKERS")))
        .and_then(|builder| builder.set("epoch.max.records", &get("EPOCH_RECORDS")))
        .and_then(ConfigBuilder::build)
        .expect("a configuration");
    let mut settings = Settings { bounded: get("BOUNDED") == "true", ..Settings::from(&config) };
    if let Ok(restarts) = variable("MAX_RESTARTS") {
        settings.max_restarts = restarts.parse().expect("a number of restarts");
    }
    let outcome = clicks(&get("INPUT"), &get("OUTPUT")).run(settings);
    tracing::info!(?outcome, "the job has ended");
    outcome.expect("a job that ends well");
}

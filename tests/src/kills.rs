//! `tidewater run clicks` under SIGKILL: killed again and again, at crash points and at random moments, while its
//! input keeps coming; then each window must be there once, and right.

#![allow(clippy::disallowed_methods, reason = "the world around a job has a clock")]

mod phase;
mod traffic;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dataflow::testing::TestClient;
use futures_executor::block_on;
use kafka_wire::config::{ClientConfig, ConsumerConfig};
use kafka_wire::{Consumer, Isolation, OffsetSpec, TopicPartition};

pub use self::phase::Phase;
use self::phase::{draw, places};
use self::traffic::{Reader, Writer};
use crate::clicks::{judge, oracle};
use crate::process::Server;
use crate::programs;

const INPUT_PARTITIONS: i32 = 3;
const OUTPUT_PARTITIONS: i32 = 2;
/// Kills per phase that a report must have.
const KILLS_PER_PHASE: u32 = 5;
/// A random kill comes this long after the start at the latest.
const LIFE: Duration = Duration::from_millis(2_500);
/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often is looked whether it has come.
const GLANCE: Duration = Duration::from_millis(10);

/// What is killed, where, and how often.
pub struct Campaign<'a> {
    /// Names topics, job and the folder of the logs.
    pub name: &'a str,
    /// `host:port` of the brokers.
    pub bootstrap: &'a str,
    /// What all choices are drawn from.
    pub seed: u64,
    /// How often the job is killed.
    pub kills: u32,
    /// In every this many runs of the job a broker is killed, too; never if 0.
    pub broker_kill_every: u32,
    /// Kills a broker and brings one back; a number is drawn for it.
    pub kill_broker: &'a mut dyn FnMut(u64),
}

/// What happened.
#[derive(Debug, Default)]
pub struct Report {
    name: String,
    seed: u64,
    phases: BTreeMap<Phase, u32>,
    broker_kills: u32,
    epochs: usize,
    records: usize,
    windows: usize,
    longest_recovery: Duration,
}

/// One life of the job.
struct Run {
    server: Server,
    log: PathBuf,
    /// When its start manifest was seen to be committed.
    started: Option<Instant>,
}

/// How a run is to end.
enum Death {
    /// By itself, at a crash point.
    At(String),
    /// From outside.
    After(Duration),
}

/// How often the long form kills, `default` times otherwise: `TIDEWATER_KILLS`.
///
/// # Panics
/// When it is no number.
pub fn kills_or(default: u32) -> u32 {
    std::env::var("TIDEWATER_KILLS")
        .map_or(default, |kills| kills.parse().expect("TIDEWATER_KILLS is a number"))
}

/// The seed of a campaign, `TIDEWATER_SEED` or another each time.
///
/// # Panics
/// When it is no number.
pub fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    std::env::var("TIDEWATER_SEED").map_or(since.as_millis() as u64, |seed| seed.parse().expect("a number"))
}

impl Campaign<'_> {
    /// Kills, lets the last run finish its work, judges, and prints the report.
    ///
    /// # Panics
    /// When a window is lost, doubled or wrong; when the job ends otherwise than it is made to; when a
    /// transaction is left open; when a phase has had too few kills. It names seed and logs.
    pub fn run(mut self) -> Report {
        let folder = folder(self.name);
        println!("{}: seed {}, logs in {}", self.name, self.seed, folder.display());
        let client = TestClient::new(self.bootstrap).expect("a client");
        client.create(&self.input(), INPUT_PARTITIONS).expect("the input topic");
        client.create(&self.output(), OUTPUT_PARTITIONS).expect("the output topic");
        let writer = Writer::start(self.bootstrap, &self.input(), INPUT_PARTITIONS, self.seed);
        let reader = Reader::start(self.bootstrap, &self.output(), OUTPUT_PARTITIONS);

        let mut report = Report { name: self.name.to_owned(), seed: self.seed, ..Report::default() };
        let (mut random, mut killed, mut started) = (self.seed, Vec::new(), Vec::new());
        for number in 0..self.kills {
            let run = self.one_life(&folder, number, &mut random, &mut report);
            killed.push(Instant::now());
            started.push(run.started);
            let log = run.log();
            *report.phases.entry(Phase::of(&log)).or_default() += 1;
            report.epochs += places(&log).filter(|place| *place == "committed").count();
        }
        let last = self.start(&folder, self.kills, &mut random, None);
        let clicks = writer.finish();
        let oracle = oracle(&clicks);
        let (last_start, last_log) = self.finish(last, &reader, oracle.len());
        started.push(last_start);
        report.epochs += places(&last_log).filter(|place| *place == "committed").count();
        (report.records, report.windows) = (clicks.len(), oracle.len());

        self.check_no_transaction_is_open();
        report.longest_recovery = longest_recovery(&killed, &started, &reader.finish());
        let outputs = client.read_committed(&self.output()).expect("read the results");
        println!("{report}");
        if let Err(faults) = judge(&oracle, outputs.iter().map(Vec::as_slice)) {
            panic!("{}, seed {}, logs in {}: {faults}", self.name, self.seed, folder.display());
        }
        report
    }

    fn input(&self) -> String {
        format!("{}-in", self.name)
    }

    fn output(&self) -> String {
        format!("{}-out", self.name)
    }

    /// Starts the job, perhaps kills a broker, and has the job killed. The first kills are at crash points.
    fn one_life(&mut self, folder: &Path, number: u32, random: &mut u64, report: &mut Report) -> Run {
        let death = if number < KILLS_PER_PHASE * Phase::ALL.len() as u32 {
            Death::At(Phase::ALL[number as usize % Phase::ALL.len()].draw_place(random))
        } else {
            Death::After(Duration::from_millis(draw(random, LIFE.as_millis() as u64)))
        };
        let place = if let Death::At(place) = &death { Some(place.as_str()) } else { None };
        let mut run = self.start(folder, number, random, place);
        if self.broker_kill_every > 0 && number % self.broker_kill_every == self.broker_kill_every - 1 {
            std::thread::sleep(Duration::from_millis(draw(random, LIFE.as_millis() as u64)));
            (self.kill_broker)(draw(random, u64::from(u32::MAX)));
            report.broker_kills += 1;
        }
        match death {
            Death::At(place) => {
                run.wait_for(&format!("crash point {place}"), |run| !run.server.is_running());
                let code = run.server.wait().expect("the run's end").code();
                assert_eq!(code, Some(137), "{number}: {place}: {}", run.tail());
            }
            Death::After(life) => {
                let end = Instant::now() + life;
                while Instant::now() < end {
                    run.look();
                    std::thread::sleep(GLANCE.min(end.saturating_duration_since(Instant::now())));
                }
                assert!(run.server.is_running(), "{number}: the job ended by itself: {}", run.tail());
                run.server.kill();
            }
        }
        run
    }

    fn start(&self, folder: &Path, number: u32, random: &mut u64, crash_at: Option<&str>) -> Run {
        let name = format!("run-{number}");
        let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
        let mut arguments =
            vec!["NO_COLOR=1".to_owned(), format!("RUST_LOG={level},dataflow::engine::crash=debug")];
        arguments.extend(crash_at.map(|place| format!("DATAFLOW_CRASH_AT={place}")));
        arguments.push(programs::tidewater().to_string_lossy().into_owned());
        let workers = (1 + draw(random, 3)).to_string();
        let (input, output, state) = (self.input(), self.output(), folder.join("state"));
        let control = folder.to_string_lossy();
        let flags = [
            ("--bootstrap", self.bootstrap),
            ("--input", &input),
            ("--output", &output),
            ("--state", &state.to_string_lossy()),
            ("--group", self.name),
            ("--parallelism", &workers),
            ("--set", "epoch.interval.ms=100"),
            ("--control", &control),
        ];
        arguments.extend(["run", "clicks"].map(str::to_owned));
        arguments.extend(flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]));
        let server = Server::start(folder, &name, "env", &arguments).expect("start the job");
        Run { server, log: folder.join(format!("{name}.log")), started: None }
    }

    /// Waits for all results, and ends the job as its user would. Returns when it had started, and its log.
    fn finish(&self, mut run: Run, reader: &Reader, windows: usize) -> (Option<Instant>, String) {
        let deadline = Instant::now() + PATIENCE;
        while reader.count() < windows && Instant::now() < deadline {
            run.look();
            assert!(run.server.is_running(), "the last run ended by itself: {}", run.tail());
            std::thread::sleep(GLANCE);
        }
        run.server.terminate().expect("send SIGTERM");
        run.wait_for("the end that SIGTERM asks for", |run| !run.server.is_running());
        let code = run.server.wait().expect("the last run's end").code();
        assert_eq!(code, Some(0), "after SIGTERM: {}", run.tail());
        (run.started, run.log())
    }

    /// A commit is answered before its markers are written: they may come a little later.
    fn check_no_transaction_is_open(&self) {
        let client = ClientConfig::bootstrap(self.bootstrap).expect("addresses");
        let config = ConsumerConfig { client, ..ConsumerConfig::default() };
        let consumer = Consumer::new(config).expect("a consumer");
        let ends = |isolation| -> Vec<Option<i64>> {
            let all = (0..OUTPUT_PARTITIONS).map(|number| TopicPartition::new(self.output(), number));
            let asked = all.map(|partition| (partition, OffsetSpec::Latest));
            let listed = block_on(consumer.list_offsets(asked, isolation)).expect("list offsets");
            listed.into_iter().map(|(_, listed)| listed.offset).collect()
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (stable, high) = (ends(Isolation::ReadCommitted), ends(Isolation::ReadUncommitted));
            if stable == high {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "a transaction is open: stable to {stable:?}, written to {high:?}"
            );
            std::thread::sleep(GLANCE);
        }
    }
}

impl Run {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn look(&mut self) {
        if self.started.is_none() && places(&self.log()).any(|place| place == "started") {
            self.started = Some(Instant::now());
        }
    }

    fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            self.look();
            assert!(Instant::now() < deadline, "waited in vain for {what}: {}", self.tail());
            std::thread::sleep(GLANCE);
        }
    }
}

/// From a kill to the first result of the run that came next, of those runs that got so far.
fn longest_recovery(killed: &[Instant], started: &[Option<Instant>], results: &[Instant]) -> Duration {
    let mut longest = Duration::ZERO;
    for (index, killed_at) in killed.iter().enumerate() {
        let end = killed.get(index + 1);
        let first = started[index + 1].and_then(|started| results.iter().find(|result| **result > started));
        if let Some(first) = first.filter(|first| end.is_none_or(|end| *first < end)) {
            longest = longest.max(first.duration_since(*killed_at));
        }
    }
    longest
}

/// An empty folder for logs and state that outlives the test.
fn folder(name: &str) -> PathBuf {
    let binary = std::env::current_exe().expect("path of the test binary");
    let build = binary.ancestors().nth(3).expect("a test binary lies three levels below the build folder");
    let folder = build.join("kills").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder for the logs");
    folder
}

impl Report {
    /// Asserts that each phase has had its kills.
    ///
    /// # Panics
    /// When one has had too few.
    pub fn check_phases(&self) {
        for phase in Phase::ALL {
            let kills = self.phases.get(&phase).copied().unwrap_or_default();
            assert!(kills >= KILLS_PER_PHASE, "{phase}: only {kills} kills\n{self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}, seed {}: clicks under SIGKILL", self.name, self.seed)?;
        for phase in Phase::ALL {
            writeln!(out, "  {phase:<14} {:>5} kills", self.phases.get(&phase).copied().unwrap_or_default())?;
        }
        writeln!(out, "  {:<14} {:>5} kills", "brokers", self.broker_kills)?;
        writeln!(out, "  {:>7} epochs committed", self.epochs)?;
        writeln!(out, "  {:>7} records in {} windows", self.records, self.windows)?;
        write!(out, "  {:>7} ms at most from a kill to the next result", self.longest_recovery.as_millis())
    }
}

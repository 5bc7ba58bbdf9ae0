//! Jobs under a seed: workers step one at a time in a drawn order, clocks are virtual, and the process dies at
//! drawn moments to come back with another number of workers.
//!
//! Timely builds each worker's channels on the worker's own thread, so the workers stay threads and pass a
//! baton: only the one that holds it steps. Everything in between — background tasks, epoch ticks, new
//! input, a stop, a crash — is an action of the scheduler. A task is polled like any other step, so a crash
//! falls before it, in its midst (applied, and nobody told), or after it. Tasks of a dead process may live on
//! as a zombie's and run later.
//!
//! A failure prints its seed; `SIMULATION_SEED=n cargo test simulation` runs that one alone, and
//! `SIMULATION_SEEDS=n` as many as are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::checkpoint::{StateStore, needed_by};
use crate::commit::{CommitStart, CommitStore, Commits, Manifest, MemoryStore, Session};
use crate::engine::control::{BoxFuture, Control, Step, World};
use crate::error::{Error, ErrorKind, Result};
use crate::job::run::{Spec, Start, execute};
use crate::job::{Job, Settings};
use crate::memory::MemoryLog;
use crate::state::{And, Count, KeyGroupRange, KeyedLogic, Sum};
use crate::time::END;
use crate::window::{Tumbling, WindowLogic, WindowResult};
use crate::{MemorySink, MemorySource, WatermarkStrategy};

#[test]
fn simulation_committed_output_equals_a_batch_oracle_under_crashes_and_rescales() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("SIMULATION_SEEDS").unwrap_or(40),
    };
    let mut totals = Tally::default();
    for seed in seeds {
        println!("seed {seed}");
        totals.add(&Simulation::new(seed).run());
    }
    println!("{totals:?}");
}

/// What happened, so that a run that exercised nothing is seen.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    commits: u64,
    crashes: u64,
    crashes_at_start: u64,
    stops: u64,
    zombie_tasks: u64,
    windows: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.crashes_at_start += other.crashes_at_start;
        self.stops += other.stops;
        self.zombie_tasks += other.zombie_tasks;
        self.windows += other.windows;
    }
}

/// splitmix64: small, and the same everywhere.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

// ---- the world: a baton for the workers, a list for the tasks ----

#[derive(Default)]
struct Baton {
    state: Mutex<BatonState>,
    changed: Condvar,
}

#[derive(Default)]
struct BatonState {
    turn: Option<usize>,
    waiting: BTreeSet<usize>,
    done: BTreeSet<usize>,
    dead: bool,
    now_ms: i64,
    tasks: Vec<BoxFuture<'static, ()>>,
}

impl Baton {
    fn lock(&self) -> MutexGuard<'_, BatonState> {
        self.state.lock().unwrap()
    }

    /// Waits until no worker of `workers` is stepping; returns those that are left.
    fn quiet(&self, workers: usize) -> Vec<usize> {
        let state = self.lock();
        let is_busy =
            |state: &mut BatonState| state.turn.is_some() || state.waiting.len() + state.done.len() < workers;
        let waited = self.changed.wait_timeout_while(state, Duration::from_secs(60), is_busy).unwrap();
        assert!(!waited.1.timed_out(), "a worker hangs in a step");
        waited.0.waiting.iter().copied().collect()
    }

    fn step(&self, worker: usize) {
        let mut state = self.lock();
        state.waiting.remove(&worker);
        state.turn = Some(worker);
        self.changed.notify_all();
    }

    fn kill(&self) {
        self.lock().dead = true;
        self.changed.notify_all();
    }
}

impl World for Baton {
    fn now_ms(&self) -> i64 {
        self.lock().now_ms
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.lock().tasks.push(task);
    }

    fn turn(&self, worker: usize) -> Option<Step> {
        let mut state = self.lock();
        if state.turn == Some(worker) {
            state.turn = None;
        }
        state.waiting.insert(worker);
        self.changed.notify_all();
        let state =
            self.changed.wait_while(state, |state| state.turn != Some(worker) && !state.dead).unwrap();
        (!state.dead).then_some(Some(Duration::ZERO))
    }

    fn done(&self, worker: usize) {
        let mut state = self.lock();
        if state.turn == Some(worker) {
            state.turn = None;
        }
        state.waiting.remove(&worker);
        state.done.insert(worker);
        self.changed.notify_all();
    }
}

fn poll_once<T>(task: &mut BoxFuture<'_, T>) -> Option<T> {
    match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Pends once: a place at which the scheduler may do something else, a crash for one.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(
        |_| if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}

/// How the store of a test's job is started.
fn begin() -> CommitStart {
    CommitStart { config: Arc::default(), job: "job".into(), instance: "run".into() }
}

/// A memory store whose calls take time: before they are applied, and until the answer is there.
struct SlowStore(MemoryStore);

impl CommitStore for SlowStore {
    fn start(&self, start: CommitStart) -> BoxFuture<'_, Result<Session>> {
        Box::pin(async move {
            yield_once().await;
            let session = self.0.start(start).await?;
            yield_once().await;
            Ok(Session { commits: Arc::new(SlowCommits(session.commits)), ..session })
        })
    }
}

struct SlowCommits(Arc<dyn Commits>);

impl Commits for SlowCommits {
    fn commit(&self, manifest: Manifest) -> BoxFuture<'static, Result<()>> {
        let commits = Arc::clone(&self.0);
        Box::pin(async move {
            yield_once().await;
            commits.commit(manifest).await?;
            yield_once().await;
            Ok(())
        })
    }
}

// ---- the job ----

/// (user, amount)
type Click = (u64, i64);
/// (user, window start, count, sum)
type Row = (u64, i64, u64, i64);

const WINDOW_MS: i64 = 100;
const DISORDER_MS: i64 = 30;
const TOPICS: [(&str, usize); 2] = [("left", 3), ("right", 2)];

fn amount(click: &Click) -> i64 {
    click.1
}

type CountAndSum = And<Count, Sum<fn(&Click) -> i64>>;

fn aggregate() -> CountAndSum {
    Count.and(Sum::of(amount as fn(&Click) -> i64))
}

fn windows() -> Tumbling {
    Tumbling::of(Duration::from_millis(WINDOW_MS as u64))
}

struct Simulation {
    seed: u64,
    draws: Draws,
    log: MemoryLog,
    store: StateStore,
    /// What has been appended, and what is still to come, by topic and partition.
    appended: Vec<(i64, Click)>,
    to_come: BTreeMap<(usize, usize), Vec<(i64, Click)>>,
    /// Tasks of processes that have died but still run.
    zombies: Vec<BoxFuture<'static, ()>>,
    checked_epoch: u64,
    /// The latest window end that any worker has fired, committed or not.
    fired: Arc<Mutex<i64>>,
    tally: Tally,
}

/// How a run of the process came to its end.
enum End {
    Crashed,
    Ended,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let log = MemoryLog::new();
        for (topic, partitions) in TOPICS {
            log.create_topic(topic, partitions);
        }
        for topic in ["out", "late", "totals"] {
            log.create_topic(topic, 4);
        }
        let mut simulation = Self {
            seed,
            draws: Draws(seed),
            log,
            store: StateStore::memory(),
            appended: Vec::new(),
            to_come: BTreeMap::new(),
            zombies: Vec::new(),
            checked_epoch: 0,
            fired: Arc::new(Mutex::new(i64::MIN)),
            tally: Tally::default(),
        };
        simulation.draw_input();
        simulation
    }

    /// Each partition ascends at a speed of its own, with less disorder than the sources allow for.
    fn draw_input(&mut self) {
        for (topic, (_, partitions)) in TOPICS.iter().enumerate() {
            for partition in 0..*partitions {
                let records = 20 + self.draws.below(120);
                let speed = 1 + self.draws.below(20);
                let mut newest = 0;
                let mut clicks = Vec::new();
                for _ in 0..records {
                    newest += self.draws.below(speed) as i64;
                    let time_ms = newest - self.draws.below(DISORDER_MS as u64 + 1) as i64;
                    clicks.push((time_ms, (self.draws.below(12), self.draws.below(1_000) as i64)));
                }
                clicks.reverse();
                self.to_come.insert((topic, partition), clicks);
            }
        }
    }

    /// Appends a few records to a drawn partition; false when all input is there.
    fn append(&mut self) -> bool {
        let open: Vec<(usize, usize)> =
            self.to_come.iter().filter(|(_, clicks)| !clicks.is_empty()).map(|(key, _)| *key).collect();
        if open.is_empty() {
            return false;
        }
        let key = open[self.draws.below(open.len() as u64) as usize];
        for _ in 0..=self.draws.below(8) {
            let Some((time_ms, click)) = self.to_come.get_mut(&key).unwrap().pop() else { break };
            self.log.append(TOPICS[key.0].0, key.1, time_ms, &click).unwrap();
            self.appended.push((time_ms, click));
        }
        true
    }

    fn spec(&mut self, bounded: bool) -> Spec {
        let strategy = WatermarkStrategy {
            disorder: Duration::from_millis(DISORDER_MS as u64),
            idle_after: Duration::from_secs(3_600),
            max_ahead: None,
        };
        let batch = 1 + self.draws.below(6) as usize;
        let source = |topic| {
            MemorySource::<Click>::new(&self.log, topic).watermark_strategy(strategy).batch_records(batch)
        };
        let mut job = Job::new("simulated");
        let left = job.source(source("left"));
        let right = job.source(source("right")).filter(|_| true);
        let (results, late) = left
            .union(right)
            .key_by(|click| click.0)
            .window(windows())
            .uid("windows")
            .aggregate_with_late(aggregate());
        let fired = Arc::clone(&self.fired);
        let results = results.inspect(move |window| {
            let mut latest = fired.lock().unwrap();
            *latest = (*latest).max(window.end_ms);
        });
        let rows = results.map(|window: WindowResult<u64, (u64, i128)>| -> Row {
            (window.key, window.start_ms, window.value.0, window.value.1 as i64)
        });
        rows.clone().sink(MemorySink::new(&self.log, "out"));
        late.sink(MemorySink::new(&self.log, "late"));
        // A second stateful operator behind the first: the sum over all windows of a user, so far.
        rows.key_by(|row| row.0 % 3)
            .uid("totals")
            .running(Sum::of(|row: &Row| row.3))
            .map(|(group, sum)| (group, sum as i64))
            .sink(MemorySink::new(&self.log, "totals"));
        job.commit_to(SlowStore(MemoryStore::new(&self.log)));
        job.keep_state_in(self.store.clone());
        let workers = 1 + self.draws.below(4) as usize;
        let epoch_records = if self.draws.one_in(2) { 20 } else { u64::MAX };
        let buffer_bytes = if self.draws.one_in(2) { 200 } else { 1 << 20 };
        job.into_spec(Settings { workers, bounded, epoch_records, buffer_bytes, ..Settings::default() })
            .unwrap()
    }

    /// Runs the job, again and again, until its bounded last run has finished; then checks everything.
    fn run(mut self) -> Tally {
        let mut lives = 0;
        loop {
            lives += 1;
            // The last lives are bounded, and the very last ones may not crash.
            let bounded = lives > 4;
            if bounded {
                while self.append() {}
            }
            let mortal = lives < 12;
            let spec = self.spec(bounded);
            match self.start(&spec, lives, mortal) {
                None => self.tally.crashes_at_start += 1,
                Some(Start::Finished(_)) => break,
                Some(Start::Run(plan)) => {
                    let workers = plan.workers;
                    let baton = Arc::new(Baton::default());
                    let control = spec.control(&plan, Arc::clone(&baton) as Arc<dyn World>);
                    let shared = Arc::clone(&control);
                    let process = std::thread::spawn(move || execute(*plan, &shared));
                    let end = self.live(&baton, &control, workers, bounded, mortal);
                    if let Err(error) = process.join().unwrap() {
                        panic!("seed {}: {error}", self.seed);
                    }
                    self.bury(&baton);
                    self.check_conservation();
                    if !bounded {
                        self.check_nothing_fired_early();
                    }
                    if matches!(end, End::Crashed) {
                        self.tally.crashes += 1;
                    }
                }
            }
            assert!(lives < 40, "seed {}: the job does not finish", self.seed);
        }
        self.check_output();
        self.tally
    }

    /// Polls the start; none if the process dies in it.
    fn start(&mut self, spec: &Spec, life: u32, mortal: bool) -> Option<Start> {
        let instance = format!("life-{life}");
        let mut start: BoxFuture<'_, Result<Start>> = Box::pin(spec.start(&instance, false));
        loop {
            if mortal && self.draws.one_in(25) {
                return None;
            }
            if self.draws.one_in(3) {
                self.poll_zombie();
            }
            if let Some(started) = poll_once(&mut start) {
                return Some(started.unwrap_or_else(|error| panic!("seed {}: start: {error}", self.seed)));
            }
        }
    }

    /// One process from its start to its end, action by action.
    fn live(&mut self, baton: &Baton, control: &Control, workers: usize, bounded: bool, mortal: bool) -> End {
        let crash_odds = 100 + self.draws.below(2_000);
        let mut actions = 0;
        loop {
            let left = baton.quiet(workers);
            if left.is_empty() {
                return End::Ended;
            }
            if control.has_failed() {
                panic!("seed {}: {}", self.seed, control.failure().unwrap());
            }
            actions += 1;
            assert!(actions < 200_000, "seed {}: the job is stuck", self.seed);
            self.tally.steps += 1;
            match self.draws.below(100) {
                0..70 => baton.step(left[self.draws.below(left.len() as u64) as usize]),
                70..88 => self.poll_task(baton),
                88..93 => {
                    control.epochs.tick();
                }
                93..97 => {
                    self.append();
                    baton.lock().now_ms += self.draws.below(50) as i64;
                }
                97 => self.poll_zombie(),
                98 if mortal && self.draws.one_in(crash_odds / 25) => {
                    baton.kill();
                    return End::Crashed;
                }
                99 if !bounded && self.draws.one_in(40) => {
                    self.tally.stops += 1;
                    control.epochs.stop();
                }
                _ => self.check_conservation(),
            }
        }
    }

    fn poll_task(&mut self, baton: &Baton) {
        let mut tasks = std::mem::take(&mut baton.lock().tasks);
        if !tasks.is_empty() {
            let mut task = tasks.swap_remove(self.draws.below(tasks.len() as u64) as usize);
            if poll_once(&mut task).is_none() {
                tasks.push(task);
            }
        }
        baton.lock().tasks.append(&mut tasks);
    }

    fn poll_zombie(&mut self) {
        if !self.zombies.is_empty() {
            self.tally.zombie_tasks += 1;
            let index = self.draws.below(self.zombies.len() as u64) as usize;
            if poll_once(&mut self.zombies[index]).is_some() {
                drop(self.zombies.swap_remove(index));
            }
        }
    }

    /// The process is dead; some of what it had under way is not.
    fn bury(&mut self, baton: &Baton) {
        baton.kill();
        for task in std::mem::take(&mut baton.lock().tasks) {
            if self.draws.one_in(2) {
                self.zombies.push(task);
            }
        }
    }

    fn manifest(&self) -> Option<Manifest> {
        let jobs = self.log.jobs();
        let bytes = self.log.manifest(jobs.first()?)?;
        Some(Manifest::decode(&bytes, "the log").unwrap())
    }

    /// In every committed epoch each record read so far is in exactly one place: a committed window, an open
    /// window of the state, or the late output.
    fn check_conservation(&mut self) {
        let Some(manifest) = self.manifest().filter(|manifest| manifest.epoch > self.checked_epoch) else {
            return;
        };
        self.checked_epoch = manifest.epoch;
        self.tally.commits += 1;
        let read: i64 = manifest
            .sources
            .iter()
            .flat_map(|source| &source.partitions)
            .map(|partition| partition.offset)
            .sum();
        let committed: u64 = self.rows().iter().map(|row| row.2).sum();
        let late = self.log.read::<Click>("late").unwrap().concat().len() as u64;
        let open = self.open_windows(&manifest).iter().map(|window| window.value.0).sum::<u64>();
        assert_eq!(
            committed + open + late,
            read as u64,
            "seed {}: epoch {}: {committed} committed, {open} open, {late} late of {read} read",
            self.seed,
            manifest.epoch
        );
    }

    /// While more may come, a window fires only when every partition has come so far (D4.1); that the process
    /// stops or dies fires nothing (D4.3).
    fn check_nothing_fired_early(&self) {
        let newest = |topic: &str, partition: usize| {
            let records = self.log.read::<Click>(topic).unwrap();
            records[partition].iter().map(|(time_ms, _)| *time_ms).max().unwrap_or(i64::MIN)
        };
        let partitions =
            TOPICS.iter().flat_map(|(topic, count)| (0..*count).map(move |number| (topic, number)));
        let slowest = partitions.map(|(topic, number)| newest(topic, number)).min().unwrap();
        let fired = *self.fired.lock().unwrap();
        assert!(
            fired <= slowest.saturating_sub(DISORDER_MS),
            "seed {}: a window that ends at {fired} fired, the slowest partition is at {slowest}",
            self.seed
        );
    }

    /// The windows that the state of a manifest holds, restored by one owner of everything.
    fn open_windows(&self, manifest: &Manifest) -> Vec<WindowResult<u64, (u64, i128)>> {
        let mut logic: WindowLogic<Click, u64, _> =
            WindowLogic::new(windows(), aggregate(), 1, KeyGroupRange::ALL).unwrap();
        for object in needed_by(&manifest.state, "windows", KeyGroupRange::ALL) {
            let mut read: BoxFuture<'_, _> = Box::pin(self.store.read(&object.object));
            let payload = poll_once(&mut read).expect("memory answers at once");
            logic.restore(&payload.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))).unwrap();
        }
        let mut open = Vec::new();
        logic.advance(END, &mut open);
        open
    }

    fn rows(&self) -> Vec<Row> {
        self.log.read::<Row>("out").unwrap().concat().into_iter().map(|(_, row)| row).collect()
    }

    fn check_output(&mut self) {
        let mut oracle: BTreeMap<(u64, i64), (u64, i64)> = BTreeMap::new();
        for (time_ms, (user, amount)) in &self.appended {
            let entry = oracle.entry((*user, time_ms.div_euclid(WINDOW_MS) * WINDOW_MS)).or_default();
            *entry = (entry.0 + 1, entry.1 + amount);
        }
        let mut found = BTreeMap::new();
        for (user, start_ms, count, sum) in self.rows() {
            let twice = found.insert((user, start_ms), (count, sum));
            assert_eq!(twice, None, "seed {}: window {start_ms} of user {user} came twice", self.seed);
        }
        let late = self.log.read::<Click>("late").unwrap().concat();
        assert!(late.is_empty(), "seed {}: no record is late by its partition, yet {late:?}", self.seed);
        assert!(found == oracle, "seed {}: {:?} instead of {oracle:?}", self.seed, found);
        self.tally.windows += found.len() as u64;
        self.check_totals(&oracle);
    }

    /// The second operator saw every window once, too: its last results are the sums over all.
    fn check_totals(&self, oracle: &BTreeMap<(u64, i64), (u64, i64)>) {
        let mut sums: BTreeMap<u64, i64> = BTreeMap::new();
        for ((user, _), (_, sum)) in oracle {
            *sums.entry(user % 3).or_default() += sum;
        }
        let totals: Vec<(u64, i64)> = self
            .log
            .read::<(u64, i64)>("totals")
            .unwrap()
            .concat()
            .into_iter()
            .map(|(_, total)| total)
            .collect();
        assert_eq!(totals.len(), oracle.len(), "seed {}: one total after each window", self.seed);
        for (group, sum) in sums {
            assert!(totals.contains(&(group, sum)), "seed {}: group {group} never came to {sum}", self.seed);
        }
    }
}

/// A zombie's commit is refused, whoever is right about the time.
#[test]
fn d5_a_fenced_commit_changes_nothing() {
    let log = MemoryLog::new();
    log.create_topic("out", 1);
    let store = MemoryStore::new(&log);
    let run = |mut task: BoxFuture<'_, Result<Session>>| poll_once(&mut task).unwrap().unwrap();
    let old = run(store.start(begin()));
    let new = run(store.start(begin()));
    let manifest = |epoch| Manifest {
        version: 1,
        job: "job".into(),
        graph: String::new(),
        instance: String::new(),
        cluster: None,
        epoch,
        sources: Vec::new(),
        outputs: BTreeMap::new(),
        state: Vec::new(),
        finished: false,
    };
    let commit = |session: &Session, epoch| poll_once(&mut session.commits.commit(manifest(epoch))).unwrap();
    assert_eq!(commit(&old, 7).map_err(|error: Error| error.kind()), Err(ErrorKind::Fenced));
    commit(&new, 8).unwrap();
    assert_eq!(run(store.start(begin())).manifest.unwrap().epoch, 8);
}

//! Whole jobs on the in-memory log: a test for each rule of the design that a job as a whole keeps.

mod simulation;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use super::*;
use crate::commit::{CommitStart, Commits, Manifest, MemoryStore, Session};
use crate::memory::MemoryLog;
use crate::sink::{OutputTopic, SinkContext, SinkStart, Writer};
use crate::source::{Assignment, Prepared, ReadBatch, Reader, SourceStart, SplitId};
use crate::{BoxFuture, Count, MemorySink, MemorySource, Outcome, Sink, Tumbling, WatermarkStrategy};

/// Window start and count.
type Row = (i64, u64);

fn log() -> MemoryLog {
    let log = MemoryLog::new();
    log.create_topic("in", 2);
    log.create_topic("out", 1);
    log.create_topic("late", 1);
    log
}

fn append(log: &MemoryLog, partition: usize, times_ms: impl IntoIterator<Item = i64>) {
    for time_ms in times_ms {
        log.append("in", partition, time_ms, &"x".to_owned()).unwrap();
    }
}

fn rows(log: &MemoryLog) -> Vec<Row> {
    let mut rows: Vec<Row> =
        log.read::<Row>("out").unwrap().concat().into_iter().map(|(_, row)| row).collect();
    rows.sort_unstable();
    rows
}

fn source(log: &MemoryLog) -> MemorySource<String> {
    MemorySource::new(log, "in")
        .watermark_strategy(WatermarkStrategy { max_ahead: None, ..Default::default() })
}

/// Counts per second of event time.
fn count(log: &MemoryLog, source: MemorySource<String>) -> Job {
    let mut job = Job::new("count");
    let (results, late) = job
        .source(source)
        .key_by(String::clone)
        .window(Tumbling::of(Duration::from_secs(1)))
        .aggregate_with_late(Count);
    results.map(|window| -> Row { (window.start_ms, window.value) }).sink(MemorySink::new(log, "out"));
    late.sink(MemorySink::new(log, "late"));
    job.commit_to(MemoryStore::new(log));
    job
}

fn quick() -> Settings {
    Settings {
        epoch_interval: Duration::from_millis(5),
        restart_backoff: Duration::from_millis(1),
        ..Settings::default()
    }
}

fn bounded() -> Settings {
    Settings { bounded: true, ..quick() }
}

/// Tells a test what a job has committed.
#[derive(Default)]
struct Watch {
    commits: Mutex<Vec<Committed>>,
    changed: Condvar,
}

impl Watch {
    fn on(job: &mut Job) -> Arc<Self> {
        let watch = Arc::new(Self::default());
        let observer = Arc::clone(&watch);
        job.on_commit(move |committed| {
            observer.commits.lock().unwrap().push(*committed);
            observer.changed.notify_all();
        });
        watch
    }

    /// Waits until what has been committed is enough.
    fn until(&self, enough: impl Fn(&[Committed]) -> bool) {
        let commits = self.commits.lock().unwrap();
        let waited =
            self.changed.wait_timeout_while(commits, Duration::from_secs(30), |commits| !enough(commits));
        assert!(!waited.unwrap().1.timed_out(), "the job does not get there");
    }

    fn until_read(&self, records: u64) {
        self.until(|commits| commits.iter().map(|commit| commit.records_in).sum::<u64>() >= records);
    }

    fn until_written(&self, records: u64) {
        self.until(|commits| commits.iter().map(|commit| commit.records_out).sum::<u64>() >= records);
    }
}

#[test]
fn a_bounded_window_job_gives_every_window_once_on_any_number_of_workers() {
    for workers in [1, 2, 3] {
        let log = MemoryLog::new();
        log.create_topic("in", 4);
        log.create_topic("out", 3);
        let mut expected: BTreeMap<(u64, i64), u64> = BTreeMap::new();
        for i in 0..20_000i64 {
            let (user, time_ms) = (i as u64 * 7 % 100, i * 3 - i % 5);
            log.append("in", (i % 4) as usize, time_ms, &user).unwrap();
            *expected.entry((user, time_ms.div_euclid(1_000) * 1_000)).or_default() += 1;
        }
        let mut job = Job::new("count");
        job.source(MemorySource::<u64>::new(&log, "in").bounded_disorder(Duration::from_millis(10)))
            .key_by(|user| *user)
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate(Count)
            .map(|window| (window.key, window.start_ms, window.value))
            .sink(MemorySink::new(&log, "out"));
        job.commit_to(MemoryStore::new(&log));
        let outcome = job.run(Settings { workers, bounded: true, ..Settings::default() }).unwrap();
        assert!(matches!(outcome, Outcome::Finished { .. }));
        let mut found = BTreeMap::new();
        for (_, (user, start_ms, count)) in log.read::<(u64, i64, u64)>("out").unwrap().concat() {
            assert_eq!(found.insert((user, start_ms), count), None);
        }
        assert_eq!(found, expected, "{workers} workers");
    }
}

#[test]
fn stateless_functions_unions_and_clones_keep_what_they_should() {
    let log = log();
    log.create_topic("other", 1);
    log.create_topic("copy", 1);
    append(&log, 0, [1, 2]);
    log.append("other", 0, 3, &"y z".to_owned()).unwrap();
    let mut job = Job::new("words");
    let left = job.source(source(&log));
    let right = job.source(MemorySource::<String>::new(&log, "other"));
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let words = left
        .union(right)
        .inspect(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter(|word| word != "y");
    words.clone().sink(MemorySink::new(&log, "copy"));
    words.map(|word| word.to_uppercase()).sink(MemorySink::new(&log, "out"));
    job.commit_to(MemoryStore::new(&log));
    job.run(Settings { workers: 2, ..bounded() }).unwrap();
    let read = |topic| {
        let mut read = log.read::<String>(topic).unwrap().concat();
        read.sort();
        read
    };
    let expect =
        |words: [&str; 3]| vec![(1, words[0].to_owned()), (2, words[1].to_owned()), (3, words[2].to_owned())];
    assert_eq!(read("copy"), expect(["x", "x", "z"]));
    assert_eq!(read("out"), expect(["X", "X", "Z"]));
    assert_eq!(seen.load(Ordering::SeqCst), 3, "what comes before a clone is done once");
}

#[test]
fn a_running_reduce_emits_after_each_value() {
    let log = log();
    for (time_ms, value) in [(1, 5u64), (2, 7), (3, 1)] {
        log.append("in", 0, time_ms, &value).unwrap();
    }
    let mut job = Job::new("sum");
    job.source(MemorySource::<u64>::new(&log, "in"))
        .key_by(|value| value % 2)
        .reduce(|a, b| a + b)
        .map(|(_, sum)| sum)
        .sink(MemorySink::new(&log, "out"));
    job.commit_to(MemoryStore::new(&log));
    job.run(bounded()).unwrap();
    assert_eq!(log.read::<u64>("out").unwrap().concat(), [(1, 5), (2, 12), (3, 13)]);
}

#[test]
fn d4_1_a_pending_window_never_holds_a_checkpoint() {
    let log = log();
    append(&log, 0, [100]);
    append(&log, 1, [200]);
    let mut job = count(&log, source(&log));
    let watch = Watch::on(&mut job);
    let handle = job.start(quick()).unwrap();
    watch.until_read(2);
    append(&log, 0, [300]);
    watch.until_read(3);
    append(&log, 1, [400]);
    watch.until_read(4);
    assert_eq!(rows(&log), []);
    append(&log, 0, [1_000]);
    append(&log, 1, [1_000]);
    watch.until_written(1);
    assert_eq!(rows(&log), [(0, 4)]);
    assert_eq!(
        log.read::<Row>("out").unwrap().concat()[0].0,
        999,
        "a result's event time is its window's end − 1"
    );
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn d4_3_a_stop_commits_what_was_read_and_fires_nothing_early() {
    let log = log();
    append(&log, 0, [100, 200]);
    append(&log, 1, [300]);
    let mut job = count(&log, source(&log));
    let watch = Watch::on(&mut job);
    let handle = job.start(quick()).unwrap();
    watch.until_read(3);
    handle.stop();
    assert!(matches!(handle.wait().unwrap(), Outcome::Stopped { .. }));
    assert_eq!(rows(&log), []);
    assert!(watch.commits.lock().unwrap().iter().all(|commit| commit.records_out == 0));
}

#[test]
fn d4_3_the_end_of_input_fires_what_is_left_and_the_next_start_has_nothing_to_do() {
    let log = log();
    append(&log, 0, [100, 200]);
    append(&log, 1, [2_300]);
    let first = count(&log, source(&log)).run(bounded()).unwrap();
    assert_eq!(rows(&log), [(0, 2), (2_000, 1)]);
    append(&log, 1, [2_400]);
    assert_eq!(count(&log, source(&log)).run(bounded()).unwrap(), first);
    assert_eq!(rows(&log), [(0, 2), (2_000, 1)]);
    // Only a fresh start reads again what is finished.
    count(&log, source(&log)).run(Settings { fresh: true, ..bounded() }).unwrap();
    assert_eq!(rows(&log), [(0, 2), (0, 2), (2_000, 1), (2_000, 2)]);
}

#[test]
fn d4_3_a_failed_source_ends_nothing() {
    let log = log();
    append(&log, 0, [100]);
    log.append("in", 1, 5_000, &7u8).unwrap();
    let mut job = Job::new("poison");
    job.source(source(&log))
        .key_by(String::clone)
        .window(Tumbling::of(Duration::from_secs(1)))
        .aggregate(Count)
        .map(|window| -> Row { (window.start_ms, window.value) })
        .sink(MemorySink::new(&log, "out"));
    job.commit_to(MemoryStore::new(&log));
    let error = job.run(bounded()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("topic \"in\" partition 1 offset 0"), "{error}");
    assert_eq!(rows(&log), []);
}

#[test]
fn d4_4_an_idle_partition_and_a_worker_without_partitions_hold_nothing_up() {
    for workers in [1, 3] {
        let log = log();
        append(&log, 0, [100, 1_500]);
        let strategy = WatermarkStrategy {
            idle_after: Duration::from_millis(20),
            max_ahead: None,
            ..Default::default()
        };
        let mut job = count(&log, source(&log).watermark_strategy(strategy));
        let watch = Watch::on(&mut job);
        let handle = job.start(Settings { workers, ..quick() }).unwrap();
        // Were all idle, there would be nothing to follow: one partition goes on.
        while watch.commits.lock().unwrap().iter().all(|commit| commit.records_out == 0) {
            append(&log, 0, [1_500]);
            std::thread::yield_now();
        }
        assert_eq!(
            rows(&log),
            [(0, 1)],
            "the window at 1000 is still open: idle sources follow, they do not jump"
        );
        handle.stop();
        handle.wait().unwrap();
    }
}

#[test]
fn d4_5_late_records_go_to_the_late_output() {
    let log = log();
    append(&log, 0, [100, 1_500]);
    append(&log, 1, [1_600]);
    let mut job = count(&log, source(&log));
    let watch = Watch::on(&mut job);
    let handle = job.start(quick()).unwrap();
    watch.until_written(1);
    append(&log, 0, [200]);
    watch.until_written(2);
    let figures = handle.metrics().snapshot();
    assert_eq!((figures.records_in, figures.records_out, figures.late_records), (4, 2, 1));
    assert_eq!((figures.watermark_ms, figures.lag_records), (Some(1_500), Some(0)));
    assert!(figures.epochs_committed >= 2 && figures.commit_latency.is_some());
    handle.stop();
    handle.wait().unwrap();
    assert_eq!(rows(&log), [(0, 1)]);
    assert_eq!(log.read::<String>("late").unwrap().concat(), [(200, "x".to_owned())]);
}

#[test]
fn d4_5_a_timestamp_a_day_ahead_is_poison() {
    let log = log();
    append(&log, 0, [0]);
    append(&log, 1, [1, i64::MAX / 2]);
    let source = MemorySource::new(&log, "in");
    let error = count(&log, source).run(bounded()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("topic \"in\" partition 1 offset 1"), "{error}");
}

#[test]
fn d4_6_new_partitions_are_found_and_read_from_their_start() {
    let log = log();
    append(&log, 0, [100]);
    append(&log, 1, [100]);
    let state = StateStore::memory();
    let mut job = count(&log, source(&log));
    job.keep_state_in(state.clone());
    let watch = Watch::on(&mut job);
    let handle = job.start(Settings { workers: 2, ..quick() }).unwrap();
    watch.until_read(2);
    log.create_topic("in", 4);
    append(&log, 2, [150]);
    append(&log, 3, [160]);
    watch.until_read(4);
    handle.stop();
    handle.wait().unwrap();
    let mut job = count(&log, source(&log));
    job.keep_state_in(state);
    job.run(bounded()).unwrap();
    assert_eq!(rows(&log), [(0, 4)], "nothing twice: the manifest has the new partitions");
}

/// Counts commits, and fails those that it is told to.
struct Failing {
    store: MemoryStore,
    left: Arc<AtomicUsize>,
    started: Arc<AtomicUsize>,
}

impl CommitStore for Failing {
    fn start(&self, start: CommitStart) -> BoxFuture<'_, Result<Session>> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let start = self.store.start(start);
        Box::pin(async move {
            let session = start.await?;
            Ok(Session {
                commits: Arc::new(FailingCommits(session.commits, Arc::clone(&self.left))),
                ..session
            })
        })
    }

    fn is_durable(&self) -> bool {
        false
    }
}

struct FailingCommits(Arc<dyn Commits>, Arc<AtomicUsize>);

impl Commits for FailingCommits {
    fn commit(&self, manifest: Manifest) -> BoxFuture<'static, Result<()>> {
        let fails = manifest
            .sources
            .iter()
            .any(|source| source.partitions.iter().any(|split| split.offset > 0))
            && self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let commit = self.0.commit(manifest);
        Box::pin(async move {
            if fails {
                return Err(Error::new(ErrorKind::Connector, "commit an epoch: broken on purpose")
                    .with_retriable(true));
            }
            commit.await
        })
    }
}

fn failing(log: &MemoryLog, times: usize, settings: Settings) -> (Result<Outcome>, usize) {
    let started = Arc::new(AtomicUsize::new(0));
    let mut job = count(log, source(log));
    job.commit_to(Failing {
        store: MemoryStore::new(log),
        left: Arc::new(AtomicUsize::new(times)),
        started: Arc::clone(&started),
    });
    (job.run(settings), started.load(Ordering::SeqCst))
}

#[test]
fn d5_a_failure_that_can_heal_restarts_from_the_manifest() {
    let log = log();
    append(&log, 0, [100, 200, 1_300]);
    let (outcome, started) = failing(&log, 3, bounded());
    outcome.unwrap();
    assert_eq!(started, 4);
    assert_eq!(rows(&log), [(0, 2), (1_000, 1)]);
}

#[test]
fn d5_restarts_end_after_as_many_as_allowed() {
    let log = log();
    append(&log, 0, [100]);
    let (outcome, started) = failing(&log, usize::MAX, Settings { max_restarts: 2, ..bounded() });
    assert!(outcome.unwrap_err().to_string().contains("broken on purpose"));
    assert_eq!(started, 3);
}

#[test]
fn d5_nothing_in_or_out_is_no_transaction() {
    let log = log();
    append(&log, 0, [100]);
    let mut job = count(&log, source(&log));
    let watch = Watch::on(&mut job);
    let handle = job.start(quick()).unwrap();
    watch.until_read(1);
    let committed = handle.status().committed.unwrap();
    while handle.status().committed.unwrap() < committed + 5 {
        std::thread::yield_now();
    }
    let commits = watch.commits.lock().unwrap().len();
    assert_eq!(commits, 1, "epochs without anything in them are passed over");
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn d5_a_manifest_of_another_graph_is_refused() {
    let log = log();
    append(&log, 0, [100]);
    let settings = || {
        let config = crate::config::ConfigBuilder::new().set("group.id", "mine").unwrap().build().unwrap();
        Settings { config, ..bounded() }
    };
    count(&log, source(&log)).run(settings()).unwrap();
    let mut other = Job::new("count");
    other.source(source(&log)).sink(MemorySink::new(&log, "out"));
    other.commit_to(MemoryStore::new(&log));
    let error = other.run(settings()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[test]
fn d12_a_panic_fails_the_job_and_names_operator_and_record() {
    for workers in [1, 3] {
        let log = log();
        append(&log, 0, 0..1_000);
        append(&log, 1, 0..1_000);
        log.append("in", 1, 5, &"boom".to_owned()).unwrap();
        let mut job = Job::new("panics");
        job.source(source(&log))
            .filter(|text| text != "never")
            .map(|text| if text == "boom" { panic!("no {text}") } else { text })
            .sink(MemorySink::new(&log, "out"));
        job.commit_to(MemoryStore::new(&log));
        let error = job.run(Settings { workers, ..bounded() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UserFunction);
        let text = error.to_string();
        assert!(
            text.contains("`map` on topic \"in\" partition 1 offset 1000: it panicked: no boom"),
            "{text}"
        );
    }
}

/// Takes everything, and acknowledges nothing before it is told to.
struct Stuck {
    taken: Arc<AtomicU64>,
}

impl Sink for Stuck {
    type Item = String;

    fn uid(&self) -> &str {
        "stuck"
    }

    fn prepare(&self, _start: SinkStart) -> BoxFuture<'_, Result<Vec<OutputTopic>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn open(&self, _context: SinkContext) -> Result<Box<dyn Writer<Item = String>>> {
        Ok(Box::new(StuckWriter(Arc::clone(&self.taken))))
    }
}

struct StuckWriter(Arc<AtomicU64>);

impl Writer for StuckWriter {
    type Item = String;

    fn write(&mut self, _epoch: u64, items: Vec<String>, _times_ms: &[i64]) -> Result<()> {
        self.0.fetch_add(items.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn poll_send(&mut self, _epoch: u64, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Pending
    }
}

#[test]
fn d6_a_sink_that_does_not_get_on_stops_the_source_and_not_the_ticks() {
    let log = log();
    append(&log, 0, 0..10_000);
    append(&log, 1, 0..10_000);
    let taken = Arc::new(AtomicU64::new(0));
    let mut job = Job::new("stuck");
    job.source(source(&log).batch_records(10)).sink(Stuck { taken: Arc::clone(&taken) });
    job.commit_to(MemoryStore::new(&log));
    // A record of "x" counts 26 bytes: 2 of its own and 24 of a string.
    let capacity = 26_000;
    let handle = job.start(Settings { buffer_bytes: capacity, workers: 2, ..quick() }).unwrap();
    let mut most = 0;
    while taken.load(Ordering::SeqCst) < 1_000 {
        most = most.max(handle.status().buffered_bytes);
        std::thread::yield_now();
    }
    most = most.max(handle.status().buffered_bytes);
    assert!(most <= capacity + 2 * 260, "each worker overshoots by a batch at most: {most}");
    assert!(taken.load(Ordering::SeqCst) < 1_020);
    handle.stop();
    // It cannot end, since its output is nowhere: that is what a stop must not hide.
    assert!(!handle.is_ended());
}

#[test]
fn values_are_printed_a_line_each() {
    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = log();
    for (time_ms, value) in [(1, 40u64), (2, 70), (3, 60)] {
        log.append("in", 0, time_ms, &value).unwrap();
    }
    let screen = Screen::default();
    let mut job = Job::new("print");
    job.source(MemorySource::<u64>::new(&log, "in"))
        .filter(|value| *value > 50)
        .map(|value| format!("Processed: {value}"))
        .sink(crate::PrintSink::to(screen.clone()));
    job.commit_to(MemoryStore::new(&log));
    job.run(bounded()).unwrap();
    assert_eq!(
        String::from_utf8(screen.0.lock().unwrap().clone()).unwrap(),
        "Processed: 70\nProcessed: 60\n"
    );
}

#[test]
fn d7_a_job_goes_on_with_another_number_of_workers_from_state_on_disk() {
    let log = log();
    let folder = tempfile::tempdir().unwrap();
    let job_on = |log: &MemoryLog| {
        let mut job = Job::new("rescaled");
        job.source(source(log))
            .key_by(String::clone)
            .window(Tumbling::of(Duration::from_secs(1)))
            .uid("seconds")
            .aggregate(Count)
            .map(|window| (window.key, window.value))
            .sink(MemorySink::new(log, "out"));
        job.commit_to(MemoryStore::new(log));
        job.keep_state_in(StateStore::open(folder.path().to_str().unwrap(), "rescaled").unwrap());
        job
    };
    let keys: Vec<String> = (0..200).map(|key| format!("key-{key}")).collect();
    for (life, workers) in [1, 3, 2].into_iter().enumerate() {
        for (index, key) in keys.iter().enumerate() {
            log.append("in", index % 2, life as i64, key).unwrap();
        }
        let mut job = job_on(&log);
        let watch = Watch::on(&mut job);
        let handle = job.start(Settings { workers, ..quick() }).unwrap();
        watch.until_read(keys.len() as u64);
        handle.stop();
        handle.wait().unwrap();
    }
    job_on(&log).run(Settings { workers: 4, ..bounded() }).unwrap();
    let mut found = log.read::<(String, u64)>("out").unwrap().concat();
    found.sort();
    let mut expected: Vec<_> = keys.into_iter().map(|key| (999, (key, 3u64))).collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// Counts how often its reader is asked.
struct Asked(MemorySource<String>, Arc<AtomicU64>);

impl Source for Asked {
    type Item = String;

    fn uid(&self) -> &str {
        "asked"
    }

    fn watermarks(&self) -> WatermarkStrategy {
        self.0.watermarks()
    }

    fn prepare(&self, start: SourceStart) -> BoxFuture<'_, Result<Prepared>> {
        self.0.prepare(start)
    }

    fn open(&self, assignment: Assignment) -> Result<Box<dyn Reader<Item = String>>> {
        Ok(Box::new(AskedReader(self.0.open(assignment)?, Arc::clone(&self.1))))
    }
}

struct AskedReader(Box<dyn Reader<Item = String>>, Arc<AtomicU64>);

impl Reader for AskedReader {
    type Item = String;

    fn poll_read(&mut self, cx: &mut Context<'_>, hint: Option<&SplitId>) -> Poll<Result<ReadBatch<String>>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.poll_read(cx, hint)
    }

    fn is_caught_up(&self, split: &SplitId) -> bool {
        self.0.is_caught_up(split)
    }
}

#[test]
fn d6_a_source_without_input_is_woken_and_does_not_spin() {
    let log = log();
    append(&log, 0, [1]);
    let asked = Arc::new(AtomicU64::new(0));
    let mut job = Job::new("patient");
    job.source(Asked(source(&log), Arc::clone(&asked))).sink(MemorySink::new(&log, "out"));
    job.commit_to(MemoryStore::new(&log));
    let watch = Watch::on(&mut job);
    let handle = job.start(quick()).unwrap();
    watch.until_read(1);
    let (epoch, before) = (handle.status().committed.unwrap(), asked.load(Ordering::SeqCst));
    while handle.status().committed.unwrap() < epoch + 20 {
        std::thread::yield_now();
    }
    let epochs = handle.status().committed.unwrap() - epoch;
    let asks = asked.load(Ordering::SeqCst) - before;
    // It is scheduled for each tick and each commit, and a little more while a step ends.
    assert!(asks <= 6 * (epochs + 3), "asked {asks} times in {epochs} epochs");
    append(&log, 0, [2]);
    watch.until_read(2);
    handle.stop();
    handle.wait().unwrap();
}

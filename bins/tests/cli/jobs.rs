//! Jobs through the binary: to their end, stopped and gone on, looked at from outside.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use crate::harness::{Cluster, command, run};

/// `tidewater run` as a process; killed with the test.
struct Job(Child);

impl Job {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let mut command = command(&[&["run", "-b", &cluster.bootstrap], arguments].concat());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn end(&mut self, signal: &str) -> Option<i32> {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_demo_adds_up_and_says_so_in_json() {
    let printed = run(&["demo", "--records", "5000", "--format", "json"], "").ok();
    let lines: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, windows) = lines.split_last().unwrap();
    let mut counts = BTreeMap::new();
    for window in windows {
        let key = (window["user"].to_string(), window["start"].as_i64().unwrap());
        assert_eq!(window["end"].as_i64().unwrap() - key.1, 10_000);
        assert_eq!(counts.insert(key, window["count"].as_u64().unwrap()), None, "{window}");
    }
    assert_eq!(counts.values().sum::<u64>(), 5000);
    let summary = &last["summary"];
    assert_eq!((&summary["records"], &summary["counted"]), (&5000.into(), &5000.into()));
    assert_eq!((&summary["duplicates"], &summary["exactly_once"]), (&0.into(), &true.into()));
    assert_eq!(summary["sum_written"], summary["sum_counted"]);
    let quiet = run(&["demo", "--records", "100", "--for", "200ms", "--quiet"], "").ok();
    assert!(quiet.starts_with("\nexactly once: 100 clicks written, 100 counted"), "{quiet}");
}

#[test]
fn a_bounded_run_ends_and_does_nothing_twice() {
    let cluster = Cluster::with_topics(&[("in", 2), ("out", 2)]);
    cluster.run(&["produce", "in"], "a\nb\nc\n").ok();
    let arguments = ["run", "pass", "--input", "in", "--output", "out", "--bounded"];
    let first = cluster.run(&arguments, "");
    assert!(first.stderr.contains(": 3 records read, 3 written in "), "{first:?}");
    assert!(first.stderr.contains("finished at epoch "), "{first:?}");
    assert!(first.stderr.contains("from=\"in-0@0 in-1@0\""), "{first:?}");
    assert_eq!(first.ok(), "");
    assert_eq!(cluster.read("out", "%v"), ["processed-A", "processed-B", "processed-C"]);
    let second = cluster.run(&arguments, "");
    assert!(second.stderr.contains("finished at epoch ") && second.stderr.contains(": 0 records"));
    assert_eq!(second.code, Some(0));
    assert_eq!(cluster.read("out", "%v").len(), 3);
}

#[test]
fn a_run_that_is_told_to_end_goes_on_later() {
    let cluster = Cluster::with_topics(&[("in", 1), ("out", 1)]);
    let arguments = ["pass", "--input", "in", "--output", "out", "--parallelism", "2"];
    let mut expected = Vec::new();
    for (line, signal) in [("a", "-TERM"), ("b", "-INT"), ("c", "-TERM")] {
        let mut job = Job::start(&cluster, &arguments);
        cluster.run(&["produce", "in"], &format!("{line}\n")).ok();
        expected.push(format!("processed-{}", line.to_uppercase()));
        let count = expected.len().to_string();
        cluster.ok(&["consume", "out", "-n", &count]);
        assert_eq!(job.end(signal), Some(0), "{signal}");
    }
    assert_eq!(cluster.read("out", "%v"), expected);
}

#[test]
fn running_jobs_are_listed_looked_at_and_stopped() {
    let cluster = Cluster::with_topics(&[("in", 1), ("out", 1)]);
    let folder = tempfile::tempdir().unwrap();
    let control = ["--control", folder.path().to_str().unwrap()];
    let ask = |arguments: &[&str]| run(&[arguments, &control].concat(), "");
    assert_eq!(ask(&["jobs"]).ok(), "");
    assert_eq!(ask(&["status"]).error(1), "find running job: no job runs here");
    let arguments = ["pass", "--input", "in", "--output", "out", "--group", "shouting"];
    let mut job = Job::start(&cluster, &[&arguments[..], &control].concat());
    cluster.run(&["produce", "in"], "a\n").ok();
    cluster.ok(&["consume", "out", "-n", "1"]);
    let listed = ask(&["jobs"]).ok();
    assert!(listed.starts_with("shouting\tpass\tin -> out\tpid "), "{listed}");
    let status: serde_json::Value = serde_json::from_str(&ask(&["status", "--json"]).ok()).unwrap();
    assert_eq!((&status["job"], &status["pid"]), (&"shouting".into(), &job.0.id().into()));
    assert_eq!(status["metrics"]["records_in"], 1);
    assert!(ask(&["status", "shouting"]).ok().contains("\nrecords_in: 1\n"));
    assert_eq!(ask(&["stop", "other"]).error(1), "find running job other: running: shouting");
    let stopped = ask(&["stop", "shouting"]).ok();
    assert!(stopped.starts_with("stopped shouting at epoch "), "{stopped}");
    assert_eq!(job.0.wait().unwrap().code(), Some(0));
    assert_eq!(ask(&["jobs"]).ok(), "");
}

#[test]
fn a_job_that_cannot_be_run_says_why() {
    let cluster = Cluster::with_topics(&[("in", 1), ("out", 1)]);
    let error = cluster.run(&["run", "nonsense"], "").error(2);
    assert!(error.contains("\"nonsense\"") && error.contains("there are clicks, pass"), "{error}");
    let error = cluster.run(&["run", "pass", "--output", "out"], "").error(2);
    assert!(error.contains("without --input TOPIC"), "{error}");
    let error = cluster.run(&["run", "clicks", "--input", "in", "--output", "out"], "").error(2);
    assert!(error.contains("state.url"), "{error}");
    let missing = ["run", "pass", "--input", "gone", "--output", "out", "--set", "max.restarts=0"];
    let error = cluster.run(&missing, "").error(1);
    assert!(error.contains("gone"), "{error}");
}

#[test]
fn a_poison_record_is_told_with_its_place() {
    let cluster = Cluster::with_topics(&[("in", 1), ("out", 1)]);
    let good = r#"{"user":"u","page":"/","type":"click","amount":1.25,"ts":1760000000000}"#;
    cluster.run(&["produce", "in"], &format!("{good}\nnot a click\n")).ok();
    let run = ["run", "clicks", "--input", "in", "--output", "out", "--bounded", "--state", "memory:"];
    let error = cluster.run(&run, "").error(1);
    assert!(error.starts_with("read topic \"in\" partition 0 offset 1: read JSON: "), "{error}");
    assert!(error.contains("not a click"), "{error}");
    let skipped = cluster.run(&[&run[..], &["--on-poison", "skip"]].concat(), "");
    assert!(skipped.stderr.contains(": 1 records read, 1 written, 1 poison in "), "{skipped:?}");
    assert_eq!(skipped.code, Some(0));
    assert_eq!(
        cluster.read("out", "%v"),
        [r#"{"user":"u","start":1760000000000,"end":1760000010000,"count":1,"sum":1.25}"#]
    );
}

#[test]
fn a_poison_record_may_be_kept_in_a_dead_letter_topic() {
    let cluster = Cluster::with_topics(&[("in", 1), ("out", 1), ("dead", 1)]);
    let good = r#"{"user":"u","page":"/","type":"click","amount":1.25,"ts":1760000000000}"#;
    cluster.run(&["produce", "in"], &format!("not a click\n{good}\n")).ok();
    let run = ["run", "clicks", "--input", "in", "--output", "out", "--bounded", "--state", "memory:"];
    cluster.run(&[&run[..], &["--dead-letter", "dead"]].concat(), "").ok();
    assert_eq!(cluster.read("dead", "%v"), ["not a click"]);
    assert_eq!(
        cluster.read("out", "%v"),
        [r#"{"user":"u","start":1760000000000,"end":1760000010000,"count":1,"sum":1.25}"#]
    );
}

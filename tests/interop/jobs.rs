//! What `tidewater run` commits, as Kafka's own read_committed consumer sees it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use dataflow::testing::TestClient;
use tidewater_tests::clicks::{Click, clicks, judge, oracle};
use tidewater_tests::programs::tidewater;
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{on_shared, values_that_java_reads};

const CLICKS: usize = 20_000;

/// A job of the program that reads `input` to its end, on two workers.
fn job(cluster: &Cluster, job: &str, input: &str, output: &str, folder: &Path) -> Command {
    let mut command = Command::new(tidewater());
    command
        .args(["run", job, "--bounded", "--parallelism", "2", "--bootstrap", &cluster.bootstrap()])
        .args(["--input", input, "--output", output, "--group", output, "--state"])
        .arg(folder.join(output));
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("run the program")
}

fn run(cluster: &Cluster, name: &str, input: &str, output_topic: &str, folder: &Path) {
    let result = output(&mut job(cluster, name, input, output_topic, folder));
    assert!(result.status.success(), "{name}: {}", String::from_utf8_lossy(&result.stderr));
}

/// Writes clicks, each under its user.
fn write(client: &TestClient, topic: &str, clicks: &[Click]) {
    client.write(topic, clicks.iter().map(|click| (&click.user, click.json()))).expect("write clicks");
}

fn java_reads_what_the_jobs_commit(version: Version) {
    on_shared(version, |cluster| async move {
        let folder = tempfile::tempdir().expect("a folder for state");
        let clicks: Vec<Click> = clicks(3, 40, 20).take(CLICKS).collect();
        let written = clicks.clone();
        let path = folder.path().to_path_buf();
        tokio::task::spawn_blocking(move || {
            let client = TestClient::new(&cluster.bootstrap()).expect("a client");
            for topic in ["jobs-in", "jobs-clicks", "jobs-pass"] {
                client.create(topic, 3).expect("create a topic");
            }
            write(&client, "jobs-in", &written);
            run(cluster, "clicks", "jobs-in", "jobs-clicks", &path);
            run(cluster, "pass", "jobs-in", "jobs-pass", &path);
        })
        .await
        .expect("run the jobs");

        let windows = values_that_java_reads(cluster, "jobs-clicks").await;
        judge(&oracle(&clicks), windows.iter().map(String::as_bytes)).expect("each window once and right");

        assert_passed(&clicks, values_that_java_reads(cluster, "jobs-pass").await);
    });
}

/// Each value once, as `pass` makes it.
fn assert_passed(clicks: &[Click], mut passed: Vec<String>) {
    let mut right: Vec<String> =
        clicks.iter().map(|click| format!("processed-{}", click.json().to_uppercase())).collect();
    passed.sort_unstable();
    right.sort_unstable();
    assert!(passed == right, "{} of {} values, or not the same ones", passed.len(), right.len());
}

/// Where a stateless job comes by, in this order; the second number is how often before it dies.
const PLACES: [&str; 9] = [
    "fenced",
    "manifest-sent",
    "commit-sent",
    "started",
    "outputs-sent",
    "committed",
    "outputs-sent:2",
    "commit-sent:2",
    "committed:2",
];

fn pass_goes_on_wherever_it_is_killed(version: Version) {
    on_shared(version, |cluster| async move {
        let folder = tempfile::tempdir().expect("a folder for state");
        let clicks: Vec<Click> = clicks(5, 40, 20).take(CLICKS).collect();
        let written = clicks.clone();
        let path = folder.path().to_path_buf();
        tokio::task::spawn_blocking(move || {
            let client = TestClient::new(&cluster.bootstrap()).expect("a client");
            for topic in ["killed-in", "killed-pass"] {
                client.create(topic, 3).expect("create a topic");
            }
            write(&client, "killed-in", &written);
            for place in PLACES {
                let mut child = job(cluster, "pass", "killed-in", "killed-pass", &path);
                child.args(["--set", "epoch.max.records=500"]).env("DATAFLOW_CRASH_AT", place);
                let died = output(&mut child);
                let text = String::from_utf8_lossy(&died.stderr);
                assert_eq!(died.status.signal(), Some(9), "{place}: {text}");
            }
            run(cluster, "pass", "killed-in", "killed-pass", &path);
        })
        .await
        .expect("run the job");
        assert_passed(&clicks, values_that_java_reads(cluster, "killed-pass").await);
    });
}

#[test]
fn pass_goes_on_wherever_it_is_killed_on_4_3() {
    pass_goes_on_wherever_it_is_killed(Version::V4_3);
}

#[test]
fn pass_goes_on_wherever_it_is_killed_on_3_9() {
    pass_goes_on_wherever_it_is_killed(Version::V3_9);
}

#[test]
fn java_reads_what_the_jobs_commit_on_4_3() {
    java_reads_what_the_jobs_commit(Version::V4_3);
}

#[test]
fn java_reads_what_the_jobs_commit_on_3_9() {
    java_reads_what_the_jobs_commit(Version::V3_9);
}

//! What `tidewater run` commits, as Kafka's own read_committed consumer sees it.

use std::path::Path;
use std::process::Command;

use dataflow::testing::TestClient;
use tidewater_tests::clicks::{Click, clicks, judge, oracle};
use tidewater_tests::programs::tidewater;
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{on_shared, values_that_java_reads};

const CLICKS: usize = 20_000;

/// Reads `input` to its end with a job of the program, on two workers.
fn run(cluster: &Cluster, job: &str, input: &str, output: &str, folder: &Path) {
    let result = Command::new(tidewater())
        .args(["run", job, "--bounded", "--parallelism", "2", "--bootstrap", &cluster.bootstrap()])
        .args(["--input", input, "--output", output, "--group", output, "--state"])
        .arg(folder.join(output))
        .output()
        .expect("run the program");
    assert!(result.status.success(), "{job}: {}", String::from_utf8_lossy(&result.stderr));
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

        let mut passed = values_that_java_reads(cluster, "jobs-pass").await;
        let mut right: Vec<String> =
            clicks.iter().map(|click| format!("processed-{}", click.json().to_uppercase())).collect();
        passed.sort_unstable();
        right.sort_unstable();
        assert!(passed == right, "{} of {} values, or not the same ones", passed.len(), right.len());
    });
}

#[test]
fn java_reads_what_the_jobs_commit_on_4_3() {
    java_reads_what_the_jobs_commit(Version::V4_3);
}

#[test]
fn java_reads_what_the_jobs_commit_on_3_9() {
    java_reads_what_the_jobs_commit(Version::V3_9);
}

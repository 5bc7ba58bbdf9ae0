//! A disk that is full or fails under the state of `clicks`.
//!
//! strace makes system calls fail. It tells files apart by whole paths only, and those of state objects hold a
//! random instance, so it is done to calls that nothing else in the process makes: fsync, and the link that
//! gives a finished object its name.

use std::path::Path;
use std::process::{Command, Stdio};

use dataflow::testing::{TestClient, broker};
use tidewater_tests::clicks::{Click, clicks};
use tidewater_tests::crashes::{bounded, check, write};
use tidewater_tests::jobs::Child;

const CHILD: &str = "exactly_once::job_of_a_child";

/// Whether calls can be made to fail here; says so aloud where not. In CI they must.
fn has_strace() -> bool {
    let probe = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let works = probe.is_ok_and(|status| status.success());
    assert!(works || std::env::var_os("CI").is_none(), "strace does not run here, and CI needs it");
    if !works {
        eprintln!("SKIPPED: failing disks need strace, which does not run here");
    }
    works
}

/// Runs `child` with system calls failing: its exit code.
fn run_with(child: &Child<'_>, fault: &str, max_restarts: u32) -> Option<i32> {
    let calls = fault.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={calls}"), format!("inject={fault}"));
    let restarts = format!("CHILD_MAX_RESTARTS={max_restarts}");
    let strace = [&restarts, "strace", "-f", "-qq", "-o", "strace.log", "-e", &trace, "-e", &inject];
    child.start_under(&strace, CHILD).wait().unwrap().code()
}

/// A job killed behind its second commit, so that its folder and state are there.
fn begun<'a>(bootstrap: &'a str, output: &'a str, folder: &'a Path) -> Child<'a> {
    let job = bounded(bootstrap, output, folder);
    let killed = Child { crash_at: Some("committed:2"), ..job.clone() };
    assert_eq!(killed.run(CHILD), Some(137), "{}", killed.log());
    job
}

fn input(client: &TestClient) -> Vec<Click> {
    let clicks: Vec<Click> = clicks(12, 50, 20).take(12_000).collect();
    client.create("clicks", 2).unwrap();
    write(client, "clicks", &clicks);
    clicks
}

#[test]
fn a_disk_that_goes_on_failing_ends_the_job_with_a_clear_error_and_nothing_is_lost() {
    if !has_strace() {
        return;
    }
    let broker = broker(&[]).unwrap();
    let bootstrap = broker.bootstrap();
    let client = TestClient::new(&bootstrap).unwrap();
    let clicks = input(&client);
    let faults = [
        ("sync", "fsync:error=EIO", "os error 5", "check the disk's health"),
        ("full", "fsync:error=ENOSPC", "os error 28", "make room on that disk"),
        ("name", "linkat:error=ENOSPC", "os error 28", "make room on that disk"),
    ];
    for (output, fault, cause, advice) in faults {
        client.create(output, 2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let job = begun(&bootstrap, output, folder.path());
        assert!(
            run_with(&job, fault, 2).is_some_and(|code| code != 0 && code != 137),
            "{fault}: {}",
            job.log()
        );
        let log = job.log();
        assert_eq!(log.matches("job failed, restarting").count(), 2, "{fault}: {log}");
        let last = log.lines().rfind(|line| line.contains("job failed ")).unwrap_or_default();
        let path = format!("write state object {}", folder.path().join("state").display());
        for part in [&*path, " bytes needed)", cause, advice] {
            assert!(last.contains(part), "{fault}: no {part:?} in {last:?} of {log}");
        }
        assert_eq!(job.run(CHILD), Some(0), "{fault}: {}", job.log());
        check(&client, output, &clicks);
    }
}

#[test]
fn a_disk_that_fails_for_a_while_costs_restarts_and_nothing_else() {
    if !has_strace() {
        return;
    }
    let broker = broker(&[]).unwrap();
    let bootstrap = broker.bootstrap();
    let client = TestClient::new(&bootstrap).unwrap();
    let clicks = input(&client);
    client.create("while", 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let job = begun(&bootstrap, "while", folder.path());
    // strace counts the calls of each thread, and several write state.
    assert_eq!(run_with(&job, "fsync:error=EIO:when=1", 10), Some(0), "{}", job.log());
    assert!(job.log().contains("job failed, restarting"), "{}", job.log());
    check(&client, "while", &clicks);
}

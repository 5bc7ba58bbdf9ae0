//! The jobs: Tidewater, exactly once, beside a loop written by hand on rdkafka, at least once.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clients::cell;
use crate::measure::{Bench, Cost};

/// A job, by our name and by the peer's.
pub struct Job {
    pub name: &'static str,
    peer: &'static str,
}

pub const JOBS: &[Job] = &[Job { name: "pass", peer: "pass" }, Job { name: "clicks", peer: "window" }];

const ENGINES: [&str; 3] = ["tidewater, 1 worker", "tidewater, 2 workers", "rdkafka by hand"];

/// Measures each job with each engine, in turns, holds the output against the right answer, and prints the
/// table.
pub fn compare(bench: &Bench, jobs: &[&Job], rounds: usize, records: u64) {
    if jobs.is_empty() {
        return;
    }
    let peer = bench.peer("stream-rdkafka");
    let (input, count) = (format!("compare-clicks-{records}"), records.to_string());
    let made = bench.run(&peer, &["mk", &input]);
    if !made.last_line.contains("AlreadyExists") {
        bench.run(&peer, &["gen", "clicks", &input, &count]);
    }
    let mut costs: BTreeMap<(&str, &str), Vec<Cost>> = BTreeMap::new();
    for job in jobs {
        let right = bench.run(&peer, &["expected", job.peer, &count]).last_line;
        for round in 0..rounds {
            for turn in 0..ENGINES.len() {
                let engine = ENGINES[(turn + round) % ENGINES.len()];
                let output = format!("compare-{}-{}", job.name, unique());
                bench.run(&peer, &["mk", &output]);
                let cost = run(bench, job, engine, &input, &output);
                check(bench, job, &output, &right, engine);
                bench.delete_topic(&output);
                eprintln!("{} {engine}: {:.3} CPU s/M", job.name, cost.cpu_s / records as f64 * 1e6);
                costs.entry((engine, job.name)).or_default().push(cost);
            }
        }
    }
    print(&costs, jobs, records);
}

fn unique() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_millis()
}

fn run(bench: &Bench, job: &Job, engine: &str, input: &str, output: &str) -> Cost {
    if engine == "rdkafka by hand" {
        return bench.run(&bench.peer("stream-rdkafka"), &["job", job.peer, input, output]);
    }
    let state = tempfile::tempdir().expect("a folder for state");
    let state = state.path().to_string_lossy();
    let workers = if engine.contains("2 workers") { "2" } else { "1" };
    let mut arguments = vec!["run", job.name, "--bounded", "--bootstrap", &bench.bootstrap];
    arguments.extend(["--input", input, "--output", output, "--group", output, "--state", &state]);
    arguments.extend(["--parallelism", workers]);
    bench.run(&bench.tidewater, &arguments)
}

/// The sentinels at the end of the input are counted by `pass` and left out by the peer's check of windows.
fn check(bench: &Bench, job: &Job, output: &str, right: &str, engine: &str) {
    let found = bench.run(&bench.peer("stream-rdkafka"), &["check", job.peer, output]).last_line;
    assert_eq!(found, right, "the output of {} by {engine} is wrong", job.name);
}

fn print(costs: &BTreeMap<(&str, &str), Vec<Cost>>, jobs: &[&Job], records: u64) {
    let titles: Vec<&str> = jobs.iter().map(|job| job.name).collect();
    println!("\n| CPU s per million records, least / median · peak MiB | {} |", titles.join(" | "));
    println!("|---{}|", "|---".repeat(jobs.len()));
    for engine in ENGINES {
        let cells: Vec<String> = jobs.iter().map(|job| cell(&costs[&(engine, job.name)], records)).collect();
        println!("| {engine} | {} |", cells.join(" | "));
    }
}

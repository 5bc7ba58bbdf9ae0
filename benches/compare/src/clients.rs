//! The clients: produce and consume records of 100 bytes and of 1 KiB.

use std::collections::BTreeMap;

use crate::measure::{Bench, Cost, least_and_median};

/// A row's work.
pub struct Workload {
    pub name: &'static str,
    verb: &'static str,
    codec: &'static str,
    /// Bytes of a record.
    size: u32,
}

pub const WORKLOADS: &[Workload] = &[
    Workload { name: "P1", verb: "produce", codec: "none", size: 100 },
    Workload { name: "P2", verb: "produce", codec: "lz4", size: 100 },
    Workload { name: "P3", verb: "produce", codec: "snappy", size: 100 },
    Workload { name: "P4", verb: "produce", codec: "zstd", size: 100 },
    Workload { name: "P1k", verb: "produce", codec: "none", size: 1024 },
    Workload { name: "P2k", verb: "produce", codec: "lz4", size: 1024 },
    Workload { name: "P3k", verb: "produce", codec: "snappy", size: 1024 },
    Workload { name: "P4k", verb: "produce", codec: "zstd", size: 1024 },
    Workload { name: "C1", verb: "consume", codec: "none", size: 100 },
    Workload { name: "C2", verb: "consume", codec: "lz4", size: 100 },
    Workload { name: "C3", verb: "consume", codec: "snappy", size: 100 },
    Workload { name: "C4", verb: "consume", codec: "zstd", size: 100 },
    Workload { name: "C1k", verb: "consume", codec: "none", size: 1024 },
    Workload { name: "C2k", verb: "consume", codec: "lz4", size: 1024 },
    Workload { name: "C3k", verb: "consume", codec: "snappy", size: 1024 },
    Workload { name: "C4k", verb: "consume", codec: "zstd", size: 1024 },
];

/// Measures each workload with each client, in turns, and prints the table.
pub fn compare(bench: &Bench, workloads: &[&Workload], peers: &[String], rounds: usize, records: u64) {
    if workloads.is_empty() {
        return;
    }
    let mut clients = vec!["tidewater".to_owned()];
    clients.extend_from_slice(peers);
    let mut costs: BTreeMap<(&str, &str), Vec<Cost>> = BTreeMap::new();
    for workload in workloads {
        if workload.verb == "consume" {
            fill(bench, workload, records);
        }
        for round in 0..rounds {
            for turn in 0..clients.len() {
                let client = &clients[(turn + round) % clients.len()];
                let cost = measure(bench, workload, client, records);
                eprintln!("{} {client}: {:.3} CPU s/M", workload.name, cost.cpu_s / records as f64 * 1e6);
                costs.entry((client, workload.name)).or_default().push(cost);
            }
        }
        if workload.verb == "consume" {
            bench.delete_topic(&shared_topic(workload));
        }
    }
    print(&costs, workloads, &clients, records);
}

/// The topic that all consumers read, written once, by librdkafka.
fn fill(bench: &Bench, workload: &Workload, records: u64) {
    let topic = shared_topic(workload);
    bench.create_topic(&topic);
    let writer = Workload { name: workload.name, verb: "produce", ..*workload };
    call(bench, &writer, "rdkafka", &topic, records);
}

fn shared_topic(workload: &Workload) -> String {
    format!("compare-{}-{}-{}", workload.codec, workload.size, std::process::id())
}

fn measure(bench: &Bench, workload: &Workload, client: &str, records: u64) -> Cost {
    if workload.verb == "consume" {
        return call(bench, workload, client, &shared_topic(workload), records);
    }
    let topic = format!("compare-produce-{}", std::process::id());
    bench.create_topic(&topic);
    let cost = call(bench, workload, client, &topic, records);
    bench.delete_topic(&topic);
    cost
}

fn call(bench: &Bench, workload: &Workload, client: &str, topic: &str, records: u64) -> Cost {
    let (records_text, size) = (records.to_string(), workload.size.to_string());
    let mut arguments = vec![workload.verb, "--bootstrap", &bench.bootstrap, "--topic", topic];
    arguments.extend(["--records", &records_text, "--size", &size, "--codec", workload.codec]);
    arguments.extend(["--acks", "all", "--linger-ms", "5", "--partitions", "4"]);
    let program = if client == "tidewater" {
        arguments.insert(0, "perf");
        bench.tidewater.clone()
    } else {
        let (peer, variant) = client.split_once(':').unwrap_or((client, ""));
        if !variant.is_empty() {
            arguments.extend(["--variant", variant]);
        }
        bench.peer(&format!("peer-{peer}"))
    };
    let cost = bench.run(&program, &arguments);
    let line: serde_json::Value = serde_json::from_str(&cost.last_line).expect("a line of JSON");
    assert_eq!(line["ok"].as_u64(), Some(records), "{client} did not do all of {}", workload.name);
    cost
}

fn print(
    costs: &BTreeMap<(&str, &str), Vec<Cost>>,
    workloads: &[&Workload],
    clients: &[String],
    records: u64,
) {
    let titles: Vec<String> =
        workloads.iter().map(|workload| format!("{} {} B {}", workload.verb, workload.size, workload.codec)).collect();
    println!("\n| CPU s per million records, least / median · peak MiB | {} |", titles.join(" | "));
    println!("|---{}|", "|---".repeat(workloads.len()));
    for client in clients {
        let cells: Vec<String> = workloads
            .iter()
            .map(|workload| cell(&costs[&(client.as_str(), workload.name)], records))
            .collect();
        println!("| {client} | {} |", cells.join(" | "));
    }
}

/// A cell of a table: CPU seconds per million records and memory.
pub fn cell(costs: &[Cost], records: u64) -> String {
    let per_million: Vec<f64> = costs.iter().map(|cost| cost.cpu_s / records as f64 * 1e6).collect();
    let (least, median) = least_and_median(&per_million);
    let (_, memory) = least_and_median(&costs.iter().map(|cost| cost.peak_mib).collect::<Vec<_>>());
    format!("{least:.3} / {median:.3} · {memory:.0}")
}

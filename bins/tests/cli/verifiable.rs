//! The programs of Kafka's test contract, and the measurements, as their drivers call them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cluster, command, run};

fn events(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["name"] == name).collect()
}

#[test]
fn the_verifiable_producer_tells_the_fate_of_each_number() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let fixed = ["verifiable-producer", "--topic", "t", "--max-messages", "5"];
    let more =
        ["--value-prefix", "7", "--repeating-keys", "2", "--acks", "1", "--message-create-time", "1000"];
    let at = ["--broker-list", &cluster.bootstrap];
    let stdout = run(&[&fixed[..], &more, &at].concat(), "").ok();
    assert!(stdout.starts_with("{\"timestamp\":"), "{stdout}");
    let events = events(&stdout);
    let names: Vec<_> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
    let success = "producer_send_success";
    assert_eq!(
        names,
        ["startup_complete", success, success, success, success, success, "shutdown_complete", "tool_data"]
    );
    let second = named(&events, success)[1];
    assert_eq!((&second["key"], &second["value"]), (&Value::from("1"), &Value::from("7.1")));
    assert_eq!(
        (&second["topic"], &second["partition"], &second["offset"]),
        (&"t".into(), &0.into(), &1.into())
    );
    let totals = &events[7];
    assert_eq!(
        (&totals["sent"], &totals["acked"], &totals["target_throughput"]),
        (&5.into(), &5.into(), &(-1).into())
    );
    assert!(totals["avg_throughput"].as_f64().unwrap() > 0.0);
    assert_eq!(cluster.read("t", "%k=%v"), ["0=7.0", "0=7.2", "0=7.4", "1=7.1", "1=7.3"]);
    assert!(cluster.ok(&["consume", "t", "-e", "-f", "%T\\n"]).starts_with("1000\n"));
}

#[test]
fn the_verifiable_producer_tells_what_failed() {
    let cluster = Cluster::with_topics(&[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "max.block.ms=100\nacks=all\n").unwrap();
    let config = ["--producer.config", file.path().to_str().unwrap()];
    let fixed = ["verifiable-producer", "--topic", "missing", "--max-messages", "1"];
    let at = ["--bootstrap-server", &cluster.bootstrap];
    let events = events(&run(&[&fixed[..], &config, &at].concat(), "").ok());
    let failed = named(&events, "producer_send_error")[0];
    assert_eq!(
        (&failed["topic"], &failed["value"], &failed["key"]),
        (&"missing".into(), &"0".into(), &Value::Null)
    );
    assert!(failed["message"].as_str().unwrap().contains("UNKNOWN_TOPIC_OR_PARTITION"), "{failed}");
    assert_eq!(named(&events, "tool_data")[0]["acked"], 0);
}

#[test]
fn the_verifiable_producer_ends_by_sigterm_with_everything_told() {
    let cluster = Cluster::with_topics(&[("t", 3)]);
    let mut producer = command(&[
        "verifiable-producer",
        "--topic",
        "t",
        "--bootstrap-server",
        &cluster.bootstrap,
        "--throughput",
        "500",
    ]);
    let mut child = producer.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told: Vec<_> = lines.by_ref().take(20).map(Result::unwrap).collect();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    told.extend(lines.map(Result::unwrap));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let events = events(&told.join("\n"));
    let totals = events.last().unwrap();
    assert_eq!(totals["sent"], totals["acked"]);
    let successes = named(&events, "producer_send_success").len();
    assert_eq!(
        (totals["acked"].as_u64(), cluster.read("t", "%v").len()),
        (Some(successes as u64), successes)
    );
}

#[test]
fn latency_is_measured_for_every_record() {
    let cluster = Cluster::with_topics(&[("t", 2)]);
    let flags = ["--records", "200", "--rate", "20000", "--linger-ms", "0", "--partitions", "2"];
    let stdout = cluster.run(&[&["perf", "latency", "--topic", "t"][..], &flags].concat(), "").ok();
    let figures: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&figures["ok"], &figures["bytes"]), (&200.into(), &20_000.into()));
    let of = |name: &str| figures[name].as_u64().unwrap();
    assert!(0 < of("p50_us") && of("p50_us") <= of("p99_us") && of("p99_us") <= of("p999_us"), "{figures}");
}

#[test]
fn the_verifiable_consumer_tells_what_it_is_assigned_reads_and_commits() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    cluster.run(&["produce", "t", "-K", "="], "a=1\nb=2\nc=3\n").ok();
    for protocol in ["classic", "consumer"] {
        let fixed =
            ["verifiable-consumer", "--topic", "t", "--group-id", protocol, "--group-protocol", protocol];
        let at = ["--broker-list", &cluster.bootstrap, "--max-messages", "2", "--verbose"];
        let read = || events(&run(&[&fixed[..], &at].concat(), "").ok());
        let events = read();
        assert_eq!(events[0]["name"], "startup_complete");
        let partition = serde_json::json!([{"topic": "t", "partition": 0}]);
        assert_eq!(named(&events, "partitions_assigned")[0]["partitions"], partition);
        let consumed = named(&events, "records_consumed");
        let last = &consumed.last().unwrap()["partitions"][0];
        assert_eq!((&last["topic"], &last["maxOffset"]), (&"t".into(), &1.into()));
        assert_eq!(consumed[0]["partitions"][0]["minOffset"], 0);
        let data = named(&events, "record_data");
        assert_eq!((data.len(), &data[1]["key"], &data[1]["value"]), (2, &"b".into(), &"2".into()));
        let committed = named(&events, "offsets_committed");
        let committed = committed.last().unwrap();
        assert_eq!((&committed["success"], &committed["offsets"][0]["offset"]), (&true.into(), &2.into()));
        assert_eq!(named(&events, "partitions_revoked").last().unwrap()["partitions"], partition);
        assert_eq!(events.last().unwrap()["name"], "shutdown_complete");
        // The next one goes on there, and finds one record more, before it is asked to stop.
        let mut next = command(&[&fixed[..], &at].concat());
        let mut child = next.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let committed = told.find(|event| event["name"] == "offsets_committed").unwrap();
        assert_eq!(committed["offsets"][0]["offset"], 3);
        let stopped = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(stopped.success());
        assert!(lines.map(Result::unwrap).any(|line| line.contains("shutdown_complete")));
        assert!(child.wait().unwrap().success());
    }
}

/// Every record once, in order, though one transaction in three is aborted; a second run finds nothing left.
#[test]
fn the_copier_copies_in_transactions_by_hand_and_as_a_member() {
    let cluster = Cluster::with_topics(&[("in", 1), ("out", 1), ("out-of-members", 1)]);
    let lines: String = (0..500).map(|number| format!("{number}\n")).collect();
    cluster.run(&["produce", "in"], &lines).ok();
    for (output, group, more) in [
        ("out", "by-hand", &["--enable-random-aborts"][..]),
        ("out-of-members", "members", &["--group-mode", "--use-group-metadata", "--enable-random-aborts"]),
    ] {
        let copy = || {
            let fixed = ["transactional-message-copier", "--input-topic", "in", "--input-partition", "0"];
            let to = ["--output-topic", output, "--transactional-id", output, "--consumer-group", group];
            let at = ["--transaction-size", "40", "--broker-list", &cluster.bootstrap];
            events(&run(&[&fixed[..], &to, &at, more].concat(), "").ok())
        };
        let told = copy();
        let last = told.last().unwrap();
        assert_eq!((&last["stage"], &last["transactionalId"]), (&"ShutdownComplete".into(), &output.into()));
        assert_eq!((&last["remaining"], &last["totalProcessed"]), (&0.into(), &500.into()));
        assert!(told.iter().any(|status| status["stage"] == "ProcessLoop"), "{told:?}");
        assert_eq!(told.iter().any(|status| status["stage"] == "RebalanceComplete"), group == "members");
        assert_eq!(cluster.ok(&["consume", output, "-e"]), lines);
        if group == "by-hand" {
            assert_eq!(copy().last().unwrap()["totalProcessed"], 0);
        }
    }
}

/// A verifiable consumer, and what it has told so far.
struct Member {
    child: Child,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Member {
    fn start(cluster: &Cluster) -> Self {
        let fixed = ["verifiable-consumer", "--topic", "t", "--group-id", "g", "--session-timeout", "6000"];
        let mut command = command(&[&fixed[..], &["--bootstrap-server", &cluster.bootstrap]].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (lines, shared) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&told));
        std::thread::spawn(move || {
            // The last line of one that is killed may be half a line.
            let events = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            events.for_each(|event| shared.lock().unwrap().push(event));
        });
        Self { child, told }
    }

    /// Partition and offset of each record that it told of.
    fn read(&self) -> Vec<(i64, i64)> {
        let told = self.told.lock().unwrap();
        let parts = named(&told, "records_consumed").into_iter().map(|event| &event["partitions"][0]);
        let number = |value: &Value| value.as_i64().unwrap();
        let records = parts.flat_map(|part| {
            let offsets = number(&part["minOffset"])..=number(&part["maxOffset"]);
            offsets.map(move |offset| (number(&part["partition"]), offset))
        });
        records.collect()
    }

    /// How far it committed each partition.
    fn committed(&self) -> BTreeMap<i64, i64> {
        let told = self.told.lock().unwrap();
        let committed =
            named(&told, "offsets_committed").into_iter().filter(|event| event["success"] == true);
        let offsets = committed.flat_map(|event| event["offsets"].as_array().unwrap());
        offsets.map(|at| (at["partition"].as_i64().unwrap(), at["offset"].as_i64().unwrap())).collect()
    }
}

#[test]
fn what_a_killed_member_did_not_commit_is_read_again_and_nothing_else() {
    const EACH: i64 = 100;
    let cluster = Cluster::with_topics(&[("t", 6)]);
    let mut members: Vec<Member> = (0..3).map(|_| Member::start(&cluster)).collect();
    let write = || {
        let lines: String = (0..EACH).map(|number| format!("{number}\n")).collect();
        for partition in ["0", "1", "2", "3", "4", "5"] {
            cluster.run(&["produce", "t", "-p", partition], &lines).ok();
        }
    };
    let wait_until = |is_so: &dyn Fn() -> bool| {
        let is_soon = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            is_so()
        });
        assert!(is_soon, "it does not come about in a minute");
    };
    let is_assigned = |member: &Member| {
        let told = member.told.lock().unwrap();
        named(&told, "partitions_assigned").last().is_some_and(|event| event["partitions"][1].is_object())
    };
    wait_until(&|| members.iter().all(is_assigned));
    write();
    wait_until(&|| members.iter().all(|member| !member.read().is_empty()));
    let mut killed = members.remove(0);
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    write();
    let all_read = || {
        let by_others = members.iter().flat_map(Member::read);
        by_others.chain(killed.read()).collect::<Vec<(i64, i64)>>()
    };
    let count = (6 * 2 * EACH) as usize;
    wait_until(&|| all_read().into_iter().collect::<BTreeSet<_>>().len() == count);
    for member in &mut members {
        let stopped = Command::new("kill").arg(member.child.id().to_string()).status().unwrap();
        assert!(stopped.success() && member.child.wait().unwrap().success());
    }
    let (of_killed, committed) = (killed.read(), killed.committed());
    let mut seen = BTreeSet::new();
    for (partition, offset) in members.iter().flat_map(Member::read).chain(of_killed) {
        let is_uncommitted = committed.get(&partition).is_none_or(|committed| offset >= *committed);
        assert!(seen.insert((partition, offset)) || is_uncommitted, "twice: {partition} {offset}");
    }
}

use kafka_wire::config::ProducerConfig;
use kafka_wire::{Producer, Record};

use crate::harness::Cluster;

#[test]
fn lines_become_records_and_records_lines() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let written = cluster.run(&["produce", "t"], "first\n\nlast without an end");
    assert_eq!(written.stderr, "3 records written to t\n");
    assert_eq!(written.ok(), "");
    assert_eq!(cluster.ok(&["consume", "t", "-e"]), "first\n\nlast without an end\n");
}

#[test]
fn keys_headers_tombstones_partitions_and_codecs_are_kcats() {
    let cluster = Cluster::with_topics(&[("t", 2)]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let produce =
            ["produce", "t", "-q", "-K", "\\t", "-H", "a=1", "-H", "a=2", "-p", "1", "-Z", "-z", codec];
        cluster.run(&produce, &format!("key\t{codec}\ngone\t\n{codec} alone\n")).ok();
    }
    let shown = cluster.ok(&["consume", "t", "-e", "-f", "%t-%p@%o %k(%K)=%v(%V) %h;"]);
    let shown: Vec<&str> = shown.split_terminator(';').collect();
    assert_eq!(shown.len(), 15, "{shown:?}");
    assert_eq!(shown[0], "t-1@0 key(3)=none(4) a=1,a=2");
    assert_eq!(shown[1], "t-1@1 gone(4)=(-1) a=1,a=2");
    assert_eq!(shown[14], "t-1@14 (-1)=zstd alone(10) a=1,a=2");
    assert_eq!(cluster.ok(&["consume", "t", "-e", "-p", "0"]), "");
}

#[test]
fn files_are_read_as_lines() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("one"), "1\n2\n").unwrap();
    std::fs::write(path("two"), "3\n4\n").unwrap();
    cluster.run(&["produce", "t", "-l", &path("one"), "-l", &path("two"), "-n", "3", "-k", "k"], "").ok();
    assert_eq!(cluster.read("t", "%k%v"), ["k1", "k2", "k3"]);
    let error = cluster.run(&["produce", "t", "-l", &path("none")], "").error(1);
    assert!(error.starts_with("read ") && error.contains("none: No such file"), "{error}");
}

/// Writes a record of this time to the only partition of `t`.
fn write_at(cluster: &Cluster, timestamp_ms: i64, key: &str, value: &[u8]) {
    let mut config = ProducerConfig::default();
    config.client.bootstrap_servers =
        kafka_wire::config::ClientConfig::bootstrap(&cluster.bootstrap).unwrap().bootstrap_servers;
    let producer = Producer::new(config).unwrap();
    let record = Record::to("t").key(key).value(value).timestamp_ms(timestamp_ms);
    producer.enqueue_blocking(record).unwrap().wait().unwrap();
}

#[test]
fn json_has_kcats_names_and_keeps_bytes_that_are_no_text() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    write_at(&cluster, 1_760_000_000_000, "\"k", b"\xff\x01");
    let expected = "{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"tstype\":\"create\",\"ts\":1760000000000,\
                    \"headers\":[],\"key\":\"\\\"k\",\"payload\":null,\"payload_hex\":\"ff01\"}\n";
    assert_eq!(cluster.ok(&["consume", "t", "-J", "-e"]), expected);
}

#[test]
fn reading_stops_before_a_time() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    for second in 1..=5 {
        write_at(&cluster, second * 1000, "", second.to_string().as_bytes());
    }
    let between = |bounds: &[&str]| {
        let flags = bounds.iter().flat_map(|bound| ["-o", *bound]);
        let arguments: Vec<&str> = ["consume", "t", "-D", " "].into_iter().chain(flags).collect();
        cluster.ok(&arguments)
    };
    // A time that has passed is an end: there is no need of -e.
    assert_eq!(between(&["s@2000", "e@4000"]), "2 3 ");
    assert_eq!(between(&["e@1970-01-01T00:00:03"]), "1 2 ");
    assert_eq!(between(&["-2", "e@9000"]), "4 5 ");
    assert_eq!(between(&["s@4000", "e@2000"]), "");
    // One that has not is waited for.
    let bootstrap = cluster.bootstrap.clone();
    let until = |time: &str| {
        let (time, bootstrap) = (format!("e@{time}"), bootstrap.clone());
        std::thread::spawn(move || {
            crate::harness::run(&["consume", "t", "-o", "4", "-o", &time, "-b", &bootstrap], "").ok()
        })
    };
    let waiting = until("2999-01-01");
    write_at(&cluster, 6000, "", b"6");
    write_at(&cluster, 32_503_680_000_000, "", b"7");
    assert_eq!(waiting.join().unwrap(), "5\n6\n");
    let twice = cluster.run(&["consume", "t", "-o", "1", "--from-beginning"], "").error(2);
    assert!(twice.contains("said twice"), "{twice}");
}

#[test]
fn binary_keys_and_values_are_unpacked() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    write_at(&cluster, 5, "ab", &(-7_i64).to_be_bytes());
    let shown = |flags: &[&str]| cluster.ok(&[&["consume", "t", "-e"], flags].concat());
    assert_eq!(shown(&["-s", "key=c s$", "-s", "value=q$", "-f", "%k %s %S\\n"]), "a b -7 8\n");
    assert_eq!(shown(&["-s", "h", "-K", ":"]), "24930:-1\n");
    assert!(shown(&["-J", "-s", "value=i i"]).contains("\"payload\":\"-1 -7\""));
    assert_eq!(shown(&["--property", "value.deserializer=x.LongDeserializer"]), "-7\n");
    assert_eq!(shown(&["-f", "%R", "-s", "value=q"]), "\0\0\0\u{8}");
    let wrong = cluster.run(&["consume", "t", "-e", "-s", "value=i$"], "").error(1);
    assert_eq!(wrong, "unpack the value at offset 0 of t-0: 4 bytes are left at the end");
    assert_eq!(cluster.run(&["consume", "t", "-s", "x"], "").code, Some(2));
}

#[test]
fn several_topics_are_read_and_patterns() {
    let cluster = Cluster::with_topics(&[("orders-eu", 2), ("orders-us", 1), ("other", 1)]);
    for topic in ["orders-eu", "orders-us", "other"] {
        cluster.run(&["produce", topic, "-q"], &format!("{topic}\n")).ok();
    }
    let sorted = |arguments: &[&str]| {
        let printed = cluster.ok(&[&["consume", "-e"], arguments].concat());
        let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&["other", "orders-eu"]), ["orders-eu", "other"]);
    assert_eq!(sorted(&["^orders-"]), ["orders-eu", "orders-us"]);
    assert_eq!(sorted(&["^o.*[su]$", "-G", "g"]), ["orders-eu", "orders-us"]);
    let none = cluster.run(&["consume", "^x"], "").error(1);
    assert_eq!(none, "read topics by the pattern ^x: no topic matches");
    assert!(cluster.run(&["consume", "^("], "").error(2).contains("by the pattern ^("));
}

#[test]
fn a_file_is_a_record() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("one"), "1\n2\n").unwrap();
    std::fs::write(path("two"), b"\xff").unwrap();
    cluster.run(&["produce", "t", &path("one"), &path("two"), "-k", "k", "-q"], "not read").ok();
    assert_eq!(cluster.ok(&["consume", "t", "-e", "-n", "1", "-K", "=", "-D", ";"]), "k=1\n2\n;");
    assert!(cluster.ok(&["consume", "t", "-e", "-J"]).contains("\"payload_hex\":\"ff\""));
    let error = cluster.run(&["produce", "t", &path("none")], "").error(1);
    assert!(error.starts_with("read ") && error.contains("none: No such file"), "{error}");
    assert_eq!(cluster.run(&["produce", "t", &path("one"), "-l", &path("two")], "").code, Some(2));
}

#[test]
fn what_is_written_can_be_passed_on_and_a_line_has_the_first_word_about_its_key() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let written = cluster.run(&["produce", "t", "-T", "-q", "-K", ":", "-k", "default"], "a:1\n2\n").ok();
    assert_eq!(written, "a:1\n2\n");
    assert_eq!(cluster.ok(&["consume", "t", "-e", "-K", "="]), "a=1\ndefault=2\n");
    assert_eq!(cluster.ok(&["consume", "t", "-e", "-O"]), "0 1\n1 2\n");
    assert_eq!(cluster.ok(&["consume", "t", "-e", "-q", "-u", "-O", "-K", "|"]), "a|0|1\ndefault|1|2\n");
}

#[test]
fn all_of_the_input_is_one_transaction() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let produce = ["produce", "t", "--set", "transactional.id=x", "-p", "0"];
    assert_eq!(cluster.run(&produce, "a\nb\n").stderr, "2 records written to t\n");
    let keyed = [&produce[..], &["--property", "parse.key=true"]].concat();
    let error = cluster.run(&keyed, "k\tc\nno key\n").error(1);
    assert_eq!(error, "line 2 of standard input: no key.separator stands in it");
    assert_eq!(cluster.ok(&["consume", "t", "-e"]), "a\nb\n");
    // What was aborted is in the log all the same, so that this is not an empty claim.
    let all = cluster.ok(&["consume", "t", "-e", "--isolation-level", "read_uncommitted"]);
    assert_eq!(all, "a\nb\nc\n");
}

#[test]
fn a_topics_timestamps_may_be_the_brokers() {
    let cluster = Cluster::with_topics(&[]);
    cluster.ok(&[
        "topic",
        "create",
        "t",
        "-p",
        "1",
        "--topic-config",
        "message.timestamp.type=LogAppendTime",
    ]);
    write_at(&cluster, 1, "k", b"v");
    assert!(cluster.ok(&["consume", "t", "-J", "-e"]).contains("\"tstype\":\"logappend\""));
    let shown = cluster.ok(&["consume", "t", "-e", "--property", "print.timestamp=true"]);
    assert!(shown.starts_with("LogAppendTime:1") && shown.ends_with("\tv\n"), "{shown}");
}

#[test]
fn a_count_by_kcats_flag_is_told_to_be_another() {
    let error = crate::harness::run(&["consume", "t", "-c", "5"], "").error(2);
    assert_eq!(error, "-c is --config here, and there is no file 5: -n 5 means that 5 records are read");
}

#[test]
fn reading_begins_where_it_is_told_to() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    cluster.run(&["produce", "t"], "0\n1\n2\n3\n").ok();
    let from = |start: &str| cluster.ok(&["consume", "t", "-e", "-o", start]).replace('\n', "");
    assert_eq!(from("beginning"), "0123");
    assert_eq!(from("2"), "23");
    assert_eq!(from("-3"), "123");
    assert_eq!(from("-30"), "0123");
    assert_eq!(from("end"), "");
    assert_eq!(from("s@0"), "0123");
    assert_eq!(from("s@99999999999999"), "");
    assert_eq!(cluster.ok(&["consume", "t", "-n", "2"]), "0\n1\n");
    let beyond = cluster.run(&["consume", "t", "-o", "9", "-e"], "").error(2);
    assert_eq!(beyond, "read from offset 9: the log ends at offset 4, partition t-0");
}

#[test]
fn a_group_goes_on_where_it_was() {
    let cluster = Cluster::with_topics(&[("t", 2)]);
    cluster.run(&["produce", "t", "-p", "1"], "0\n1\n2\n").ok();
    assert_eq!(cluster.ok(&["consume", "t", "-G", "g", "-n", "2"]), "0\n1\n");
    assert_eq!(cluster.ok(&["consume", "t", "-G", "g", "-e"]), "2\n");
    assert_eq!(cluster.ok(&["consume", "t", "-G", "g", "-e"]), "");
    assert_eq!(cluster.ok(&["consume", "t", "-G", "g", "-e", "-o", "beginning"]), "0\n1\n2\n");
    // Its members share the partitions, so that one alone would not come to this end.
    let mut other = kafka_wire::Consumer::builder()
        .bootstrap(&cluster.bootstrap)
        .group("shared")
        .set("auto.offset.reset", "earliest")
        .set("heartbeat.interval.ms", "100")
        .subscribe(["t"])
        .build()
        .unwrap();
    let bootstrap = cluster.bootstrap;
    let member = std::thread::spawn(move || {
        crate::harness::run(&["consume", "t", "-G", "shared", "-e", "--bootstrap", &bootstrap], "").ok()
    });
    let mut read = 0;
    while !member.is_finished() {
        read += other.poll_blocking(std::time::Duration::from_millis(10)).unwrap().len();
    }
    let printed = member.join().unwrap().lines().count();
    while read + printed < 3 {
        read += other.poll_blocking(std::time::Duration::from_millis(100)).unwrap().len();
    }
}

#[test]
fn what_is_not_committed_is_shown_only_when_asked_for() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let mut properties = kafka_wire::config::Properties::new();
    properties.set("bootstrap.servers", &cluster.bootstrap).unwrap();
    properties.set("transactional.id", "x").unwrap();
    let producer = Producer::new(ProducerConfig::from_properties(&properties).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        producer.init_transactions().await.unwrap();
        producer.begin_transaction().await.unwrap();
        producer.send(Record::to("t").value("aborted")).await.unwrap();
        producer.abort_transaction().await.unwrap();
        producer.begin_transaction().await.unwrap();
        producer.send(Record::to("t").value("committed")).await.unwrap();
        producer.commit_transaction().await.unwrap();
        producer.begin_transaction().await.unwrap();
        producer.send(Record::to("t").value("open")).await.unwrap();
    });
    assert_eq!(cluster.ok(&["consume", "t", "-e"]), "committed\n");
    let all = cluster.ok(&["consume", "t", "-e", "--isolation", "read_uncommitted"]);
    assert_eq!(all, "aborted\ncommitted\nopen\n");
}

#[test]
fn lines_are_read_and_shown_as_by_kafkas_console_tools() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let properties =
        ["--property", "parse.key=true", "--property", "parse.headers=true", "--property", "null.marker=NIL"];
    let produce = [&["produce", "t", "-q"], &properties[..]].concat();
    cluster.run(&produce, "a:1,b:2\tk\tv\n\tl\tNIL\n").ok();
    let shown = |properties: &[&str]| {
        let flags: Vec<&str> = properties.iter().flat_map(|property| ["--property", *property]).collect();
        cluster.ok(&[&["consume", "t", "-e"], &flags[..]].concat())
    };
    let all = [
        "print.key=true",
        "print.offset=true",
        "print.partition=true",
        "print.headers=true",
        "key.separator=|",
    ];
    assert_eq!(shown(&all), "Partition:0|Offset:0|a:1,b:2|k|v\nPartition:0|Offset:1|NO_HEADERS|l|null\n");
    assert_eq!(shown(&["print.key=true", "print.value=false", "line.separator=;"]), "k;l;");
    assert_eq!(shown(&["null.literal=-"]), "v\n-\n");
    let error = cluster.run(&produce, "a:1\tno key\n").error(1);
    assert_eq!(error, "line 1 of standard input: no key.separator stands in it");
    assert!(
        cluster
            .run(&["consume", "t", "--property", "print.colour=true"], "")
            .error(2)
            .contains("print.colour")
    );
    assert!(
        cluster.run(&["produce", "t", "--property", "parse.key=yes"], "").error(2).contains("true or false")
    );
}

#[test]
fn delimiters_are_kcats_and_silence_can_end_it() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    cluster.run(&["produce", "t", "-q", "-K", ":", "-D", "||"], "a:1\n||b:2").ok();
    assert_eq!(cluster.ok(&["consume", "t", "-e", "-K", "=", "-D", ";"]), "a=1\n;b=2;");
    assert_eq!(cluster.ok(&["consume", "t", "--from-beginning", "-e"]), "1\n\n2\n");
    assert_eq!(cluster.ok(&["consume", "t", "-o", "end", "--timeout-ms", "1"]), "");
    assert_eq!(cluster.run(&["consume", "t", "--from-beginning", "-o", "end"], "").code, Some(2));
}

/// Those of the first steps, too, but for what starts a broker.
#[test]
fn the_examples_of_the_help_work() {
    let cluster = Cluster::with_topics(&[]);
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_tidewater"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut count = 0;
    for help in [&["--help"][..], &["produce", "--help"], &["consume", "--help"]] {
        let help = crate::harness::run(help, "").ok();
        let steps = help.lines().skip_while(|line| !line.ends_with("steps:") && *line != "Examples:");
        for step in steps.filter(|line| line.contains(" tidewater ") && !line.contains("    ")) {
            let mut shell = std::process::Command::new("sh");
            shell
                .args(["-c", step])
                .env("PATH", &path)
                .env("TIDEWATER_BOOTSTRAP_SERVERS", &cluster.bootstrap);
            let run = crate::harness::run_command(shell, "");
            assert_eq!(run.code, Some(0), "{step}: {run:?}");
            count += 1;
        }
    }
    assert_eq!(count, 15);
    let keyed = cluster.ok(&["consume", "orders", "-e", "-K", ":"]);
    assert!(keyed.contains("ann:7.50\n") && keyed.contains("bob:\n"), "{keyed}");
}

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

#[test]
fn json_has_kcats_names_and_keeps_bytes_that_are_no_text() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let mut config = ProducerConfig::default();
    config.client.bootstrap_servers =
        kafka_wire::config::ClientConfig::bootstrap(&cluster.bootstrap).unwrap().bootstrap_servers;
    let producer = Producer::new(config).unwrap();
    let record = Record::to("t").key("\"k").value(b"\xff\x01").timestamp_ms(1_760_000_000_000);
    producer.enqueue_blocking(record).unwrap().wait().unwrap();
    let expected = "{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"ts\":1760000000000,\"headers\":[],\
                    \"key\":\"\\\"k\",\"payload\":null,\"payload_hex\":\"ff01\"}\n";
    assert_eq!(cluster.ok(&["consume", "t", "-J", "-e"]), expected);
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

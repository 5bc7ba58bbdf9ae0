use crate::harness::{Cluster, command, run_command};

#[test]
fn a_topic_is_created_described_listed_and_deleted() {
    let cluster = Cluster::with_topics(&[("there", 1)]);
    let create =
        ["topic", "create", "orders", "--partitions", "3", "--topic-config", "cleanup.policy=compact"];
    assert_eq!(cluster.ok(&create), "created topic orders\n");
    let described = cluster.ok(&["topic", "describe", "orders"]);
    let lines: Vec<&str> = described.lines().collect();
    assert_eq!(lines.len(), 4, "{described}");
    assert!(lines[0].starts_with("Topic: orders\tTopicId: ") && lines[0].contains("PartitionCount: 3"));
    assert!(lines[0].ends_with("Configs: cleanup.policy=compact"), "{described}");
    // An id as Kafka's tools show it.
    assert_eq!(lines[0].split('\t').nth(1).map(str::len), Some("TopicId: ".len() + 22));
    let last = "\tTopic: orders\tPartition: 2\tLeader: 0\tReplicas: 0\tIsr: 0\tElr: \tLastKnownElr: ";
    assert_eq!(lines[3], last);
    assert_eq!(cluster.ok(&["topic", "list"]), "orders\nthere\n");
    assert_eq!(cluster.ok(&["topic", "delete", "orders"]), "deleted topic orders\n");
    assert_eq!(cluster.ok(&["topic", "list"]), "there\n");
}

#[test]
fn json_is_one_object_a_line() {
    let cluster = Cluster::with_topics(&[("a", 1), ("b", 2)]);
    let listed = cluster.ok(&["topic", "list", "--json"]);
    let expected = "{\"topic\":\"a\",\"partitions\":1,\"internal\":false}\n\
                    {\"topic\":\"b\",\"partitions\":2,\"internal\":false}\n";
    assert_eq!(listed, expected);
    let described: serde_json::Value =
        serde_json::from_str(&cluster.ok(&["topic", "describe", "b", "--json"])).unwrap();
    assert_eq!(described["partitions"][1]["leader"], 0);
}

#[test]
fn only_what_is_asked_for_is_described() {
    let cluster = Cluster::with_topics(&[("plain", 2)]);
    cluster.ok(&["topic", "create", "set", "-p", "1", "--topic-config", "retention.ms=5"]);
    let described = |flags: &[&str]| cluster.ok(&[&["topic", "describe"], flags].concat());
    assert_eq!(described(&["--unavailable", "--under-replicated", "--under-min-isr"]), "");
    let at_min = described(&["--at-min-isr"]);
    let lines: Vec<&str> = at_min.lines().map(|line| line.split("\tLeader").next().unwrap()).collect();
    let expected =
        ["\tTopic: plain\tPartition: 0", "\tTopic: plain\tPartition: 1", "\tTopic: set\tPartition: 0"];
    assert_eq!(lines, expected);
    let set = described(&["--with-overrides", "--exclude-internal", "--json"]);
    assert!(set.lines().count() == 1 && set.contains("\"configs\":[\"retention.ms=5\"]"), "{set}");
    assert_eq!(cluster.ok(&["topic", "offsets"]), "plain:0:0\nplain:1:0\nset:0:0\n");
}

#[test]
fn what_is_there_or_not_there_already_can_be_allowed() {
    let cluster = Cluster::with_topics(&[("there", 1)]);
    let created = cluster.run(&["topic", "create", "there", "new"], "");
    assert_eq!(created.stdout, "created topic new\n");
    assert!(created.error(1).starts_with("create topic there: TOPIC_ALREADY_EXISTS"));
    assert_eq!(cluster.ok(&["topic", "create", "there", "--if-not-exists"]), "unchanged topic there\n");
    let deleted = cluster.run(&["topic", "delete", "gone"], "").error(1);
    assert!(deleted.starts_with("delete topic gone: UNKNOWN_TOPIC_OR_PARTITION"), "{deleted}");
    assert_eq!(cluster.ok(&["topic", "delete", "gone", "--if-exists"]), "unchanged topic gone\n");
}

#[test]
fn flag_set_environment_and_file_win_in_this_order() {
    let cluster = Cluster::with_topics(&[("here", 1)]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let nowhere = "default.api.timeout.ms=500\nbootstrap.servers=127.0.0.1:1\n";
    std::fs::write(file.path(), nowhere).unwrap();
    let file = file.path().to_str().unwrap();
    let here = format!("bootstrap.servers={}", cluster.bootstrap);
    let reaches = |arguments: &[&str], environment: Option<&str>| {
        let mut command = command(&[&["topic", "list", "-c", file], arguments].concat());
        if let Some(bootstrap) = environment {
            command.env("TIDEWATER_BOOTSTRAP_SERVERS", bootstrap);
        }
        run_command(command, "").stdout == "here\n"
    };
    assert!(!reaches(&[], None));
    assert!(reaches(&[], Some(&cluster.bootstrap)));
    assert!(!reaches(&["--set", "bootstrap.servers=127.0.0.1:2"], Some(&cluster.bootstrap)));
    assert!(reaches(&["--set", &here], Some("127.0.0.1:3")));
    assert!(!reaches(&["--set", &here, "--bootstrap", "127.0.0.1:4"], None));
    assert!(reaches(&["--set", "bootstrap.servers=127.0.0.1:5", "-b", &cluster.bootstrap], None));
}

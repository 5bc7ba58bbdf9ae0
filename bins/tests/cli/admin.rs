//! `group`, `config`, `acl`, `quota`, `user`, `cluster`, `txn`, `completions`.

use kafka_wire::config::{ProducerConfig, Properties};
use kafka_wire::{Producer, Record};
use serde_json::{Value, json};
use tidewater_broker::{AuthorizerOptions, Options};

use crate::harness::{Cluster, run};

/// The lines of a table, with single spaces between the cells.
fn table(printed: &str) -> Vec<String> {
    printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn json_lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A cluster with ten records in partition 1 of topic `t`, of which group `g` has read three.
fn cluster_with_a_group() -> Cluster {
    let cluster = Cluster::with_topics(&[("t", 2)]);
    let lines: String = (0..10).map(|number| format!("{number}\n")).collect();
    cluster.run(&["produce", "t", "-p", "1", "-q"], &lines).ok();
    cluster.ok(&["group", "reset-offsets", "g", "--topic", "t:1", "--to-offset", "3", "--execute"]);
    cluster
}

#[test]
fn a_groups_lag_is_shown_partition_by_partition() {
    let cluster = cluster_with_a_group();
    assert_eq!(cluster.ok(&["group", "list"]), "g\n");
    let shown = table(&cluster.ok(&["group", "list", "--long", "--state", "empty", "--type", "classic"]));
    assert_eq!(shown[1], "g Classic Empty");
    assert_eq!(cluster.ok(&["group", "list", "--state", "stable"]), "");
    let shown = table(&cluster.ok(&["group", "describe", "g"]));
    let header = "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID";
    assert_eq!(shown, [header, "g t 1 3 10 7 - - -"]);
    let shown = json_lines(&cluster.ok(&["group", "describe", "--json"]));
    assert_eq!((&shown[0]["lag"], &shown[0]["consumer_id"]), (&json!(7), &Value::Null));
    let shown = table(&cluster.ok(&["group", "describe", "g", "--state"]));
    assert_eq!(shown[1], "g Classic Empty - - 0");
    assert_eq!(table(&cluster.ok(&["group", "members", "g"])).len(), 1);
    let error = cluster.run(&["group", "describe", "none"], "").error(1);
    assert!(error.starts_with("describe group none") && error.contains("tidewater group list"), "{error}");
}

#[test]
fn offsets_are_reset_only_when_told_to() {
    let cluster = cluster_with_a_group();
    let current =
        || json_lines(&cluster.ok(&["group", "describe", "g", "--json"]))[0]["current_offset"].clone();
    let reset = |how: &[&str]| {
        let arguments = [&["group", "reset-offsets", "g", "--topic", "t:1", "--json"], how].concat();
        json_lines(&cluster.ok(&arguments))[0]["new_offset"].as_i64().unwrap()
    };
    assert_eq!((reset(&["--to-latest"]), current()), (10, json!(3)));
    assert_eq!((reset(&["--to-latest", "--execute"]), current()), (10, json!(10)));
    assert_eq!((reset(&["--shift-by", "-4", "--execute"]), current()), (6, json!(6)));
    assert_eq!(reset(&["--shift-by", "99"]), 10);
    assert_eq!(reset(&["--to-current"]), 6);
    assert_eq!(reset(&["--to-earliest"]), 0);
    assert_eq!(reset(&["--to-datetime", "2001-01-01T00:00:00Z"]), 0);
    assert_eq!(reset(&["--to-datetime", "2999-01-01"]), 10);
    let all = ["group", "reset-offsets", "g", "--all-topics", "--to-earliest"];
    let printed = cluster.run(&all, "");
    assert_eq!(table(&printed.stdout)[1], "g t 1 6 0");
    assert_eq!(printed.stderr, "nothing was changed; --execute does it\n");
    for wrong in [&["--to-latest", "--to-earliest"][..], &[], &["--to-datetime", "soon"]] {
        let arguments = [&["group", "reset-offsets", "g", "--topic", "t"], wrong].concat();
        assert_eq!(cluster.run(&arguments, "").code, Some(2), "{wrong:?}");
    }
    let missing = cluster.run(&["group", "reset-offsets", "g", "--topic", "t:7", "--to-latest"], "").error(2);
    assert_eq!(missing, "use partition 7 of topic t: it has 2 partitions, numbered from 0");
}

#[test]
fn groups_and_their_offsets_are_deleted() {
    let cluster = cluster_with_a_group();
    assert_eq!(cluster.ok(&["group", "delete-offsets", "g", "--topic", "t:1"]), "deleted offset t-1\n");
    assert_eq!(table(&cluster.ok(&["group", "describe", "g"])).len(), 1);
    cluster.ok(&["group", "reset-offsets", "g", "--topic", "t", "--to-earliest", "--execute"]);
    assert_eq!(cluster.ok(&["group", "delete", "g"]), "deleted group g\n");
    assert!(cluster.run(&["group", "delete", "g"], "").error(1).contains("GROUP_ID_NOT_FOUND"));
    assert_eq!(cluster.ok(&["group", "delete", "g", "--if-exists"]), "unchanged group g\n");
}

#[test]
fn configurations_are_shown_and_changed() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    assert_eq!(cluster.ok(&["config", "describe", "topic", "t"]), "");
    let alter = ["config", "alter", "topic", "t", "--add-config", "cleanup.policy=compact"];
    let dry = [&alter[..], &["--dry-run"]].concat();
    assert_eq!(cluster.ok(&dry), "would change configuration of topic t\n");
    assert_eq!(cluster.ok(&["config", "describe", "topic", "t"]), "");
    assert_eq!(cluster.ok(&alter), "changed configuration of topic t\n");
    assert_eq!(cluster.ok(&["config", "describe", "topic", "t"]), "cleanup.policy=compact\n");
    let all = json_lines(&cluster.ok(&["config", "describe", "topic", "t", "--all", "--json"]));
    let policy = all.iter().find(|entry| entry["name"] == "cleanup.policy").unwrap();
    assert_eq!((&policy["value"], &policy["source"]), (&json!("compact"), &json!("DYNAMIC_TOPIC_CONFIG")));
    assert!(all.len() > 1);
    cluster.ok(&["config", "alter", "topic", "t", "--delete-config", "cleanup.policy"]);
    assert_eq!(cluster.ok(&["config", "describe", "topic", "t"]), "");
    let refused = cluster.run(&["config", "alter", "topic", "t", "--add-config", "none=1"], "").error(1);
    assert!(refused.starts_with("change the configuration of topic t: INVALID_CONFIG"), "{refused}");
    assert!(cluster.run(&["config", "describe", "topic"], "").error(2).starts_with("say which"));
    assert!(cluster.run(&["config", "alter", "topic", "t"], "").error(2).starts_with("change what?"));
}

#[test]
fn access_is_given_listed_and_taken() {
    let authorizer =
        AuthorizerOptions { super_users: vec!["User:ANONYMOUS".to_owned()], ..AuthorizerOptions::default() };
    let cluster = Cluster::start(Options { authorizer: Some(authorizer), ..Options::default() });
    let add = [
        "acl",
        "add",
        "--allow-principal",
        "User:alice",
        "--topic",
        "in-",
        "--prefixed",
        "--consumer",
        "--group",
        "g",
    ];
    assert_eq!(cluster.ok(&add).lines().count(), 3);
    let header = "RESOURCE PATTERN NAME PRINCIPAL HOST OPERATION PERMISSION";
    let expected = [
        header,
        "TOPIC PREFIXED in- User:alice * READ ALLOW",
        "TOPIC PREFIXED in- User:alice * DESCRIBE ALLOW",
        "GROUP PREFIXED g User:alice * READ ALLOW",
    ];
    assert_eq!(table(&cluster.ok(&["acl", "list"])), expected);
    cluster.ok(&[
        "acl",
        "add",
        "--deny-principal",
        "User:bob",
        "--cluster",
        "--operation",
        "alter-configs",
        "--host",
        "::1",
    ]);
    let of_bob = json_lines(&cluster.ok(&["acl", "list", "--principal", "User:bob", "--json"]));
    let expected = json!({"resource_type": "CLUSTER", "pattern_type": "LITERAL", "resource_name": "kafka-cluster",
        "principal": "User:bob", "host": "::1", "operation": "ALTER_CONFIGS", "permission": "DENY"});
    assert_eq!(of_bob, [expected]);
    let matching = ["acl", "list", "--topic", "in-orders", "--pattern", "match"];
    assert_eq!(table(&cluster.ok(&matching)).len(), 3);
    assert_eq!(table(&cluster.ok(&["acl", "remove", "--topic", "in-"])).len(), 3);
    assert_eq!(table(&cluster.ok(&["acl", "list"])).len(), 3);
    assert!(cluster.run(&["acl", "remove"], "").error(2).starts_with("remove which entries?"));
    assert!(cluster.run(&["acl", "add", "--topic", "t"], "").error(2).starts_with("add which entries?"));
    let open = Cluster::with_topics(&[]);
    assert!(open.run(&["acl", "list"], "").error(1).contains("SECURITY_DISABLED"));
}

#[test]
fn quotas_are_set_shown_and_removed() {
    let cluster = Cluster::with_topics(&[]);
    let alter = |arguments: &[&str]| cluster.ok(&[&["quota", "alter"], arguments].concat());
    alter(&["--user", "alice", "--client-id", "app", "--add", "producer_byte_rate=1024"]);
    alter(&["--user-default", "--add", "consumer_byte_rate=5", "--add", "request_percentage=12.5"]);
    let shown = cluster.ok(&["quota", "describe"]);
    let mut shown: Vec<&str> = shown.lines().collect();
    shown.sort_unstable();
    assert_eq!(
        shown,
        [
            "client-id app, user alice: producer_byte_rate=1024",
            "default user: consumer_byte_rate=5, request_percentage=12.5"
        ]
    );
    let of_default = json_lines(&cluster.ok(&["quota", "describe", "--user-default", "--json"]));
    assert_eq!(of_default[0]["entity"], json!({"user": null}));
    alter(&["--user-default", "--delete", "consumer_byte_rate", "--delete", "request_percentage"]);
    assert_eq!(cluster.ok(&["quota", "describe"]).lines().count(), 1);
    assert!(cluster.run(&["quota", "alter", "--user", "a"], "").error(2).starts_with("change what?"));
}

#[test]
fn passwords_are_set_from_standard_input_or_a_file() {
    let cluster = Cluster::with_topics(&[]);
    let set = ["user", "set", "alice", "--mechanism", "scram-sha-256", "--iterations", "8192"];
    assert_eq!(cluster.run(&set, "a password\n").ok(), "set password of alice\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "another\n").unwrap();
    cluster.ok(&["user", "set", "bob", "--password-file", file.path().to_str().unwrap()]);
    let shown = table(&cluster.ok(&["user", "list"]));
    assert_eq!(shown, ["USER MECHANISM ITERATIONS", "alice SCRAM-SHA-256 8192", "bob SCRAM-SHA-512 4096"]);
    assert_eq!(cluster.ok(&["user", "delete", "bob"]), "deleted password of bob\n");
    assert_eq!(json_lines(&cluster.ok(&["user", "list", "--json"])).len(), 1);
    assert!(cluster.run(&["user", "delete", "bob"], "").error(1).contains("RESOURCE_NOT_FOUND"));
    assert!(cluster.run(&set, "").error(2).contains("the first line of the input is empty"));
}

#[test]
fn the_cluster_is_shown() {
    let cluster = Cluster::start(Options { nodes: 3, ..Options::default() }.with_topic("t", 3));
    let shown = cluster.ok(&["cluster", "describe"]);
    assert_eq!(shown.lines().count(), 4);
    assert!(
        shown.starts_with("Cluster: ") && shown.contains("\n\tBroker: 2\tAddress: 127.0.0.1:"),
        "{shown}"
    );
    let shown = json_lines(&cluster.ok(&["cluster", "describe", "--json"]));
    assert_eq!(shown[0]["brokers"].as_array().unwrap().len(), 3);
    let shown = table(&cluster.ok(&["cluster", "quorum"]));
    assert!(
        shown[0].starts_with("NODE DIRECTORY") && shown.iter().any(|line| line.ends_with("Leader")),
        "{shown:?}"
    );
    let shown = table(&cluster.ok(&["cluster", "features"]));
    assert!(shown.iter().any(|line| line.starts_with("transaction.version 2 ")), "{shown:?}");
    assert_eq!(table(&cluster.ok(&["cluster", "log-dirs", "--broker", "1"])).len(), 2);
    assert_eq!(table(&cluster.ok(&["cluster", "reassign"])), ["TOPIC PARTITION REPLICAS ADDING REMOVING"]);
    let moved = cluster.ok(&["cluster", "reassign", "--move", "t:0=2"]);
    assert_eq!(moved, "changed move of t-0\n");
    let described = cluster.ok(&["topic", "describe", "t"]);
    assert!(described.contains("Partition: 0\tLeader: 2\tReplicas: 2"), "{described}");
    cluster.ok(&["cluster", "elect-leaders", "--all"]);
    let unknown = cluster.run(&["cluster", "unregister", "77"], "").error(1);
    assert!(unknown.contains("BROKER_ID_NOT_REGISTERED"), "{unknown}");
}

#[test]
fn partitions_are_moved_by_a_plan_and_back() {
    let cluster = Cluster::start(Options { nodes: 3, ..Options::default() }.with_topic("t", 3));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let replicas = || {
        let shown = cluster.ok(&["topic", "describe", "t"]);
        let cells = shown.lines().flat_map(|line| line.split('\t'));
        cells.filter_map(|cell| cell.strip_prefix("Replicas: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = replicas();
    let plan = cluster.ok(&["cluster", "reassign", "--generate", "t", "--brokers", "2,1"]);
    let planned: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(planned["partitions"][1], json!({"topic": "t", "partition": 1, "replicas": [1]}));
    assert_eq!(replicas(), before);
    let plan = file("plan.json", &plan);
    let verify = |plan: &str| {
        let lines = json_lines(&cluster.ok(&["cluster", "reassign", "--plan", plan, "--verify", "--json"]));
        lines.iter().map(|line| line["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(verify(&plan).contains(&"not as planned".to_owned()));
    let moved = cluster.run(&["cluster", "reassign", "--plan", &plan], "");
    assert_eq!(moved.stdout, "changed move of t-0\nchanged move of t-1\nchanged move of t-2\n");
    assert_eq!(
        (replicas(), verify(&plan)),
        (["2", "1", "2"].map(str::to_owned).into(), vec!["done".to_owned(); 3])
    );
    // All is done, so there is nothing to take back.
    assert_eq!(cluster.ok(&["cluster", "reassign", "--plan", &plan, "--cancel"]), "");
    let back = moved.stderr.trim().strip_prefix("to go back, --plan with: ").unwrap();
    cluster.ok(&["cluster", "reassign", "--plan", &file("back.json", back)]);
    assert_eq!(replicas(), before);

    let wide = cluster.run(&["cluster", "reassign", "--cancel"], "").error(2);
    assert!(wide.starts_with("cancel which moves?"), "{wide}");
    for (text, reason) in [("{", "EOF"), (r#"{"version":1,"partitions":[]}"#, "it has no partitions")] {
        let error = cluster.run(&["cluster", "reassign", "--plan", &file("bad.json", text)], "").error(2);
        assert!(error.starts_with("read the plan") && error.contains(reason), "{error}");
    }
    let absent =
        file("absent.json", r#"{"version":1,"partitions":[{"topic":"t","partition":7,"replicas":[1]}]}"#);
    let error = cluster.run(&["cluster", "reassign", "--plan", &absent], "").error(2);
    assert_eq!(error, "move t-7: there is no such partition");
    let few = ["cluster", "reassign", "--generate", "none", "--brokers", "1"];
    assert!(cluster.run(&few, "").error(1).contains("UNKNOWN_TOPIC_OR_PARTITION"));
    let both = ["cluster", "reassign", "--plan", &plan, "--move", "t:0=1"];
    assert_eq!(cluster.run(&both, "").code, Some(2));
}

#[test]
fn transactions_are_shown_and_ended() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", &cluster.bootstrap).unwrap();
    properties.set("transactional.id", "x").unwrap();
    let producer = Producer::new(ProducerConfig::from_properties(&properties).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        producer.init_transactions().await.unwrap();
        producer.begin_transaction().await.unwrap();
        producer.send(Record::to("t").value("open")).await.unwrap();
    });
    let listed = json_lines(&cluster.ok(&["txn", "list", "--state", "ongoing", "--json"]));
    assert_eq!((&listed[0]["transactional_id"], &listed[0]["state"]), (&json!("x"), &json!("Ongoing")));
    let described = cluster.ok(&["txn", "describe", "x"]);
    assert!(described.contains("State: Ongoing") && described.ends_with("Partitions: t-0\n"), "{described}");
    let producers = json_lines(&cluster.ok(&["txn", "producers", "t", "--json"]));
    assert_eq!(producers[0]["transaction_start_offset"], 0);
    // Its coordinator knows it: it does not hang, however little patience there is.
    let hanging = table(&cluster.ok(&["txn", "find-hanging", "--max-transaction-timeout", "0"]));
    assert_eq!(hanging.len(), 1, "{hanging:?}");
    let wrong = cluster.run(&["txn", "abort", "t", "0", "--start-offset", "5"], "").error(1);
    assert!(wrong.contains("none does"), "{wrong}");
    assert_eq!(cluster.ok(&["txn", "force-terminate", "x"]), "ended transaction of x\n");
    assert!(!cluster.ok(&["txn", "describe", "x"]).contains("State: Ongoing"));
    runtime.block_on(producer.commit_transaction()).unwrap_err();
}

#[test]
fn a_transaction_that_no_coordinator_knows_is_aborted_in_its_partition() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", &cluster.bootstrap).unwrap();
    properties.set("transactional.id", "x").unwrap();
    let producer = Producer::new(ProducerConfig::from_properties(&properties).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        producer.init_transactions().await.unwrap();
        producer.begin_transaction().await.unwrap();
        producer.send(Record::to("t").value("open")).await.unwrap();
    });
    assert_eq!(
        cluster.ok(&["txn", "abort", "t", "0", "--start-offset", "0"]),
        "aborted transaction in t-0\n"
    );
    let producers = json_lines(&cluster.ok(&["txn", "producers", "t:0", "--json"]));
    assert_eq!(producers[0]["transaction_start_offset"], Value::Null);
}

#[test]
fn topics_grow_and_offsets_are_listed_and_records_deleted() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    cluster.run(&["produce", "t", "-q"], "a\nb\nc\n").ok();
    assert_eq!(cluster.ok(&["topic", "alter", "t", "--partitions", "2"]), "grew topic t\n");
    assert_eq!(cluster.ok(&["topic", "offsets", "t"]), "t:0:3\nt:1:0\n");
    assert_eq!(cluster.ok(&["topic", "delete-records", "t:0", "--before", "2"]), "deleted records of t-0\n");
    assert_eq!(cluster.ok(&["topic", "offsets", "t:0", "--time", "earliest"]), "t:0:2\n");
    assert_eq!(cluster.ok(&["topic", "offsets", "t:0", "--time", "2999-01-01"]), "t:0:-\n");
    assert_eq!(cluster.ok(&["topic", "create", "new", "--dry-run"]), "would create topic new\n");
    assert_eq!(cluster.ok(&["topic", "list"]), "t\n");
    assert_eq!(
        cluster.ok(&["topic", "create", "new", "--replica-assignment", "0,0,0"]),
        "created topic new\n"
    );
    assert_eq!(cluster.ok(&["topic", "offsets", "new"]).lines().count(), 3);
}

#[test]
fn shells_are_told_how_to_complete() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell], "").ok();
        assert!(script.contains("tidewater") && script.contains("reset-offsets"), "{shell}");
    }
    assert_eq!(run(&["completions", "cobol"], "").code, Some(2));
}

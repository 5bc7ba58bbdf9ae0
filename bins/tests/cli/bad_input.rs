//! What a wrong command line, file, address or record says, and with which exit code.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::harness::{Cluster, run};

/// Little patience, so that what cannot work is told soon.
const HASTE: [&str; 4] =
    ["--set", "default.api.timeout.ms=1500", "--set", "socket.connection.setup.timeout.ms=500"];

fn list(bootstrap: &str) -> String {
    run(&[&["topic", "list", "-b", bootstrap], &HASTE[..]].concat(), "").error(1)
}

#[test]
fn an_unknown_property_is_told_with_the_nearest_name() {
    let error = run(&["topic", "list", "--set", "bootstrap.server=x:1"], "").error(2);
    assert!(error.contains("\"bootstrap.server\" is not known"), "{error}");
    assert!(error.ends_with("did you mean bootstrap.servers?"), "{error}");
    let error = run(&["topic", "list", "--set", "nonsense"], "").error(2);
    assert!(error.contains("not of the form name=value"), "{error}");
    let error = run(&["topic", "list", "--bootstrap", "localhost"], "").error(2);
    assert!(error.contains("localhost") && error.contains("host:port"), "{error}");
}

#[test]
fn a_broken_properties_file_is_told_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (text, says) in [
        ("acks=all\nlinger.msx=5\n", "line 2: property \"linger.msx\" is not known; did you mean linger.ms?"),
        ("\n\nclient.id=\\u12\n", "line 3: \\u12 is not an escape of four hex digits"),
        ("acks=some\n", "acks=some"),
    ] {
        std::fs::write(path, text).unwrap();
        let error = run(&["produce", "t", "-c", path, "--set", "allow.auto.create.topics=true"], "").error(2);
        assert!(error.contains(says), "{error}");
    }
    let error = run(&["topic", "list", "-c", "/no/such/file"], "").error(2);
    assert!(error.contains("read properties file /no/such/file: No such file"), "{error}");
}

#[test]
fn a_broker_that_cannot_be_reached_is_told_with_address_and_cause() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = list(&format!("127.0.0.1:{port}"));
    assert!(error.contains(&format!("connect to 127.0.0.1:{port}")) && error.contains("refused"), "{error}");
    let error = list("no-such-host.invalid:9092");
    assert!(error.contains("no-such-host.invalid"), "{error}");
}

/// A server that answers the first bytes of each connection with `answer`.
fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 64];
            if stream.read(&mut request).is_ok() {
                // The client may have gone already.
                let _ = stream.write_all(answer);
            }
        }
    });
    address
}

#[test]
fn another_protocol_behind_the_port_is_named() {
    let http = list(&server(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    assert!(http.contains("speaks HTTP"), "{http}");
    let tls = list(&server(b"\x15\x03\x03\x00\x02\x02\x46"));
    assert!(tls.contains("speaks TLS") && tls.contains("security.protocol"), "{tls}");
}

#[test]
fn a_missing_topic_is_told_with_what_to_do() {
    let cluster = Cluster::with_topics(&[]);
    for command in ["produce", "consume"] {
        let error = cluster.run(&[command, "orders"], "x\n").error(1);
        assert!(error.contains("describe topic orders: UNKNOWN_TOPIC_OR_PARTITION"), "{error}");
        assert!(error.contains("`tidewater topic create orders`"), "{error}");
    }
}

#[test]
fn a_partition_that_is_not_there_is_told() {
    let cluster = Cluster::with_topics(&[("t", 2)]);
    let error = cluster.run(&["consume", "t", "-p", "2"], "").error(2);
    assert_eq!(error, "read partition 2 of topic t: it has 2 partitions, numbered from 0");
    let error = cluster.run(&["produce", "t", "-p", "2"], "x\n").error(1);
    assert!(
        error.starts_with("line 1 of standard input: ") && error.contains("partition 2 of t, which has 2"),
        "{error}"
    );
}

#[test]
fn an_oversized_record_is_told_with_its_line_and_the_limit() {
    let cluster = Cluster::with_topics(&[("t", 1)]);
    let large = "x".repeat(2 << 20);
    let written = cluster.run(&["produce", "t"], &format!("fits\n{large}\nnever read\n"));
    assert!(written.stderr.contains("1 records written to t"), "{written:?}");
    let error = written.error(1);
    assert!(error.starts_with("line 2 of standard input: "), "{error}");
    assert!(error.contains("max.request.size") && error.contains("1048576"), "{error}");
    assert_eq!(cluster.read("t", "%v"), ["fits"]);
}

#[test]
fn a_record_larger_than_the_broker_takes_is_told() {
    let cluster = Cluster::with_topics(&[]);
    cluster.ok(&["topic", "create", "t", "--topic-config", "max.message.bytes=1000"]);
    let error = cluster.run(&["produce", "t"], &"x".repeat(5000)).error(1);
    assert!(error.contains("MESSAGE_TOO_LARGE") && error.contains("t-0"), "{error}");
}

#[test]
fn what_makes_no_sense_is_usage() {
    for arguments in [
        &["consume", "t", "-o", "sometime"][..],
        &["consume", "t", "-f", "%y"],
        &["consume", "t", "-J", "-f", "%v"],
        &["produce", "t", "-z", "rar"],
        &["topic"],
        &["nonsense"],
    ] {
        let run = run(arguments, "");
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.starts_with("error: ") || run.stderr.contains("Usage:"), "{run:?}");
    }
}

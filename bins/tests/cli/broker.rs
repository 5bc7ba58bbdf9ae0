use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::{command, run};

/// `tidewater broker` as a process; killed with the test.
struct Broker(Child);

impl Broker {
    fn start(arguments: &[&str]) -> (Self, String) {
        let mut broker = command(&[&["broker", "--listen", "127.0.0.1:0"], arguments].concat());
        let mut child = broker.stdout(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let bootstrap = first.trim().strip_prefix("bootstrap.servers=").unwrap().to_owned();
        (Self(child), bootstrap)
    }

    fn end(&mut self, signal: &str) -> Option<i32> {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_broker_says_where_it_is_and_ends_when_told() {
    for signal in ["-INT", "-TERM"] {
        let (mut broker, bootstrap) = Broker::start(&["--topic", "orders:3", "--nodes", "2"]);
        assert_eq!(bootstrap.split(',').count(), 2);
        assert_eq!(run(&["topic", "list", "-b", &bootstrap], "").ok(), "orders\n");
        assert_eq!(broker.end(signal), Some(0), "{signal}");
    }
}

#[test]
fn a_folder_keeps_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", folder.path().to_str().unwrap(), "--topic", "t:1"];
    let (mut broker, bootstrap) = Broker::start(&data);
    run(&["produce", "t", "-b", &bootstrap], "kept\n").ok();
    assert_eq!(broker.end("-KILL"), None);
    let (_broker, bootstrap) = Broker::start(&data);
    assert_eq!(run(&["consume", "t", "-e", "-b", &bootstrap], "").ok(), "kept\n");
}

#[test]
fn an_address_in_use_is_an_error() {
    let (_broker, bootstrap) = Broker::start(&[]);
    let error = run(&["broker", "--listen", &bootstrap], "").error(1);
    assert!(error.starts_with(&format!("start the broker: listen on {bootstrap}")), "{error}");
    assert_eq!(run(&["broker", "--topic", "orders:none"], "").code, Some(2));
}

#[test]
fn a_file_of_users_that_cannot_be_used_is_named_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "alice:secret\nhidden-password\n").unwrap();
    let error = run(&["broker", "--users", users.to_str().unwrap()], "").error(2);
    assert!(error.contains("line 2: expected NAME:PASSWORD") && !error.contains("hidden"), "{error}");
    let missing = run(&["broker", "--users", "no-such-file"], "").error(2);
    assert!(missing.contains("no-such-file"), "{missing}");
    let missing =
        run(&["broker", "--tls-certificate", "no-such-file", "--tls-key", "no-such-key"], "").error(2);
    assert!(missing.contains("no-such"), "{missing}");
}

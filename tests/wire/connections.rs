//! Connections that cannot be had, or break.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kafka_wire::config::{ClientConfig, Properties};
use kafka_wire::{Admin, Error, ErrorKind};
use tidewater_broker::{Action, Options, Rule};

use crate::{admin, block_on, broker};

/// What describing the cluster says, with little patience.
fn failure(bootstrap: &str) -> Error {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", bootstrap).unwrap();
    properties.set("socket.connection.setup.timeout.ms", "200").unwrap();
    properties.set("default.api.timeout.ms", "1500").unwrap();
    let admin = Admin::from_properties(&properties).unwrap();
    block_on(admin.describe_cluster()).unwrap_err()
}

/// A server that answers whatever comes with `answer`; with an empty one, it says nothing and waits.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if answer.is_empty() {
                silent.push(stream);
                continue;
            }
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
fn another_protocol_behind_the_port_is_named_with_what_to_do() {
    let http = failure(&server(b"HTTP/1.1 400 Bad Request\r\n\r\n").to_string());
    assert!(http.kind() == ErrorKind::Protocol && http.to_string().contains("speaks HTTP"), "{http}");
    let tls = failure(&server(b"\x15\x03\x03\x00\x02\x02\x46").to_string());
    assert!(tls.kind() == ErrorKind::Protocol && tls.to_string().contains("speaks TLS"), "{tls}");
    assert!(tls.to_string().contains("security.protocol"), "{tls}");
    let nonsense = failure(&server(b"220 mail.example.com ESMTP\r\n").to_string());
    assert!(nonsense.to_string().contains("Kafka listener"), "{nonsense}");
}

#[test]
fn what_cannot_be_reached_is_said_with_address_and_cause() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = failure(&format!("127.0.0.1:{port}")).to_string();
    assert!(
        refused.contains(&format!("connect to 127.0.0.1:{port}")) && refused.contains("refused"),
        "{refused}"
    );
    let unknown = failure("no-such-host.invalid:9092").to_string();
    assert!(unknown.contains("no-such-host.invalid") && unknown.contains("bootstrap.servers"), "{unknown}");
    let silent = failure(&server(b"").to_string()).to_string();
    assert!(silent.contains("negotiate versions") && silent.contains("no Kafka listener"), "{silent}");
}

#[test]
fn one_good_server_among_bad_ones_is_enough() {
    let broker = broker(Options::default());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let servers = format!("no-such-host.invalid:9092,127.0.0.1:{port},{}", broker.bootstrap());
    let admin = Admin::new(ClientConfig::bootstrap(&servers).unwrap()).unwrap();
    assert_eq!(block_on(admin.describe_cluster()).unwrap().brokers.len(), 1);
}

#[test]
fn every_connection_may_break_again_and_again() {
    let broker = broker(Options { nodes: 2, ..Options::default() });
    let admin = admin(&broker);
    for _ in 0..5 {
        broker.add_rule(Rule::new(Action::Disconnect).times(3));
        assert_eq!(block_on(admin.describe_cluster()).unwrap().brokers.len(), 2);
    }
}

#[test]
fn a_broker_that_comes_back_is_found() {
    let first = broker(Options::default());
    let listen = first.addresses()[0].to_string();
    let admin = admin(&first);
    block_on(admin.describe_cluster()).unwrap();
    first.stop();
    let asked = thread::spawn(move || block_on(admin.describe_cluster()));
    let _second = broker(Options { listen, ..Options::default() });
    assert_eq!(asked.join().unwrap().unwrap().brokers.len(), 1);
}

#[test]
fn dropping_a_client_ends_what_is_under_way() {
    // One that is dialling, one that waits for versions, one that waits for an answer.
    let broker = broker(Options::default());
    broker.add_rule(Rule::new(Action::Ignore).api(tidewater_broker::ApiKey::Metadata));
    for bootstrap in ["10.255.255.1:9".to_owned(), server(b"").to_string(), broker.bootstrap()] {
        let admin = Admin::new(ClientConfig::bootstrap(&bootstrap).unwrap()).unwrap();
        let mut asked = Box::pin(async { admin.describe_cluster().await });
        let waker = std::task::Waker::noop();
        assert!(asked.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
        drop(asked);
        let (done, dropped) = mpsc::channel();
        thread::spawn(move || {
            drop(admin);
            done.send(()).unwrap();
        });
        // Only a guard against hanging for ever; a minute is far beyond any schedule.
        assert!(dropped.recv_timeout(Duration::from_secs(60)).is_ok(), "{bootstrap}");
    }
}

//! The cluster is not where it was, or is not there at all.

use super::*;
use crate::config::MetadataRecovery;

impl Sim {
    /// Negotiates versions with whoever is dialled, and answers nothing else, for this long.
    fn connect_only(&mut self, time: Duration) -> Vec<u16> {
        let (end, mut ports) = (self.now + time, Vec::new());
        while self.now < end {
            while let Some((connection, port)) = self.dialled.pop_front() {
                ports.push(port);
                self.connected(connection);
            }
            while let Some(request) = self.received.pop_front() {
                if request.request.api == ApiKey::ApiVersions {
                    self.answer(&request, &versions());
                }
            }
            self.pass(SECOND);
        }
        ports
    }

    /// Refuses whoever is dialled, for this long; how often that was.
    fn refuse_all(&mut self, time: Duration) -> usize {
        let (end, mut count) = (self.now + time, 0);
        while self.now < end {
            while let Some((connection, _)) = self.dialled.pop_front() {
                count += 1;
                self.refused(connection);
            }
            self.pass(Duration::from_millis(100));
        }
        count
    }
}

fn unbelievable() -> Error {
    Error::new(ErrorKind::Tls, "signed by nobody")
}

#[test]
fn one_bad_server_in_the_list_fails_no_call_while_another_works() {
    let mut sim = Sim::new("h:9000,h:9001");
    let token = sim.call(Target::Any, heartbeat(), 30 * SECOND);
    let (first, port) = sim.dialled.pop_front().unwrap();
    sim.disconnected(first, unbelievable());
    assert!(sim.engine.role.answers.is_empty());
    assert!(sim.engine.core().connect_error().is_none(), "nobody is to give up for it");
    sim.serve(if port == 9000 { 9001 } else { 9000 });
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.answer(&request, &HeartbeatResponse::default());
    assert!(sim.next_answer(token).is_ok());
}

#[test]
fn when_all_are_bad_the_call_hears_of_it_and_the_next_tries_them_all_again() {
    let mut sim = Sim::new("h:9000,h:9001");
    for _ in 0..2 {
        let token = sim.call(Target::Any, heartbeat(), 30 * SECOND);
        let mut ports = std::collections::BTreeSet::new();
        while sim.engine.role.answers.is_empty() {
            if let Some((connection, port)) = sim.dialled.pop_front() {
                ports.insert(port);
                sim.disconnected(connection, unbelievable());
            } else {
                sim.pass(Duration::from_millis(10));
            }
        }
        assert_eq!(sim.next_answer(token).unwrap_err().kind(), ErrorKind::Tls);
        assert_eq!(ports.into_iter().collect::<Vec<_>>(), [9000, 9001]);
    }
}

#[test]
fn of_a_bad_server_and_a_dead_one_the_bad_one_is_told() {
    let mut sim = Sim::new("h:9000,h:9001");
    let token = sim.call(Target::Any, heartbeat(), 5 * SECOND);
    while sim.engine.role.answers.is_empty() {
        match sim.dialled.pop_front() {
            Some((connection, 9000)) => sim.disconnected(connection, unbelievable()),
            Some((connection, _)) => sim.refused(connection),
            None => sim.pass(Duration::from_millis(10)),
        }
    }
    let error = sim.next_answer(token).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.to_string().contains("signed by nobody"), "{error}");
}

#[test]
fn wrong_credentials_are_wrong_everywhere() {
    let mut sim = Sim::new("h:9000,h:9001");
    let token = sim.call(Target::Any, heartbeat(), 30 * SECOND);
    let (first, _) = sim.dialled.pop_front().unwrap();
    sim.disconnected(first, Error::new(ErrorKind::Authentication, "wrong password"));
    assert_eq!(sim.next_answer(token).unwrap_err().kind(), ErrorKind::Authentication);
    assert_eq!(sim.engine.core().connect_error().unwrap().kind(), ErrorKind::Authentication);
}

/// KIP-1102.
#[test]
fn brokers_that_answer_no_metadata_for_long_are_forgotten() {
    for strategy in [MetadataRecovery::Rebootstrap, MetadataRecovery::None] {
        let mut config = ClientConfig::bootstrap("h:9000").unwrap();
        config.metadata_recovery = strategy;
        let mut sim = Sim::of(&config);
        sim.ask(|now, core| core.watch_topics(now, ["t".into()]));
        let first = sim.serve(9000);
        sim.serve_metadata(2, &[1]);
        sim.disconnected(first, Error::new(ErrorKind::Network, "reset"));
        sim.ask(|now, core| core.request_metadata(now));
        let ports = sim.connect_only(400 * SECOND);
        let known = sim.engine.core().cluster().brokers().len();
        match strategy {
            MetadataRecovery::Rebootstrap => assert!(known == 0 && ports.contains(&9000), "{ports:?}"),
            MetadataRecovery::None => assert!(known == 2 && !ports.contains(&9000), "{ports:?}"),
        }
    }
}

/// KIP-1102: a broker that has left its cluster says so, and is not asked again.
#[test]
fn a_broker_may_send_the_client_back_to_the_bootstrap_servers() {
    let mut sim = Sim::new("h:9001");
    sim.ask(|now, core| core.watch_topics(now, ["t".into()]));
    let connection = sim.serve(9001);
    sim.serve_metadata(1, &[1]);
    sim.ask(|now, core| core.request_metadata(now));
    sim.pass(SECOND);
    let asked = sim.next_request(ApiKey::Metadata);
    let waiting = sim.call(broker(1, Lane::Control), heartbeat(), 60 * SECOND);
    sim.next_request(ApiKey::Heartbeat);
    sim.answer(&asked, &MetadataResponse::default().with_error_code(129));
    assert_eq!(sim.closed, [connection]);
    assert_eq!(sim.engine.core().cluster().brokers().len(), 0);
    assert!(sim.next_answer(waiting).unwrap_err().is_retriable());
    sim.pass(2 * SECOND);
    sim.serve(9001);
    sim.serve_metadata(2, &[1]);
    assert_eq!(sim.engine.core().cluster().brokers().len(), 2);
}

/// KIP-601.
#[test]
fn connecting_may_take_longer_each_time() {
    let mut sim = Sim::new("h:9000");
    sim.call(Target::Any, heartbeat(), 600 * SECOND);
    for _ in 0..4 {
        sim.pass(2 * SECOND);
        let connection = sim.next_dial(9000);
        sim.disconnected(connection, Error::new(ErrorKind::Timeout, "late"));
    }
    assert_eq!(sim.patience, [10 * SECOND, 20 * SECOND, 30 * SECOND, 30 * SECOND]);
}

/// A name that no resolver knows fails a dial as this does; it is resolved anew with each.
#[test]
fn an_outage_of_15_minutes_costs_little_and_ends() {
    let mut sim = Sim::knowing(3);
    let (connections, dials) = ([ConnectionId(1)], 15 * 60);
    for connection in connections {
        sim.disconnected(connection, Error::new(ErrorKind::Network, "reset"));
    }
    let waiting = sim.call(Target::Any, heartbeat(), 3600 * SECOND);
    let count = sim.refuse_all(15 * 60 * SECOND);
    // Four servers, each at most every 0.8 s.
    assert!((dials / 2..4 * dials * 5 / 4).contains(&count), "{count} dials");
    sim.pass(2 * SECOND);
    let (connection, _) = sim.dialled.pop_front().unwrap();
    sim.connected(connection);
    let question = sim.next_request(ApiKey::ApiVersions);
    sim.answer(&question, &versions());
    while let Some(request) = sim.received.pop_front() {
        if request.request.api == ApiKey::Heartbeat {
            sim.answer(&request, &HeartbeatResponse::default());
        }
    }
    assert!(sim.next_answer(waiting).is_ok());
}

//! Answers that can be read and that no broker sends.

use super::*;

#[test]
fn answers_that_come_twice_or_out_of_order_or_to_nothing_end_the_connection() {
    for (order, expected) in [(&[2, 1][..], 0), (&[1, 1], 1), (&[1, 2, 2], 2), (&[1, 2, 99], 2)] {
        let mut sim = Sim::new("h:9000");
        let tokens = [0; 2].map(|_| sim.call(Target::Any, heartbeat(), SECOND));
        let connection = sim.serve(9000);
        let requests = [0; 2].map(|_| sim.next_request(ApiKey::Heartbeat));
        let first = requests[0].request.correlation_id;
        for number in order {
            let answer = HeartbeatResponse::default();
            let answer = encode_response(ApiKey::Heartbeat, 4, first - 1 + number, &answer).unwrap();
            sim.bytes(connection, &answer.concat());
        }
        assert_eq!(sim.closed, [connection], "{order:?}");
        for (index, token) in tokens.into_iter().enumerate() {
            match sim.next_answer(token) {
                Ok(_) => assert!(index < expected, "{order:?}"),
                Err(error) => assert!(index >= expected && error.is_retriable(), "{order:?}: {error}"),
            }
        }
    }
}

#[test]
fn a_coordinator_that_cannot_be_is_looked_up_again() {
    let change = |change: fn(&mut Coordinator)| {
        let mut answer = coordinator(0, 2);
        change(&mut answer.coordinators[0]);
        answer
    };
    let target = || Target::Coordinator { kind: CoordinatorKind::Group, key: "g".into() };
    for nonsense in [
        change(|found| found.port = 70_000),
        change(|found| found.port = 0),
        change(|found| found.port = -1),
        change(|found| found.host = StrBytes::new()),
        change(|found| found.host = StrBytes::from_string("h".repeat(256))),
        change(|found| found.node_id = WireBrokerId(-1)),
    ] {
        let mut sim = Sim::knowing(2);
        let token = sim.call(target(), heartbeat(), 30 * SECOND);
        let question = sim.next_request(ApiKey::FindCoordinator);
        sim.answer(&question, &nonsense);
        sim.pass(SECOND);
        let question = sim.next_request(ApiKey::FindCoordinator);
        let mut twice = coordinator(0, 2);
        twice.coordinators.extend(coordinator(0, 1).coordinators);
        sim.answer(&question, &twice);
        sim.serve(9002);
        let request = sim.next_request(ApiKey::Heartbeat);
        sim.answer(&request, &HeartbeatResponse::default());
        sim.next_answer(token).unwrap();
    }
    let mut sim = Sim::knowing(2);
    let token = sim.call(target(), heartbeat(), 30 * SECOND);
    let question = sim.next_request(ApiKey::FindCoordinator);
    sim.answer(&question, &change(|found| found.key = StrBytes::from_static_str("nobody's")));
    let error = sim.next_answer(token).unwrap_err();
    assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains("other keys"), "{error}");
}

#[test]
fn a_pause_of_less_than_nothing_is_none() {
    let mut sim = Sim::new("h:9000");
    sim.call(Target::Any, heartbeat(), SECOND);
    sim.serve(9000);
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.answer(&request, &HeartbeatResponse::default().with_throttle_time_ms(i32::MIN));
    sim.call(Target::Any, heartbeat(), SECOND);
    sim.next_request(ApiKey::Heartbeat);
}

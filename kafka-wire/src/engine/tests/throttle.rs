//! Brokers that ask for a pause (KIP-219).

use super::*;
use crate::metrics::Value;

#[test]
fn a_broker_that_asks_for_a_pause_gets_it_but_not_for_ever() {
    let mut sim = Sim::new("h:9000");
    sim.call(Target::Any, heartbeat(), 600 * SECOND);
    sim.serve(9000);
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.answer(&request, &HeartbeatResponse::default().with_throttle_time_ms(i32::MAX));
    sim.call(Target::Any, heartbeat(), 600 * SECOND);
    sim.pass(299 * SECOND);
    assert!(sim.received.is_empty());
    sim.pass(2 * SECOND);
    sim.next_request(ApiKey::Heartbeat);
}

/// It has read none of what is in flight, and reads it after the pause.
#[test]
fn what_is_in_flight_when_a_broker_asks_for_a_pause_is_answered_after_it() {
    let mut sim = Sim::new("h:9000");
    let first = sim.call(Target::Any, heartbeat(), 30 * SECOND);
    let second = sim.call(Target::Any, heartbeat(), 30 * SECOND);
    sim.serve(9000);
    let (request, later) = (sim.next_request(ApiKey::Heartbeat), sim.next_request(ApiKey::Heartbeat));
    sim.answer(&request, &HeartbeatResponse::default().with_throttle_time_ms(40_000));
    sim.next_answer(first).unwrap();
    sim.pass(45 * SECOND);
    assert_eq!(sim.closed, []);
    sim.answer(&later, &HeartbeatResponse::default());
    sim.next_answer(second).unwrap();
    let mut told = Vec::new();
    sim.engine.measure(sim.now, &mut |metric| {
        if metric.group == "test-throttle-metrics" {
            told.push((metric.name, metric.value));
        }
    });
    assert_eq!(told, [("avg", Value::Gauge(20_000.0)), ("max", Value::Gauge(40_000.0))]);
}

//! A member in an engine, as the tests of both protocols drive it.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{Event, Member};
use crate::engine::{Core, Role, Token};
use crate::error::Result;
use crate::metrics::{Groups, Sink};
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::{BrokerId, FindCoordinatorResponse};
use crate::protocol::request::Response;

/// A role that is a member and nothing else.
pub(super) struct Harness<M>(pub(super) M);

/// What a test does with the member.
pub(super) type Ask<M> = Box<dyn FnOnce(&mut M, Instant, &mut Core)>;

impl<M: Member> Role for Harness<M> {
    type Command = Ask<M>;
    const METRIC_GROUPS: Groups = Groups { client: "test-metrics", node: "test-node-metrics" };

    fn handle_command(&mut self, now: Instant, ask: Ask<M>, core: &mut Core) {
        ask(&mut self.0, now, core);
    }

    fn handle_response(&mut self, now: Instant, token: Token, result: Result<Response>, core: &mut Core) {
        assert!(self.0.handle_response(now, token, result, core).is_none(), "nobody else asks");
    }

    fn handle_progress(&mut self, now: Instant, core: &mut Core) {
        self.0.drive(now, core);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn measure(&self, _now: Instant, _sink: &mut Sink<'_>) {}
}

/// What has become of the membership next, in words; `ask` passes a question on to the member.
pub(super) fn next_event<M: Member>(ask: impl FnOnce(Ask<M>)) -> String {
    let slot = Arc::new(Mutex::new(None));
    let event = Arc::clone(&slot);
    ask(Box::new(move |member, _, _| *slot.lock().unwrap() = member.poll_event()));
    let event = event.lock().unwrap().take();
    match event {
        None => "none".to_owned(),
        Some(Event::Assigned(partitions)) => format!("assigned {partitions:?}"),
        Some(Event::Revoke(partitions)) => format!("revoke {partitions:?}"),
        Some(Event::Lost(partitions)) => format!("lost {partitions:?}"),
        Some(Event::Failed(error)) => format!("failed {error}"),
    }
}

/// Broker 1 coordinates group `g`.
pub(super) fn coordinator() -> FindCoordinatorResponse {
    let found = Coordinator::default()
        .with_key("g".into())
        .with_node_id(BrokerId(1))
        .with_host("h".into())
        .with_port(9001);
    FindCoordinatorResponse::default().with_coordinators(vec![found])
}

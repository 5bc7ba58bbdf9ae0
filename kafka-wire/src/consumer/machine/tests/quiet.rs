//! How often a consumer is woken that has nothing to read.

use super::*;
use crate::consumer::membership::Wanted;
use crate::consumer::pattern::TopicPattern;
use crate::engine::Output;

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    /// A member of a group whose pattern matches no topic.
    fn that_matches_none() -> Self {
        let mut world = Self::new(|config| config.group_id = Some("g".to_owned()));
        let pattern = TopicPattern::new("nothing.*").unwrap();
        world.command(Command::Subscribe(Wanted::Pattern(pattern)));
        while world.serve() {}
        world
    }

    /// Lets time pass while brokers answer, or while none can be reached; how often the machine was woken, and how
    /// often it dialled.
    fn wakes(&mut self, time: Duration, is_up: bool) -> (u32, u32) {
        let (end, mut wakes, mut dials) = (self.now + time, 0, 0);
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            assert!(due > self.now || wakes == 0, "it is always due: {:?}", self.engine.role());
            wakes += 1;
            self.now = due;
            self.engine.handle_timeout(due);
            while !is_up && let Some(output) = self.engine.poll_output() {
                if let Output::Dial { connection, .. } = output {
                    dials += 1;
                    let refused = Error::new(ErrorKind::Network, "connection refused");
                    self.engine.handle_disconnected(due, connection, refused);
                }
            }
            self.drain();
            while self.serve() {}
        }
        self.now = end;
        (wakes, dials)
    }
}

#[test]
fn a_pattern_that_matches_nothing_costs_a_wake_up_a_minute_at_most() {
    let mut world = World::that_matches_none();
    let (wakes, _) = world.wakes(60 * MINUTE, true);
    // It looks for new topics every 5 minutes (`metadata.max.age.ms`).
    assert!((12..60).contains(&wakes), "{wakes}");
}

#[test]
fn an_outage_costs_a_consumer_a_few_wake_ups_a_second() {
    let mut world = World::that_matches_none();
    world.assign_all(Position::End);
    // Fetches wait nowhere in this cluster: it would answer for ever.
    while world.incremental_fetches < 4 {
        assert!(world.serve());
    }
    world.pending.clear();
    for (connection, _) in std::mem::take(&mut world.connections) {
        let reset = Error::new(ErrorKind::Network, "reset");
        world.engine.handle_disconnected(world.now, connection, reset);
    }
    for minute in 1..=15 {
        let (wakes, dials) = world.wakes(MINUTE, false);
        // Two brokers, each with a connection for questions and one for fetches, and the bootstrap server; each is dialled
        // every 0.8 s at most, a few times more at first.
        assert!(dials <= 5 * 90 && wakes <= 1500, "minute {minute}: {wakes} wake-ups, {dials} dials");
        assert!(dials >= 40, "it does not give up: minute {minute}: {dials} dials");
    }
}

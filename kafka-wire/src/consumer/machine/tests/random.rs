//! Whatever happens.

use proptest::prelude::*;

use super::*;
use crate::consumer::model;

/// What happens between the cluster, the network and the application.
#[derive(Clone, Debug)]
enum Act {
    Serve(u8),
    Take(u8),
    Pass(u16),
    Happen(u8, Event),
    MoveLeader(u8),
    Disconnect,
    ForgetSessions,
    Damage(u16),
    Pause(u8, bool),
    SeekBack(u8),
    /// The other node is in the client's rack; it may lag behind by so much.
    Follow(u8, u8),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let part = || 0..PARTITIONS as u8;
    let act = prop_oneof![
        10 => (1..10u8).prop_map(Act::Serve),
        6 => (1..10u8).prop_map(Act::Take),
        3 => (0..400u16).prop_map(Act::Pass),
        8 => (part(), model::event()).prop_map(|(part, event)| Act::Happen(part, event)),
        1 => part().prop_map(Act::MoveLeader),
        1 => Just(Act::Disconnect),
        1 => Just(Act::ForgetSessions),
        1 => (0..400u16).prop_map(Act::Damage),
        2 => (part(), any::<bool>()).prop_map(|(part, paused)| Act::Pause(part, paused)),
        1 => part().prop_map(Act::SeekBack),
        1 => (part(), 0..4u8).prop_map(|(part, lag)| Act::Follow(part, lag)),
    ];
    proptest::collection::vec(act, 0..120)
}

impl World {
    fn act(&mut self, act: Act) {
        match act {
            Act::Serve(count) => (0..count).for_each(|_| {
                self.serve();
            }),
            Act::Take(count) => self.take(count.into()),
            Act::Pass(ms) => self.pass(Duration::from_millis(ms.into())),
            Act::Happen(part, event) => {
                if !matches!(event, Event::NewLeader) {
                    self.parts[usize::from(part)].log.apply(&event);
                }
            }
            Act::Follow(number, lag) => {
                let part = &mut self.parts[usize::from(number)];
                part.follower = Some((1 + part.leader % NODES, part.log.high_watermark() - i64::from(lag)));
            }
            Act::MoveLeader(part) => self.move_leader(part.into()),
            Act::Disconnect => self.disconnect_all(),
            Act::ForgetSessions => self.sessions.clear(),
            // The third time in a row it would count as damage of the log.
            Act::Damage(at) if self.damaged_max() < 2 => self.flip = Some(at.into()),
            Act::Damage(_) => {}
            Act::Pause(part, paused) => self.pause(part.into(), paused),
            Act::SeekBack(part) => {
                self.seen[usize::from(part)].clear();
                self.assign(part.into(), 0);
            }
        }
    }

    /// How often in a row a partition was fetched damaged.
    fn damaged_max(&self) -> u32 {
        let assignment = &self.engine.role().assignment;
        let damaged = |number| assignment.get(&partition(number)).map_or(0, |assigned| assigned.damaged);
        (0..PARTITIONS).map(damaged).max().unwrap_or(0)
    }

    fn pause(&mut self, number: i32, paused: bool) {
        let mut buffers = self.buffers.lock();
        let rewound = if paused {
            buffers.pause(&partition(number)).unwrap()
        } else {
            buffers.resume(&partition(number));
            None
        };
        drop(buffers);
        self.command(Command::Pause(vec![partition(number)], paused));
        if let Some((generation, at)) = rewound {
            self.command(Command::Assign(vec![(partition(number), generation, at.into())]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_each_record_is_seen_once_and_in_order(
        acts in acts(),
        committed: bool,
        keeps_sessions: bool,
        has_rack: bool,
        fetch_version in prop_oneof![Just(6), Just(11), Just(12), Just(13), Just(17)],
    ) {
        let isolation = if committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        let mut world = World::new(|config| {
            config.isolation = isolation;
            config.client.client_rack = has_rack.then(|| "r".to_owned());
        });
        world.keeps_sessions = keeps_sessions && fetch_version >= 7;
        world.fetch_version = fetch_version;
        world.assign_all(Position::Beginning);
        for act in acts {
            world.act(act);
        }
        (0..PARTITIONS).for_each(|number| world.pause(number, false));
        world.flip = None;
        world.settle();
        prop_assert!(world.errors.is_empty(), "{:?}", world.errors);
        for (index, part) in world.parts.iter().enumerate() {
            prop_assert_eq!(&world.seen[index], &part.log.expected(0, isolation), "partition {}", index);
        }
        let buffers = world.buffers.lock();
        for (index, part) in world.parts.iter().enumerate() {
            let position = buffers.position(&partition(index as i32)).unwrap().unwrap();
            let end = if committed { part.log.last_stable_offset() } else { part.log.high_watermark() };
            prop_assert!(position.offset <= end);
        }
    }
}

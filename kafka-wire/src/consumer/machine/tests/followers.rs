//! Fetching from the closest replica (KIP-392).

use super::*;

const FAR: i64 = 1 << 40;

/// Partition 0 is led by node 1, and node 2 is in the client's rack; it has everything up to `reached`.
fn world(rack: Option<&str>, reached: i64) -> World {
    let mut world = World::new(|config| config.client.client_rack = rack.map(str::to_owned));
    world.parts[0].follower = Some((2, reached));
    world.append(0, 3);
    world.assign(0, Position::Beginning);
    world.settle();
    world
}

fn asked(world: &World, node: i32) -> usize {
    world.asked.get(&(node, 0)).copied().unwrap_or_default()
}

fn assert_all_seen(world: &World) {
    assert_eq!(world.seen[0], world.parts[0].log.expected(0, world.config.isolation));
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_client_with_a_rack_reads_from_the_follower_it_is_sent_to() {
    let world = world(Some("r"), FAR);
    assert_all_seen(&world);
    assert!(asked(&world, 2) > 0);
    assert_eq!(asked(&world, 1), 1);
}

#[test]
fn a_client_without_a_rack_reads_from_the_leader() {
    let world = world(None, FAR);
    assert_all_seen(&world);
    assert_eq!(asked(&world, 2), 0);
}

#[test]
fn when_the_follower_fails_the_leader_is_asked_again() {
    let mut world = world(Some("r"), FAR);
    world.parts[0].follower = None;
    world.append(0, 2);
    world.settle();
    assert_all_seen(&world);
    assert!(asked(&world, 1) > 1);
}

#[test]
fn a_follower_that_lags_behind_is_no_loss_of_data() {
    let mut world = world(Some("r"), FAR);
    let (before, next) = (world.parts[0].log.high_watermark(), world.next[0]);
    assert_eq!(next, Some(before));
    world.parts[0].follower = Some((2, before - 1));
    world.append(0, 2);
    for _ in 0..10 {
        world.serve();
    }
    // The leader knows by now that it has fallen behind.
    world.parts[0].follower = None;
    world.settle();
    assert_all_seen(&world);
}

#[test]
fn the_leader_is_asked_for_a_better_replica_once_in_a_while() {
    let mut world = world(Some("r"), FAR);
    world.settle();
    assert_eq!(asked(&world, 1), 1);
    world.pass(world.config.client.metadata_max_age);
    world.append(0, 2);
    world.settle();
    assert_all_seen(&world);
    assert_eq!(asked(&world, 1), 2);
}

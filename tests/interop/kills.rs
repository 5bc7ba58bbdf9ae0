//! Exactly once on real Kafka: job and brokers die by SIGKILL, again and again.

use std::time::Duration;

use tidewater_tests::kills::{Campaign, kills_or, seed};
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

#[test]
fn each_window_once_whenever_the_job_is_killed() {
    if !real_kafka::available() {
        return;
    }
    let cluster = Cluster::start(Options::new(Version::V4_3, 1));
    let campaign = Campaign {
        name: "kills-real",
        bootstrap: &cluster.bootstrap(),
        seed: seed(),
        kills: kills_or(24),
        broker_kill_every: 0,
        kill_broker: &mut |_| {},
    };
    campaign.run().check_phases();
}

#[test]
fn each_window_once_whenever_job_and_brokers_are_killed() {
    if !real_kafka::available() {
        return;
    }
    const NODES: u64 = 3;
    // A dead broker is noticed sooner than by default, so that the test is not mostly waiting.
    let options = Options::new(Version::V4_3, NODES as usize).property("broker.session.timeout.ms", "4000");
    let cluster = Cluster::start(options.property("broker.heartbeat.interval.ms", "500"));
    let campaign = Campaign {
        name: "kills-brokers",
        bootstrap: &cluster.bootstrap(),
        seed: seed(),
        kills: 6,
        broker_kill_every: 2,
        kill_broker: &mut |drawn| {
            let node = (drawn % NODES) as usize;
            cluster.kill(node);
            std::thread::sleep(Duration::from_millis(drawn / NODES % 8_000));
            cluster.start_node(node);
            wait_until_replicated(&cluster);
        },
    };
    campaign.run();
}

/// With two nodes of three gone, Kafka itself could not go on.
fn wait_until_replicated(cluster: &Cluster) {
    let behind = |_| {
        let described = cluster.tool("TopicCommand", &["--describe", "--under-replicated-partitions"]);
        !described.trim().is_empty()
    };
    assert!(!(0..60).all(behind), "the killed node does not come back:\n{}", cluster.logs());
}

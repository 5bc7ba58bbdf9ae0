//! Exactly once on real Kafka, by both transaction protocols.

use tidewater_tests::real_kafka::{self, Cluster, Options, Version};
use tidewater_tests::{crashes, jobs};

#[test]
fn job_of_a_child() {
    jobs::run_child();
}

const CHILD: &str = "exactly_once::job_of_a_child";

#[test]
fn killed_at_each_place_it_goes_on_as_if_nothing_had_happened_by_protocol_2() {
    if real_kafka::available() {
        crashes::everywhere(&Cluster::start(Options::new(Version::V4_3, 1)).bootstrap(), CHILD);
    }
}

#[test]
fn killed_at_each_place_it_goes_on_as_if_nothing_had_happened_by_protocol_1() {
    if real_kafka::available() {
        crashes::everywhere(&Cluster::start(Options::new(Version::V3_9, 1)).bootstrap(), CHILD);
    }
}

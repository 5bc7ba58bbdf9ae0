//! Exactly once, whatever happens.

use dataflow::testing::broker;
use tidewater_tests::{crashes, jobs};

#[test]
fn job_of_a_child() {
    jobs::run_child();
}

#[test]
fn killed_at_each_place_it_goes_on_as_if_nothing_had_happened() {
    let broker = broker(&[]).unwrap();
    crashes::everywhere(&broker.bootstrap(), "exactly_once::job_of_a_child");
}

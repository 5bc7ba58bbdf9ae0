//! Groups as Kafka's own assignors divide them (`Assignments.java`, kafka-clients 4.3.0); the client's unit tests
//! compare theirs with the checked-in file.

use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Version};

use crate::{assert_current, program};

#[test]
fn the_assignments_are_those_that_kafkas_assignors_make() {
    if !real_kafka::available() {
        return;
    }
    let authored = java::run(&real_kafka::jars(Version::V4_3), &program("Assignments.java"), &[]);
    assert_current("tests/vectors/assignments.txt", &authored);
}

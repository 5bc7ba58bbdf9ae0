//! The harness itself: without it nothing else in this binary means anything.

use tidewater_tests::real_kafka::{self, Cluster, Version};

#[test]
fn three_nodes_come_up_and_serve_kafkas_own_tools() {
    if !real_kafka::available() {
        return;
    }
    let cluster = Cluster::shared(Version::V4_3, 3);
    cluster.create_topic("harness", 4);
    let description = cluster.tool("TopicCommand", &["--describe", "--topic", "harness"]);
    assert!(
        description.contains("PartitionCount: 4") && description.contains("ReplicationFactor: 3"),
        "{description}"
    );
}

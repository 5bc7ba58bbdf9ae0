//! The harness itself: without it nothing else in this binary means anything.

use tidewater_tests::proxy::Fault;
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

#[test]
fn three_nodes_come_up_and_serve_kafkas_own_tools_through_the_proxy() {
    if !real_kafka::available() {
        return;
    }
    const CREATE_TOPICS: i16 = 19;
    let cluster = Cluster::start(Options::new(Version::V4_3, 3).proxied());
    cluster.proxy().rule(CREATE_TOPICS, 0, 1, Fault::LoseRequest);
    cluster.create_topic("harness", 4);
    assert_eq!(cluster.proxy().hits(CREATE_TOPICS), 1, "Kafka's tool did not go through the proxy");
    let description = cluster.tool("TopicCommand", &["--describe", "--topic", "harness"]);
    assert!(
        description.contains("PartitionCount: 4") && description.contains("ReplicationFactor: 3"),
        "{description}"
    );
}

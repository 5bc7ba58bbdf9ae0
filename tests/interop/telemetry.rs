//! Figures that brokers ask clients for (KIP-714), as a receiver in a real broker gets them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_wire::admin::ConfigResourceKind;
use kafka_wire::{ConfigChange, ConfigResource, NewTopic, Producer, Record};
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

use crate::support::{admin, create, producer_config, run, wait_until};

const RECORDS: f64 = 30.0;
const SENT: &str = "org.apache.kafka.producer.record.send.total";

/// One figure that the broker was told.
#[derive(Debug)]
struct Told {
    is_last: bool,
    name: String,
    kind: String,
    value: f64,
}

fn told(file: &Path, client: &str) -> Vec<Told> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let lines = whole.lines().filter_map(|line| line.strip_prefix(client)?.strip_prefix(' '));
    let lines = lines.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[4], "true", "it has a time: {line}");
        let (name, kind) = (words[1].to_owned(), words[2].to_owned());
        Told { is_last: words[0] == "true", name, kind, value: words[3].parse().expect("a number") }
    });
    lines.collect()
}

fn cluster(folder: &Path) -> (Cluster, PathBuf) {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop/TelemetryWitness.java");
    java::compile(&real_kafka::jars(Version::V4_3), &source, folder);
    let file = folder.join("figures.txt");
    let options = Options::new(Version::V4_3, 1)
        .classes(folder)
        .property("metric.reporters", "TelemetryWitness")
        .property("telemetry.witness.file", &file.to_string_lossy());
    (Cluster::start(options), file)
}

#[test]
fn a_broker_gets_the_figures_it_subscribes_to() {
    if !real_kafka::available() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (cluster, file) = cluster(folder.path());
    run(async {
        let set = |name: &str, value: &str| ConfigChange::Set { name: name.into(), value: value.into() };
        let changes = vec![set("interval.ms", "200"), set("metrics", "org.apache.kafka.producer.")];
        let subscription = ConfigResource::new(ConfigResourceKind::ClientMetrics, "of-producers");
        let results = admin(&cluster).incremental_alter_configs([(subscription, changes)]).await;
        for (_, result) in results.expect("subscribe") {
            result.expect("subscribe");
        }
        create(&cluster, NewTopic::new("measured", 1)).await;
        let producer = Producer::new(producer_config(&cluster, "measured")).expect("a producer");
        for _ in 0..RECORDS as usize {
            producer.send(Record::to("measured").value("value")).await.expect("send");
        }
        let sum =
            |told: &[Told]| told.iter().filter(|told| told.name == SENT).map(|told| told.value).sum::<f64>();
        wait_until("the broker knows of all records", async || sum(&told(&file, "measured")) >= RECORDS)
            .await;
        producer.close(Duration::from_secs(30)).await.expect("close");
        wait_until("it has the last figures", async || {
            told(&file, "measured").iter().any(|told| told.is_last)
        })
        .await;
        let all = told(&file, "measured");
        // Kafka asks for what has been added since the last time.
        assert!(all.iter().filter(|told| told.name == SENT).all(|told| told.kind == "1m"), "{all:?}");
        assert_eq!(sum(&all), RECORDS, "{all:?}");
        assert!(all.iter().all(|told| told.name.starts_with("org.apache.kafka.producer.")), "{all:?}");
        assert!(all.iter().any(|told| told.kind == "gauge"), "{all:?}");
        assert!(told(&file, "administration").is_empty(), "nobody asked for other clients' figures");

        let mut silent = producer_config(&cluster, "silent");
        silent.client.enable_metrics_push = false;
        let silent = Producer::new(silent).expect("a producer");
        silent.send(Record::to("measured").value("value")).await.expect("send");
        silent.close(Duration::from_secs(30)).await.expect("close");
        assert!(told(&file, "silent").is_empty());
    });
}

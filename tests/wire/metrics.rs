//! A client's figures and spans, as whoever installs a recorder of the `metrics` facade, or a subscriber of
//! `tracing`, sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use kafka_wire::admin::ConfigResourceKind;
use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{
    Admin, ConfigChange, ConfigResource, Consumer, NewTopic, Position, Producer, Record, TopicPartition,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tidewater_broker::Options;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::broker;

/// The recorder of this process; clients of other tests publish into it, too.
fn recorder() -> &'static Snapshotter {
    static RECORDER: OnceLock<Snapshotter> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder.install().expect("the only recorder");
        snapshotter
    })
}

/// All figures of a client, by name and labels (but `client-id`).
fn figures(client_id: &str, seen: &mut BTreeMap<String, f64>) {
    for (key, _, _, value) in recorder().snapshot().into_vec() {
        let labels: Vec<(&str, &str)> =
            key.key().labels().map(|label| (label.key(), label.value())).collect();
        if !labels.contains(&("client-id", client_id)) {
            continue;
        }
        let others = labels.iter().filter(|(name, _)| *name != "client-id");
        let others: String = others.map(|(name, value)| format!(" {name}={value}")).collect();
        let value = match value {
            DebugValue::Counter(value) => value as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => continue,
        };
        let name = format!("{}{others}", key.key().name());
        // A snapshot takes what counters have gained since the last.
        let latest = seen.entry(name).or_default();
        *latest = if key.key().name().ends_with("-total") { latest.max(value) } else { value };
    }
}

async fn wait_for(client_id: &str, name: &str, value: f64) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    for _ in 0..600 {
        figures(client_id, &mut seen);
        if seen.get(name) == Some(&value) {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} of {client_id} never became {value}: {seen:#?}");
}

#[tokio::test]
async fn what_clients_do_is_told_under_javas_names() {
    recorder();
    let broker = broker(Options::default());
    let client = |id: &str| {
        let mut client = ClientConfig::bootstrap(&broker.bootstrap()).expect("addresses");
        client.client_id = id.to_owned();
        client
    };
    let admin = Admin::new(client("measured-admin")).expect("an admin client");
    for (_, created) in admin.create_topics([NewTopic::new("measured", 2)]).await.expect("create") {
        created.expect("created");
    }
    let config = ProducerConfig { client: client("measured-producer"), ..Default::default() };
    let producer = Producer::new(config).expect("a producer");
    for i in 0..1000 {
        let value = format!("value {i}");
        producer.enqueue(Record::to("measured").partition(i % 2).value(&value)).await.expect("enqueue");
    }
    producer.flush().await;
    let told = wait_for("measured-producer", "kafka.producer-metrics.record-send-total", 1000.0).await;
    let figure = |told: &BTreeMap<String, f64>, name: &str| {
        *told.get(name).unwrap_or_else(|| panic!("{name} is not among {told:#?}"))
    };
    assert!(figure(&told, "kafka.producer-metrics.byte-total") > 8000.0);
    assert_eq!(figure(&told, "kafka.producer-metrics.record-error-total"), 0.0);
    assert!(figure(&told, "kafka.producer-metrics.batch-size-avg") > 61.0);
    assert!(figure(&told, "kafka.producer-metrics.connection-creation-total") >= 1.0);
    assert!(figure(&told, "kafka.producer-node-metrics.request-total node-id=node-0") >= 1.0);
    assert!(told.contains_key("kafka.producer-metrics.record-send-rate"), "{told:#?}");

    let config = ConsumerConfig { client: client("measured-consumer"), ..Default::default() };
    let mut consumer = Consumer::new(config).expect("a consumer");
    let partitions =
        [0, 1].map(|partition| (TopicPartition::new("measured", partition), Position::Beginning));
    consumer.assign(partitions).expect("assign");
    let mut read = 0;
    while read < 1000 {
        read += consumer.poll(Duration::from_secs(10)).await.expect("poll").len();
    }
    let total = "kafka.consumer-fetch-manager-metrics.records-consumed-total";
    let told = wait_for("measured-consumer", total, 1000.0).await;
    assert_eq!(figure(&told, &format!("{total} topic=measured")), 1000.0);
    assert_eq!(figure(&told, "kafka.consumer-fetch-manager-metrics.records-lag-max"), 0.0);
    let lag = "kafka.consumer-fetch-manager-metrics.records-lag topic=measured partition=1";
    assert_eq!(figure(&told, lag), 0.0);
    // Nothing more comes: the rate falls to nothing.
    let rate = "kafka.consumer-fetch-manager-metrics.bytes-consumed-rate";
    wait_for("measured-consumer", rate, 0.0).await;
}

/// How many spans have begun and ended, by name and, where they have one, partition.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<String, (usize, usize)>>>);

/// A span's name in [`Spans`].
struct Named(String);

impl Visit for Named {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "partition" {
            self.0 += &format!(" {value:?}");
        }
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut named = Named(attributes.metadata().name().to_owned());
        attributes.record(&mut named);
        self.0.lock().unwrap().entry(named.0.clone()).or_default().0 += 1;
        context.span(id).expect("the span").extensions_mut().insert(named);
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("the span");
        let name = span.extensions().get::<Named>().map(|named| named.0.clone());
        // Spans that began before the subscriber came have no name here.
        if let Some(name) = name {
            self.0.lock().unwrap().entry(name).or_default().1 += 1;
        }
    }
}

#[test]
fn requests_and_batches_are_spans_that_end() {
    let spans = Spans::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans.clone()))
        .expect("the only subscriber");
    let broker = broker(Options::default().with_topic("traced", 1));
    super::consumer_reads::write(&broker, "traced", 0..10);
    let mut consumer = super::consumer_reads::consumer(&broker, |_| {});
    consumer.assign([(TopicPartition::new("traced", 0), Position::Beginning)]).unwrap();
    let batch = consumer.poll_blocking(Duration::from_secs(30)).unwrap();
    let seen = |name: &str| spans.0.lock().unwrap().get(name).copied().unwrap_or_default();
    assert_eq!(seen("fetched_batch traced-0"), (1, 0), "the batch is still held");
    drop(batch);
    assert_eq!(seen("fetched_batch traced-0"), (1, 1));
    let (begun, ended) = seen("produce_batch traced-0");
    assert!(begun > 0 && begun == ended, "{begun} batches begun, {ended} ended");
    let (begun, ended) = seen("request");
    assert!(begun > 2 && ended > 2, "{begun} requests begun, {ended} ended");
}

#[tokio::test]
async fn a_broker_gets_the_figures_that_it_asks_for() {
    const SENT: &[u8] = b"org.apache.kafka.producer.record.send.total";
    let broker = broker(Options { telemetry: true, ..Options::default() }.with_topic("measured", 1));
    let subscription = ConfigResource::new(ConfigResourceKind::ClientMetrics, "of-producers");
    let changes = vec![
        ConfigChange::set("interval.ms", "100"),
        ConfigChange::set("metrics", "org.apache.kafka.producer.record."),
        ConfigChange::set("match", "client_id=told,client_software_name=tidewater-kafka"),
    ];
    super::admin(&broker).incremental_alter_configs([(subscription, changes)]).await.unwrap();
    let [told, silent] = ["told", "silent"].map(|client_id| {
        let mut client = ClientConfig::bootstrap(&broker.bootstrap()).unwrap();
        client.client_id = client_id.to_owned();
        Producer::new(ProducerConfig { client, ..Default::default() }).unwrap()
    });
    for producer in [&told, &silent] {
        producer.send(Record::to("measured").value("value")).await.unwrap();
    }
    let pushed = || broker.control(|cluster, _| cluster.pushed_metrics());
    while pushed().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for producer in [told, silent] {
        producer.close(Duration::from_secs(30)).await.unwrap();
    }
    let pushed = pushed();
    assert!(pushed.iter().all(|pushed| pushed.client_id == "told"), "{pushed:?}");
    let has_sent = |payload: &[u8]| payload.windows(SENT.len()).any(|name| name == SENT);
    assert!(pushed.iter().any(|pushed| has_sent(&pushed.payload)), "{pushed:?}");
}

//! Where a job begins and goes on, and what it refuses to begin with.

use dataflow::format::{Bytes, PoisonPolicy};
use dataflow::testing::TestClient;
use dataflow::{ErrorKind, Job, KafkaSink, KafkaSource, Outcome, Settings, StartAt};
use futures_executor::block_on;
use kafka_wire::config::{ClientConfig, ConsumerConfig};
use kafka_wire::{Admin, CommittedOffset, Consumer, TopicPartition};

use crate::rig::{Rig, Running, copy};

fn admin(rig: &Rig) -> Admin {
    Admin::new(ClientConfig::bootstrap(&rig.broker.bootstrap()).unwrap()).unwrap()
}

/// Commits offsets for the job's group, as some other program would.
fn commit_for_group(rig: &Rig, offsets: [i64; 2]) {
    let client = ClientConfig::bootstrap(&rig.broker.bootstrap()).unwrap();
    let config = ConsumerConfig { client, group_id: Some("job".to_owned()), ..ConsumerConfig::default() };
    let consumer = Consumer::new(config).unwrap();
    let offsets = (0..).zip(offsets).map(|(partition, offset)| {
        let committed = CommittedOffset { offset, leader_epoch: None, metadata: String::new() };
        (TopicPartition::new("in", partition), committed)
    });
    block_on(consumer.commit_offsets(offsets)).unwrap();
}

#[test]
fn a_job_goes_on_where_it_stopped_with_other_workers() {
    let rig = Rig::new();
    rig.write(0..100);
    let first = Running::start(copy(), rig.settings());
    first.until_written(100);
    first.stop();
    rig.write(100..200);
    let second = Running::start(copy(), Settings { workers: 3, ..rig.settings() });
    second.until_written(100);
    second.stop();
    let ended = copy().run(Settings { workers: 2, ..rig.bounded() }).unwrap();
    assert!(matches!(ended, Outcome::Finished { .. }));
    assert_eq!(rig.committed(), (0..200).collect::<Vec<_>>());
}

#[test]
fn d5_offsets_without_a_manifest_are_refused_taken_over_or_left_behind() {
    let rig = Rig::new();
    rig.write(0..100);
    let ends = block_on(async {
        let wanted = (0..2).map(|p| (TopicPartition::new("in", p), kafka_wire::OffsetSpec::Latest));
        let listed = admin(&rig).list_offsets(wanted, kafka_wire::Isolation::ReadCommitted).await.unwrap();
        listed.into_iter().map(|(_, listed)| listed.unwrap().offset.unwrap()).collect::<Vec<_>>()
    });
    commit_for_group(&rig, [ends[0], ends[1]]);
    rig.write(100..150);
    let error = copy().run(rig.bounded()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.to_string().contains("there is no manifest; to go on from these offsets use --start group"),
        "{error}"
    );
    copy().run(Settings { start: StartAt::Group, ..rig.bounded() }).unwrap();
    assert_eq!(rig.committed(), (100..150).collect::<Vec<_>>());
    copy().run(Settings { fresh: true, ..rig.bounded() }).unwrap();
    let all = (0..150).chain(100..150);
    let mut all: Vec<u32> = all.collect();
    all.sort_unstable();
    assert_eq!(rig.committed(), all);
}

#[test]
fn d5_the_manifest_wins_over_offsets_that_somebody_has_moved() {
    let rig = Rig::new();
    rig.write(0..50);
    let job = Running::start(copy(), rig.settings());
    job.until_written(50);
    job.stop();
    let group = block_on(admin(&rig).list_committed_offsets("job")).unwrap();
    assert_eq!(
        group.values().map(|committed| committed.offset).sum::<i64>(),
        50,
        "lag tools see where it is"
    );
    commit_for_group(&rig, [0, 0]);
    rig.write(50..60);
    copy().run(rig.bounded()).unwrap();
    assert_eq!(rig.committed(), (0..60).collect::<Vec<_>>());
}

#[test]
fn d5_a_finished_job_stays_finished_until_it_is_begun_anew() {
    let rig = Rig::new();
    rig.write(0..10);
    let Outcome::Finished { epoch } = copy().run(rig.bounded()).unwrap() else { panic!("not finished") };
    rig.write(10..20);
    assert_eq!(copy().run(rig.bounded()).unwrap(), Outcome::Finished { epoch });
    assert_eq!(rig.committed(), (0..10).collect::<Vec<_>>());
}

#[test]
fn d4_6_a_new_partition_is_found_and_read_from_its_start() {
    let rig = Rig::new();
    rig.write(0..20);
    let job = Running::start(copy(), Settings { workers: 2, ..rig.settings() });
    job.until_written(20);
    block_on(admin(&rig).create_partitions([("in", 5)]))
        .unwrap()
        .into_iter()
        .for_each(|(_, done)| done.unwrap());
    rig.write(20..200);
    job.until_written(180);
    job.stop();
    assert_eq!(rig.committed(), (0..200).collect::<Vec<_>>());
    copy().run(rig.bounded()).unwrap();
    assert_eq!(rig.committed(), (0..200).collect::<Vec<_>>(), "the manifest has the new partitions");
}

fn numbers(poison: PoisonPolicy) -> Job {
    let mut job = Job::new("numbers");
    job.source(KafkaSource::json::<u32>("in").poison(poison)).sink(KafkaSink::json("out"));
    job
}

#[test]
fn poison_stops_the_job_and_is_named_or_is_skipped_if_that_was_said() {
    let rig = Rig::new();
    rig.client.write("in", [("a", "1"), ("a", "poison"), ("a", "3")]).unwrap();
    let error = numbers(PoisonPolicy::Stop).run(rig.bounded()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    let partition = kafka_wire::partition_for_key(b"a", 2);
    let place = format!("read topic \"in\" partition {partition} offset 1: read JSON");
    let text = error.to_string();
    assert!(text.contains(&place) && text.contains("`poison`") && text.contains("dead-letter"), "{text}");
    assert!(rig.committed().is_empty(), "nothing of its epoch is committed");
    numbers(PoisonPolicy::Skip).run(rig.bounded()).unwrap();
    assert_eq!(rig.committed(), [1, 3]);
}

#[test]
fn poison_may_go_to_a_dead_letter_topic_in_the_same_transaction() {
    let rig = Rig::new();
    rig.client.create("dead", 1).unwrap();
    rig.client.write("in", [("a", "1"), ("a", "poison"), ("a", "3")]).unwrap();
    let mut job = Job::new("numbers");
    let read = job.source(KafkaSource::json::<u32>("in").or_poison());
    read.clone().flat_map(Result::err).map(|poison| poison.value).sink(KafkaSink::of("dead", Bytes));
    read.flat_map(Result::ok).sink(KafkaSink::json("out"));
    job.run(rig.bounded()).unwrap();
    assert_eq!(rig.committed(), [1, 3]);
    assert_eq!(rig.client.read_committed("dead").unwrap(), [b"poison"]);
}

#[test]
fn a_missing_topic_is_named() {
    let rig = Rig::new();
    for (input, output, missing) in
        [("nowhere", "out", "read topic \"nowhere\""), ("in", "void", "write topic \"void\"")]
    {
        let mut job = Job::new("lost");
        job.source(KafkaSource::string(input)).sink(KafkaSink::string(output));
        let error = job.run(rig.bounded()).unwrap_err().to_string();
        assert!(error.starts_with(missing) && error.contains("does not exist; create it first"), "{error}");
    }
}

#[test]
fn records_that_are_gone_before_they_were_read_stop_the_job() {
    let rig = Rig::new();
    rig.write(0..40);
    let job = Running::start(copy(), rig.settings());
    job.until_written(40);
    job.stop();
    rig.write(40..80);
    for partition in 0..2 {
        let all = [(TopicPartition::new("in", partition), None)];
        block_on(admin(&rig).delete_records(all)).unwrap();
    }
    rig.write(80..90);
    let error = copy().run(rig.bounded()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
    assert!(error.to_string().contains("gone from Kafka"), "{error}");
    assert_eq!(rig.committed(), (0..40).collect::<Vec<_>>());
}

#[test]
fn a_topic_created_anew_is_refused() {
    let rig = Rig::new();
    rig.write(0..40);
    let job = Running::start(copy(), rig.settings());
    job.until_written(40);
    job.stop();
    block_on(admin(&rig).delete_topics(["in"])).unwrap();
    rig.client.create("in", 2).unwrap();
    rig.write(0..80);
    let error = copy().run(rig.bounded()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("the topic was deleted and created anew"), "{error}");
}

#[test]
fn an_id_that_is_no_topic_name_and_an_unreachable_broker_are_said_at_once() {
    let rig = Rig::new();
    let mut settings = rig.bounded();
    settings.config.job_id = Some("my job".to_owned());
    let error = copy().run(settings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("use \"my job\" as the id of a job; it becomes part of a topic's name"),
        "{error}"
    );
    let port = tidewater_tests::process::free_ports(1).unwrap()[0];
    let client = TestClient::new(&format!("127.0.0.1:{port}")).unwrap();
    let mut config = client.config().unwrap();
    config.kafka.set("default.api.timeout.ms", "300").unwrap();
    let error = copy().run(&config).unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

//! Groups of foreign clients, and of one of them with ours: everything is read, whoever comes and goes.

use kafka_wire::ConsumerBuilder;

use super::*;

/// A group of two: the first member has all, the second gets half, and at the end each record was read once by
/// somebody, or again after a rebalance by who got its partition.
fn a_group_of_two(bootstrap: &str, group: &str, first: (&Program, &[&str]), second: (&Program, &[&str])) {
    let topic = format!("{group}-topic");
    run(create(bootstrap, &topic));
    let start = |(program, more): (&Program, &[&str])| {
        program.start(&[&["group", bootstrap, group, topic.as_str()], more].concat())
    };
    let mut seen = BTreeSet::new();
    let mut count = 0;
    let mut write = || {
        run(write_ours(bootstrap, &topic, Codec::None, 6 * PARTITIONS));
        count += 6 * PARTITIONS;
        count
    };
    let all = write();
    let one = start(first);
    one.until("all records", |value| note(&mut seen, value) && seen.len() == all);
    let two = start(second);
    // Until the second has joined, the first reads what comes.
    let mut rounds = 0..200;
    while rounds.next().is_some() {
        write();
        if two.next(Duration::from_millis(300)).is_some_and(|value| note(&mut seen, &value)) {
            break;
        }
    }
    assert!(!rounds.is_empty(), "{group}: the second member gets nothing");
    let all = write();
    until_both_have_read(&one, &two, &mut seen, all);
    // The first goes, and its partitions go to the second.
    one.finish();
    let all = write();
    two.until("the rest", |value| note(&mut seen, value) && seen.len() == all);
    two.finish();
}

/// Notes where a record lies; says whether it was one.
fn note(seen: &mut BTreeSet<(u64, u64)>, value: &Value) -> bool {
    let (Some(partition), Some(offset)) = (value["partition"].as_u64(), value["offset"].as_u64()) else {
        return false;
    };
    seen.insert((partition, offset));
    true
}

fn until_both_have_read(one: &Running, two: &Running, seen: &mut BTreeSet<(u64, u64)>, count: usize) {
    for _ in 0..4_000 {
        for member in [one, two] {
            while let Some(value) = member.next(Duration::from_millis(15)) {
                note(seen, &value);
            }
        }
        if seen.len() == count {
            return;
        }
    }
    panic!("only {} of {count} records were read", seen.len());
}

fn groups_of_two(bootstrap: &str) {
    for program in foreign::programs() {
        a_group_of_two(bootstrap, &format!("group-{:?}", program.maker), (program, &[]), (program, &[]));
    }
    if let Some(java) = foreign::program(Maker::Java) {
        a_group_of_two(bootstrap, "group-consumer", (java, &["consumer"]), (java, &["consumer"]));
        a_group_of_two(
            bootstrap,
            "group-range",
            (java, &["consumer", "range"]),
            (java, &["consumer", "range"]),
        );
        if let Some(go) = foreign::program(Maker::Go) {
            // Both know cooperative-sticky.
            a_group_of_two(bootstrap, "group-mixed", (java, &[]), (go, &[]));
        }
    }
}

/// Our consumer and a foreign one: ours has all, then shares, then has all again.
async fn a_group_with_ours(
    bootstrap: &str,
    group: &str,
    ours: ConsumerBuilder,
    foreign: (&Program, &[&str]),
) {
    let topic = format!("{group}-topic");
    create(bootstrap, &topic).await;
    let mut consumer =
        ours.bootstrap(bootstrap).group(group).subscribe([topic.as_str()]).build().expect("ours");
    let (mut seen, mut count) = (BTreeSet::new(), 0);
    let mut write = async || {
        write_ours(bootstrap, &topic, Codec::None, 6 * PARTITIONS).await;
        count += 6 * PARTITIONS;
        count
    };
    let mut poll = async |seen: &mut BTreeSet<(u64, u64)>| {
        let batch = consumer.poll(Duration::from_millis(20)).await.expect("poll");
        let partition = batch.topic_partition().partition as u64;
        seen.extend(batch.iter().map(|record| (partition, record.offset as u64)));
    };
    let all = write().await;
    while seen.len() < all {
        poll(&mut seen).await;
    }
    let (program, more) = foreign;
    let other = program.start(&[&["group", bootstrap, group, topic.as_str()], more].concat());
    let (mut is_in, mut all) = (false, all);
    while !is_in {
        all = write().await;
        for _ in 0..20 {
            poll(&mut seen).await;
            while let Some(value) = other.next(Duration::from_millis(5)) {
                is_in |= note(&mut seen, &value);
            }
        }
    }
    while seen.len() < all {
        poll(&mut seen).await;
        while let Some(value) = other.next(Duration::from_millis(5)) {
            note(&mut seen, &value);
        }
    }
    other.finish();
    let all = write().await;
    while seen.len() < all {
        poll(&mut seen).await;
    }
    consumer.close().await.expect("close");
}

/// With each foreign client that has an assignor in common with ours; kafkajs has none.
fn groups_with_ours(bootstrap: &str) {
    let classic = |strategy: &str| {
        Consumer::builder()
            .set("auto.offset.reset", "earliest")
            .set("heartbeat.interval.ms", "100")
            .set("partition.assignment.strategy", strategy)
    };
    for (maker, strategy) in
        [(Maker::Java, "cooperative-sticky"), (Maker::Go, "cooperative-sticky"), (Maker::Kcat, "range")]
    {
        let Some(program) = foreign::program(maker) else { continue };
        let group = format!("ours-with-{maker:?}");
        run(a_group_with_ours(bootstrap, &group, classic(strategy), (program, &[])));
    }
    if let Some(java) = foreign::program(Maker::Java) {
        let ours = Consumer::builder().set("auto.offset.reset", "earliest").set("group.protocol", "consumer");
        run(a_group_with_ours(bootstrap, "ours-with-Java-848", ours, (java, &["consumer"])));
    }
}

/// Two share consumers divide the records between them; and what nobody accepts is delivered five times.
fn share_groups(bootstrap: &str) {
    let Some(java) = foreign::program(Maker::Java) else { return };
    let topic = "shared";
    run(create(bootstrap, topic));
    run(write_ours(bootstrap, topic, Codec::None, RECORDS));
    let start = |group: &str, what: &str| java.start(&["share", bootstrap, group, topic, what]);
    let (one, two) = (start("sharing", "accept"), start("sharing", "accept"));
    let mut seen = BTreeSet::new();
    let mut take = |member: &Running| {
        while let Some(value) = member.next(Duration::from_millis(20)) {
            let fresh = seen.insert((value["partition"].as_u64(), value["offset"].as_u64()));
            assert!(fresh && value["deliveries"] == 1, "delivered once more: {value}");
        }
        seen.len()
    };
    let mut rounds = 0..2_000;
    while take(&one).max(take(&two)) < RECORDS {
        assert!(rounds.next().is_some(), "not all records came");
    }
    // More come while both are there.
    run(write_ours(bootstrap, topic, Codec::Lz4, RECORDS));
    while take(&one).max(take(&two)) < 2 * RECORDS {
        assert!(rounds.next().is_some(), "not all records came");
    }
    one.finish();
    two.finish();

    let releasing = start("releasing", "release");
    let mut deliveries = 0;
    releasing.until("each record five times", |value| {
        assert!((1..=5).contains(&value["deliveries"].as_i64().expect("a count")), "{value}");
        deliveries += 1;
        deliveries == 5 * 2 * RECORDS
    });
    releasing.finish();
}

#[test]
fn groups_of_foreign_clients_on_the_embedded_broker() {
    on_embedded(groups_of_two);
}

#[test]
fn groups_of_foreign_clients_and_ours_on_the_embedded_broker() {
    on_embedded(groups_with_ours);
}

#[test]
fn groups_of_foreign_clients_and_ours_on_kafka() {
    on_kafka(groups_with_ours);
}

#[test]
fn share_groups_of_java_on_the_embedded_broker() {
    on_embedded(share_groups);
}

#[test]
fn share_groups_of_java_on_kafka() {
    on_kafka(share_groups);
}

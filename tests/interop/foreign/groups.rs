//! Groups of foreign clients, alone and with ours: everything is read, whoever comes, goes and leads.

use std::collections::VecDeque;
use std::time::Instant;

use futures_executor::block_on;
use kafka_wire::ConsumerBuilder;

use super::*;

/// What takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// A member that reads and commits.
enum Member {
    Ours(Box<Consumer>),
    Foreign(Running),
}

/// A group, its topic, and what was read of it. The first member leads: members join one after the other.
struct Group<'a> {
    bootstrap: &'a str,
    name: &'a str,
    topic: String,
    producer: Producer,
    members: VecDeque<Member>,
    seen: BTreeSet<(u64, u64)>,
    written: usize,
}

impl<'a> Group<'a> {
    fn new(bootstrap: &'a str, name: &'a str) -> Self {
        let topic = format!("{name}-topic");
        run(create(bootstrap, &[&topic]));
        let config = ProducerConfig { client: config(bootstrap), ..Default::default() };
        let producer = Producer::new(config).expect("a producer");
        let (members, seen) = (VecDeque::new(), BTreeSet::new());
        Self { bootstrap, name, topic, producer, members, seen, written: 0 }
    }

    fn foreign(&self, program: &'static Program, settings: &[&str]) -> Member {
        let start = ["group", self.bootstrap, self.name, self.topic.as_str()];
        Member::Foreign(program.start(&[&start[..], settings].concat()))
    }

    fn ours(&self, builder: ConsumerBuilder) -> Member {
        let builder = builder.bootstrap(self.bootstrap).group(self.name).subscribe([self.topic.as_str()]);
        Member::Ours(Box::new(builder.build().expect("ours")))
    }

    /// One record into each partition.
    fn write(&mut self) {
        block_on(async {
            for partition in 0..PARTITIONS as i32 {
                let record = Record::to(&self.topic).partition(partition).value("value");
                self.producer.enqueue(record).await.expect("enqueue");
            }
            self.producer.flush().await;
        });
        self.written += PARTITIONS;
    }

    /// What a member has read by now; says whether that is anything.
    fn read(&mut self, member: usize) -> bool {
        let before = self.seen.len();
        match &mut self.members[member] {
            Member::Ours(consumer) => {
                let batch = consumer.poll_blocking(Duration::from_millis(20)).expect("poll");
                let partition = batch.topic_partition().partition as u64;
                self.seen.extend(batch.iter().map(|record| (partition, record.offset as u64)));
            }
            Member::Foreign(running) => {
                while let Some(value) = running.next(Duration::from_millis(5)) {
                    let place = (value["partition"].as_u64(), value["offset"].as_u64());
                    self.seen.extend(place.0.zip(place.1));
                }
            }
        }
        self.seen.len() > before
    }

    /// A member comes, is given something, and nothing is lost over it.
    #[allow(clippy::disallowed_methods, reason = "the rim: what hangs fails")]
    fn join(&mut self, member: Member) {
        self.members.push_back(member);
        let (newest, end) = (self.members.len() - 1, Instant::now() + PATIENCE);
        let mut is_in = false;
        while !is_in {
            assert!(Instant::now() < end, "{}: member {newest} gets nothing", self.name);
            self.write();
            let pause = Instant::now() + Duration::from_millis(100);
            while Instant::now() < pause && !is_in {
                (0..newest).for_each(|member| {
                    self.read(member);
                });
                is_in = self.read(newest);
            }
        }
        self.until_all_is_read();
    }

    /// The member goes that has been there for the longest, and leads; the others take over what it had.
    fn leave(&mut self) {
        match self.members.pop_front().expect("a member") {
            Member::Ours(consumer) => block_on(consumer.close()).expect("close"),
            Member::Foreign(running) => running.finish(),
        }
        if !self.members.is_empty() {
            self.write();
            self.until_all_is_read();
        }
    }

    fn leave_all(&mut self) {
        while !self.members.is_empty() {
            self.leave();
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the rim: what hangs fails")]
    fn until_all_is_read(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.seen.len() < self.written {
            assert!(Instant::now() < end, "{}: {} of {} were read", self.name, self.seen.len(), self.written);
            for member in 0..self.members.len() {
                self.read(member);
            }
        }
    }
}

/// Two of a kind, with what they would choose themselves: the second joins, the first leaves.
fn pairs(bootstrap: &str) {
    with_each("group", |program| {
        let all: &[(&str, &[&str])] = match program.maker {
            Maker::Java => {
                &[("classic", &[]), ("consumer", &["consumer"]), ("848-range", &["consumer", "range"])]
            }
            Maker::Go | Maker::Python => &[("classic", &[]), ("consumer", &["consumer"])],
            Maker::Node | Maker::Kcat => &[("classic", &[])],
        };
        for (kind, settings) in all {
            let name = format!("pair-{:?}-{kind}", program.maker);
            let mut group = Group::new(bootstrap, &name);
            for _ in 0..2 {
                group.join(group.foreign(program, settings));
            }
            group.leave_all();
        }
    });
}

/// Our consumer and three others. They come one after the other and go so, the oldest first; when ours has gone, it comes
/// back as the youngest. So each leads the others once, and each follows each.
fn rings(bootstrap: &str) {
    let classic: &[(&str, [Maker; 3])] = &[
        ("range", [Maker::Java, Maker::Python, Maker::Kcat]),
        ("roundrobin", [Maker::Java, Maker::Node, Maker::Go]),
        ("cooperative-sticky", [Maker::Java, Maker::Go, Maker::Python]),
    ];
    std::thread::scope(|scope| {
        for (assignor, makers) in classic {
            scope.spawn(move || {
                let settings =
                    [("heartbeat.interval.ms", "100"), ("partition.assignment.strategy", *assignor)];
                ring(bootstrap, &format!("ring-{assignor}"), &settings, &["classic", assignor], makers);
            });
        }
        let makers = [Maker::Java, Maker::Go, Maker::Python];
        scope.spawn(move || {
            ring(bootstrap, "ring-848", &[("group.protocol", "consumer")], &["consumer"], &makers)
        });
    });
}

fn ring(bootstrap: &str, name: &str, ours: &[(&str, &str)], settings: &[&str], makers: &[Maker]) {
    let ours = || {
        let builder = Consumer::builder().set("auto.offset.reset", "earliest");
        ours.iter().fold(builder, |builder, (name, value)| builder.set(name, value))
    };
    let mut group = Group::new(bootstrap, name);
    group.join(group.ours(ours()));
    for program in makers.iter().filter_map(|maker| foreign::program(*maker)) {
        group.join(group.foreign(program, settings));
    }
    group.leave();
    group.join(group.ours(ours()));
    group.leave_all();
}

/// Two share consumers divide the records between them; and what nobody accepts is delivered five times.
fn share_groups(bootstrap: &str) {
    let Some(java) = foreign::program(Maker::Java) else { return };
    let topic = "shared";
    run(create(bootstrap, &[topic]));
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
fn pairs_of_foreign_clients_on_the_embedded_broker() {
    on_embedded(pairs);
}

#[test]
fn groups_of_foreign_clients_and_ours_on_the_embedded_broker() {
    on_embedded(rings);
}

#[test]
fn groups_of_foreign_clients_and_ours_on_kafka() {
    on_kafka(rings);
}

#[test]
fn share_groups_of_java_on_the_embedded_broker() {
    on_embedded(share_groups);
}

#[test]
fn share_groups_of_java_on_kafka() {
    on_kafka(share_groups);
}

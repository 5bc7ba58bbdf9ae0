//! What Kafka's own assignors made of the same groups (`tests/vectors/Assignments.java`).

use super::*;

const AUTHORED: &str = include_str!("../../../../tests/vectors/assignments.txt");

struct Case {
    strategy: Strategy,
    topics: BTreeMap<Arc<str>, Vec<PartitionRacks>>,
    members: Vec<MemberSubscription>,
    theirs: BTreeMap<Arc<str>, Vec<TopicPartition>>,
}

fn list(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.split(separator).filter(|item| *item != "-")
}

fn optional(text: &str) -> Option<Arc<str>> {
    list(text, ' ').next().map(Arc::from)
}

fn partitions(text: &str) -> Vec<TopicPartition> {
    let partition = |text: &str| {
        let (topic, number) = text.rsplit_once('-').unwrap();
        TopicPartition::new(topic, number.parse().unwrap())
    };
    list(text, ',').map(partition).collect()
}

fn bytes(hex: &str) -> Bytes {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in AUTHORED.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["group", name] => {
                let strategy = Strategy::ALL.into_iter().find(|strategy| strategy.name() == name).unwrap();
                let (topics, theirs) = (BTreeMap::new(), BTreeMap::new());
                cases.push(Case { strategy, topics, members: Vec::new(), theirs });
            }
            ["topic", name, racks] => {
                let racks = racks.split(';').map(|racks| list(racks, '+').map(Arc::from).collect());
                cases.last_mut().unwrap().topics.insert(name.into(), racks.collect());
            }
            ["member", id, instance, rack, topics, generation, owned, data] => {
                cases.last_mut().unwrap().members.push(MemberSubscription {
                    member_id: id.into(),
                    instance_id: optional(instance),
                    rack: optional(rack),
                    topics: list(topics, ',').map(Arc::from).collect(),
                    owned: partitions(owned),
                    generation: generation.parse().unwrap(),
                    user_data: (data != "-").then(|| bytes(data)),
                });
            }
            ["gets", id, got] => {
                cases.last_mut().unwrap().theirs.insert(id.into(), partitions(got));
            }
            _ => panic!("{line}"),
        }
    }
    cases
}

/// Lower is more even.
fn unevenness(assigned: &BTreeMap<Arc<str>, Vec<TopicPartition>>) -> usize {
    assigned.values().map(|partitions| partitions.len().pow(2)).sum()
}

/// How many partitions stay with whoever had them.
fn kept(case: &Case, assigned: &BTreeMap<Arc<str>, Vec<TopicPartition>>) -> usize {
    let held = |member: &MemberSubscription| match case.strategy {
        Strategy::Sticky => user_data::sticky_claim(member).partitions,
        _ => member.owned.clone(),
    };
    let of_member = |member: &MemberSubscription| {
        let held = held(member);
        assigned[&member.member_id].iter().filter(|partition| held.contains(partition)).count()
    };
    case.members.iter().map(of_member).sum()
}

#[test]
fn range_and_round_robin_are_javas() {
    let cases = cases().into_iter().filter(|case| case.strategy < Strategy::Sticky);
    let mut count = 0;
    for case in cases {
        assert_eq!(assign(case.strategy, &case.members, &case.topics), case.theirs, "case {count}");
        count += 1;
    }
    assert_eq!(count, 120);
}

/// Cooperative assignments have gaps where a partition changes its member, so only those without any can be
/// compared; where racks come in, Java gives up more than balance takes.
#[test]
fn sticky_is_as_even_as_javas_and_keeps_as_much() {
    let mut second_rounds = 0;
    for (index, case) in cases().into_iter().filter(|case| case.strategy >= Strategy::Sticky).enumerate() {
        let ours = assign(case.strategy, &case.members, &case.topics);
        let has_gaps = case.strategy == Strategy::CooperativeSticky && kept(&case, &case.theirs) > 0;
        if !has_gaps {
            assert!(unevenness(&ours) <= unevenness(&case.theirs), "{index}: {ours:?}\n{:?}", case.theirs);
        }
        let has_racks = case.members.iter().any(|member| member.rack.is_some());
        if kept(&case, &case.theirs) > 0 && !has_racks {
            second_rounds += 1;
            let (ours, theirs) = (kept(&case, &ours), kept(&case, &case.theirs));
            assert!(ours >= theirs, "{index}: {ours} kept, {theirs} by Java");
        }
    }
    assert!(second_rounds > 10, "{second_rounds}");
}

//! The assignors of the coordinator (KIP-848): `uniform` and `range`.
//!
//! `uniform` gives everybody the same number of partitions, within one, and moves as few as it can; `range`
//! gives each member a run of each topic's partitions. Kafka's `range` also keeps what it can where it was;
//! which partition goes to whom is the coordinator's affair and no client may rely on it. Racks are not
//! looked at.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::TopicId;
use serde::{Deserialize, Serialize};

/// Partitions by topic.
pub(crate) type Assignment = BTreeMap<TopicId, BTreeSet<i32>>;

/// Which assignor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Assignor {
    /// Kafka's first, hence what a group gets whose members do not say.
    #[default]
    Uniform,
    Range,
}

impl Assignor {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }
}

/// A member as an assignor sees it.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: &'a str,
    /// Topics that it wants, with their number of partitions.
    pub(crate) topics: BTreeMap<TopicId, i32>,
    /// What it was to have before.
    pub(crate) before: Option<&'a Assignment>,
}

/// Who is to get what.
pub(crate) fn assign(assignor: Assignor, members: &[Candidate<'_>]) -> BTreeMap<String, Assignment> {
    let assigned = match assignor {
        Assignor::Uniform => uniform(members),
        Assignor::Range => range(members),
    };
    members.iter().map(|member| member.id.to_owned()).zip(assigned).collect()
}

fn range(members: &[Candidate<'_>]) -> Vec<Assignment> {
    let mut assigned = vec![Assignment::new(); members.len()];
    for (topic, count) in all_topics(members) {
        let wanting: Vec<usize> =
            (0..members.len()).filter(|&index| members[index].topics.contains_key(&topic)).collect();
        let (each, extra) = (count as usize / wanting.len(), count as usize % wanting.len());
        let mut next = 0;
        for (turn, index) in wanting.into_iter().enumerate() {
            let end = next + each + usize::from(turn < extra);
            if end > next {
                assigned[index].insert(topic, (next as i32..end as i32).collect());
            }
            next = end;
        }
    }
    assigned
}

fn all_topics(members: &[Candidate<'_>]) -> BTreeMap<TopicId, i32> {
    members.iter().flat_map(|member| member.topics.iter().map(|(&topic, &count)| (topic, count))).collect()
}

fn uniform(members: &[Candidate<'_>]) -> Vec<Assignment> {
    let mut work =
        Uniform { members, assigned: vec![Assignment::new(); members.len()], sizes: vec![0; members.len()] };
    let mut rest: BTreeSet<(TopicId, i32)> = all_topics(members)
        .into_iter()
        .flat_map(|(topic, count)| (0..count).map(move |partition| (topic, partition)))
        .collect();
    for (index, member) in members.iter().enumerate() {
        let before = member.before.into_iter().flatten();
        for (topic, partition) in before.flat_map(|(&topic, all)| all.iter().map(move |&it| (topic, it))) {
            if member.topics.contains_key(&topic) && rest.remove(&(topic, partition)) {
                work.give(index, topic, partition);
            }
        }
    }
    for (topic, partition) in rest {
        if let Some(index) = work.smallest(topic) {
            work.give(index, topic, partition);
        }
    }
    while work.move_one() {}
    work.assigned
}

struct Uniform<'a> {
    members: &'a [Candidate<'a>],
    assigned: Vec<Assignment>,
    sizes: Vec<usize>,
}

impl Uniform<'_> {
    fn give(&mut self, index: usize, topic: TopicId, partition: i32) {
        self.assigned[index].entry(topic).or_default().insert(partition);
        self.sizes[index] += 1;
    }

    /// Who has the fewest partitions of those who want the topic.
    fn smallest(&self, topic: TopicId) -> Option<usize> {
        let wanting =
            (0..self.members.len()).filter(|&index| self.members[index].topics.contains_key(&topic));
        wanting.min_by_key(|&index| self.sizes[index])
    }

    /// Moves one partition from a member to one that has two fewer; says whether there was one to move. Each
    /// move makes the sum of the squares of the sizes smaller, so this ends.
    fn move_one(&mut self) -> bool {
        let mut givers: Vec<usize> = (0..self.members.len()).collect();
        givers.sort_by_key(|&index| std::cmp::Reverse(self.sizes[index]));
        for giver in givers {
            for (&topic, partitions) in &self.assigned[giver] {
                let Some(taker) = self.smallest(topic) else { continue };
                if self.sizes[giver] < self.sizes[taker] + 2 {
                    continue;
                }
                let Some(&partition) = partitions.last() else { continue };
                self.sizes[giver] -= 1;
                if let Some(left) = self.assigned[giver].get_mut(&topic) {
                    left.remove(&partition);
                    if left.is_empty() {
                        self.assigned[giver].remove(&topic);
                    }
                }
                self.give(taker, topic, partition);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: u8) -> TopicId {
        TopicId([number; 16])
    }

    fn candidate<'a>(id: &'a str, topics: &[(u8, i32)], before: Option<&'a Assignment>) -> Candidate<'a> {
        Candidate {
            id,
            topics: topics.iter().map(|&(number, count)| (topic(number), count)).collect(),
            before,
        }
    }

    fn sizes(assigned: &BTreeMap<String, Assignment>) -> Vec<usize> {
        assigned.values().map(|topics| topics.values().map(BTreeSet::len).sum()).collect()
    }

    #[test]
    fn range_gives_runs_of_each_topic() {
        let members = [candidate("a", &[(1, 5), (2, 1)], None), candidate("b", &[(1, 5)], None)];
        let assigned = assign(Assignor::Range, &members);
        assert_eq!(assigned["a"][&topic(1)], BTreeSet::from([0, 1, 2]));
        assert_eq!(assigned["a"][&topic(2)], BTreeSet::from([0]));
        assert_eq!(assigned["b"][&topic(1)], BTreeSet::from([3, 4]));
    }

    #[test]
    fn uniform_is_even_and_moves_as_little_as_it_can() {
        let all = [(1, 7), (2, 4)];
        let one = assign(Assignor::Uniform, &[candidate("a", &all, None)]);
        assert_eq!(sizes(&one), [11]);
        let two =
            assign(Assignor::Uniform, &[candidate("a", &all, one.get("a")), candidate("b", &all, None)]);
        assert_eq!(sizes(&two), [6, 5]);
        assert!(two["a"].iter().all(|(topic, kept)| one["a"][topic].is_superset(kept)));
        let last = candidate("c", &all, None);
        let three = assign(
            Assignor::Uniform,
            &[candidate("a", &all, two.get("a")), candidate("b", &all, two.get("b")), last],
        );
        assert_eq!(sizes(&three), [4, 4, 3]);
        let kept = |id: &str| three[id].iter().all(|(topic, kept)| two[id][topic].is_superset(kept));
        assert!(kept("a") && kept("b"), "only the newcomer gets anything new");
    }

    #[test]
    fn uniform_is_even_where_not_everybody_wants_everything() {
        let all = [(1, 7), (2, 4)];
        let two = assign(Assignor::Uniform, &[candidate("a", &all, None), candidate("b", &all, None)]);
        let three = assign(
            Assignor::Uniform,
            &[
                candidate("a", &all, two.get("a")),
                candidate("b", &all, two.get("b")),
                candidate("c", &[(2, 4)], None),
            ],
        );
        assert_eq!(sizes(&three).iter().sum::<usize>(), 11);
        assert!(sizes(&three).iter().all(|&size| (3..=4).contains(&size)), "{three:?}");
        assert!(three["c"].keys().all(|&it| it == topic(2)));
    }
}

//! The sticky strategies: everybody keeps what it held, free partitions go to whoever has least, and then
//! as few as possible move until no chain of moves makes the group more even.
//!
//! Each move of the second part lowers the sum of the squared counts, each of the third (racks, KIP-881)
//! leaves that sum alone or lowers it and brings one partition more near its member: so both end, and from
//! the result neither moves anything again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use super::user_data::Claim;
use super::{MemberSubscription, PartitionRacks, racks_matter, subscribers};
use crate::types::TopicPartition;

/// See the module. `claims` are in the order of `members`.
pub(super) fn assign(
    members: &[&MemberSubscription],
    claims: Vec<Claim>,
    topics: &BTreeMap<Arc<str>, Vec<PartitionRacks>>,
) -> Vec<Vec<TopicPartition>> {
    let mut division = Division::new(members, topics);
    division.keep(&claims);
    division.solve();
    division.into_assignment()
}

/// What changes its member goes to nobody for now: whoever holds it has to let go of it first, and the
/// rebalance that follows hands it out (KIP-429).
pub(super) fn assign_cooperatively(
    members: &[&MemberSubscription],
    claims: Vec<Claim>,
    topics: &BTreeMap<Arc<str>, Vec<PartitionRacks>>,
) -> Vec<Vec<TopicPartition>> {
    let mut division = Division::new(members, topics);
    let kept = division.keep(&claims);
    division.solve();
    let held: BTreeSet<&TopicPartition> = claims.iter().flat_map(|claim| &claim.partitions).collect();
    let mut assigned = division.into_assignment();
    for (member, partitions) in assigned.iter_mut().enumerate() {
        partitions.retain(|partition| kept.get(partition) == Some(&member) || !held.contains(partition));
    }
    assigned
}

/// A topic's index and a partition's number.
type Slot = (usize, usize);

/// The state of a division; members, topics and classes are indices.
struct Division<'a> {
    members: &'a [&'a MemberSubscription],
    topics: Vec<Topic<'a>>,
    by_name: HashMap<&'a Arc<str>, usize>,
    /// The distinct sets of subscribers: partitions of topics of one class are interchangeable.
    classes: Vec<Vec<usize>>,
    racks_matter: bool,
    counts: Vec<usize>,
    /// What each member has of each class; what it has had longest comes first.
    holdings: Vec<Vec<Vec<Slot>>>,
}

struct Topic<'a> {
    name: &'a Arc<str>,
    racks: &'a [PartitionRacks],
    class: usize,
    owners: Vec<Option<usize>>,
}

impl<'a> Division<'a> {
    fn new(members: &'a [&'a MemberSubscription], all: &'a BTreeMap<Arc<str>, Vec<PartitionRacks>>) -> Self {
        let mut class_of: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let mut topics = Vec::new();
        for (name, subscribers) in subscribers(members, all) {
            let next = class_of.len();
            let class = *class_of.entry(subscribers).or_insert(next);
            let racks = all[name].as_slice();
            topics.push(Topic { name, racks, class, owners: vec![None; racks.len()] });
        }
        let mut classes = vec![Vec::new(); class_of.len()];
        for (subscribers, class) in class_of {
            classes[class] = subscribers;
        }
        let racks_matter = racks_matter(members.iter().copied(), topics.iter().flat_map(|topic| topic.racks));
        Self {
            members,
            by_name: topics.iter().enumerate().map(|(index, topic)| (topic.name, index)).collect(),
            topics,
            racks_matter,
            counts: vec![0; members.len()],
            holdings: vec![vec![Vec::new(); classes.len()]; members.len()],
            classes,
        }
    }

    /// Gives each member what it holds, and answers that. Of two that claim the same partition the one with
    /// the later generation holds it; with the same generation neither.
    fn keep(&mut self, claims: &[Claim]) -> HashMap<TopicPartition, usize> {
        let mut holders: HashMap<&TopicPartition, (i32, Option<usize>)> = HashMap::new();
        for (member, claim) in claims.iter().enumerate() {
            for partition in &claim.partitions {
                let holder = holders.entry(partition).or_insert((claim.generation, Some(member)));
                if claim.generation > holder.0 {
                    *holder = (claim.generation, Some(member));
                } else if claim.generation == holder.0 && holder.1 != Some(member) {
                    holder.1 = None;
                }
            }
        }
        let mut kept = HashMap::new();
        for (member, claim) in claims.iter().enumerate() {
            for partition in &claim.partitions {
                if holders.get(partition).is_some_and(|(_, holder)| *holder == Some(member))
                    && let Some(slot) = self.slot(partition)
                    && self.classes[self.topics[slot.0].class].binary_search(&member).is_ok()
                    && self.topics[slot.0].owners[slot.1].is_none()
                {
                    self.give(slot, member);
                    kept.insert(partition.clone(), member);
                }
            }
        }
        kept
    }

    fn slot(&self, partition: &TopicPartition) -> Option<Slot> {
        let topic = *self.by_name.get(&partition.topic)?;
        let number = usize::try_from(partition.partition).ok()?;
        (number < self.topics[topic].owners.len()).then_some((topic, number))
    }

    fn give(&mut self, slot: Slot, member: usize) {
        let topic = &mut self.topics[slot.0];
        topic.owners[slot.1] = Some(member);
        self.holdings[member][topic.class].push(slot);
        self.counts[member] += 1;
    }

    fn take(&mut self, slot: Slot) {
        let topic = &mut self.topics[slot.0];
        if let Some(member) = topic.owners[slot.1].take() {
            self.holdings[member][topic.class].retain(|held| *held != slot);
            self.counts[member] -= 1;
        }
    }

    fn solve(&mut self) {
        let lengths = |holdings: &Vec<Vec<Slot>>| holdings.iter().map(Vec::len).collect();
        let kept: Vec<Vec<usize>> = self.holdings.iter().map(lengths).collect();
        self.hand_out_free();
        // First with what was free alone. When the others have let go of what a cooperative division takes
        // from them, this finds a division as even as that was, and nobody has to let go of more.
        self.level(&kept);
        self.level(&vec![vec![0; self.classes.len()]; self.members.len()]);
        if self.racks_matter {
            while self.bring_near() {}
        }
    }

    /// Free partitions go to the subscriber with the least, near ones first among equals; those that few can
    /// have go first.
    fn hand_out_free(&mut self) {
        let mut order: Vec<usize> = (0..self.topics.len()).collect();
        order.sort_by_key(|topic| self.classes[self.topics[*topic].class].len());
        for topic in order {
            for partition in 0..self.topics[topic].owners.len() {
                if self.topics[topic].owners[partition].is_some() {
                    continue;
                }
                let slot = (topic, partition);
                let subscribers = self.classes[self.topics[topic].class].iter().copied();
                let least =
                    subscribers.min_by_key(|member| (self.counts[*member], self.is_far(slot, *member)));
                if let Some(member) = least {
                    self.give(slot, member);
                }
            }
        }
    }

    /// Moves partitions until no chain of moves leads from a member to one that has two less. Members are
    /// looked at from the fullest on: one that can reach none can never again, since all that it reaches
    /// keep at least one less than it has. The first `fixed` partitions that a member has of a class stay.
    fn level(&mut self, fixed: &[Vec<usize>]) {
        let mut fullest: BinaryHeap<(usize, Reverse<usize>)> =
            self.counts.iter().enumerate().map(|(member, count)| (*count, Reverse(member))).collect();
        while let Some((count, Reverse(member))) = fullest.pop() {
            if count != self.counts[member] {
                continue; // It has been given more since, and was put in again with that.
            }
            let Some(chain) = self.chain_from(member, fixed) else { continue };
            let mut from = member;
            for (class, to) in chain {
                self.pass_on(class, from, to, fixed[from][class]);
                from = to;
            }
            fullest.push((self.counts[member], Reverse(member)));
            fullest.push((self.counts[from], Reverse(from)));
        }
    }

    /// The shortest chain to a member with at least two partitions less: each step names the class of the
    /// partition that moves, and to whom.
    fn chain_from(&self, start: usize, fixed: &[Vec<usize>]) -> Option<Vec<(usize, usize)>> {
        let enough = self.counts[start].checked_sub(2)?;
        let mut came_from: Vec<Option<(usize, usize)>> = vec![None; self.members.len()];
        let mut seen_class = vec![false; self.classes.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(member) = queue.pop_front() {
            let mut best: Option<usize> = None;
            for (class, held) in self.holdings[member].iter().enumerate() {
                if held.len() <= fixed[member][class] || std::mem::replace(&mut seen_class[class], true) {
                    continue;
                }
                for next in self.classes[class].iter().copied() {
                    if next == start || came_from[next].is_some() {
                        continue;
                    }
                    came_from[next] = Some((class, member));
                    queue.push_back(next);
                    if self.counts[next] <= enough
                        && best.is_none_or(|best| self.counts[next] < self.counts[best])
                    {
                        best = Some(next);
                    }
                }
            }
            if let Some(end) = best {
                return Some(trace(&came_from, start, end));
            }
        }
        None
    }

    /// Moves one partition of the class: the one that gains most by it as to racks, of equals the one that
    /// came last.
    fn pass_on(&mut self, class: usize, from: usize, to: usize, fixed: usize) {
        let held = self.holdings[from][class].iter().skip(fixed).copied();
        let slot = if self.racks_matter {
            held.max_by_key(|slot| i8::from(self.is_far(*slot, from)) - i8::from(self.is_far(*slot, to)))
        } else {
            held.last()
        };
        if let Some(slot) = slot {
            self.take(slot);
            self.give(slot, to);
        }
    }

    /// Moves or exchanges partitions that are far from their member, without making the group less even;
    /// whether there were any. A member that has nothing for another one is asked once for it: what it gets
    /// meanwhile the next pass looks at.
    fn bring_near(&mut self) -> bool {
        let mut any = false;
        let mut in_vain = HashSet::new();
        for topic in 0..self.topics.len() {
            for partition in 0..self.topics[topic].owners.len() {
                let slot = (topic, partition);
                let Some(owner) = self.topics[topic].owners[partition] else { continue };
                if !self.is_far(slot, owner) {
                    continue;
                }
                let Some((nearer, in_return)) = self.nearer(slot, owner, &mut in_vain) else { continue };
                self.take(slot);
                self.give(slot, nearer);
                if let Some(other) = in_return {
                    self.take(other);
                    self.give(other, owner);
                }
                any = true;
            }
        }
        any
    }

    /// A member near the partition that has less than its owner, or one with a partition to exchange it for.
    /// `in_vain` are the pairs of owners and members of which it is known that there is none.
    fn nearer(
        &self,
        slot: Slot,
        owner: usize,
        in_vain: &mut HashSet<(usize, usize)>,
    ) -> Option<(usize, Option<Slot>)> {
        let class = &self.classes[self.topics[slot.0].class];
        let near = |member: &usize| {
            let racks = &self.topics[slot.0].racks[slot.1];
            self.members[*member].rack().is_some_and(|rack| racks.contains(rack))
        };
        let candidates = || class.iter().copied().filter(near);
        if let Some(member) = candidates().find(|member| self.counts[*member] < self.counts[owner]) {
            return Some((member, None));
        }
        candidates().find_map(|member| {
            if in_vain.contains(&(owner, member)) {
                return None;
            }
            let owner_may_have = |class: &usize| self.classes[*class].binary_search(&owner).is_ok();
            let held = (0..self.classes.len())
                .filter(owner_may_have)
                .flat_map(|class| &self.holdings[member][class]);
            let mut fitting =
                held.filter(|other| !self.is_far(**other, owner) || self.is_far(**other, member));
            let fitting = fitting.next().map(|other| (member, Some(*other)));
            if fitting.is_none() {
                in_vain.insert((owner, member));
            }
            fitting
        })
    }

    /// Whether the member has a rack in which the partition has no replica.
    fn is_far(&self, slot: Slot, member: usize) -> bool {
        let racks = &self.topics[slot.0].racks[slot.1];
        self.racks_matter
            && !racks.is_empty()
            && self.members[member].rack().is_some_and(|rack| !racks.contains(rack))
    }

    fn into_assignment(self) -> Vec<Vec<TopicPartition>> {
        let mut assigned = vec![Vec::new(); self.members.len()];
        for topic in self.topics {
            for (partition, owner) in topic.owners.into_iter().enumerate() {
                if let Some(member) = owner {
                    assigned[member].push(TopicPartition::new(Arc::clone(topic.name), partition as i32));
                }
            }
        }
        assigned
    }
}

/// The steps from `start` to `end`.
fn trace(came_from: &[Option<(usize, usize)>], start: usize, end: usize) -> Vec<(usize, usize)> {
    let mut steps = Vec::new();
    let mut at = end;
    while at != start
        && let Some((class, before)) = came_from[at]
    {
        steps.push((class, at));
        at = before;
    }
    steps.reverse();
    steps
}

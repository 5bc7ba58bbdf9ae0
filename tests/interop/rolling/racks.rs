//! Groups with members in the racks of the brokers (KIP-881): with each broker that goes and comes back the racks of
//! partitions change, and nobody's partitions are to.

use std::time::Duration;

use kafka_wire::{BrokerId, Consumer};
use tidewater_tests::real_kafka::Cluster;

use super::{NODES, PARTITIONS};
use crate::membership::{Diary, Group, WAYS, is_divided, numbers, poll_until};
use crate::support::wait_until;

/// One group by each protocol.
pub(super) struct Racked<'a>(Vec<Members<'a>>);

struct Members<'a> {
    group: Group<'a>,
    members: Vec<Consumer>,
    diary: Diary,
    /// When all had come: what they had, and in which generation or epoch.
    before: Vec<(Vec<i32>, i32)>,
}

impl<'a> Racked<'a> {
    /// A member in each broker's rack.
    pub(super) async fn join(cluster: &'a Cluster) -> Self {
        let mut groups = Vec::new();
        for way in WAYS {
            let group = Group::new(cluster, "racked", way, PARTITIONS).await;
            let diary = Diary::default();
            let join = |node| {
                let mut member = group.subscribed(|config| {
                    config.client.client_rack = Some(format!("rack-{node}"));
                    config.client.metadata_max_age = Duration::from_millis(200);
                });
                member.set_listener(diary.clone());
                member
            };
            let mut members: Vec<Consumer> = (0..NODES).map(join).collect();
            let mut all: Vec<&mut Consumer> = members.iter_mut().collect();
            poll_until(&mut all, |members| is_divided(members, PARTITIONS as usize)).await;
            diary.take();
            let before = members.iter().map(state).collect();
            groups.push(Members { group, members, diary, before });
        }
        Self(groups)
    }

    /// Polls until every member knows that the node leads nothing.
    pub(super) async fn see_it_gone(&mut self, node: i32) {
        for Members { group, members, .. } in &mut self.0 {
            for member in members {
                wait_until("a member has heard that the node is gone", async || {
                    member.poll(Duration::ZERO).await.expect("poll");
                    let topic = member.describe_topic(&group.name).await.expect("describe");
                    topic.partitions.iter().all(|at| at.leader.is_some_and(|leader| leader != BrokerId(node)))
                })
                .await;
            }
        }
    }

    /// Nobody has anything else than before, nor has there been a rebalance that brought nothing.
    pub(super) fn assert_undisturbed(&self) {
        for Members { group, members, diary, before } in &self.0 {
            let after: Vec<_> = members.iter().map(state).collect();
            assert_eq!((&after, diary.take()), (before, vec![]), "{}", group.name);
        }
    }
}

fn state(member: &Consumer) -> (Vec<i32>, i32) {
    (numbers(&member.assignment()), member.group_metadata().expect("a member").generation)
}

//! What tests do to a cluster from outside: faults, moves, stops.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use kafka_wire::protocol::messages::ApiKey;

use super::{Cluster, ConnectionId, Now, Output, PARTITIONS_MAX, Parked, Wait};
use crate::authorizer::Acl;
use crate::faults::{Rule, RuleId};
use crate::journal::Entry;
use crate::setting::Setting;

impl Cluster {
    /// Puts a fault rule in force, behind those that are.
    pub fn add_rule(&mut self, rule: Rule) -> RuleId {
        self.faults.add(rule)
    }

    /// Takes a fault rule out of force.
    pub fn remove_rule(&mut self, rule: RuleId) {
        self.faults.remove(rule);
    }

    /// How many requests a rule has hit.
    pub fn rule_hits(&self, rule: RuleId) -> u64 {
        self.faults.hits(rule)
    }

    /// Adds an entry to the access control lists.
    pub fn add_acl(&mut self, acl: Acl) {
        self.set(Setting::Acl(acl));
    }

    /// Takes an entry off the access control lists.
    pub fn remove_acl(&mut self, acl: Acl) {
        self.set(Setting::AclRemoved(acl));
    }

    /// Creates a topic with default configuration.
    ///
    /// # Errors
    /// As `CreateTopics`: a bad name, one that exists, a wrong number of partitions.
    pub fn create_topic(&mut self, now: Now, name: &str, partitions: i32) -> io::Result<()> {
        self.create(name, partitions, 1, BTreeMap::new(), false)
            .map_err(|failure| io::Error::new(io::ErrorKind::InvalidInput, failure.text))?;
        self.settle(now);
        Ok(())
    }

    /// Deletes a topic, with its records and what groups have committed for it; one that is created under the same name
    /// is another.
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// let broker = EmbeddedBroker::start(Options::default().with_topic("orders", 3))?;
    /// broker.control(|cluster, now| cluster.delete_topic(now, "orders"))?;
    /// broker.control(|cluster, now| cluster.create_topic(now, "orders", 6))?;
    /// broker.control(|cluster, now| cluster.add_partitions(now, "orders", 9))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// When there is none, or its files cannot be deleted.
    pub fn delete_topic(&mut self, now: Now, name: &str) -> io::Result<()> {
        if self.topics.get(name).is_none() {
            let text = format!("delete topic '{name}': there is none");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        self.remove_topic(name).map_err(|failure| io::Error::other(failure.text))?;
        self.settle(now);
        Ok(())
    }

    /// Adds partitions to a topic, until it has `count`.
    ///
    /// # Errors
    /// When there is no such topic, or it has so many already; when their files cannot be written.
    pub fn add_partitions(&mut self, now: Now, topic: &str, count: i32) -> io::Result<()> {
        let has = self.topics.get(topic).map(|topic| topic.partitions.len() as i32);
        if has.is_none_or(|has| !(has + 1..=PARTITIONS_MAX).contains(&count)) {
            let text = format!("give topic '{topic}' {count} partitions: it has {}", has.unwrap_or(0));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.topics.grow(topic, count)?;
        self.record(Entry::Partitions { name: topic.to_owned(), count });
        self.settle(now);
        Ok(())
    }

    /// Makes `node` the leader of a partition, in a new leader epoch. Says whether both exist.
    pub fn move_leader(&mut self, now: Now, topic: &str, partition: i32, node: i32) -> bool {
        let moved = self.nodes.contains_key(&node) && self.lead(topic, partition, node);
        self.settle(now);
        moved
    }

    /// Makes `node` the coordinator of a transactional id.
    pub fn move_transaction_coordinator(&mut self, transactional_id: &str, node: i32) {
        self.coordinators.insert((1, transactional_id.to_owned()), node);
    }

    /// Stops a node: its connections are closed, what it led and coordinated moves to one that runs.
    pub fn stop_node(&mut self, now: Now, node: i32) {
        if !self.nodes.contains_key(&node) {
            return;
        }
        self.set_up(node, false);
        let closed: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, from)| from.node == node)
            .map(|(&connection, _)| connection)
            .collect();
        for connection in closed {
            self.close(connection);
        }
        let running: Vec<i32> = self.nodes.iter().filter(|(_, node)| node.is_up).map(|(&id, _)| id).collect();
        let led: Vec<(String, i32)> = self
            .topics
            .iter()
            .flat_map(|topic| {
                (0..).zip(&topic.partitions).map(|(index, it)| (topic.name.to_string(), index, it.leader))
            })
            .filter(|(_, _, leader)| *leader == node)
            .map(|(topic, index, _)| (topic, index))
            .collect();
        if !running.is_empty() {
            for (turn, (topic, partition)) in led.into_iter().enumerate() {
                self.lead(&topic, partition, running[turn % running.len()]);
            }
        }
        self.settle(now);
    }

    /// Whether reassignments of partitions stay under way (`AlterPartitionReassignments`) until this is called with
    /// false; by default they are done at once. What is under way when a cluster with a folder ends is so after its
    /// next start, too, which holds reassignments then.
    pub fn hold_reassignments(&mut self, now: Now, hold: bool) {
        self.holds_reassignments = hold;
        if !hold {
            self.carry_out_reassignments();
        }
        self.settle(now);
    }

    /// Makes `node` the controller, in a new epoch of the quorum; when it is stopped, the first node that runs becomes
    /// it. Says whether the node is there and runs.
    ///
    /// Clients are told so by `Metadata`, `DescribeCluster` and `DescribeQuorum`. As in Kafka 4.3 every node takes the
    /// requests that are for the controller and hands them on; for `NOT_CONTROLLER`, as brokers without KRaft answer it,
    /// there are rules.
    ///
    /// ```
    /// use tidewater_broker::{Action, ApiKey, EmbeddedBroker, ErrorCode, Options, Rule};
    ///
    /// let broker = EmbeddedBroker::start(Options { nodes: 3, ..Options::default() })?;
    /// assert!(broker.control(|cluster, _| cluster.move_controller(2)));
    /// // The controller before says once that it is none.
    /// let rule = Rule::new(Action::Error(ErrorCode::NOT_CONTROLLER)).api(ApiKey::CreateTopics).node(0);
    /// broker.add_rule(rule.times(1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn move_controller(&mut self, node: i32) -> bool {
        let can = self.is_up(node);
        if can && self.controller != node {
            self.set(Setting::Controller { node, epoch: self.controller_epoch + 1 });
        }
        can
    }

    /// Starts a stopped node. It leads nothing until something is moved to it.
    pub fn start_node(&mut self, node: i32) {
        self.set_up(node, true);
    }

    fn set_up(&mut self, node: i32, is_up: bool) {
        self.moving_groups(|cluster| {
            if let Some(node) = cluster.nodes.get_mut(&node) {
                node.is_up = is_up;
                node.is_registered |= is_up;
            }
        });
        let first = self.nodes.iter().find(|(_, node)| node.is_up).map(|(&id, _)| id);
        if let Some(first) = first.filter(|_| !self.is_up(self.controller)) {
            self.move_controller(first);
        }
    }

    /// Cuts a partition's log to end at `offset`, in a new leader epoch, as an unclean election would
    /// (KIP-320).
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn truncate(&mut self, now: Now, topic: &str, partition: i32, offset: i64) -> io::Result<()> {
        if let Some(found) = self.topics.partition_mut(topic, partition) {
            found.log.truncate(offset)?;
            let leader = found.leader;
            self.lead(topic, partition, leader);
        }
        self.settle(now);
        Ok(())
    }

    /// Compacts a partition now, where `cleanup.policy` has `compact`; else that is done every 15 s where enough is new
    /// (`min.cleanable.dirty.ratio`). The last batch is never touched.
    ///
    /// # Errors
    /// When its file cannot be read or replaced.
    pub fn compact(&mut self, now: Now, topic: &str, partition: i32) -> io::Result<()> {
        let rules = self.topics.get(topic).and_then(|topic| topic.config.compaction(now.unix_ms));
        if let (Some(rules), Some(partition)) = (rules, self.topics.partition_mut(topic, partition)) {
            partition.log.compact(rules)?;
        }
        self.settle(now);
        Ok(())
    }

    /// Deletes a partition's records below `offset`.
    pub fn delete_records(&mut self, now: Now, topic: &str, partition: i32, offset: i64) {
        self.delete_before(topic, partition, offset);
        self.settle(now);
    }

    /// Lets a node hang, as under SIGSTOP: it takes connections and requests, and answers nothing until
    /// [`Cluster::resume_node`]. What it leads and coordinates stays with it.
    pub fn pause_node(&mut self, node: i32) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.is_paused = true;
        }
    }

    /// Lets a paused node go on: it handles and answers what has come in the meantime.
    pub fn resume_node(&mut self, now: Now, node: i32) {
        let Some(resumed) = self.nodes.get_mut(&node) else { return };
        resumed.is_paused = false;
        let here =
            |connection: &ConnectionId| self.connections.get(connection).is_some_and(|it| it.node == node);
        let held = |parked: &Parked| {
            parked.until.is_none() && matches!(parked.wait, Wait::Unheard(_) | Wait::Answer(_))
        };
        let waiting: Vec<ConnectionId> = self
            .parked
            .iter()
            .filter(|(connection, parked)| here(connection) && held(parked))
            .map(|(&connection, _)| connection)
            .collect();
        for connection in waiting {
            match self.parked.remove(&connection).map(|parked| parked.wait) {
                Some(Wait::Unheard(frame)) => self.receive(now, connection, frame, true),
                Some(Wait::Answer(frame)) => self.send(connection, frame),
                _ => {}
            }
        }
        self.settle(now);
    }

    pub(super) fn is_paused(&self, node: i32) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.is_paused)
    }

    /// Serves an API only in these of its versions, or, without any, not at all, as an older broker does.
    ///
    /// ```
    /// # use tidewater_broker::{ApiKey, EmbeddedBroker, Options};
    /// let broker = EmbeddedBroker::start(Options::default())?;
    /// broker.control(|cluster, _| cluster.set_api_versions(ApiKey::Produce, Some(3..=9)));
    /// broker.control(|cluster, _| cluster.set_api_versions(ApiKey::DescribeTopicPartitions, None));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_api_versions(&mut self, api: ApiKey, versions: Option<RangeInclusive<i16>>) {
        self.api_versions.insert(api as i16, versions.map(|versions| (*versions.start(), *versions.end())));
    }

    /// How many requests of an API came in, answered or not.
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.requests.get(&(api as i16)).copied().unwrap_or(0)
    }

    /// Lets a partition forget the producers that have no transaction open there, as after
    /// `producer.id.expiration.ms`: their next batch may have any sequence, and a repeated one is a new one.
    pub fn forget_producers(&mut self, topic: &str, partition: i32) {
        if let Some(partition) = self.topics.partition_mut(topic, partition) {
            partition.log.producers.forget_idle();
        }
    }

    /// Writes the markers of all transactions that are prepared, and of later ones at once (see
    /// [`Cluster::set_marker_delay`]).
    pub fn release_markers(&mut self, now: Now) {
        self.transactions.set_marker_delay(Duration::ZERO);
        self.transactions.hasten(now.instant);
        self.settle(now);
    }

    /// Changes how long the end of a transaction stays prepared.
    pub fn set_marker_delay(&mut self, delay: Duration) {
        self.transactions.set_marker_delay(delay);
    }

    /// Closes all connections of a node, which goes on running.
    pub fn disconnect_all(&mut self, node: i32) {
        let closed: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, from)| from.node == node)
            .map(|(&connection, _)| connection)
            .collect();
        for connection in closed {
            self.output.push_back(Output::Close { connection });
            self.handle_disconnected(connection);
        }
    }
}

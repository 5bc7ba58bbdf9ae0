//! A job's graph: what each worker builds its dataflow from.

use std::sync::Arc;

use crate::engine::operator::keyed::{Divide, ErasedLogic};
use crate::engine::operator::stateless::Chain;
use crate::error::Result;
use crate::sink::AnySink;
use crate::source::AnySource;
use crate::state::KeyGroupRange;

/// The output `port` of the node with the number `node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub node: usize,
    pub port: usize,
}

/// Nodes in the order in which they were made: each takes input only from earlier ones.
#[derive(Default)]
pub(crate) struct Graph {
    pub nodes: Vec<Node>,
}

pub(crate) enum Node {
    Source { source: Box<dyn AnySource> },
    Stateless { input: Port, chain: Arc<dyn Fn() -> Chain + Send + Sync> },
    Union { inputs: Vec<Port> },
    Keyed { input: Port, keyed: KeyedNode },
    Sink { input: Port, sink: Box<dyn AnySink> },
}

/// A stateful operator. Its outputs: results, late records.
pub(crate) struct KeyedNode {
    pub uid: String,
    /// What it is and does, for the graph's hash.
    pub describe: String,
    pub divide: fn() -> Divide,
    pub logic: Arc<dyn Fn(KeyGroupRange) -> Result<Box<dyn Logic>> + Send + Sync>,
}

/// A logic before it runs: state comes back into it.
pub(crate) trait Logic: ErasedLogic {
    /// Takes a section of state; base first, then deltas in order.
    fn restore(&mut self, section: &[u8]) -> Result<()>;

    /// The same logic, as the engine runs it.
    fn run(self: Box<Self>) -> Box<dyn ErasedLogic>;
}

impl Graph {
    pub(crate) fn add(&mut self, node: Node) -> Port {
        self.nodes.push(node);
        Port { node: self.nodes.len() - 1, port: 0 }
    }

    /// A name that no stateful operator has yet.
    pub(crate) fn derived_uid(&self, kind: &str) -> String {
        let stateful = self.nodes.iter().filter(|node| matches!(node, Node::Keyed { .. })).count();
        format!("{kind}-{}", stateful + 1)
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &dyn AnySource> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Source { source } => Some(&**source),
            _ => None,
        })
    }

    pub(crate) fn sinks(&self) -> impl Iterator<Item = &dyn AnySink> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Sink { sink, .. } => Some(&**sink),
            _ => None,
        })
    }

    pub(crate) fn keyed(&self) -> impl Iterator<Item = &KeyedNode> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Keyed { keyed, .. } => Some(keyed),
            _ => None,
        })
    }

    /// The id of a job that is given none: its name, and what tells it from one of the same name that reads
    /// or writes elsewhere.
    pub(crate) fn job_id(&self, name: &str) -> String {
        let mut parts: Vec<&str> = self.sources().map(|source| source.uid()).collect();
        parts.push("to");
        parts.extend(self.sinks().map(|sink| sink.uid()));
        format!("{name}-{:08x}", xxhash_rust::xxh3::xxh3_64(parts.join("\n").as_bytes()) as u32)
    }

    /// What a manifest must agree with to be gone on from: sources, stateful operators and sinks. Stateless
    /// functions may change between two starts; what they keep is nothing.
    pub(crate) fn hash(&self) -> String {
        let mut parts: Vec<String> =
            self.sources().map(|source| format!("source {}", source.uid())).collect();
        parts.extend(self.keyed().map(|keyed| format!("{} {}", keyed.uid, keyed.describe)));
        parts.extend(self.sinks().map(|sink| format!("sink {}", sink.uid())));
        parts.sort();
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(parts.join("\n").as_bytes()))
    }

    /// For each node the number of the part of the graph that it is connected to: sources of one part share
    /// operators, and an idle one follows the others of its part.
    pub(crate) fn components(&self) -> Vec<usize> {
        let mut component: Vec<usize> = (0..self.nodes.len()).collect();
        for (index, node) in self.nodes.iter().enumerate() {
            for input in node.inputs() {
                let (from, to) = (component[input.node], component[index]);
                component.iter_mut().filter(|entry| **entry == from).for_each(|entry| *entry = to);
            }
        }
        component
    }
}

impl Node {
    pub(crate) fn inputs(&self) -> Vec<Port> {
        match self {
            Self::Source { .. } => Vec::new(),
            Self::Union { inputs } => inputs.clone(),
            Self::Stateless { input, .. } | Self::Keyed { input, .. } | Self::Sink { input, .. } => {
                vec![*input]
            }
        }
    }
}

//! Builds a worker's dataflow from the graph, the positions and the state of a start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use timely::dataflow::operators::Concatenate as _;
use timely::dataflow::{Scope, Stream};

use crate::checkpoint::{SnapshotPolicy, StateObject, StateStore, needed_by};
use crate::commit::coordinator::Coordinator;
use crate::config::Config;
use crate::engine::ack::{Ack, SplitState};
use crate::engine::control::{Control, Followers};
use crate::engine::operator::commit::{Committer, commit};
use crate::engine::operator::keyed::{KeyedParts, Snapshots, keyed};
use crate::engine::operator::sink::sink;
use crate::engine::operator::source::{SourceParts, source};
use crate::engine::operator::stateless::stateless;
use crate::engine::parcel::Parcel;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{AnySink, SinkContext, Transaction};
use crate::source::{AnySource, Assignment};
use crate::state::KeyGroupRange;
use crate::stream::graph::{Graph, KeyedNode, Node, Port};
use crate::time::Time;

/// All that the workers of one run are built from.
pub(crate) struct Plan {
    pub job: Arc<str>,
    pub config: Arc<Config>,
    pub graph: Arc<Graph>,
    pub workers: usize,
    pub bounded: bool,
    pub instance: Arc<str>,
    /// The epoch of the start manifest: what is read belongs to later ones.
    pub committed: u64,
    /// For each source, by its number, the splits of all workers.
    pub splits: Vec<Vec<SplitState>>,
    pub transaction: Transaction,
    pub store: StateStore,
    /// The objects that operators restore from, with their payloads by path.
    pub state: Vec<StateObject>,
    pub payloads: RwLock<BTreeMap<String, Bytes>>,
    /// Workers that have restored their part: when all have, the payloads go.
    pub restored: AtomicUsize,
    /// Taken by worker 0.
    pub coordinator: Mutex<Option<Coordinator>>,
    /// By part of the graph.
    pub followers: BTreeMap<usize, Arc<Followers>>,
}

type Batches<'scope> = Stream<'scope, Time, Parcel>;
type Acks<'scope> = Stream<'scope, Time, Vec<Ack>>;

/// Builds the dataflow of one worker.
pub(crate) fn build(plan: &Plan, scope: Scope<'_, Time>, control: &Arc<Control>) -> Result<()> {
    let mut builder = Builder { plan, scope, control, outputs: Vec::new(), acks: Vec::new(), sources: 0 };
    let components = plan.graph.components();
    for (node, component) in plan.graph.nodes.iter().zip(components) {
        let outputs = builder.node(node, component)?;
        builder.outputs.push(outputs);
    }
    if plan.restored.fetch_add(1, Ordering::SeqCst) + 1 == plan.workers {
        plan.payloads.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
    let mut coordinator = plan.coordinator.lock().unwrap_or_else(PoisonError::into_inner);
    let leads = scope.index() == 0;
    let committer =
        coordinator.take_if(|_| leads).map(|coordinator| Box::new(coordinator) as Box<dyn Committer>);
    commit(scope, control, committer, scope.concatenate(builder.acks));
    Ok(())
}

struct Builder<'a, 'scope> {
    plan: &'a Plan,
    scope: Scope<'scope, Time>,
    control: &'a Arc<Control>,
    /// Of each node so far.
    outputs: Vec<Vec<Batches<'scope>>>,
    acks: Vec<Acks<'scope>>,
    sources: usize,
}

impl<'scope> Builder<'_, 'scope> {
    fn node(&mut self, node: &Node, component: usize) -> Result<Vec<Batches<'scope>>> {
        Ok(match node {
            Node::Source { source } => vec![self.source(&**source, component)?],
            Node::Stateless { input, chain } => {
                vec![stateless(self.scope, self.control, "stateless", chain(), self.input(*input)?)]
            }
            Node::Union { inputs } => {
                let inputs: Result<Vec<_>> = inputs.iter().map(|input| self.input(*input)).collect();
                vec![self.scope.concatenate(inputs?)]
            }
            Node::Keyed { input, keyed } => self.keyed(keyed, self.input(*input)?)?,
            Node::Sink { input, sink } => {
                let input = self.input(*input)?;
                self.sink(&**sink, input)?;
                Vec::new()
            }
        })
    }

    fn input(&self, port: Port) -> Result<Batches<'scope>> {
        let output = self.outputs.get(port.node).and_then(|outputs| outputs.get(port.port));
        output.cloned().ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("build the dataflow: no operator has output {port:?}"))
                .with_hint("streams of two jobs cannot be combined")
        })
    }

    fn source(&mut self, any: &dyn AnySource, component: usize) -> Result<Batches<'scope>> {
        let (worker, workers) = (self.scope.index(), self.plan.workers);
        let index = self.sources;
        self.sources += 1;
        let all = self.plan.splits.get(index).map(Vec::as_slice).unwrap_or_default();
        let splits: Vec<SplitState> =
            all.iter().filter(|state| state.split.worker(workers) == worker).cloned().collect();
        let (config, job) = (Arc::clone(&self.plan.config), Arc::clone(&self.plan.job));
        let bounded = self.plan.bounded;
        let reader = any.open(Assignment {
            metrics: Arc::clone(&self.control.metrics),
            config,
            job,
            worker,
            workers,
            splits: splits.clone(),
            bounded,
        })?;
        let parts = SourceParts {
            name: any.uid().to_owned(),
            index: index as u32,
            worker: worker as u32,
            reader,
            splits,
            strategy: any.watermarks(),
            bounded,
            followers: self.plan.followers.get(&component).map(Arc::clone).unwrap_or_default(),
        };
        let (batches, acks) = source(self.scope, self.control, parts);
        self.acks.push(acks);
        Ok(batches)
    }

    fn keyed(&mut self, node: &KeyedNode, input: Batches<'scope>) -> Result<Vec<Batches<'scope>>> {
        let worker = self.scope.index();
        let groups = KeyGroupRange::of_worker(worker, self.plan.workers);
        let mut logic = (node.logic)(groups)?;
        let restored = needed_by(&self.plan.state, &node.uid, groups);
        let payloads = self.plan.payloads.read().unwrap_or_else(PoisonError::into_inner);
        for object in &restored {
            let payload = payloads.get(&object.object.path).map(AsRef::as_ref).unwrap_or_default();
            logic.restore(payload)?;
        }
        drop(payloads);
        let snapshots = Snapshots {
            store: self.plan.store.clone(),
            instance: Arc::clone(&self.plan.instance),
            worker,
            uid: node.uid.as_str().into(),
            groups,
            policy: SnapshotPolicy::restored(restored, groups),
        };
        let parts =
            KeyedParts { name: node.uid.clone(), divide: (node.divide)(), logic: logic.run(), snapshots };
        let streams = keyed(self.scope, self.control, parts, input);
        self.acks.push(streams.acks);
        Ok(vec![streams.results, streams.late])
    }

    fn sink(&mut self, any: &dyn AnySink, input: Batches<'scope>) -> Result<()> {
        let context = SinkContext {
            metrics: Arc::clone(&self.control.metrics),
            config: Arc::clone(&self.plan.config),
            job: Arc::clone(&self.plan.job),
            worker: self.scope.index(),
            workers: self.plan.workers,
            transaction: Arc::clone(&self.plan.transaction),
        };
        let writer = any.open(context)?;
        self.acks.push(sink(self.scope, self.control, any.uid(), writer, input));
        Ok(())
    }
}

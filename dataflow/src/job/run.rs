//! One run of a job: from the newest manifest until it has ended, stopped or failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, RwLock};

use crate::checkpoint::{Collector, StateStore};
use crate::commit::coordinator::{Coordinator, Observer, to_partition, to_split};
use crate::commit::manifest::{Expected, FORMAT_VERSION, OutputState, SourceState};
use crate::commit::{CommitStart, CommitStore, Committed, Manifest, Session};
use crate::config::Config;
use crate::engine::ack::SplitState;
use crate::engine::control::{Control, World};
use crate::engine::crash;
use crate::engine::epoch::EpochLimits;
use crate::engine::worker;
use crate::error::Result;
use crate::job::dataflow::{Plan, build};
use crate::job::settings::Settings;
use crate::metrics::Metrics;
use crate::sink::{OutputTopic, SinkStart};
use crate::source::{Prepared, SourceStart};
use crate::stream::graph::Graph;

/// What every run of a job has in common.
pub(crate) struct Spec {
    /// The job's id: transactions, manifest and state are kept under it.
    pub id: Arc<str>,
    pub config: Arc<Config>,
    pub graph: Arc<Graph>,
    pub settings: Settings,
    pub commits: Arc<dyn CommitStore>,
    pub store: StateStore,
    pub observers: Vec<Observer>,
    pub metrics: Arc<Metrics>,
}

/// Whether there is anything to run.
pub(crate) enum Start {
    /// A bounded run ended at this epoch: there is nothing left to do.
    Finished(u64),
    Run(Box<Plan>),
}

impl Spec {
    /// Takes over from every earlier run, finds where to go on, and commits that as the start manifest.
    /// `fresh` leaves the newest manifest behind.
    pub(crate) async fn start(&self, instance: &str, fresh: bool) -> Result<Start> {
        let begin = CommitStart {
            config: Arc::clone(&self.config),
            job: Arc::clone(&self.id),
            instance: instance.into(),
        };
        let session = self.commits.start(begin).await?;
        let restored = session.manifest.as_ref().filter(|_| !fresh);
        let sources = self.prepare_sources(restored, fresh).await?;
        let outputs = self.prepare_sinks(&session).await?;
        let graph = self.graph.hash();
        if let Some(manifest) = restored {
            let topic_ids = &topic_ids(&sources, &outputs);
            manifest.check(&Expected {
                job: &self.id,
                graph: &graph,
                cluster: session.cluster.as_deref(),
                topic_ids,
            })?;
            if manifest.finished {
                return Ok(Start::Finished(manifest.epoch));
            }
        }
        let manifest = self.start_manifest(instance, graph, &session, restored, &sources, outputs);
        let collector = Collector::new(self.store.list().await?, []);
        session.commits.commit(manifest.clone()).await?;
        crash::at("started");
        let from = starts(&manifest.sources);
        tracing::info!(job = %self.id, instance, epoch = manifest.epoch, from, "job started");
        self.plan(instance, session, manifest, sources, collector)
            .await
            .map(|plan| Start::Run(Box::new(plan)))
    }

    async fn prepare_sources(&self, restored: Option<&Manifest>, fresh: bool) -> Result<Vec<Prepared>> {
        let mut sources = Vec::new();
        for source in self.graph.sources() {
            let start = SourceStart {
                config: Arc::clone(&self.config),
                job: Arc::clone(&self.id),
                restored: restored.map(|manifest| splits_of(manifest, source.uid())),
                at: self.settings.start,
                fresh,
                bounded: self.settings.bounded,
            };
            sources.push(source.prepare(start).await?);
        }
        Ok(sources)
    }

    async fn prepare_sinks(&self, session: &Session) -> Result<Vec<OutputTopic>> {
        let mut outputs = Vec::new();
        for sink in self.graph.sinks() {
            let start = SinkStart {
                config: Arc::clone(&self.config),
                job: Arc::clone(&self.id),
                transaction: Arc::clone(&session.transaction),
            };
            outputs.extend(sink.prepare(start).await?);
        }
        Ok(outputs)
    }

    fn start_manifest(
        &self,
        instance: &str,
        graph: String,
        session: &Session,
        restored: Option<&Manifest>,
        sources: &[Prepared],
        outputs: Vec<OutputTopic>,
    ) -> Manifest {
        let states = self.graph.sources().zip(sources);
        Manifest {
            version: FORMAT_VERSION,
            job: self.id.to_string(),
            graph,
            instance: instance.to_owned(),
            cluster: session.cluster.clone(),
            // Also of a fresh start: a job never uses an epoch twice.
            epoch: session.manifest.as_ref().map_or(0, |manifest| manifest.epoch) + 1,
            sources: states.flat_map(|(source, prepared)| source_states(source.uid(), prepared)).collect(),
            outputs: outputs
                .into_iter()
                .map(|output| {
                    let state = OutputState { topic_id: output.topic_id, partitions: output.partitions };
                    (output.topic, state)
                })
                .collect(),
            state: restored.map(|manifest| manifest.state.clone()).unwrap_or_default(),
            finished: false,
        }
    }

    async fn plan(
        &self,
        instance: &str,
        session: Session,
        manifest: Manifest,
        sources: Vec<Prepared>,
        collector: Collector,
    ) -> Result<Plan> {
        let state = manifest.state.clone();
        let mut payloads = BTreeMap::new();
        for object in &state {
            payloads.insert(object.object.path.clone(), self.store.read(&object.object).await?);
        }
        let workers = self.settings.workers;
        let coordinator = Coordinator {
            commits: session.commits,
            observers: self.observers.clone(),
            sources: self.graph.sources().map(|source| source.uid().to_owned()).collect(),
            workers,
            store: self.store.clone(),
            collector,
            ended: BTreeSet::new(),
            open: Committed::default(),
            manifest,
        };
        Ok(Plan {
            job: Arc::clone(&self.id),
            config: Arc::clone(&self.config),
            graph: Arc::clone(&self.graph),
            workers,
            bounded: self.settings.bounded,
            instance: instance.into(),
            committed: coordinator.manifest.epoch,
            splits: sources.into_iter().map(|source| source.splits).collect(),
            transaction: session.transaction,
            store: self.store.clone(),
            state,
            payloads: RwLock::new(payloads),
            restored: AtomicUsize::new(0),
            coordinator: Mutex::new(Some(coordinator)),
            followers: self.graph.components().into_iter().map(|part| (part, Arc::default())).collect(),
        })
    }

    /// What the workers of a planned run share.
    pub(crate) fn control(&self, plan: &Plan, world: Arc<dyn World>) -> Arc<Control> {
        let limits = EpochLimits { records: self.settings.epoch_records, bytes: self.settings.epoch_bytes };
        Control::new(world, Arc::clone(&self.metrics), plan.committed, limits, self.settings.buffer_bytes)
    }
}

/// Runs the workers of a planned run to its end.
pub(crate) fn execute(plan: Plan, control: &Arc<Control>) -> Result<()> {
    let workers = plan.workers;
    let build: Arc<worker::Build> = Arc::new(move |scope, control| build(&plan, scope, control));
    worker::run(workers, control, &build)
}

/// The splits of a source as a manifest has them.
fn splits_of(manifest: &Manifest, uid: &str) -> Vec<SplitState> {
    let states = manifest.sources.iter().filter(|state| state.uid == uid);
    states
        .flat_map(|state| state.partitions.iter().map(|partition| to_split(&state.topic, partition)))
        .collect()
}

/// A source as the manifest has it: an entry for each of its topics.
fn source_states(uid: &str, prepared: &Prepared) -> Vec<SourceState> {
    let state = |(topic, topic_id): &(String, Option<String>)| {
        let splits = prepared.splits.iter().filter(|state| state.split.topic == *topic);
        let mut partitions: Vec<_> = splits.map(to_partition).collect();
        partitions.sort_by_key(|partition| partition.partition);
        SourceState { uid: uid.to_owned(), topic: topic.clone(), topic_id: topic_id.clone(), partitions }
    };
    prepared.topics.iter().map(state).collect()
}

/// Where the sources begin, for the log: the first partitions of each.
fn starts(sources: &[SourceState]) -> String {
    const SHOWN: usize = 8;
    let start = |source: &SourceState| {
        let shown = source.partitions.iter().take(SHOWN);
        let mut starts: Vec<String> =
            shown.map(|at| format!("{}-{}@{}", source.topic, at.partition, at.offset)).collect();
        if source.partitions.len() > SHOWN {
            starts.push(format!("and {} more", source.partitions.len() - SHOWN));
        }
        starts.join(" ")
    };
    sources.iter().map(start).collect::<Vec<_>>().join(" ")
}

fn topic_ids(sources: &[Prepared], outputs: &[OutputTopic]) -> BTreeMap<String, String> {
    let inputs = sources.iter().flat_map(|source| &source.topics).cloned();
    let outputs = outputs.iter().map(|output| (output.topic.clone(), output.topic_id.clone()));
    inputs.chain(outputs).filter_map(|(topic, id)| Some((topic, id?))).collect()
}

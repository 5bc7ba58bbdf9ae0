//! Jobs: a graph with a name, run by workers until it ends, is stopped, or fails for good. Layer 7.

pub(crate) mod dataflow;
mod handle;
pub(crate) mod run;
mod settings;
#[cfg(test)]
mod tests;

pub use handle::{JobHandle, Outcome, Status};
pub use settings::Settings;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::checkpoint::StateStore;
use crate::commit::coordinator::Observer;
use crate::commit::{CommitStore, Committed};
use crate::error::{Error, ErrorKind, Result};
use crate::job::run::Spec;
use crate::source::Source;
use crate::stream::Stream;
use crate::stream::graph::{Graph, Node};
use crate::stream::keyed::duplicate_uid;

/// A job under construction: sources, what is done to their streams, and sinks.
///
/// ```
/// use std::time::Duration;
/// use dataflow::commit::MemoryStore;
/// use dataflow::memory::MemoryLog;
/// use dataflow::{Job, Settings, MemorySink, MemorySource, Tumbling, Count};
///
/// let log = MemoryLog::new();
/// log.create_topic("lines", 2);
/// log.create_topic("counts", 1);
/// log.append("lines", 0, 1_000, &"to be or not to be".to_string())?;
/// log.append("lines", 1, 2_000, &"be quick".to_string())?;
///
/// let mut job = Job::new("word-count");
/// job.source(MemorySource::<String>::new(&log, "lines"))
///     .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
///     .key_by(|word| word.clone())
///     .window(Tumbling::of(Duration::from_secs(10)))
///     .uid("words")
///     .aggregate(Count)
///     .map(|window| (window.key, window.value))
///     .sink(MemorySink::new(&log, "counts"));
/// job.commit_to(MemoryStore::new(&log));
/// job.run(Settings { workers: 2, bounded: true, ..Settings::default() })?;
///
/// let mut counts: Vec<(i64, (String, u64))> = log.read("counts")?.concat();
/// counts.sort();
/// assert_eq!(counts[0], (9_999, ("be".to_string(), 3)));
/// # Ok::<(), dataflow::Error>(())
/// ```
pub struct Job {
    name: String,
    graph: Rc<RefCell<Graph>>,
    commits: Option<Arc<dyn CommitStore>>,
    store: Option<StateStore>,
    observers: Vec<Observer>,
}

impl Job {
    /// A job without anything in it. Its name tells it from others: positions and state are kept under it.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), graph: Rc::default(), commits: None, store: None, observers: Vec::new() }
    }

    /// Adds a source.
    pub fn source<S: Source>(&mut self, source: S) -> Stream<S::Item> {
        let port = self.graph.borrow_mut().add(Node::Source { source: Box::new(source) });
        Stream::from_port(&self.graph, port)
    }

    /// Says where epochs are committed: where the sinks write. Not needed with Kafka: its sinks, and where there
    /// are none its sources, say so themselves.
    pub fn commit_to(&mut self, store: impl CommitStore) -> &mut Self {
        self.commits = Some(Arc::new(store));
        self
    }

    /// Says where the state of operators is kept, instead of `state.url`.
    pub fn keep_state_in(&mut self, store: StateStore) -> &mut Self {
        self.store = Some(store);
        self
    }

    /// Has `observer` called after each commit, on a worker's thread.
    pub fn on_commit(&mut self, observer: impl Fn(&Committed) + Send + Sync + 'static) -> &mut Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Runs the job until it ends, and, if it fails for a reason that may pass, again from its manifest. Takes
    /// [`Settings`], or a [`crate::Config`] that they are made from.
    ///
    /// # Errors
    /// What failed it for good.
    pub fn run(self, settings: impl Into<Settings>) -> Result<Outcome> {
        self.start(settings)?.wait()
    }

    /// Starts the job on threads of its own.
    ///
    /// # Errors
    /// When the job cannot be run as it is; what goes wrong later is what [`JobHandle::wait`] returns.
    pub fn start(self, settings: impl Into<Settings>) -> Result<JobHandle> {
        JobHandle::start(self.into_spec(settings.into())?)
    }

    pub(crate) fn into_spec(self, settings: Settings) -> Result<Spec> {
        let usage = |attempted: String| Error::new(ErrorKind::Usage, attempted);
        let name = &self.name;
        if settings.workers == 0 {
            return Err(
                usage(format!("run job \"{name}\" with no workers")).with_hint("give it at least one")
            );
        }
        let graph = std::mem::take(&mut *self.graph.borrow_mut());
        if graph.sources().next().is_none() {
            return Err(
                usage(format!("run job \"{name}\": it has no source")).with_hint("add one with Job::source")
            );
        }
        check_uids(&graph)?;
        let of_sinks = graph.sinks().find_map(|sink| sink.commit_store());
        let of_sources = || graph.sources().find_map(|source| source.commit_store());
        let commits = self.commits.or(of_sinks).or_else(of_sources).ok_or_else(|| {
            usage(format!("run job \"{name}\": nothing says where it commits"))
                .with_hint("use a Kafka source or sink, or say so with Job::commit_to")
        })?;
        let id = settings.config.job_id.clone().unwrap_or_else(|| graph.job_id(name));
        let store = match (self.store, &settings.config.state_url) {
            (Some(store), _) => store,
            (None, Some(url)) => StateStore::open(url, &id)?,
            (None, None) if graph.keyed().next().is_some() && commits.is_durable() => {
                return Err(usage(format!("run job \"{name}\": nothing says where its state is kept"))
                    .with_hint("set state.url to a folder, or to memory: for state that may be lost"));
            }
            (None, None) => StateStore::memory(),
        };
        Ok(Spec {
            id: id.into(),
            config: Arc::new(settings.config.clone()),
            graph: Arc::new(graph),
            settings,
            commits,
            store,
            observers: self.observers,
            metrics: Arc::default(),
        })
    }
}

fn check_uids(graph: &Graph) -> Result<()> {
    let sources: Vec<&str> = graph.sources().map(|source| source.uid()).collect();
    let keyed: Vec<&str> = graph.keyed().map(|keyed| keyed.uid.as_str()).collect();
    for uids in [sources, keyed] {
        for (index, uid) in uids.iter().enumerate() {
            if uids.iter().take(index).any(|other| other == uid) {
                return Err(duplicate_uid(uid));
            }
        }
    }
    Ok(())
}

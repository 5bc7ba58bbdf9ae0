//! A running job: stop it, wait for it, look at it. And the policy that restarts it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::bridge::Bridge;
use crate::engine::control::{Control, World};
use crate::error::{Error, ErrorKind, Result};
use crate::job::run::{Spec, Start, execute};
use crate::metrics::Metrics;

/// How a job came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A bounded input was read to its end, and all of it is committed in this epoch.
    Finished {
        /// The last epoch.
        epoch: u64,
    },
    /// The job was stopped: everything read is committed in this epoch or an earlier one, open windows are in
    /// the state, and the next start goes on from there.
    Stopped {
        /// The newest committed epoch.
        epoch: u64,
    },
}

/// A running job.
pub struct JobHandle {
    id: Arc<str>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    thread: Option<JoinHandle<Result<Outcome>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    restarts: u32,
    control: Option<Arc<Control>>,
}

/// A look at a running job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The newest committed epoch; none while the job starts.
    pub committed: Option<u64>,
    /// Bytes read that nobody has consumed yet.
    pub buffered_bytes: usize,
    /// How often the job was restarted since it last got anywhere.
    pub restarts: u32,
}

impl JobHandle {
    pub(crate) fn start(spec: Spec) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let metrics = Arc::clone(&spec.metrics);
        let id = Arc::clone(&spec.id);
        let supervisor = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("job-{}", spec.id))
            .spawn(move || supervisor.supervise(&spec))
            .map_err(|error| Error::new(ErrorKind::Usage, "start a thread for the job").with_cause(error))?;
        Ok(Self { id, shared, metrics, thread: Some(thread) })
    }

    /// Asks the job to end: it closes and commits the running epoch. No window fires before its time.
    pub fn stop(&self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        if let Some(control) = &state.control {
            control.epochs.stop();
        }
        self.shared.changed.notify_all();
    }

    /// Waits until the job has ended.
    ///
    /// # Errors
    /// What failed the job for good.
    pub fn wait(mut self) -> Result<Outcome> {
        let ended = self.thread.take().map(JoinHandle::join);
        ended
            .and_then(std::thread::Result::ok)
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Usage, "run a job: its supervisor panicked")))
    }

    /// Whether the job has ended: [`JobHandle::wait`] returns at once then.
    pub fn is_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The job's id: what its positions, state and transactions are kept under.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The job's figures, over its restarts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How the job is doing.
    pub fn status(&self) -> Status {
        let state = self.shared.lock();
        let control = state.control.as_ref();
        Status {
            committed: control.map(|control| control.epochs.committed()),
            buffered_bytes: control.map_or(0, |control| control.credits.used_bytes()),
            restarts: state.restarts,
        }
    }
}

/// The longest wait before a restart.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn supervise(&self, spec: &Spec) -> Result<Outcome> {
        let bridge = Arc::new(Bridge::start()?);
        let mut backoff = spec.settings.restart_backoff;
        let mut fresh = spec.settings.fresh;
        loop {
            let (error, progressed) = match self.attempt(spec, &bridge, &mut fresh) {
                Ok(outcome) => return Ok(outcome),
                Err(failed) => failed,
            };
            let mut state = self.lock();
            if progressed {
                state.restarts = 0;
                backoff = spec.settings.restart_backoff;
            }
            if !error.is_retriable() || state.restarts >= spec.settings.max_restarts || state.stopping {
                tracing::error!(job = %spec.id, %error, restarts = state.restarts, "job failed");
                return Err(error);
            }
            state.restarts += 1;
            spec.metrics.restarts.add(1);
            tracing::warn!(job = %spec.id, %error, restart = state.restarts, ?backoff, "job failed, restarting");
            let waited = self.changed.wait_timeout_while(state, backoff, |state| !state.stopping);
            drop(waited);
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// One run. An error comes with whether anything but the start was committed before it.
    /// `fresh` is cleared once the job has begun anew: a restart goes on from there.
    fn attempt(&self, spec: &Spec, bridge: &Arc<Bridge>, fresh: &mut bool) -> Result<Outcome, (Error, bool)> {
        let plan = match bridge.run(spec.start(&bridge.unique(), *fresh)).map_err(|error| (error, false))? {
            Start::Finished(epoch) => return Ok(Outcome::Finished { epoch }),
            Start::Run(plan) => *plan,
        };
        *fresh = false;
        let committed = spec.metrics.epochs_committed.value();
        let control = spec.control(&plan, Arc::clone(bridge) as Arc<dyn World>);
        {
            let mut state = self.lock();
            state.control = Some(Arc::clone(&control));
            if state.stopping {
                control.epochs.stop();
            }
        }
        bridge.tick(&control, spec.settings.epoch_interval);
        let bounded = plan.bounded;
        let ended = execute(plan, &control);
        let epoch = control.epochs.committed();
        ended.map_err(|error| (error, spec.metrics.epochs_committed.value() > committed))?;
        let stopped = self.lock().stopping;
        Ok(if bounded && !stopped { Outcome::Finished { epoch } } else { Outcome::Stopped { epoch } })
    }
}

//! The one seam between timely and tokio: background tasks, timers and the wall clock of a running job.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::engine::control::{BoxFuture, Control, Step, World};
use crate::error::{Error, ErrorKind, Result};

/// What `future` comes to, or none if that takes longer than `limit`. Only on the bridge.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// Waits. Only on the bridge.
pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The monotonic clock.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the bridge is where the clock is read")]
    Instant::now()
}

/// A thread that runs a job's I/O: commits, snapshots, timers. Operators never block on it.
pub(crate) struct Bridge {
    tasks: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives no thread or no event queue.
    pub(crate) fn start() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Usage, "start the thread for a job's I/O").with_cause(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        // Bounded by what operators ask for: a commit, a snapshot per operator and epoch, a flush per sink.
        let (tasks, mut accepted) = mpsc::unbounded_channel::<BoxFuture<'static, ()>>();
        let run = move || {
            runtime.block_on(async move {
                while let Some(task) = accepted.recv().await {
                    #[expect(clippy::disallowed_methods, reason = "the bridge is where tasks are spawned")]
                    tokio::spawn(task);
                }
            });
        };
        let thread = std::thread::Builder::new().name("dataflow-io".into()).spawn(run).map_err(failed)?;
        Ok(Self { tasks, handle, thread: Some(thread) })
    }

    /// Runs `future` on the calling thread, with the bridge's timers and I/O at hand, and waits for it.
    /// Not for operators: it blocks.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }

    /// A name that no other run of any job has.
    pub(crate) fn unique(&self) -> String {
        #[expect(clippy::disallowed_methods, reason = "the bridge is where the clock is read")]
        let now = SystemTime::now();
        let nanos = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        format!("{:016x}-{:x}", nanos, std::process::id())
    }

    /// Ends an epoch every `interval`, until the run has ended.
    pub(crate) fn tick(&self, control: &Arc<Control>, interval: Duration) {
        let control = Arc::downgrade(control);
        self.spawn(Box::pin(async move {
            let mut interval = tokio::time::interval(interval);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval.tick().await;
            loop {
                interval.tick().await;
                let Some(control) = control.upgrade() else { break };
                control.epochs.tick();
            }
        }));
    }
}

impl World for Bridge {
    fn now_ms(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "the bridge is where the clock is read")]
        let now = SystemTime::now();
        now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // An error says that the thread is gone: the task is dropped, which its waiter is told.
        let _ = self.tasks.send(task);
    }

    fn turn(&self, _worker: usize) -> Option<Step> {
        Some(None)
    }

    fn done(&self, _worker: usize) {}
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let (closed, _) = mpsc::unbounded_channel();
        self.tasks = closed;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

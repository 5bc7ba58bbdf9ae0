//! The threads of a job: one timely worker each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use timely::WorkerConfig;
use timely::communication::{Allocator, Config, initialize};
use timely::dataflow::Scope;
use timely::worker::Worker;

use crate::engine::control::Control;
use crate::engine::operator::panicked;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

/// Builds the dataflow of one worker. All workers must build the same operators in the same order.
pub(crate) type Build = dyn for<'scope> Fn(Scope<'scope, Time>, &Arc<Control>) -> Result<()> + Send + Sync;

/// Runs a dataflow on `workers` threads until it has ended or failed.
///
/// # Errors
/// The first failure of any worker.
pub(crate) fn run(workers: usize, control: &Arc<Control>, build: &Arc<Build>) -> Result<()> {
    let failed = |cause| Error::new(ErrorKind::Usage, format!("start {workers} workers: {cause}"));
    let shared = (Arc::clone(control), Arc::clone(build));
    let run = move |allocator| run_worker(allocator, &shared.0, &*shared.1);
    let threads = initialize(Config::Process(workers), run).map_err(failed)?;
    for cause in threads.join().into_iter().filter_map(Result::err) {
        control.fail(Error::new(ErrorKind::Usage, format!("run a worker: {cause}")));
    }
    control.failure().map_or(Ok(()), Err)
}

fn run_worker(allocator: Allocator, control: &Arc<Control>, build: &Build) {
    control.register(std::thread::current());
    let index = allocator.index();
    let ran = catch_unwind(AssertUnwindSafe(|| step_to_the_end(allocator, index, control, build)));
    if let Err(panic) = ran {
        control.fail(panicked(&format!("worker {index}"), &*panic));
    }
    control.world.done(index);
}

#[expect(clippy::disallowed_methods, reason = "timely parks only when it has a clock to reckon from")]
fn step_to_the_end(allocator: Allocator, index: usize, control: &Arc<Control>, build: &Build) {
    let mut worker = Worker::new(WorkerConfig::default(), allocator, Some(std::time::Instant::now()));
    let dataflow = worker.next_dataflow_index();
    let built = worker.dataflow::<Time, _, _>(|scope| build(scope, control));
    control.check(built);
    while worker.has_dataflows() {
        let Some(step) = control.world.turn(index) else { return };
        if control.has_failed() {
            worker.drop_dataflow(dataflow);
            return;
        }
        worker.step_or_park(step);
    }
}

//! The commit operator: one for the job, on worker 0. An epoch ends here or not at all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::engine::ack::Ack;
use crate::engine::control::{BoxFuture, Control, Task};
use crate::engine::timestamp;
use crate::error::Result;
use crate::time::{END, START, Time, time_of};

/// Decides what the commit of an epoch is. Called in the order of epochs, one commit at a time.
pub(crate) trait Committer {
    /// Everything in `epoch` is acknowledged. `None`: there is nothing in it to commit.
    fn close(&mut self, epoch: u64, acks: Vec<Ack>) -> Option<BoxFuture<'static, Result<()>>>;

    /// What was closed last is committed. Returns what is to be tidied up in the background.
    fn committed(&mut self) -> Option<BoxFuture<'static, ()>>;

    /// Whether what was closed last is the end of the job.
    fn is_finished(&self) -> bool;
}

/// Builds the operator on every worker; all acknowledgements go to worker 0's, the only one with a committer.
pub(crate) fn commit<'scope>(
    scope: Scope<'scope, Time>,
    control: &Arc<Control>,
    committer: Option<Box<dyn Committer>>,
    acks: Stream<'scope, Time, Vec<Ack>>,
) {
    let mut builder = OperatorBuilder::new("commit".to_owned(), scope);
    let mut input = builder.new_input(acks, Exchange::new(|_: &Ack| 0));
    let address = builder.operator_info().address;
    let waker = timestamp::waker(scope.worker().sync_activator_for(address.to_vec()));
    if committer.is_some() {
        control.epochs.listen(waker.clone());
    }
    let mut operator = committer.map(|committer| CommitOperator {
        waker,
        ended: VecDeque::new(),
        control: Arc::clone(control),
        committer,
        next: control.epochs.committed() + 1,
        acks: BTreeMap::new(),
        complete: VecDeque::new(),
        committing: None,
    });
    builder.build(move |_capabilities| {
        move |frontiers| {
            let Some(operator) = &mut operator else { return };
            input.for_each(|capability, acks| operator.receive(capability.time().epoch, acks));
            if let Some(frontier) = frontiers.first() {
                operator.measure(timestamp::watermark(frontier));
                operator.schedule(timestamp::open_epoch(frontier));
            }
        }
    });
}

struct CommitOperator {
    waker: Waker,
    control: Arc<Control>,
    committer: Box<dyn Committer>,
    /// Epochs that have ended and when (in ms), until they are committed.
    ended: VecDeque<(u64, i64)>,
    /// The first epoch that is not known to be complete.
    next: u64,
    acks: BTreeMap<u64, Vec<Ack>>,
    complete: VecDeque<u64>,
    committing: Option<(u64, Task<()>)>,
}

impl CommitOperator {
    fn receive(&mut self, epoch: u64, acks: &mut Vec<Ack>) {
        self.acks.entry(epoch).or_default().append(acks);
    }

    /// Notes what is only shown: how far event time has come, and when epochs ended.
    fn measure(&mut self, watermark: Option<u64>) {
        if let Some(watermark) = watermark.filter(|watermark| ![START, END].contains(watermark)) {
            self.control.metrics.watermark_ms.set(time_of(watermark));
        }
        let noted = self.ended.back().map_or_else(|| self.control.epochs.committed(), |(epoch, _)| *epoch);
        let now_ms = self.control.world.now_ms();
        self.ended.extend((noted + 1..self.control.epochs.current()).map(|epoch| (epoch, now_ms)));
    }

    /// `open` is the least epoch that is not complete; none when the dataflow is going away, and then
    /// nothing is complete that was not before (D4.3).
    fn schedule(&mut self, open: Option<u64>) {
        while open.is_some_and(|open| self.next < open) {
            self.complete.push_back(self.next);
            self.next += 1;
        }
        while !self.control.has_failed() && self.step() {}
    }

    /// One step towards the next commit; false when there is nothing to be done now.
    fn step(&mut self) -> bool {
        if let Some((epoch, task)) = &self.committing {
            let epoch = *epoch;
            let Poll::Ready(result) = task.poll(&self.waker) else { return false };
            self.committing = None;
            if self.control.check(result).is_some() {
                self.measure_commit(epoch);
                if let Some(tidy) = self.committer.committed() {
                    self.control.world.spawn(tidy);
                }
                self.done(epoch);
            }
            return true;
        }
        let Some(epoch) = self.complete.pop_front() else { return false };
        match self.committer.close(epoch, self.acks.remove(&epoch).unwrap_or_default()) {
            Some(commit) => self.committing = Some((epoch, self.control.spawn(commit))),
            None => self.done(epoch),
        }
        true
    }

    fn measure_commit(&self, epoch: u64) {
        let ended = self.ended.iter().find(|(ended, _)| *ended == epoch).map(|(_, at_ms)| *at_ms);
        let took_ms = ended.map_or(0, |at_ms| self.control.world.now_ms().saturating_sub(at_ms));
        let took = Duration::from_millis(u64::try_from(took_ms).unwrap_or_default());
        self.control.metrics.commit_latency.record(took);
        self.control.metrics.epochs_committed.add(1);
    }

    fn done(&mut self, epoch: u64) {
        self.ended.retain(|(ended, _)| *ended > epoch);
        self.control.epochs.commit(epoch);
        if self.committer.is_finished() {
            self.control.epochs.release();
        }
    }
}

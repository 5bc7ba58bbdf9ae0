//! The sink operator: encodes as batches come, hands a complete epoch to its transaction, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::channels::pushers::Output;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::engine::ack::Ack;
use crate::engine::control::Control;
use crate::engine::credit::Credit;
use crate::engine::operator::guard;
use crate::engine::parcel::Parcel;
use crate::engine::timestamp;
use crate::error::Result;
use crate::time::{START, Time};

/// A sink as the engine writes it, on one worker.
pub(crate) trait ErasedWriter {
    /// Takes (encodes, buffers) output of `epoch`, which may be later than the one that is sent next.
    fn write(&mut self, epoch: u64, parcel: Parcel) -> Result<()>;

    /// Puts all output of `epoch` into its transaction; ready when the store has acknowledged it.
    /// Called only when the epoch is complete and every earlier one is committed.
    fn poll_send(&mut self, epoch: u64, cx: &mut Context<'_>) -> Poll<Result<()>>;
}

/// Builds the operator. Its output: an acknowledgement for each epoch that had output.
pub(crate) fn sink<'scope>(
    scope: Scope<'scope, Time>,
    control: &Arc<Control>,
    name: &str,
    writer: Box<dyn ErasedWriter>,
    input: Stream<'scope, Time, Parcel>,
) -> Stream<'scope, Time, Vec<Ack>> {
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let mut input = builder.new_input(input, Pipeline);
    let (mut acks, stream) = builder.new_output();
    let address = builder.operator_info().address;
    let waker = timestamp::waker(scope.worker().sync_activator_for(address.to_vec()));
    control.epochs.listen(waker.clone());
    let mut operator = SinkOperator {
        control: Arc::clone(control),
        waker,
        name: name.to_owned(),
        writer,
        held: None,
        epoch: control.epochs.committed() + 1,
        watermark: START,
        open: BTreeMap::new(),
    };
    builder.build(move |mut capabilities| {
        operator.held = capabilities.pop();
        operator.downgrade();
        move |frontiers| {
            input.for_each(|capability, parcel| {
                operator.write(capability.time().epoch, std::mem::take(parcel))
            });
            if let Some(frontier) = frontiers.first() {
                let open = timestamp::open_epoch(frontier).zip(timestamp::watermark(frontier));
                operator.schedule(open, &mut acks);
            }
        }
    });
    stream
}

struct SinkOperator {
    control: Arc<Control>,
    waker: Waker,
    name: String,
    writer: Box<dyn ErasedWriter>,
    /// Holds the oldest epoch that is not in its transaction yet.
    held: Option<Capability<Time>>,
    epoch: u64,
    /// How far event time has come here; only told to the commit operator, which shows it.
    watermark: u64,
    open: BTreeMap<u64, Pending>,
}

/// Output that is not acknowledged yet. It keeps its credits: sink buffers count (D6).
#[derive(Default)]
struct Pending {
    records: u64,
    credits: Vec<Arc<Credit>>,
}

impl SinkOperator {
    fn write(&mut self, epoch: u64, parcel: Parcel) {
        if self.control.has_failed() {
            return;
        }
        let pending = self.open.entry(epoch).or_default();
        pending.records += parcel.len() as u64;
        pending.credits.extend(parcel.credit.clone());
        let written = guard(&self.name, || self.writer.write(epoch, parcel));
        self.control.check(written);
    }

    /// `open`: the least epoch and the least watermark that may still come.
    fn schedule(&mut self, open: Option<(u64, u64)>, acks: &mut Output<Time, Vec<Ack>>) {
        let Some((open, watermark)) = open.filter(|_| !self.control.epochs.is_released()) else {
            // The dataflow is going away: what is not complete by now never will be.
            self.held = None;
            return;
        };
        while self.epoch < open && !self.control.has_failed() {
            if let Some(pending) = self.open.get(&self.epoch) {
                let records = pending.records;
                let Some(()) = self.send() else { return };
                self.control.metrics.records_out.add(records);
                if let Some(held) = &self.held {
                    acks.activate().give(held, &mut vec![Ack::Sink { records }]);
                }
                self.open.remove(&self.epoch);
            }
            self.epoch += 1;
            self.downgrade();
        }
        self.watermark = self.watermark.max(watermark);
        self.downgrade();
    }

    /// Sends the oldest epoch if it is its turn: nobody writes for e + 1 before e is committed (D5).
    fn send(&mut self) -> Option<()> {
        if self.control.epochs.committed() + 1 < self.epoch {
            return None;
        }
        let mut cx = Context::from_waker(&self.waker);
        let sent: Poll<Result<()>> =
            match guard(&self.name, || Ok(self.writer.poll_send(self.epoch, &mut cx))) {
                Ok(sent) => sent,
                Err(error) => Poll::Ready(Err(error)),
            };
        match sent {
            Poll::Ready(result) => self.control.check(result),
            Poll::Pending => None,
        }
    }

    fn downgrade(&mut self) {
        let time = Time::new(self.epoch, self.watermark);
        if let Some(held) = &mut self.held
            && *held.time() != time
        {
            held.downgrade(&time);
        }
    }
}

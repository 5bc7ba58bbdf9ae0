//! The skeleton of every stateful operator: epochs aligned, watermarks advanced, state made durable (D4.1–3).

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use timely::communication::Push;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::Output;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::checkpoint::{SnapshotPolicy, StateObject, StateStore};
use crate::engine::ack::Ack;
use crate::engine::control::{BoxFuture, Control, Task};
use crate::engine::operator::guard;
use crate::engine::parcel::Parcel;
use crate::engine::timestamp;
use crate::error::Result;
use crate::state::{KeyGroupRange, SnapshotKind};
use crate::time::{START, Time};

/// A stateful operator's logic over parcels.
pub(crate) trait ErasedLogic {
    fn apply(&mut self, parcel: Parcel, watermark: u64) -> Result<Emitted>;
    fn advance(&mut self, watermark: u64) -> Result<Emitted>;
    fn earliest_pending(&self) -> Option<u64>;
    fn is_dirty(&self) -> bool;
    fn snapshot(&mut self, kind: SnapshotKind, out: &mut Vec<u8>) -> Result<()>;
}

/// What a logic emits at once.
#[derive(Default)]
pub(crate) struct Emitted {
    pub results: Option<Parcel>,
    pub late: Option<Parcel>,
}

/// Where the state of one operator on one worker goes, and how much of it each time.
pub(crate) struct Snapshots {
    pub store: StateStore,
    pub instance: Arc<str>,
    pub worker: usize,
    pub uid: Arc<str>,
    pub groups: KeyGroupRange,
    pub policy: SnapshotPolicy,
}

impl Snapshots {
    /// Writes a section of state as the operator's state at the end of `epoch`.
    fn write(
        &mut self,
        epoch: u64,
        kind: SnapshotKind,
        section: Vec<u8>,
    ) -> BoxFuture<'static, Result<StateObject>> {
        self.policy.written(kind, section.len() as u64);
        let (store, instance, uid) = (self.store.clone(), Arc::clone(&self.instance), Arc::clone(&self.uid));
        let (worker, groups) = (self.worker, self.groups);
        Box::pin(async move {
            let object = store.put(&instance, epoch, worker, &uid, &section).await?;
            Ok(StateObject { uid: uid.to_string(), epoch, kind, groups, object })
        })
    }
}

/// How a parcel is divided among the owners of its keys: one (perhaps empty) parcel for each worker.
pub(crate) type Divide = Box<dyn FnMut(Parcel, usize) -> Vec<Parcel>>;

/// What one worker's part of a stateful operator is built from.
pub(crate) struct KeyedParts {
    pub name: String,
    pub divide: Divide,
    pub logic: Box<dyn ErasedLogic>,
    pub snapshots: Snapshots,
}

/// The streams that a stateful operator feeds.
pub(crate) struct KeyedStreams<'scope> {
    pub results: Stream<'scope, Time, Parcel>,
    pub late: Stream<'scope, Time, Parcel>,
    pub acks: Stream<'scope, Time, Vec<Ack>>,
}

/// Builds the operator, with an exchange by key before it.
pub(crate) fn keyed<'scope>(
    scope: Scope<'scope, Time>,
    control: &Arc<Control>,
    parts: KeyedParts,
    input: Stream<'scope, Time, Parcel>,
) -> KeyedStreams<'scope> {
    let mut builder = OperatorBuilder::new(parts.name.clone(), scope);
    let divide = parts.divide;
    let mut input = builder.new_input(input, DistributorPact(move |_peers| Exchange { divide }));
    let (results, result_stream) = builder.new_output();
    let (late, late_stream) = builder.new_output();
    let (acks, ack_stream) = builder.new_output();
    let address = builder.operator_info().address;
    let waker = timestamp::waker(scope.worker().sync_activator_for(address.to_vec()));
    let control = Arc::clone(control);
    builder.build(move |capabilities| {
        let mut operator = KeyedOperator {
            waker,
            name: parts.name,
            logic: parts.logic,
            snapshots: parts.snapshots,
            held: capabilities.try_into().ok(),
            epoch: control.epochs.committed() + 1,
            watermark: START,
            stash: VecDeque::new(),
            late_records: 0,
            late_said: 0,
            writing: Vec::new(),
            outputs: Outputs { results, late, acks },
            control,
        };
        operator.downgrade();
        move |frontiers| {
            input.for_each(|capability, parcel| operator.receive(*capability.time(), std::mem::take(parcel)));
            if let Some(frontier) = frontiers.first() {
                let open = timestamp::open_epoch(frontier).zip(timestamp::watermark(frontier));
                operator.schedule(open);
            }
        }
    });
    KeyedStreams { results: result_stream, late: late_stream, acks: ack_stream }
}

struct Outputs {
    results: Output<Time, Parcel>,
    late: Output<Time, Parcel>,
    acks: Output<Time, Vec<Ack>>,
}

struct KeyedOperator {
    control: Arc<Control>,
    waker: Waker,
    name: String,
    logic: Box<dyn ErasedLogic>,
    snapshots: Snapshots,
    /// One capability for each output, all at (epoch, what may still be emitted). A pending window is
    /// in the state, not in a capability: it never holds an epoch.
    held: Option<[Capability<Time>; 3]>,
    epoch: u64,
    watermark: u64,
    /// Batches of later epochs, in the order in which they came.
    stash: VecDeque<(Time, Parcel)>,
    late_records: u64,
    late_said: u64,
    /// State on its way to the store, each with the capability that keeps its epoch open.
    writing: Vec<(Capability<Time>, Task<StateObject>)>,
    outputs: Outputs,
}

impl KeyedOperator {
    fn receive(&mut self, time: Time, parcel: Parcel) {
        if time.epoch > self.epoch {
            self.stash.push_back((time, parcel));
        } else {
            self.apply(parcel);
        }
    }

    fn apply(&mut self, parcel: Parcel) {
        if self.control.has_failed() {
            return;
        }
        let emitted = guard(&self.name, || self.logic.apply(parcel, self.watermark));
        self.emit(emitted);
    }

    /// `open`: the least epoch and the least watermark that may still come.
    fn schedule(&mut self, open: Option<(u64, u64)>) {
        if self.control.has_failed() {
            return;
        }
        // Sources let go one after the other, so the frontier moves on before it is empty.
        let Some((open_epoch, frontier)) = open.filter(|_| !self.control.epochs.is_released()) else {
            // The dataflow is going away: nothing fires, nothing is snapshotted (D4.3).
            self.held = None;
            self.writing.clear();
            return;
        };
        self.acknowledge();
        loop {
            let promised = self.stash.iter().map(|(time, _)| time.watermark).fold(frontier, u64::min);
            self.advance(promised);
            if open_epoch <= self.epoch || self.control.has_failed() {
                break;
            }
            self.end_epoch();
        }
        self.downgrade();
    }

    fn advance(&mut self, watermark: u64) {
        if watermark > self.watermark {
            self.watermark = watermark;
            let emitted = guard(&self.name, || self.logic.advance(watermark));
            self.emit(emitted);
        }
    }

    /// The epoch is complete: its state is taken before anything of the next one is applied.
    fn end_epoch(&mut self) {
        if self.logic.is_dirty() {
            let snapshot = self.snapshot();
            self.control.check(snapshot);
        }
        self.epoch += 1;
        self.downgrade();
        for (time, parcel) in std::mem::take(&mut self.stash) {
            self.receive(time, parcel);
        }
    }

    fn snapshot(&mut self) -> Result<()> {
        let kind = self.snapshots.policy.next();
        let mut section = Vec::new();
        guard(&self.name, || self.logic.snapshot(kind, &mut section))?;
        self.control.metrics.state_bytes_written.add(section.len() as u64);
        let task = self.control.spawn(self.snapshots.write(self.epoch, kind, section));
        if let Some([_, _, acks]) = &self.held {
            self.writing.push((acks.clone(), task));
        }
        self.acknowledge();
        Ok(())
    }

    fn acknowledge(&mut self) {
        let mut still_writing = Vec::new();
        for (capability, task) in self.writing.drain(..) {
            match task.poll(&self.waker) {
                Poll::Pending => still_writing.push((capability, task)),
                Poll::Ready(result) => {
                    if let Some(object) = self.control.check(result) {
                        self.outputs.acks.activate().give(&capability, &mut vec![Ack::State { object }]);
                    }
                }
            }
        }
        self.writing = still_writing;
    }

    fn emit(&mut self, emitted: Result<Emitted>) {
        let Some(emitted) = self.control.check(emitted) else { return };
        let Some([results, late, _]) = &self.held else { return };
        if let Some(mut parcel) = emitted.results {
            self.outputs.results.activate().give(results, &mut parcel);
        }
        if let Some(mut parcel) = emitted.late {
            self.late_records += parcel.len() as u64;
            self.control.metrics.late_records.add(parcel.len() as u64);
            // Said at 1, 2, 4, 8 … late records: loud enough to be seen, quiet enough to be left on.
            if self.late_records.next_power_of_two() > self.late_said {
                self.late_said = self.late_records.next_power_of_two();
                tracing::warn!(operator = %self.name, late = self.late_records, "records came too late for their windows");
            }
            self.outputs.late.activate().give(late, &mut parcel);
        }
    }

    fn downgrade(&mut self) {
        let pending =
            self.logic.earliest_pending().map_or(self.watermark, |pending| pending.min(self.watermark));
        if let Some(held) = &mut self.held {
            let watermark = pending.max(held[0].time().watermark);
            let time = Time::new(self.epoch, watermark);
            if *held[0].time() != time {
                held.iter_mut().for_each(|capability| capability.downgrade(&time));
            }
        }
    }
}

/// Sends each record to the owner of its key. Parcels are divided as they come and never held back: they
/// are large already, and each carries what is known of its own records.
struct Exchange {
    divide: Divide,
}

impl Distributor<Parcel> for Exchange {
    fn partition<T: Clone, P: Push<Message<T, Parcel>>>(
        &mut self,
        parcel: &mut Parcel,
        time: &T,
        pushers: &mut [P],
    ) {
        let parts = (self.divide)(std::mem::take(parcel), pushers.len());
        for (mut part, pusher) in parts.into_iter().zip(pushers) {
            if part.len() > 0 {
                Message::push_at(&mut part, time.clone(), pusher);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

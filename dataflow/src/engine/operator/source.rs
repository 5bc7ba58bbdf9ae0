//! The source operator: reads splits, stamps batches, ends epochs, lets event time go on.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use timely::dataflow::channels::pushers::Output;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::engine::ack::{Ack, Position, SplitId, SplitState};
use crate::engine::control::{Control, Followers};
use crate::engine::operator::guard;
use crate::engine::parcel::Parcel;
use crate::engine::timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::time::{START, SplitClock, Time, WatermarkStrategy};

/// Batches read in one activation before other operators of the worker get their turn.
const BATCHES_PER_ACTIVATION: usize = 16;

/// A source as the engine reads it.
pub(crate) trait ErasedReader {
    /// The next batch of one split. `hint` names the split whose event time is furthest behind.
    fn poll_read(&mut self, cx: &mut Context<'_>, hint: Option<&SplitId>) -> Poll<Result<ReadParcel>>;

    /// Whether the split's position is known to be its end now.
    fn is_caught_up(&self, split: &SplitId) -> bool;

    /// How many records are there and not read yet, where that is known.
    fn lag_records(&self) -> Option<u64>;
}

/// A batch of one split with what reading it changed.
pub(crate) struct ReadParcel {
    pub parcel: Parcel,
    pub split: SplitId,
    pub position: Position,
    pub bytes: usize,
    pub ended: bool,
}

/// What one worker's part of a source is built from.
pub(crate) struct SourceParts {
    pub name: String,
    /// Its number in the graph.
    pub index: u32,
    pub worker: u32,
    pub reader: Box<dyn ErasedReader>,
    /// The splits that this worker reads, as the manifest or the start left them.
    pub splits: Vec<SplitState>,
    pub strategy: WatermarkStrategy,
    pub bounded: bool,
    pub followers: Arc<Followers>,
}

/// Builds the operator. Its outputs: batches, and an acknowledgement for each epoch.
pub(crate) fn source<'scope>(
    scope: Scope<'scope, Time>,
    control: &Arc<Control>,
    parts: SourceParts,
) -> (Stream<'scope, Time, Parcel>, Stream<'scope, Time, Vec<Ack>>) {
    let mut builder = OperatorBuilder::new(parts.name.clone(), scope);
    let (mut batches, batch_stream) = builder.new_output();
    let (mut acks, ack_stream) = builder.new_output();
    let address = builder.operator_info().address;
    let waker = timestamp::waker(scope.worker().sync_activator_for(address.to_vec()));
    waker.wake_by_ref();
    control.epochs.listen(waker.clone());
    builder.build(|mut capabilities| {
        let acks_capability = capabilities.pop();
        let held = capabilities.pop().zip(acks_capability);
        let mut operator = SourceOperator::new(Arc::clone(control), waker, held, parts);
        move |_frontiers| operator.schedule(&mut batches, &mut acks)
    });
    (batch_stream, ack_stream)
}

struct SourceOperator {
    control: Arc<Control>,
    waker: Waker,
    /// For batches and for acknowledgements, always at the same time. None once the job has let go.
    held: Option<(Capability<Time>, Capability<Time>)>,
    parts: SourceParts,
    member: usize,
    splits: Vec<Split>,
    epoch: u64,
    watermark: u64,
    records: u64,
    ended: bool,
    /// Too much is under way: nothing is read.
    gated: bool,
    /// No other source is further behind: this one holds the watermark of all.
    holds_all: bool,
}

struct Split {
    state: SplitState,
    clock: SplitClock,
    /// The state as the last acknowledgement had it.
    acknowledged: Option<SplitState>,
}

impl Split {
    fn new(state: SplitState) -> Self {
        let mut clock = SplitClock::new(state.watermark, state.idle);
        if state.end.is_some_and(|end| state.position.offset >= end) {
            clock.end();
        }
        Self { acknowledged: Some(state.clone()), state, clock }
    }
}

impl SourceOperator {
    fn new(
        control: Arc<Control>,
        waker: Waker,
        held: Option<(Capability<Time>, Capability<Time>)>,
        mut parts: SourceParts,
    ) -> Self {
        let epoch = control.epochs.committed() + 1;
        let member = parts.followers.join(waker.clone());
        let splits = std::mem::take(&mut parts.splits).into_iter().map(Split::new).collect();
        let mut operator = Self {
            control,
            waker,
            held,
            parts,
            member,
            splits,
            epoch,
            watermark: START,
            records: 0,
            ended: false,
            gated: false,
            holds_all: false,
        };
        operator.downgrade();
        operator
    }

    fn schedule(&mut self, batches: &mut Output<Time, Parcel>, acks: &mut Output<Time, Vec<Ack>>) {
        if self.control.has_failed() || self.held.is_none() {
            return;
        }
        if self.control.epochs.is_released() {
            self.held = None;
            return;
        }
        self.end_epochs(acks);
        let read = self.read(batches, acks);
        if self.control.check(read).is_some() {
            self.advance();
        }
    }

    /// Ends the epochs that the clock has left behind, one by one.
    fn end_epochs(&mut self, acks: &mut Output<Time, Vec<Ack>>) {
        while self.epoch < self.control.epochs.current() {
            self.advance();
            let ack = self.acknowledge();
            self.measure();
            if let Some((_, capability)) = &self.held {
                acks.activate().give(capability, &mut vec![ack]);
            }
            self.epoch += 1;
            self.downgrade();
        }
    }

    fn measure(&self) {
        if let Some(records) = self.parts.reader.lag_records() {
            self.control.set_lag(self.parts.index, self.parts.worker, records);
        }
        if self.holds_all
            && let Some(split) = self.furthest_behind()
        {
            self.control.metrics.set_frontier_holder(Some(format!("{}-{}", split.topic, split.partition)));
        }
    }

    fn acknowledge(&mut self) -> Ack {
        let mut changed = Vec::new();
        for split in &mut self.splits {
            split.state.watermark = split.clock.watermark();
            split.state.idle = split.clock.is_idle();
            if split.acknowledged.as_ref() != Some(&split.state) {
                split.acknowledged = Some(split.state.clone());
                changed.push(split.state.clone());
            }
        }
        Ack::Source {
            source: self.parts.index,
            worker: self.parts.worker,
            splits: changed,
            records: std::mem::take(&mut self.records),
            ended: self.ended,
        }
    }

    fn read(&mut self, batches: &mut Output<Time, Parcel>, acks: &mut Output<Time, Vec<Ack>>) -> Result<()> {
        for _ in 0..BATCHES_PER_ACTIVATION {
            if self.ended || !self.control.epochs.accepts(self.epoch) {
                return Ok(());
            }
            self.gated = !self.control.credits.poll_room(&self.waker);
            if self.gated {
                return Ok(());
            }
            let hint = if self.splits.len() > 1 { self.furthest_behind() } else { None };
            let mut cx = Context::from_waker(&self.waker);
            let reader = &mut self.parts.reader;
            let Poll::Ready(read) = guard(&self.parts.name, || Ok(reader.poll_read(&mut cx, hint.as_ref())))?
            else {
                return Ok(());
            };
            self.take(read?, batches)?;
            // Counting may have ended the epoch: what is read next belongs to the next one.
            self.end_epochs(acks);
        }
        self.waker.wake_by_ref();
        Ok(())
    }

    fn take(&mut self, mut read: ReadParcel, batches: &mut Output<Time, Parcel>) -> Result<()> {
        let now_ms = self.control.world.now_ms();
        let newest = read.parcel.meta.times.iter().copied().max();
        if let Some(newest) = newest {
            self.refuse_poison(&read, newest, now_ms)?;
        }
        let index = self.split(&read.split);
        let Some(split) = self.splits.get_mut(index) else { return Ok(()) };
        split.state.position = read.position;
        if let Some(newest) = newest {
            split.clock.observe(newest, &self.parts.strategy);
        }
        if read.ended {
            split.clock.end();
        }
        let records = read.parcel.len();
        if records > 0 {
            read.parcel.credit = Some(self.control.credits.take(read.bytes));
            if let Some((capability, _)) = &self.held {
                batches.activate().give(capability, &mut read.parcel);
            }
            self.records += records as u64;
            self.control.metrics.records_in.add(records as u64);
            self.control.metrics.bytes_in.add(read.bytes as u64);
            self.control.epochs.note(records as u64, read.bytes as u64);
        }
        Ok(())
    }

    /// The number of a split; one that is read for the first time has been found while the job ran (D4.6).
    fn split(&mut self, id: &SplitId) -> usize {
        if let Some(index) = self.splits.iter().position(|split| split.state.split == *id) {
            return index;
        }
        tracing::info!(source = %self.parts.name, split = %id, "new split found, read from its start");
        let state = SplitState {
            split: id.clone(),
            position: Position::default(),
            watermark: START,
            idle: false,
            end: None,
        };
        self.splits.push(Split { acknowledged: None, ..Split::new(state) });
        self.splits.len() - 1
    }

    fn refuse_poison(&self, read: &ReadParcel, newest: i64, now_ms: i64) -> Result<()> {
        let Some(max_ahead) = self.parts.strategy.max_ahead else { return Ok(()) };
        let latest = now_ms.saturating_add(i64::try_from(max_ahead.as_millis()).unwrap_or(i64::MAX));
        if newest <= latest {
            return Ok(());
        }
        let meta = &read.parcel.meta;
        let index = meta.times.iter().position(|time| *time == newest).unwrap_or_default();
        let place = meta.describe(index).unwrap_or_else(|| read.split.to_string());
        let attempted = format!(
            "read {place}: its event time {newest} ms is {} s ahead of the clock ({now_ms} ms)",
            newest.saturating_sub(now_ms) / 1000
        );
        Err(Error::new(ErrorKind::Format, attempted).with_hint(
            "it would close every window before its time; check the unit of the timestamp (milliseconds), \
             or raise the limit on event times ahead of the clock",
        ))
    }

    fn furthest_behind(&self) -> Option<SplitId> {
        let reading = self.splits.iter().filter(|split| !split.clock.has_ended() && !split.clock.is_idle());
        reading.min_by_key(|split| split.clock.watermark()).map(|split| split.state.split.clone())
    }

    /// Lets the watermark go on to what the splits promise together, or to what an idle source may follow.
    fn advance(&mut self) {
        let now_ms = self.control.world.now_ms();
        for split in &mut self.splits {
            if self.gated {
                split.clock.hold();
            } else {
                let caught_up = self.parts.reader.is_caught_up(&split.state.split);
                split.clock.pass(caught_up, now_ms, &self.parts.strategy);
            }
        }
        let own = SplitClock::combine(self.splits.iter().map(|split| &split.clock), self.parts.bounded);
        self.ended = self.parts.bounded && self.splits.iter().all(|split| split.clock.has_ended());
        let followed = self.parts.followers.post(self.member, own);
        self.holds_all = own.is_some() && own == followed;
        self.watermark = self.watermark.max(own.or(followed).unwrap_or(START));
        self.downgrade();
    }

    fn downgrade(&mut self) {
        let time = Time::new(self.epoch, self.watermark);
        if let Some((batches, acks)) = &mut self.held
            && *batches.time() != time
        {
            batches.downgrade(&time);
            acks.downgrade(&time);
        }
    }
}

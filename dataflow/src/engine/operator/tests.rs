//! Operators fed by hand: every stamp and every move of the frontier is written out.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::checkpoint::{SnapshotPolicy, StateStore};
use crate::engine::ack::Ack;
use crate::engine::control::{BoxFuture, Control, Step, World};
use crate::engine::epoch::EpochLimits;
use crate::engine::operator::commit::{Committer, commit};
use crate::engine::operator::keyed::{Emitted, ErasedLogic, KeyedParts, Snapshots, keyed};
use crate::engine::operator::sink::{ErasedWriter, sink};
use crate::engine::parcel::{Meta, Parcel};
use crate::engine::timestamp;
use crate::engine::worker;
use crate::error::Result;
use crate::state::{KeyGroupRange, SnapshotKind};
use crate::time::Time;

/// One action of the script. There are two upstreams, 0 and 1, each with a capability of its own.
#[derive(Clone, Copy)]
enum Do {
    /// Send a value, stamped with what the upstream holds.
    Give(usize, i64),
    /// The upstream goes on to (epoch, watermark).
    GoTo(usize, u64, u64),
    /// The upstream lets go.
    Drop(usize),
    /// The job has ended.
    Release,
    /// Tasks in the background get on.
    RunTasks,
    /// An epoch has been committed.
    Commit(u64),
}

type Events = Arc<Mutex<Vec<String>>>;

/// Builds the operators under test behind the script.
type Behind = for<'scope> fn(Scope<'scope, Time>, &Arc<Control>, Stream<'scope, Time, Parcel>, &Events);

/// Does the script before a stateful operator, and returns what that did.
fn play(script: Vec<Do>) -> Vec<String> {
    play_before(script, |scope, control, input, events| {
        let parts = KeyedParts {
            name: "recorder".into(),
            divide: Box::new(|parcel, _| vec![parcel]),
            logic: Box::new(Recorder(Arc::clone(events))),
            snapshots: Snapshots {
                store: StateStore::memory(),
                instance: "test".into(),
                worker: 0,
                uid: "recorder".into(),
                groups: KeyGroupRange::ALL,
                policy: SnapshotPolicy::default(),
            },
        };
        let streams = keyed(scope, control, parts, input);
        record(scope, streams.results, streams.acks, Arc::clone(events));
    })
}

/// Does the script, one action every few steps.
fn play_before(script: Vec<Do>, behind: Behind) -> Vec<String> {
    let events = Events::default();
    let world = Arc::new(Patient::default());
    let limits = EpochLimits { records: u64::MAX, bytes: u64::MAX };
    let control = Control::new(Arc::clone(&world) as Arc<dyn World>, Arc::default(), 0, limits, 1 << 20);
    let shared = Arc::clone(&events);
    let build: Arc<worker::Build> = Arc::new(move |scope, control: &Arc<Control>| {
        let input = scripted(scope, control, Arc::clone(&world), script.clone());
        behind(scope, control, input, &shared);
        Ok(())
    });
    worker::run(1, &control, &build).unwrap();
    let events = events.lock().unwrap();
    events.clone()
}

/// Runs tasks when the script says so.
#[derive(Default)]
struct Patient(Mutex<Vec<BoxFuture<'static, ()>>>);

impl World for Patient {
    fn now_ms(&self) -> i64 {
        0
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.lock().unwrap().push(task);
    }

    fn turn(&self, _worker: usize) -> Option<Step> {
        Some(Some(Duration::ZERO))
    }

    fn done(&self, _worker: usize) {}
}

/// Steps between two actions: enough for everything to settle.
const SETTLE: usize = 8;

fn scripted<'scope>(
    scope: Scope<'scope, Time>,
    control: &Arc<Control>,
    world: Arc<Patient>,
    script: Vec<Do>,
) -> Stream<'scope, Time, Parcel> {
    let mut builder = OperatorBuilder::new("script".into(), scope);
    let (mut output, stream) = builder.new_output();
    let activator = scope.activator_for(builder.operator_info().address);
    let control = Arc::clone(control);
    activator.activate();
    builder.build(move |mut capabilities| {
        let first = capabilities.pop().map(|capability| capability.delayed(&Time::new(1, 0)));
        let mut held = [first.clone(), first];
        let mut script = script.into_iter();
        let mut steps = 0;
        move |_frontiers| {
            activator.activate();
            steps += 1;
            if steps % SETTLE != 0 {
                return;
            }
            match script.next() {
                Some(Do::Give(upstream, value)) => {
                    let meta = Meta { times: vec![value], origin: None };
                    let capability = held[upstream].as_ref().unwrap();
                    output.activate().give(capability, &mut Parcel::new(vec![value], meta, None));
                }
                Some(Do::GoTo(upstream, epoch, watermark)) => {
                    held[upstream].as_mut().unwrap().downgrade(&Time::new(epoch, watermark));
                }
                Some(Do::Drop(upstream)) => held[upstream] = None,
                Some(Do::Release) => control.epochs.release(),
                Some(Do::RunTasks) => {
                    for mut task in world.0.lock().unwrap().drain(..) {
                        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
                    }
                }
                Some(Do::Commit(epoch)) => control.epochs.commit(epoch),
                None => held = [None, None],
            }
        }
    });
    stream
}

/// A logic that says what is done to it. Its result for a watermark is the watermark.
struct Recorder(Events);

impl ErasedLogic for Recorder {
    fn apply(&mut self, mut parcel: Parcel, watermark: u64) -> Result<Emitted> {
        let items: Vec<i64> = parcel.take()?;
        self.0.lock().unwrap().push(format!("apply {items:?} at {watermark}"));
        Ok(Emitted::default())
    }

    fn advance(&mut self, watermark: u64) -> Result<Emitted> {
        self.0.lock().unwrap().push(format!("advance to {watermark}"));
        let meta = Meta { times: vec![0], origin: None };
        Ok(Emitted { results: Some(Parcel::new(vec![watermark], meta, None)), late: None })
    }

    fn earliest_pending(&self) -> Option<u64> {
        // A window is always open: it must not hold an epoch.
        Some(1_000)
    }

    fn is_dirty(&self) -> bool {
        true
    }

    fn snapshot(&mut self, kind: SnapshotKind, out: &mut Vec<u8>) -> Result<()> {
        self.0.lock().unwrap().push(format!("snapshot {kind:?}"));
        out.push(1);
        Ok(())
    }
}

/// Writes down what arrives downstream, and the epochs that are complete there.
fn record<'scope>(
    scope: Scope<'scope, Time>,
    results: Stream<'scope, Time, Parcel>,
    acks: Stream<'scope, Time, Vec<Ack>>,
    events: Events,
) {
    use timely::dataflow::channels::pact::Pipeline;
    let mut builder = OperatorBuilder::new("record".into(), scope);
    let mut results = builder.new_input(results, Pipeline);
    let mut acks = builder.new_input(acks, Pipeline);
    let mut complete = 0;
    builder.build(move |_| {
        move |frontiers| {
            let mut events = events.lock().unwrap();
            results.for_each(|capability, parcel| {
                let items: Vec<u64> = parcel.take().unwrap();
                let Time { epoch, watermark } = *capability.time();
                events.push(format!("result {items:?} of epoch {epoch} stamped {watermark}"));
            });
            acks.for_each(|capability, acks| {
                events.push(format!("{} ack in epoch {}", acks.len(), capability.time().epoch));
            });
            if let Some(open) = timestamp::open_epoch(&frontiers[1])
                && open > complete + 1
            {
                complete = open - 1;
                events.push(format!("epoch {complete} complete"));
            }
        }
    });
}

#[test]
fn d4_1_results_travel_at_a_watermark_that_they_do_not_precede() {
    let events = play(vec![Do::GoTo(0, 1, 10), Do::GoTo(1, 1, 20), Do::GoTo(0, 1, 30)]);
    assert_eq!(
        events[..4],
        [
            "advance to 10",
            "result [10] of epoch 1 stamped 0",
            "advance to 20",
            "result [20] of epoch 1 stamped 10"
        ]
    );
}

#[test]
fn d4_2_an_epoch_is_aligned_before_its_snapshot_and_stashed_stamps_hold_the_watermark() {
    let events = play(vec![
        Do::GoTo(0, 1, 10),
        Do::GoTo(1, 1, 10),
        Do::GoTo(0, 2, 10),
        // Of the next epoch, before the other upstream has ended this one.
        Do::Give(0, 7),
        Do::GoTo(0, 2, 60),
        // The frontier's watermark is 50 now; the stashed batch may have records from 10 on.
        Do::GoTo(1, 1, 50),
        Do::Give(1, 8),
        Do::GoTo(1, 2, 55),
    ]);
    assert_eq!(
        events[..6],
        [
            "advance to 10",
            "result [10] of epoch 1 stamped 0",
            "apply [8] at 10",
            "snapshot Base",
            "apply [7] at 10",
            "advance to 55",
        ]
    );
}

#[test]
fn d4_3_nothing_fires_and_nothing_is_snapshotted_when_the_dataflow_goes_away() {
    let quiet = |script: Vec<Do>| {
        let mut events = play(script);
        events.retain(|event| !event.starts_with("epoch"));
        assert_eq!(events, ["advance to 10", "result [10] of epoch 1 stamped 0"]);
    };
    let begin = [Do::GoTo(0, 1, 10), Do::GoTo(1, 1, 20)];
    quiet([&begin[..], &[Do::Release, Do::Drop(0), Do::Drop(1)]].concat());
    quiet([&begin[..], &[Do::Release, Do::Drop(0), Do::GoTo(1, 3, 99)]].concat());
    // Both at once: the frontier is empty without having moved.
    quiet(begin.to_vec());
}

#[test]
fn d5_an_epoch_is_held_until_its_state_is_durable() {
    let events =
        play(vec![Do::GoTo(0, 2, 0), Do::GoTo(1, 2, 0), Do::GoTo(0, 2, 5), Do::RunTasks, Do::GoTo(1, 2, 5)]);
    assert_eq!(
        events[..4],
        ["snapshot Base", "1 ack in epoch 1", "epoch 1 complete", "advance to 5"],
        "nothing is complete before the task has run"
    );
}

struct WriterOf(Events);

impl ErasedWriter for WriterOf {
    fn write(&mut self, epoch: u64, mut parcel: Parcel) -> Result<()> {
        let items: Vec<i64> = parcel.take()?;
        self.0.lock().unwrap().push(format!("write {items:?} in epoch {epoch}"));
        Ok(())
    }

    fn poll_send(&mut self, epoch: u64, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.lock().unwrap().push(format!("send epoch {epoch}"));
        Poll::Ready(Ok(()))
    }
}

#[test]
fn d5_a_sink_sends_complete_epochs_and_each_when_the_one_before_is_committed() {
    let script = vec![
        Do::Give(0, 7),
        Do::GoTo(0, 2, 0),
        Do::Give(0, 8),
        // Complete only now, and it is its turn.
        Do::GoTo(1, 2, 0),
        // Complete, and not its turn before epoch 1 is committed.
        Do::GoTo(0, 3, 0),
        Do::GoTo(1, 3, 0),
        Do::Give(1, 9),
        Do::Commit(1),
        Do::Commit(2),
        // Never complete: the dataflow goes away.
        Do::Release,
    ];
    let events = play_before(script, |scope, control, input, events| {
        let acks = sink(scope, control, "sink", Box::new(WriterOf(Arc::clone(events))), input);
        watch_acks(acks, Arc::clone(events));
    });
    let expected = [
        "write [7] in epoch 1",
        "write [8] in epoch 2",
        "send epoch 1",
        "1 ack in epoch 1",
        "write [9] in epoch 3",
        "send epoch 2",
        "1 ack in epoch 2",
    ];
    assert_eq!(events, expected);
}

fn watch_acks(acks: Stream<'_, Time, Vec<Ack>>, events: Events) {
    use timely::dataflow::channels::pact::Pipeline;
    let mut builder = OperatorBuilder::new("acks".into(), acks.scope());
    let mut acks = builder.new_input(acks, Pipeline);
    builder.build(move |_| {
        move |_frontiers| {
            acks.for_each(|capability, acks| {
                let epoch = capability.time().epoch;
                events.lock().unwrap().push(format!("{} ack in epoch {epoch}", acks.len()));
            });
        }
    });
}

struct CommitterOf(Events);

impl Committer for CommitterOf {
    fn close(&mut self, epoch: u64, acks: Vec<Ack>) -> Option<BoxFuture<'static, Result<()>>> {
        let events = Arc::clone(&self.0);
        events.lock().unwrap().push(format!("close epoch {epoch} with {} acks", acks.len()));
        // An epoch without acknowledgements has nothing to commit.
        (!acks.is_empty()).then(|| -> BoxFuture<'static, Result<()>> {
            Box::pin(async move {
                events.lock().unwrap().push(format!("commit epoch {epoch}"));
                Ok(())
            })
        })
    }

    fn committed(&mut self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().unwrap().push("committed".into());
        None
    }

    fn is_finished(&self) -> bool {
        false
    }
}

#[test]
fn d5_epochs_are_committed_in_order_one_at_a_time_and_never_when_the_dataflow_goes_away() {
    let script = vec![
        Do::Give(0, 1),
        Do::GoTo(0, 3, 0),
        Do::Give(0, 3),
        Do::GoTo(0, 4, 0),
        // Epochs 1, 2 and 3 are complete: 1 is committed, 2 has nothing in it, 3 waits for both.
        Do::GoTo(1, 4, 0),
        Do::RunTasks,
        Do::RunTasks,
        Do::Give(1, 4),
        Do::Drop(0),
        Do::Drop(1),
    ];
    let events = play_before(script, |scope, control, input, events| {
        commit(scope, control, Some(Box::new(CommitterOf(Arc::clone(events)))), acknowledge(input));
    });
    let expected = [
        "close epoch 1 with 1 acks",
        "commit epoch 1",
        "committed",
        "close epoch 2 with 0 acks",
        "close epoch 3 with 1 acks",
        "commit epoch 3",
        "committed",
    ];
    assert_eq!(events, expected);
}

/// An acknowledgement for each parcel.
fn acknowledge(input: Stream<'_, Time, Parcel>) -> Stream<'_, Time, Vec<Ack>> {
    use timely::dataflow::channels::pact::Pipeline;
    let mut builder = OperatorBuilder::new("acknowledge".into(), input.scope());
    let mut input = builder.new_input(input, Pipeline);
    let (mut output, acks) = builder.new_output();
    builder.build(move |_| {
        move |_frontiers| {
            let mut session = output.activate();
            input.for_each(|capability, parcel| {
                session.give(&capability, &mut vec![Ack::Sink { records: parcel.len() as u64 }]);
            });
        }
    });
    acks
}

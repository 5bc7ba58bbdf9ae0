//! The sender against a model of what brokers do: logs that keep Kafka's rules of idempotence, two
//! leaders, and connections that break, lose answers, or deliver what they hold much later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::super::batch::Done;
use super::super::receipt::BatchMetadata;
use super::queue::sequence_after;
use super::*;
use crate::error::{ErrorKind, Result};
use crate::record::{BatchBuilder, Compression};

const PARTITIONS: usize = 2;
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// One partition's log: which batch is at which offset, and what the leader remembers of producers.
#[derive(Default)]
struct Log {
    batches: Vec<Written>,
    end: i64,
    producers: HashMap<i64, Remembered>,
}

/// A batch in a log, or a part of one that was split.
struct Written {
    batch: i64,
    offset: i64,
    records: u32,
}

struct Remembered {
    epoch: i16,
    /// The last five: base sequence, last sequence, base offset.
    batches: VecDeque<(i32, i32, i64)>,
}

impl Log {
    /// `ProducerAppendInfo` and `ProducerStateManager` of Kafka.
    fn append(&mut self, stamp: Stamp, records: u32, batch: i64) -> Result<i64, ErrorCode> {
        let last = sequence_after(stamp.base_sequence, records - 1);
        if let Some(known) = self.producers.get(&stamp.identity.id) {
            if stamp.identity.epoch < known.epoch {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            if stamp.identity.epoch > known.epoch {
                if stamp.base_sequence != 0 {
                    return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            } else {
                let same = |(base, to, _): &&(i32, i32, i64)| *base == stamp.base_sequence && *to == last;
                if let Some((.., offset)) = known.batches.iter().find(same) {
                    return Ok(*offset);
                }
                let newest = known.batches.back().map_or(-1, |(_, to, _)| *to);
                if sequence_after(newest, 1) != stamp.base_sequence {
                    return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            }
        }
        let offset = self.end;
        let epoch = stamp.identity.epoch;
        let known = self.producers.entry(stamp.identity.id);
        let known = known.or_insert_with(|| Remembered { epoch, batches: VecDeque::new() });
        if known.epoch != epoch {
            known.epoch = epoch;
            known.batches.clear();
        }
        known.batches.push_back((stamp.base_sequence, last, offset));
        if known.batches.len() > 5 {
            known.batches.pop_front();
        }
        self.batches.push(Written { batch, offset, records });
        self.end += i64::from(records);
        Ok(offset)
    }
}

/// Of each batch, or of each part of one.
type Fates = Arc<Mutex<Vec<(i64, Result<BatchMetadata>)>>>;

/// Sender, brokers and what is between them.
struct World {
    now: Instant,
    sender: Sender,
    logs: Vec<Log>,
    leaders: [BrokerId; PARTITIONS],
    generation: u64,
    /// Requests on the connection to each of two brokers, in order.
    wires: [VecDeque<ProduceCall>; 2],
    /// Requests in connections that the client has given up and the broker has not.
    zombies: VecDeque<ProduceCall>,
    pushed: Vec<Vec<i64>>,
    fates: Fates,
    next_batch: i64,
}

impl World {
    fn new(config: SenderConfig) -> Self {
        let mut sender = Sender::new(config);
        sender.identify(ProducerIdentity { id: 7, epoch: 0 });
        #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let now = Instant::now();
        Self {
            now,
            sender,
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            leaders: [BrokerId(0), BrokerId(1)],
            generation: 0,
            wires: Default::default(),
            zombies: VecDeque::new(),
            pushed: vec![Vec::new(); PARTITIONS],
            fates: Arc::default(),
            next_batch: 1,
        }
    }

    fn idempotent() -> Self {
        Self::new(config())
    }

    fn push(&mut self, partition: usize, records: u32) -> i64 {
        let id = self.next_batch;
        self.next_batch += 1;
        let mut builder = BatchBuilder::new(Compression::NONE, 64);
        for _ in 0..records {
            // The timestamp is the batch's name in the log.
            builder.append(id, None, Some(b"v"), &[]).unwrap();
        }
        let fates = Arc::clone(&self.fates);
        self.sender.push(Batch {
            partition: TopicPartition::new("t", partition as i32),
            records: builder.seal(),
            created: self.now,
            done: Done::new(records, move |fate| {
                if let Ok(metadata) = &fate.outcome {
                    assert_eq!(metadata.records, fate.records);
                }
                fates.lock().unwrap().push((id, fate.outcome));
            }),
        });
        self.pushed[partition].push(id);
        id
    }

    fn send(&mut self) {
        let leaders = self.leaders;
        let route = &mut |partition: &TopicPartition| Route::Leader(leaders[partition.partition as usize]);
        self.sender.follow(self.generation, Admission::default());
        self.sender.route(self.now, route);
        while let Some(call) = self.sender.poll_call(self.now, route) {
            self.wires[call.broker.0 as usize].push_back(call);
        }
    }

    fn apply(&mut self, call: &ProduceCall, fault: Option<ErrorCode>) -> Vec<PartitionAnswer> {
        let mut answers = Vec::new();
        for batch in &call.batches {
            let index = batch.partition.partition as usize;
            let mut answer = PartitionAnswer::unanswered(&batch.partition);
            if self.leaders[index] != call.broker {
                answer.error = Some(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            } else if fault.is_some_and(|code| code != ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND) {
                answer.error = fault;
            } else {
                let stamp = batch.stamp.expect("an idempotent producer stamps");
                match self.logs[index].append(
                    stamp,
                    batch.records.records(),
                    batch.records.max_timestamp_ms(),
                ) {
                    Ok(offset) => {
                        answer.base_offset = offset;
                        answer.error = fault;
                    }
                    Err(code) => answer.error = Some(code),
                }
            }
            answers.push(answer);
        }
        answers
    }

    /// The broker works on its next request and answers.
    fn deliver(&mut self, broker: usize, fault: Option<ErrorCode>) {
        if let Some(call) = self.wires[broker].pop_front() {
            let answers = self.apply(&call, fault);
            self.sender.handle_answer(self.now, call.id, Ok(answers));
        }
    }

    /// The connection ends after the broker has worked on `applied` requests, whose answers are lost; the
    /// others it never gets, or gets to later.
    fn disconnect(&mut self, broker: usize, applied: usize, later: bool) {
        let lost: Vec<_> = self.wires[broker].drain(..).collect();
        for call in lost.iter().take(applied) {
            self.apply(call, None);
        }
        for call in &lost {
            let error = Error::new(ErrorKind::Network, "the connection ended").with_possibly_written();
            self.sender.handle_answer(self.now, call.id, Err(error));
        }
        if later {
            self.zombies.extend(lost.into_iter().skip(applied));
        }
    }

    fn deliver_zombie(&mut self) {
        if let Some(call) = self.zombies.pop_front() {
            self.apply(&call, None);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.sender.expire(self.now);
    }

    /// Everything works from now on.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            self.send();
            if self.sender.is_empty() && self.sender.is_quiet() {
                return;
            }
            self.deliver(0, None);
            self.deliver(1, None);
            self.pass(Duration::from_millis(20));
        }
        panic!("the sender does not come to an end: {:?}", self.sender);
    }

    fn fate(&self, batch: i64) -> Result<BatchMetadata> {
        let mut fates = self.fates(batch);
        let fate = fates.pop().unwrap_or_else(|| panic!("batch {batch} has no fate"));
        assert!(fates.is_empty(), "batch {batch} has two fates");
        fate
    }

    fn fates(&self, batch: i64) -> Vec<Result<BatchMetadata>> {
        let fates = self.fates.lock().unwrap();
        fates.iter().filter(|(id, _)| *id == batch).map(|(_, fate)| fate.clone()).collect()
    }

    fn batches(&self, partition: usize) -> Vec<i64> {
        let mut batches: Vec<_> = self.logs[partition].batches.iter().map(|written| written.batch).collect();
        batches.dedup();
        batches
    }

    /// Nothing lost, nothing twice, in order, and every error honest.
    fn check(&self) {
        for (partition, pushed) in self.pushed.iter().enumerate() {
            let log = self.batches(partition);
            let mut acknowledged = Vec::new();
            for batch in pushed {
                let places = log.iter().filter(|other| *other == batch).count();
                assert!(places <= 1, "batch {batch} is torn apart or twice in {log:?}");
                let written = self.logs[partition].batches.iter().filter(|written| written.batch == *batch);
                let mut in_log: Vec<_> = written.map(|written| (written.offset, written.records)).collect();
                let fates = self.fates(*batch);
                assert!(!fates.is_empty(), "batch {batch} has no fate");
                for metadata in fates.iter().flatten() {
                    let told = (metadata.base_offset.unwrap(), metadata.records);
                    let place = in_log.iter().position(|part| *part == told);
                    in_log.remove(place.unwrap_or_else(|| panic!("batch {batch} at {told:?}: {in_log:?}")));
                }
                let unknown = fates.iter().filter(|fate| fate.as_ref().is_err_and(Error::possibly_written));
                assert!(in_log.len() <= unknown.count(), "batch {batch} in {log:?} despite {fates:?}");
                if fates.iter().all(Result::is_ok) {
                    acknowledged.push(*batch);
                }
            }
            let kept: Vec<_> = log.iter().filter(|batch| acknowledged.contains(batch)).copied().collect();
            assert_eq!(kept, acknowledged, "order in partition {partition}");
        }
    }
}

fn config() -> SenderConfig {
    SenderConfig {
        is_idempotent: true,
        is_transactional: false,
        max_in_flight: 5,
        max_request_size: 1 << 20,
        retries: u32::MAX,
        delivery_timeout: DELIVERY_TIMEOUT,
        retry_backoff: Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) },
        seed: 1,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { partition: usize, records: u32 },
    Send,
    Deliver { broker: usize },
    Fault { broker: usize, code: ErrorCode },
    Disconnect { broker: usize, applied: usize, later: bool },
    Zombie,
    MoveLeader { partition: usize },
    Pass { millis: u64 },
}

fn step(with_expiry: bool) -> impl Strategy<Value = Step> {
    let mut codes = vec![
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::CORRUPT_MESSAGE,
    ];
    // What may be there already and is then too large can only be given up.
    codes.extend(with_expiry.then_some(ErrorCode::MESSAGE_TOO_LARGE));
    let codes = prop::sample::select(codes);
    let longest = if with_expiry { 60_000_u64 } else { 300 };
    prop_oneof![
        6 => (0..PARTITIONS, 1..6_u32).prop_map(|(partition, records)| Step::Push { partition, records }),
        6 => Just(Step::Send),
        6 => (0..2_usize).prop_map(|broker| Step::Deliver { broker }),
        2 => (0..2_usize, codes).prop_map(|(broker, code)| Step::Fault { broker, code }),
        1 => (0..2_usize, 0..4_usize, any::<bool>())
            .prop_map(|(broker, applied, later)| Step::Disconnect { broker, applied, later }),
        1 => Just(Step::Zombie),
        1 => (0..PARTITIONS).prop_map(|partition| Step::MoveLeader { partition }),
        3 => (1..=longest).prop_map(|millis| Step::Pass { millis }),
    ]
}

fn run(steps: Vec<Step>) -> World {
    let mut world = World::idempotent();
    for step in steps {
        match step {
            Step::Push { partition, records } => {
                world.push(partition, records);
            }
            Step::Send => world.send(),
            Step::Deliver { broker } => world.deliver(broker, None),
            Step::Fault { broker, code } => world.deliver(broker, Some(code)),
            Step::Disconnect { broker, applied, later } => world.disconnect(broker, applied, later),
            Step::Zombie => world.deliver_zombie(),
            Step::MoveLeader { partition } => {
                world.leaders[partition] = BrokerId(1 - world.leaders[partition].0);
                world.generation += 1;
            }
            Step::Pass { millis } => world.pass(Duration::from_millis(millis)),
        }
    }
    world.drain();
    while !world.zombies.is_empty() {
        world.deliver_zombie();
    }
    world.check();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_faults_lose_nothing_and_write_nothing_twice(steps in prop::collection::vec(step(false), 0..150)) {
        let world = run(steps);
        for batch in world.pushed.iter().flatten() {
            prop_assert!(world.fate(*batch).is_ok(), "nothing expired, so all must be there");
        }
    }

    #[test]
    fn expiry_and_splits_leave_honest_errors_and_no_duplicates(steps in prop::collection::vec(step(true), 0..150)) {
        run(steps);
    }
}

#[test]
fn five_batches_of_a_partition_are_on_the_wire_once_the_broker_knows_the_producer() {
    let mut world = World::idempotent();
    for _ in 0..8 {
        world.push(0, 2);
    }
    world.send();
    assert_eq!(world.wires[0].len(), 1, "the first alone");
    world.deliver(0, None);
    world.send();
    assert_eq!(world.wires[0].len(), 5);
    let sequences: Vec<_> =
        world.wires[0].iter().map(|call| call.batches[0].stamp.unwrap().base_sequence).collect();
    assert_eq!(sequences, [2, 4, 6, 8, 10]);
    world.drain();
    world.check();
}

#[test]
fn a_request_holds_a_batch_of_each_partition_of_its_broker() {
    let mut world = World::idempotent();
    world.leaders = [BrokerId(0); 2];
    world.push(0, 1);
    world.push(1, 1);
    world.push(1, 1);
    world.send();
    let partitions: Vec<_> =
        world.wires[0][0].batches.iter().map(|batch| batch.partition.partition).collect();
    assert_eq!((world.wires[0].len(), partitions.len()), (1, 2), "{partitions:?}");
    world.drain();
    world.check();
}

#[test]
fn after_a_failure_the_front_goes_alone_and_order_holds() {
    let mut world = World::idempotent();
    world.push(0, 1);
    world.drain();
    let batches: Vec<_> = (0..3).map(|_| world.push(0, 1)).collect();
    world.send();
    world.deliver(0, Some(ErrorCode::NOT_ENOUGH_REPLICAS));
    world.deliver(0, None);
    world.deliver(0, None);
    world.pass(Duration::from_millis(150));
    world.send();
    assert_eq!(world.wires[0].len(), 1, "one at a time until the front is settled");
    world.drain();
    world.check();
    assert!(batches.iter().all(|batch| world.fate(*batch).is_ok()));
    assert_eq!(world.sender.identity, Some(ProducerIdentity { id: 7, epoch: 0 }), "no reset was needed");
}

/// Complaint 13 of the facts: elsewhere a fatal out-of-order error.
#[test]
fn a_middle_batch_that_expires_raises_the_epoch_and_the_later_ones_go_on() {
    let mut world = World::idempotent();
    world.push(0, 1);
    world.drain();
    let expired = world.push(0, 1);
    world.send();
    // The broker never gets it, and nobody can know.
    world.disconnect(0, 0, false);
    world.pass(DELIVERY_TIMEOUT / 2);
    let later: Vec<_> = (0..3).map(|_| world.push(0, 1)).collect();
    world.pass(DELIVERY_TIMEOUT / 2);
    let error = world.fate(expired).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.possibly_written(), "{error:?}");
    world.drain();
    world.check();
    assert!(later.iter().all(|batch| world.fate(*batch).is_ok()));
    assert_eq!(world.sender.identity, Some(ProducerIdentity { id: 7, epoch: 1 }));
}

/// The broker has not read the old connection yet when the batch behind an expired one is refused, and reads
/// it before that batch could come under a new epoch.
#[test]
fn behind_an_expired_batch_nothing_that_may_be_on_its_way_is_sent_anew() {
    let mut world = World::idempotent();
    world.push(0, 1);
    world.drain();
    let expired = world.push(0, 1);
    world.pass(Duration::from_secs(1));
    let behind = world.push(0, 1);
    world.send();
    world.disconnect(0, 0, true);
    world.pass(DELIVERY_TIMEOUT - Duration::from_secs(1));
    assert!(world.fate(expired).unwrap_err().possibly_written());
    world.send();
    world.deliver(0, None);
    let error = world.fate(behind).unwrap_err();
    assert!(
        error.possibly_written() && error.to_string().contains("an earlier batch had expired"),
        "{error}"
    );
    while !world.zombies.is_empty() {
        world.deliver_zombie();
    }
    let after = world.push(0, 1);
    world.drain();
    world.check();
    assert_eq!(world.batches(0)[1..], [expired, behind, after]);
}

#[test]
fn a_batch_that_expires_unsent_is_certainly_not_written() {
    let mut world = World::idempotent();
    let batch = world.push(0, 3);
    world.pass(DELIVERY_TIMEOUT);
    let error = world.fate(batch).unwrap_err();
    assert!(!error.possibly_written(), "{error}");
    let text = error.to_string();
    assert!(text.contains("produce 3 records") && text.contains("delivery.timeout.ms=120000"), "{text}");
    world.check();
}

#[test]
fn a_refused_batch_fails_and_its_sequence_numbers_are_used_again() {
    let mut world = World::idempotent();
    world.push(0, 1);
    world.drain();
    let refused = world.push(0, 1);
    world.send();
    world.deliver(0, Some(ErrorCode::MESSAGE_TOO_LARGE));
    let error = world.fate(refused).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
    assert!(error.hint().is_some_and(|hint| hint.contains("max.message.bytes")), "{error}");
    world.push(0, 1);
    world.drain();
    world.check();
    assert_eq!(world.sender.identity.unwrap().epoch, 0);
}

#[test]
fn a_batch_that_is_too_large_is_split_until_it_fits_and_what_is_behind_it_comes_after() {
    let mut world = World::idempotent();
    world.push(0, 1);
    world.drain();
    let large = world.push(0, 4);
    let behind = world.push(0, 2);
    world.send();
    assert_eq!(world.wires[0].len(), 2);
    // The second is out of order now.
    world.deliver(0, Some(ErrorCode::MESSAGE_TOO_LARGE));
    world.deliver(0, None);
    world.pass(Duration::from_secs(1));
    world.send();
    world.deliver(0, Some(ErrorCode::MESSAGE_TOO_LARGE));
    world.drain();
    world.check();
    let offsets = |batch| {
        let of =
            |fate: Result<BatchMetadata>| fate.map(|part| (part.base_offset.unwrap(), part.records)).unwrap();
        world.fates(batch).into_iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(offsets(large), [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(offsets(behind), [(5, 2)]);
    assert_eq!(world.sender.identity.unwrap().epoch, 0, "sequence numbers go on without a gap");
}

#[test]
fn what_may_have_been_written_is_not_split() {
    let mut world = World::idempotent();
    world.push(0, 1);
    world.drain();
    let batch = world.push(0, 4);
    world.send();
    world.disconnect(0, 1, false);
    world.pass(Duration::from_secs(1));
    world.send();
    world.deliver(0, Some(ErrorCode::MESSAGE_TOO_LARGE));
    assert!(world.fate(batch).unwrap_err().possibly_written());
    world.push(0, 1);
    world.drain();
    world.check();
}

#[test]
fn no_more_attempts_are_made_than_retries_allow() {
    let mut world = World::new(SenderConfig { retries: 1, ..config() });
    let batch = world.push(0, 1);
    for _ in 0..2 {
        assert!(world.fates(batch).is_empty());
        world.pass(Duration::from_secs(1));
        world.send();
        world.deliver(0, Some(ErrorCode::NOT_ENOUGH_REPLICAS));
    }
    assert_eq!(world.fate(batch).unwrap_err().code(), Some(ErrorCode::NOT_ENOUGH_REPLICAS));
}

#[test]
fn what_is_purged_fails_and_what_is_on_the_wire_is_heard_out_or_not() {
    let purged = Error::new(ErrorKind::Usage, "purged");
    for with_wire in [false, true] {
        let mut world = World::idempotent();
        world.push(0, 1);
        world.drain();
        let on_wire: Vec<_> = (0..5).map(|_| world.push(0, 1)).collect();
        world.send();
        let queued = world.push(0, 1);
        if with_wire {
            world.sender.fail_all(&purged)
        } else {
            world.sender.fail_queued(&purged)
        }
        assert!(!world.fate(queued).unwrap_err().possibly_written());
        let next = world.push(0, 1);
        world.drain();
        world.check();
        assert!(world.fate(next).is_ok());
        let all_written = on_wire.iter().all(|batch| world.fate(*batch).is_ok());
        assert_eq!(all_written, !with_wire);
        assert!(on_wire.iter().all(|batch| world.batches(0).contains(batch)), "the broker got them");
    }
}

#[test]
fn a_broker_that_lost_the_log_gets_everything_under_a_new_epoch() {
    let mut world = World::idempotent();
    world.push(0, 1);
    world.drain();
    world.push(0, 1);
    world.drain();
    let remembered = world.logs[0].producers.get_mut(&7).unwrap();
    remembered.batches.pop_back();
    let batches: Vec<_> = (0..4).map(|_| world.push(0, 1)).collect();
    world.drain();
    assert!(batches.iter().all(|batch| world.fate(*batch).is_ok()));
    assert_eq!(world.batches(0)[2..], batches[..]);
    assert_eq!(world.sender.identity.unwrap().epoch, 1);
}

#[test]
fn epochs_that_are_used_up_ask_for_another_producer_id() {
    let mut world = World::idempotent();
    world.sender.identify(ProducerIdentity { id: 8, epoch: i16::MAX });
    world.push(0, 1);
    world.drain();
    world.logs[0].producers.get_mut(&8).unwrap().batches.clear();
    let batch = world.push(0, 2);
    world.send();
    world.deliver(0, Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    world.pass(Duration::from_secs(1));
    world.send();
    assert!(world.sender.needs_identity() && world.wires[0].is_empty());
    world.sender.identify(ProducerIdentity { id: 9, epoch: 0 });
    world.drain();
    assert!(world.fate(batch).is_ok());
}

#[test]
fn a_partition_waits_for_its_old_leader_before_it_turns_to_the_new_one() {
    let mut world = World::idempotent();
    world.push(0, 1);
    world.drain();
    world.push(0, 1);
    world.send();
    world.leaders[0] = BrokerId(1);
    world.generation += 1;
    world.push(0, 1);
    world.send();
    assert!(world.wires[1].is_empty(), "the first is still on its way to broker 0");
    world.drain();
    world.check();
}

#[test]
fn giving_up_fails_what_waits_and_hears_out_what_is_on_the_wire() {
    let mut world = World::new(SenderConfig { is_transactional: true, ..config() });
    world.push(0, 1);
    world.drain();
    let on_wire = world.push(0, 1);
    world.send();
    let waiting = world.push(0, 1);
    world.sender.give_up(&Error::new(ErrorKind::Usage, "aborted"));
    let late = world.push(0, 1);
    assert!(world.fate(waiting).is_err() && world.fate(late).is_err());
    assert!(!world.sender.is_quiet());
    world.deliver(0, None);
    assert!(world.fate(on_wire).is_ok() && world.sender.is_quiet());
    world.sender.resume();
    world.sender.take_failure();
    world.push(0, 1);
    world.drain();
    world.check();
}

#[test]
fn in_a_transaction_the_front_out_of_order_is_a_failure() {
    let mut world = World::new(SenderConfig { is_transactional: true, ..config() });
    let batch = world.push(0, 1);
    world.send();
    world.deliver(0, Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(world.fate(batch).unwrap_err().code(), Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert!(world.sender.take_failure().is_some());
}

/// Else a cluster with ten thousand partitions would cost ten thousand steps a request.
#[test]
fn the_work_for_a_request_does_not_grow_with_the_partitions_that_wait() {
    const WAITING: i32 = 1_000;
    let mut sender = Sender::new(SenderConfig { max_request_size: 1_000, ..config() });
    sender.identify(ProducerIdentity { id: 7, epoch: 0 });
    #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    let now = Instant::now();
    let settled = Arc::new(Mutex::new(0));
    for partition in 0..WAITING {
        let mut builder = BatchBuilder::new(Compression::NONE, 64);
        builder.append(1, None, Some(&[7; 300]), &[]).unwrap();
        let settled = Arc::clone(&settled);
        sender.push(Batch {
            partition: TopicPartition::new("t", partition),
            records: builder.seal(),
            created: now,
            done: Done::new(1, move |_| *settled.lock().unwrap() += 1),
        });
    }
    let (mut routed, mut wire) = (0, VecDeque::new());
    while !sender.is_empty() {
        let mut route = |_: &TopicPartition| {
            routed += 1;
            Route::Leader(BrokerId(0))
        };
        sender.follow(1, Admission::default());
        sender.route(now, &mut route);
        while let Some(call) = sender.poll_call(now, &mut route) {
            wire.push_back(call);
        }
        assert!(wire.len() <= 5, "unanswered requests are bounded");
        let call = wire.pop_front().unwrap();
        let answers = call.batches.iter().map(|batch| PartitionAnswer::unanswered(&batch.partition));
        sender.handle_answer(now, call.id, Ok(answers.collect()));
    }
    assert_eq!(*settled.lock().unwrap(), WAITING);
    // Once when it was pushed, once when it is its turn; once more where it does not fit at the end.
    assert!(routed <= 3 * WAITING, "{routed} looks at {WAITING} partitions");
}

/// Nor do those that no event concerns: without a leader, outside the transaction, or not expired.
#[test]
fn what_can_go_nowhere_is_looked_at_again_when_that_has_changed() {
    const WAITING: i32 = 100;
    let config = SenderConfig { delivery_timeout: Duration::from_secs(10), ..config() };
    let mut sender = Sender::new(config);
    sender.identify(ProducerIdentity { id: 7, epoch: 0 });
    #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    let now = Instant::now();
    let push = |sender: &mut Sender, partition: i32, created: Instant| {
        let mut builder = BatchBuilder::new(Compression::NONE, 64);
        builder.append(1, None, Some(&[7]), &[]).unwrap();
        let partition = TopicPartition::new("t", partition);
        sender.push(Batch { partition, records: builder.seal(), created, done: Done::new(1, drop) });
    };
    for answer in [Route::NoLeader, Route::Hold] {
        for partition in 0..WAITING {
            push(&mut sender, partition, now);
        }
        let mut routed = 0;
        let mut nowhere = |_: &TopicPartition| {
            routed += 1;
            answer
        };
        for _ in 0..WAITING {
            sender.follow(1, Admission::default());
            sender.route(now, &mut nowhere);
            assert!(sender.poll_call(now, &mut nowhere).is_none());
            assert_eq!(sender.take_metadata_stale(), answer == Route::NoLeader, "as long as it is so");
        }
        assert_eq!(routed, WAITING);
        sender.follow(2, Admission { accepts: true, added: 1 });
        let mut somewhere = |_: &TopicPartition| Route::Leader(BrokerId(0));
        sender.route(now, &mut somewhere);
        let call = sender.poll_call(now, &mut somewhere).unwrap();
        assert_eq!(call.batches.len() as i32, WAITING);
        let answers = call.batches.iter().rev().map(|batch| PartitionAnswer::unanswered(&batch.partition));
        sender.handle_answer(now, call.id, Ok(answers.collect()));
        assert!(sender.is_empty());
        sender.follow(1, Admission::default());
    }
    for partition in 0..WAITING {
        push(&mut sender, partition, now + Duration::from_secs(partition as u64));
    }
    for partition in 0..WAITING {
        let expiry = now + Duration::from_secs(10 + partition as u64);
        assert_eq!(sender.poll_timeout(), Some(expiry));
        sender.expire(expiry);
    }
    assert!(sender.is_empty() && sender.poll_timeout().is_none());
}

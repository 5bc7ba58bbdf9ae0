//! The accumulator without lock, threads or clock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

use super::*;
use crate::producer::partitioner::{TopicPartitions, partition_for_key};
use crate::types::BrokerId;

/// An accumulator and the time.
struct Rig {
    accumulator: Accumulator,
    moment: Moment,
}

const LINGER: Duration = Duration::from_millis(5);

fn config() -> AccumulatorConfig {
    AccumulatorConfig {
        compression: Compression::NONE,
        batch_size: 1_000,
        linger: LINGER,
        buffer_memory: 100_000,
        max_request_size: 50_000,
        partitioner: None,
        ignore_keys: false,
        is_adaptive: true,
        availability_timeout: Duration::ZERO,
        max_in_flight: 5,
        seed: 1,
    }
}

/// Partitions with these leaders, and those of them that are near.
fn shape(leaders: &[Option<i32>], near: &[i32]) -> TopicShape {
    TopicShape { leaders: leaders.iter().map(|leader| leader.map(BrokerId)).collect(), near: near.to_vec() }
}

impl Rig {
    fn new(config: AccumulatorConfig) -> Self {
        #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let now = Instant::now();
        let mut rig = Self { accumulator: Accumulator::new(config), moment: Moment { now, wall_ms: 1_000 } };
        assert_eq!(rig.append(0, 1).unwrap_err(), WaitReason::Topic("t".into()));
        assert_eq!(rig.accumulator.take_unwatched(), ["t".into()]);
        rig.accumulator.update_topic("t", Ok(shape(&[Some(1), Some(2)], &[])));
        rig
    }

    fn try_append(&mut self, partition: i32, bytes: usize, ticket: Option<u64>) -> Append {
        let value = vec![7; bytes];
        let record = Record::to("t").partition(partition).value(&value);
        let moment = self.moment;
        self.accumulator.append(&record, ticket, || moment).unwrap()
    }

    fn append(&mut self, partition: i32, bytes: usize) -> Result<Receipt, WaitReason> {
        self.try_append(partition, bytes, None).outcome
    }

    fn pass(&mut self, time: Duration) -> Vec<SealJob> {
        self.moment.now += time;
        self.moment.wall_ms += time.as_millis() as i64;
        self.accumulator.close_due(self.moment)
    }

    fn ready(&mut self) -> Vec<ReadyBatch> {
        std::iter::from_fn(|| self.accumulator.pop_ready()).collect()
    }

    fn release(&mut self, batch: ReadyBatch) {
        self.accumulator.release(batch.lease, batch.batch.into_buffer());
    }
}

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_batch_is_closed_by_its_size_or_by_its_linger() {
    let mut rig = Rig::new(config());
    for _ in 0..3 {
        rig.append(0, 400).unwrap();
    }
    let full = rig.ready();
    assert_eq!(
        (full.len(), full[0].batch.records()),
        (1, 2),
        "the third of 400 bytes does not fit into 1000"
    );
    assert_eq!(rig.accumulator.poll_timeout(rig.moment.now), Some(rig.moment.now + LINGER));
    rig.pass(LINGER - Duration::from_millis(1));
    assert!(rig.ready().is_empty());
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.ready()[0].batch.records(), 1);
    assert_eq!(rig.accumulator.poll_timeout(rig.moment.now), None);
}

#[test]
fn the_first_record_and_each_full_batch_wake_the_sender_and_others_do_not() {
    let mut rig = Rig::new(config());
    assert!(rig.try_append(0, 400, None).wake, "a linger begins");
    assert!(!rig.try_append(0, 400, None).wake);
    assert!(!rig.try_append(1, 400, None).wake, "the linger of partition 0 ends first");
    assert!(rig.try_append(0, 400, None).wake, "a full batch");
}

#[test]
fn a_record_larger_than_a_batch_gets_one_of_its_own() {
    let mut rig = Rig::new(config());
    rig.append(0, 100).unwrap();
    rig.append(0, 5_000).unwrap();
    rig.append(0, 100).unwrap();
    rig.pass(LINGER);
    let records: Vec<_> = rig.ready().iter().map(|batch| batch.batch.records()).collect();
    assert_eq!(records, [1, 1, 1]);
}

#[test]
fn while_a_partition_cannot_send_its_batch_grows_on() {
    let mut rig = Rig::new(AccumulatorConfig { max_in_flight: 1, ..config() });
    rig.append(0, 10).unwrap();
    rig.pass(LINGER);
    let on_wire = rig.ready().pop().unwrap();
    rig.append(0, 10).unwrap();
    rig.pass(LINGER);
    rig.append(0, 10).unwrap();
    assert!(rig.ready().is_empty(), "one is unacknowledged already");
    rig.release(on_wire);
    rig.pass(Duration::ZERO);
    assert_eq!(rig.ready()[0].batch.records(), 2);
}

#[test]
fn memory_is_bounded_and_waiters_are_served_in_order() {
    let mut rig = Rig::new(AccumulatorConfig { buffer_memory: 60_000, batch_size: 20_000, ..config() });
    let mut batches = 0;
    while rig.append(batches % 2, 15_000).is_ok() {
        batches += 1;
    }
    assert!((2..=3).contains(&batches), "{batches} batches of 15000 bytes in 60000");
    let wakes: [Arc<Wakes>; 2] = Default::default();
    let deadline = rig.moment.now + Duration::from_secs(60);
    let tickets = wakes.each_ref().map(|wakes| {
        let waker = Waker::from(Arc::clone(wakes));
        rig.accumulator.waiters.wait(None, WaitReason::Memory, deadline, &waker)
    });
    let count = |waiter: usize| wakes[waiter].0.load(Ordering::Relaxed);
    // Whoever waits makes everything open be sent, whatever its linger.
    rig.pass(Duration::ZERO);
    let mut ready = rig.ready();
    assert_eq!(ready.len() as i32, batches);
    rig.release(ready.remove(0));
    assert_eq!((count(0), count(1)), (1, 0));
    assert!(rig.append(0, 15_000).is_err(), "a newcomer does not push in");
    assert!(rig.try_append(0, 15_000, Some(tickets[1])).outcome.is_err(), "nor does the second");
    assert!(rig.try_append(0, 15_000, Some(tickets[0])).outcome.is_ok());
    assert_eq!(count(1), 1, "then it is the second's turn");
    ready.into_iter().for_each(|batch| rig.release(batch));
    assert!(rig.try_append(1, 15_000, Some(tickets[1])).outcome.is_ok());
    assert!(rig.accumulator.pool.used() <= 60_000);
}

/// Else the first records of a topic would come behind those that were sent just after its metadata came.
#[test]
fn who_came_before_the_topic_was_known_goes_first() {
    let mut rig = Rig::new(config());
    let append = |rig: &mut Rig, ticket| {
        let (record, moment) = (Record::to("new").partition(0).value("v"), rig.moment);
        rig.accumulator.append(&record, ticket, || moment).unwrap().outcome
    };
    let (reason, deadline) = (append(&mut rig, None).unwrap_err(), rig.moment.now + Duration::from_secs(60));
    let first = rig.accumulator.waiters.wait(None, reason.clone(), deadline, Waker::noop());
    rig.accumulator.update_topic("new", Ok(shape(&[Some(1)], &[])));
    assert_eq!(append(&mut rig, None).unwrap_err(), reason, "a newcomer does not push in");
    assert!(rig.append(0, 1).is_ok(), "other topics are not concerned");
    assert!(append(&mut rig, Some(first)).is_ok() && append(&mut rig, None).is_ok());
}

#[test]
fn a_waiter_that_nobody_polls_any_more_is_passed_over_after_its_time() {
    let mut rig = Rig::new(AccumulatorConfig { buffer_memory: 20_000, batch_size: 20_000, ..config() });
    rig.append(0, 15_000).unwrap();
    let deadline = rig.moment.now + Duration::from_secs(60);
    rig.accumulator.waiters.wait(None, WaitReason::Memory, deadline, Waker::noop());
    rig.pass(Duration::ZERO);
    let batch = rig.ready().pop().unwrap();
    rig.release(batch);
    assert!(rig.append(1, 10).is_err(), "it is the waiter's turn");
    rig.pass(Duration::from_secs(60));
    rig.accumulator.poll_timeout(rig.moment.now);
    assert!(rig.append(1, 10).is_ok());
}

/// Else its place among the closed ones would stay empty, and hold up all behind it.
#[test]
fn a_batch_whose_compressor_panics_keeps_its_place_and_goes_uncompressed() {
    let compression = Compression::new(Codec::Lz4, None).unwrap();
    let mut rig = Rig::new(AccumulatorConfig { compression, ..config() });
    let jobs: Vec<SealJob> = (0..4).filter_map(|_| rig.try_append(0, 600, None).seal).collect();
    crate::record::panic_next();
    for job in jobs {
        assert!(rig.accumulator.sealed(job.run()));
    }
    let codecs: Vec<Codec> = rig.ready().iter().map(|ready| ready.batch.codec()).collect();
    assert_eq!(codecs, [Codec::None, Codec::Lz4, Codec::Lz4]);
}

#[test]
fn compressed_batches_leave_in_the_order_they_were_closed() {
    let compression = Compression::new(Codec::Lz4, None).unwrap();
    let mut rig = Rig::new(AccumulatorConfig { compression, ..config() });
    let mut jobs = Vec::new();
    for index in 0..6 {
        jobs.extend(rig.try_append(0, 600 + index, None).seal);
    }
    assert_eq!(jobs.len(), 5);
    let (mut sealed, first): (Vec<_>, _) = {
        let mut sealed: Vec<_> = jobs.into_iter().map(SealJob::run).collect();
        let first = sealed.remove(0);
        (sealed, first)
    };
    // The first thread to begin is the last to end.
    sealed.reverse();
    for batch in sealed {
        assert!(!rig.accumulator.sealed(batch));
        assert!(rig.ready().is_empty());
    }
    assert!(rig.accumulator.sealed(first));
    let numbers: Vec<_> = rig.ready().iter().map(|batch| batch.lease.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}

#[test]
fn a_flush_waits_for_what_was_there_and_not_for_what_comes_later() {
    let mut rig = Rig::new(config());
    rig.append(0, 10).unwrap();
    let (number, _) = rig.accumulator.flush();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(!rig.accumulator.poll_flushed(number, &waker));
    rig.append(1, 10).unwrap();
    let batch = rig.ready().pop().unwrap();
    rig.release(batch);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(rig.accumulator.poll_flushed(number, &waker));
}

#[test]
fn records_without_a_timestamp_get_a_clock_that_is_kept_fresh() {
    let mut rig = Rig::new(AccumulatorConfig { linger: Duration::from_secs(10), ..config() });
    rig.append(0, 10).unwrap();
    let wake_at = rig.accumulator.poll_timeout(rig.moment.now).unwrap();
    assert_eq!(wake_at, rig.moment.now + CLOCK_AGE, "not only when the linger ends");
    rig.pass(Duration::from_secs(4));
    rig.append(0, 10).unwrap();
    rig.accumulator.flush();
    assert_eq!(rig.ready()[0].batch.max_timestamp_ms(), 5_000);
}

#[test]
fn abandoned_batches_are_named_and_nothing_waits_for_them() {
    let mut rig = Rig::new(config());
    rig.append(0, 600).unwrap();
    rig.append(0, 600).unwrap();
    assert_eq!(rig.accumulator.unfinished(), 2);
    assert_eq!(rig.accumulator.abandon().len(), 2);
    assert_eq!(rig.accumulator.unfinished(), 0);
}

/// Appends a record without a key and closes its batch: the partition.
fn spread(rig: &mut Rig) -> i32 {
    let value = [7; 600];
    let moment = rig.moment;
    rig.accumulator.append(&Record::to("t").value(&value), None, || moment).unwrap().outcome.unwrap();
    rig.accumulator.flush();
    rig.accumulator
        .closed
        .back()
        .map(|closed| rig.accumulator.lanes[closed.lane].partition.partition)
        .unwrap()
}

#[test]
fn a_broker_that_owes_for_too_long_gets_no_more_records_without_a_key() {
    let timeout = Duration::from_millis(100);
    let mut rig = Rig::new(AccumulatorConfig { batch_size: 500, availability_timeout: timeout, ..config() });
    let slow = spread(&mut rig);
    let _unanswered = rig.ready();
    rig.pass(timeout);
    for _ in 0..20 {
        assert_ne!(spread(&mut rig), slow);
        let batch = rig.ready().pop().unwrap();
        rig.release(batch);
    }
}

#[test]
fn a_partition_with_much_before_it_gets_less() {
    let mut rig = Rig::new(AccumulatorConfig { batch_size: 500, ..config() });
    for _ in 0..8 {
        rig.append(0, 600).unwrap();
    }
    let _unanswered = rig.ready();
    let mut records = [0; 2];
    for _ in 0..1_000 {
        records[spread(&mut rig) as usize] += 1;
        let batch = rig.ready().pop().unwrap();
        rig.release(batch);
    }
    // Only when it is drawn twice.
    assert!((190..310).contains(&records[0]), "{records:?}");
}

#[test]
fn records_without_a_key_stay_near_as_long_as_anything_near_has_a_leader() {
    let mut rig = Rig::new(AccumulatorConfig { batch_size: 500, ..config() });
    rig.accumulator.update_topic("t", Ok(shape(&[Some(1), Some(2), Some(2)], &[1, 2])));
    let of_hundred = |rig: &mut Rig| {
        let mut records = [0; 3];
        for _ in 0..100 {
            records[spread(rig) as usize] += 1;
            let batch = rig.ready().pop().unwrap();
            rig.release(batch);
        }
        records
    };
    let records = of_hundred(&mut rig);
    assert!(records[0] == 0 && records[1] > 20 && records[2] > 20, "{records:?}");
    rig.accumulator.update_topic("t", Ok(shape(&[Some(1), None, None], &[])));
    assert_eq!(of_hundred(&mut rig), [100, 0, 0]);
}

#[test]
fn the_applications_partitioner_is_asked_for_records_that_name_no_partition() {
    let by_value = |record: &Record<'_>, topic: &TopicPartitions<'_>| {
        assert_eq!((topic.name(), topic.count(), topic.available()), ("t", 2, &[0, 1][..]));
        record.value.map(|value| i32::from(value[0]))
    };
    let mut rig = Rig::new(AccumulatorConfig { partitioner: Some(Arc::new(by_value)), ..config() });
    let moment = rig.moment;
    for (record, partition) in [
        (Record::to("t").key("k").value(&[1]), 1),
        (Record::to("t").value(&[0]), 0),
        (Record::to("t").partition(0).value(&[1]), 0),
        (Record::to("t").key("key"), partition_for_key(b"key", 2)),
    ] {
        rig.accumulator.append(&record, None, || moment).unwrap().outcome.unwrap();
        rig.accumulator.flush();
        assert_eq!(rig.ready()[0].partition.partition, partition);
    }
    let error = rig.accumulator.append(&Record::to("t").value(&[2]), None, || moment).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("partition 2"), "{error}");
}

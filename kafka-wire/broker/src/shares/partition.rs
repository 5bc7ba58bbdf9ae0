//! What a share group did with one partition's records: an offset from which on something is left to do, and a
//! state for each record behind it that was handed out (Kafka's `SharePartition`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::share::AcknowledgementBatch;
use serde::{Deserialize, Serialize};

/// What an acknowledgement says, by Kafka's numbers.
const GAP: i8 = 0;
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = AcknowledgementBatch::RENEW;

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It can be handed out (again).
    Available,
    /// A member has it until then.
    Acquired { member: Arc<str>, until: Instant },
    /// It was accepted.
    Acknowledged,
    /// It was rejected, or handed out too often, or is no record.
    Archived,
}

#[derive(Clone, Debug)]
struct Delivery {
    state: State,
    /// How often it was handed out.
    count: i16,
}

impl Delivery {
    const fn is_over(&self) -> bool {
        matches!(self.state, State::Acknowledged | State::Archived)
    }

    /// It may be handed out again, unless that was done often enough.
    fn release(&mut self, count_max: i16) {
        self.state = if self.count >= count_max { State::Archived } else { State::Available };
    }
}

/// How records are handed out (the group's configuration).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `share.delivery.count.limit`
    pub(crate) deliveries_max: i16,
    /// `share.partition.max.record.locks`
    pub(crate) records_max: usize,
}

/// How many records are still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// So many and no more (KIP-1206, `record_limit`).
    Records(usize),
    /// Until there are so many, and the batch of the log with the last of them as a whole.
    WholeBatches(usize),
}

impl Count {
    /// Whether nothing more is wanted.
    pub(crate) const fn is_used_up(self) -> bool {
        matches!(self, Self::Records(0) | Self::WholeBatches(0))
    }

    /// How many of a batch.
    const fn of_batch(self) -> usize {
        match self {
            Self::Records(count) => count,
            Self::WholeBatches(0) => 0,
            Self::WholeBatches(_) => usize::MAX,
        }
    }

    fn use_up(&mut self, records: usize) {
        let (Self::Records(left) | Self::WholeBatches(left)) = self;
        *left = left.saturating_sub(records);
    }
}

/// Records of one delivery count that were acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acquired {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) count: i16,
}

/// The part that survives a restart; records that somebody has are free again then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    start: i64,
    next: i64,
    /// Offset, whether it is over, deliveries.
    records: Vec<(i64, bool, i16)>,
}

/// A share group's view of one partition.
#[derive(Clone, Debug)]
pub(crate) struct SharePartition {
    /// The first offset that is not done with.
    start: i64,
    /// The first offset that was never handed out.
    next: i64,
    /// What is in between; what is not there is done with.
    records: BTreeMap<i64, Delivery>,
    limits: Limits,
    /// Under whom the locks are held.
    leader_epoch: Option<i32>,
}

impl SharePartition {
    pub(crate) fn new(start: i64, limits: Limits) -> Self {
        Self { start, next: start, records: BTreeMap::new(), limits, leader_epoch: None }
    }

    pub(crate) fn restore(saved: Saved, limits: Limits) -> Self {
        let records = saved.records.into_iter().map(|(offset, is_over, count)| {
            let state = if is_over { State::Archived } else { State::Available };
            (offset, Delivery { state, count })
        });
        Self { start: saved.start, next: saved.next, records: records.collect(), limits, leader_epoch: None }
    }

    pub(crate) fn save(&self) -> Saved {
        let records = self.records.iter().map(|(&offset, it)| (offset, it.is_over(), it.count));
        Saved { start: self.start, next: self.next, records: records.collect() }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The partition is led in that epoch now: locks of an earlier one are gone.
    pub(crate) fn led_in(&mut self, epoch: i32) {
        if self.leader_epoch.replace(epoch).is_some_and(|before| before != epoch) {
            self.release_where(|_, _| true);
        }
    }

    /// The first offset that is not done with.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// How many records of a log that ends there are not done with.
    pub(crate) fn lag(&self, end: i64) -> i64 {
        let left = self.records.values().filter(|delivery| !delivery.is_over()).count() as i64;
        left + (end - self.next).max(0)
    }

    /// The log begins and ends there now.
    pub(crate) fn fit(&mut self, log: RangeInclusive<i64>) {
        self.start = self.start.clamp(*log.start(), *log.end());
        self.next = self.next.clamp(self.start, *log.end());
        let (start, next) = (self.start, self.next);
        self.records.retain(|offset, _| (start..next).contains(offset));
        self.advance();
    }

    /// The first offset that could be handed out, as far as is known.
    pub(crate) fn first_free(&self) -> Option<i64> {
        let released = self.records.iter().find(|(_, delivery)| delivery.state == State::Available);
        let has_room = self.records.len() < self.limits.records_max;
        match released {
            Some((&offset, _)) => Some(offset),
            None => has_room.then_some(self.next),
        }
    }

    /// Hands out what is free of a batch, or passes over it where it holds no records for applications. Says
    /// what was handed out, and takes it off `count`.
    pub(crate) fn acquire(
        &mut self,
        batch: RangeInclusive<i64>,
        holds_records: bool,
        member: &Arc<str>,
        until: Instant,
        count: &mut Count,
    ) -> Vec<Acquired> {
        // Offsets between batches are those of records that compaction removed: nothing is to be done with them.
        self.next = self.next.max(*batch.start());
        let mut acquired: Vec<Acquired> = Vec::new();
        let wanted = count.of_batch();
        let mut left = wanted;
        for offset in (*batch.start()).max(self.start)..=*batch.end() {
            if holds_records && left == 0 {
                break;
            }
            if offset == self.next {
                if self.records.len() >= self.limits.records_max {
                    break;
                }
                self.records.insert(offset, Delivery { state: State::Available, count: 0 });
                self.next += 1;
            }
            let Some(delivery) = self.records.get_mut(&offset) else { continue };
            if delivery.state != State::Available {
                continue;
            }
            if !holds_records {
                delivery.state = State::Archived;
                continue;
            }
            delivery.state = State::Acquired { member: Arc::clone(member), until };
            delivery.count += 1;
            left -= 1;
            match acquired.last_mut().filter(|run| run.last + 1 == offset && run.count == delivery.count) {
                Some(run) => run.last = offset,
                None => acquired.push(Acquired { first: offset, last: offset, count: delivery.count }),
            }
        }
        count.use_up(wanted - left);
        self.advance();
        acquired
    }

    /// Acknowledges records that the member has: all of them or, where one is not its own, none. What is renewed is
    /// locked until then.
    ///
    /// # Errors
    /// `INVALID_RECORD_STATE`, `INVALID_REQUEST`.
    pub(crate) fn acknowledge(
        &mut self,
        member: &str,
        batches: &[AcknowledgementBatch],
        until: Instant,
    ) -> Result<(), ErrorCode> {
        let mut behind = i64::MIN;
        for AcknowledgementBatch { first_offset, last_offset, types } in batches {
            let length = last_offset.checked_sub(*first_offset).filter(|it| (0..1 << 31).contains(it));
            let length = length.ok_or(ErrorCode::INVALID_REQUEST)? as usize + 1;
            let is_known = types.iter().all(|kind| (GAP..=RENEW).contains(kind));
            if !is_known || !(types.len() == 1 || types.len() == length) || *first_offset < behind {
                return Err(ErrorCode::INVALID_REQUEST);
            }
            behind = *last_offset;
        }
        for AcknowledgementBatch { first_offset, last_offset, .. } in batches {
            let own = self.records.range(first_offset..=last_offset).filter(|(_, delivery)| match &delivery
                .state
            {
                State::Acquired { member: holder, .. } => **holder == *member,
                _ => false,
            });
            // What lies below the start was deleted meanwhile.
            let expected = (last_offset - (*first_offset).max(self.start) + 1).max(0) as usize;
            if own.count() != expected {
                return Err(ErrorCode::INVALID_RECORD_STATE);
            }
        }
        for AcknowledgementBatch { first_offset, last_offset, types } in batches {
            for (&offset, delivery) in self.records.range_mut(first_offset..=last_offset) {
                let at = if types.len() == 1 { 0 } else { (offset - first_offset) as usize };
                match (types[at], &mut delivery.state) {
                    (ACCEPT, state) => *state = State::Acknowledged,
                    (RELEASE, _) => delivery.release(self.limits.deliveries_max),
                    (RENEW, State::Acquired { until: end, .. }) => *end = until,
                    (GAP | REJECT, state) => *state = State::Archived,
                    // A renewal of what the same request has named before: that is done with.
                    _ => {}
                }
            }
        }
        self.advance();
        Ok(())
    }

    /// The member is gone: what it has is free again. Says whether it had anything.
    pub(crate) fn release_all(&mut self, member: &str) -> bool {
        self.release_where(|holder, _| holder == member)
    }

    /// Frees what was not acknowledged in time; says whether there was anything.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        self.release_where(|_, until| until <= now)
    }

    fn release_where(&mut self, is_so: impl Fn(&str, Instant) -> bool) -> bool {
        let mut any = false;
        for delivery in self.records.values_mut() {
            if let State::Acquired { member, until } = &delivery.state
                && is_so(member, *until)
            {
                delivery.release(self.limits.deliveries_max);
                any = true;
            }
        }
        self.advance();
        any
    }

    /// When a record is to be freed next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let acquired = self.records.values().filter_map(|delivery| match delivery.state {
            State::Acquired { until, .. } => Some(until),
            _ => None,
        });
        acquired.min()
    }

    fn advance(&mut self) {
        while self.records.first_key_value().is_some_and(|(_, delivery)| delivery.is_over()) {
            self.records.pop_first();
        }
        self.start = self.records.first_key_value().map_or(self.next, |(&offset, _)| offset);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "the zero of a virtual clock")]
    fn start() -> Instant {
        Instant::now()
    }

    fn said(first_offset: i64, last_offset: i64, types: &[i8]) -> AcknowledgementBatch {
        AcknowledgementBatch { first_offset, last_offset, types: types.to_vec() }
    }

    #[test]
    fn records_are_handed_out_until_they_are_done_with() {
        let until = start() + Duration::from_secs(30);
        let (a, b): (Arc<str>, Arc<str>) = (Arc::from("a"), Arc::from("b"));
        let mut it = SharePartition::new(10, Limits { deliveries_max: 2, records_max: 100 });
        assert_eq!(it.first_free(), Some(10));
        assert_eq!(
            it.acquire(8..=14, true, &a, until, &mut Count::Records(3)),
            [Acquired { first: 10, last: 12, count: 1 }]
        );
        assert_eq!(
            it.acquire(8..=14, true, &b, until, &mut Count::Records(9)),
            [Acquired { first: 13, last: 14, count: 1 }]
        );
        assert_eq!(
            it.acknowledge("b", &[said(10, 10, &[ACCEPT])], until),
            Err(ErrorCode::INVALID_RECORD_STATE)
        );
        assert_eq!(it.acknowledge("a", &[said(10, 12, &[ACCEPT, RELEASE, REJECT])], until), Ok(()));
        assert_eq!((it.start(), it.first_free()), (11, Some(11)));
        assert_eq!(
            it.acquire(8..=14, true, &b, until, &mut Count::Records(9)),
            [Acquired { first: 11, last: 11, count: 2 }]
        );
        assert_eq!(it.acknowledge("b", &[said(11, 11, &[RELEASE])], until), Ok(()), "delivered often enough");
        assert_eq!((it.start(), it.first_free()), (13, Some(15)));
        assert!(!it.expire(until - Duration::from_secs(1)));
        assert!(it.expire(until));
        assert_eq!(it.first_free(), Some(13));
        assert_eq!(
            it.acknowledge("b", &[said(13, 14, &[ACCEPT])], until),
            Err(ErrorCode::INVALID_RECORD_STATE)
        );
        // Markers and gaps are passed over.
        assert_eq!(it.acquire(15..=15, false, &a, until, &mut Count::Records(9)), []);
        let far = 1 << 40;
        assert_eq!(
            it.acquire(far..=far, true, &a, until, &mut Count::Records(9)),
            [Acquired { first: far, last: far, count: 1 }]
        );
        assert!(it.release_all("a"));
        assert_eq!(it.first_free(), Some(13));
    }

    #[test]
    fn a_lock_is_renewed_and_ends_with_its_leader() {
        let until = start() + Duration::from_secs(30);
        let later = until + Duration::from_secs(30);
        let a: Arc<str> = Arc::from("a");
        let mut it = SharePartition::new(0, Limits { deliveries_max: 5, records_max: 100 });
        it.led_in(7);
        it.acquire(0..=3, true, &a, until, &mut Count::Records(9));
        assert_eq!(it.acknowledge("a", &[said(0, 3, &[RENEW, ACCEPT, RENEW, RELEASE])], later), Ok(()));
        assert_eq!(
            it.acknowledge("a", &[said(0, 0, &[]), said(0, 0, &[RENEW])], later),
            Err(ErrorCode::INVALID_REQUEST)
        );
        assert_eq!(
            it.acknowledge("a", &[said(2, 2, &[ACCEPT]), said(0, 0, &[ACCEPT])], later),
            Err(ErrorCode::INVALID_REQUEST)
        );
        assert!(!it.expire(until), "what is renewed is still locked");
        assert_eq!(it.first_free(), Some(3));
        it.led_in(7);
        assert_eq!(it.acknowledge("a", &[said(2, 2, &[ACCEPT])], later), Ok(()));
        it.led_in(8);
        assert_eq!(
            it.acknowledge("a", &[said(0, 0, &[ACCEPT])], later),
            Err(ErrorCode::INVALID_RECORD_STATE)
        );
        let again = it.acquire(0..=3, true, &a, until, &mut Count::Records(9));
        assert_eq!(
            again,
            [Acquired { first: 0, last: 0, count: 2 }, Acquired { first: 3, last: 3, count: 2 }]
        );
    }

    #[test]
    fn batches_are_handed_out_whole_unless_the_limit_is_strict() {
        let until = start() + Duration::from_secs(30);
        let a: Arc<str> = Arc::from("a");
        for (mut count, handed_out) in [(Count::Records(3), [2, 1, 0]), (Count::WholeBatches(3), [2, 4, 0])] {
            let mut it = SharePartition::new(0, Limits { deliveries_max: 5, records_max: 100 });
            for (batch, expected) in [0..=1, 2..=5, 6..=7].into_iter().zip(handed_out) {
                let acquired = it.acquire(batch, true, &a, until, &mut count);
                let acquired: i64 = acquired.iter().map(|run| run.last - run.first + 1).sum();
                assert_eq!(acquired, expected);
            }
            assert!(count.is_used_up());
        }
    }

    #[test]
    fn what_is_saved_is_free_again_after_a_restart() {
        let limits = Limits { deliveries_max: 5, records_max: 3 };
        let mut it = SharePartition::new(0, limits);
        assert_eq!(it.acquire(0..=9, true, &Arc::from("a"), start(), &mut Count::Records(9)).len(), 1);
        assert_eq!(it.first_free(), None, "so many locks and no more");
        it.acknowledge("a", &[said(1, 1, &[ACCEPT])], start()).unwrap();
        let mut again = SharePartition::restore(it.save(), limits);
        let acquired = again.acquire(0..=9, true, &Arc::from("b"), start(), &mut Count::Records(9));
        assert_eq!(
            acquired,
            [Acquired { first: 0, last: 0, count: 2 }, Acquired { first: 2, last: 2, count: 2 }]
        );
        again.fit(1..=2);
        assert_eq!(again.start(), 2);
    }
}

//! What becomes of batches: by an answer, by the lack of one, by time, or because the application gives up.

use std::time::Instant;

use foldhash::HashMap;

use super::queue::{Entry, sequence_after};
use super::{CallId, OnWire, PartitionAnswer, Sender, Stamp};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::producer::verdict::{Verdict, fenced, verdict};
use crate::types::{BrokerId, ProducerIdentity};

impl Sender {
    /// What came of a request: an answer per partition, or the reason why there is none.
    pub(crate) fn handle_answer(&mut self, now: Instant, id: CallId, answer: Result<Vec<PartitionAnswer>>) {
        let Some(OnWire { broker, queues }) = self.calls.remove(&id) else { return };
        if let Some(calls) = self.in_flight.get_mut(&broker) {
            *calls -= 1;
        }
        let answer = answer.map(|answers| {
            let by_partition = answers.into_iter().map(|answer| (answer.partition.clone(), answer));
            by_partition.collect::<HashMap<_, _>>()
        });
        for place in queues {
            self.queues[place].on_wire -= 1;
            let verdict = match &answer {
                Ok(answers) => match answers.get(&self.queues[place].partition) {
                    Some(answer) => verdict(answer),
                    None => Verdict::Retry {
                        error: Error::new(ErrorKind::Protocol, "the broker answered without this partition"),
                        possibly_written: true,
                        is_metadata_stale: true,
                    },
                },
                Err(error) => Verdict::of_failed_call(error),
            };
            self.settle(now, place, id, verdict, broker);
            if self.queues[place].is_resetting && self.queues[place].on_wire == 0 {
                self.reset_sequences(place);
            }
            self.look_at(place);
        }
    }

    fn settle(&mut self, now: Instant, place: usize, id: CallId, verdict: Verdict, broker: BrokerId) {
        let queue = &mut self.queues[place];
        // Expired batches are gone: their answer comes too late to matter.
        let Some(index) = queue.entries.iter().position(|entry| entry.call == Some(id)) else { return };
        queue.entries[index].call = None;
        match verdict {
            Verdict::Written { base_offset, append_time_ms } => {
                queue.failures = 0;
                queue.not_before = None;
                let stamp = queue.entries[index].stamp;
                queue.has_gap &= stamp.is_none();
                queue.is_acquainted |= stamp.is_some_and(|stamp| queue.identity == Some(stamp.identity));
                if let Some(entry) = queue.entries.remove(index) {
                    self.unsettled -= 1;
                    entry.span.in_scope(|| tracing::trace!(base_offset, "written"));
                    entry.batch.succeed(base_offset, append_time_ms);
                }
            }
            Verdict::Retry { error, possibly_written, is_metadata_stale } => {
                queue.entries[index].possibly_written |= possibly_written;
                self.is_metadata_stale |= is_metadata_stale;
                if self.giving_up.is_some() || queue.entries[index].attempts > self.config.retries {
                    self.fail(place, index, error.with_broker(broker));
                } else {
                    self.retry_later(now, place, index, error);
                }
            }
            // Only a coordinator raises the epoch of a transactional producer behind its back.
            Verdict::OutOfOrder(error)
                if self.config.is_transactional
                    && error.code() == Some(ErrorCode::INVALID_PRODUCER_EPOCH) =>
            {
                self.fail(place, index, fenced(error.with_broker(broker)));
            }
            Verdict::OutOfOrder(error) if index > 0 => self.retry_later(now, place, index, error),
            Verdict::OutOfOrder(_) if !self.config.is_transactional && self.giving_up.is_none() => {
                queue.entries[index].has_failed = true;
                queue.is_resetting = true;
            }
            Verdict::TooLarge(error) => self.split(place, index, error.with_broker(broker)),
            Verdict::OutOfOrder(error) | Verdict::Failed(error) => {
                self.fail(place, index, error.with_broker(broker));
            }
        }
    }

    /// Puts two halves in the place of a batch that the broker refused for its size; they share its sequence
    /// numbers, which nobody has seen. What may have been written all the same keeps its numbers and fails.
    fn split(&mut self, place: usize, index: usize, error: Error) {
        let queue = &mut self.queues[place];
        if self.giving_up.is_some() || queue.entries[index].possibly_written {
            return self.fail(place, index, error);
        }
        let Some(Entry { batch, stamp, last_error, .. }) = queue.entries.remove(index) else { return };
        tracing::debug!(partition = %queue.partition, %error, "a batch is split");
        self.measures.split();
        let entry = |batch, stamp| Entry {
            batch,
            stamp,
            call: None,
            attempts: 0,
            // One at a time: what was sent behind it is refused as out of order, and comes after both.
            has_failed: true,
            possibly_written: false,
            last_error: last_error.clone(),
            span: tracing::Span::none(),
        };
        let (front, back) = batch.split();
        let Some(back) = back else {
            queue.entries.insert(index, entry(front, stamp));
            return self.fail(place, index, error);
        };
        let of_back = stamp.map(|stamp| Stamp {
            base_sequence: sequence_after(stamp.base_sequence, front.records.records()),
            ..stamp
        });
        self.unsettled += 1;
        queue.entries.insert(index, entry(back, of_back));
        queue.entries.insert(index, entry(front, stamp));
    }

    fn retry_later(&mut self, now: Instant, place: usize, index: usize, error: Error) {
        let queue = &mut self.queues[place];
        tracing::debug!(partition = %queue.partition, %error, "a batch is to be sent again");
        queue.entries[index].has_failed = true;
        queue.entries[index].last_error = Some(error);
        self.measures.retried(queue.entries[index].batch.records.records());
        // One failure of several batches on the wire is one reason to wait.
        if index == 0 || queue.not_before.is_none_or(|time| time <= now) {
            queue.failures = queue.failures.saturating_add(1);
            let again = now + self.config.retry_backoff.delay(queue.failures, &mut self.rng);
            queue.not_before = Some(again);
            self.delayed.insert((again, place));
        }
    }

    /// Takes a batch out with an error.
    fn fail(&mut self, place: usize, index: usize, error: Error) {
        let queue = &mut self.queues[place];
        let Some(entry) = queue.entries.remove(index) else { return };
        self.unsettled -= 1;
        let error = if entry.possibly_written { error.with_possibly_written() } else { error };
        let error = error.with_partition(queue.partition.clone()).with_api("Produce");
        queue.forget_sequence(index, &entry);
        self.failure.get_or_insert_with(|| error.clone());
        self.measures.failed(entry.batch.records.records());
        entry.batch.fail(error);
    }

    /// Sequences of the partition start at 0 in a new epoch (KIP-360). The epoch is raised here, as Java
    /// does for a producer without transactions: brokers accept any higher one. When there is none, a new
    /// producer id is needed.
    fn reset_sequences(&mut self, place: usize) {
        let queue = &mut self.queues[place];
        queue.is_resetting = false;
        if queue.identity.is_some() && queue.identity == self.identity {
            self.identity = self.identity.and_then(|identity| {
                let epoch = identity.epoch.checked_add(1)?;
                Some(ProducerIdentity { epoch, ..identity })
            });
        }
        tracing::warn!(
            partition = %queue.partition, old = ?queue.identity, new = ?self.identity,
            "the broker has lost or never got earlier batches: sequences start anew"
        );
        if std::mem::take(&mut queue.has_gap) {
            // They may lie behind the expired batch in a connection that the broker has yet to read; sent
            // under a new epoch too, they would be there twice.
            while let Some(index) = self.queues[place].entries.iter().position(|entry| entry.possibly_written)
            {
                let code = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
                let error = Error::broker(code, self.queues[place].entries[index].batch.describe())
                    .with_hint(
                        "an earlier batch had expired; whether these records are there only a read can tell",
                    );
                self.fail(place, index, error);
            }
        }
        let queue = &mut self.queues[place];
        queue.entries.iter_mut().for_each(|entry| entry.stamp = None);
        queue.identity = None;
        queue.is_acquainted = false;
    }

    /// Fails what is older than the delivery timeout, on the wire or not.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(time, place)) = self.expiries.first()
            && time <= now
        {
            self.expiries.pop_first();
            self.queues[place].is_timed = false;
            self.expire_front(now, place);
        }
    }

    fn expire_front(&mut self, now: Instant, place: usize) {
        while let Some(front) = self.queues[place].entries.front_mut() {
            let expiry = front.batch.created + self.config.delivery_timeout;
            if now < expiry {
                self.queues[place].is_timed = true;
                self.expiries.insert((expiry, place));
                return;
            }
            front.possibly_written |= front.call.is_some();
            let text = format!(
                "{} within delivery.timeout.ms={}",
                front.batch.describe(),
                self.config.delivery_timeout.as_millis()
            );
            let mut error = Error::new(ErrorKind::Timeout, text);
            if let Some(cause) = front.last_error.take() {
                error = error.with_cause(cause);
            }
            self.fail(place, 0, error);
            // What stood behind it may go now.
            self.look_at(place);
        }
    }

    /// Fails everything that is not on the wire, and what is there as soon as it fails once; nothing new
    /// is taken until [`Self::resume`].
    pub(crate) fn give_up(&mut self, reason: &Error) {
        self.giving_up.get_or_insert_with(|| reason.clone());
        self.fail_queued(reason);
    }

    /// Fails everything that is not on the wire.
    pub(crate) fn fail_queued(&mut self, reason: &Error) {
        for place in self.filled() {
            while let Some(index) = self.queues[place].entries.iter().position(|entry| entry.call.is_none()) {
                self.fail(place, index, reason.clone());
            }
        }
    }

    /// Fails everything, on the wire or not.
    pub(crate) fn fail_all(&mut self, reason: &Error) {
        for place in self.filled() {
            while let Some(front) = self.queues[place].entries.front_mut() {
                front.possibly_written |= front.call.is_some();
                self.fail(place, 0, reason.clone());
            }
        }
    }

    /// Places of all queues, unless all are empty.
    fn filled(&self) -> std::ops::Range<usize> {
        if self.unsettled == 0 { 0..0 } else { 0..self.queues.len() }
    }

    /// Batches are taken again.
    pub(crate) fn resume(&mut self) {
        self.giving_up = None;
        self.failure = None;
    }
}

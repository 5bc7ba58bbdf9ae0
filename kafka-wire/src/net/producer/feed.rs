//! What the I/O thread gets: sealed batches, topics to watch, and the commands of the handles.

use std::sync::Arc;
use std::time::Instant;

use super::{Shared, moment};
use crate::error::{Error, ErrorKind, shielded};
use crate::net::driver::Feed;
use crate::net::signal::{MailboxFeed, lock};
use crate::producer::{Batch, Command, Done, ReadyBatch};

pub(super) struct ProducerFeed {
    shared: Arc<Shared>,
    commands: MailboxFeed<Command>,
}

impl ProducerFeed {
    pub(super) fn new(shared: Arc<Shared>, commands: MailboxFeed<Command>) -> Self {
        Self { shared, commands }
    }

    /// A batch whose fate goes to its receipts, and its memory back to the pool.
    fn batch(&self, ready: ReadyBatch) -> Batch {
        let ReadyBatch { partition, batch, created, completion, lease } = ready;
        let shared = Arc::clone(&self.shared);
        let mut lease = Some(lease);
        let done = Done::new(batch.records(), move |mut fate| {
            if let Some(callback) = &shared.on_delivery {
                shielded("the delivery callback", || callback(&fate.outcome));
            }
            shared.interceptors.on_acknowledgement(&fate.outcome);
            completion.complete_part(&fate);
            if fate.is_last
                && let Some(lease) = lease.take()
            {
                lock(&shared.accumulator).release(lease, fate.buffer.take());
            }
        });
        Batch { partition, records: batch, created, done }
    }
}

impl Feed for ProducerFeed {
    type Command = Command;

    fn poll(&mut self, now: Instant, emit: &mut dyn FnMut(Command)) -> Option<Instant> {
        let (jobs, topics) = {
            let mut accumulator = lock(&self.shared.accumulator);
            (accumulator.close_due(moment()), accumulator.take_unwatched())
        };
        topics.into_iter().for_each(|topic| emit(Command::Watch(topic)));
        for job in jobs {
            let sealed = job.run();
            lock(&self.shared.accumulator).sealed(sealed);
        }
        // A fate may be known at once, and to tell it takes the lock.
        loop {
            let Some(ready) = lock(&self.shared.accumulator).pop_ready() else { break };
            emit(Command::Send(self.batch(ready)));
        }
        // Behind the batches: what a flush closed belongs to the transaction that a command ends. A close comes
        // after what another thread still compresses, which tells when it has done so.
        if !lock(&self.shared.accumulator).is_sealing_the_last() {
            self.commands.poll(now, emit);
        }
        lock(&self.shared.accumulator).poll_timeout(now)
    }
}

impl Drop for ProducerFeed {
    fn drop(&mut self) {
        let mut accumulator = lock(&self.shared.accumulator);
        accumulator.refuse(Error::new(ErrorKind::Closed, "the producer is closed"));
        let mut abandoned = accumulator.abandon();
        drop(accumulator);
        abandoned.drain(..).for_each(|completion| {
            completion.complete(Err(Error::new(
                ErrorKind::Closed,
                "the producer was closed before the records were sent",
            )));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::net::signal::{Mailbox, Signal};
    use crate::producer::{Accumulator, AccumulatorConfig, Interceptors, Record, TopicShape};
    use crate::record::Compression;
    use crate::reply::Reply;
    use crate::types::{BrokerId, Codec};

    fn accumulator() -> Accumulator {
        let mut accumulator = Accumulator::new(AccumulatorConfig {
            compression: Compression::new(Codec::Lz4, None).unwrap(),
            batch_size: 1_000,
            linger: Duration::from_secs(10),
            buffer_memory: 100_000,
            max_request_size: 50_000,
            partitioner: None,
            ignore_keys: false,
            is_adaptive: true,
            availability_timeout: Duration::ZERO,
            max_in_flight: 5,
            seed: 1,
        });
        let record = Record::to("t").partition(0).value("first");
        assert!(accumulator.append(&record, None, moment).unwrap().outcome.is_err(), "not known yet");
        let shape = TopicShape { leaders: vec![Some(BrokerId(1))], near: Vec::new() };
        accumulator.update_topic("t", Ok(shape));
        accumulator.append(&record, None, moment).unwrap().outcome.unwrap();
        accumulator
    }

    /// Else records would fail that were enqueued before, because another thread has closed their batch.
    #[test]
    fn a_close_waits_for_what_another_thread_compresses() {
        let signal = Arc::new(Signal::default());
        let shared = Arc::new(Shared {
            accumulator: Mutex::new(accumulator()),
            signal: Arc::clone(&signal),
            on_delivery: None,
            interceptors: Interceptors::default(),
        });
        let (mailbox, commands) = Mailbox::new(signal);
        let mut feed = ProducerFeed::new(Arc::clone(&shared), commands);
        let large = "x".repeat(990);
        let record = Record::to("t").partition(0).value(&large);
        let appended = lock(&shared.accumulator).append(&record, None, moment).unwrap();
        lock(&shared.accumulator).refuse(Error::new(ErrorKind::Closed, "closed"));
        shared.flush();
        mailbox.send(Command::Close { deadline: moment().now, reply: Reply::new(|_| {}) }).unwrap();
        let emitted = |feed: &mut ProducerFeed| {
            let mut emitted = Vec::new();
            feed.poll(moment().now, &mut |command| match command {
                Command::Send(batch) => emitted.push(batch.records.records().to_string()),
                Command::Close { .. } => emitted.push("close".to_owned()),
                Command::Watch(_) => {}
                other => panic!("{other:?}"),
            });
            emitted
        };
        assert!(emitted(&mut feed).is_empty());
        shared.follow_up(appended.seal, appended.wake);
        assert_eq!(emitted(&mut feed), ["1", "1", "close"]);
    }
}

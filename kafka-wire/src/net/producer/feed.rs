//! What the I/O thread gets: sealed batches, topics to watch, and the commands of the handles.

use std::sync::Arc;
use std::time::Instant;

use super::{Shared, moment};
use crate::error::{Error, ErrorKind};
use crate::net::driver::Feed;
use crate::net::signal::{MailboxFeed, lock};
use crate::producer::{Batch, Command, Done, ReadyBatch, shielded};

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
        // Behind the batches: what a flush closed belongs to the transaction that a command ends.
        self.commands.poll(now, emit);
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

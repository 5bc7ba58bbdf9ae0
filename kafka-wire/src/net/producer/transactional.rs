//! A producer for those who make their own batches.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::now;
use crate::config::ProducerConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::net::driver::{self, DriverHandle, deadline};
use crate::net::signal::{Mailbox, Signal, reply};
use crate::producer::{Batch, BatchReceipt, Command, Completion, Done, ProducerRole};
use crate::record::SealedBatch;
use crate::reply::Reply;
use crate::txn::GroupMetadata;
use crate::types::{CommittedOffset, ProducerIdentity, TopicPartition};

/// Sends batches in transactions, on behalf of many threads: one producer id, one epoch, one transaction at
/// a time. Cloning gives another handle on the same producer.
///
/// Calls take effect in the order in which they are made. What follows a [`commit`](Self::commit) belongs to
/// the next transaction and is held back until the outcome is known, so that [`begin`](Self::begin) and
/// [`produce`](Self::produce) need not wait for it.
#[derive(Clone)]
pub struct TransactionalProducer(Arc<Inner>);

struct Inner {
    mailbox: Mailbox<Command>,
    /// Ends the thread when dropped.
    _driver: DriverHandle,
}

impl TransactionalProducer {
    /// A producer with this configuration, which must have a `transactional.id`. Batching, compression and
    /// memory are the caller's: `batch.size`, `linger.ms`, `compression.type`, `buffer.memory` mean nothing
    /// here.
    ///
    /// # Errors
    /// `Config`; `Network` when its thread cannot be started.
    pub fn new(config: &ProducerConfig) -> Result<Self> {
        config.check()?;
        if config.transactional_id.is_none() {
            return Err(Error::new(ErrorKind::Config, "a transactional producer needs transactional.id"));
        }
        let config = &config.clone().with_finite_times();
        let signal = Arc::new(Signal::default());
        let role = ProducerRole::new(config, driver::seed(), Box::new(|_, _| {}));
        let (mailbox, feed) = Mailbox::new(Arc::clone(&signal));
        let driver = driver::spawn("kafka-transactions", &config.client, role, feed, signal)?;
        Ok(Self(Arc::new(Inner { mailbox, _driver: driver })))
    }

    /// Gets the producer's id: fences an older producer of the same `transactional.id`, and waits until what
    /// that one left is committed or aborted.
    ///
    /// # Errors
    /// `Timeout` after `max.block.ms`: try again. A refusal by the coordinator is final.
    ///
    /// # Cancel safety
    /// It goes on when dropped after the first poll; another call waits for the same answer.
    pub async fn init(&self) -> Result<ProducerIdentity> {
        self.0.mailbox.ask(Command::Init).await
    }

    /// Begins a transaction. Where that is not possible, the next [`commit`](Self::commit) says why, and so
    /// do the receipts of batches.
    ///
    /// # Errors
    /// `Closed`.
    pub fn begin(&self) -> Result<()> {
        self.0.mailbox.send(Command::Begin(Reply::new(|begun: Result<()>| {
            if let Err(error) = begun {
                tracing::warn!(%error, "a transaction was not begun");
            }
        })))
    }

    /// Sends a batch in the transaction that was begun last. Batches of a partition are written in the order
    /// of these calls, whichever threads they come from.
    ///
    /// # Errors
    /// `Closed`. Everything else comes through the receipt.
    pub fn produce(&self, partition: TopicPartition, batch: SealedBatch) -> Result<BatchReceipt> {
        let completion = Arc::new(Completion::default());
        let receipt = BatchReceipt::new(Arc::clone(&completion));
        let done = Done::new(batch.records(), move |fate| completion.complete_part(&fate));
        self.0.mailbox.send(Command::Send(Batch { partition, records: batch, created: now(), done }))?;
        Ok(receipt)
    }

    /// Adds consumed offsets to the transaction; see [`GroupMetadata::without_member`].
    ///
    /// # Errors
    /// Where [`Error::is_abortable`], the transaction cannot be committed any more; otherwise the producer
    /// cannot go on.
    ///
    /// # Cancel safety
    /// They are on their way when this returns; dropping the future only ignores the answer.
    pub fn send_offsets(
        &self,
        group: GroupMetadata,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        self.ask(|reply| Command::SendOffsets { group, offsets, reply })
    }

    /// Commits, once every batch and offset of the transaction is acknowledged.
    ///
    /// # Errors
    /// [`Error::is_abortable`]: something of it failed; [`abort`](Self::abort). [`Error::possibly_written`]:
    /// whether it was committed is not known. `Fenced`: another producer has taken over. After the last two
    /// and any other error this producer cannot go on.
    ///
    /// # Cancel safety
    /// It is on its way when this returns; dropping the future only ignores the answer.
    pub fn commit(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        self.ask(|reply| Command::End { commit: true, reply })
    }

    /// Aborts: batches that are not on the wire fail at once.
    ///
    /// # Errors
    /// What ended the producer.
    ///
    /// # Cancel safety
    /// See [`commit`](Self::commit).
    pub fn abort(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        self.ask(|reply| Command::End { commit: false, reply })
    }

    /// Ends the producer for all its handles, after what is under way, until `timeout` at most. An open
    /// transaction is aborted.
    ///
    /// # Errors
    /// `Closed`, when it was closed before or is being closed: the first call decides how long that may take.
    ///
    /// # Cancel safety
    /// It goes on when dropped after the first poll; nobody waits for it then.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let deadline = deadline(timeout);
        self.0.mailbox.ask_last(|reply| Command::Close { deadline, reply }).await
    }

    fn ask<F: FnOnce(Reply<()>) -> Command>(
        &self,
        make: F,
    ) -> impl Future<Output = Result<()>> + Send + use<F> {
        let (reply, answer) = reply();
        let sent = self.0.mailbox.send(make(reply));
        async move {
            sent?;
            answer.await
        }
    }
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalProducer").finish_non_exhaustive()
    }
}

//! Producer ids and transactions (KIP-98, KIP-360, KIP-447, KIP-890). Layer 6.
//!
//! A value without connections: [`Transactions::poll_call`] says which coordinator to ask what, one call
//! at a time; [`Transactions::handle_response`] takes the answer. Batches are the producer's: it asks
//! whether a partition may be written to, and says when all of them have met their fate.
//!
//! ```text
//! Fresh --init--> Initializing --> Ready --begin--> Open --commit/abort--> Ending --> Ready
//!                                                    | a batch or an offset failed
//!                                                    v
//!                                                 Doomed --abort--> Ending --> Ready     Broken: for ever
//! ```
//!
//! A coordinator that aborts a transaction for its age raises the producer's epoch, and answers the producer
//! as it would one that was fenced. Java's producer is of no use then; here the coordinator is asked (Suspected)
//! for the epoch after the raised one: it gives that only while nobody else has got one, and then the
//! transaction is to be aborted and the next may begin.
//!
//! Protocol 2 (`transaction.version` ≥ 2): brokers add partitions by themselves, and each EndTxn raises
//! the epoch, so that nothing late can reach the next transaction. Protocol 1 has neither: whatever
//! ended in doubt is followed by InitProducerId before the next transaction (KAFKA-17754). Brokers before 2.5
//! raise an epoch for anybody who names the transactional id, also for a producer that was replaced without
//! knowing it: there a producer ends in such a case, and who makes another decides that it is to take over. Java
//! goes on there with the epoch that is in doubt.

mod calls;
mod current;
mod offsets;
mod suspicion;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use offsets::GroupMetadata;

use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::reply::Reply;
use crate::time::{Backoff, Rng};
use crate::types::{CommittedOffset, ProducerIdentity, TopicPartition};
use calls::Call;
use current::Current;
use offsets::PendingOffsets;
use suspicion::{ended_early, is_about_the_producer};

/// What it takes from the producer's configuration.
#[derive(Clone, Debug)]
pub(crate) struct TransactionsConfig {
    /// `None` for a producer that is only idempotent: it needs an identity and nothing else.
    pub(crate) transactional_id: Option<Arc<str>>,
    /// After this the coordinator aborts a transaction (`transaction.timeout.ms`).
    pub(crate) timeout: Duration,
    /// How long a call is repeated before its outcome counts as unknown (`max.block.ms`).
    pub(crate) patience: Duration,
    pub(crate) retry_backoff: Backoff,
    pub(crate) seed: u64,
}

/// How transactions are spoken about with the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `transaction.version` 0 and 1.
    V1,
    /// `transaction.version` 2 (KIP-890).
    V2,
}

/// What the answers of [`Transactions::admit`] depend on: while this stays, so do they.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Whether anything is taken.
    pub(crate) accepts: bool,
    /// Protocol 1: how many partitions the coordinator knows to be in the transaction.
    pub(crate) added: usize,
}

#[derive(Debug)]
enum State {
    Fresh,
    Initializing(Vec<Reply<ProducerIdentity>>),
    Ready,
    Open,
    /// To be aborted: why.
    Doomed(Error),
    Ending {
        commit: bool,
        reply: Reply<()>,
    },
    /// Refused as out of date while a transaction was open: the coordinator is asked whether it has aborted
    /// that one for its age, or somebody else has taken over. The cause, and who asks for an end meanwhile.
    Suspected {
        cause: Error,
        ending: Option<(bool, Reply<()>)>,
    },
    /// Nothing works any more: why.
    Broken(Error),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Transactions {
    config: TransactionsConfig,
    state: State,
    identity: Option<ProducerIdentity>,
    protocol: Protocol,
    /// Protocol 1: partitions the coordinator knows to be in the transaction, and those to be told.
    added: BTreeSet<TopicPartition>,
    to_add: BTreeSet<TopicPartition>,
    offsets: VecDeque<PendingOffsets>,
    /// Whether the coordinator may know of the transaction, so that there is something to end.
    is_begun: bool,
    /// Whether the coordinator has said, itself or through a broker, that the transaction is open.
    is_confirmed: bool,
    /// Protocol 1: something may still arrive late, so the epoch must be raised before the next begin.
    is_in_doubt: bool,
    /// The call that is being made, repeated until its deadline.
    current: Option<Current>,
    rng: Rng,
}

impl Transactions {
    pub(crate) fn new(config: TransactionsConfig) -> Self {
        Self {
            rng: Rng::new(config.seed),
            config,
            state: State::Fresh,
            identity: None,
            protocol: Protocol::V1,
            added: BTreeSet::new(),
            to_add: BTreeSet::new(),
            offsets: VecDeque::new(),
            is_begun: false,
            is_confirmed: false,
            is_in_doubt: false,
            current: None,
        }
    }

    /// Who writes, once that is known and certain.
    pub(crate) fn identity(&self) -> Option<ProducerIdentity> {
        match self.state {
            State::Fresh | State::Initializing(_) | State::Suspected { .. } | State::Broken(_) => None,
            _ if self.is_renewing() => None,
            _ => self.identity,
        }
    }

    pub(crate) fn transactional_id(&self) -> Option<&Arc<str>> {
        self.config.transactional_id.as_ref()
    }

    /// The protocol of the transaction that is open.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether nothing works any more: why.
    pub(crate) fn broken(&self) -> Option<&Error> {
        match &self.state {
            State::Broken(error) => Some(error),
            _ => None,
        }
    }

    /// Whether batches of a transaction are taken; if not, why.
    ///
    /// # Errors
    /// `Usage` outside a transaction, the reason when it must be aborted or nothing works any more.
    pub(crate) fn check_open(&self) -> Result<()> {
        match &self.state {
            State::Open => Ok(()),
            State::Doomed(error) => Err(error.clone().with_abortable()),
            State::Suspected { .. } => Err(ended_early()),
            State::Broken(error) => Err(error.clone()),
            _ => Err(Error::new(ErrorKind::Usage, "write without an open transaction")
                .with_hint("begin one first")),
        }
    }

    /// Whether a commit or an abort is under way.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending { .. } | State::Suspected { ending: Some(_), .. })
    }

    fn is_open_or_ending(&self) -> bool {
        matches!(self.state, State::Open | State::Doomed(_) | State::Ending { .. }) && !self.is_renewing()
    }

    /// Whether it waits for an abort.
    pub(crate) fn is_doomed(&self) -> bool {
        matches!(self.state, State::Doomed(_) | State::Suspected { .. })
    }

    /// Asks for an identity: fences an older producer of the same transactional id, and waits until what
    /// that one left is committed or aborted.
    pub(crate) fn init(&mut self, now: Instant, reply: Reply<ProducerIdentity>) {
        match &mut self.state {
            State::Initializing(replies) => replies.push(reply),
            State::Fresh => {
                self.state = State::Initializing(vec![reply]);
                self.start(now, Call::InitProducerId { renew: None });
            }
            State::Broken(error) => reply.send(Err(error.clone())),
            _ => match self.identity {
                Some(identity) => reply.send(Ok(identity)),
                None => reply.send(Err(Error::new(ErrorKind::Usage, "there is no producer id to tell"))),
            },
        }
    }

    /// Asks for the identity of a producer that is only idempotent, unless that is under way.
    pub(crate) fn start_idempotent(&mut self, now: Instant) {
        if matches!(self.state, State::Fresh) {
            self.state = State::Initializing(Vec::new());
            self.start(now, Call::InitProducerId { renew: None });
        }
    }

    /// Another identity for a producer that is only idempotent: its epochs are used up.
    pub(crate) fn renew(&mut self, now: Instant) {
        if matches!(self.state, State::Ready) && self.current.is_none() {
            self.identity = None;
            self.state = State::Initializing(Vec::new());
            self.start(now, Call::InitProducerId { renew: None });
        }
    }

    /// Begins a transaction. `protocol` is what the cluster speaks now.
    ///
    /// # Errors
    /// `Usage` in any other state than ready; what broke the producer.
    pub(crate) fn begin(&mut self, now: Instant, protocol: Protocol) -> Result<()> {
        match &self.state {
            State::Ready => {}
            State::Broken(error) => return Err(error.clone()),
            State::Doomed(error) => return Err(error.clone().with_abortable()),
            State::Fresh | State::Initializing(_) => {
                return Err(Error::new(ErrorKind::Usage, "begin a transaction before init has succeeded"));
            }
            State::Suspected { .. } => return Err(ended_early()),
            State::Open | State::Ending { .. } => {
                return Err(Error::new(ErrorKind::Usage, "begin a transaction while another is open"));
            }
        }
        self.protocol = protocol;
        self.state = State::Open;
        self.is_begun = false;
        self.is_confirmed = false;
        self.added.clear();
        self.to_add.clear();
        if std::mem::take(&mut self.is_in_doubt) {
            self.start(now, Call::InitProducerId { renew: self.identity });
        }
        Ok(())
    }

    /// Whether the epoch is being raised at the beginning of a transaction.
    fn is_renewing(&self) -> bool {
        matches!(&self.current, Some(Current { call: Call::InitProducerId { .. }, .. }))
    }

    /// Whether `partition` may be written to now; under protocol 1 the coordinator must know first, and is
    /// told.
    pub(crate) fn admit(&mut self, partition: &TopicPartition) -> bool {
        if self.config.transactional_id.is_none() {
            return true;
        }
        if !self.accepts() {
            return false;
        }
        if self.protocol == Protocol::V2 || self.added.contains(partition) {
            return true;
        }
        if !self.to_add.contains(partition) {
            self.to_add.insert(partition.clone());
        }
        false
    }

    fn accepts(&self) -> bool {
        matches!(self.state, State::Open | State::Ending { commit: true, .. }) && !self.is_renewing()
    }

    /// See [`Admission`].
    pub(crate) fn admission(&self) -> Admission {
        Admission { accepts: self.accepts(), added: self.added.len() }
    }

    /// Batches have been put on the wire: under protocol 2 the first one begins the transaction.
    pub(crate) fn wrote(&mut self) {
        self.is_begun = true;
    }

    /// A broker has taken a batch of the transaction, which is open then.
    pub(crate) fn written(&mut self) {
        self.is_confirmed = true;
    }

    /// Adds consumed offsets to the transaction; they count when it commits.
    pub(crate) fn send_offsets(
        &mut self,
        group: GroupMetadata,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        reply: Reply<()>,
    ) {
        match self.check_open() {
            Ok(()) => self.offsets.push_back(PendingOffsets::new(group, offsets, reply)),
            Err(error) => reply.send(Err(error)),
        }
    }

    /// A batch of the transaction failed: it can only be aborted.
    pub(crate) fn doom(&mut self, now: Instant, error: Error) {
        let is_out_of_step = matches!(
            error.code(),
            Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::UNKNOWN_PRODUCER_ID)
        );
        self.is_in_doubt |= error.possibly_written() || is_out_of_step;
        if let Some(expected) = self.successor(&error) {
            return self.suspect(now, error, expected);
        }
        let is_over = matches!(
            self.state,
            State::Suspected { .. } | State::Doomed(_) | State::Ending { commit: false, .. }
        );
        if is_over && error.kind() == ErrorKind::Fenced {
            // The rest of what was on the wire when the coordinator ended the transaction. If somebody else has
            // taken over, the next call says so.
            return;
        }
        if error.is_fatal() || is_about_the_producer(&error) {
            return self.break_down(error);
        }
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Open => self.state = State::Doomed(error.clone()),
            State::Ending { commit: true, reply } => {
                self.state = State::Doomed(error.clone());
                reply.send(Err(error.clone().with_abortable()));
            }
            other => self.state = other,
        }
        self.fail_offsets(&error.with_abortable());
    }

    fn fail_offsets(&mut self, error: &Error) {
        self.abandon_current();
        for pending in std::mem::take(&mut self.offsets) {
            pending.reply.send(Err(error.clone()));
        }
    }

    /// Ends the transaction: as soon as all its batches and offsets are acknowledged, or for an abort as
    /// soon as nothing of it is on the wire.
    pub(crate) fn end(&mut self, commit: bool, reply: Reply<()>) {
        match &self.state {
            State::Open => {}
            State::Doomed(_) if !commit => {}
            State::Suspected { ending: None, .. } => {
                if let State::Suspected { ending, .. } = &mut self.state {
                    *ending = Some((commit, reply));
                }
                return;
            }
            State::Doomed(error) => return reply.send(Err(error.clone().with_abortable())),
            State::Broken(error) => return reply.send(Err(error.clone())),
            _ => {
                let what = if commit { "commit" } else { "abort" };
                let error = Error::new(ErrorKind::Usage, format!("{what} without an open transaction"));
                return reply.send(Err(error));
            }
        }
        if !commit {
            self.to_add.clear();
            let error = Error::new(ErrorKind::Usage, "the transaction was aborted before this was done");
            self.fail_offsets(&error);
        }
        self.state = State::Ending { commit, reply };
    }

    /// Nothing works any more.
    pub(crate) fn break_down(&mut self, error: Error) {
        self.current = None;
        match std::mem::replace(&mut self.state, State::Broken(error.clone())) {
            State::Initializing(replies) => {
                replies.into_iter().for_each(|reply| reply.send(Err(error.clone())));
            }
            State::Ending { reply, .. } | State::Suspected { ending: Some((_, reply)), .. } => {
                reply.send(Err(error.clone()));
            }
            // The first reason is the one that explains the rest.
            State::Broken(first) => self.state = State::Broken(first),
            _ => {}
        }
        for pending in std::mem::take(&mut self.offsets) {
            pending.reply.send(Err(error.clone()));
        }
    }
}

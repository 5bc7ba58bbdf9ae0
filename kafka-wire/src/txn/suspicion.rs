//! Fenced, or only too slow? A coordinator that aborts a transaction for its age answers its producer as it
//! would one that was replaced; here it is asked which of the two it is.

use std::time::Instant;

use super::calls::Call;
use super::{State, Transactions};
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::reply::Reply;
use crate::types::ProducerIdentity;

impl Transactions {
    /// The pair that the coordinator would have now if it alone had ended the transaction, or had forgotten
    /// the producer; `None` where `error` says nothing of the kind. Without a transaction that is known to
    /// be open, the coordinator raises the epoch for another producer only.
    pub(super) fn successor(&self, error: &Error) -> Option<ProducerIdentity> {
        let identity = self.identity.filter(|_| self.is_open_or_ending())?;
        if error.code() == Some(ErrorCode::INVALID_PRODUCER_ID_MAPPING) {
            return Some(identity);
        }
        // Protocol 2 takes an end with the epoch before for one that was asked again.
        let is_over = error.code() == Some(ErrorCode::INVALID_TXN_STATE);
        let is_outdated = (error.kind() == ErrorKind::Fenced || is_over) && self.is_confirmed;
        let epoch = identity.epoch.checked_add(1).filter(|_| is_outdated)?;
        Some(ProducerIdentity { epoch, ..identity })
    }

    /// Asks for the epoch after `expected`.
    pub(super) fn suspect(&mut self, now: Instant, cause: Error, expected: ProducerIdentity) {
        tracing::debug!(%cause, ?expected, "the coordinator is asked whether it has ended the transaction");
        let ending = match std::mem::replace(&mut self.state, State::Ready) {
            State::Ending { commit, reply } => Some((commit, reply)),
            _ => None,
        };
        self.state = State::Suspected { cause, ending };
        self.to_add.clear();
        self.start(now, Call::InitProducerId { renew: Some(expected) });
    }

    /// The coordinator has given a new epoch: nobody else has taken over.
    pub(super) fn cleared(&mut self, cause: Error, ending: Option<(bool, Reply<()>)>) {
        self.is_begun = false;
        self.is_confirmed = false;
        self.is_in_doubt = false;
        let error = self.timed_out(cause);
        for pending in std::mem::take(&mut self.offsets) {
            pending.reply.send(Err(error.clone()));
        }
        match ending {
            // There is nothing to end, but what is on the wire is to be heard out.
            Some((false, reply)) => self.state = State::Ending { commit: false, reply },
            Some((true, reply)) => {
                self.state = State::Doomed(error.clone());
                reply.send(Err(error));
            }
            None => self.state = State::Doomed(error),
        }
    }

    fn timed_out(&self, cause: Error) -> Error {
        let text = if cause.code() == Some(ErrorCode::INVALID_PRODUCER_ID_MAPPING) {
            "a transaction: the coordinator had forgotten the producer, which was idle for longer than the \
             brokers' transactional.id.expiration.ms"
                .to_owned()
        } else {
            format!(
                "a transaction that was open for longer than transaction.timeout.ms={}: the coordinator has \
                 aborted it",
                self.config.timeout.as_millis()
            )
        };
        let error = Error::new(ErrorKind::Timeout, text).with_cause(cause);
        error.with_abortable().with_hint("abort it, and do its work in another")
    }

    /// The coordinator says that the producer is out of date, or that it cannot go on.
    pub(super) fn refused(&mut self, now: Instant, call: Call, error: Error) {
        if matches!(call, Call::InitProducerId { .. }) {
            // Asked whether anybody else has taken over, it has said so.
            return match std::mem::replace(&mut self.state, State::Ready) {
                State::Suspected { cause, ending } => {
                    self.state = State::Suspected { cause: cause.clone(), ending };
                    self.break_down(if error.kind() == ErrorKind::Fenced { cause } else { error });
                }
                other => {
                    self.state = other;
                    self.break_down(error);
                }
            };
        }
        match self.successor(&error) {
            Some(expected) => self.suspect(now, error, expected),
            None => self.break_down(error),
        }
    }
}

/// Rights that the producer lacks for all it does, as Java sees it: another transaction would fare no better.
pub(super) fn is_about_the_producer(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    )
}

/// What is told while it is being found out why the coordinator has ended a transaction.
pub(super) fn ended_early() -> Error {
    Error::new(ErrorKind::Usage, "write in a transaction that its coordinator has ended")
        .with_hint("abort it")
        .with_abortable()
}

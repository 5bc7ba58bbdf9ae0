//! The call to a coordinator that is under way: one at a time, repeated until its time is up, and what its outcome
//! means for the transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::calls::{Answer, Call};
use super::{Protocol, State, Transactions};
use crate::cluster::CoordinatorKind;
use crate::engine::Target;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::request::{Request, Response};
use crate::types::ProducerIdentity;

/// See the module.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) call: Call,
    pub(super) deadline: Instant,
    pub(super) failures: u32,
    /// When to (re)send; `None` while an answer is awaited.
    pub(super) send_at: Option<Instant>,
    /// An attempt may have been executed though no answer came.
    pub(super) is_indefinite: bool,
    /// The transaction has been given up since; see [`Transactions::abandon_current`].
    pub(super) is_abandoned: bool,
}

impl Transactions {
    /// The next call to make, if any. `is_drained`: no batch of the transaction is without its fate, and
    /// none is on the wire.
    pub(crate) fn poll_call(&mut self, now: Instant, is_drained: bool) -> Option<(Target, Box<dyn Request>)> {
        if self.current.is_none() {
            let call = self.next_call(is_drained)?;
            self.start(now, call);
        }
        let current = self.current.as_mut()?;
        if current.send_at.is_none_or(|time| now < time) {
            return None;
        }
        current.send_at = None;
        let call = current.call.clone();
        Some((self.target(&call), self.request(&call)))
    }

    fn next_call(&mut self, is_drained: bool) -> Option<Call> {
        let is_ending = match &self.state {
            State::Open => false,
            State::Ending { .. } => true,
            _ => return None,
        };
        if !self.to_add.is_empty() {
            return Some(Call::AddPartitions { partitions: self.to_add.iter().cloned().collect() });
        }
        if let Some(pending) = self.offsets.front() {
            let is_to_add = self.protocol == Protocol::V1 && !pending.is_group_added;
            return Some(if is_to_add { Call::AddOffsets } else { Call::CommitOffsets });
        }
        if !is_ending || !is_drained {
            return None;
        }
        let State::Ending { commit, .. } = self.state else { return None };
        if self.is_begun {
            return Some(Call::End { commit });
        }
        // The coordinator has never heard of it: there is nothing to end.
        self.ended(Ok(()));
        None
    }

    pub(super) fn start(&mut self, now: Instant, call: Call) {
        // Under protocol 2 the call itself puts the group into the transaction.
        self.is_begun |= matches!(call, Call::CommitOffsets);
        self.current = Some(Current {
            call,
            deadline: now + self.config.patience,
            failures: 0,
            send_at: Some(now),
            is_indefinite: false,
            is_abandoned: false,
        });
    }

    /// The answer to the last call. What it returns is to be forgotten: that coordinator is another now.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        response: Result<Response>,
    ) -> Option<(CoordinatorKind, Arc<str>)> {
        let current = self.current.take()?;
        let answer = match response {
            Ok(response) => match self.read(&current.call, response) {
                Ok(answer) => answer,
                // What was answered is not known: as good as no answer.
                Err(error) => Answer::Lost(error),
            },
            Err(error) => Answer::Lost(error),
        };
        if current.is_abandoned {
            self.handle_abandoned(now, current, answer);
            return None;
        }
        match answer {
            Answer::Done { identity } => {
                // An earlier attempt may still be on its way, and would count for the next transaction.
                self.is_in_doubt |= current.is_indefinite && self.is_open_or_ending();
                self.done(current.call, identity);
            }
            Answer::Lost(error) => {
                let is_indefinite =
                    current.is_indefinite || error.possibly_written() || error.kind() == ErrorKind::Protocol;
                let is_worth_another = error.is_retriable() || error.kind() == ErrorKind::Protocol;
                let current = Current { is_indefinite, ..current };
                if is_worth_another {
                    self.try_again(now, current, error)
                } else {
                    self.failed(now, current, error)
                }
            }
            Answer::Retry(error) => self.try_again(now, current, error),
            Answer::Moved(error) => {
                let moved = self.coordinator(&current.call);
                self.try_again(now, current, error);
                return moved;
            }
            Answer::Abortable(error) => self.failed(now, current, error),
            // What was to open the transaction was lost and never arrived: there is nothing to abort.
            Answer::Fatal(error)
                if self.is_in_doubt
                    && matches!(current.call, Call::End { commit: false })
                    && error.code() == Some(ErrorCode::INVALID_TXN_STATE) =>
            {
                self.ended(Ok(()));
            }
            // An end in doubt may have been a commit; after that the epoch says nothing.
            Answer::Fatal(error) if current.is_indefinite && matches!(current.call, Call::End { .. }) => {
                self.break_down(error.with_possibly_written());
            }
            Answer::Fatal(error) => self.refused(now, current.call, error),
        }
        None
    }

    fn try_again(&mut self, now: Instant, mut current: Current, error: Error) {
        if now >= current.deadline {
            let text = format!(
                "{} within max.block.ms={}",
                current.call.describe(),
                self.config.patience.as_millis()
            );
            let timeout = Error::new(ErrorKind::Timeout, text).with_cause(error);
            return self.failed(now, current, timeout);
        }
        current.failures += 1;
        // Markers of the transaction before are written within milliseconds (as Java, which waits 20 ms).
        let is_brief = current.failures < 10
            && matches!(
                error.code(),
                Some(ErrorCode::CONCURRENT_TRANSACTIONS | ErrorCode::INVALID_TXN_STATE)
            );
        let delay = if is_brief {
            Duration::from_millis(20)
        } else {
            self.config.retry_backoff.delay(current.failures, &mut self.rng)
        };
        tracing::debug!(call = current.call.describe(), %error, ?delay, "to be asked again");
        current.send_at = Some(now + delay);
        self.current = Some(current);
    }

    /// The call has failed for good.
    fn failed(&mut self, now: Instant, current: Current, error: Error) {
        let error = if current.is_indefinite { error.with_possibly_written() } else { error };
        self.is_in_doubt |= current.is_indefinite;
        match current.call {
            Call::InitProducerId { .. } => match std::mem::replace(&mut self.state, State::Fresh) {
                State::Initializing(replies) => {
                    replies.into_iter().for_each(|reply| reply.send(Err(error.clone())));
                }
                // Brokers before 2.5 cannot say who it was.
                State::Suspected { cause, ending } if error.kind() == ErrorKind::Unsupported => {
                    self.state = State::Suspected { cause: cause.clone(), ending };
                    self.break_down(cause);
                }
                // At the beginning of a transaction: without a certain epoch there is none.
                other => {
                    self.state = other;
                    self.break_down(if error.kind() == ErrorKind::Unsupported {
                        cannot_renew(error)
                    } else {
                        error
                    });
                }
            },
            Call::End { commit: true } if error.code() == Some(ErrorCode::TRANSACTION_ABORTABLE) => {
                self.doom(now, error)
            }
            // Whether it was committed cannot be told from here: the producer must not go on by itself.
            Call::End { .. } => self.break_down(error),
            Call::AddPartitions { .. } | Call::AddOffsets | Call::CommitOffsets => self.doom(now, error),
        }
    }

    fn done(&mut self, call: Call, identity: Option<ProducerIdentity>) {
        self.identity = identity.or(self.identity);
        match call {
            Call::InitProducerId { .. } => {
                if let State::Suspected { .. } = self.state
                    && let State::Suspected { cause, ending } =
                        std::mem::replace(&mut self.state, State::Ready)
                {
                    return self.cleared(cause, ending);
                }
                if let State::Initializing(_) = self.state
                    && let State::Initializing(replies) = std::mem::replace(&mut self.state, State::Ready)
                    && let Some(identity) = self.identity
                {
                    replies.into_iter().for_each(|reply| reply.send(Ok(identity)));
                }
            }
            Call::AddPartitions { partitions } => {
                self.is_begun = true;
                self.is_confirmed = true;
                for partition in partitions {
                    self.to_add.remove(&partition);
                    self.added.insert(partition);
                }
            }
            Call::AddOffsets => {
                self.is_begun = true;
                self.is_confirmed = true;
                if let Some(pending) = self.offsets.front_mut() {
                    pending.is_group_added = true;
                }
            }
            Call::CommitOffsets => {
                self.is_confirmed = true;
                if let Some(pending) = self.offsets.pop_front() {
                    pending.reply.send(Ok(()));
                }
            }
            Call::End { .. } => self.ended(Ok(())),
        }
    }

    fn ended(&mut self, outcome: Result<()>) {
        if self.protocol == Protocol::V2 {
            // The raised epoch shuts out whatever is late.
            self.is_in_doubt = false;
        }
        if let State::Ending { reply, .. } = std::mem::replace(&mut self.state, State::Ready) {
            reply.send(outcome);
        }
    }

    /// When [`Self::poll_call`] should be called at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.current.as_ref()?.send_at
    }

    /// Nobody waits any more for what the coordinator is being asked for this transaction. A question that is
    /// on the wire is not dropped: the coordinator may open the transaction by it, and then it must be ended.
    pub(super) fn abandon_current(&mut self) {
        let Some(current) = &mut self.current else { return };
        if !matches!(current.call, Call::AddOffsets | Call::CommitOffsets | Call::AddPartitions { .. }) {
            return;
        }
        if current.send_at.is_none() {
            current.is_abandoned = true;
        } else {
            self.is_begun |= current.is_indefinite;
            self.is_in_doubt |= current.is_indefinite;
            self.current = None;
        }
    }

    /// The answer to a question that nobody waits for: all that counts is what the coordinator now knows.
    fn handle_abandoned(&mut self, now: Instant, current: Current, answer: Answer) {
        let is_lost = matches!(&answer, Answer::Lost(error) if error.possibly_written());
        match answer {
            Answer::Done { identity } => self.done(current.call, identity),
            Answer::Fatal(error) => match self.successor(&error) {
                Some(expected) => self.suspect(now, error, expected),
                None => self.break_down(error),
            },
            _ if is_lost || current.is_indefinite => {
                self.is_begun = true;
                self.is_in_doubt = true;
            }
            _ => {}
        }
    }
}

/// The doubt about what is still under way can only be ended by another producer.
fn cannot_renew(error: Error) -> Error {
    let text = "begin a transaction behind one of which something may still arrive: these brokers cannot raise the \
                producer's epoch without taking it from a producer that may have replaced this one";
    Error::new(ErrorKind::Closed, text)
        .with_cause(error)
        .with_hint("make another producer; brokers from 2.5 on need none (KIP-360)")
}

//! What can go wrong, who is at fault, and what to do about it. Layer 1.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use crate::error_code::ErrorCode;
use crate::types::{BrokerId, TopicPartition};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller: a wrong configuration value or name.
    Config,
    /// The caller: a call in the wrong state, or an argument out of range.
    Usage,
    /// The caller: a record larger than the limits allow.
    RecordTooLarge,
    /// The peer: bytes that are not Kafka's protocol, or hostile.
    Protocol,
    /// The peer: a record batch whose checksum or content is wrong.
    CorruptRecords,
    /// The peer and this client share no version, or the broker lacks a feature.
    Unsupported,
    /// The broker answered with an error code.
    Broker(ErrorCode),
    /// The environment: no connection, or it broke.
    Network,
    /// The environment: TLS could not be established.
    Tls,
    /// Wrong credentials, or none where some are required.
    Authentication,
    /// No answer within the time allowed.
    Timeout,
    /// Another producer with the same transactional id has taken over.
    Fenced,
    /// Data that was expected is gone: truncation, retention, or a topic created anew.
    DataLoss,
    /// The data and its schema: a value that does not fit, or a schema that the registry refuses or does not
    /// have.
    Schema,
    /// The client was closed, or has come to an end by itself: make another.
    Closed,
}

/// An error of the client. Cheap to clone: one error is often reported to many records.
///
/// Its text says what was attempted, with the numbers, then the cause, then what to do.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    attempted: Cow<'static, str>,
    api: Option<&'static str>,
    broker: Option<BrokerId>,
    partition: Option<TopicPartition>,
    offset: Option<i64>,
    possibly_written: bool,
    abortable: bool,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    hint: Option<Cow<'static, str>>,
}

impl Error {
    /// An error of `kind`; `attempted` says what failed, in lower case, with the numbers.
    pub fn new(kind: ErrorKind, attempted: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            attempted: attempted.into(),
            api: None,
            broker: None,
            partition: None,
            offset: None,
            possibly_written: false,
            abortable: false,
            cause: None,
            hint: None,
        }))
    }

    /// The broker answered `code` to what was `attempted`.
    pub fn broker(code: ErrorCode, attempted: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Broker(code), attempted)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Adds the API of the request.
    #[must_use]
    pub fn with_api(self, api: &'static str) -> Self {
        self.with(|inner| inner.api = Some(api))
    }

    /// Adds the broker that was asked.
    #[must_use]
    pub fn with_broker(self, broker: BrokerId) -> Self {
        self.with(|inner| inner.broker = Some(broker))
    }

    /// Adds the partition concerned.
    #[must_use]
    pub fn with_partition(self, partition: TopicPartition) -> Self {
        self.with(|inner| inner.partition = Some(partition))
    }

    /// Adds the offset concerned.
    #[must_use]
    pub fn with_offset(self, offset: i64) -> Self {
        self.with(|inner| inner.offset = Some(offset))
    }

    /// Marks that the records may be in the log all the same.
    #[must_use]
    pub fn with_possibly_written(self) -> Self {
        self.with(|inner| inner.possibly_written = true)
    }

    /// Marks that the open transaction can only be aborted; then the producer can go on.
    #[must_use]
    pub fn with_abortable(self) -> Self {
        self.with(|inner| inner.abortable = true)
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_cause(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.cause = Some(Arc::new(cause)))
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        let hint = hint.into();
        self.with(|inner| inner.hint = Some(hint))
    }

    /// Who is at fault.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The broker's code, where it answered one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self.0.kind {
            ErrorKind::Broker(code) => Some(code),
            _ => None,
        }
    }

    /// The API of the failed request, by Kafka's name.
    pub fn api(&self) -> Option<&'static str> {
        self.0.api
    }

    /// The broker that was asked.
    pub fn broker_id(&self) -> Option<BrokerId> {
        self.0.broker
    }

    /// The partition concerned.
    pub fn partition(&self) -> Option<&TopicPartition> {
        self.0.partition.as_ref()
    }

    /// The offset concerned.
    pub fn offset(&self) -> Option<i64> {
        self.0.offset
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The same call may succeed later, with nothing changed by the caller.
    pub fn is_retriable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Broker(code) => code.is_retriable(),
            ErrorKind::Network | ErrorKind::Timeout => true,
            _ => false,
        }
    }

    /// The client that reported it cannot go on.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Fenced
                | ErrorKind::Authentication
                | ErrorKind::Unsupported
                | ErrorKind::Closed
                | ErrorKind::Tls
        )
    }

    /// The open transaction can only be aborted; then the producer can go on with the next.
    pub fn is_abortable(&self) -> bool {
        self.0.abortable && !self.is_fatal()
    }

    /// A produce whose fate is unknown: the records may be in the log, now or later.
    pub fn possibly_written(&self) -> bool {
        self.0.possibly_written
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(&inner.attempted)?;
        if let Some(partition) = &inner.partition {
            write!(f, ", partition {partition}")?;
        }
        if let Some(offset) = inner.offset {
            write!(f, ", offset {offset}")?;
        }
        if let Some(broker) = inner.broker {
            write!(f, ", broker {broker}")?;
        }
        if let Some(api) = inner.api {
            write!(f, ", {api}")?;
        }
        if let ErrorKind::Broker(code) = inner.kind {
            write!(f, ": {code}")?;
        }
        if inner.possibly_written {
            f.write_str(" (the records may have been written)")?;
        }
        if let Some(cause) = &inner.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(hint) = &inner.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

/// What `call` answers, unless it panics: what the application gave, or others' code that meets whatever bytes peers send,
/// must not end the thread or leave a lock poisoned.
pub(crate) fn shielded<T>(what: &str, call: impl FnOnce() -> T) -> Option<T> {
    let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    called.inspect_err(|_| tracing::error!("{what} panicked")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_was_attempted_where_why_and_what_to_do() {
        let error = Error::broker(ErrorCode::NOT_LEADER_OR_FOLLOWER, "produce 10 records (1000 bytes)")
            .with_partition(TopicPartition::new("orders", 3))
            .with_broker(BrokerId(2))
            .with_possibly_written()
            .with_hint("it is retried until delivery.timeout.ms");
        let text = error.to_string();
        assert!(
            text.starts_with(
                "produce 10 records (1000 bytes), partition orders-3, broker 2: NOT_LEADER_OR_FOLLOWER (6): "
            ),
            "{text}"
        );
        assert!(
            text.ends_with("(the records may have been written); it is retried until delivery.timeout.ms"),
            "{text}"
        );
        assert!(error.is_retriable() && !error.is_fatal() && error.possibly_written());
    }

    #[test]
    fn an_unknown_code_is_kept_by_number() {
        let code = ErrorCode::from_wire(9999).unwrap();
        assert_eq!(code.code(), 9999);
        assert!(!code.is_retriable());
        assert_eq!(ErrorCode::from_wire(0), None);
    }
}

//! What can go wrong in a job, who is at fault, and what to do about it. Layer 0.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller: a wrong configuration value or name.
    Config,
    /// The caller: a job that cannot be built or started as it is.
    Usage,
    /// The data: a record that cannot be read as what the job expects (poison).
    Format,
    /// The environment: state could not be written or read; the message names the path.
    Storage,
    /// Stored state is damaged or not what its name promises. It is never used in part.
    CorruptState,
    /// Stored state, a manifest or a topic belongs to another job, cluster, topic or graph.
    Refused,
    /// Data that was expected is gone: retention, truncation, or a topic created anew.
    DataLoss,
    /// Another instance of the job has taken over.
    Fenced,
    /// A source or sink failed; the cause says how.
    Connector,
    /// A function of the user's job panicked or failed.
    UserFunction,
    /// The job was stopped.
    Stopped,
}

/// An error of a job. Cheap to clone: every worker may report the same one.
///
/// Its text says what was attempted, with the numbers, then the cause, then what to do.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    attempted: Cow<'static, str>,
    retriable: bool,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    hint: Option<Cow<'static, str>>,
}

impl Error {
    /// An error of `kind`; `attempted` says what failed, in lower case, with the numbers.
    pub fn new(kind: ErrorKind, attempted: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { kind, attempted: attempted.into(), retriable: false, cause: None, hint: None }))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
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

    /// Marks that a restart of the job from its manifest may succeed with nothing changed by anyone.
    #[must_use]
    pub fn with_retriable(self, retriable: bool) -> Self {
        self.with(|inner| inner.retriable = retriable)
    }

    /// Who is at fault.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// A restart of the job from its manifest may succeed with nothing changed by anyone.
    pub fn is_retriable(&self) -> bool {
        self.0.retriable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.attempted)?;
        if let Some(cause) = &self.0.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(hint) = &self.0.hint {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_was_attempted_why_and_what_to_do() {
        let error = Error::new(ErrorKind::Storage, "write state object a/b (42 bytes)")
            .with_cause(std::io::Error::other("no space left on device"))
            .with_hint("free some space")
            .with_retriable(true);
        assert_eq!(
            error.to_string(),
            "write state object a/b (42 bytes): no space left on device; free some space"
        );
        assert!(error.is_retriable());
        assert_eq!(error.kind(), ErrorKind::Storage);
    }
}

//! Why a request, or a part of it, is refused: the code for the wire and the text for people.

use std::borrow::Cow;

use kafka_wire::ErrorCode;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) text: Cow<'static, str>,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self { code, text: Cow::Borrowed(code.message()) }
    }
}

/// An `Err` with `code` and `text`.
pub(crate) fn fail<T>(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Result<T, Failure> {
    Err(Failure { code, text: text.into() })
}

/// The wire form of an outcome: 0, or the code.
pub(crate) fn code_of<T>(result: &Result<T, Failure>) -> i16 {
    result.as_ref().map_or_else(|failure| failure.code.code(), |_| 0)
}

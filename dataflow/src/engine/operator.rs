//! The operators that every job is made of. None is generic: what differs per job comes in boxed.

pub(crate) mod commit;
pub(crate) mod keyed;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod stateless;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, ErrorKind, Result};

/// Runs code of the user's: a panic becomes an error that names the operator. An unguarded panic would
/// take one worker away and leave the others waiting for it for ever.
pub(crate) fn guard<T>(operator: &str, code: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|panic| Err(panicked(operator, &*panic)))
}

/// The error for a panic.
pub(crate) fn panicked(place: &str, panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::new(ErrorKind::UserFunction, format!("run {place}: it panicked: {message}"))
}

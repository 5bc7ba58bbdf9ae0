//! Prints: a line for each value.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::io::Write;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::engine::control::BoxFuture;
use crate::engine::parcel::Data;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{OutputTopic, Sink, SinkContext, SinkStart, Writer};

/// Prints a line for each value, when its epoch is complete and just before it is committed.
///
/// A terminal takes part in no transaction: lines of an epoch whose commit fails are printed again after the
/// restart. Everything else in the job stays exactly once.
pub struct PrintSink<T> {
    out: Arc<Mutex<dyn Write + Send>>,
    item: PhantomData<fn() -> T>,
}

impl<T: Data + Display> PrintSink<T> {
    /// Prints to the standard output.
    pub fn stdout() -> Self {
        Self::to(std::io::stdout())
    }

    /// Prints to `out`.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self { out: Arc::new(Mutex::new(out)), item: PhantomData }
    }
}

impl<T: Data + Display> Sink for PrintSink<T> {
    type Item = T;

    fn uid(&self) -> &str {
        "print"
    }

    fn prepare(&self, _start: SinkStart) -> BoxFuture<'_, Result<Vec<OutputTopic>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn open(&self, _context: SinkContext) -> Result<Box<dyn Writer<Item = T>>> {
        let out = Arc::clone(&self.out);
        Ok(Box::new(PrintWriter { out, lines: BTreeMap::new(), item: PhantomData }))
    }
}

struct PrintWriter<T> {
    out: Arc<Mutex<dyn Write + Send>>,
    lines: BTreeMap<u64, String>,
    item: PhantomData<fn() -> T>,
}

impl<T: Data + Display> Writer for PrintWriter<T> {
    type Item = T;

    fn write(&mut self, epoch: u64, items: Vec<T>, _times_ms: &[i64]) -> Result<()> {
        let lines = self.lines.entry(epoch).or_default();
        let formatted = items.iter().try_for_each(|item| writeln!(lines, "{item}"));
        formatted
            .map_err(|error| Error::new(ErrorKind::UserFunction, "format a value to print").with_cause(error))
    }

    fn poll_send(&mut self, epoch: u64, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        let lines = self.lines.remove(&epoch).unwrap_or_default();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let printed = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
        Poll::Ready(printed.map_err(|error| Error::new(ErrorKind::Connector, "print").with_cause(error)))
    }
}

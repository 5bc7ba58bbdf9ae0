//! Chains of stateless functions: composed batch by batch, run in one operator.
//!
//! Each function runs over a whole batch in a tight loop before the next one does, so the only cost that a
//! chain adds to its functions is per batch. The cursor knows where it is: when a function panics, the
//! record is named.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::engine::operator::panicked;
use crate::engine::operator::stateless::Chain;
use crate::engine::parcel::{Data, Meta, Parcel};
use crate::error::Result;

/// Makes the items of a stream from a parcel of the operator upstream.
pub(crate) type Stage<T> = Arc<dyn Fn(Parcel, &mut Cursor) -> Result<Vec<T>> + Send + Sync>;

/// What is known of the items that a chain is at, and which of them it is at.
#[derive(Default)]
pub(crate) struct Cursor {
    pub meta: Meta,
    pub operator: &'static str,
    index: Cell<usize>,
}

impl Cursor {
    /// A function begins with a batch.
    pub(crate) fn enter(&mut self, operator: &'static str) {
        self.operator = operator;
        self.index.set(0);
    }

    /// The function goes on to item `index`.
    pub(crate) fn at(&self, index: usize) {
        self.index.set(index);
    }

    fn describe(&self) -> String {
        match self.meta.describe(self.index.get()) {
            Some(record) => format!("`{}` on {record}", self.operator),
            None => format!("`{}`", self.operator),
        }
    }
}

/// The stage that takes the items of a parcel as they are.
pub(crate) fn start<T: Data>() -> Stage<T> {
    Arc::new(|mut parcel, _| parcel.take())
}

/// Makes an operator's function of a stage.
pub(crate) fn chain<T: Data>(stage: Stage<T>) -> Arc<dyn Fn() -> Chain + Send + Sync> {
    Arc::new(move || {
        let stage = Arc::clone(&stage);
        Box::new(move |mut parcel| {
            let credit = parcel.credit.take();
            let mut cursor = Cursor { meta: std::mem::take(&mut parcel.meta), ..Cursor::default() };
            let ran = catch_unwind(AssertUnwindSafe(|| stage(parcel, &mut cursor)));
            let items = ran.map_err(|panic| panicked(&cursor.describe(), &*panic))??;
            Ok(Parcel::new(items, cursor.meta, credit))
        })
    })
}

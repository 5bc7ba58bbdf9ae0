//! What is done to each value by itself.

use std::cell::RefCell;
use std::sync::Arc;

use crate::engine::parcel::Data;
use crate::stream::batch::{Cursor, Stage, start};
use crate::stream::{Stream, Upstream};

impl<T: Data> Stream<T> {
    /// Replaces each value by what `function` makes of it.
    pub fn map<U: Data>(self, function: impl Fn(T) -> U + Send + Sync + 'static) -> Stream<U> {
        self.then("map", move |items, cursor| {
            let numbered = items.into_iter().enumerate();
            numbered.map(|(index, item)| (cursor.at(index), function(item)).1).collect()
        })
    }

    /// Keeps the values for which `keep` holds.
    #[must_use]
    pub fn filter(self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.then("filter", move |mut items, cursor| {
            let test = |(index, item)| (cursor.at(index), keep(item)).1;
            let kept: Vec<bool> = items.iter().enumerate().map(test).collect();
            if kept.contains(&false) {
                let mut keep = kept.iter();
                items.retain(|_| keep.next().copied().unwrap_or_default());
                cursor.meta.retain(&kept);
            }
            items
        })
    }

    /// Replaces each value by any number of others, which keep its event time.
    pub fn flat_map<U: Data, I: IntoIterator<Item = U>>(
        self,
        function: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> Stream<U> {
        self.then("flat_map", move |items, cursor| {
            let mut out = Vec::with_capacity(items.len());
            let mut counts = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                cursor.at(index);
                let before = out.len();
                out.extend(function(item));
                counts.push(out.len() - before);
            }
            cursor.meta.expand(&counts);
            out
        })
    }

    /// Looks at each value as it passes. What it does beyond looking is done at least once, not exactly once.
    #[must_use]
    pub fn inspect(self, look: impl Fn(&T) + Send + Sync + 'static) -> Self {
        self.then("inspect", move |items, cursor| {
            for (index, item) in items.iter().enumerate() {
                cursor.at(index);
                look(item);
            }
            items
        })
    }

    /// Adds a function over batches to the chain.
    pub(super) fn then<U: Data>(
        self,
        operator: &'static str,
        function: impl Fn(Vec<T>, &mut Cursor) -> Vec<U> + Send + Sync + 'static,
    ) -> Stream<U> {
        let Upstream { port, stage } = self.upstream.into_inner();
        let before = stage.unwrap_or_else(start::<T>);
        let stage: Stage<U> = Arc::new(move |parcel, cursor| {
            let items = before(parcel, cursor)?;
            cursor.enter(operator);
            Ok(function(items, cursor))
        });
        Stream { graph: self.graph, upstream: RefCell::new(Upstream { port, stage: Some(stage) }) }
    }
}

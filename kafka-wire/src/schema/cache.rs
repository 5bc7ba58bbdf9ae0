use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::model::SchemaId;
use crate::net::signal::lock;

/// The most schemas that are kept, as Confluent's `max.schemas.per.subject`; a topic has a handful. A value
/// of bytes that only look like ids must not fill the memory.
const SCHEMAS_MAX: usize = 1000;

/// What is known of schemas by their ids, which never change their meaning.
#[derive(Debug)]
pub(super) struct Cache<T>(Mutex<HashMap<SchemaId, Arc<T>>>);

impl<T> Cache<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    pub(super) fn find(&self, id: SchemaId) -> Option<Arc<T>> {
        lock(&self.0).get(&id).cloned()
    }

    /// Keeps `value`; where somebody was quicker, theirs stays.
    pub(super) fn keep(&self, id: SchemaId, value: T) -> Arc<T> {
        let mut kept = lock(&self.0);
        if kept.len() >= SCHEMAS_MAX && !kept.contains_key(&id) {
            kept.clear();
        }
        Arc::clone(kept.entry(id).or_insert_with(|| Arc::new(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_the_first_stays() {
        let cache = Cache::new();
        assert_eq!(*cache.keep(SchemaId(0), "first"), "first");
        assert_eq!(*cache.keep(SchemaId(0), "second"), "first");
        for id in 1..=SCHEMAS_MAX as i32 {
            cache.keep(SchemaId(id), "more");
        }
        assert!(lock(&cache.0).len() <= SCHEMAS_MAX);
        assert!(cache.find(SchemaId(SCHEMAS_MAX as i32)).is_some());
    }
}

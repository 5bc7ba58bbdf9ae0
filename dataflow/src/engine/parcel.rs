//! What travels on the edges of a dataflow: batches with their item type erased.

use std::any::Any;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use timely::Accountable;
use timely::dataflow::channels::ContainerBytes;

use crate::engine::ack::SplitId;
use crate::engine::credit::Credit;
use crate::error::{Error, ErrorKind, Result};

/// What can flow through a job: owned values that may move to another thread and, one day, another process.
pub trait Data: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Data for T {}

/// What is known of each item beside its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Event times in milliseconds, one for each item.
    pub times: Vec<i64>,
    /// Where the items were read, until an operator combines them.
    pub origin: Option<Origin>,
}

/// The split that items come from, with the offset of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub split: SplitId,
    pub offsets: Vec<i64>,
}

impl Meta {
    /// Keeps what is known of the items for which `keep` holds.
    pub(crate) fn retain(&mut self, keep: &[bool]) {
        retain(&mut self.times, keep);
        if let Some(origin) = &mut self.origin {
            retain(&mut origin.offsets, keep);
        }
    }

    /// Item `i` became `counts[i]` items.
    pub(crate) fn expand(&mut self, counts: &[usize]) {
        expand(&mut self.times, counts);
        if let Some(origin) = &mut self.origin {
            expand(&mut origin.offsets, counts);
        }
    }

    /// Where item `index` was read, for a message.
    pub(crate) fn describe(&self, index: usize) -> Option<String> {
        let origin = self.origin.as_ref()?;
        let offset = origin.offsets.get(index)?;
        Some(format!("{} offset {offset}", origin.split))
    }
}

fn retain(values: &mut Vec<i64>, keep: &[bool]) {
    let mut keep = keep.iter();
    values.retain(|_| keep.next().copied().unwrap_or_default());
}

fn expand(values: &mut Vec<i64>, counts: &[usize]) {
    *values =
        values.iter().zip(counts).flat_map(|(value, count)| std::iter::repeat_n(*value, *count)).collect();
}

/// A batch on an edge.
#[derive(Default)]
pub(crate) struct Parcel {
    items: Items,
    count: usize,
    pub meta: Meta,
    /// Returned to the source's gate when the last part of the batch has been consumed.
    pub credit: Option<Arc<Credit>>,
}

#[derive(Default)]
enum Items {
    #[default]
    None,
    Typed(Box<dyn ErasedItems>),
    /// As they came from another process; decoded by the first operator that knows their type.
    Encoded(Vec<u8>),
}

trait ErasedItems: Send {
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    fn clone_boxed(&self) -> Box<dyn ErasedItems>;
    fn encode(&self) -> postcard::Result<Vec<u8>>;
}

impl<T: Data> ErasedItems for Vec<T> {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn clone_boxed(&self) -> Box<dyn ErasedItems> {
        Box::new(self.clone())
    }

    fn encode(&self) -> postcard::Result<Vec<u8>> {
        postcard::to_stdvec(self)
    }
}

impl Parcel {
    pub(crate) fn new<T: Data>(items: Vec<T>, meta: Meta, credit: Option<Arc<Credit>>) -> Self {
        Self { count: items.len(), items: Items::Typed(Box::new(items)), meta, credit }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Takes the items out, leaves what is known of them.
    ///
    /// # Errors
    /// When the graph was wired with another type, or another process sent what cannot be decoded:
    /// both are faults of this crate, reported and not papered over.
    pub(crate) fn take<T: Data>(&mut self) -> Result<Vec<T>> {
        let wrong = || {
            let attempted = format!("take a batch of {}: it holds another type", std::any::type_name::<T>());
            Error::new(ErrorKind::Usage, attempted)
        };
        match std::mem::take(&mut self.items) {
            Items::None => Ok(Vec::new()),
            Items::Typed(items) => {
                items.into_any().downcast::<Vec<T>>().map(|items| *items).map_err(|_| wrong())
            }
            Items::Encoded(bytes) => postcard::from_bytes(&bytes).map_err(|error| wrong().with_cause(error)),
        }
    }
}

impl Clone for Parcel {
    fn clone(&self) -> Self {
        let items = match &self.items {
            Items::None => Items::None,
            Items::Typed(items) => Items::Typed(items.clone_boxed()),
            Items::Encoded(bytes) => Items::Encoded(bytes.clone()),
        };
        Self { items, count: self.count, meta: self.meta.clone(), credit: self.credit.clone() }
    }
}

impl Accountable for Parcel {
    fn record_count(&self) -> i64 {
        self.count as i64
    }
}

/// A parcel between processes. Credits stay behind: they bound the memory of one process.
#[derive(Serialize, Deserialize)]
struct Wire {
    items: Vec<u8>,
    count: u64,
    meta: Meta,
}

impl ContainerBytes for Parcel {
    #[expect(
        clippy::expect_used,
        reason = "the trait has no errors; timely itself panics on what it cannot decode"
    )]
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        let (wire, _padding) = postcard::take_from_bytes::<Wire>(&bytes).expect("decode a parcel");
        Self { items: Items::Encoded(wire.items), count: wire.count as usize, meta: wire.meta, credit: None }
    }

    fn length_in_bytes(&self) -> usize {
        self.to_wire().len().next_multiple_of(size_of::<u64>())
    }

    #[expect(
        clippy::expect_used,
        reason = "the trait has no errors; timely itself panics on what it cannot send"
    )]
    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        let mut bytes = self.to_wire();
        bytes.resize(bytes.len().next_multiple_of(size_of::<u64>()), 0);
        writer.write_all(&bytes).expect("send a parcel");
    }
}

impl Parcel {
    #[expect(clippy::expect_used, reason = "the caller's trait has no errors")]
    fn to_wire(&self) -> Vec<u8> {
        let items = match &self.items {
            Items::None => Vec::new(),
            Items::Typed(items) => items.encode().expect("encode the items of a parcel"),
            Items::Encoded(bytes) => bytes.clone(),
        };
        let wire = Wire { items, count: self.count as u64, meta: self.meta.clone() };
        postcard::to_stdvec(&wire).expect("encode a parcel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel() -> Parcel {
        let origin =
            Origin { split: SplitId { topic: "clicks".into(), partition: 3 }, offsets: vec![7, 9, 10] };
        let meta = Meta { times: vec![1, 2, 3], origin: Some(origin) };
        Parcel::new(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], meta, None)
    }

    #[test]
    fn metadata_follows_its_items() {
        let mut meta = parcel().meta;
        meta.expand(&[2, 0, 1]);
        assert_eq!(meta.times, [1, 1, 3]);
        assert_eq!(meta.describe(2).unwrap(), "topic \"clicks\" partition 3 offset 10");
        meta.retain(&[false, true, true]);
        assert_eq!(meta.times, [1, 3]);
        assert_eq!(meta.describe(2), None);
    }

    #[test]
    fn a_parcel_survives_the_way_to_another_process() {
        let mut bytes = Vec::new();
        parcel().into_bytes(&mut bytes);
        assert_eq!(bytes.len(), parcel().length_in_bytes());
        let shared = timely::bytes::arc::BytesMut::from(bytes).freeze();
        let mut received = Parcel::from_bytes(shared);
        assert_eq!((received.len(), &received.meta), (3, &parcel().meta));
        assert_eq!(received.take::<String>().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn the_wrong_type_is_an_error() {
        assert_eq!(parcel().take::<u64>().unwrap_err().kind(), ErrorKind::Usage);
    }
}

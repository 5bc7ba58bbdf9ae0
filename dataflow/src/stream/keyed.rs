//! Streams by key: every value of a key comes to the one worker that keeps the key's state.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::operator::keyed::{Divide, Emitted, ErasedLogic};
use crate::engine::parcel::{Data, Meta, Parcel};
use crate::error::{Error, ErrorKind, Result};

use crate::state::{Aggregate, KeyGroupRange, KeyHasher, Keyed, KeyedLogic, Reduce, Running, SnapshotKind};
use crate::stream::graph::{KeyedNode, Logic, Node, Port};
use crate::stream::{Stream, WindowedStream};
use crate::window::Tumbling;

/// What can be a key: it is hashed in its encoded form, so that a key has the same owner in every build.
pub trait Key: Data + Eq {}

impl<K: Data + Eq> Key for K {}

/// A stream whose values have a key.
pub struct KeyedStream<K, T> {
    pub(super) stream: Stream<Keyed<K, T>>,
    pub(super) uid: Option<String>,
}

impl<T: Data> Stream<T> {
    /// Gives each value a key. Values of a key keep their order.
    pub fn key_by<K: Key>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> KeyedStream<K, T> {
        let stream = self.then("key_by", move |items, cursor| {
            let mut hasher = KeyHasher::default();
            let mut keyed = Vec::with_capacity(items.len());
            for (index, value) in items.into_iter().enumerate() {
                cursor.at(index);
                let key = key(&value);
                let time_ms = cursor.meta.times.get(index).copied().unwrap_or_default();
                keyed.push(Keyed { hash: hash(&mut hasher, &key), time_ms, key, value });
            }
            keyed
        });
        KeyedStream { stream, uid: None }
    }
}

/// A key that cannot be encoded is a fault of its `Serialize`: it fails the job, and names the record.
#[expect(
    clippy::panic,
    reason = "this runs where panics of the user's code become errors that name the record"
)]
fn hash<K: Serialize>(hasher: &mut KeyHasher, key: &K) -> u64 {
    hasher.hash(key).unwrap_or_else(|error| panic!("{error}"))
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Names the state of the next stateful operator. Give one in every job that is to outlive a change of its
    /// program: a derived name (`reduce-1`) counts operators and changes with them.
    #[must_use]
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.uid = Some(uid.into());
        self
    }

    /// Collects the values of each key in windows of event time.
    pub fn window(self, windows: Tumbling) -> WindowedStream<K, T> {
        WindowedStream { keyed: self, windows }
    }

    /// Keeps one value per key, combined from all that came, and emits it after each.
    pub fn reduce(self, combine: impl Fn(&T, &T) -> T + Clone + Send + Sync + 'static) -> Stream<(K, T)> {
        self.running(Reduce::by(combine))
    }

    /// Keeps an aggregate per key, for ever, and emits its result after each value.
    pub fn running<A>(self, aggregate: A) -> Stream<(K, A::Out)>
    where
        A: Aggregate<T> + Clone + Send + Sync + 'static,
        A::Acc: Serialize + DeserializeOwned,
        A::Out: Data,
    {
        let build = move |owned| Ok(Running::new(aggregate.clone(), SCHEMA, owned));
        let result = |out: Keyed<K, A::Out>| (out.time_ms, (out.key, out.value));
        let (port, graph) =
            self.stateful("reduce", "running aggregate".to_owned(), build, result, |late| match late {});
        let never_late: Stream<T> = Stream::from_port(&graph, Port { port: 1, ..port });
        drop(never_late);
        Stream::from_port(&graph, port)
    }

    /// Adds a stateful operator to the graph.
    pub(super) fn stateful<L, R: Data>(
        self,
        kind: &str,
        describe: String,
        build: impl Fn(KeyGroupRange) -> Result<L> + Send + Sync + 'static,
        result: fn(L::Out) -> (i64, R),
        late: fn(L::Late) -> (i64, T),
    ) -> (Port, std::rc::Rc<std::cell::RefCell<crate::stream::graph::Graph>>)
    where
        L: KeyedLogic<In = Keyed<K, T>> + 'static,
    {
        let input = self.stream.port();
        let graph = self.stream.graph;
        let uid = self.uid.unwrap_or_else(|| graph.borrow().derived_uid(kind));
        let logic = move |owned| -> Result<Box<dyn Logic>> {
            Ok(Box::new(LogicOfParcels { logic: build(owned)?, result, late }))
        };
        let keyed = KeyedNode { uid, describe, divide: divide::<K, T>, logic: Arc::new(logic) };
        let port = graph.borrow_mut().add(Node::Keyed { input, keyed });
        (port, graph)
    }
}

/// Version of the engine's own state formats, as part of each stored section.
pub(super) const SCHEMA: u16 = 1;

/// Divides a parcel of keyed values among the owners of their keys.
fn divide<K: Key, T: Data>() -> Divide {
    Box::new(|mut parcel, workers| {
        // A quarter more than an even share: mostly enough, so that no part grows step by step.
        let share = parcel.len().div_ceil(workers) * 5 / 4;
        let mut parts: Vec<Vec<Keyed<K, T>>> = Vec::with_capacity(workers);
        parts.resize_with(workers, || Vec::with_capacity(share));
        // Parcels are typed by the function that made this closure: taking them cannot fail.
        for item in parcel.take::<Keyed<K, T>>().unwrap_or_default() {
            parts[item.owner(workers)].push(item);
        }
        let credit = parcel.credit;
        parts.into_iter().map(|items| Parcel::new(items, Meta::default(), credit.clone())).collect()
    })
}

/// A logic of items as a logic of parcels.
struct LogicOfParcels<L: KeyedLogic, R, T> {
    logic: L,
    result: fn(L::Out) -> (i64, R),
    late: fn(L::Late) -> (i64, T),
}

impl<L: KeyedLogic, R: Data, T: Data> LogicOfParcels<L, R, T> {
    fn emit(&self, out: Vec<L::Out>, late: Vec<L::Late>) -> Emitted {
        Emitted { results: parcel(out, self.result), late: parcel(late, self.late) }
    }
}

fn parcel<I, O: Data>(items: Vec<I>, convert: fn(I) -> (i64, O)) -> Option<Parcel> {
    if items.is_empty() {
        return None;
    }
    let (times, items) = items.into_iter().map(convert).unzip();
    Some(Parcel::new(items, Meta { times, origin: None }, None))
}

impl<L: KeyedLogic, R: Data, T: Data> ErasedLogic for LogicOfParcels<L, R, T>
where
    L::In: Data,
{
    fn apply(&mut self, mut parcel: Parcel, watermark: u64) -> Result<Emitted> {
        let (mut items, mut out, mut late) = (parcel.take()?, Vec::new(), Vec::new());
        self.logic.apply(&mut items, watermark, &mut out, &mut late);
        Ok(self.emit(out, late))
    }

    fn advance(&mut self, watermark: u64) -> Result<Emitted> {
        let mut out = Vec::new();
        self.logic.advance(watermark, &mut out);
        Ok(self.emit(out, Vec::new()))
    }

    fn earliest_pending(&self) -> Option<u64> {
        self.logic.earliest_pending()
    }

    fn is_dirty(&self) -> bool {
        self.logic.is_dirty()
    }

    fn snapshot(&mut self, kind: SnapshotKind, out: &mut Vec<u8>) -> Result<()> {
        self.logic.snapshot(kind, out)
    }
}

impl<L: KeyedLogic + 'static, R: Data, T: Data> Logic for LogicOfParcels<L, R, T>
where
    L::In: Data,
{
    fn restore(&mut self, section: &[u8]) -> Result<()> {
        self.logic.restore(section)
    }

    fn run(self: Box<Self>) -> Box<dyn ErasedLogic> {
        self
    }
}

/// The error for a name that is used twice.
pub(crate) fn duplicate_uid(uid: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("build a job with two operators named \"{uid}\""))
        .with_hint("state and positions are kept by name: give each its own with uid(\"…\")")
}

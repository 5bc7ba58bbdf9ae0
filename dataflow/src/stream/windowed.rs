//! Windows of event time per key.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::parcel::Data;
use crate::state::Aggregate;
use crate::stream::Stream;
use crate::stream::graph::Port;
use crate::stream::keyed::{Key, KeyedStream, SCHEMA};
use crate::window::{Tumbling, WindowLogic, WindowResult};

/// The values of each key, window by window.
pub struct WindowedStream<K, T> {
    pub(super) keyed: KeyedStream<K, T>,
    pub(super) windows: Tumbling,
}

impl<K: Key, T: Data> WindowedStream<K, T> {
    /// Names the windows' state; see [`KeyedStream::uid`].
    #[must_use]
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.keyed = self.keyed.uid(uid);
        self
    }

    /// One result per key and window, when event time has passed its end. Late records are dropped, and
    /// counted.
    pub fn aggregate<A>(self, aggregate: A) -> Stream<WindowResult<K, A::Out>>
    where
        A: Aggregate<T> + Clone + Send + Sync + 'static,
        A::Acc: Serialize + DeserializeOwned,
        A::Out: Data,
    {
        self.aggregate_with_late(aggregate).0
    }

    /// The results, and the records that came too late even for the allowed lateness.
    pub fn aggregate_with_late<A>(self, aggregate: A) -> (Stream<WindowResult<K, A::Out>>, Stream<T>)
    where
        A: Aggregate<T> + Clone + Send + Sync + 'static,
        A::Acc: Serialize + DeserializeOwned,
        A::Out: Data,
    {
        let windows = self.windows;
        let build = move |owned| WindowLogic::new(windows, aggregate.clone(), SCHEMA, owned);
        let result = |out: WindowResult<K, A::Out>| (out.time_ms(), out);
        let describe = format!("{windows:?}");
        let (port, graph) =
            self.keyed.stateful("window", describe, build, result, |late| (late.time_ms, late.value));
        (Stream::from_port(&graph, port), Stream::from_port(&graph, Port { port: 1, ..port }))
    }
}

//! The fluent API: streams, what can be done to them, and the graph that this builds up. Layer 6.

mod batch;
pub(crate) mod graph;
pub(crate) mod keyed;
mod stateless;
mod windowed;

pub use keyed::{Key, KeyedStream};
pub use windowed::WindowedStream;

use std::cell::RefCell;
use std::rc::Rc;

use crate::engine::parcel::Data;
use crate::sink::Sink;
use crate::stream::batch::Stage;
use crate::stream::graph::{Graph, Node, Port};

/// Values of one type on their way through a job.
///
/// A stream describes; nothing flows before the job runs. Functions given to it are plain `Fn`s that may run
/// on every worker at once. If one panics, the job fails and names the operator and the record.
pub struct Stream<T> {
    graph: Rc<RefCell<Graph>>,
    upstream: RefCell<Upstream<T>>,
}

/// Where a stream comes from, with the stateless functions after it that are not an operator yet: they are
/// fused into one where the stream is consumed.
struct Upstream<T> {
    port: Port,
    stage: Option<Stage<T>>,
}

impl<T: Data> Stream<T> {
    pub(crate) fn from_port(graph: &Rc<RefCell<Graph>>, port: Port) -> Self {
        Self { graph: Rc::clone(graph), upstream: RefCell::new(Upstream { port, stage: None }) }
    }

    /// This stream and `other`, in no particular order. Its watermark is the lesser of the two.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let inputs = vec![self.port(), other.port()];
        let port = self.graph.borrow_mut().add(Node::Union { inputs });
        Self::from_port(&self.graph, port)
    }

    /// Writes the stream to `sink`, exactly once: in the transaction of each epoch.
    pub fn sink(self, sink: impl Sink<Item = T>) {
        let input = self.port();
        self.graph.borrow_mut().add(Node::Sink { input, sink: Box::new(sink) });
    }

    /// The output that carries this stream; functions not yet in an operator become one.
    fn port(&self) -> Port {
        let mut upstream = self.upstream.borrow_mut();
        if let Some(stage) = upstream.stage.take() {
            let chain = batch::chain(stage);
            upstream.port = self.graph.borrow_mut().add(Node::Stateless { input: upstream.port, chain });
        }
        upstream.port
    }
}

/// Both streams see every value. What was done to the stream before is done once.
impl<T: Data> Clone for Stream<T> {
    fn clone(&self) -> Self {
        Self::from_port(&self.graph, self.port())
    }
}

//! Event-time windows as values: no timely, no clock. Layer 5.
//!
//! A window covers [start, end) and fires when the watermark reaches its end. Its result has event time
//! end − 1, the last millisecond in it, so that a window of the same size downstream puts it where it belongs.

mod logic;
#[cfg(test)]
mod tests;
mod tumbling;

pub use logic::{WindowLogic, WindowResult};
pub use tumbling::Tumbling;

pub use crate::state::aggregate::{Aggregate, And, Avg, Count, Max, Min, Ordered, Reduce, Sum, Summable};

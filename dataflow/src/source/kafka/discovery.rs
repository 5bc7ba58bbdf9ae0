//! Partitions that a topic gets while the job runs.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use kafka_wire::{Consumer, Topic};

use crate::engine::ack::SplitId;
use crate::engine::bridge;
use crate::source::Assignment;

/// Looks now and then which partitions a worker should read.
pub(super) struct Discovery {
    topic: Arc<str>,
    worker: usize,
    workers: usize,
    /// When to ask again.
    due: Instant,
    asked: Option<Pin<Box<dyn Future<Output = kafka_wire::Result<Topic>> + Send>>>,
}

impl Discovery {
    /// With the time until it is asked about, new partitions are found within 5 s (design D4.6).
    pub(super) const METADATA_MAX_AGE: Duration = Duration::from_secs(3);
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn new(topic: &Arc<str>, assignment: &Assignment) -> Self {
        let (worker, workers) = (assignment.worker, assignment.workers);
        Self { topic: Arc::clone(topic), worker, workers, due: bridge::now() + Self::INTERVAL, asked: None }
    }

    /// This worker's partitions, each time that it has been asked. An operator calls it at each epoch's end
    /// at the latest.
    pub(super) fn poll_partitions(&mut self, consumer: &Consumer, cx: &mut Context<'_>) -> Poll<Vec<i32>> {
        let asked = match &mut self.asked {
            Some(asked) => asked,
            None if bridge::now() < self.due => return Poll::Pending,
            none => none.insert(Box::pin(consumer.describe_topic(&self.topic))),
        };
        let Poll::Ready(described) = asked.as_mut().poll(cx) else { return Poll::Pending };
        self.asked = None;
        self.due = bridge::now() + Self::INTERVAL;
        match described {
            Ok(topic) => {
                Poll::Ready((0..topic.partitions.len() as i32).filter(|p| self.is_ours(*p)).collect())
            }
            Err(error) => {
                // What hinders reading is reported by the consumer where it reads.
                tracing::debug!(topic = %self.topic, %error, "cannot look for new partitions now");
                Poll::Pending
            }
        }
    }

    fn is_ours(&self, partition: i32) -> bool {
        let id = SplitId { topic: self.topic.to_string(), partition };
        id.worker(self.workers) == self.worker
    }
}

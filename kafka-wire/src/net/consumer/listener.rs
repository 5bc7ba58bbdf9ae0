use std::fmt;

use super::Consumer;
use crate::types::TopicPartition;

/// Hears of rebalances: Java's `ConsumerRebalanceListener`.
///
/// It is called inside [`Consumer::poll`], [`Consumer::unsubscribe`] and [`Consumer::close`], on their thread, and gets
/// the consumer, to seek, pause, look at positions, or commit with [`Consumer::commit_async`]; what is committed there
/// is acknowledged before partitions go to another member. It must not poll, subscribe or close.
///
/// Closures do where not all of it is needed: [`ConsumerBuilder::on_assigned`](super::ConsumerBuilder::on_assigned) and
/// its neighbours.
pub trait RebalanceListener: Send {
    /// These are this member's now, in addition to what it has; reading them is about to begin. Empty when a rebalance
    /// brought nothing.
    fn assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }

    /// These go to others, after this. With `enable.auto.commit` what was polled is committed already.
    fn revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }

    /// These have gone to others already, because this member was not heard of for too long, or did not poll: nothing
    /// can be committed for them any more. By default as [`revoked`](Self::revoked).
    fn lost(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        self.revoked(consumer, partitions);
    }
}

type Callback = Box<dyn FnMut(&mut Consumer, &[TopicPartition]) + Send>;

/// A listener made of closures.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) assigned: Option<Callback>,
    pub(super) revoked: Option<Callback>,
    pub(super) lost: Option<Callback>,
}

impl Callbacks {
    pub(super) fn is_empty(&self) -> bool {
        self.assigned.is_none() && self.revoked.is_none() && self.lost.is_none()
    }
}

impl RebalanceListener for Callbacks {
    fn assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        if let Some(call) = &mut self.assigned {
            call(consumer, partitions);
        }
    }

    fn revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        if let Some(call) = &mut self.revoked {
            call(consumer, partitions);
        }
    }

    fn lost(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        match &mut self.lost {
            Some(call) => call(consumer, partitions),
            None => self.revoked(consumer, partitions),
        }
    }
}

/// What is there when nobody listens.
pub(super) struct Nobody;

impl RebalanceListener for Nobody {}

impl fmt::Debug for dyn RebalanceListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RebalanceListener")
    }
}

//! A stateful operator's logic as a value, and what the engine may ask of it.

use crate::error::Result;

/// How much a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum SnapshotKind {
    /// What changed since the last snapshot of either kind (or since the restore).
    Delta,
    /// Everything: what was written of these key groups before is superseded.
    Base,
}

/// A stateful operator's logic as a value: no timely, no clock, no I/O.
///
/// The engine brings it every record whose key it owns, tells it how far event time has come, and
/// asks for its state when an epoch is complete. Watermarks are in the `u64` domain of `time`
/// (order-preserving from `i64` milliseconds); `u64::MAX` is the end of input.
///
/// A logic is built knowing the key groups it owns ([`super::KeyGroupRange`]): its snapshots speak for
/// these and for no others.
pub trait KeyedLogic {
    /// What it takes, usually a [`super::Keyed`].
    type In;
    /// What it emits.
    type Out;
    /// What it hands back because it came too late.
    type Late;

    /// Takes a batch (and leaves the vector empty, its memory kept). `watermark` is the operator's
    /// watermark: no result for an event time before it may still be promised. What is emitted at once
    /// (refinements, running results) goes to `out`, what came too late to `late`.
    fn apply(
        &mut self,
        items: &mut Vec<Self::In>,
        watermark: u64,
        out: &mut Vec<Self::Out>,
        late: &mut Vec<Self::Late>,
    );

    /// Event time has reached `watermark`: emits what is ripe. A watermark behind an earlier one changes nothing.
    fn advance(&mut self, watermark: u64, out: &mut Vec<Self::Out>);

    /// Event time, in the watermark domain, of the earliest result still to come (a window's end − 1):
    /// what the operator's capability must not pass.
    fn earliest_pending(&self) -> Option<u64>;

    /// Whether a snapshot now would hold anything that the last one did not.
    fn is_dirty(&self) -> bool;

    /// Appends a section of state to `out`: self-describing, by key group.
    ///
    /// # Errors
    /// When a user's type cannot be encoded; the job cannot go on then, since its state is not saved.
    fn snapshot(&mut self, kind: SnapshotKind, out: &mut Vec<u8>) -> Result<()>;

    /// Takes from a section the key groups that this logic owns; the others are skipped undecoded.
    /// Sections come in the order of their epochs; a base replaces what its key groups held.
    ///
    /// # Errors
    /// When the section is damaged, of a newer version or of another operator: nothing of it has been taken then.
    fn restore(&mut self, section: &[u8]) -> Result<()>;
}

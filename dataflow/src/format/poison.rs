//! What a source does with a record that cannot be read.

/// What becomes of a poison record: one that its format or type does not fit, or whose event time is out of range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoisonPolicy {
    /// The job stops with an error that names topic, partition and offset. The default: nothing is lost
    /// without somebody having said that it may be.
    #[default]
    Stop,
    /// The record is counted and skipped; the first of a batch is logged.
    Skip,
    /// The record goes as it is to this topic, in the same transaction as the results of its epoch.
    DeadLetter {
        /// The dead-letter topic.
        topic: String,
    },
}

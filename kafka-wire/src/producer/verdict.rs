//! What a broker's answer means for a batch.

use super::sender::PartitionAnswer;
use crate::error::{Error, ErrorCode, ErrorKind};

/// What is to be done with a batch.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is in the log.
    Written { base_offset: Option<i64>, append_time_ms: Option<i64> },
    /// To be sent again.
    Retry {
        error: Error,
        /// It may be in the log all the same.
        possibly_written: bool,
        /// The leader may be another one by now.
        is_metadata_stale: bool,
    },
    /// The broker expected another sequence number, producer id or epoch.
    OutOfOrder(Error),
    /// It was refused for its size; parts of it may not be.
    TooLarge(Error),
    /// It was refused, and would be again.
    Failed(Error),
}

impl Verdict {
    /// A request that got no answer, or one that could not be read.
    pub(crate) fn of_failed_call(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Protocol => Self::Retry {
                error: error.clone(),
                possibly_written: error.possibly_written() || error.kind() == ErrorKind::Protocol,
                is_metadata_stale: true,
            },
            _ => Self::Failed(error.clone()),
        }
    }
}

/// Judges an answer; codes by what Kafka's `ProduceResponse` and KIP-360 say of them.
pub(crate) fn verdict(answer: &PartitionAnswer) -> Verdict {
    let written = || Verdict::Written {
        base_offset: Some(answer.base_offset).filter(|offset| *offset >= 0),
        append_time_ms: answer.append_time_ms,
    };
    let Some(code) = answer.error else { return written() };
    let error = Error::broker(code, describe(answer));
    match code {
        // An earlier attempt had been written after all.
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => written(),
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        | ErrorCode::UNKNOWN_PRODUCER_ID
        | ErrorCode::INVALID_PRODUCER_EPOCH => Verdict::OutOfOrder(error),
        ErrorCode::PRODUCER_FENCED => Verdict::Failed(fenced(error)),
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
            Verdict::TooLarge(error.with_hint("raise the topic's max.message.bytes, or send smaller records"))
        }
        // The markers of the transaction before are still being written.
        ErrorCode::CONCURRENT_TRANSACTIONS => {
            Verdict::Retry { error, possibly_written: false, is_metadata_stale: false }
        }
        _ if code.is_retriable() => Verdict::Retry {
            error,
            possibly_written: is_indefinite(code),
            is_metadata_stale: is_about_leadership(code),
        },
        _ => Verdict::Failed(error),
    }
}

/// A transaction's coordinator has given its producer id a newer epoch.
pub(crate) fn fenced(cause: Error) -> Error {
    let text = "produce: a newer producer with the same transactional.id has taken over, or the transaction was \
                open for longer than transaction.timeout.ms";
    Error::new(ErrorKind::Fenced, text).with_cause(cause)
}

fn describe(answer: &PartitionAnswer) -> String {
    match &answer.message {
        Some(message) => format!("produce ({message})"),
        None => "produce".to_owned(),
    }
}

/// Codes after which the batch may still reach the log: it was appended, and only the replication or the
/// leadership (KAFKA-13574) failed.
fn is_indefinite(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::KAFKA_STORAGE_ERROR
    )
}

/// As Java's `InvalidMetadataException`.
fn is_about_leadership(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::NETWORK_EXCEPTION
    )
}

//! A record batch as the broker sees it: its 61 header bytes. Records are opened only where a question
//! is about one of them.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::error::{Failure, fail};
use kafka_wire::record::end_transaction_marker;
use kafka_wire::{ErrorCode, ProducerIdentity};

/// Bytes of a batch header, magic 2.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before the ones that the length field counts: base offset and length.
const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the checksummed bytes begin: behind base offset, length, leader epoch, magic and checksum.
const CHECKSUMMED_FROM: usize = 21;

const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// The facts in a batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    /// Bytes of the whole batch, the first twelve included.
    pub(crate) size: usize,
    pub(crate) leader_epoch: i32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

impl Header {
    /// Reads the header of the batch that `bytes` begin with, and checks that all of the batch is there.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return fail(
                ErrorCode::INVALID_RECORD,
                format!("a batch header takes {HEADER_BYTES} bytes, {} are there", bytes.len()),
            );
        };
        let length = int32(header, 8);
        let size = usize::try_from(length).unwrap_or(0) + LENGTH_PREFIX_BYTES;
        if size < HEADER_BYTES || size > bytes.len() {
            return fail(
                ErrorCode::INVALID_RECORD,
                format!("a batch says that it has {size} bytes, {} are there", bytes.len()),
            );
        }
        if header[16] != 2 {
            return fail(
                ErrorCode::INVALID_RECORD,
                format!("only record batches with magic 2 are accepted, not {}", header[16]),
            );
        }
        Ok(Self {
            base_offset: int64(header, 0),
            size,
            leader_epoch: int32(header, 12),
            attributes: i16::from_be_bytes([header[21], header[22]]),
            last_offset_delta: int32(header, 23),
            max_timestamp: int64(header, 35),
            producer_id: int64(header, 43),
            producer_epoch: i16::from_be_bytes([header[51], header[52]]),
            base_sequence: int32(header, 53),
            count: int32(header, 57),
        })
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// The sequence of its last record; sequences wrap from `i32::MAX` to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// `sequence + delta` in the wrapping arithmetic of producer sequences.
pub(crate) fn add_sequence(sequence: i32, delta: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(delta);
    i32::try_from(sum).unwrap_or_else(|_| (sum - i64::from(i32::MAX) - 1) as i32)
}

/// The checksum that a batch is to have.
pub(crate) fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CHECKSUMMED_FROM..])
}

/// Whether the checksum in the header is that of the bytes behind it.
pub(crate) fn checksum_matches(batch: &[u8]) -> bool {
    batch.len() >= HEADER_BYTES && checksum(batch).to_be_bytes() == batch[17..21]
}

/// A copy of `batch` with what a leader assigns: base offset and leader epoch, which the checksum does not
/// cover, and under `message.timestamp.type=LogAppendTime` the time, which it does.
pub(crate) fn stamp(batch: &[u8], base_offset: i64, leader_epoch: i32, append_time: Option<i64>) -> Bytes {
    let mut copy = BytesMut::with_capacity(batch.len());
    copy.put_i64(base_offset);
    copy.put_slice(&batch[8..12]);
    copy.put_i32(leader_epoch);
    copy.put_slice(&batch[16..]);
    if let Some(time) = append_time {
        let attributes = i16::from_be_bytes([copy[21], copy[22]]) | TIMESTAMP_TYPE_BIT;
        copy[21..23].copy_from_slice(&attributes.to_be_bytes());
        copy[35..43].copy_from_slice(&time.to_be_bytes());
        let checksum = checksum(&copy);
        copy[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    copy.freeze()
}

/// The batch that ends a transaction in a partition: one control record with the outcome.
pub(crate) fn end_marker(producer: ProducerIdentity, commit: bool, unix_ms: i64) -> Result<Bytes, Failure> {
    match end_transaction_marker(producer, commit, 0, unix_ms) {
        Ok(marker) => Ok(marker.freeze()),
        Err(error) => fail(ErrorCode::UNKNOWN_SERVER_ERROR, error.to_string()),
    }
}

/// What an end marker says: whether its transaction committed. `None` for other control batches.
pub(crate) fn marker_outcome(batch: &[u8]) -> Option<bool> {
    // Behind length (one byte), attributes, timestamp delta, offset delta and key length: version, type.
    match batch.get(HEADER_BYTES + 5..HEADER_BYTES + 9)? {
        [_, _, 0, 0] => Some(false),
        [_, _, 0, 1] => Some(true),
        _ => None,
    }
}

fn int32(header: &[u8; HEADER_BYTES], at: usize) -> i32 {
    let mut value = [0; 4];
    value.copy_from_slice(&header[at..at + 4]);
    i32::from_be_bytes(value)
}

fn int64(header: &[u8; HEADER_BYTES], at: usize) -> i64 {
    let mut value = [0; 8];
    value.copy_from_slice(&header[at..at + 8]);
    i64::from_be_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: ProducerIdentity = ProducerIdentity { id: 7, epoch: 3 };

    #[test]
    fn a_marker_is_a_batch_with_its_outcome() {
        for commit in [true, false] {
            let marker = stamp(&end_marker(PRODUCER, commit, 1_000).unwrap(), 42, 5, None);
            let header = Header::parse(&marker).unwrap();
            assert!(checksum_matches(&marker) && header.is_control() && header.is_transactional());
            assert_eq!((header.base_offset, header.last_offset(), header.leader_epoch), (42, 42, 5));
            assert_eq!((header.size, header.producer_id, header.producer_epoch), (marker.len(), 7, 3));
            assert_eq!(marker_outcome(&marker), Some(commit));
        }
    }

    #[test]
    fn log_append_time_is_stamped_under_the_checksum() {
        let stamped = stamp(&end_marker(PRODUCER, true, 1_000).unwrap(), 0, 0, Some(9_999));
        let header = Header::parse(&stamped).unwrap();
        assert!(checksum_matches(&stamped));
        assert_eq!(
            (header.max_timestamp, header.attributes & TIMESTAMP_TYPE_BIT),
            (9_999, TIMESTAMP_TYPE_BIT)
        );
    }

    #[test]
    fn short_and_lying_batches_are_refused() {
        let marker = end_marker(PRODUCER, true, 1_000).unwrap();
        assert!(Header::parse(&marker[..60]).is_err());
        assert!(Header::parse(&marker[..marker.len() - 1]).is_err());
        let mut flipped = marker.to_vec();
        flipped[70] ^= 1;
        assert!(!checksum_matches(&flipped));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(add_sequence(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 2, 9), 6);
    }
}

//! One batch into two, for a broker that finds it too large.

use super::builder::{BatchBuilder, MAX_BODY_BYTES, SealedBatch};
use super::header::{BATCH_HEADER_BYTES, corrupt_batch};
use super::reader::batches;
use super::view::{Header, RecordRef, Records};
use crate::error::Result;
use crate::protocol::limits::Limits;

impl SealedBatch {
    /// Two batches with the same records, timestamps and compression, of about half the bytes each before
    /// compression; `None` for a batch of a single record.
    pub fn split(&self) -> Option<(Self, Self)> {
        if self.records() < 2 {
            return None;
        }
        // The bytes are our own: if they could not be read, the batch could not be split.
        let records = self.open().ok()?;
        let half = records.size_bytes() / 2;
        let (mut front, mut back) = (self.builder(half), self.builder(half));
        for record in &records {
            let is_last = record.offset + 1 == i64::from(self.records());
            let is_front = front.is_empty()
                || (back.is_empty() && !is_last && front.size_bytes() - BATCH_HEADER_BYTES < half);
            append(if is_front { &mut front } else { &mut back }, &record).ok()?;
        }
        Some((front.seal(), back.seal()))
    }

    fn builder(&self, capacity_bytes: usize) -> BatchBuilder {
        BatchBuilder::new(self.compression(), capacity_bytes)
    }

    fn open(&self) -> Result<Records> {
        let limits = Limits {
            batch_decompressed_max_bytes: MAX_BODY_BYTES,
            record_headers_max: MAX_BODY_BYTES,
            ..Limits::DEFAULT
        };
        let whole = batches(self.to_bytes(None, -1, false).freeze()).next();
        whole.unwrap_or_else(|| Err(corrupt_batch(0, "it is empty")))?.open(&limits)
    }
}

fn append(builder: &mut BatchBuilder, record: &RecordRef<'_>) -> Result<u32> {
    let headers: Vec<Header<'_>> = record.headers().collect();
    builder.append(record.timestamp_ms, record.key, record.value, &headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Compression;
    use crate::types::Codec;

    type Content = (i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    fn content(batch: &SealedBatch) -> Vec<Content> {
        let read = |record: RecordRef<'_>| {
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            (record.timestamp_ms, owned(record.key), owned(record.value), record.headers().count())
        };
        batch.open().unwrap().iter().map(read).collect()
    }

    #[test]
    fn halves_hold_every_record_once_in_order_whatever_their_sizes_and_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let Ok(compression) = Compression::new(codec, None) else { continue };
            for sizes in [&[1, 1][..], &[900, 1, 1], &[1, 1, 900], &[5; 40]] {
                let mut builder = BatchBuilder::new(compression, 100);
                for (index, size) in sizes.iter().enumerate() {
                    let header = Header { key: b"h", value: None };
                    let key = [index as u8];
                    let value = vec![7; *size];
                    builder.append(50 - index as i64, Some(&key), Some(&value), &[header]).unwrap();
                }
                let whole = builder.seal();
                let (front, back) = whole.split().unwrap();
                assert!(!content(&front).is_empty() && !content(&back).is_empty(), "{sizes:?}");
                assert_eq!([content(&front), content(&back)].concat(), content(&whole), "{sizes:?}");
                assert_eq!((front.codec(), back.codec()), (codec, codec));
            }
        }
    }

    #[test]
    fn a_single_record_is_not_split() {
        let mut builder = BatchBuilder::new(Compression::NONE, 10);
        builder.append(1, None, Some(b"x"), &[]).unwrap();
        assert!(builder.seal().split().is_none());
    }
}

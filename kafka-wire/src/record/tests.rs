//! Batches there and back: what `BatchBuilder` writes, the reader reads.

#![cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]

use bytes::{Bytes, BytesMut};

use super::*;
use crate::error::{ErrorKind, Result};
use crate::protocol::limits::Limits;
use crate::types::{Codec, ProducerIdentity};

mod generated;
mod hostile;
mod legacy;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn open_all(set: impl Into<Bytes>) -> Result<Vec<Records>> {
    batches(set.into())
        .map(|batch| {
            let batch = batch?;
            batch.verify_crc()?;
            batch.open(&Limits::default())
        })
        .collect()
}

fn sealed(codec: Codec, records: usize) -> SealedBatch {
    let mut builder = BatchBuilder::new(Compression::new(codec, None).unwrap(), 1024);
    for index in 0..records {
        let key = format!("key-{index}");
        let value = format!("value of record {index} ").repeat(index % 5);
        let headers = [
            Header { key: b"a", value: Some(b"1") },
            Header { key: b"a", value: None },
            Header { key: &[0xff], value: Some(b"") },
        ];
        let key = (index % 3 != 0).then_some(key.as_bytes());
        let value = (index % 4 != 1).then_some(value.as_bytes());
        let headers = &headers[..index % 4];
        let before = builder.size_bytes();
        let size = builder.record_size(1000 - index as i64, key, value, headers);
        assert_eq!(builder.append(1000 - index as i64, key, value, headers).unwrap(), index as u32);
        assert_eq!(builder.size_bytes(), before + size);
    }
    builder.seal()
}

#[test]
fn each_codec_comes_back_as_it_went() {
    for codec in CODECS {
        let batch = sealed(codec, 1000);
        let producer = ProducerIdentity { id: 7, epoch: 3 };
        let bytes = batch.to_bytes(Some(producer), 40, true);
        assert_eq!(bytes.len(), batch.size_bytes());
        let [records] = open_all(bytes).unwrap().try_into().unwrap();
        let header = records.header();
        assert_eq!(header.codec().unwrap(), codec);
        assert_eq!(header.producer(), Some(producer));
        assert_eq!((header.base_sequence, header.next_offset()), (40, 1000));
        assert!(header.is_transactional() && !header.is_control());
        assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1000));
        let plain = open_all(sealed(Codec::None, 1000).to_bytes(None, 0, false)).unwrap();
        assert!(records.iter().eq(plain[0].iter()), "{codec:?}");
        assert_eq!(records.len(), 1000);
    }
}

#[test]
fn a_buffer_comes_back_when_nobody_else_holds_it() {
    for codec in CODECS {
        let mut builder = BatchBuilder::new(Compression::new(codec, None).unwrap(), 1 << 16);
        builder.append(5, None, Some(&[b'x'; 5000]), &[]).unwrap();
        let sealed = builder.seal();
        let mut frame = crate::protocol::request::FrameBuilder::new();
        sealed.write(None, 0, false, &mut frame);
        let chunks = frame.finish();
        assert_eq!(chunks.concat(), sealed.to_bytes(None, 0, false));
        assert!(sealed.clone().into_buffer().is_none());
        drop(chunks);
        let buffer: BytesMut = sealed.into_buffer().unwrap();
        assert!(buffer.capacity() >= 1 << 16, "{codec:?}: {}", buffer.capacity());
        let again = BatchBuilder::with_buffer(Compression::NONE, buffer);
        assert!(again.is_empty() && again.size_bytes() == BATCH_HEADER_BYTES);
    }
}

#[test]
fn append_refuses_what_kafka_refuses_and_keeps_the_batch() {
    let mut builder = BatchBuilder::new(Compression::NONE, 0);
    builder.append(1, None, Some(b"v"), &[]).unwrap();
    let error = builder.append(-2, None, None, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(builder.len(), 1);
    assert_eq!(builder.append(i64::MAX, None, None, &[]).unwrap(), 1);
    let mut builder = BatchBuilder::new(Compression::NONE, 0);
    builder.append(-1, None, None, &[]).unwrap();
    assert_eq!(builder.append(i64::MAX, None, None, &[]).unwrap_err().kind(), ErrorKind::Usage);
    let mut builder = BatchBuilder::new(Compression::NONE, 0);
    builder.append(1, None, Some(b"v"), &[]).unwrap();
    builder.append(-1, None, None, &[]).unwrap();
    let records = open_all(builder.seal().to_bytes(None, 0, false)).unwrap();
    assert_eq!(records[0].iter().map(|record| record.timestamp_ms).collect::<Vec<_>>(), [1, -1]);
}

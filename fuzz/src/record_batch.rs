//! A record set: reading it ends in records or in an error, and what was read can be written and read
//! again. Opening a batch does not ask for its checksum, so that damage reaches the decoders.

use bytes::Bytes;
use kafka_wire::Compression;
use kafka_wire::protocol::limits::Limits;
use kafka_wire::record::{BatchBuilder, Header, Records, batches};

const LIMITS: Limits = Limits { batch_decompressed_max_bytes: 1 << 20, ..Limits::DEFAULT };

/// Reads `data` as a record set.
pub fn run(data: &[u8]) {
    let mut set = batches(Bytes::copy_from_slice(data));
    let mut bytes = 0;
    while let Some(Ok(batch)) = set.next() {
        bytes += batch.bytes().len();
        assert_eq!(set.bytes_read(), bytes);
        assert!(batch.header.next_offset() > batch.header.base_offset);
        let _ = (batch.verify_crc(), batch.control());
        if let Ok(records) = batch.open(&LIMITS) {
            assert!(records.size_bytes() <= LIMITS.batch_decompressed_max_bytes.max(data.len()));
            assert_eq!(records.iter().count(), records.len());
            write_again(&records);
        }
    }
    assert_eq!(set.bytes_read(), bytes);
    assert!(bytes <= data.len());
}

fn write_again(records: &Records) {
    let mut builder = BatchBuilder::new(Compression::NONE, records.size_bytes());
    for record in records {
        let headers: Vec<Header<'_>> = record.headers().collect();
        let size = builder.size_bytes();
        let added = builder.record_size(record.timestamp_ms, record.key, record.value, &headers);
        // A timestamp before 1970 can be read and not be written.
        if builder.append(record.timestamp_ms, record.key, record.value, &headers).is_err() {
            assert!(record.timestamp_ms < -1 || record.timestamp_ms == i64::MAX);
            return;
        }
        assert_eq!(builder.size_bytes(), size + added);
    }
    if builder.is_empty() {
        return;
    }
    let set = builder.seal().to_bytes(None, 0, false).freeze();
    let batch = batches(set).next().expect("a batch").expect("a readable batch");
    batch.verify_crc().expect("a right checksum");
    let again = batch.open(&Limits::DEFAULT).expect("readable records");
    assert_eq!(again.len(), records.len());
    for (again, record) in again.iter().zip(records) {
        assert_eq!((again.timestamp_ms, again.key), (record.timestamp_ms, record.key));
        assert_eq!(again.value, record.value);
        assert!(again.headers().eq(record.headers()));
    }
}

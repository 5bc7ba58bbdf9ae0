//! The decompressors: whatever is in a batch, opening it ends, and takes no more memory than the limit allows.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_wire::protocol::limits::Limits;
use kafka_wire::record::batches;

const LIMITS: Limits = Limits { batch_decompressed_max_bytes: 1 << 20, ..Limits::DEFAULT };

/// The first byte of `data` says format and codec, the second how many records there should be; the rest is what is
/// compressed.
pub fn run(data: &[u8]) {
    let &[kind, count, ref body @ ..] = data else { return };
    let codec = i16::from(kind & 7);
    let set = match kind >> 3 & 3 {
        0 => message(0, codec, body),
        1 => message(1, codec, body),
        _ => batch(codec, count, body),
    };
    for batch in batches(set).map_while(Result::ok) {
        if let Ok(records) = batch.open(&LIMITS) {
            assert!(records.size_bytes() <= LIMITS.batch_decompressed_max_bytes.max(data.len()));
            assert_eq!(records.iter().count(), records.len());
        }
    }
}

/// A batch of format 2.
fn batch(codec: i16, count: u8, body: &[u8]) -> Bytes {
    let mut set = BytesMut::new();
    set.put_i64(0);
    set.put_i32(49 + body.len() as i32);
    set.put_i32(-1);
    set.put_i8(2);
    set.put_u32(0); // the checksum is not asked for
    set.put_i16(codec);
    set.put_i32(i32::from(count) - 1);
    set.put_i64(0);
    set.put_i64(0);
    set.put_i64(-1);
    set.put_i16(-1);
    set.put_i32(-1);
    set.put_i32(count.into());
    set.put_slice(body);
    set.freeze()
}

/// A message of format 0 or 1 around others.
fn message(magic: i8, codec: i16, body: &[u8]) -> Bytes {
    let mut set = BytesMut::new();
    set.put_i64(0);
    set.put_i32(14 + 8 * i32::from(magic) + body.len() as i32);
    set.put_u32(0); // the checksum is not asked for
    set.put_i8(magic);
    set.put_i8(codec as i8);
    if magic == 1 {
        set.put_i64(0);
    }
    set.put_i32(-1);
    set.put_i32(body.len() as i32);
    set.put_slice(body);
    set.freeze()
}

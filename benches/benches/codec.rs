//! The record codec, with `kafka-protocol`'s own as the peer: nanoseconds a record and the ratio.
//!
//! `cargo bench -p tidewater-benches --bench codec [-- FILTER]`. Each figure is that of the
//! fastest pass over one batch, which is what the code does when nobody else uses the core.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports to a person and may stop")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as peer;
use kafka_wire::protocol::limits::Limits;
use kafka_wire::record::{BatchBuilder, batches};
use kafka_wire::{Codec, Compression};

const RECORDS: usize = 10_286;
const DURATION: Duration = Duration::from_millis(800);
/// zstd also at Java's default.
const CODECS: [(Codec, Option<i32>); 5] = [
    (Codec::Lz4, None),
    (Codec::Snappy, None),
    (Codec::Zstd, Some(1)),
    (Codec::Zstd, Some(3)),
    (Codec::Gzip, None),
];

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let values = json_like(RECORDS);
    let size_mb = values.iter().map(Vec::len).sum::<usize>() as f64 / 1e6;
    println!("{RECORDS} records, {size_mb:.2} MB of values; ns a record, the fastest pass");
    let bench = Bench { filter, size_mb };
    let records = peer_records(&values);
    let peer_encoded = bench.run("encode none, kafka-protocol", None, || peer_encode(&records));
    let mut buffer = BytesMut::new();
    bench.run("encode none", peer_encoded, || encode(&values, Compression::NONE, &mut buffer));
    let set = peer_encode(&records);
    let peer_decoded = bench.run("decode none, kafka-protocol", None, || {
        peer::RecordBatchDecoder::decode_all(&mut set.clone()).unwrap()
    });
    bench.run("decode none: CRC, check, iterate", peer_decoded, || decode(&set, true));
    bench.run("decode none: check, iterate", peer_decoded, || decode(&set, false));
    for (codec, level) in CODECS {
        let compression = Compression::new(codec, level).unwrap();
        let level = level.map(|level| format!(" {level}")).unwrap_or_default();
        let name = format!("{}{level}", codec.name());
        let mut buffer = BytesMut::new();
        bench.run(&format!("encode {name}"), None, || encode(&values, compression, &mut buffer));
        let set = sealed(&values, compression);
        println!("{:44} {:8.3} of the size", "", set.len() as f64 / size_mb / 1e6);
        bench.run(&format!("decode {name}: CRC, check, iterate"), None, || decode(&set, true));
    }
}

struct Bench {
    filter: String,
    size_mb: f64,
}

impl Bench {
    /// Best time of one call, printed a record and as a share of `peer`.
    fn run<T>(&self, name: &str, peer: Option<f64>, mut work: impl FnMut() -> T) -> Option<f64> {
        if !name.contains(&self.filter) {
            return None;
        }
        let best = best_seconds(&mut work);
        let each = best * 1e9 / RECORDS as f64;
        let speed = self.size_mb / 1e3 / best;
        let ratio = peer.map(|peer| format!("  {:.2} of the peer's time", each / peer)).unwrap_or_default();
        println!("{name:44} {each:8.1} ns  {speed:6.2} GB/s{ratio}");
        Some(each)
    }
}

/// Seconds of the fastest call.
#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn best_seconds<T>(work: &mut impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < DURATION {
        let call = Instant::now();
        black_box(work());
        best = best.min(call.elapsed());
    }
    best.as_secs_f64()
}

/// Values of about 107 bytes that compress as event data does.
fn json_like(count: usize) -> Vec<Vec<u8>> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let types = ["view", "click", "purchase"];
    let event = |_| {
        let (user, page, kind) = (next(100_000), next(5_000), types[next(3) as usize]);
        let (amount, ts) = (next(1_000_000), 1_700_000_000_000 + next(100_000_000));
        format!(
            r#"{{"user":"user-{user}","page":"/products/{page}","type":"{kind}","amount":{:.2},"ts":{ts}}}"#,
            amount as f64 / 100.0
        )
        .into_bytes()
    };
    (0..count).map(event).collect()
}

fn encode(values: &[Vec<u8>], compression: Compression, buffer: &mut BytesMut) -> usize {
    let mut builder = BatchBuilder::with_buffer(compression, std::mem::take(buffer));
    for (index, value) in values.iter().enumerate() {
        builder.append(1_700_000_000_000 + index as i64, None, Some(value), &[]).unwrap();
    }
    let batch = builder.seal();
    let mut frame = kafka_wire::protocol::request::FrameBuilder::new();
    batch.write(None, 0, false, &mut frame);
    let size = frame.len();
    drop(frame);
    *buffer = batch.into_buffer().unwrap();
    size
}

fn sealed(values: &[Vec<u8>], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression, 0);
    for value in values {
        builder.append(1_700_000_000_000, None, Some(value), &[]).unwrap();
    }
    builder.seal().to_bytes(None, 0, false).freeze()
}

fn decode(set: &Bytes, crc: bool) -> usize {
    let mut sum = 0;
    for batch in batches(set.clone()) {
        let batch = batch.unwrap();
        if crc {
            batch.verify_crc().unwrap();
        }
        for record in &batch.open(&Limits::DEFAULT).unwrap() {
            sum += record.value.map_or(0, <[u8]>::len) + record.offset as usize;
        }
    }
    sum
}

fn peer_records(values: &[Vec<u8>]) -> Vec<peer::Record> {
    let record = |(index, value): (usize, &Vec<u8>)| peer::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: peer::TimestampType::Creation,
        offset: index as i64,
        // Its encoder starts a new batch wherever offset and sequence do not go up together.
        sequence: index as i32,
        timestamp: 1_700_000_000_000 + index as i64,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Default::default(),
    };
    values.iter().enumerate().map(record).collect()
}

fn peer_encode(records: &[peer::Record]) -> Bytes {
    let mut set = BytesMut::new();
    let options = peer::RecordEncodeOptions { version: 2, compression: peer::Compression::None };
    peer::RecordBatchEncoder::encode(&mut set, records, &options).unwrap();
    set.freeze()
}

//! Zstandard frames (RFC 8878), by structured-zstd.

use structured_zstd::decoding::{
    FrameDecoder, errors::FrameDecoderError, find_frame_compressed_size, frame_decompressed_bound,
    read_frame_header_info,
};
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

use super::{Failure, Limits, MAX_KEPT_BYTES, beyond};

/// Java's is 3. Of records in batches of 128 KiB this encoder's level 1 makes as little as its own level 3 and as that of
/// the C library (events 0.97 to 1.02 of it, source code 1.07), in 0.56 of the time: `cargo bench --bench codec -- zstd`.
const DEFAULT_LEVEL: i32 = 1;
/// The default of zstd's own decoder; no level of any encoder needs more unasked.
const MAX_WINDOW_BYTES: u64 = 128 << 20;
/// The most that one block holds, and the least that it takes: a header of three bytes and a byte.
const MAX_BLOCK_BYTES: u64 = 128 << 10;
const MIN_BLOCK_BYTES: u64 = 4;

/// Keeps the compressor's tables from batch to batch.
#[derive(Default)]
pub(super) struct Encoder(Option<(i32, FrameCompressor)>);

impl Encoder {
    pub(super) fn compress(&mut self, input: &[u8], level: Option<i32>, output: &mut Vec<u8>) {
        let level = level.unwrap_or(DEFAULT_LEVEL);
        if self.0.as_ref().is_some_and(|(kept, _)| *kept != level) {
            self.0 = None;
        }
        let (_, compressor) =
            self.0.get_or_insert_with(|| (level, FrameCompressor::new(CompressionLevel::from_level(level))));
        compressor.compress_independent_frame_into(input, output);
        // For 1 MB it holds 1.7 MB at level 3, 6 MB at level 9 and 20 MB at level 19.
        if compressor.heap_size() > MAX_KEPT_BYTES {
            self.0 = None;
        }
    }
}

/// All frames, one after the other, each straight into the output.
pub(super) fn decompress(mut input: &[u8], limits: &Limits, output: &mut Vec<u8>) -> Result<(), Failure> {
    let max_bytes = limits.batch_decompressed_max_bytes;
    let mut decoder = FrameDecoder::new();
    while !input.is_empty() {
        let size = find_frame_compressed_size(input).map_err(damaged)?;
        let (frame, rest) = input.split_at_checked(size).ok_or("a zstd frame is cut off")?;
        input = rest;
        let start = output.len();
        let bound = frame_bound(frame)?;
        output.resize(start + bound.min(max_bytes - start), 0);
        let written = decoder.decode_all(frame, &mut output[start..]).map_err(|error| match error {
            FrameDecoderError::TargetTooSmall if bound > max_bytes - start => beyond(max_bytes),
            error => damaged(error),
        })?;
        output.truncate(start + written);
    }
    Ok(())
}

/// The most that `frame` can decompress to, by its own word; a word that its size belies is an error.
fn frame_bound(frame: &[u8]) -> Result<usize, Failure> {
    if let Ok(info) = read_frame_header_info(frame, false)
        && info.window_size > MAX_WINDOW_BYTES
    {
        return Err("its zstd window is larger than 128 MiB".into());
    }
    let bound = frame_decompressed_bound(frame).map_err(damaged)?;
    if bound > frame.len() as u64 / MIN_BLOCK_BYTES * MAX_BLOCK_BYTES {
        return Err("a zstd frame claims more bytes than it can hold".into());
    }
    Ok(usize::try_from(bound).unwrap_or(usize::MAX))
}

fn damaged(error: impl std::fmt::Debug) -> Failure {
    Failure::Damaged(format!("{error:?}").into())
}

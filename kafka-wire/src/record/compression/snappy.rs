//! Snappy in the framing of snappy-java ("xerial"): a header, then blocks with their sizes.

use std::io;

use snap::raw;

use super::{Failure, Limits, beyond};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version 1, lowest compatible version 1.
const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// snappy-java's default block.
const BLOCK_BYTES: usize = 32 << 10;
/// A copy of 64 bytes takes 3: no honest block claims to grow more than this.
const MAX_RATIO: usize = 22;

/// Keeps the table of the encoder from batch to batch.
pub(super) struct Encoder(raw::Encoder);

impl Default for Encoder {
    fn default() -> Self {
        Self(raw::Encoder::new())
    }
}

impl Encoder {
    pub(super) fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        output.extend_from_slice(&HEADER);
        for block in input.chunks(BLOCK_BYTES) {
            let size_at = output.len();
            let start = size_at + 4;
            output.resize(start + raw::max_compress_len(block.len()), 0);
            let size = self.0.compress(block, &mut output[start..])?;
            output[size_at..start].copy_from_slice(&(size as u32).to_be_bytes());
            output.truncate(start + size);
        }
        Ok(())
    }
}

/// Framed, or a single raw block as some clients write it.
pub(super) fn decompress(input: &[u8], limits: &Limits, output: &mut Vec<u8>) -> Result<(), Failure> {
    let mut decoder = raw::Decoder::new();
    let mut rest = input;
    if !rest.starts_with(&MAGIC) {
        return block(&mut decoder, rest, limits, output);
    }
    while !rest.is_empty() {
        // Streams may follow one another.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER.len()..).ok_or("a snappy header is cut off")?;
            continue;
        }
        let (size, blocks) = rest.split_first_chunk().ok_or("a snappy block's size is cut off")?;
        let size =
            usize::try_from(i32::from_be_bytes(*size)).map_err(|_| "a snappy block's size is negative")?;
        let framed = blocks.split_at_checked(size).ok_or("a snappy block is cut off")?;
        block(&mut decoder, framed.0, limits, output)?;
        rest = framed.1;
    }
    Ok(())
}

fn block(
    decoder: &mut raw::Decoder,
    block: &[u8],
    limits: &Limits,
    output: &mut Vec<u8>,
) -> Result<(), Failure> {
    let damaged = |error: snap::Error| Failure::Damaged(error.to_string().into());
    let size = raw::decompress_len(block).map_err(damaged)?;
    if size > block.len() * MAX_RATIO {
        return Err("a snappy block claims more bytes than it can hold".into());
    }
    let start = output.len();
    if size > limits.batch_decompressed_max_bytes - start {
        return Err(beyond(limits.batch_decompressed_max_bytes));
    }
    output.resize(start + size, 0);
    decoder.decompress(block, &mut output[start..]).map_err(damaged)?;
    Ok(())
}

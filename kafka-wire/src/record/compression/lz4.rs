//! LZ4 frames, as `org.apache.kafka.common.compress.Lz4BlockOutputStream` writes them: independent
//! blocks of 64 KiB, no checksums but the header's.

use std::io::{self, Read as _, Write as _};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{Failure, Limits, beyond};

const MAGIC: u32 = 0x184D_2204;
/// An uncompressed block is marked by the highest bit of its size.
const BLOCK_SIZE_MASK: u32 = 0x7fff_ffff;

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, output);
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

/// All frames, one after the other.
pub(super) fn decompress(mut input: &[u8], limits: &Limits, output: &mut Vec<u8>) -> Result<(), Failure> {
    let max_bytes = limits.batch_decompressed_max_bytes;
    output.reserve(max_bytes.min(input.len().saturating_mul(3)));
    while !input.is_empty() {
        let frame;
        (frame, input) = input.split_at_checked(frame_bytes(input)?).ok_or("an lz4 frame is cut off")?;
        let room = (max_bytes - output.len()) as u64;
        let read = FrameDecoder::new(frame).take(room + 1).read_to_end(output)?;
        if read as u64 > room {
            return Err(beyond(max_bytes));
        }
    }
    Ok(())
}

/// Bytes of the frame at the front, its end mark included. `FrameDecoder` takes the end of its input for
/// the end of the frame, so a frame that was cut between two blocks would pass unnoticed.
fn frame_bytes(input: &[u8]) -> Result<usize, Failure> {
    let magic = word_at(input, 0)?;
    let flags = *input.get(4).ok_or("an lz4 frame is cut off")?;
    if magic != MAGIC {
        return Err("it does not start with the magic of an lz4 frame".into());
    }
    let [block_checksum, content_size, content_checksum, dictionary] =
        [0x10, 0x08, 0x04, 0x01].map(|flag| flags & flag != 0);
    let mut at = 7 + if content_size { 8 } else { 0 } + if dictionary { 4 } else { 0 };
    loop {
        let size = word_at(input, at)? & BLOCK_SIZE_MASK;
        at += 4;
        if size == 0 {
            return Ok(at + if content_checksum { 4 } else { 0 });
        }
        at += size as usize + if block_checksum { 4 } else { 0 };
    }
}

fn word_at(input: &[u8], at: usize) -> Result<u32, Failure> {
    let word = input.get(at..).and_then(|rest| rest.first_chunk()).ok_or("an lz4 frame is cut off")?;
    Ok(u32::from_le_bytes(*word))
}

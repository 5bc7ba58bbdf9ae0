//! LZ4 frames, as `org.apache.kafka.common.compress.Lz4BlockOutputStream` writes them: independent
//! blocks of 64 KiB, no checksums but the header's.

use std::io::{self, Cursor, Read as _, Write as _};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use twox_hash::XxHash32;

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

/// All frames, one after the other. Unless `checks_headers`, the checksums of their headers may be wrong.
pub(super) fn decompress(
    mut input: &[u8],
    checks_headers: bool,
    limits: &Limits,
    output: &mut Vec<u8>,
) -> Result<(), Failure> {
    let max_bytes = limits.batch_decompressed_max_bytes;
    output.reserve(max_bytes.min(input.len().saturating_mul(3)));
    while !input.is_empty() {
        let frame;
        (frame, input) = input.split_at_checked(frame_bytes(input)?).ok_or("an lz4 frame is cut off")?;
        let room = (max_bytes - output.len()) as u64;
        let read = if checks_headers {
            FrameDecoder::new(frame).take(room + 1).read_to_end(output)?
        } else {
            FrameDecoder::new(with_right_checksum(frame)?).take(room + 1).read_to_end(output)?
        };
        if read as u64 > room {
            return Err(beyond(max_bytes));
        }
    }
    Ok(())
}

/// `frame` with the checksum that its header should have.
fn with_right_checksum(frame: &[u8]) -> Result<impl io::Read, Failure> {
    let at = header_bytes(frame)? - 1;
    let (header, rest) = frame.split_at_checked(at).ok_or("an lz4 frame is cut off")?;
    // The magic does not count; that it did was the mistake.
    let descriptor = header.get(4..).unwrap_or_default();
    let checksum = (XxHash32::oneshot(0, descriptor) >> 8) as u8;
    Ok(header.chain(Cursor::new([checksum])).chain(rest.get(1..).unwrap_or_default()))
}

/// Bytes of the frame at the front, its end mark included. `FrameDecoder` takes the end of its input for
/// the end of the frame, so a frame that was cut between two blocks would pass unnoticed.
fn frame_bytes(input: &[u8]) -> Result<usize, Failure> {
    let mut at = header_bytes(input)?;
    let flags = input.get(4).copied().unwrap_or_default();
    let [block_checksum, content_checksum] = [0x10, 0x04].map(|flag| flags & flag != 0);
    loop {
        let size = word_at(input, at)? & BLOCK_SIZE_MASK;
        at += 4;
        if size == 0 {
            return Ok(at + if content_checksum { 4 } else { 0 });
        }
        at += size as usize + if block_checksum { 4 } else { 0 };
    }
}

/// Bytes of the frame's header, its checksum included, which is the last.
fn header_bytes(frame: &[u8]) -> Result<usize, Failure> {
    let magic = word_at(frame, 0)?;
    let flags = *frame.get(4).ok_or("an lz4 frame is cut off")?;
    if magic != MAGIC {
        return Err("it does not start with the magic of an lz4 frame".into());
    }
    let [content_size, dictionary] = [0x08, 0x01].map(|flag| flags & flag != 0);
    Ok(7 + if content_size { 8 } else { 0 } + if dictionary { 4 } else { 0 })
}

fn word_at(input: &[u8], at: usize) -> Result<u32, Failure> {
    let word = input.get(at..).and_then(|rest| rest.first_chunk()).ok_or("an lz4 frame is cut off")?;
    Ok(u32::from_le_bytes(*word))
}

//! gzip (RFC 1952), by zlib-rs.

use std::io::{self, Read as _, Write as _};

use flate2::Compression as Level;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Failure, Limits, beyond};

/// Java's and zlib's own default.
const DEFAULT_LEVEL: u32 = 6;

pub(super) fn compress(input: &[u8], level: Option<i32>, output: &mut Vec<u8>) -> io::Result<()> {
    // −1 is the default, as in Java.
    let level = level.and_then(|level| u32::try_from(level).ok()).unwrap_or(DEFAULT_LEVEL);
    let mut encoder = GzEncoder::new(output, Level::new(level));
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

/// All members, one after the other.
pub(super) fn decompress(input: &[u8], limits: &Limits, output: &mut Vec<u8>) -> Result<(), Failure> {
    let max_bytes = limits.batch_decompressed_max_bytes;
    // A guess that most batches fit into, in the input's own order of magnitude.
    output.reserve(max_bytes.min(input.len().saturating_mul(4)));
    MultiGzDecoder::new(input).take(max_bytes as u64 + 1).read_to_end(output)?;
    if output.len() > max_bytes { Err(beyond(max_bytes)) } else { Ok(()) }
}

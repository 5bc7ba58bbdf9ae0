//! The four codecs in the framings that Kafka's Java clients read and write.

#![cfg_attr(
    not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
    allow(dead_code, unused_variables, reason = "without any codec, limits and failures have no user")
)]

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result, shielded};
use crate::protocol::limits::Limits;
use crate::types::Codec;

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

/// A codec and its level, checked: within the codec's range, and compiled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    codec: Codec,
    level: Option<i32>,
}

impl Compression {
    /// No compression.
    pub const NONE: Self = Self { codec: Codec::None, level: None };

    /// `codec` at `level`, or at its default. Ranges are those of Kafka's Java client (`compression.gzip.level` and
    /// so on), and so are defaults but zstd's, Java's being 3: batches of records come out as small at 1, for about
    /// half the work.
    ///
    /// | codec | levels | default |
    /// |---|---|---|
    /// | gzip | 1 to 9, and −1 for the default | 6 |
    /// | lz4 | 1 to 17 | 9 |
    /// | zstd | −131072 to 22 | 1 |
    ///
    /// Levels of lz4 are accepted and make no difference: the encoder here has one, about as fast and as
    /// dense as Java's level 1. snappy has none.
    ///
    /// # Errors
    /// `Config`, when the level is out of range; `Unsupported`, when this build lacks the codec.
    pub fn new(codec: Codec, level: Option<i32>) -> Result<Self> {
        if let Some(level) = level
            && !is_level_of(codec, level)
        {
            return Err(wrong_level(codec, level));
        }
        if is_compiled_in(codec) { Ok(Self { codec, level }) } else { Err(not_compiled_in(codec)) }
    }

    /// Compresses bytes that are no batch, in place, as Kafka compresses batches; answers with what.
    pub(crate) fn apply(self, bytes: &mut BytesMut) -> Codec {
        compress(self, bytes)
    }

    /// The codec.
    pub const fn codec(self) -> Codec {
        self.codec
    }

    /// The level, `None` for the codec's default.
    pub const fn level(self) -> Option<i32> {
        self.level
    }
}

fn levels(codec: Codec) -> Option<RangeInclusive<i32>> {
    match codec {
        Codec::None | Codec::Snappy => None,
        Codec::Gzip => Some(1..=9),
        Codec::Lz4 => Some(1..=17),
        Codec::Zstd => Some(-131_072..=22),
    }
}

fn is_level_of(codec: Codec, level: i32) -> bool {
    let is_gzip_default = codec == Codec::Gzip && level == -1;
    is_gzip_default || levels(codec).is_some_and(|levels| levels.contains(&level))
}

fn wrong_level(codec: Codec, level: i32) -> Error {
    let name = codec.name();
    let hint = match levels(codec) {
        Some(levels) => format!("levels of {name} go from {} to {}", levels.start(), levels.end()),
        None => format!("{name} has no levels"),
    };
    Error::new(ErrorKind::Config, format!("compress with {name} at level {level}")).with_hint(hint)
}

const fn is_compiled_in(codec: Codec) -> bool {
    match codec {
        Codec::None => true,
        Codec::Gzip => cfg!(feature = "gzip"),
        Codec::Snappy => cfg!(feature = "snappy"),
        Codec::Lz4 => cfg!(feature = "lz4"),
        Codec::Zstd => cfg!(feature = "zstd"),
    }
}

fn not_compiled_in(codec: Codec) -> Error {
    let name = codec.name();
    Error::new(ErrorKind::Unsupported, format!("use compression {name}"))
        .with_hint(format!("this build lacks it: enable the cargo feature `{name}` of tidewater-kafka"))
}

/// What a compressor keeps from batch to batch, per thread: its output, and the tables of codecs whose
/// set-up costs more than a small batch does.
#[derive(Default)]
struct Scratch {
    output: Vec<u8>,
    #[cfg(feature = "snappy")]
    snappy: snappy::Encoder,
    #[cfg(feature = "zstd")]
    zstd: zstd::Encoder,
}

/// Memory above this is given back after the batch: that of a compressor, and that of its output.
const MAX_KEPT_BYTES: usize = 8 << 20;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a codec answers, unless it panics.
fn run<T>(codec: Codec, call: impl FnOnce() -> T) -> Option<T> {
    shielded(codec.name(), || {
        #[cfg(test)]
        assert!(!PANICS.take(), "as a test wants it");
        call()
    })
}

#[cfg(test)]
thread_local! {
    static PANICS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The next batch that this thread compresses or decompresses meets a panic.
#[cfg(test)]
pub(crate) fn panic_next() {
    PANICS.set(true);
}

/// Compresses `body` in place and answers what it is compressed with now. The memory stays that of
/// `body`, so that it can be used for the next batch.
pub(super) fn compress(compression: Compression, body: &mut BytesMut) -> Codec {
    if compression.codec == Codec::None {
        return Codec::None;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.output.clear();
        // Writing into memory does not fail, nor should a codec panic: if it ever does, the batch is as right
        // uncompressed, where a batch that is missing would hold up all behind it.
        let done = run(compression.codec, || scratch.compress(compression, body));
        if done.is_none() {
            *scratch = Scratch::default();
        }
        let codec = if matches!(done, Some(Ok(()))) { compression.codec } else { Codec::None };
        if codec != Codec::None {
            body.clear();
            body.extend_from_slice(&scratch.output);
        }
        if scratch.output.capacity() > MAX_KEPT_BYTES {
            scratch.output = Vec::new();
        }
        codec
    })
}

impl Scratch {
    #[cfg_attr(
        not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
        allow(unused_variables, reason = "which arguments are used depends on the codecs compiled in")
    )]
    fn compress(&mut self, compression: Compression, input: &[u8]) -> io::Result<()> {
        let output = &mut self.output;
        match compression.codec {
            #[cfg(feature = "gzip")]
            Codec::Gzip => gzip::compress(input, compression.level, output),
            #[cfg(feature = "snappy")]
            Codec::Snappy => self.snappy.compress(input, output),
            #[cfg(feature = "lz4")]
            Codec::Lz4 => lz4::compress(input, output),
            #[cfg(feature = "zstd")]
            Codec::Zstd => {
                self.zstd.compress(input, compression.level, output);
                Ok(())
            }
            // `Compression::new` lets no codec through that is not compiled in.
            #[allow(unreachable_patterns, reason = "reached when a codec is compiled out")]
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Why some bytes could not be decompressed.
#[derive(Debug)]
enum Failure {
    /// They are not what they should be.
    Damaged(Cow<'static, str>),
    /// They would grow beyond a limit, which is named with its value.
    TooLarge(&'static str, u64),
    /// This build cannot tell.
    NotCompiledIn,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string().into())
    }
}

impl From<&'static str> for Failure {
    fn from(reason: &'static str) -> Self {
        Self::Damaged(reason.into())
    }
}

/// What did not fit into `batch_decompressed_max_bytes`.
fn beyond(max_bytes: usize) -> Failure {
    Failure::TooLarge("batch_decompressed_max_bytes", max_bytes as u64)
}

/// Decompresses the records of a batch within `limits`.
///
/// # Errors
/// `CorruptRecords`, when they are damaged or too large; `Unsupported`, when the codec is compiled out.
pub(super) fn decompress(codec: Codec, input: &[u8], limits: &Limits) -> Result<Bytes> {
    decompress_legacy(codec, 2, input, limits)
}

/// As [`decompress`], for the message format `magic`: clients that wrote format v0 got the checksum in the
/// headers of LZ4 frames wrong, so that it says nothing there (KIP-57).
#[cfg_attr(not(feature = "lz4"), allow(unused_variables, reason = "only LZ4 depends on the format"))]
pub(super) fn decompress_legacy(codec: Codec, magic: i8, input: &[u8], limits: &Limits) -> Result<Bytes> {
    let mut output = Vec::new();
    let done = run(codec, || match codec {
        Codec::None => {
            output.extend_from_slice(input);
            Ok(())
        }
        #[cfg(feature = "gzip")]
        Codec::Gzip => gzip::decompress(input, limits, &mut output),
        #[cfg(feature = "snappy")]
        Codec::Snappy => snappy::decompress(input, limits, &mut output),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => lz4::decompress(input, magic > 0, limits, &mut output),
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::decompress(input, limits, &mut output),
        #[allow(unreachable_patterns, reason = "reached when a codec is compiled out")]
        _ => Err(Failure::NotCompiledIn),
    });
    let done = done.unwrap_or_else(|| Err("the decompressor panicked".into()));
    done.map_err(|failure| decompression_failed(codec, input.len(), failure))?;
    Ok(Bytes::from(output))
}

fn decompression_failed(codec: Codec, input_bytes: usize, failure: Failure) -> Error {
    let attempted = format!("decompress a record batch ({}, {input_bytes} bytes)", codec.name());
    match failure {
        Failure::Damaged(reason) => Error::new(ErrorKind::CorruptRecords, format!("{attempted}: {reason}")),
        Failure::TooLarge(limit, value) => {
            Error::new(ErrorKind::CorruptRecords, format!("{attempted}: it exceeds `{limit}` = {value}"))
                .with_hint(format!("raise `{limit}` if such batches are meant to be there"))
        }
        Failure::NotCompiledIn => not_compiled_in(codec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "lz4")]
    #[test]
    fn a_codec_that_panics_costs_compression_and_no_record() {
        let compression = Compression::new(Codec::Lz4, None).unwrap();
        let plain = BytesMut::from(&[7; 1000][..]);
        let mut body = plain.clone();
        panic_next();
        assert_eq!(compress(compression, &mut body), Codec::None);
        assert_eq!(body, plain);
        assert_eq!(compress(compression, &mut body), Codec::Lz4);
        panic_next();
        let error = decompress(Codec::Lz4, &body, &Limits::DEFAULT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptRecords);
        assert!(error.to_string().contains("the decompressor panicked"), "{error}");
        assert_eq!(decompress(Codec::Lz4, &body, &Limits::DEFAULT).unwrap(), plain);
    }

    #[test]
    fn a_codec_that_is_compiled_out_says_which_feature_it_needs() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            if is_compiled_in(codec) {
                continue;
            }
            for error in [
                Compression::new(codec, None).unwrap_err(),
                decompress(codec, &[], &Limits::DEFAULT).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                let feature = format!("enable the cargo feature `{}`", codec.name());
                assert!(error.to_string().contains(&feature), "{error}");
            }
        }
    }
}

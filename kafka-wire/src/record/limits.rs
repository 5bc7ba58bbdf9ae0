//! How much a record batch may ask of its reader.

/// Bounds on what one batch may make its reader do. An error that comes from one of them names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a compressed batch may grow to: 128 MiB. Java has no such bound and delivers a gzip bomb;
    /// a batch is at most `message.max.bytes` (1 MiB by default) compressed, and 128 times that is more
    /// than honest data reaches.
    pub decompressed_batch_bytes: usize,
    /// The largest zstd window: 128 MiB, the default of zstd's own decoder.
    pub zstd_window_bytes: u64,
    /// Headers of one record: 10,000. They cost two bytes each on the wire.
    pub headers_per_record: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { decompressed_batch_bytes: 128 << 20, zstd_window_bytes: 128 << 20, headers_per_record: 10_000 }
    }
}

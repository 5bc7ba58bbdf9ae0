//! How much a peer may ask of this client's memory.

use std::time::Duration;

/// Limits on what a peer sends. Each error that comes from one names it and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame, without its 4 bytes of length. 100 MiB: what other clients take, and twice Java's
    /// default `fetch.max.bytes`.
    pub frame_max_bytes: usize,
    /// Largest frame before the peer has authenticated itself. 64 KiB: handshake messages are small.
    pub frame_before_authentication_max_bytes: usize,
    /// Largest answer to the first ApiVersions. 1 MiB: it comes before authentication, with all features.
    pub first_api_versions_max_bytes: usize,
    /// Most items of one array. 10⁶.
    pub array_max_items: usize,
    /// Most items of all arrays of one message. 4 × 10⁶: a decoded item can take 200 times its bytes.
    pub message_max_items: usize,
    /// Most tagged fields of one struct. 4,096: Kafka's own use at most four.
    pub tags_max: usize,
    /// Most bytes of one record batch once decompressed. 128 MiB.
    pub batch_decompressed_max_bytes: usize,
    /// Most headers of one record. 10,000.
    pub record_headers_max: usize,
    /// Longest pause that a broker can ask for (`throttle_time_ms`). 5 minutes.
    pub throttle_max: Duration,
}

impl Limits {
    /// The defaults, as said at each field.
    pub const DEFAULT: Self = Self {
        frame_max_bytes: 100 << 20,
        frame_before_authentication_max_bytes: 64 << 10,
        first_api_versions_max_bytes: 1 << 20,
        array_max_items: 1_000_000,
        message_max_items: 4_000_000,
        tags_max: 4096,
        batch_decompressed_max_bytes: 128 << 20,
        record_headers_max: 10_000,
        throttle_max: Duration::from_secs(300),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

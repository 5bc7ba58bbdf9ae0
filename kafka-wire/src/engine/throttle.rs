//! How long a broker asks to be left alone (KIP-219).

use std::time::Duration;

use crate::protocol::guard;
use crate::protocol::limits::Limits;
use crate::protocol::request::Response;

/// Longer requests to wait are shortened to this: a broken or hostile broker must not stop a client.
pub(super) const LONGEST: Duration = Limits::DEFAULT.throttle_max;

/// The `throttle_time_ms` of an answer that begins with it. Produce has it elsewhere: whoever decodes that
/// calls [`Core::throttle`](super::Core::throttle).
pub(super) fn throttle_time(response: &Response) -> Option<Duration> {
    if !guard::begins_with_throttle_time(response.api, response.version) {
        return None;
    }
    let millis = i32::from_be_bytes(*response.body.first_chunk::<4>()?);
    // Negative ones mean nothing.
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(LONGEST))
}

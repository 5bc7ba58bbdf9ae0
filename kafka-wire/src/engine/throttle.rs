//! How long a broker asks to be left alone (KIP-219).

use std::time::Duration;

use crate::protocol::messages::ApiKey;
use crate::protocol::request::Response;

/// Longer requests to wait are shortened to this: a broken or hostile broker must not stop a client.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// The `throttle_time_ms` of an answer, for the APIs in which it is the first field. Produce has it
/// elsewhere: whoever decodes that calls [`Core::throttle`](super::Core::throttle).
pub(super) fn throttle_time(response: &Response) -> Option<Duration> {
    use ApiKey::*;
    // From Kafka's message specs: the first version with the field.
    let first = match response.api {
        Produce | ApiVersions | OffsetDelete | SaslHandshake | SaslAuthenticate => return None,
        CreateDelegationToken | DescribeDelegationToken | ExpireDelegationToken | RenewDelegationToken => {
            return None;
        }
        Metadata | OffsetCommit | OffsetFetch => 3,
        CreateTopics | JoinGroup | ListOffsets | OffsetForLeaderEpoch => 2,
        Fetch | FindCoordinator | Heartbeat | LeaveGroup | ListGroups | SyncGroup | DescribeGroups => 1,
        DeleteTopics => 1,
        _ => 0,
    };
    if response.version < first {
        return None;
    }
    let millis = i32::from_be_bytes(*response.body.first_chunk::<4>()?);
    wait(millis)
}

/// A throttle time from the wire; negative ones mean nothing.
pub(super) fn wait(millis: i32) -> Option<Duration> {
    let millis = u64::try_from(millis).ok().filter(|millis| *millis > 0)?;
    Some(Duration::from_millis(millis).min(LONGEST))
}

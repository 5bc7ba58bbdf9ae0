//! What an engine sends, for the tests of all roles.

use std::time::Instant;

use bytes::Bytes;

use super::super::{ConnectionId, Engine, Output, Role};
use crate::protocol::header::{ReceivedRequest, read_request};

impl<R: Role> Engine<R> {
    /// The next request that it sends to a broker; each is there when it is dialled, and none wants a login.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<(ConnectionId, ReceivedRequest)> {
        loop {
            match self.poll_output()? {
                Output::Dial { connection, .. } => self.handle_connected(now, connection),
                Output::Transmit { connection, chunks, .. } => {
                    let frame = Bytes::from(chunks.concat());
                    return Some((connection, read_request(&frame.slice(4..)).unwrap()));
                }
                Output::Login { .. } => panic!("nobody asks who this is"),
                Output::Close { .. } => {}
            }
        }
    }
}

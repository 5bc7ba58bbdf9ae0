//! Cuts a stream of bytes into frames: 4 bytes of length, then as many bytes.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};

const LENGTH_BYTES: usize = 4;
/// Room that is made for a read when nothing is known about what comes.
const READ_BYTES: usize = 64 << 10;
/// Room with which a read is still worth its system call.
const READ_MIN_BYTES: usize = 4 << 10;
/// Room that is made on the word of a length alone, so that most fetch answers are never moved; more comes
/// as the bytes do.
const TRUSTED_BYTES: usize = 8 << 20;

/// Collects bytes, split anywhere, and hands out whole frames that share their memory.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    max_bytes: usize,
}

impl FrameReader {
    /// For frames of at most `max_bytes` (see [`super::limits::Limits`]), their length excluded.
    pub fn new(max_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), max_bytes }
    }

    /// Changes the limit for the frames that are still to come, e.g. after authentication.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    /// Appends bytes that were read elsewhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The place to read into, with room for what is known to come: appending here saves a copy.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        let spare = self.buffer.capacity() - self.buffer.len();
        match self.length() {
            Some(length) => {
                let missing = (LENGTH_BYTES + length.min(self.max_bytes)).saturating_sub(self.buffer.len());
                // Doubling what is there, so that a peer that claims much and sends little costs little.
                let room = missing.min(TRUSTED_BYTES.max(self.buffer.len()));
                if spare < room {
                    self.buffer.reserve(room.max(READ_BYTES));
                }
            }
            None if spare < READ_MIN_BYTES => self.buffer.reserve(READ_BYTES),
            None => {}
        }
        &mut self.buffer
    }

    /// The next whole frame, without its length. `None` when more bytes are needed.
    ///
    /// # Errors
    /// As [`split_frame`].
    pub fn next_frame(&mut self) -> Result<Option<Bytes>> {
        match split_frame(&mut self.buffer, self.max_bytes)? {
            Split::Frame(frame) => Ok(Some(frame)),
            Split::Missing(_) => Ok(None),
        }
    }

    /// Whether the stream may end here without cutting a frame short.
    pub fn is_at_boundary(&self) -> bool {
        self.buffer.is_empty()
    }

    fn length(&self) -> Option<usize> {
        frame_length(&self.buffer)
    }
}

/// What [`split_frame`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Split {
    /// A whole frame, without its length; it shares the buffer's memory.
    Frame(Bytes),
    /// No whole frame yet: so many bytes more are needed, or at least so many.
    Missing(usize),
}

/// Takes the next whole frame off the front of `buffer`, for those who keep the buffer themselves.
///
/// # Errors
/// `Protocol` when the length is over the limit or no frame has it; the stream cannot be read any
/// further. A peer that speaks TLS or HTTP is recognised by its first bytes.
pub fn split_frame(buffer: &mut BytesMut, max_bytes: usize) -> Result<Split> {
    let Some(length) = frame_length(buffer) else { return Ok(Split::Missing(LENGTH_BYTES - buffer.len())) };
    if !(LENGTH_BYTES..=max_bytes).contains(&length) {
        return Err(refuse(buffer, max_bytes));
    }
    let missing = (LENGTH_BYTES + length).saturating_sub(buffer.len());
    if missing > 0 {
        return Ok(Split::Missing(missing));
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Split::Frame(buffer.split_to(length).freeze()))
}

fn frame_length(buffer: &[u8]) -> Option<usize> {
    let length = buffer.first_chunk::<LENGTH_BYTES>()?;
    Some(u32::from_be_bytes(*length) as usize)
}

#[cold]
fn refuse(buffer: &[u8], max_bytes: usize) -> Error {
    let start = buffer.first_chunk::<LENGTH_BYTES>().copied().unwrap_or_default();
    if let Some((speaks, hint)) = recognise(start) {
        return Error::new(ErrorKind::Protocol, format!("read a frame: the peer speaks {speaks}, not Kafka"))
            .with_hint(hint);
    }
    let length = i32::from_be_bytes(start);
    let refused = format!("read a frame of {length} bytes, allowed are {LENGTH_BYTES} to {max_bytes}");
    Error::new(ErrorKind::Protocol, refused)
        .with_hint("check that a Kafka listener has this port (`bootstrap.servers`, `advertised.listeners`)")
}

/// What listens there and what to do, from the first bytes that it sent.
fn recognise(start: [u8; LENGTH_BYTES]) -> Option<(&'static str, &'static str)> {
    match &start {
        // A record of alert, handshake or data: content type, then version 3.0 to 3.4.
        [0x14..=0x17, 0x03, 0x00..=0x04, _] => Some((
            "TLS",
            "set `security.protocol` to SSL or SASL_SSL, or take the port of a plaintext listener",
        )),
        b"HTTP" | b"GET " | b"POST" | b"HEAD" | b"PUT " => {
            Some(("HTTP", "set `bootstrap.servers` to the port of a Kafka listener"))
        }
        b"SSH-" => Some(("SSH", "set `bootstrap.servers` to the port of a Kafka listener")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn error_of(bytes: &[u8]) -> String {
        let mut reader = FrameReader::new(LIMIT);
        reader.push(bytes);
        let error = reader.next_frame().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        error.to_string()
    }

    #[test]
    fn frames_come_out_whole_wherever_the_stream_is_split() {
        let stream = [&[0, 0, 0, 4][..], b"abcd", &[0, 0, 0, 6], b"efghij", &[0, 0, 0, 5], b"klmno"].concat();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut reader = FrameReader::new(LIMIT);
                let mut frames = Vec::new();
                for part in [&stream[..first], &stream[first..second], &stream[second..]] {
                    reader.read_buffer().extend_from_slice(part);
                    while let Some(frame) = reader.next_frame().unwrap() {
                        frames.push(frame);
                    }
                }
                assert_eq!(frames, ["abcd", "efghij", "klmno"], "split at {first} and {second}");
                assert!(reader.is_at_boundary());
            }
        }
    }

    #[test]
    fn the_end_inside_a_frame_is_not_a_boundary() {
        let stream = [0, 0, 0, 4, 1, 2, 3, 4];
        for end in 1..stream.len() {
            let mut reader = FrameReader::new(LIMIT);
            reader.push(&stream[..end]);
            assert_eq!(reader.next_frame().unwrap(), None);
            assert!(!reader.is_at_boundary(), "{end} bytes");
        }
    }

    #[test]
    fn a_length_that_no_frame_has_is_refused_before_memory_is_taken() {
        for length in [0x7fff_ffff_u32, 0xffff_ffff, 0, 1, 2, 3, LIMIT as u32 + 1] {
            let mut reader = FrameReader::new(LIMIT);
            reader.push(&length.to_be_bytes());
            let capacity = reader.buffer.capacity();
            assert!(reader.next_frame().is_err(), "{length}");
            assert_eq!(reader.buffer.capacity(), capacity);
        }
        assert!(error_of(&[0x7f, 0xff, 0xff, 0xff]).contains("2147483647 bytes, allowed are 4 to 1000"));
    }

    #[test]
    fn a_length_is_trusted_for_eight_mebibytes_and_no_more() {
        let mut reader = FrameReader::new(100 << 20);
        reader.push(&(100u32 << 20).to_be_bytes());
        assert_eq!(reader.next_frame().unwrap(), None);
        assert!(reader.read_buffer().capacity() < 10 << 20);
    }

    #[test]
    fn tls_and_http_are_told_by_name_with_the_property_to_set() {
        let tls = error_of(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50]);
        assert!(tls.contains("speaks TLS") && tls.contains("security.protocol"), "{tls}");
        let http = error_of(b"HTTP/1.1 400 Bad Request\r\n");
        assert!(http.contains("speaks HTTP") && http.contains("bootstrap.servers"), "{http}");
    }

    #[test]
    fn the_limit_can_be_raised_once_the_peer_is_known() {
        let mut reader = FrameReader::new(4);
        reader.push(&[0, 0, 0, 5, 1, 2, 3, 4, 5]);
        assert!(reader.next_frame().is_err());
        reader.set_max_bytes(5);
        assert_eq!(reader.next_frame().unwrap().unwrap(), &[1, 2, 3, 4, 5][..]);
    }
}

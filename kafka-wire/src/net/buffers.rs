//! Receive buffers that are used again once nobody refers to what was read into them.
//!
//! A fetched megabyte in fresh memory costs more time in page faults than in everything else done with
//! it. Frames are split off a buffer without copying, so it is busy for as long as the application keeps
//! a batch; meanwhile another one takes its place, and it waits here for its readers to let go.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Room for a read when nothing is known about what comes.
const READ_BYTES: usize = 16 << 10;
/// Room that is made on the word of a frame's length alone; beyond it, as much again as has come.
const TRUSTED_BYTES: usize = 16 << 20;
/// Buffers that wait to be used again: so many, and so many bytes, at most.
const WAITING_MAX: usize = 32;
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The buffers of all connections of a driver.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    waiting: VecDeque<(BytesMut, usize)>,
    waiting_bytes: usize,
}

/// The buffer that a connection reads into.
#[derive(Debug, Default)]
pub(super) struct ReceiveBuffer {
    pub(super) bytes: BytesMut,
    /// Of the whole allocation, of which `bytes` is a part.
    allocated: usize,
    /// The largest of the last frames: what the next one may need.
    expected: usize,
}

impl Buffers {
    /// Makes room in `buffer` for the `missing` bytes of the frame begun in it, so that the frame lies in
    /// one piece.
    pub(super) fn make_room(&mut self, buffer: &mut ReceiveBuffer, missing: usize) {
        let begun = buffer.bytes.len();
        let wanted = if begun > 4 {
            buffer.expected = buffer.expected.max((begun + missing).min(TRUSTED_BYTES));
            missing.min(TRUSTED_BYTES.max(begun)).max(READ_BYTES)
        } else {
            // Sizes vary; the expectation sinks slowly and is raised at once.
            buffer.expected -= buffer.expected / 16;
            buffer.expected.max(READ_BYTES)
        };
        let room = buffer.bytes.capacity() - begun;
        // Between frames a read may use up what is left, unless that is next to nothing.
        if room >= wanted || (begun == 0 && room >= READ_BYTES && room >= wanted / 2) {
            return;
        }
        if buffer.bytes.try_reclaim(wanted) {
            return;
        }
        let (mut fresh, allocated) = self.take(begun + wanted);
        fresh.extend_from_slice(&buffer.bytes);
        let mut old = std::mem::replace(&mut buffer.bytes, fresh);
        old.clear();
        let old_bytes = std::mem::replace(&mut buffer.allocated, allocated);
        self.put(old, old_bytes);
    }

    fn take(&mut self, wanted: usize) -> (BytesMut, usize) {
        let free = self.waiting.iter_mut().position(|(buffer, _)| buffer.try_reclaim(wanted));
        match free.and_then(|index| self.waiting.remove(index)) {
            Some((buffer, allocated)) => {
                self.waiting_bytes -= allocated;
                (buffer, allocated)
            }
            None => {
                // A little more than this frame, so that one of about its size fits too.
                let size = (wanted + wanted / 8).next_multiple_of(READ_BYTES);
                (BytesMut::with_capacity(size), size)
            }
        }
    }

    fn put(&mut self, buffer: BytesMut, allocated: usize) {
        if allocated == 0 {
            return;
        }
        self.waiting_bytes += allocated;
        self.waiting.push_back((buffer, allocated));
        while self.waiting.len() > WAITING_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
            let Some((_, allocated)) = self.waiting.pop_front() else { return };
            self.waiting_bytes -= allocated;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, Bytes};

    use super::*;

    /// Reads a frame of `size` bytes, of which the first read brings `first`.
    fn read(buffers: &mut Buffers, buffer: &mut ReceiveBuffer, size: usize, first: usize) -> Bytes {
        buffers.make_room(buffer, 4);
        buffer.bytes.put_bytes(7, first);
        if size > first {
            buffers.make_room(buffer, size - first);
            let at = buffer.bytes.as_ptr();
            buffer.bytes.put_bytes(8, size - first);
            assert_eq!(at, buffer.bytes.as_ptr(), "there was no room for the frame");
        }
        buffer.bytes.split_to(size).freeze()
    }

    #[test]
    fn memory_that_was_let_go_is_used_again() {
        let (mut buffers, mut buffer) = (Buffers::default(), ReceiveBuffer::default());
        let mut addresses = std::collections::BTreeSet::new();
        let mut held = VecDeque::new();
        for _ in 0..100 {
            let frame = read(&mut buffers, &mut buffer, 1 << 20, 9000);
            assert!(frame[..9000].iter().all(|b| *b == 7) && frame[9000..].iter().all(|b| *b == 8));
            addresses.insert(frame.as_ptr() as usize >> 20);
            held.push_back(frame);
            if held.len() > 2 {
                held.pop_front();
            }
        }
        // Two are held and one is read into; each allocation spans up to three megabyte addresses.
        assert!(addresses.len() <= 12, "{} places", addresses.len());
    }

    #[test]
    fn what_waits_is_bounded_and_a_length_alone_buys_little() {
        let (mut buffers, mut buffer) = (Buffers::default(), ReceiveBuffer::default());
        let frames: Vec<Bytes> = (0..100).map(|_| read(&mut buffers, &mut buffer, 1 << 20, 5000)).collect();
        assert!(buffers.waiting_bytes <= WAITING_BYTES_MAX && buffers.waiting.len() <= WAITING_MAX);
        drop(frames);
        let mut hostile = ReceiveBuffer::default();
        hostile.bytes.put_bytes(0, 8);
        buffers.make_room(&mut hostile, 100 << 20);
        assert!(hostile.bytes.capacity() <= 2 * TRUSTED_BYTES);
    }
}

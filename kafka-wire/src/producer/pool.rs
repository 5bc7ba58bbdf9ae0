//! The producer's memory: a hard bound, and buffers that are used again.

use bytes::BytesMut;

/// Counts the bytes that batches hold, and keeps what they return.
#[derive(Debug)]
pub(crate) struct Pool {
    limit: usize,
    /// Taken by batches.
    used: usize,
    /// Kept in `free`.
    kept: usize,
    free: Vec<BytesMut>,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: 0, kept: 0, free: Vec::new() }
    }

    /// A buffer of at least `bytes`, or more up to four times that when one was returned; with what it
    /// counts for. `None` when that much is not left.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<(BytesMut, usize)> {
        let fits = |buffer: &BytesMut| (bytes..=bytes.saturating_mul(4)).contains(&buffer.capacity());
        // The last one returned is the one most likely still in the processor's cache.
        if let Some(place) = self.free.iter().rposition(fits)
            && self.used + self.free[place].capacity() <= self.limit
        {
            let buffer = self.free.swap_remove(place);
            self.kept -= buffer.capacity();
            self.used += buffer.capacity();
            let taken = buffer.capacity();
            return Some((buffer, taken));
        }
        self.grow(bytes).then(|| (BytesMut::with_capacity(bytes), bytes))
    }

    /// Takes `bytes` more for a buffer that grows by itself; `false` when they are not left.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        if self.used + bytes > self.limit {
            return false;
        }
        self.used += bytes;
        // What is kept for later counts as free, so it has to give way.
        while self.used + self.kept > self.limit
            && let Some(buffer) = self.free.pop()
        {
            self.kept -= buffer.capacity();
        }
        true
    }

    /// Returns what a batch counted for, and its buffer unless someone still reads it.
    pub(crate) fn give_back(&mut self, bytes: usize, buffer: Option<BytesMut>) {
        self.used -= bytes.min(self.used);
        if let Some(mut buffer) = buffer {
            buffer.clear();
            if self.used + self.kept + buffer.capacity() <= self.limit {
                self.kept += buffer.capacity();
                self.free.push(buffer);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_the_limit_in_use_and_kept_together() {
        let mut pool = Pool::new(100);
        let (a, taken_a) = pool.take(60).unwrap();
        assert!(pool.take(41).is_none(), "60 of 100 are taken");
        let (b, taken_b) = pool.take(40).unwrap();
        assert!(!pool.grow(1));
        pool.give_back(taken_a, Some(a));
        pool.give_back(taken_b, Some(b));
        assert_eq!((pool.used, pool.kept), (0, 100));
        assert!(pool.grow(50));
        assert!(pool.used + pool.kept <= 100, "kept buffers gave way: {pool:?}");
    }

    #[test]
    fn a_returned_buffer_is_used_again_unless_it_is_far_too_large() {
        let mut pool = Pool::new(10_000);
        let (buffer, taken) = pool.take(1000).unwrap();
        let address = buffer.as_ptr();
        pool.give_back(taken, Some(buffer));
        let (small, taken_small) = pool.take(100).unwrap();
        assert_ne!(small.as_ptr(), address, "1000 bytes for 100 would waste nine tenths");
        let (again, taken) = pool.take(500).unwrap();
        assert_eq!((again.as_ptr(), taken), (address, 1000));
        assert_eq!(pool.used(), taken + taken_small);
    }
}

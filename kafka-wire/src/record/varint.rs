//! Zigzag varints as `org.apache.kafka.common.utils.ByteUtils` writes them, and a cursor that reads them.

/// What is wrong with some bytes, in words that complete "cannot read the batch: …".
pub(super) type Malformed = &'static str;

const TOO_LONG: Malformed = "varint too long";
const CUT_OFF: Malformed = "the data ends inside a record";

/// Bytes that `value` takes as a varint: 1 to 5.
pub(super) const fn varint_size(value: i32) -> usize {
    unsigned_size(zigzag32(value) as u64)
}

/// Bytes that `value` takes as a varlong: 1 to 10.
pub(super) const fn varlong_size(value: i64) -> usize {
    unsigned_size(zigzag64(value))
}

const fn unsigned_size(value: u64) -> usize {
    // Seven bits a byte; zero takes one.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// A few varints side by side, so that a record's head goes into the batch in one piece.
pub(super) struct Head {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl Head {
    /// Length (5), attributes (1), timestamp (10), offset (5), key length (5).
    const CAPACITY: usize = 26;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], len: 0 }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    pub(super) fn varint(&mut self, value: i32) {
        self.unsigned(u64::from(zigzag32(value)));
    }

    #[inline]
    pub(super) fn varlong(&mut self, value: i64) {
        self.unsigned(zigzag64(value));
    }

    #[inline]
    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }
}

/// Reads from the front of some bytes; each read either fits or is an error.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(*array)
    }

    /// A length and that many bytes; −1 is null, anything below is an error (Java reads it as null).
    #[inline]
    pub(super) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.varint()? {
            len @ 0.. => self.take(len as usize).map(Some),
            -1 => Ok(None),
            _ => Err("a length below −1"),
        }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<i32, Malformed> {
        let value = match self.short() {
            Some(value) => value,
            None => self.long(5, 0x0f)? as u32,
        };
        Ok((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    #[inline]
    pub(super) fn varlong(&mut self) -> Result<i64, Malformed> {
        let value = match self.short() {
            Some(value) => u64::from(value),
            None => self.long(10, 0x01)?,
        };
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// One to three bytes, unrolled: nearly all varints of a batch are that short.
    #[inline]
    fn short(&mut self) -> Option<u32> {
        let (value, rest) = match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => (u32::from(a), rest),
            [a, b, ref rest @ ..] if b < 0x80 => (u32::from(a & 0x7f) | u32::from(b) << 7, rest),
            [a, b, c, ref rest @ ..] if c < 0x80 => {
                (u32::from(a & 0x7f) | u32::from(b & 0x7f) << 7 | u32::from(c) << 14, rest)
            }
            _ => return None,
        };
        self.rest = rest;
        Some(value)
    }

    /// At most `max_bytes` bytes, of which the last one is at most `max_last`.
    #[cold]
    fn long(&mut self, max_bytes: usize, max_last: u8) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().take(max_bytes).enumerate() {
            if index + 1 == max_bytes && byte > max_last {
                return Err(TOO_LONG);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(CUT_OFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_bytes_agree_and_come_back() {
        for shift in 0..64 {
            for value in [(1i64 << shift), (1i64 << shift).wrapping_sub(1), (1i64 << shift).wrapping_neg()] {
                let mut head = Head::new();
                head.varlong(value);
                assert_eq!(head.as_slice().len(), varlong_size(value), "{value}");
                assert_eq!(Cursor::new(head.as_slice()).varlong(), Ok(value));
                let value = value as i32;
                let mut head = Head::new();
                head.varint(value);
                assert_eq!(head.as_slice().len(), varint_size(value), "{value}");
                assert_eq!(Cursor::new(head.as_slice()).varint(), Ok(value));
            }
        }
    }

    #[test]
    fn a_varint_of_six_bytes_or_of_more_than_32_bits_is_refused() {
        assert_eq!(Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).varint(), Err(TOO_LONG));
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x7f]).varint(), Err(TOO_LONG));
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Ok(i32::MIN));
        assert_eq!(Cursor::new(&[0xff; 10]).varlong(), Err(TOO_LONG));
        assert_eq!(Cursor::new(&[0x80, 0x80]).varint(), Err(CUT_OFF));
        assert_eq!(Cursor::new(&[]).varint(), Err(CUT_OFF));
    }
}

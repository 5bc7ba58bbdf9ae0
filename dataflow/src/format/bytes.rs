//! Bytes as they are.

use super::{Decode, Encode, FormatError};

/// Reads and writes values as they are. Kafka's null is none when it is read, and written as an empty value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes;

impl Decode for Bytes {
    type Item = Option<Vec<u8>>;

    fn decode(&mut self, value: Option<&[u8]>) -> Result<Option<Vec<u8>>, FormatError> {
        Ok(value.map(<[u8]>::to_vec))
    }
}

impl Encode for Bytes {
    type Item = Option<Vec<u8>>;

    fn encode(&mut self, item: &Option<Vec<u8>>, out: &mut Vec<u8>) -> Result<(), FormatError> {
        out.extend_from_slice(item.as_deref().unwrap_or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_as_they_are() {
        let read = Bytes.decode(Some(b"a\xff\0")).unwrap();
        let mut out = Vec::new();
        Bytes.encode(&read, &mut out).unwrap();
        assert_eq!(out, b"a\xff\0");
        assert_eq!(Bytes.decode(None), Ok(None));
    }
}

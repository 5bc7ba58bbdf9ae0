//! Text: UTF-8 as it is.

use super::{Decode, Encode, FormatError};

/// Reads and writes strings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl Decode for Text {
    type Item = String;

    fn decode(&mut self, value: Option<&[u8]>) -> Result<String, FormatError> {
        let value = value.ok_or_else(|| FormatError::new("read text", "the value is null", &[]))?;
        match std::str::from_utf8(value) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(FormatError::new("read text", error, value)),
        }
    }
}

impl Encode for Text {
    type Item = String;

    fn encode(&mut self, item: &String, out: &mut Vec<u8>) -> Result<(), FormatError> {
        out.extend_from_slice(item.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf8_and_never_null() {
        assert_eq!(Text.decode(Some("grün".as_bytes())).unwrap(), "grün");
        assert_eq!(Text.decode(Some(b"")).unwrap(), "");
        let error = Text.decode(Some(b"ab\xffc")).unwrap_err().to_string();
        assert!(error.contains("index 2") && error.contains("`ab\\xffc`"), "{error}");
        assert!(Text.decode(None).unwrap_err().to_string().contains("null"));
        let mut out = Vec::new();
        Text.encode(&"x".to_owned(), &mut out).unwrap();
        assert_eq!(out, b"x");
    }
}

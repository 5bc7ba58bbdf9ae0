//! What a source does with a record that cannot be read.

use serde::{Deserialize, Serialize};

use super::{Decode, FormatError};

/// What becomes of a poison record: one that its format or type does not fit. To keep it instead, in a
/// dead-letter topic for example, read with [`OrPoison`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoisonPolicy {
    /// The job stops with an error that names topic, partition and offset. The default: nothing is lost
    /// without somebody having said that it may be.
    #[default]
    Stop,
    /// The record is counted and skipped; the first of a batch is logged.
    Skip,
}

/// A value that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poison {
    /// The value as it was; none is Kafka's null.
    pub value: Option<Vec<u8>>,
    /// Why it could not be read.
    pub reason: String,
}

/// Reads what a format can read, and keeps the rest as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrPoison<D>(pub D);

impl<D: Decode> Decode for OrPoison<D> {
    type Item = Result<D::Item, Poison>;

    fn decode(&mut self, value: Option<&[u8]>) -> Result<Self::Item, FormatError> {
        let poison =
            |error: FormatError| Poison { value: value.map(<[u8]>::to_vec), reason: error.to_string() };
        Ok(self.0.decode(value).map_err(poison))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Json;

    #[test]
    fn poison_is_kept_as_it_is_with_the_reason() {
        let mut format = OrPoison(Json::<u8>::new());
        assert_eq!(format.decode(Some(b"7")), Ok(Ok(7)));
        let poison = format.decode(Some(b"\xff")).unwrap().unwrap_err();
        assert_eq!(poison.value.as_deref(), Some(&b"\xff"[..]));
        assert!(poison.reason.starts_with("read JSON: "), "{}", poison.reason);
        assert_eq!(format.decode(None).unwrap().unwrap_err().value, None);
    }
}

//! CSV, one row a record, by serde.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Decode, Encode, FormatError};

/// Reads and writes `T` as a row of CSV (RFC 4180): a tuple or a struct, field by field in order; no header.
///
/// A record's value is one row, with or without a line end. Its memory is kept from row to row.
pub struct Csv<T> {
    delimiter: u8,
    parser: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    row: csv::ByteRecord,
    types: PhantomData<fn() -> T>,
}

impl<T> Csv<T> {
    /// Rows of `T`, fields separated by commas.
    pub fn new() -> Self {
        Self::separated_by(b',')
    }

    /// Rows of `T`, fields separated by this character, for instance `b'\t'`.
    pub fn separated_by(delimiter: u8) -> Self {
        Self {
            delimiter,
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            fields: Vec::new(),
            ends: Vec::new(),
            row: csv::ByteRecord::new(),
            types: PhantomData,
        }
    }

    /// Splits one row into `self.row`; what follows its line end is returned.
    fn split<'a>(&mut self, mut input: &'a [u8]) -> Result<&'a [u8], &'static str> {
        use csv_core::ReadRecordResult as Step;
        self.parser.reset();
        self.fields.resize(input.len().max(1), 0);
        self.ends.resize(input.len() + 1, 0);
        let (mut written, mut fields) = (0, 0);
        loop {
            let (step, read, more, ended) =
                self.parser.read_record(input, &mut self.fields[written..], &mut self.ends[fields..]);
            input = &input[read..];
            written += more;
            fields += ended;
            match step {
                Step::InputEmpty => {}
                Step::Record => break,
                Step::End => return Err("there is no row in it"),
                // Neither can be: fields are no longer than the input, nor more than its bytes and one.
                Step::OutputFull | Step::OutputEndsFull => return Err("its fields are longer than the row"),
            }
        }
        self.row.clear();
        let mut start = 0;
        for &end in &self.ends[..fields] {
            self.row.push_field(&self.fields[start..end]);
            start = end;
        }
        Ok(input)
    }
}

impl<T> Default for Csv<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Csv<T> {
    fn clone(&self) -> Self {
        Self::separated_by(self.delimiter)
    }
}

impl<T> fmt::Debug for Csv<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Csv separated by {:?}", char::from(self.delimiter))
    }
}

impl<T: DeserializeOwned + 'static> Decode for Csv<T> {
    type Item = T;

    fn decode(&mut self, value: Option<&[u8]>) -> Result<T, FormatError> {
        let failed = |cause: &dyn fmt::Display, value: &[u8]| FormatError::new("read CSV", cause, value);
        let value = value.ok_or_else(|| failed(&"the value is null", &[]))?;
        let rest = self.split(value).map_err(|cause| failed(&cause, value))?;
        if !rest.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(failed(&"it holds more than one row", value));
        }
        self.row.deserialize(None).map_err(|error| failed(&error, value))
    }
}

impl<T: Serialize + 'static> Encode for Csv<T> {
    type Item = T;

    fn encode(&mut self, item: &T, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let failed = |error: &dyn fmt::Display| FormatError::new("write CSV", error, &[]);
        let mut writer = csv::WriterBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(false)
            .buffer_capacity(ROW_BYTES)
            .from_writer(&mut *out);
        writer.serialize(item).map_err(|error| failed(&error))?;
        writer.flush().map_err(|error| failed(&error))?;
        drop(writer);
        // The row is the record's value: its end needs no mark.
        out.truncate(out.len() - usize::from(out.ends_with(b"\n")));
        Ok(())
    }
}

/// A usual row; longer ones grow the buffer's writes, not an error.
const ROW_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::Decimal;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        count: i64,
        name: String,
        amount: Decimal,
        note: Option<u8>,
    }

    #[test]
    fn rows_are_typed_by_position() {
        let mut csv = Csv::<Row>::new();
        let row = csv.decode(Some(b"51,\"a, \"\"b\"\"\",12.30,\r\n")).unwrap();
        let expected =
            Row { count: 51, name: "a, \"b\"".into(), amount: Decimal::from_hundredths(1230), note: None };
        assert_eq!(row, expected);
        let mut out = Vec::new();
        csv.encode(&row, &mut out).unwrap();
        assert_eq!(out, b"51,\"a, \"\"b\"\"\",12.30,");
        let row = csv.decode(Some(b"1,,0,255")).unwrap();
        assert_eq!((row.name.as_str(), row.note), ("", Some(255)));
        let (first, second): (i32, String) = Csv::separated_by(b'\t').decode(Some(b"7\tx,y")).unwrap();
        assert_eq!((first, second.as_str()), (7, "x,y"));
    }

    #[test]
    fn errors_name_the_field() {
        let mut csv = Csv::<(i64, String)>::new();
        let error = csv.decode(Some(b"seven,x")).unwrap_err().to_string();
        assert!(error.contains("field 0: invalid digit found in string; the value is `seven,x`"), "{error}");
        for (value, says) in [
            (&b""[..], "no row"),
            (b"1,a\n2,b", "more than one row"),
            (b"1", "expected"),
            (b"1,\xff", "field 1"),
        ] {
            let error = csv.decode(Some(value)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(csv.decode(None).is_err());
        assert_eq!(csv.decode(Some(b"1,a")), Ok((1, "a".to_owned())));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<i64>(), text in ".*", more in any::<Option<u8>>()) {
            let mut csv = Csv::<(i64, String, Option<u8>)>::new();
            let (mut out, row) = (Vec::new(), (number, text, more));
            csv.encode(&row, &mut out).unwrap();
            prop_assert_eq!(csv.decode(Some(&out)), Ok(row));
        }

        #[test]
        fn any_bytes_are_a_row_or_an_error(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Csv::<(String, String)>::new().decode(Some(&value));
        }
    }
}

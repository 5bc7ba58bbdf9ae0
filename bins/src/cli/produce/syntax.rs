//! How a record is read from a line: kcat's delimiters, or the properties of Kafka's console producer.

use std::io::{self, BufRead};

use kafka_wire::Header;

use super::Options;
use crate::cli::consume::format::unescape;

/// How lines are read.
pub(super) struct Syntax {
    /// What is between key and value.
    key_separator: Option<Vec<u8>>,
    /// Whether a line without it is an error, as for Kafka's console producer; for kcat it has no key.
    needs_key: bool,
    headers: Option<HeaderSyntax>,
    /// A key or value that stands for null.
    pub(super) null_marker: Option<Vec<u8>>,
}

/// `name:value,name:value`, and a tab before the rest of the line.
struct HeaderSyntax {
    delimiter: Vec<u8>,
    separator: Vec<u8>,
    key_separator: Vec<u8>,
}

/// A line in its parts.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed<'a> {
    pub(super) headers: Vec<Header<'a>>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
}

impl Syntax {
    /// What the flags ask for.
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let mut syntax = Self::of_properties(&options.property)?;
        if let Some(delimiter) = &options.key_delimiter {
            syntax.key_separator = Some(delimiter.clone().into_bytes());
        }
        Ok(syntax)
    }

    fn of_properties(properties: &[(String, String)]) -> Result<Self, String> {
        let (mut needs_key, mut key_separator) = (false, b"\t".to_vec());
        let (mut has_headers, mut null_marker) = (false, None);
        let mut headers = HeaderSyntax {
            delimiter: b"\t".to_vec(),
            separator: b",".to_vec(),
            key_separator: b":".to_vec(),
        };
        for (name, value) in properties {
            let bytes = || match unescape(value)?.into_bytes() {
                bytes if bytes.is_empty() => Err(format!("{name}: a separator cannot be empty")),
                bytes => Ok(bytes),
            };
            let flag =
                || value.parse::<bool>().map_err(|_| format!("{name}={value}: expected true or false"));
            match name.as_str() {
                "parse.key" => needs_key = flag()?,
                "key.separator" => key_separator = bytes()?,
                "parse.headers" => has_headers = flag()?,
                "headers.delimiter" => headers.delimiter = bytes()?,
                "headers.separator" => headers.separator = bytes()?,
                "headers.key.separator" => headers.key_separator = bytes()?,
                "null.marker" => null_marker = Some(unescape(value)?.into_bytes()),
                _ => {
                    return Err(format!(
                        "{name} is not one of parse.key, key.separator, parse.headers, headers.delimiter, \
                         headers.separator, headers.key.separator, null.marker"
                    ));
                }
            }
        }
        let key_separator = needs_key.then_some(key_separator);
        Ok(Self { key_separator, needs_key, headers: has_headers.then_some(headers), null_marker })
    }

    /// Takes a line apart.
    pub(super) fn parse<'a>(&self, line: &'a [u8]) -> Result<Parsed<'a>, String> {
        let (mut headers, mut rest) = (Vec::new(), line);
        if let Some(syntax) = &self.headers {
            let (before, after) =
                split(line, &syntax.delimiter).ok_or("no headers.delimiter stands in it")?;
            (headers, rest) = (syntax.parse(before)?, after);
        }
        let separated = self.key_separator.as_ref().and_then(|separator| split(rest, separator));
        match separated {
            Some((key, value)) => Ok(Parsed { headers, key: Some(key), value }),
            None if self.needs_key => Err("no key.separator stands in it".to_owned()),
            None => Ok(Parsed { headers, key: None, value: rest }),
        }
    }
}

impl HeaderSyntax {
    fn parse<'a>(&self, text: &'a [u8]) -> Result<Vec<Header<'a>>, String> {
        let (mut headers, mut rest) = (Vec::new(), Some(text).filter(|text| !text.is_empty()));
        while let Some(text) = rest {
            let (header, after) =
                split(text, &self.separator).map_or((text, None), |(one, rest)| (one, Some(rest)));
            let (key, value) =
                split(header, &self.key_separator).ok_or("a header has no headers.key.separator")?;
            headers.push(Header { key, value: Some(value) });
            rest = after;
        }
        Ok(headers)
    }
}

fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

/// Reads up to the next `delimiter`, which is not kept, or the end; false at the end.
pub(super) fn read_record(
    input: &mut impl BufRead,
    delimiter: &[u8],
    record: &mut Vec<u8>,
) -> io::Result<bool> {
    record.clear();
    let Some(last) = delimiter.last() else { return Ok(input.read_to_end(record)? > 0) };
    while input.read_until(*last, record)? > 0 {
        if record.ends_with(delimiter) {
            record.truncate(record.len() - delimiter.len());
            return Ok(true);
        }
    }
    Ok(!record.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(properties: &[(&str, &str)]) -> Result<Syntax, String> {
        let owned: Vec<_> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Syntax::of_properties(&owned)
    }

    #[test]
    fn properties_are_those_of_kafkas_console_producer() {
        let plain = of(&[]).unwrap();
        let alone = Parsed { headers: vec![], key: None, value: b"k\tv" };
        assert_eq!(plain.parse(b"k\tv"), Ok(alone));
        let all = of(&[("parse.key", "true"), ("parse.headers", "true"), ("key.separator", "::")]).unwrap();
        let headers = vec![Header { key: b"a", value: Some(b"1") }, Header { key: b"b", value: Some(b"") }];
        let expected = Parsed { headers, key: Some(b"key"), value: b"v::w" };
        assert_eq!(all.parse(b"a:1,b:\tkey::v::w"), Ok(expected));
        let none = Parsed { headers: vec![], key: Some(b"k"), value: b"" };
        assert_eq!(all.parse(b"\tk::"), Ok(none));
        for line in [&b"k::v"[..], b"a:1\tkey", b"a\tk::v"] {
            assert!(all.parse(line).is_err());
        }
        for wrong in [("parse.key", "yes"), ("key.separator", ""), ("no.such", "1")] {
            assert!(of(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn records_end_at_their_delimiter_or_at_the_end() {
        let read = |text: &str, delimiter: &str| {
            let (mut input, mut record, mut all) = (text.as_bytes(), Vec::new(), Vec::new());
            while read_record(&mut input, delimiter.as_bytes(), &mut record).unwrap() {
                all.push(String::from_utf8(record.clone()).unwrap());
            }
            all
        };
        assert_eq!(read("a\n\nb", "\n"), ["a", "", "b"]);
        assert_eq!(read("a\n", "\n"), ["a"]);
        assert_eq!(read("a;b||c|d||", "||"), ["a;b", "c|d"]);
        assert_eq!(read("a\nb", ""), ["a\nb"]);
        assert!(read("", "\n").is_empty());
    }
}

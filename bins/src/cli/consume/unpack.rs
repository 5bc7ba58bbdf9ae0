//! Binary keys and values as text: kcat's `-s`.

/// What bytes are made of, one letter for each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pack(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// An integer of so many bytes.
    Integer {
        bytes: usize,
        is_signed: bool,
        is_little_endian: bool,
    },
    Char,
    /// All that is left, as text.
    Rest,
    /// Nothing may be left.
    End,
    /// Printed as it is.
    Blank(u8),
}

/// Bytes are not what the pack-str says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch(String);

impl Pack {
    /// Reads a pack-str of kcat: b h i q are signed integers of 1, 2, 4 and 8 bytes, B H I Q unsigned ones; c is a
    /// character, s the rest as text, $ the end; `>` (big endian, as it begins) and `<` hold for what follows.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut is_little_endian) = (Vec::new(), false);
        for letter in text.bytes() {
            let integer = |bytes, is_signed| Part::Integer { bytes, is_signed, is_little_endian };
            parts.push(match letter {
                b'<' | b'>' => {
                    is_little_endian = letter == b'<';
                    continue;
                }
                b'b' | b'B' => integer(1, letter == b'b'),
                b'h' | b'H' => integer(2, letter == b'h'),
                b'i' | b'I' => integer(4, letter == b'i'),
                b'q' | b'Q' => integer(8, letter == b'q'),
                b'c' => Part::Char,
                b's' => Part::Rest,
                b'$' => Part::End,
                b' ' | b'\t' => Part::Blank(letter),
                _ => return Err(format!("{text:?} has other letters than < > b B h H i I q Q c s $")),
            });
        }
        Ok(Self(parts))
    }

    /// What a class of Java's makes of bytes, by its name, with or without its package.
    pub(super) fn of_deserializer(class: &str) -> Result<Option<Self>, String> {
        let name = class.rsplit('.').next().unwrap_or(class);
        let integer =
            |bytes| Self(vec![Part::Integer { bytes, is_signed: true, is_little_endian: false }, Part::End]);
        match name {
            "StringDeserializer" | "ByteArrayDeserializer" => Ok(None),
            "ShortDeserializer" => Ok(Some(integer(2))),
            "IntegerDeserializer" => Ok(Some(integer(4))),
            "LongDeserializer" => Ok(Some(integer(8))),
            _ => Err(format!(
                "{class} is not one of StringDeserializer, ByteArrayDeserializer, ShortDeserializer, \
                 IntegerDeserializer, LongDeserializer"
            )),
        }
    }

    /// Appends to `text` what `bytes` say. As with kcat nothing stands between the parts but the pack-str's blanks.
    pub(super) fn unpack(&self, bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Mismatch> {
        let mut rest = bytes;
        for part in &self.0 {
            let wanted = match part {
                Part::Integer { bytes, .. } => *bytes,
                Part::Char => 1,
                Part::Rest => rest.len(),
                Part::End | Part::Blank(_) => 0,
            };
            let Some((taken, left)) = rest.split_at_checked(wanted) else {
                return Err(Mismatch(format!("{wanted} bytes are wanted where {} are left", rest.len())));
            };
            match part {
                Part::Integer { is_signed, is_little_endian, .. } => {
                    text.extend_from_slice(
                        integer(taken, *is_signed, *is_little_endian).to_string().as_bytes(),
                    );
                }
                Part::Char | Part::Rest => text.extend_from_slice(taken),
                Part::Blank(blank) => text.push(*blank),
                Part::End if left.is_empty() => {}
                Part::End => return Err(Mismatch(format!("{} bytes are left at the end", left.len()))),
            }
            rest = left;
        }
        Ok(())
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// At most eight bytes as a number.
fn integer(bytes: &[u8], is_signed: bool, is_little_endian: bool) -> i128 {
    let add = |number: i128, byte: &u8| number << 8 | i128::from(*byte);
    let number = if is_little_endian { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) };
    let bits = bytes.len() * 8;
    if is_signed && number >> (bits - 1) == 1 { number - (1 << bits) } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(pack: &str, bytes: &[u8]) -> Result<String, String> {
        let mut text = Vec::new();
        let unpacked = Pack::parse(pack).unwrap().unpack(bytes, &mut text);
        unpacked.map(|()| String::from_utf8(text).unwrap()).map_err(|Mismatch(why)| why)
    }

    #[test]
    fn parts_are_those_of_kcat() {
        assert_eq!(unpack("b B", b"\xff\xff"), Ok("-1 255".to_owned()));
        assert_eq!(unpack("h <h H", b"\xff\xfe\xff\xfe\xff\xfe"), Ok("-2 -257 65279".to_owned()));
        assert_eq!(unpack("i I", b"\x80\0\0\0\x80\0\0\0"), Ok("-2147483648 2147483648".to_owned()));
        assert_eq!(unpack("q", &i64::MIN.to_be_bytes()), Ok(i64::MIN.to_string()));
        assert_eq!(unpack("<Q", &u64::MAX.to_le_bytes()), Ok(u64::MAX.to_string()));
        assert_eq!(unpack("c s", b"abc"), Ok("a bc".to_owned()));
        assert_eq!(unpack("c", b"abc"), Ok("a".to_owned()));
        assert_eq!(unpack("c$", b"abc"), Err("2 bytes are left at the end".to_owned()));
        assert_eq!(unpack("i", b"abc"), Err("4 bytes are wanted where 3 are left".to_owned()));
        assert!(Pack::parse("x").is_err());
    }

    #[test]
    fn deserializers_are_javas() {
        let of = Pack::of_deserializer;
        assert_eq!(of("org.apache.kafka.common.serialization.LongDeserializer"), Pack::parse("q$").map(Some));
        assert_eq!(of("IntegerDeserializer"), Pack::parse("i$").map(Some));
        assert_eq!(of("StringDeserializer"), Ok(None));
        assert!(of("com.example.MyDeserializer").unwrap_err().contains("LongDeserializer"));
    }
}

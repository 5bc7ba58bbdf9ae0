//! Who a client is by its certificate: the subject's distinguished name, as Java writes it (RFC 2253).

/// Kafka's principal of a certificate in DER: `User:CN=alice,O=Example`.
pub(crate) fn principal_of(der: &[u8]) -> Option<String> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (body, _) = expect(certificate, SEQUENCE)?;
    // Version (optional), serial number, signature algorithm, issuer, validity, subject.
    let mut rest = body;
    if let Some((_, behind)) = expect(rest, VERSION) {
        rest = behind;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, rest) = expect(rest, tag)?;
    }
    let (subject, _) = expect(rest, SEQUENCE)?;
    Some(format!("User:{}", distinguished_name(subject)?))
}

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// The attributes that RFC 2253 has names for, by their object ids in DER.
const NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// An element's tag, content and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn expect(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(der)?;
    (tag == wanted).then_some((content, rest))
}

/// The last part comes first; parts of one set are joined by `+`.
fn distinguished_name(mut subject: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !subject.is_empty() {
        let (mut set, rest) = expect(subject, SET)?;
        subject = rest;
        let mut joined = Vec::new();
        while !set.is_empty() {
            let (attribute, rest) = expect(set, SEQUENCE)?;
            set = rest;
            joined.push(attribute_text(attribute)?);
        }
        parts.push(joined.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute_text(attribute: &[u8]) -> Option<String> {
    let (id, value) = expect(attribute, OBJECT_ID)?;
    let (_, content, _) = element(value)?;
    match NAMES.iter().find(|(known, _)| *known == id) {
        Some((_, name)) => Some(format!("{name}={}", escape(&String::from_utf8_lossy(content)))),
        None => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{}=#{hex}", dotted(id)?))
        }
    }
}

/// An object id as numbers with dots.
fn dotted(id: &[u8]) -> Option<String> {
    let (&first, rest) = id.split_first()?;
    let mut text = format!("{}.{}", (first / 40).min(2), first - 40 * (first / 40).min(2));
    let mut number = 0u64;
    for &byte in rest {
        number = number.checked_mul(128)? | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            text.push_str(&format!(".{number}"));
            number = 0;
        }
    }
    Some(text)
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (place, c) in value.chars().enumerate() {
        let is_special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        if is_special || (place == 0 && matches!(c, ' ' | '#')) || (place == last && c == ' ') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, content.len() as u8], content].concat()
    }

    fn attribute(id: &[u8], value: &str) -> Vec<u8> {
        der(SEQUENCE, &[der(OBJECT_ID, id), der(0x0c, value.as_bytes())].concat())
    }

    fn certificate(subject: &[u8]) -> Vec<u8> {
        let name = der(SEQUENCE, subject);
        let body = [
            der(VERSION, &der(INTEGER, &[2])),
            der(INTEGER, &[1]),
            der(SEQUENCE, &[]),
            der(SEQUENCE, &[]),
            der(SEQUENCE, &[]),
            name,
        ];
        der(SEQUENCE, &der(SEQUENCE, &body.concat()))
    }

    #[test]
    fn the_subject_is_written_as_java_writes_it() {
        let subject = [
            der(SET, &attribute(&[0x55, 4, 10], "Example, Inc.")),
            der(SET, &[attribute(&[0x55, 4, 11], "a"), attribute(&[0x55, 4, 3], "alice ")].concat()),
            der(SET, &attribute(&[0x2a, 0x86, 0x48, 1], "x")),
        ];
        let principal = principal_of(&certificate(&subject.concat())).unwrap();
        assert_eq!(principal, "User:1.2.840.1=#0c0178,OU=a+CN=alice\\ ,O=Example\\, Inc.");
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        let whole = certificate(&der(SET, &attribute(&[0x55, 4, 3], "alice")));
        assert_eq!(principal_of(&whole).as_deref(), Some("User:CN=alice"));
        for end in 0..whole.len() {
            assert_eq!(principal_of(&whole[..end]), None);
        }
        assert_eq!(principal_of(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}

//! PEM text (RFC 7468), as freely as Java reads it: a section may stand in one line, as properties have it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// One `-----BEGIN kind-----` … `-----END kind-----`.
pub(super) struct Section<'a> {
    pub(super) kind: &'a str,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// The sections of a text, in order; what stands between them is passed over.
///
/// # Errors
/// What is wrong with it, to follow after where it is from.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, String> {
    let mut rest = std::str::from_utf8(text).map_err(|_| "neither PEM nor PKCS#12".to_owned())?;
    let mut sections = Vec::new();
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (kind, begun) = begun.split_once("-----").ok_or("a BEGIN line is not whole")?;
        let end = format!("-----END {kind}-----");
        let (body, after) = begun.split_once(&end).ok_or_else(|| format!("a {kind} section has no end"))?;
        let body: Zeroizing<Vec<u8>> =
            Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
        let der = BASE64_STANDARD.decode(&*body);
        let der = der.map_err(|_| {
            format!("a {kind} section is not base64 (openssl pkcs8 -topk8 converts old keys)")
        })?;
        sections.push(Section { kind, der: Zeroizing::new(der) });
        rest = after;
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_in_many_lines_and_in_one() {
        let text = b"subject=x\n-----BEGIN CERTIFICATE-----\nAQID\nBAUG\n-----END CERTIFICATE-----\n\
                     -----BEGIN PRIVATE KEY----- AQI= -----END PRIVATE KEY-----";
        let found = sections(text).unwrap();
        let found: Vec<_> = found.iter().map(|section| (section.kind, &section.der[..])).collect();
        assert_eq!(found, [("CERTIFICATE", &[1, 2, 3, 4, 5, 6][..]), ("PRIVATE KEY", &[1, 2])]);
        assert!(sections(b"").unwrap().is_empty());
    }

    #[test]
    fn broken_sections_are_refused() {
        for text in [
            "-----BEGIN X",
            "-----BEGIN X-----\nAQID",
            "-----BEGIN X-----\nAQID\n-----END Y-----",
            "-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\n-----END X-----",
        ] {
            assert!(sections(text.as_bytes()).is_err(), "{text}");
        }
        assert!(sections(b"\xff").is_err());
    }
}

//! The properties of Kafka's console consumer: another way to say how a record is printed.

use super::format::{Layout, Piece, Style, unescape};
use super::unpack::Pack;

/// How records are printed by `print.key=true` and the like (`DefaultMessageFormatter`).
pub(super) fn style(properties: &[(String, String)]) -> Result<Style, String> {
    let (mut separator, mut end) = ("\t".to_owned(), "\n".to_owned());
    let (mut headers_separator, mut null) = (",".to_owned(), "null".to_owned());
    let (mut key, mut value) = (None, None);
    // In the order in which they are printed; only the value is there unless it is asked away.
    let mut parts = [
        ("print.timestamp", false, vec![Piece::TypeAndTimestamp]),
        ("print.partition", false, vec![Piece::Text("Partition:".to_owned()), Piece::Partition]),
        ("print.offset", false, vec![Piece::Text("Offset:".to_owned()), Piece::Offset]),
        ("print.epoch", false, vec![Piece::Epoch]),
        ("print.headers", false, vec![Piece::HeadersOrNone]),
        ("print.key", false, vec![Piece::Key]),
        ("print.value", true, vec![Piece::Value]),
    ];
    for (name, said) in properties {
        match (name.as_str(), parts.iter_mut().find(|(part, ..)| part == name)) {
            ("key.separator", _) => separator = unescape(said)?,
            ("line.separator", _) => end = unescape(said)?,
            ("headers.separator", _) => headers_separator = unescape(said)?,
            ("null.literal", _) => null.clone_from(said),
            ("key.deserializer", _) => key = Pack::of_deserializer(said)?,
            ("value.deserializer", _) => value = Pack::of_deserializer(said)?,
            (_, Some((_, is_shown, _))) => {
                *is_shown = said.parse().map_err(|_| format!("{name}={said}: expected true or false"))?;
            }
            _ => {
                return Err(format!(
                    "{name} is not one of print.timestamp, print.partition, print.offset, print.epoch, \
                     print.headers, print.key, print.value, key.separator, line.separator, headers.separator, \
                     null.literal, key.deserializer, value.deserializer"
                ));
            }
        }
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for (.., part) in parts.into_iter().filter(|(_, is_shown, _)| *is_shown) {
        if !pieces.is_empty() {
            pieces.push(Piece::Text(separator.clone()));
        }
        pieces.extend(part);
    }
    pieces.push(Piece::Text(end));
    Ok(Style { layout: Layout::Pieces(pieces), null, headers_separator, key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[(&str, &str)]) -> Result<Style, String> {
        let owned: Vec<_> =
            entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        style(&owned)
    }

    #[test]
    fn properties_are_those_of_kafkas_console_consumer() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let pieces = |entries: &[(&str, &str)]| of(entries).unwrap().layout;
        assert_eq!(pieces(&[]), Layout::Pieces(vec![Piece::Value, text("\n")]));
        let shown = pieces(&[("print.key", "true"), ("print.offset", "true"), ("key.separator", "|")]);
        let expected =
            vec![text("Offset:"), Piece::Offset, text("|"), Piece::Key, text("|"), Piece::Value, text("\n")];
        assert_eq!(shown, Layout::Pieces(expected));
        let style = of(&[("null.literal", "-"), ("value.deserializer", "LongDeserializer")]).unwrap();
        assert_eq!((style.null.as_str(), style.key, style.value), ("-", None, Pack::parse("q$").ok()));
        for wrong in [("print.key", "yes"), ("print.colour", "true"), ("key.deserializer", "Mine")] {
            assert!(of(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}

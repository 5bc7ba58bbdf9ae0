use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use super::names;
use crate::error::{Error, ErrorKind, Result};

/// Properties by Kafka's Java names, as they were given; read by the `from_properties` of a config.
///
/// A name that neither this client nor Java's knows is an error that says which one is nearest. A name
/// that only Java's client does something with is kept and a warning is logged that says why it does nothing here, once
/// for each `Properties`; one that this client must not pass over is an error that says what to do instead.
/// Values of secrets never appear in `Debug` output or in errors.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    values: BTreeMap<String, Zeroizing<String>>,
    /// Names of the application's own.
    more: &'static [&'static str],
}

impl Properties {
    /// No properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// No properties, of which the application may have some with these names beside Kafka's: one file
    /// configures both.
    pub const fn with_names(more: &'static [&'static str]) -> Self {
        Self { values: BTreeMap::new(), more }
    }

    /// Reads a `kafka.properties` file: UTF-8, or ISO 8859-1 with `\u` escapes as Java writes it.
    ///
    /// # Errors
    /// `Config`, when the file cannot be read, or a name in it is not known (with its line).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let mut properties = Self::new();
        properties.set_from_file(path)?;
        Ok(properties)
    }

    /// Sets what a file says, as [`Properties::from_file`] reads it.
    ///
    /// # Errors
    /// As [`Properties::from_file`]; what stands before the fault has been set then.
    pub fn set_from_file(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let error = |text: String| Error::new(ErrorKind::Config, text);
        let bytes = std::fs::read(path)
            .map_err(|cause| error(format!("read properties file {}", path.display())).with_cause(cause))?;
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|other| other.as_bytes().iter().map(|byte| char::from(*byte)).collect());
        let text = Zeroizing::new(text);
        self.set_from_text(&text)
            .map_err(|cause| error(format!("properties file {}", path.display())).with_cause(cause))?;
        if self.values.keys().any(|name| names::is_secret(name)) {
            warn_if_others_can_read(path);
        }
        Ok(())
    }

    /// Parses the text of a properties file: comments (`#`, `!`), `=`, `:` or blanks between name and
    /// value, lines continued by `\`, escapes. As in Java, the last of equal names wins.
    ///
    /// # Errors
    /// `Config`, naming the line: a broken `\u` escape, or a name that is not known.
    pub fn parse(text: &str) -> Result<Self> {
        let mut properties = Self::new();
        properties.set_from_text(text)?;
        Ok(properties)
    }

    fn set_from_text(&mut self, text: &str) -> Result<()> {
        for (number, line) in logical_lines(text) {
            let in_line =
                |cause: Error| Error::new(ErrorKind::Config, format!("line {number}")).with_cause(cause);
            let (name, value) = split_entry(&line).map_err(in_line)?;
            self.set(name, value).map_err(in_line)?;
        }
        Ok(())
    }

    /// Sets a property; it replaces an earlier value.
    ///
    /// # Errors
    /// `Config` for a name that is not known, `Unsupported` for one that must not be passed over.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> Result<()> {
        let (name, value) = (name.into(), value.into());
        if let Some((_, why)) = names::REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(Error::new(ErrorKind::Unsupported, format!("property {name}: {why}")));
        }
        if let Some(why) = names::why_without_effect(&name) {
            if !self.values.contains_key(&name) {
                tracing::warn!(name, "property has no effect in this client: {why}");
            }
        } else if !self.is_read(&name) {
            return Err(self.unknown(&name));
        }
        self.values.insert(name, Zeroizing::new(value));
        Ok(())
    }

    /// Sets a property from `name=value`, as after `--set`.
    ///
    /// # Errors
    /// As [`Properties::set`], and when there is no `=`.
    pub fn set_entry(&mut self, entry: &str) -> Result<()> {
        let Some((name, value)) = entry.split_once('=') else {
            return Err(Error::new(ErrorKind::Config, format!("{entry:?} is not of the form name=value")));
        };
        self.set(name.trim(), value.trim())
    }

    /// Sets what variables named `prefix` + name say, the name in upper case with `_` for `.`:
    /// `KAFKA_BOOTSTRAP_SERVERS` is `bootstrap.servers` with the prefix `KAFKA_`. Variables whose name is
    /// not that of a property are left alone: an environment is shared.
    ///
    /// # Errors
    /// As [`Properties::set`].
    pub fn set_from_environment(
        &mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<()> {
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(prefix) else { continue };
            let name = name.to_ascii_lowercase().replace('_', ".");
            if self.is_read(&name) {
                self.set(name, value)?;
            }
        }
        Ok(())
    }

    /// The value of a property.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str())
    }

    fn unknown(&self, name: &str) -> Error {
        let error = Error::new(ErrorKind::Config, format!("property {name:?} is not known"));
        match (names::javas_name(name), names::nearest(name, self.more)) {
            (Some(javas), _) => {
                error.with_hint(format!("it is librdkafka's; Java's name, and ours, is {javas}"))
            }
            (None, Some(nearest)) => error.with_hint(format!("did you mean {nearest}?")),
            (None, None) => error.with_hint("the names are those of Kafka's Java clients"),
        }
    }

    fn is_read(&self, name: &str) -> bool {
        names::READ.contains(&name) || self.more.contains(&name)
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&'_ String, &'_ Zeroizing<String>)| {
            let value = if names::is_secret(name) { "[hidden]".to_owned() } else { value.to_string() };
            (name.clone(), value)
        };
        f.debug_map().entries(self.values.iter().map(shown)).finish()
    }
}

/// Warns of a file with secrets that other users of this machine can read.
pub(crate) fn warn_if_others_can_read(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            let path = path.display();
            tracing::warn!("{path} holds secrets, and others can read it: chmod 600 {path}");
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Lines as `java.util.Properties` sees them: continued lines joined, comments and blank lines left out,
/// each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in text.split(['\n', '\r']).enumerate() {
        let natural = natural.trim_start_matches([' ', '\t', '\u{c}']);
        let (number, mut line) = match open.take() {
            Some(begun) => begun,
            None if natural.is_empty() || natural.starts_with(['#', '!']) => continue,
            None => (index + 1, String::new()),
        };
        let backslashes = natural.len() - natural.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            line.push_str(&natural[..natural.len() - 1]);
            open = Some((number, line));
        } else {
            line.push_str(natural);
            lines.push((number, line));
        }
    }
    lines.extend(open);
    lines
}

fn split_entry(line: &str) -> Result<(String, String)> {
    let blank = [' ', '\t', '\u{c}'];
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|(_, c)| {
            let ends = !escaped && (blank.contains(c) || matches!(c, '=' | ':'));
            escaped = !escaped && *c == '\\';
            ends
        })
        .map_or(line.len(), |(index, _)| index);
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(blank);
    // Java keeps blanks at the end of a value, and then fails on "true ". No Kafka property needs them.
    Ok((unescape(name)?, unescape(value.trim_end_matches(blank))?))
}

fn unescape(text: &str) -> Result<String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    // UTF-16 code units, so that a pair of escapes makes one character.
                    let digits: String = chars.by_ref().take(4).collect();
                    let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                    units.push(unit.ok_or_else(|| {
                        Error::new(
                            ErrorKind::Config,
                            format!("\\u{digits} is not an escape of four hex digits"),
                        )
                    })?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units)
        .map_err(|_| Error::new(ErrorKind::Config, "a \\u escape is half of a surrogate pair"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# comment\n! comment too\n\n  bootstrap.servers = a:1,\\\n      b:2\r\nacks:all\nlinger.ms 7\n\
                    client.id=t\\u00e4t\\u0020\\=\\:\\ttab\ngroup.id=\nclient.rack=x\\\\\ntransactional.id=last";
        let properties = Properties::parse(text).unwrap();
        for (name, value) in [
            ("bootstrap.servers", "a:1,b:2"),
            ("acks", "all"),
            ("linger.ms", "7"),
            ("client.id", "tät =:\ttab"),
            ("group.id", ""),
            ("client.rack", "x\\"),
            ("transactional.id", "last"),
        ] {
            assert_eq!(properties.value(name), Some(value), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_with_line_and_nearest_name() {
        let error = Properties::parse("acks=all\n\nbootstrap.server=x:1\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "line 3: property \"bootstrap.server\" is not known; did you mean bootstrap.servers?"
        );
    }

    #[test]
    fn an_application_has_names_of_its_own() {
        let mut properties = Properties::with_names(&["parallelism"]);
        properties.set_entry("parallelism=2").unwrap();
        assert_eq!(properties.value("parallelism"), Some("2"));
        let error = properties.set("paralelism", "2").unwrap_err().to_string();
        assert!(error.ends_with("did you mean parallelism?"), "{error}");
        assert!(Properties::new().set("parallelism", "2").is_err());
    }

    #[test]
    fn a_broken_escape_is_an_error() {
        for text in ["client.id=\\u12", "client.id=\\u12g4", "client.id=\\ud800"] {
            assert_eq!(Properties::parse(text).unwrap_err().kind(), ErrorKind::Config, "{text}");
        }
    }

    #[test]
    fn java_only_names_are_accepted_and_dangerous_ones_are_not() {
        let mut properties = Properties::new();
        properties.set("key.serializer", "org.apache.kafka.common.serialization.StringSerializer").unwrap();
        let error = properties.set("config.providers", "env").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("config.providers"), "{error}");
    }

    #[test]
    fn secrets_are_hidden() {
        let mut properties = Properties::new();
        properties.set("ssl.truststore.password", "hunter2").unwrap();
        properties.set_entry("acks = 1").unwrap();
        let shown = format!("{properties:?}");
        assert!(!shown.contains("hunter2") && shown.contains(r#""acks": "1""#), "{shown}");
    }

    #[test]
    fn the_environment_sets_known_names_only() {
        let mut properties = Properties::new();
        let variables = [("KAFKA_BOOTSTRAP_SERVERS", "h:1"), ("KAFKA_OPTS", "-X"), ("PATH", "/bin")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        properties.set_from_environment("KAFKA_", variables).unwrap();
        assert_eq!(properties.value("bootstrap.servers"), Some("h:1"));
        assert_eq!(properties.values.len(), 1);
    }
}

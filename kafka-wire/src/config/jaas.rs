//! `sasl.jaas.config`: one line in the syntax of Java's login configuration. The class in it is never loaded; it says
//! which mechanism the options are for.

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// A login module and its options.
pub(super) struct LoginModule {
    class: String,
    options: Vec<(String, Zeroizing<String>)>,
}

impl LoginModule {
    /// Parses `class required name="value" …;`.
    ///
    /// # Errors
    /// `Config`, saying where it stops to be such a line, without repeating its values.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut tokens = Tokens { rest: text };
        let class = tokens.word("the class of a login module")?.to_string();
        let flag = tokens.word("required")?;
        if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_ascii_lowercase().as_str())
        {
            return Err(broken("after the class comes `required`"));
        }
        let mut options = Vec::new();
        while !tokens.take(';') {
            let name = tokens.word("an option, or `;` at the end")?.to_string();
            if !tokens.take('=') {
                return Err(broken(format!("option {name:?} has no `=`")));
            }
            options.push((name, tokens.word("a value")?));
        }
        tokens.skip_blanks();
        if !tokens.rest.is_empty() {
            return Err(broken("more follows after `;`: there can be one login module only"));
        }
        Ok(Self { class, options })
    }

    /// The class, without its package.
    pub(super) fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }

    /// The value of an option.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(option, _)| option == name).map(|(_, value)| value.as_str())
    }

    /// The options whose names begin with `prefix`, without it.
    pub(super) fn options_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.options
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

/// Words as `java.io.StreamTokenizer` sees them, in JAAS's set-up of it.
struct Tokens<'a> {
    rest: &'a str,
}

impl Tokens<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A word, or a text in quotes with `\` before what is to be taken as it is.
    fn word(&mut self, expected: &str) -> Result<Zeroizing<String>> {
        self.skip_blanks();
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            _ => {
                let end = self
                    .rest
                    .find(|c: char| c.is_whitespace() || matches!(c, ';' | '=' | '"' | '\''))
                    .unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                if word.is_empty() {
                    return Err(broken(format!("expected {expected}")));
                }
                self.rest = rest;
                Ok(Zeroizing::new(word.to_owned()))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::with_capacity(self.rest.len()));
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                '\\' => text.push(match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 'r')) => '\r',
                    Some((_, 't')) => '\t',
                    Some((_, other)) => other,
                    None => break,
                }),
                other => text.push(other),
            }
        }
        Err(broken("a quote is not closed"))
    }
}

fn broken(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, format!("property sasl.jaas.config: {}", why.into())).with_hint(
        "it looks like: org.apache.kafka.common.security.scram.ScramLoginModule required username=\"…\" password=\"…\";",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_as_kafka_documents_it_is_read() {
        let text = "org.apache.kafka.common.security.plain.PlainLoginModule required\n  username=\"alice\" \
                    password='a\"b;c=d' extra = plain-word ;";
        let module = LoginModule::parse(text).unwrap();
        assert_eq!(module.name(), "PlainLoginModule");
        assert_eq!(module.option("username"), Some("alice"));
        assert_eq!(module.option("password"), Some("a\"b;c=d"));
        assert_eq!(module.option("extra"), Some("plain-word"));
        assert_eq!(module.option("missing"), None);
    }

    #[test]
    fn quotes_and_backslashes_are_taken_as_java_takes_them() {
        let module = LoginModule::parse(r#"x.Y required password="a\"b\\c\td";"#).unwrap();
        assert_eq!(module.option("password"), Some("a\"b\\c\td"));
        let module = LoginModule::parse(r#"x.Y required extension_a="1" extension_b="2";"#).unwrap();
        let found: Vec<_> = module.options_with("extension_").collect();
        assert_eq!(found, [("a", "1"), ("b", "2")]);
    }

    #[test]
    fn a_broken_line_is_refused_without_its_values() {
        for text in [
            "",
            "x.Y",
            "x.Y username=\"canary\";",
            "x.Y required password=\"canary\"",
            "x.Y required password=\"canary",
            "x.Y required password;",
            "x.Y required password=canary; y.Z required;",
            "KafkaClient { x.Y required; };",
        ] {
            let Err(error) = LoginModule::parse(text) else { panic!("{text}") };
            assert!(error.kind() == ErrorKind::Config && !error.to_string().contains("canary"), "{error}");
        }
    }
}

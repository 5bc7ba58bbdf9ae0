//! Values out of properties: each error names the property, its value and what is allowed.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::{HostPort, Properties, names};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Backoff;

pub(super) struct Reader<'a> {
    properties: &'a Properties,
    /// Before each name: the same settings for something else, as `schema.registry.ssl.…`.
    prefix: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(properties: &'a Properties) -> Self {
        Self::with_prefix(properties, "")
    }

    pub(super) fn with_prefix(properties: &'a Properties, prefix: &'static str) -> Self {
        Self { properties, prefix }
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        debug_assert!(names::READ.contains(&name), "{name} is not in the table of what is read");
        match self.prefix {
            "" => self.properties.value(name),
            prefix => self.properties.value(&format!("{prefix}{name}")),
        }
    }

    /// The value of `name` is not what is `allowed`.
    pub(super) fn invalid(&self, name: &str, allowed: impl Display) -> Error {
        let value = self.text(name).filter(|_| !names::is_secret(name)).unwrap_or("[hidden]");
        Error::new(ErrorKind::Config, format!("property {}{name}={value}", self.prefix))
            .with_hint(format!("allowed: {allowed}"))
    }

    pub(super) fn choice<T: Copy>(&self, name: &str, default: T, choices: &[(&str, T)]) -> Result<T> {
        let Some(text) = self.text(name) else { return Ok(default) };
        match choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(text)) {
            Some((_, value)) => Ok(*value),
            None => {
                let allowed: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
                Err(self.invalid(name, allowed.join(", ")))
            }
        }
    }

    pub(super) fn optional_boolean(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name) {
            None => Ok(None),
            Some(_) => self.choice(name, false, &[("true", true), ("false", false)]).map(Some),
        }
    }

    pub(super) fn boolean(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.optional_boolean(name)?.unwrap_or(default))
    }

    pub(super) fn optional_number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse::<T>() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.invalid(name, format_args!("{} to {}", range.start(), range.end()))),
        }
    }

    pub(super) fn number<T>(&self, name: &str, default: T, range: RangeInclusive<T>) -> Result<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        Ok(self.optional_number(name, range)?.unwrap_or(default))
    }

    /// A time of at least `least` milliseconds.
    pub(super) fn millis(&self, name: &str, default: Duration, least: u64) -> Result<Duration> {
        // Java's int and long properties alike: beyond i32 there is no time that means anything else.
        let most = i32::MAX as u64;
        let Some(text) = self.text(name) else { return Ok(default) };
        match text.parse::<u64>() {
            Ok(millis) if millis >= least => Ok(Duration::from_millis(millis.min(most))),
            _ => Err(self.invalid(name, format_args!("a number of milliseconds, at least {least}"))),
        }
    }

    /// `{prefix}.ms` and `{prefix}.max.ms`.
    pub(super) fn backoff(&self, prefix: &str, default: Backoff) -> Result<Backoff> {
        let initial = self.millis(&format!("{prefix}.ms"), default.initial, 0)?;
        let max = self.millis(&format!("{prefix}.max.ms"), default.max, 0)?;
        // As Java does when only the first is raised above the other's default.
        Ok(Backoff { initial: initial.min(max), max })
    }

    pub(super) fn bootstrap_servers(&self) -> Result<Vec<HostPort>> {
        let Some(text) = self.text("bootstrap.servers") else {
            return Err(Error::new(ErrorKind::Config, "property bootstrap.servers is missing")
                .with_hint("set it to the address of a broker, such as localhost:9092"));
        };
        host_ports(text)
    }
}

/// Parses `host:port,host:port`; IPv6 addresses stand in brackets.
pub(super) fn host_ports(text: &str) -> Result<Vec<HostPort>> {
    let servers: Vec<&str> = text.split(',').map(str::trim).filter(|server| !server.is_empty()).collect();
    if servers.is_empty() {
        return Err(invalid_server(text));
    }
    servers.into_iter().map(|server| host_port(server).ok_or_else(|| invalid_server(server))).collect()
}

fn invalid_server(server: &str) -> Error {
    Error::new(ErrorKind::Config, format!("bootstrap.servers: {server:?} is not host:port"))
        .with_hint("give each broker as host:port, separated by commas, such as localhost:9092")
}

fn host_port(server: &str) -> Option<HostPort> {
    // As Java does, a listener's name in front is passed over: PLAINTEXT://host:port.
    let server = server.split_once("://").map_or(server, |(_, address)| address);
    let (host, port) = server.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let plausible = !host.is_empty() && host.len() <= 255 && !host.contains(['/', '@', ' ', '[', ']']);
    plausible.then(|| HostPort { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        ClientConfig, ClientIdentity, ConsumerConfig, ProducerConfig, Secret, Security, Store, TlsVersions,
        TrustedRoots,
    };
    use crate::types::{Acks, Codec};

    fn properties(entries: &[&str]) -> Properties {
        let mut properties = Properties::new();
        properties.set("bootstrap.servers", "localhost:9092").unwrap();
        for entry in entries {
            properties.set_entry(entry).unwrap();
        }
        properties
    }

    #[test]
    fn addresses_with_names_and_both_kinds_of_ip() {
        let shown = |text| {
            let servers = host_ports(text).map(|servers| servers.iter().map(HostPort::to_string).collect());
            servers.map(|servers: Vec<String>| servers.join(" "))
        };
        assert_eq!(shown("a:1, 10.0.0.1:9092 ,[::1]:2,").unwrap(), "a:1 10.0.0.1:9092 [::1]:2");
        assert_eq!(shown("SSL://b:3").unwrap(), "b:3");
        for wrong in ["", ",", "a", "a:0", "a:70000", "::1:2", ":9092", "http://a/b:1", "a b:1"] {
            assert_eq!(shown(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }

    #[test]
    fn nothing_but_the_servers_gives_the_defaults() {
        let servers = ClientConfig::bootstrap("localhost:9092").unwrap();
        let producer = ProducerConfig::from_properties(&properties(&[])).unwrap();
        assert_eq!(producer, ProducerConfig { client: servers.clone(), ..ProducerConfig::default() });
        let consumer = ConsumerConfig::from_properties(&properties(&[])).unwrap();
        assert_eq!(consumer, ConsumerConfig { client: servers, ..ConsumerConfig::default() });
        let missing = ClientConfig::from_properties(&Properties::new()).unwrap_err().to_string();
        assert!(missing.contains("bootstrap.servers is missing"), "{missing}");
    }

    #[test]
    fn wrong_values_are_named_with_what_is_allowed() {
        for (entry, allowed) in [
            ("acks=2", "all, -1, 1, 0"),
            ("linger.ms=soon", "milliseconds"),
            ("linger.ms=-1", "at least 0"),
            ("enable.idempotence=yes", "true, false"),
            ("compression.zstd.level=23", "-131072 to 22"),
            ("max.request.size=0", "1 to"),
            ("send.buffer.bytes=-2", "-1 to"),
            ("transaction.two.phase.commit.enable=true", "KIP-939"),
            ("security.protocol=TLS", "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ] {
            let error = ProducerConfig::from_properties(&properties(&[entry])).unwrap_err().to_string();
            assert!(error.contains(entry) && error.contains(allowed), "{error}");
        }
    }

    #[test]
    fn what_does_nothing_here_is_taken_and_what_cannot_be_done_is_told() {
        let usual = [
            "receive.buffer.bytes=65536",
            "send.buffer.bytes=-1",
            "exclude.internal.topics=true",
            "compression.lz4.level=9",
            "compression.type=lz4",
            "key.deserializer=org.apache.kafka.common.serialization.StringDeserializer",
        ];
        let config = ConsumerConfig::from_properties(&properties(&usual)).unwrap();
        let sizes = config.client.socket_buffers;
        assert_eq!((sizes.send_bytes, sizes.receive_bytes), (None, Some(65_536)));
        let config = ProducerConfig::from_properties(&properties(&usual)).unwrap();
        assert_eq!(config.compression_level, None);
        let internal = properties(&["exclude.internal.topics=false"]);
        let error = ConsumerConfig::from_properties(&internal).unwrap_err().to_string();
        assert!(error.contains("can be subscribed to by name"), "{error}");
        let error = Properties::new().set("sasl.oauthbearer.assertion.file", "/x").unwrap_err().to_string();
        assert!(error.contains("sasl.oauthbearer.token.file"), "{error}");
        let error = Properties::new().set("queue.buffering.max.ms", "5").unwrap_err().to_string();
        assert!(error.ends_with("it is librdkafka's; Java's name, and ours, is linger.ms"), "{error}");
    }

    #[test]
    fn contradictions_are_found() {
        for entries in [
            &["enable.idempotence=true", "acks=1"][..],
            &["transactional.id=t", "enable.idempotence=false"],
            &["max.in.flight.requests.per.connection=6"],
            &["delivery.timeout.ms=1000"],
            &["transactional.id="],
        ] {
            let error = ProducerConfig::from_properties(&properties(entries)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{entries:?}");
        }
        let relaxed = ProducerConfig::from_properties(&properties(&["acks=1"])).unwrap();
        assert!(!relaxed.enable_idempotence && relaxed.acks == Acks::Leader);
    }

    #[test]
    fn the_level_is_that_of_the_codec_in_use() {
        let entries = ["compression.type=zstd", "compression.zstd.level=7", "compression.gzip.level=-1"];
        let config = ProducerConfig::from_properties(&properties(&entries)).unwrap();
        assert_eq!((config.compression, config.compression_level), (Codec::Zstd, Some(7)));
    }

    #[test]
    fn security_is_in_the_clear_or_by_tls_with_stores() {
        let security =
            |entries: &[&str]| ClientConfig::from_properties(&properties(entries)).map(|c| c.security);
        assert_eq!(security(&[]).unwrap(), Security::default());
        let stores = [
            "security.protocol=SSL",
            "ssl.truststore.type=PEM",
            "ssl.truststore.location=/ca.pem",
            "ssl.keystore.location=/me.p12",
            "ssl.keystore.password=canary",
            "ssl.enabled.protocols=TLSv1.3",
            "ssl.cipher.suites=TLS_AES_128_GCM_SHA256, TLS_X,",
        ];
        let tls = security(&stores).unwrap().tls.unwrap();
        assert_eq!(tls.roots, TrustedRoots::File(Store { path: "/ca.pem".into(), password: None }));
        assert_eq!(tls.versions, TlsVersions::Tls13);
        assert_eq!(
            tls.cipher_suites.as_deref().map(|suites| suites.join(" ")).unwrap(),
            "TLS_AES_128_GCM_SHA256 TLS_X"
        );
        let Some(ClientIdentity::File { store, .. }) = &tls.identity else { panic!("{tls:?}") };
        assert_eq!(store.password, Some(Secret::from("canary")));
        assert!(!format!("{tls:?}").contains("canary"));
        for (entry, says) in [
            ("ssl.endpoint.identification.algorithm=", "https"),
            ("ssl.truststore.type=BCFKS", "PEM, PKCS12"),
            ("ssl.enabled.protocols=TLSv1.1", "TLSv1.3"),
            ("ssl.keystore.key=canary", "without the other"),
        ] {
            let error = security(&[entry]).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("canary"), "{error}");
        }
    }
}

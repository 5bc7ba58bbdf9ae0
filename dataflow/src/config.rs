//! How a job is configured: Kafka's Java property names, and a few of the job's own beside them. Layer 1.
//!
//! One file configures both (`kafka.properties`); the environment and `--set name=value` come after it and win.
//!
//! | property | what | default |
//! |---|---|---|
//! | `group.id` | the job's id: its positions, state and transactional id are kept under it | from the job's name, input and output |
//! | `state.url` | where state is kept: a folder, or `memory:` | memory for a job without state, else required |
//! | `parallelism` | workers (threads) | 1 |
//! | `epoch.interval.ms` | how often results are committed | 200 |
//! | `epoch.max.records`, `epoch.max.bytes` | end an epoch that has read this much before its time | the engine's |
//! | `max.buffered.bytes` | bytes under way between sources and sinks | 64 MiB |
//! | `input.topic`, `output.topic` | for jobs that leave the choice | the job's |
//! | `max.restarts` | restarts in a row, without a commit in between, before the job gives up | the engine's |

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use kafka_wire::config::Properties;

use crate::error::{Error, ErrorKind, Result};

/// The properties of the job's own.
const NAMES: &[&str] = &[
    "epoch.interval.ms",
    "epoch.max.bytes",
    "epoch.max.records",
    "input.topic",
    "max.buffered.bytes",
    "max.restarts",
    "output.topic",
    "parallelism",
    "state.url",
];

/// What a job is run with. Each value is none where nothing was said: the job's default applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `group.id`: the job's id.
    pub job_id: Option<String>,
    /// `state.url`: where state is kept.
    pub state_url: Option<String>,
    /// `parallelism`: how many workers.
    pub parallelism: Option<usize>,
    /// `epoch.interval.ms`: how often results are committed.
    pub epoch_interval: Option<Duration>,
    /// `epoch.max.records`: an epoch that has read this many ends before its time.
    pub epoch_max_records: Option<u64>,
    /// `epoch.max.bytes`: an epoch that has read this much ends before its time.
    pub epoch_max_bytes: Option<u64>,
    /// `max.buffered.bytes`: what may be under way between sources and sinks.
    pub max_buffered_bytes: Option<usize>,
    /// `input.topic`, for a job that leaves the choice.
    pub input_topic: Option<String>,
    /// `output.topic`, for a job that leaves the choice.
    pub output_topic: Option<String>,
    /// `max.restarts`: restarts in a row before the job gives up.
    pub max_restarts: Option<u32>,
    /// All of it by name; what the Kafka clients of the job are made from.
    pub kafka: Properties,
}

impl Config {
    /// What a `kafka.properties` file says.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the file, the line, the name or value, and the nearest name or what is allowed.
    pub fn from_properties(path: impl AsRef<Path>) -> Result<Self> {
        ConfigBuilder::new().file(path)?.build()
    }
}

/// Gathers properties, the later ones winning: file, then environment, then `--set`.
#[derive(Clone, Debug)]
pub struct ConfigBuilder {
    properties: Properties,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ConfigBuilder {
    /// Nothing set.
    pub const fn new() -> Self {
        Self { properties: Properties::with_names(NAMES) }
    }

    /// Adds what a `kafka.properties` file says.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming file and line.
    pub fn file(mut self, path: impl AsRef<Path>) -> Result<Self> {
        self.properties.set_from_file(path).map_err(wrong)?;
        Ok(self)
    }

    /// Adds the variables that begin with `TIDEWATER_`: `TIDEWATER_BOOTSTRAP_SERVERS` is `bootstrap.servers`. Others
    /// are left alone.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a property that is refused.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        self.properties.set_from_environment(ENVIRONMENT_PREFIX, variables).map_err(wrong)?;
        Ok(self)
    }

    /// Adds one property.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unknown name (with the nearest) or one that is refused.
    pub fn set(mut self, name: &str, value: &str) -> Result<Self> {
        self.properties.set(name, value).map_err(wrong)?;
        Ok(self)
    }

    /// Adds `name=value`, as after `--set`.
    ///
    /// # Errors
    /// As [`ConfigBuilder::set`], and when there is no `=`.
    pub fn entry(mut self, entry: &str) -> Result<Self> {
        self.properties.set_entry(entry).map_err(wrong)?;
        Ok(self)
    }

    /// Reads the values.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the property, its value and what is allowed. Kafka's own values are
    /// read, and refused, by the clients that use them.
    pub fn build(self) -> Result<Config> {
        let reader = Reader(&self.properties);
        Ok(Config {
            job_id: reader.text("group.id"),
            state_url: reader.text("state.url"),
            parallelism: reader.number("parallelism", 1..=MAX_WORKERS)?,
            epoch_interval: reader.number("epoch.interval.ms", 1..=MAX_EPOCH_MS)?.map(Duration::from_millis),
            epoch_max_records: reader.number("epoch.max.records", 1..=u64::MAX)?,
            epoch_max_bytes: reader.number("epoch.max.bytes", 1..=u64::MAX)?,
            max_buffered_bytes: reader.number("max.buffered.bytes", MIN_BUFFERED_BYTES..=usize::MAX)?,
            input_topic: reader.text("input.topic"),
            output_topic: reader.text("output.topic"),
            max_restarts: reader.number("max.restarts", 0..=u32::MAX)?,
            kafka: self.properties,
        })
    }
}

struct Reader<'a>(&'a Properties);

impl Reader<'_> {
    /// An empty value is as good as none: that is how a file says so.
    fn text(&self, name: &str) -> Option<String> {
        self.0.value(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(Error::new(ErrorKind::Config, format!("property {name}={text}")).with_hint(format!(
                "allowed: {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }
}

fn wrong(cause: kafka_wire::Error) -> Error {
    Error::new(ErrorKind::Config, "read the configuration").with_cause(cause)
}

const ENVIRONMENT_PREFIX: &str = "TIDEWATER_";

/// The number of key groups: each has one owner, so that more workers would idle.
const MAX_WORKERS: usize = 128;

/// A quarter of the transaction timeout of one minute, so that an epoch has time left to be committed.
const MAX_EPOCH_MS: u64 = 15_000;

/// One fetched partition must fit: `max.partition.fetch.bytes` is 1 MiB by default.
const MIN_BUFFERED_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn build(entries: &[&str]) -> Result<Config> {
        entries.iter().try_fold(ConfigBuilder::new(), |builder, entry| builder.entry(entry))?.build()
    }

    #[test]
    fn file_environment_and_entries_win_in_this_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "# a job\nbootstrap.servers=file:1\ngroup.id=clicks\nparallelism=2\nepoch.interval.ms=100\nlinger.ms=5\n";
        std::fs::write(file.path(), text).unwrap();
        let variables = [
            ("TIDEWATER_BOOTSTRAP_SERVERS", "env:2"),
            ("TIDEWATER_PARALLELISM", "3"),
            ("TIDEWATER_OTHER", "x"),
            ("PATH", "/"),
        ];
        let config = ConfigBuilder::new()
            .file(file.path())
            .unwrap()
            .environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
            .unwrap()
            .entry("parallelism=4")
            .unwrap()
            .build()
            .unwrap();
        assert_eq!(config.job_id.as_deref(), Some("clicks"));
        assert_eq!(config.parallelism, Some(4));
        assert_eq!(config.epoch_interval, Some(Duration::from_millis(100)));
        assert_eq!(config.kafka.value("bootstrap.servers"), Some("env:2"));
        assert_eq!(config.kafka.value("linger.ms"), Some("5"));
        assert_eq!(config.state_url, None);
    }

    #[test]
    fn errors_name_file_line_and_the_nearest_name_or_what_is_allowed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "group.id=x\nstat.url=/tmp\n").unwrap();
        let error = Config::from_properties(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("did you mean state.url?"), "{error}");
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        for (entry, says) in [
            ("parallelism=0", "property parallelism=0; allowed: 1 to 128"),
            ("epoch.interval.ms=fast", "property epoch.interval.ms=fast; allowed: 1 to 15000"),
            ("bootstrap.server=x:1", "did you mean bootstrap.servers?"),
            ("paralelism=2", "did you mean parallelism?"),
            ("nonsense", "not of the form name=value"),
        ] {
            let error = build(&[entry]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn every_name_is_read_and_in_the_table() {
        let documentation = include_str!("config.rs");
        for name in NAMES {
            assert!(documentation.contains(&format!("`{name}`")), "{name}");
            let value = if name.ends_with("bytes") { "2000000" } else { "7" };
            assert_ne!(
                build(&[&format!("{name}={value}")]).unwrap(),
                Config { kafka: build(&[&format!("{name}={value}")]).unwrap().kafka, ..Config::default() }
            );
        }
    }
}

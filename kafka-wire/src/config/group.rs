use std::time::Duration;

use super::names::short_class_name;
use super::parse::Reader;
use crate::error::{Error, ErrorKind, Result};

/// Which protocol the members of a group speak (`group.protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GroupProtocol {
    /// A member, the leader, divides the partitions. Java's default, and ours.
    #[default]
    Classic,
    /// The coordinator does (KIP-848; brokers from 4.0).
    Consumer,
}

/// How the leader of a classic group divides partitions among members (`partition.assignment.strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// `range`: of each topic a run of neighbouring partitions to each member. Java's `RangeAssignor`.
    Range,
    /// `roundrobin`: partitions of all topics in turn. Java's `RoundRobinAssignor`.
    RoundRobin,
    /// `sticky`: balanced, and as it was before where that goes; all is given up meanwhile. Java's
    /// `StickyAssignor`.
    Sticky,
    /// `cooperative-sticky`: as sticky, and only what moves is given up (KIP-429). Java's
    /// `CooperativeStickyAssignor`.
    CooperativeSticky,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Range, Self::RoundRobin, Self::Sticky, Self::CooperativeSticky];

    /// Its name in the protocol, Java's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    const fn class_name(self) -> &'static str {
        match self {
            Self::Range => "RangeAssignor",
            Self::RoundRobin => "RoundRobinAssignor",
            Self::Sticky => "StickyAssignor",
            Self::CooperativeSticky => "CooperativeStickyAssignor",
        }
    }

    /// From its name in the protocol or that of Java's class.
    fn parse(text: &str) -> Option<Self> {
        let class = short_class_name(text);
        Self::ALL.into_iter().find(|strategy| strategy.name() == text || strategy.class_name() == class)
    }
}

/// What a member of a consumer group can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.instance.id`: a name of this member that outlives it (static membership, KIP-345). One that is back
    /// within `session_timeout` finds its partitions again, without a rebalance. Default: none.
    pub instance_id: Option<String>,
    /// `group.protocol`. Default classic.
    pub protocol: GroupProtocol,
    /// `group.remote.assignor`: which of the coordinator's assignors to use, with [`GroupProtocol::Consumer`].
    /// Default: the coordinator's choice.
    pub remote_assignor: Option<String>,
    /// `session.timeout.ms`: a member that is not heard of for so long is taken for dead. Default 45 s. With
    /// [`GroupProtocol::Consumer`] the brokers decide.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`: how often to be heard of; also how soon a rebalance is noticed. Default 3 s. With
    /// [`GroupProtocol::Consumer`] the brokers decide.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: an application that does not poll for so long is taken for stuck, and its member
    /// leaves until it does. Also how long others wait for it in a rebalance. Default 5 min.
    pub max_poll_interval: Duration,
    /// `partition.assignment.strategy`: what this member can do, best first; the group uses what all of its members
    /// can. Cooperative (KIP-429) if all of them are: so `cooperative-sticky` alone. Default range, then
    /// cooperative-sticky, as Java's: a group can go on to the latter by one rolling restart.
    pub strategies: Vec<Strategy>,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            instance_id: None,
            protocol: GroupProtocol::Classic,
            remote_assignor: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            strategies: vec![Strategy::Range, Strategy::CooperativeSticky],
        }
    }
}

impl GroupConfig {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self> {
        let default = Self::default();
        let text = |name| reader.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let config = Self {
            instance_id: text("group.instance.id"),
            protocol: reader.choice(
                "group.protocol",
                default.protocol,
                &[("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)],
            )?,
            remote_assignor: text("group.remote.assignor"),
            session_timeout: reader.millis("session.timeout.ms", default.session_timeout, 1)?,
            heartbeat_interval: reader.millis("heartbeat.interval.ms", default.heartbeat_interval, 1)?,
            max_poll_interval: reader.millis("max.poll.interval.ms", default.max_poll_interval, 1)?,
            strategies: strategies(reader, default.strategies)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Finds what cannot be meant.
    ///
    /// # Errors
    /// `Config`, naming the properties.
    pub(crate) fn check(&self) -> Result<()> {
        if self.heartbeat_interval >= self.session_timeout {
            let (heartbeat, session) =
                (self.heartbeat_interval.as_millis(), self.session_timeout.as_millis());
            let text = format!("heartbeat.interval.ms={heartbeat} with session.timeout.ms={session}");
            return Err(Error::new(ErrorKind::Config, text)
                .with_hint("a member must be heard of within its session: at most a third of it, usually"));
        }
        if self.strategies.is_empty() {
            return Err(Error::new(ErrorKind::Config, "partition.assignment.strategy names no strategy"));
        }
        Ok(())
    }
}

fn strategies(reader: &Reader<'_>, default: Vec<Strategy>) -> Result<Vec<Strategy>> {
    const NAME: &str = "partition.assignment.strategy";
    let Some(text) = reader.text(NAME) else { return Ok(default) };
    let mut strategies = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let strategy = Strategy::parse(name).ok_or_else(|| {
            let known =
                Strategy::ALL.map(|strategy| format!("{} ({})", strategy.name(), strategy.class_name()));
            reader.invalid(NAME, format_args!("a list of {}", known.join(", ")))
        })?;
        if !strategies.contains(&strategy) {
            strategies.push(strategy);
        }
    }
    Ok(strategies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConsumerConfig, Properties};

    fn read(entries: &[&str]) -> Result<GroupConfig> {
        let mut properties = Properties::new();
        properties.set("bootstrap.servers", "localhost:9092").unwrap();
        entries.iter().for_each(|entry| properties.set_entry(entry).unwrap());
        ConsumerConfig::from_properties(&properties).map(|config| config.group)
    }

    #[test]
    fn strategies_are_named_as_in_java_or_as_in_the_protocol() {
        let strategies = |value: &str| read(&[&format!("partition.assignment.strategy={value}")]);
        for (value, expected) in [
            ("org.apache.kafka.clients.consumer.StickyAssignor", vec![Strategy::Sticky]),
            ("cooperative-sticky", vec![Strategy::CooperativeSticky]),
            (
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor, RangeAssignor,range",
                vec![Strategy::CooperativeSticky, Strategy::Range],
            ),
            ("roundrobin", vec![Strategy::RoundRobin]),
        ] {
            assert_eq!(strategies(value).unwrap().strategies, expected, "{value}");
        }
        let error = strategies("com.acme.MyAssignor").unwrap_err().to_string();
        assert!(error.contains("com.acme.MyAssignor") && error.contains("RoundRobinAssignor"), "{error}");
        assert_eq!(strategies(",").unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn a_heartbeat_fits_into_a_session() {
        assert!(read(&["session.timeout.ms=6000", "heartbeat.interval.ms=2000"]).is_ok());
        let error = read(&["session.timeout.ms=3000"]).unwrap_err().to_string();
        assert!(error.contains("heartbeat.interval.ms=3000 with session.timeout.ms=3000"), "{error}");
    }

    #[test]
    fn membership_is_read() {
        let config =
            read(&["group.protocol=CONSUMER", "group.instance.id=a", "group.remote.assignor=uniform"]);
        let config = config.unwrap();
        assert_eq!(config.protocol, GroupProtocol::Consumer);
        assert_eq!(
            (config.instance_id.as_deref(), config.remote_assignor.as_deref()),
            (Some("a"), Some("uniform"))
        );
    }
}

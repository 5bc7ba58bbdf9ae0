//! Where reading begins and stops: kcat's `-o`.

use kafka_wire::{
    Consumer, Error, ErrorKind, Isolation, ListedOffset, OffsetSpec, Position, Result, TopicPartition,
};

use crate::cli::datetime;

/// One `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    From(Start),
    /// Before the first record of this time or later, in milliseconds since 1970.
    Until(i64),
}

impl Bound {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("e@") {
            Some(time) => time_ms(time).map(Self::Until),
            None => Start::parse(text).map(Self::From),
        }
    }
}

/// Where reading begins and where it stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) from: Option<Start>,
    pub(super) until_ms: Option<i64>,
}

impl Bounds {
    pub(super) fn new(all: impl IntoIterator<Item = Bound>) -> Result<Self, String> {
        let mut bounds = Self::default();
        for bound in all {
            let is_second = match bound {
                Bound::From(start) => bounds.from.replace(start).is_some(),
                Bound::Until(time_ms) => bounds.until_ms.replace(time_ms).is_some(),
            };
            if is_second {
                return Err(
                    "begin or stop where? it is said twice by --offset or --from-beginning".to_owned()
                );
            }
        }
        Ok(bounds)
    }

    /// Whether a group's committed offsets are asked for, or nothing.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self, Self { from: None | Some(Start::Stored), until_ms: None })
    }
}

fn time_ms(text: &str) -> Result<i64, String> {
    datetime::parse_ms(text).ok().filter(|time| *time >= 0).ok_or_else(|| {
        format!("{text:?} is no time: expected milliseconds since 1970, or such as 2026-11-21T14:00:00")
    })
}

/// Where to begin, in each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At the first record that is there.
    Beginning,
    /// Behind the last record.
    End,
    /// Where the group has committed.
    Stored,
    /// At this offset.
    Offset(i64),
    /// This many offsets before the end.
    Last(i64),
    /// At the first record of this time or later, in milliseconds since 1970.
    Timestamp(i64),
}

impl Start {
    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        let start = match text {
            "beginning" | "earliest" => Some(Self::Beginning),
            "end" | "latest" => Some(Self::End),
            "stored" => Some(Self::Stored),
            _ => match (text.strip_prefix("s@"), text.strip_prefix('-')) {
                (Some(time), _) => return time_ms(time).map(Self::Timestamp),
                (_, Some(back)) => number(back).map(Self::Last),
                _ => number(text).map(Self::Offset),
            },
        };
        start.ok_or_else(|| {
            "expected beginning, end, stored, an offset, -N (the last N), s@TIMESTAMP or e@TIMESTAMP"
                .to_owned()
        })
    }

    /// The positions of `partitions`; `ends` are theirs.
    pub(super) async fn positions(
        self,
        consumer: &Consumer,
        ends: &[(TopicPartition, i64)],
    ) -> Result<Vec<(TopicPartition, Position)>> {
        let position = match self {
            Self::Beginning => Position::Beginning,
            Self::End => {
                return Ok(ends.iter().map(|(partition, end)| (partition.clone(), (*end).into())).collect());
            }
            Self::Stored => Position::Committed,
            Self::Offset(offset) => {
                if let Some((partition, end)) = ends.iter().find(|(_, end)| offset > *end) {
                    let attempted = format!("read from offset {offset}: the log ends at offset {end}");
                    return Err(Error::new(ErrorKind::Usage, attempted).with_partition(partition.clone()));
                }
                offset.into()
            }
            Self::Timestamp(time_ms) => Position::Timestamp(time_ms),
            Self::Last(count) => {
                let wanted = ends.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::Earliest));
                let starts = consumer.list_offsets(wanted, Isolation::ReadUncommitted).await?;
                let position =
                    |((partition, end), (_, start)): (&(TopicPartition, i64), &(_, ListedOffset))| {
                        (partition.clone(), (end - count).max(start.offset.unwrap_or(0)).into())
                    };
                return Ok(ends.iter().zip(&starts).map(position).collect());
            }
        };
        Ok(ends.iter().map(|(partition, _)| (partition.clone(), position)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_kcat() {
        for (text, bound) in [
            ("beginning", Bound::From(Start::Beginning)),
            ("end", Bound::From(Start::End)),
            ("stored", Bound::From(Start::Stored)),
            ("0", Bound::From(Start::Offset(0))),
            ("-5", Bound::From(Start::Last(5))),
            ("s@1760000000000", Bound::From(Start::Timestamp(1_760_000_000_000))),
            ("s@1970-01-01T00:00:01", Bound::From(Start::Timestamp(1000))),
            ("e@1760000000000", Bound::Until(1_760_000_000_000)),
        ] {
            assert_eq!(Bound::parse(text), Ok(bound), "{text}");
        }
        for text in ["", "s@", "e@", "--5", "begin", "1.5", "s@-1", "e@now"] {
            assert!(Bound::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reading_begins_and_stops_at_one_place() {
        let (start, until) = (Bound::From(Start::Timestamp(1)), Bound::Until(2));
        let both = Bounds { from: Some(Start::Timestamp(1)), until_ms: Some(2) };
        assert_eq!(Bounds::new([until, start]), Ok(both));
        assert!(Bounds::new([start, start]).is_err() && Bounds::new([until, until]).is_err());
        assert!(Bounds::default().is_stored() && !both.is_stored());
        assert!(!Bounds::new([until]).unwrap().is_stored());
    }
}

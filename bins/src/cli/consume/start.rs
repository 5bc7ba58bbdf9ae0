//! Where reading begins: kcat's `-o`.

use kafka_wire::{
    Consumer, Error, ErrorKind, Isolation, ListedOffset, OffsetSpec, Position, Result, TopicPartition,
};

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
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        let start = match text {
            "beginning" | "earliest" => Some(Self::Beginning),
            "end" | "latest" => Some(Self::End),
            "stored" => Some(Self::Stored),
            _ => match (text.strip_prefix("s@"), text.strip_prefix('-')) {
                (Some(time), _) => number(time).map(Self::Timestamp),
                (_, Some(back)) => number(back).map(Self::Last),
                _ => number(text).map(Self::Offset),
            },
        };
        start.ok_or_else(|| {
            "expected beginning, end, stored, an offset, -N (the last N), or s@MILLISECONDS".to_owned()
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
    fn starts_are_those_of_kcat() {
        for (text, start) in [
            ("beginning", Start::Beginning),
            ("end", Start::End),
            ("stored", Start::Stored),
            ("0", Start::Offset(0)),
            ("-5", Start::Last(5)),
            ("s@1760000000000", Start::Timestamp(1_760_000_000_000)),
        ] {
            assert_eq!(Start::parse(text), Ok(start), "{text}");
        }
        for text in ["", "s@", "--5", "begin", "1.5", "s@-1"] {
            assert!(Start::parse(text).is_err(), "{text}");
        }
    }
}

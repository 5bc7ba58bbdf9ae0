use std::time::Duration;

use super::parse::Reader;
use crate::error::Result;

/// Where reading starts when there is no position, or the position is gone (`auto.offset.reset`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OffsetReset {
    /// At the first record that is still there.
    Earliest,
    /// After the last record. Java's default, and ours.
    #[default]
    Latest,
    /// At the first record that is at most this old, by its timestamp and this machine's clock; after the last
    /// where all are older (`by_duration:PT1H`, KIP-1106).
    ByDuration(Duration),
    /// Nowhere: it is an error.
    None,
}

const NAME: &str = "auto.offset.reset";
const BY_DURATION: &str = "by_duration:";

impl OffsetReset {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self> {
        let Some(text) = reader.text(NAME) else { return Ok(Self::default()) };
        let prefix = text.get(..BY_DURATION.len()).filter(|prefix| prefix.eq_ignore_ascii_case(BY_DURATION));
        let read = match prefix {
            Some(prefix) => iso_duration(&text[prefix.len()..]).map(Self::ByDuration),
            None => [("earliest", Self::Earliest), ("latest", Self::Latest), ("none", Self::None)]
                .into_iter()
                .find_map(|(name, value)| name.eq_ignore_ascii_case(text).then_some(value)),
        };
        read.ok_or_else(|| {
            reader.invalid(NAME, "earliest, latest, none, by_duration: and a duration as in PT1H30M or P7D")
        })
    }
}

/// A duration in the notation of ISO 8601 that Java's `Duration` reads: days, hours, minutes and seconds,
/// none of them negative.
fn iso_duration(text: &str) -> Option<Duration> {
    let text = text.to_ascii_uppercase();
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, time)) => (days, Some(time)),
        None => (text.strip_prefix('P')?, None),
    };
    let mut total = Duration::ZERO;
    if !days.is_empty() {
        total = whole(days.strip_suffix('D')?, 86_400)?;
    }
    let Some(mut time) = time else {
        return (!days.is_empty()).then_some(total);
    };
    let mut parts = 0;
    for (unit, seconds) in [('H', 3600), ('M', 60)] {
        if let Some((count, rest)) = time.split_once(unit) {
            total = total.checked_add(whole(count, seconds)?)?;
            (time, parts) = (rest, parts + 1);
        }
    }
    if !time.is_empty() {
        let count = time.strip_suffix('S')?;
        let (whole_seconds, fraction) = count.split_once('.').unwrap_or((count, ""));
        total = total.checked_add(whole(whole_seconds, 1)?)?.checked_add(nanos(fraction)?)?;
        parts += 1;
    }
    (parts > 0).then_some(total)
}

fn whole(count: &str, seconds: u64) -> Option<Duration> {
    let is_number = !count.is_empty() && count.bytes().all(|digit| digit.is_ascii_digit());
    let count: u64 = count.parse().ok().filter(|_| is_number)?;
    count.checked_mul(seconds).map(Duration::from_secs)
}

/// The digits behind the point.
fn nanos(fraction: &str) -> Option<Duration> {
    let is_number = fraction.len() <= 9 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let nanos = format!("{fraction:0<9}").parse().ok().filter(|_| is_number)?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::super::{ConsumerConfig, Properties};
    use super::*;

    fn read(value: &str) -> Result<OffsetReset> {
        let mut properties = Properties::new();
        properties.set("bootstrap.servers", "h:1")?;
        properties.set(NAME, value)?;
        Ok(ConsumerConfig::from_properties(&properties)?.auto_offset_reset)
    }

    #[test]
    fn durations_are_those_of_java() {
        for (text, millis) in [
            ("PT1H", 3_600_000),
            ("P1D", 86_400_000),
            ("P2DT3H4M", 183_840_000),
            ("pt1h30m", 5_400_000),
            ("PT0.5S", 500),
            ("PT20.345S", 20_345),
            ("PT15M", 900_000),
            ("PT0S", 0),
            ("PT1M2S", 62_000),
        ] {
            assert_eq!(iso_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "P", "PT", "1H", "P1H", "PT1D", "PT-1H", "-PT1H", "PT1S1M", "PT+1S", "P1DT", "PT1X",
            "PT1.S2", "P1W",
        ] {
            assert_eq!(iso_duration(text), None, "{text}");
        }
        assert_eq!(iso_duration(&format!("P{}D", u64::MAX)), None);
    }

    #[test]
    fn the_property_takes_a_policy_or_an_age() {
        assert_eq!(read("Earliest").unwrap(), OffsetReset::Earliest);
        assert_eq!(read("none").unwrap(), OffsetReset::None);
        let hour = Duration::from_secs(3600);
        assert_eq!(read("by_duration:PT1H").unwrap(), OffsetReset::ByDuration(hour));
        for wrong in ["by_duration", "by_duration:", "by_duration:1h", "smallest"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("auto.offset.reset") && error.contains("PT1H30M"), "{error}");
        }
    }
}

//! Times as people write them (ISO 8601), as milliseconds since 1970.

/// `2026-11-21T14:00:00`, with `.mmm` and `Z` or `+hh:mm` behind it if wanted; UTC without. Hours alone, or a date
/// alone, do too; so does a number of milliseconds.
pub(super) fn parse_ms(text: &str) -> Result<i64, String> {
    if let Ok(milliseconds) = text.parse::<i64>() {
        return Ok(milliseconds);
    }
    read(text).ok_or_else(|| "expected a time such as 2026-11-21T14:00:00.000Z".to_owned())
}

fn read(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let (year, rest) = date.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=days_in(year, month)).contains(&day)
    {
        return None;
    }
    let (time, offset_minutes) = zone(time)?;
    let mut parts = time.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next().unwrap_or("00"), 2)?);
    let (second, millisecond) = match parts.next().unwrap_or("00").split_once('.') {
        Some((second, fraction)) => (number(second, 2)?, milliseconds(fraction)?),
        None => (number(time.split(':').nth(2).unwrap_or("00"), 2)?, 0),
    };
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + millisecond)
}

/// The time without its zone, and how many minutes that is before UTC's time of day.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (time, zone) = time.split_at(at);
    let (sign, digits) = zone.split_at(1);
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (number(hours, 2)?, number(minutes, 2)?),
        None if digits.len() == 4 => (number(&digits[..2], 2)?, number(&digits[2..], 2)?),
        None => (number(digits, 2)?, 0),
    };
    let minutes = hours * 60 + minutes;
    Some((time, if sign == "-" { -minutes } else { minutes }))
}

/// A time as Java's test tools print it, `2026/11/21 14:00:00:250`; in UTC.
pub(super) fn format_slashes(since_1970_ms: i64) -> String {
    let (mut days, ms) = (since_1970_ms.div_euclid(86_400_000), since_1970_ms.rem_euclid(86_400_000));
    let (mut year, mut month) = (1970, 1);
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    while days >= days_in(year, month) {
        days -= days_in(year, month);
        month += 1;
    }
    let (day, seconds) = (days + 1, ms / 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}:{:03}", ms % 1_000)
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// One to three digits behind the point; more are cut off.
fn milliseconds(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<3}")[..3].parse().ok()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let leap_days = |before: i64| (before - 1) / 4 - (before - 1) / 100 + (before - 1) / 400;
    let years = (year - 1970) * 365 + leap_days(year) - leap_days(1970);
    years + (1..month).map(|month| days_in(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 0),
            ("2026-11-21T14:00:00", 1_795_269_600_000),
            ("2026-11-21 14:00:00.250", 1_795_269_600_250),
            ("2026-11-21T15:00:00.25+01:00", 1_795_269_600_250),
            ("2026-11-21T09:30-0430", 1_795_269_600_000),
            ("2024-02-29T23:59:59Z", 1_709_251_199_000),
            ("2000-03-01T00:00Z", 951_868_800_000),
            ("1795269600000", 1_795_269_600_000),
        ] {
            assert_eq!(parse_ms(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn times_are_printed_as_java_does() {
        for (ms, expected) in [
            (0, "1970/01/01 00:00:00:000"),
            (1_795_269_600_250, "2026/11/21 14:00:00:250"),
            (1_709_251_199_000, "2024/02/29 23:59:59:000"),
            (951_868_800_000, "2000/03/01 00:00:00:000"),
        ] {
            assert_eq!(format_slashes(ms), expected);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "2026-01-01T24:00",
            "2026-01-01T1:00",
            "2026-01-01T10:00:00.x",
        ] {
            assert!(parse_ms(text).is_err(), "{text}");
        }
    }
}

//! Exact decimal numbers with two digits after the point: money. Layer 0.

use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::value::RawValue;

/// An exact number of hundredths, up to ±1.7 × 10³⁶: sums of money that come out to the cent whatever the order.
///
/// Read from a JSON number, a CSV field or a string; more than two digits after the point are refused, not
/// rounded. Parsers bring a JSON number as a float: beyond ±703 × 10⁹, where a float can no longer tell a third
/// digit, it is refused too; write it as a string.
/// In JSON it is a number with two decimals, `12.30`; in text the same; in state a 128-bit integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal {
    hundredths: i128,
}

impl Decimal {
    /// This many hundredths.
    pub const fn from_hundredths(hundredths: i128) -> Self {
        Self { hundredths }
    }

    /// How many hundredths it is.
    pub const fn hundredths(self) -> i128 {
        self.hundredths
    }

    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        self.hundredths as f64 / 100.0
    }

    /// The decimal that a float was written as; none if it was none with at most two digits after the point.
    ///
    /// Within ±2⁴⁶ hundredths it is off what was written by at most 0.02 of one (a unit in the last place from
    /// parsing, half of one from the multiplication), and a third digit is at least 0.1 of one.
    fn from_written_float(value: f64) -> Option<Self> {
        let hundredths = value * 100.0;
        let nearest = hundredths.round();
        let slack = (nearest.abs() * FLOAT_SLACK).max(f64::MIN_POSITIVE);
        (nearest.abs() <= MAX_EXACT_FLOAT && (hundredths - nearest).abs() <= slack)
            .then_some(Self { hundredths: nearest as i128 })
    }
}

/// Why text is not a [`Decimal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseDecimalError {
    text: String,
}

impl fmt::Display for ParseDecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a decimal number with at most two digits after the point", self.text)
    }
}

impl std::error::Error for ParseDecimalError {}

impl FromStr for Decimal {
    type Err = ParseDecimalError;

    fn from_str(text: &str) -> Result<Self, ParseDecimalError> {
        parse(text).ok_or_else(|| ParseDecimalError { text: text.chars().take(40).collect() })
    }
}

fn parse(text: &str) -> Option<Decimal> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let (cents, beyond) = fraction.split_at(fraction.len().min(2));
    if beyond.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let cents = cents.parse::<i128>().ok()? * if cents.len() == 1 { 10 } else { 1 };
    let hundredths = whole.parse::<i128>().ok()?.checked_mul(100)?.checked_add(cents)?;
    Some(Decimal { hundredths: if negative { -hundredths } else { hundredths } })
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.hundredths.unsigned_abs();
        let sign = if self.hundredths < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:02}", magnitude / 100, magnitude % 100)
    }
}

impl Add for Decimal {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { hundredths: self.hundredths + other.hundredths }
    }
}

impl Sub for Decimal {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { hundredths: self.hundredths - other.hundredths }
    }
}

impl Neg for Decimal {
    type Output = Self;

    fn neg(self) -> Self {
        Self { hundredths: -self.hundredths }
    }
}

impl AddAssign for Decimal {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Decimal {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            RawValue::from_string(self.to_string()).map_err(ser::Error::custom)?.serialize(serializer)
        } else {
            self.hundredths.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Written)
        } else {
            Ok(Self { hundredths: i128::deserialize(deserializer)? })
        }
    }
}

/// A decimal as people write it.
struct Written;

impl Visitor<'_> for Written {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number with at most two digits after the point")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Decimal, E> {
        Ok(Decimal { hundredths: i128::from(value) * 100 })
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Decimal, E> {
        Ok(Decimal { hundredths: i128::from(value) * 100 })
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Decimal, E> {
        Decimal::from_written_float(value)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
        text.parse().map_err(E::custom)
    }
}

/// 2⁴⁶ hundredths.
const MAX_EXACT_FLOAT: f64 = 70_368_744_177_664.0;

/// 2⁻⁵¹ of the value: 0.03 hundredths at the largest, between what a rounding and what a third digit may be.
const FLOAT_SLACK: f64 = 1.0 / 2_251_799_813_685_248.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write_and_refuses_what_it_would_have_to_round() {
        for (text, hundredths) in
            [("0", 0), ("12.34", 1234), ("12.3", 1230), ("-0.05", -5), ("7.500", 750), ("-3", -300)]
        {
            assert_eq!(text.parse::<Decimal>().unwrap().hundredths(), hundredths, "{text}");
            assert_eq!(serde_json::from_str::<Decimal>(text).unwrap().hundredths(), hundredths, "{text}");
        }
        for text in ["", "-", ".", "1.", ".5", "12.345", "1e3", "abc", "1_000", "--1", "+1", " 1", "NaN"] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
        for json in
            ["12.345", "0.001", "703687441776.65", "703687441776.641", "1e300", "null", "\"12.345\"", "true"]
        {
            assert!(serde_json::from_str::<Decimal>(json).is_err(), "{json}");
        }
        let error = serde_json::from_str::<Decimal>("12.345").unwrap_err().to_string();
        assert!(error.contains("at most two digits after the point"), "{error}");
    }

    #[test]
    fn prints_a_number_with_two_decimals() {
        for (hundredths, text) in [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (1230, "12.30"), (-100, "-1.00")]
        {
            let decimal = Decimal::from_hundredths(hundredths);
            assert_eq!(decimal.to_string(), text);
            assert_eq!(serde_json::to_string(&decimal).unwrap(), text);
        }
    }

    #[test]
    fn the_largest_floats_are_read_to_the_cent_and_no_further() {
        for hundredths in ((1i128 << 46) - 20_000)..=1 << 46 {
            let decimal = Decimal::from_hundredths(hundredths);
            assert_eq!(serde_json::from_str::<Decimal>(&decimal.to_string()).unwrap(), decimal);
            assert!(serde_json::from_str::<Decimal>(&format!("{decimal}1")).is_err(), "{decimal}1");
            assert!(serde_json::from_str::<Decimal>(&format!("{decimal}9")).is_err(), "{decimal}9");
        }
    }

    proptest! {
        #[test]
        fn a_json_number_is_read_to_the_cent(hundredths in -(1i128 << 46)..=1 << 46) {
            let decimal = Decimal::from_hundredths(hundredths);
            prop_assert_eq!(serde_json::from_str::<Decimal>(&decimal.to_string()).unwrap(), decimal);
        }

        #[test]
        fn text_and_state_keep_any_value(hundredths in any::<i128>().prop_map(|any| any / 100)) {
            let decimal = Decimal::from_hundredths(hundredths);
            prop_assert_eq!(decimal.to_string().parse::<Decimal>().unwrap(), decimal);
            let state = postcard::to_allocvec(&decimal).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Decimal>(&state).unwrap(), decimal);
        }

        #[test]
        fn a_third_digit_is_noticed(whole in -703_687_441_775i64..703_687_441_775, thousandths in 1u32..1000) {
            let text = format!("{whole}.{thousandths:03}");
            prop_assert_eq!(serde_json::from_str::<Decimal>(&text).is_ok(), thousandths % 10 == 0);
        }
    }
}

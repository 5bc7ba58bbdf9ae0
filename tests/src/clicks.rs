//! Input and right answers of the job `clicks`: a seeded generator, the batch oracle, and the judge.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Length of the job's tumbling windows.
pub const WINDOW_MS: i64 = 10_000;

/// How late a click may come: less than the job's bound of 2 s, so that none may be dropped.
pub const DISORDER_MS: i64 = 1_999;

/// One input record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    /// Its user, also the record's key.
    pub user: String,
    /// Event time in milliseconds.
    pub ts: i64,
    /// Amount in hundredths.
    pub cents: i64,
}

impl Click {
    /// The record's value.
    pub fn json(&self) -> String {
        format!(
            r#"{{"user":"{}","page":"/p/{}","type":"click","amount":{},"ts":{}}}"#,
            self.user,
            self.cents % 97,
            decimal(self.cents),
            self.ts
        )
    }

    /// The start of its window.
    pub fn window(&self) -> i64 {
        self.ts.div_euclid(WINDOW_MS) * WINDOW_MS
    }
}

/// `cents` as a JSON number with two decimals.
pub fn decimal(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

/// An endless, repeatable sequence of clicks: `step_ms` of event time apart, a fifth of them late.
pub fn clicks(seed: u64, users: u64, step_ms: i64) -> impl Iterator<Item = Click> {
    let mut state = seed;
    (0_i64..).map(move |index| {
        let random = splitmix64(&mut state);
        let late = if random.is_multiple_of(5) { (random >> 8) as i64 % DISORDER_MS } else { 0 };
        Click {
            user: format!("u{}", (random >> 24) % users),
            ts: 1_760_000_000_000 + index * step_ms - late,
            cents: (random >> 40) as i64 % 100_000,
        }
    })
}

/// The generator of the seeds (Steele, Lea, Flood 2014).
pub fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// User and window start.
pub type Window = (String, i64);

/// Count and sum in hundredths.
pub type Totals = (u64, i64);

/// What the job says of each window.
pub type Windows = BTreeMap<Window, Totals>;

/// What the job must produce of all of `clicks`: a plain fold.
pub fn oracle<'a>(clicks: impl IntoIterator<Item = &'a Click>) -> Windows {
    let mut windows = Windows::new();
    for click in clicks {
        let (count, cents) = windows.entry((click.user.clone(), click.window())).or_default();
        *count += 1;
        *cents += click.cents;
    }
    windows
}

/// Holds what the job committed against the oracle: each window there, once, and right. Says what is lost,
/// doubled and wrong.
///
/// # Errors
/// The list of differences, shortened.
pub fn judge<'a>(oracle: &Windows, outputs: impl IntoIterator<Item = &'a [u8]>) -> Result<(), String> {
    let mut seen: BTreeMap<Window, Vec<Totals>> = BTreeMap::new();
    for output in outputs {
        let (key, value) = parse_output(output)?;
        seen.entry(key).or_default().push(value);
    }
    let mut faults = Faults::default();
    for (key, right) in oracle {
        match seen.get(key).map(Vec::as_slice) {
            None => faults.add(format_args!("lost {key:?} {right:?}")),
            Some([value]) if value == right => {}
            Some([value]) => faults.add(format_args!("wrong {key:?}: {value:?} for {right:?}")),
            Some(values) => {
                faults.add(format_args!("{} times {key:?}: {values:?} for {right:?}", values.len()))
            }
        }
    }
    for key in seen.keys().filter(|key| !oracle.contains_key(*key)) {
        faults.add(format_args!("invented {key:?}"));
    }
    faults.verdict(oracle.len(), seen.len())
}

#[derive(Default)]
struct Faults {
    count: usize,
    text: String,
}

impl Faults {
    const SHOWN: usize = 20;

    fn add(&mut self, fault: std::fmt::Arguments<'_>) {
        self.count += 1;
        if self.count <= Self::SHOWN {
            let _ = writeln!(self.text, "  {fault}");
        }
    }

    fn verdict(self, expected: usize, seen: usize) -> Result<(), String> {
        if self.count == 0 {
            return Ok(());
        }
        Err(format!("{} faults in {expected} expected and {seen} seen windows:\n{}", self.count, self.text))
    }
}

/// One output of the job: `{"user","start","end","count","sum"}`.
///
/// # Errors
/// When it is not of that form.
pub fn parse_output(output: &[u8]) -> Result<(Window, Totals), String> {
    let fault = || format!("not an output of `clicks`: {}", String::from_utf8_lossy(output));
    let value: serde_json::Value = serde_json::from_slice(output).map_err(|_| fault())?;
    let number = |name: &str| value.get(name).and_then(serde_json::Value::as_i64).ok_or_else(fault);
    let (start, end) = (number("start")?, number("end")?);
    if end != start + WINDOW_MS {
        return Err(format!("{}: the end is not {WINDOW_MS} ms behind the start", fault()));
    }
    let user = value.get("user").and_then(serde_json::Value::as_str).ok_or_else(fault)?;
    let count = u64::try_from(number("count")?).map_err(|_| fault())?;
    Ok(((user.to_owned(), start), (count, cents_of_sum(output).ok_or_else(fault)?)))
}

/// `sum` read from the text, because a float would hide a wrong last digit.
fn cents_of_sum(output: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(output).ok()?;
    let rest = text.split_once("\"sum\":")?.1.trim_start();
    let end = rest.find([',', '}', ' '])?;
    let (whole, hundredths) = rest[..end].split_once('.')?;
    let negative = whole.starts_with('-');
    if hundredths.len() != 2 {
        return None;
    }
    let cents = whole.trim_start_matches('-').parse::<i64>().ok()? * 100 + hundredths.parse::<i64>().ok()?;
    Some(if negative { -cents } else { cents })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(user: &str, start: i64, count: u64, cents: i64) -> Vec<u8> {
        format!(
            r#"{{"user":"{user}","start":{start},"end":{},"count":{count},"sum":{}}}"#,
            start + WINDOW_MS,
            decimal(cents)
        )
        .into_bytes()
    }

    fn outputs(windows: &Windows) -> Vec<Vec<u8>> {
        windows.iter().map(|((user, start), (count, cents))| output(user, *start, *count, *cents)).collect()
    }

    fn verdict(oracle: &Windows, outputs: &[Vec<u8>]) -> Result<(), String> {
        judge(oracle, outputs.iter().map(Vec::as_slice))
    }

    #[test]
    fn the_judge_passes_the_right_answer_and_names_each_kind_of_fault() {
        let clicks: Vec<Click> = clicks(7, 20, 3).take(10_000).collect();
        let oracle = oracle(&clicks);
        let right = outputs(&oracle);
        assert_eq!(verdict(&oracle, &right), Ok(()));
        assert!(verdict(&oracle, &right[1..]).unwrap_err().contains("lost"));
        let doubled = [&right[..], &right[..1]].concat();
        assert!(verdict(&oracle, &doubled).unwrap_err().contains("2 times"));
        let mut wrong = right;
        wrong[0] = output("u0", 0, 1, 1);
        let text = verdict(&oracle, &wrong).unwrap_err();
        assert!(text.contains("invented") && text.contains("lost"), "{text}");
        let ((user, start), (count, cents)) = oracle.first_key_value().unwrap();
        wrong[0] = output(user, *start, *count, cents + 1);
        assert!(verdict(&oracle, &wrong).unwrap_err().contains("wrong"));
    }

    #[test]
    fn no_click_is_later_than_the_bound() {
        let mut newest = i64::MIN;
        for click in clicks(1, 10, 1).take(50_000) {
            newest = newest.max(click.ts);
            assert!(click.ts >= newest - DISORDER_MS);
        }
    }
}

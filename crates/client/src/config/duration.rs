//! Durations as NSQ's options spell them: `1m30s`, `250ms`, `1.5h`, `0`, with an optional sign.

use std::time::Duration;

/// The nanoseconds that `text` spells.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = find(rest, |c| !c.is_ascii_digit() && c != '.');
        let (number, tail) = rest.split_at(number_end);
        let (unit, tail) = tail.split_at(find(tail, |c| c.is_ascii_digit() || c == '.'));
        if number.is_empty() || number == "." {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let unit_ns = unit_nanoseconds(unit)
            .ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        total += scaled(number, unit_ns).ok_or_else(invalid)?;
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// `duration` in the largest units that keep it readable: `1m30s`, `250ms`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    if ns < 1_000_000_000 {
        let (unit_ns, unit) = match ns {
            1_000_000.. => (1_000_000, "ms"),
            1000.. => (1000, "µs"),
            _ => (1, "ns"),
        };
        return format!("{}{unit}", with_fraction(ns, unit_ns));
    }
    let (hours, minutes) = (ns / 3_600_000_000_000, ns / 60_000_000_000 % 60);
    let seconds = with_fraction(ns % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn with_fraction(value: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % unit);
    let text = format!("{}.{}", value / unit, if digits == 0 { "" } else { &fraction });
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn find(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(wanted).unwrap_or(text.len())
}

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number`, a decimal fraction, times `unit_ns`, fractions of a nanosecond cut off.
fn scaled(number: &str, unit_ns: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than these change nothing in nanoseconds of an hour.
    let fraction = fraction.get(..fraction.len().min(18))?;
    let digits = u32::try_from(fraction.len()).ok()?;
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.checked_mul(unit_ns)?.checked_add(fraction * unit_ns / 10_i128.pow(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, ns) in [
            ("0", 0),
            ("300ms", 300_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2m30s", 150_000_000_000),
            ("-1ns", -1),
            ("+5us", 5000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_durations() {
        for text in ["", "5", "s", "-", ".s", "1x", "1m5", "1..5s", "99999999999h", "é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        let missing = r#"time: missing unit in duration "5""#;
        assert_eq!(parse_duration("5"), Err(missing.to_owned()));
    }

    #[test]
    fn durations_are_shown_in_their_largest_units() {
        for (ms, text) in [
            (0, "0s"),
            (100, "100ms"),
            (1500, "1.5s"),
            (61_000, "1m1s"),
            (60_000, "1m0s"),
            (100_000, "1m40s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(format_duration(Duration::from_nanos(1500)), "1.5µs");
        assert_eq!(format_duration(Duration::from_nanos(10)), "10ns");
        assert_eq!(format_duration(Duration::from_secs(10)), "10s");
    }
}

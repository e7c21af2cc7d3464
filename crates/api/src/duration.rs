//! Durations in Go's text form, such as `1h2m3.5s`.
//!
//! upstream: Go's time.ParseDuration and time.Duration.String

/// Reads a duration in nanoseconds.
///
/// # Errors
/// Go's words for what is wrong.
pub fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut rest = unsigned;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole = digits(rest);
        rest = &rest[whole.len()..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            fraction = digits(after);
            rest = &after[fraction.len()..];
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let unit = unit(name)
            .ok_or_else(|| format!("time: unknown unit {name:?} in duration {text:?}"))?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let part = part_of(fraction, unit);
        let value = whole.checked_mul(unit).and_then(|value| value.checked_add(part));
        total = value.and_then(|value| total.checked_add(value)).ok_or_else(invalid)?;
        rest = after;
    }
    let signed = i128::from(total) * if text.starts_with('-') { -1 } else { 1 };
    i64::try_from(signed).map_err(|_| invalid())
}

fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

/// The nanoseconds of a decimal fraction of a unit; what is below a nanosecond does not count.
fn part_of(fraction: &str, unit: u64) -> u64 {
    let kept = &fraction[..fraction.len().min(18)];
    let digits: u128 = kept.parse().unwrap_or(0);
    let part = digits * u128::from(unit) / 10u128.pow(kept.len() as u32);
    u64::try_from(part).unwrap_or(0)
}

fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Prints nanoseconds.
pub fn print(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() || unit == 1 {
            format!("{whole}{name}")
        } else {
            format!("{whole}.{rest}{name}")
        }
    };
    match total {
        0..1_000 => return format!("{sign}{total}ns"),
        1_000..1_000_000 => return format!("{sign}{}", fraction(total, 1_000, "µs")),
        1_000_000..1_000_000_000 => return format!("{sign}{}", fraction(total, 1_000_000, "ms")),
        _ => {}
    }
    let minutes = total / 60_000_000_000;
    let seconds = fraction(total % 60_000_000_000, 1_000_000_000, "s");
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, m) => format!("{sign}{m}m{seconds}"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_in_go() {
        for (text, nanos) in [
            ("0", 0),
            ("1h2m3.5s", 3_723_500_000_000),
            ("-1.5h", -5_400_000_000_000),
            (".5ms", 500_000),
            ("1.000000001s", 1_000_000_001),
            ("+3us", 3_000),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5q", "time: unknown unit \"q\" in duration \"5q\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn printed_texts_are_read_back() {
        for nanos in [0, 1, 1_500, 2_000_000, 61_000_000_000, 3_723_500_000_000, -1] {
            assert_eq!(parse(&print(nanos)), Ok(nanos));
        }
        assert_eq!(print(3_723_500_000_000), "1h2m3.5s");
    }
}

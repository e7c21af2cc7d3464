//! Moments and lengths of time, as Go reads, reckons and prints them.

use jiff::tz::TimeZone;

use crate::value::EvalError;

const SECOND: i64 = 1_000_000_000;
/// The first second of year 1 and the last one of year 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: u32,
}

/// What a clock on the wall shows.
#[derive(Clone, Copy, Debug)]
pub struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub day_of_year: i64,
    pub week_day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Moment {
    /// The moment so many seconds after 1970, if it has a date.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        SECONDS.contains(&seconds).then_some(Self { seconds, nanos })
    }

    fn total(self) -> i128 {
        i128::from(self.seconds) * i128::from(SECOND) + i128::from(self.nanos)
    }

    /// Later by so many nanoseconds.
    pub fn plus(self, nanos: i64) -> Result<Self, EvalError> {
        let total = self.total() + i128::from(nanos);
        let second = i128::from(SECOND);
        let seconds = i64::try_from(total.div_euclid(second)).ok();
        let nanos = u32::try_from(total.rem_euclid(second)).unwrap_or(0);
        seconds
            .and_then(|seconds| Self::new(seconds, nanos))
            .ok_or_else(|| EvalError::new("timestamp overflow"))
    }

    /// How long after another one it is.
    pub fn since(self, other: Self) -> Result<i64, EvalError> {
        i64::try_from(self.total() - other.total()).map_err(|_| EvalError::new("duration overflow"))
    }

    /// What the clock shows in a zone: a name, or an offset such as `+02:00`.
    pub fn civil(self, zone: &str) -> Result<Civil, EvalError> {
        let offset = match zone {
            "" | "UTC" => 0,
            _ => match zone.split_once(':') {
                Some((hours, minutes)) => offset(zone, hours, minutes)?,
                None if zone == "Local" => 0,
                None if zone.contains("..") || zone.starts_with(['/', '\\']) => {
                    return Err(EvalError::new("time: invalid location name"));
                }
                None => {
                    let found = TimeZone::get(zone).ok();
                    let zone = found
                        .filter(|found| found.iana_name() == Some(zone))
                        .ok_or_else(|| EvalError::new(format!("unknown time zone {zone}")))?;
                    let at =
                        jiff::Timestamp::from_second(self.seconds).unwrap_or(if self.seconds < 0 {
                            jiff::Timestamp::MIN
                        } else {
                            jiff::Timestamp::MAX
                        });
                    i64::from(zone.to_offset(at).seconds())
                }
            },
        };
        Ok(civil(self.seconds + offset))
    }
}

/// Seconds east of Greenwich. upstream: cel-go/common/stdlib/standard.go inTimeZone
fn offset(zone: &str, hours: &str, minutes: &str) -> Result<i64, EvalError> {
    let number = |text: &str| {
        let wrong = |_| EvalError::new(format!("strconv.Atoi: parsing {text:?}: invalid syntax"));
        text.parse::<i64>().map_err(wrong)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = if zone.starts_with('-') {
        hours.saturating_mul(60).saturating_sub(minutes)
    } else {
        hours.saturating_mul(60).saturating_add(minutes)
    };
    Ok(total.clamp(-100_000, 100_000) * 60)
}

/// upstream: the days of the proleptic Gregorian calendar, in eras of 400 years
fn civil(seconds: i64) -> Civil {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_march_year + 2) / 153;
    let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let day_of_year = days - days_of(year, 1, 1);
    Civil {
        year,
        month,
        day,
        day_of_year,
        week_day: (days + 4).rem_euclid(7),
        hour: rest / 3_600,
        minute: rest / 60 % 60,
        second: rest % 60,
    }
}

/// Days since 1970.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn digits(text: &str, from: usize, count: usize) -> Option<i64> {
    let part = text.get(from..from + count)?;
    part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
}

/// A day: `2006-01-02`.
pub fn parse_date(text: &str) -> Option<Moment> {
    (text.len() == 10).then(|| date(text)).flatten().and_then(|days| Moment::new(days * 86_400, 0))
}

fn date(text: &str) -> Option<i64> {
    let (year, month, day) = (digits(text, 0, 4)?, digits(text, 5, 2)?, digits(text, 8, 2)?);
    if text.as_bytes()[4] != b'-' || text.as_bytes()[7] != b'-' || !(1..=12).contains(&month) {
        return None;
    }
    let next = if month == 12 { days_of(year + 1, 1, 1) } else { days_of(year, month + 1, 1) };
    let length = next - days_of(year, month, 1);
    (1..=length).contains(&day).then(|| days_of(year, month, day))
}

/// A moment of RFC 3339, as Go reads it.
pub fn parse_timestamp(text: &str) -> Option<Moment> {
    if !text.is_ascii() || text.get(10..11)? != "T" {
        return None;
    }
    let days = date(text)?;
    // An hour may have one digit.
    let (hour, text) = text[11..].split_once(':').filter(|(hour, _)| hour.len() <= 2)?;
    let bytes = text.as_bytes();
    if bytes.len() < 6 || bytes[2] != b':' {
        return None;
    }
    let hour = digits(hour, 0, hour.len().max(1))?;
    let (minute, second) = (digits(text, 0, 2)?, digits(text, 3, 2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 5;
    let mut nanos = 0u32;
    if matches!(bytes[at], b'.' | b',') {
        let count = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        let fraction = &text[at + 1..at + 1 + count.min(9)];
        nanos = fraction.parse::<u32>().ok()? * 10u32.pow(9 - fraction.len() as u32);
        at += 1 + count;
    }
    let offset = match &text[at..] {
        "Z" => 0,
        zone => {
            let sign = match zone.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = (digits(zone, 1, 2)?, digits(zone, 4, 2)?);
            if zone.len() != 6 || zone.as_bytes()[3] != b':' || hours > 24 || minutes > 60 {
                return None;
            }
            sign * (hours * 3_600 + minutes * 60)
        }
    };
    Moment::new(days * 86_400 + hour * 3_600 + minute * 60 + second - offset, nanos)
}

/// A length of time as definitions of custom resources may write it: Go's form, or numbers with long units.
pub fn parse_open_duration(text: &str) -> Option<i64> {
    if let Ok(nanos) = longshore_api::duration::parse(text) {
        return Some(nanos);
    }
    if !longshore_api::structural::formats::fits("duration", text) {
        return None;
    }
    let mut total = 0i64;
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..end].parse().ok()?;
        let unit: String =
            rest[end..].trim_start().chars().take_while(|c| c.is_alphabetic()).collect();
        rest = &rest[end..];
        total = total.checked_add(number.checked_mul(unit_nanos(&unit.to_lowercase())?)?)?;
    }
    Some(total)
}

fn unit_nanos(unit: &str) -> Option<i64> {
    const UNITS: [(&[&str], i64); 8] = [
        (&["ns", "nano"], 1),
        (&["us", "\u{b5}s", "micro"], 1_000),
        (&["ms", "milli"], 1_000_000),
        (&["s", "sec"], SECOND),
        (&["m", "min"], 60 * SECOND),
        (&["h", "hr", "hour"], 3_600 * SECOND),
        (&["d", "day"], 86_400 * SECOND),
        (&["w", "wk", "week"], 604_800 * SECOND),
    ];
    let fits = |names: &[&str]| {
        names.contains(&unit) || names.last().is_some_and(|long| unit.starts_with(long))
    };
    UNITS.iter().find(|(names, _)| fits(names)).map(|(_, nanos)| *nanos)
}

/// Seconds, with a fraction where there is one.
pub fn duration_text(nanos: i64) -> String {
    let seconds = (nanos / SECOND) as f64 + (nanos % SECOND) as f64 / 1e9;
    format!("{seconds}s")
}

/// As RFC 3339 in UTC.
pub fn timestamp_text(moment: Moment) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = civil(moment.seconds);
    let mut out = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if moment.nanos > 0 {
        out.push('.');
        out.push_str(format!("{:09}", moment.nanos).trim_end_matches('0'));
    }
    out.push('Z');
    out
}

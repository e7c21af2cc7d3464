//! Schedules of cron jobs: five fields, names, ranges, steps and the usual abbreviations.
//!
//! upstream: vendor/github.com/robfig/cron/v3 (standard parser)

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// Years that are searched for the next time.
const YEARS_MAX: i16 = 5;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The values of one field, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// Written as `*`: for days it means that the other day field decides alone.
    star: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits & (1 << value) != 0)
    }
}

/// A schedule in a time zone.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    zone: TimeZone,
}

/// Reads one field with values from `min` to `max`.
fn field(text: &str, min: u32, max: u32, names: &[&str]) -> Result<Field, String> {
    let mut all = Field { bits: 0, star: false };
    for part in text.split(',') {
        let one = range(part, min, max, names)?;
        all.bits |= one.bits;
        all.star |= one.star;
    }
    Ok(all)
}

fn value(text: &str, names: &[&str], min: u32) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = names.iter().position(|name| *name == lower) {
        return u32::try_from(at).map(|at| at + min).map_err(|e| e.to_string());
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

fn range(text: &str, min: u32, max: u32, names: &[&str]) -> Result<Field, String> {
    let (span, step) = match text.split_once('/') {
        None => (text, None),
        Some((span, step)) => (span, Some(value(step, &[], 0)?)),
    };
    let star = span == "*" || span == "?";
    let (first, last) = match span.split_once('-') {
        _ if star => (min, max),
        None => {
            let first = value(span, names, min)?;
            (first, if step.is_some() { max } else { first })
        }
        Some((first, last)) => (value(first, names, min)?, value(last, names, min)?),
    };
    let by = step.unwrap_or(1);
    if first < min || last > max || first > last || by == 0 {
        return Err(format!("value out of range ({min} - {max}): {text}"));
    }
    let step_by = usize::try_from(by).map_err(|e| e.to_string())?;
    let bits = (first..=last).step_by(step_by).fold(0, |bits, value| bits | 1 << value);
    Ok(Field { bits, star: star && by == 1 })
}

impl Schedule {
    /// Reads a schedule; one that names a zone itself follows that one.
    pub(super) fn parse(text: &str, mut zone: TimeZone) -> Result<Self, String> {
        let mut text = text.trim();
        if let Some(rest) = text.strip_prefix("CRON_TZ=").or(text.strip_prefix("TZ=")) {
            let (name, after) = rest.split_once(' ').unwrap_or((rest, ""));
            zone = TimeZone::get(name)
                .map_err(|error| format!("provided bad location {name}: {error}"))?;
            text = after.trim();
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: {fields:?}", fields.len()));
        };
        Ok(Self {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            weekdays: field(weekdays, 0, 6, &DAYS)?,
            zone,
        })
    }

    fn day_fits(&self, at: DateTime) -> bool {
        let by_date = self.days.has(at.day());
        let by_weekday = self.weekdays.has(at.weekday().to_sunday_zero_offset());
        if self.days.star || self.weekdays.star {
            by_date && by_weekday
        } else {
            by_date || by_weekday
        }
    }

    /// The first time after `after`; `None` when there is none in the next years.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let local = self.zone.to_datetime(after);
        let mut at = local.with().second(0).subsec_nanosecond(0).build().ok()?;
        at = at.checked_add(1.minute()).ok()?;
        let last = local.year() + YEARS_MAX;
        while at.year() <= last {
            if !self.months.has(at.month()) {
                at =
                    at.with().day(1).hour(0).minute(0).build().ok()?.checked_add(1.month()).ok()?;
            } else if !self.day_fits(at) {
                at = at.with().hour(0).minute(0).build().ok()?.checked_add(1.day()).ok()?;
            } else if !self.hours.has(at.hour()) {
                at = at.with().minute(0).build().ok()?.checked_add(1.hour()).ok()?;
            } else if !self.minutes.has(at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                let found = self.zone.to_timestamp(at).ok()?;
                if found > after {
                    return Some(found);
                }
                at = at.checked_add(1.minute()).ok()?; // the clock went back here
            }
        }
        None
    }

    /// The last time in `(after, until]`, and whether there were more than `many`.
    pub(super) fn last(
        &self,
        after: Timestamp,
        until: Timestamp,
        many: usize,
    ) -> (Option<Timestamp>, bool) {
        let times = std::iter::successors(self.next(after), |at| self.next(*at));
        let missed = times.take_while(|at| *at <= until).take(many + 1).count();
        let mut window = 2 * 60;
        loop {
            let start = until.checked_sub(jiff::SignedDuration::from_secs(window));
            let start = start.unwrap_or(after).max(after);
            let times = std::iter::successors(self.next(start), |at| self.next(*at));
            let last = times.take_while(|at| *at <= until).last();
            if last.is_some() || start == after {
                return (last, missed > many);
            }
            window *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(text: &str, after: &str) -> String {
        let schedule = Schedule::parse(text, TimeZone::UTC).unwrap();
        schedule.next(after.parse().unwrap()).map_or(String::new(), |t| t.to_string())
    }

    #[test]
    fn schedules_follow_the_clock_of_their_zone() {
        let zone = TimeZone::get("Asia/Tokyo").unwrap();
        let schedule = Schedule::parse("0 0 29 2 *", zone).unwrap();
        let from: Timestamp = "2023-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(schedule.next(from).unwrap().to_string(), "2024-02-28T15:00:00Z");
        let own = Schedule::parse("CRON_TZ=Asia/Tokyo 0 0 29 2 *", TimeZone::UTC).unwrap();
        assert_eq!(own.next(from), schedule.next(from));
        assert!(Schedule::parse("TZ=Nowhere/At/All 0 0 * * *", TimeZone::UTC).is_err());
    }

    #[test]
    fn next_times() {
        for (text, after, wanted) in [
            ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"),
            ("0 0 * * *", "2026-01-31T12:00:00Z", "2026-02-01T00:00:00Z"),
            ("5 4 * feb mon", "2026-01-31T12:00:00Z", "2026-02-02T04:05:00Z"),
            ("0 0 13 * fri", "2026-02-10T00:00:00Z", "2026-02-13T00:00:00Z"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", ""),
        ] {
            assert_eq!(next(text, after), wanted, "{text}");
        }
    }

    #[test]
    fn broken_schedules() {
        for text in ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "5-1 * * * *"] {
            assert!(Schedule::parse(text, TimeZone::UTC).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_missed_time() {
        let schedule = Schedule::parse("*/10 * * * *", TimeZone::UTC).unwrap();
        let last = |after: &str, until: &str| {
            schedule.last(after.parse().unwrap(), until.parse().unwrap(), 100)
        };
        let (at, many) = last("2026-01-01T00:00:00Z", "2026-01-01T00:35:00Z");
        assert_eq!((at, many), (Some("2026-01-01T00:30:00Z".parse().unwrap()), false));
        let (at, many) = last("2026-01-01T00:00:00Z", "2026-01-09T00:35:00Z");
        assert_eq!((at, many), (Some("2026-01-09T00:30:00Z".parse().unwrap()), true));
        assert_eq!(last("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"), (None, false));
    }
}

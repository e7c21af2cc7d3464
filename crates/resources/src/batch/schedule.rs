//! Cron schedules and time zones: whether they can be read.
//!
//! upstream: vendor/github.com/robfig/cron/v3/parser.go, pkg/apis/batch/validation/validation.go

/// The names of the IANA time zones, one a line.
const ZONES: &str = include_str!("zones.txt");
const ZONE_PART_MAX: usize = 14;

/// The limits of a field, and the names that its numbers have.
struct Field {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Minute, hour, day of the month, month, day of the week.
const FIELDS: [Field; 5] = [
    Field { min: 0, max: 59, names: &[] },
    Field { min: 0, max: 23, names: &[] },
    Field { min: 1, max: 31, names: &[] },
    Field { min: 1, max: 12, names: &MONTHS },
    Field { min: 0, max: 6, names: &DAYS },
];
const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Whether a schedule can be read; the error says why not, in upstream's words.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut rest = schedule;
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        let (_, after) = schedule.split_once('=').unwrap_or(("", schedule));
        let Some((zone, after)) = after.split_once(' ') else {
            return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]"
                .to_owned());
        };
        if !is_zone(zone) {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let parts: Vec<&str> = rest.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly {} fields, found {}: [{}]",
            FIELDS.len(),
            parts.len(),
            parts.join(" ")
        ));
    }
    parts.iter().zip(&FIELDS).try_for_each(|(part, field)| {
        part.split(',').filter(|r| !r.is_empty()).try_for_each(|r| range(r, field))
    })
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    let Some(duration) = text.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {text}"));
    };
    let parsed = longshore_api::duration::parse(duration);
    parsed.map(drop).map_err(|error| format!("failed to parse duration {text}: {error}"))
}

fn range(text: &str, field: &Field) -> Result<(), String> {
    let with_step: Vec<&str> = text.split('/').collect();
    let bounds: Vec<&str> = with_step[0].split('-').collect();
    let (mut start, mut end) = (field.min, field.max);
    if bounds[0] != "*" && bounds[0] != "?" {
        start = number_or_name(bounds[0], field)?;
        end = match bounds.as_slice() {
            [_] => start,
            [_, end] => number_or_name(end, field)?,
            _ => return Err(format!("too many hyphens: {text}")),
        };
    }
    let step = match with_step.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if bounds.len() == 1 {
                end = field.max;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let Field { min, max, .. } = field;
    if start < *min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
    }
    if end > *max {
        return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn number_or_name(text: &str, field: &Field) -> Result<u64, String> {
    let name = text.to_lowercase();
    match field.names.iter().zip(field.min..).find(|(known, _)| **known == name) {
        Some((_, number)) => Ok(number),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let parsed = || {
        let problem = if good { "value out of range" } else { "invalid syntax" };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {problem}")
    };
    let value: i64 = if good { text.parse().map_err(|_| parsed())? } else { return Err(parsed()) };
    u64::try_from(value).map_err(|_| format!("negative number ({value}) not allowed: {text}"))
}

fn is_zone(name: &str) -> bool {
    name.is_empty() || name == "UTC" || name == "Local" || ZONES.lines().any(|zone| zone == name)
}

/// What is wrong with the name of a time zone.
pub(super) fn zone_errors(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["timeZone must be nil or non-empty string".to_owned()];
    }
    let good = |part: &str| {
        (1..=ZONE_PART_MAX).contains(&part.len())
            && part != "."
            && part != ".."
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
    };
    let unknown = format!("unknown time zone {name}");
    if !name.split('/').all(good) {
        return vec![unknown];
    }
    let mut errors = Vec::new();
    if name.eq_ignore_ascii_case("local") {
        errors.push(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
                .to_owned(),
        );
    }
    if !is_zone(name) {
        errors.push(unknown);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_upstream_reads_them() {
        for (schedule, want) in [
            ("*/5 * * * *", ""),
            ("0 0 1 jan sun", ""),
            ("@hourly", ""),
            ("@every 1h30m", ""),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("@often", "unrecognized descriptor: @often"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("TZ=UTC 0 0 * * *", ""),
        ] {
            assert_eq!(check(schedule).err().unwrap_or_default(), want, "{schedule}");
        }
    }

    #[test]
    fn time_zones_are_known_by_their_exact_names() {
        for (zone, good) in
            [("Europe/Berlin", true), ("UTC", true), ("Europe/Berlinx", false), ("../x", false)]
        {
            assert_eq!(zone_errors(zone).is_empty(), good, "{zone}");
        }
    }
}

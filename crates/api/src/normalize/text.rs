//! Texts with a form of their own: bytes and times. Errors are in Go's words.

use base64::Engine as _;
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;

/// What can stand in a message besides the text itself.
type Parsed<T> = Result<T, String>;

/// Reads base64 as Go does: line breaks are skipped, padding is needed. Gives the canonical text.
///
/// upstream: Go's encoding/base64
pub(super) fn base64(text: &str) -> Parsed<String> {
    match decode_base64(text.as_bytes()) {
        Ok(bytes) => Ok(encode(&bytes)),
        Err(at) => Err(format!("illegal base64 data at input byte {at}")),
    }
}

/// Bytes as base64.
pub(super) fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes, or the place where Go stops.
fn decode_base64(text: &[u8]) -> Result<Vec<u8>, usize> {
    let skip_breaks = |mut at: usize| {
        while matches!(text.get(at), Some(b'\n' | b'\r')) {
            at += 1;
        }
        at
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut at = 0;
    loop {
        let mut quantum = [0u8; 4];
        let mut length = 0;
        while length < 4 {
            at = skip_breaks(at);
            let Some(&byte) = text.get(at) else {
                return if length == 0 { Ok(out) } else { Err(at - length) };
            };
            at += 1;
            if let Some(bits) = six_bits(byte) {
                quantum[length] = bits;
                length += 1;
                continue;
            }
            if byte != b'=' || length < 2 {
                return Err(at - 1);
            }
            if length == 2 {
                at = skip_breaks(at);
                match text.get(at) {
                    None => return Err(text.len()),
                    Some(b'=') => at += 1,
                    Some(_) => return Err(at - 1),
                }
            }
            at = skip_breaks(at);
            push(&mut out, quantum, length);
            return if at < text.len() { Err(at) } else { Ok(out) };
        }
        push(&mut out, quantum, 4);
    }
}

fn push(out: &mut Vec<u8>, quantum: [u8; 4], length: usize) {
    let joined = quantum.iter().fold(0u32, |bits, six| bits << 6 | u32::from(*six));
    let [_, a, b, c] = joined.to_be_bytes();
    out.extend(&[a, b, c][..length - 1]);
}

fn six_bits(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Reads a time; gives it in UTC as Go writes it, or `None` for the zero time.
///
/// upstream: Go's time.Parse; staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/{time,micro_time}.go
pub(super) fn time(text: &str, micros: bool) -> Parsed<Option<String>> {
    let layout = if micros { MICROS } else { SECONDS };
    let mut reader = Reader { text, rest: text, layout };
    let time = reader.time(micros)?;
    let zero = Date::constant(1, 1, 1).to_datetime(Time::midnight());
    if Offset::UTC.to_datetime(time) == zero {
        return Ok(None);
    }
    let form = if micros { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(time.strftime(form).to_string()))
}

/// A text that is read along a layout.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Reader<'_> {
    fn time(&mut self, micros: bool) -> Parsed<Timestamp> {
        let year = self.number("2006", 4, 0..=9999, "year")?;
        self.literal("-")?;
        let month = self.number("01", 2, 1..=12, "month")?;
        self.literal("-")?;
        let day = self.number("02", 2, 0..=99, "day")?;
        self.literal("T")?;
        let hour = self.number("15", 0, 0..=23, "hour")?;
        self.literal(":")?;
        let minute = self.number("04", 2, 0..=59, "minute")?;
        self.literal(":")?;
        let second = self.number("05", 2, 0..=59, "second")?;
        let nanos = self.fraction(micros)?;
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(self.out_of_form(&format!("extra text: {}", quote(self.rest))));
        }
        let date = Date::new(year as i16, month as i8, day as i8)
            .map_err(|_| self.out_of_form("day out of range"))?;
        let clock = Time::new(hour as i8, minute as i8, second as i8, nanos)
            .map_err(|_| self.out_of_form("second out of range"))?;
        let time = Offset::UTC
            .to_timestamp(date.to_datetime(clock))
            .and_then(|time| time.checked_sub(jiff::SignedDuration::from_secs(offset)));
        time.map_err(|_| self.out_of_form("time zone offset hour out of range"))
    }

    fn bad(&self, at: &str, element: &str) -> String {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(self.text),
            quote(self.layout),
            quote(at),
            quote(element)
        )
    }

    fn out_of_form(&self, why: &str) -> String {
        format!("parsing time {}: {why}", quote(self.text))
    }

    fn literal(&mut self, literal: &str) -> Parsed<()> {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.bad(self.rest, literal)),
        }
    }

    /// A number of so many digits; 0 stands for one or two.
    fn number(
        &mut self,
        element: &str,
        width: usize,
        range: std::ops::RangeInclusive<i32>,
        name: &str,
    ) -> Parsed<i32> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let width = if width == 0 { digits.clamp(1, 2) } else { width };
        if digits < width {
            return Err(self.bad(self.rest, element));
        }
        let (number, rest) = self.rest.split_at(width);
        let number: i32 = number.parse().map_err(|_| self.bad(self.rest, element))?;
        self.rest = rest;
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.out_of_form(&format!("{name} out of range")))
    }

    /// The fraction of a second in nanoseconds: six digits with `micros`, any number without.
    fn fraction(&mut self, micros: bool) -> Parsed<i32> {
        let after = self.rest.strip_prefix(['.', ',']);
        let digits = after.map_or(0, |a| a.bytes().take_while(u8::is_ascii_digit).count());
        if micros && digits < 6 {
            return Err(self.bad(self.rest, ".000000"));
        }
        if digits == 0 {
            return Ok(0);
        }
        let used = if micros { 6 } else { digits };
        let (digits, rest) = self.rest[1..].split_at(used);
        self.rest = rest;
        let nanos = format!("{:0<9}", &digits[..digits.len().min(9)]);
        Ok(nanos.parse().unwrap_or(0))
    }

    /// The zone's offset in seconds.
    fn offset(&mut self) -> Parsed<i64> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let hold = self.rest;
        let bad = || self.bad(hold, "Z07:00");
        let sign = match hold.as_bytes() {
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return Err(bad()),
        };
        let zone = hold.get(1..6).ok_or_else(bad)?;
        let (hours, minutes) = zone.split_once(':').ok_or_else(bad)?;
        let part = |part: &str| part.parse::<u8>().ok().filter(|_| part.len() == 2);
        let (hours, minutes) = part(hours).zip(part(minutes)).ok_or_else(bad)?;
        for (value, most, name) in [(hours, 24, "hour"), (minutes, 60, "minute")] {
            if value > most {
                return Err(self.out_of_form(&format!("time zone offset {name} out of range")));
            }
        }
        self.rest = &hold[6..];
        Ok(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
    }
}

/// A text in quotes; bytes beyond ASCII are written as numbers.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

//! Quantities such as `500m`, `1.5Gi` or `2e3`: parsing, canonical text, comparison, arithmetic.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/api/resource/quantity.go

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;

/// The largest binary quantity: a larger one is cut to it.
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;

/// How a quantity is written; kept from what was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `n u m "" k M G T P E`.
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`.
    DecimalExponent,
}

/// A fixed-point number with nine decimals and a preferred form. Equality and order look at the
/// number only.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not of the form number and suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Form,
    /// An unknown suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// No digits where there have to be some.
    #[error("unable to parse numeric part of quantity")]
    Number,
}

/// Decimal suffixes by power of ten, from the largest.
const DECIMAL: [(&str, i32); 10] = [
    ("E", 18),
    ("P", 15),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("", 0),
    ("m", -3),
    ("u", -6),
    ("n", -9),
];
/// Binary suffixes by power of 1024, from the smallest.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// A whole number.
    pub fn from_integer(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, format: Format::DecimalSi }
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64) -> Self {
        Self { nanos: i128::from(value) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// The same number, preferably written in another form.
    #[must_use]
    pub fn in_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Parses a text.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let integer = leading_digits(unsigned);
        let after = &unsigned[integer.len()..];
        let (fraction, suffix) = match after.strip_prefix('.') {
            Some(rest) => rest.split_at(leading_digits(rest).len()),
            None => ("", after),
        };
        if text.is_empty() || !is_suffix(suffix) {
            return Err(ParseError::Form);
        }
        let (format, base, exponent) = interpret(suffix).ok_or(ParseError::Suffix)?;
        // Without digits it is zero, unless upstream needs its arbitrary precision for the suffix.
        let fast = match format {
            Format::BinarySi => exponent <= BARE_BINARY_MAX,
            _ => exponent >= -9,
        };
        if integer.is_empty() && fraction.is_empty() && !fast {
            return Err(ParseError::Number);
        }
        let mut magnitude = scale(integer, fraction, base, exponent);
        let mut format = format;
        if format == Format::BinarySi {
            magnitude = magnitude.min(BINARY_MAX);
            if 0 < magnitude && magnitude < NANO {
                format = Format::DecimalSi;
            }
        }
        let nanos = if text.starts_with('-') { -magnitude } else { magnitude };
        Ok(Self { nanos, format })
    }

    /// A text as upstream keeps it: as it was given when it is plain enough, else canonical.
    ///
    /// # Errors
    /// When the text is not a quantity.
    pub fn kept_text(text: &str) -> Result<String, ParseError> {
        let quantity = Self::parse(text)?;
        Ok(if is_kept(text) { text.to_owned() } else { quantity.to_string() })
    }

    /// The value in whole units, rounded up (away from zero), as far as an `i64` goes.
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// The value in thousandths, rounded up (away from zero), as far as an `i64` goes.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(self, unit: i128) -> i64 {
        let rounded = divide_up(self.nanos, unit);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    /// As a floating point number, as near as one is.
    pub fn approximate(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether the value is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// The preferred form.
    pub fn format(self) -> Format {
        self.format
    }

    /// The sum; it takes the form of `other` when this one is zero, as upstream's does.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// The difference.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

/// The largest power of 1024 that may stand without digits.
const BARE_BINARY_MAX: i32 = 4;

/// Most digits that upstream holds without arbitrary precision.
const DIGITS_MAX: usize = 18;

/// Whether upstream keeps a well-formed text rather than make it canonical.
///
/// upstream: ParseQuantity of staging/src/k8s.io/apimachinery/pkg/api/resource/quantity.go
fn is_kept(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let integer = leading_digits(unsigned);
    let after = &unsigned[integer.len()..];
    let (fraction, suffix) = match after.strip_prefix('.') {
        Some(rest) => rest.split_at(leading_digits(rest).len()),
        None => ("", after),
    };
    let integer = integer.trim_start_matches('0');
    let integer = if integer.is_empty() { "0" } else { integer };
    let digits = format!("{integer}{fraction}");
    match interpret(suffix) {
        Some((Format::BinarySi, _, power)) => {
            // A kibi has about three digits.
            let room = 14 - power * 3 - i32::try_from(integer.len()).unwrap_or(i32::MAX);
            let value: i64 = integer.parse().unwrap_or(0);
            fraction.is_empty() && room >= 0 && value & 7 != 0
        }
        Some((_, _, exponent)) => {
            let decimals = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
            let scale = exponent.saturating_sub(decimals);
            digits.len() <= DIGITS_MAX
                && scale >= -9
                && scale % 3 == 0
                && !digits.ends_with("000")
                && !digits.starts_with('0')
        }
        None => false,
    }
}

fn leading_digits(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_digit).count()]
}

/// Whether a text has the form of a suffix: letters, then a sign, then digits.
fn is_suffix(text: &str) -> bool {
    let rest = text.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    rest.bytes().all(|b| b.is_ascii_digit())
}

/// What a suffix stands for: a form, a base and a power of it.
fn interpret(suffix: &str) -> Option<(Format, u32, i32)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Format::DecimalSi, 10, *power));
    }
    if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        return Some((Format::BinarySi, 1024, i32::try_from(power).ok()?));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Format::DecimalExponent, 10, exponent))
}

/// The number in billionths, rounded up; what does not fit is the largest number there is.
fn scale(integer: &str, fraction: &str, base: u32, exponent: i32) -> i128 {
    let digits = format!("{integer}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    // More digits than a number of ours can have: too large, unless they are decimals.
    let decimals = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let power_of_ten = if base == 10 { exponent.saturating_add(9) } else { 9 };
    let power_of_ten = power_of_ten.saturating_sub(decimals);
    let kept = digits.len().min(38);
    let cut = i32::try_from(digits.len() - kept).unwrap_or(i32::MAX);
    let mut value: i128 = match digits[..kept].parse() {
        Ok(value) => value,
        Err(_) => return i128::MAX,
    };
    if digits[kept..].bytes().any(|b| b != b'0') {
        value = value.saturating_add(1);
    }
    if base == 1024 {
        let factor = 1024i128.pow(exponent.unsigned_abs());
        value = value.saturating_mul(factor);
    }
    shift(value, power_of_ten.saturating_add(cut))
}

/// A value times a power of ten, rounded up.
fn shift(value: i128, power: i32) -> i128 {
    let factor = 10i128.checked_pow(power.unsigned_abs());
    match (power < 0, factor) {
        (false, Some(factor)) => value.saturating_mul(factor),
        (false, None) => i128::MAX,
        (true, Some(factor)) => divide_up(value, factor),
        (true, None) => 1,
    }
}

/// A quotient rounded away from zero.
fn divide_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    match (value % by).cmp(&0) {
        Ordering::Equal => quotient,
        Ordering::Greater => quotient + 1,
        Ordering::Less => quotient - 1,
    }
}

impl fmt::Display for Quantity {
    /// Writes the canonical text: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.unsigned_abs() < (1024 * NANO).unsigned_abs();
        match self.format {
            // A binary number with a fraction loses its form rather than the fraction.
            Format::BinarySi if !small && self.nanos % NANO == 0 => {
                let mut value = self.nanos / NANO;
                let mut suffix = 0;
                while value % 1024 == 0 && suffix + 1 < BINARY.len() {
                    value /= 1024;
                    suffix += 1;
                }
                write!(f, "{value}{}", BINARY[suffix])
            }
            Format::DecimalExponent => {
                let (value, power) = decimal(self.nanos);
                if power == 0 { write!(f, "{value}") } else { write!(f, "{value}e{power}") }
            }
            Format::DecimalSi | Format::BinarySi => {
                let (value, power) = decimal(self.nanos);
                let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(s, _)| s);
                write!(f, "{value}{suffix}")
            }
        }
    }
}

/// Billionths as an integer times the largest power of 1000 that loses nothing, up to exa.
fn decimal(nanos: i128) -> (i128, i32) {
    let (mut value, mut power) = (nanos, -9);
    while value % 1000 == 0 && power < 18 {
        value /= 1000;
        power += 3;
    }
    (value, power)
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

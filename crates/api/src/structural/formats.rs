//! Formats of texts.
//!
//! upstream: k8s.io/kube-openapi/pkg/validation/strfmt and internal/third_party/govalidator,
//! staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/validation/formats.go

mod address;
mod numbers;
#[cfg(test)]
mod tests;
mod times;

use std::sync::LazyLock;

use regex::Regex;

use crate::url::Url;

/// Checks a text against a format.
type Check = fn(&str) -> bool;

/// The formats of texts, by their names without dashes.
const FORMATS: [(&str, Check); 26] = [
    ("bsonobjectid", |text| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit())),
    ("byte", is_base64),
    ("cidr", address::is_cidr),
    ("creditcard", numbers::is_credit_card),
    ("date", times::is_date),
    ("datetime", times::is_date_time),
    ("duration", times::is_duration),
    ("email", address::is_mail),
    ("hexcolor", is_hex_color),
    ("hostname", address::is_hostname),
    ("ipv4", address::is_ipv4),
    ("ipv6", address::is_ipv6),
    ("isbn", |text| numbers::is_isbn10(text) || numbers::is_isbn13(text)),
    ("isbn10", numbers::is_isbn10),
    ("isbn13", numbers::is_isbn13),
    ("k8slongname", is_long_name),
    ("k8sshortname", is_short_name),
    ("mac", address::is_mac),
    ("password", |_| true),
    ("rgbcolor", is_rgb_color),
    ("ssn", numbers::is_ssn),
    ("uri", |text| Url::of_request(text).is_ok()),
    ("uuid", |text| is_uuid(text, None)),
    ("uuid3", |text| is_uuid(text, Some(b'3'))),
    ("uuid4", |text| is_uuid(text, Some(b'4'))),
    ("uuid5", |text| is_uuid(text, Some(b'5'))),
];

fn check(format: &str) -> Option<Check> {
    let name = format.replace('-', "");
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}

/// Whether there is such a format of texts.
pub fn is_known(format: &str) -> bool {
    check(format).is_some()
}

/// Whether a format says something about values of a type; of one that is not told when it is empty.
pub fn belongs(format: &str, kind: &str) -> bool {
    match kind {
        "" | "string" => is_known(format),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a text has a format; any has one that nobody knows.
pub fn fits(format: &str, text: &str) -> bool {
    check(format).is_none_or(|check| check(text))
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let padding = text.len() - body.len();
    !text.is_empty() && text.len().is_multiple_of(4) && padding <= 2 && body.bytes().all(letter)
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_rgb_color(text: &str) -> bool {
    static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
        // Upstream also takes numbers of three digits that begin with 1.
        let part = r"[\t\n\x0c\r ]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[\t\n\x0c\r ]*";
        Regex::new(&format!(r"^rgb\({part},{part},{part}\)$")).ok()
    });
    FORM.as_ref().is_some_and(|form| form.is_match(text))
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let mut rest = text;
    let mut digits = Vec::with_capacity(32);
    for length in [8, 4, 4, 4, 12] {
        if !digits.is_empty() {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some(part) = rest.get(..length) else { return false };
        digits.extend_from_slice(part.as_bytes());
        rest = &rest[length..];
    }
    let variant = matches!(version, Some(b'4' | b'5'));
    rest.is_empty()
        && digits.iter().all(u8::is_ascii_hexdigit)
        && version.is_none_or(|version| digits[12] == version)
        && (!variant || matches!(digits[16].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'))
}

fn is_segment(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| letter(*first) && letter(*last))
        && bytes.iter().all(|b| letter(*b) || *b == b'-')
}

fn is_short_name(text: &str) -> bool {
    text.len() <= 63 && is_segment(text)
}

fn is_long_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_segment)
}

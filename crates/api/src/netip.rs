//! Addresses of the internet as Go reads them.

use std::net::IpAddr;

/// Reads an address, with the zone it may have.
///
/// # Errors
/// Go's words for what is wrong with it.
pub fn parse(text: &str) -> Result<(IpAddr, Option<&str>), String> {
    let (plain, zone) = match text.split_once('%') {
        Some((plain, zone)) if plain.contains(':') && !zone.is_empty() => (plain, Some(zone)),
        _ => (text, None),
    };
    plain.parse().map(|address| (address, zone)).map_err(|_| why_not(text))
}

/// upstream: Go's net/netip ParseAddr
fn why_not(text: &str) -> String {
    let quoted = format!("{text:?}");
    let Some(first) = text.find(['.', ':', '%']) else {
        return format!("ParseAddr({quoted}): unable to parse IP");
    };
    match text.as_bytes()[first] {
        b'.' => {
            let (mut digits, mut fields, mut value) = (0usize, 0usize, 0u32);
            for (at, letter) in text.char_indices() {
                let wrong = |what: &str| format!("ParseAddr({quoted}): {what}");
                match letter {
                    '0'..='9' => {
                        if digits == 1 && value == 0 {
                            return wrong("IPv4 field has octet with leading zero");
                        }
                        value = value * 10 + (letter as u32 - '0' as u32);
                        digits += 1;
                        if value > 255 {
                            return wrong("IPv4 field has value >255");
                        }
                    }
                    '.' if at == 0 || at == text.len() - 1 || digits == 0 => {
                        return format!(
                            "ParseAddr({quoted}): IPv4 field must have at least one digit (at {:?})",
                            &text[at..]
                        );
                    }
                    '.' if fields == 3 => return wrong("IPv4 address too long"),
                    '.' => {
                        fields += 1;
                        (digits, value) = (0, 0);
                    }
                    _ => {
                        return format!(
                            "ParseAddr({quoted}): unexpected character (at {:?})",
                            &text[at..]
                        );
                    }
                }
            }
            format!("ParseAddr({quoted}): IPv4 address too short")
        }
        b'%' => format!("ParseAddr({quoted}): missing IPv6 address"),
        _ => match six(text) {
            (why, Some(at)) => format!("ParseAddr({quoted}): {why} (at {at:?})"),
            (why, None) => format!("ParseAddr({quoted}): {why}"),
        },
    }
}

/// What is wrong with an address of the sixth version, and from where on.
fn six(text: &str) -> (&'static str, Option<&str>) {
    let (plain, zone) =
        text.split_once('%').map_or((text, None), |(plain, zone)| (plain, Some(zone)));
    if zone == Some("") {
        return ("zone must be a non-empty string", None);
    }
    let (mut rest, mut gap) = plain.strip_prefix("::").map_or((plain, false), |rest| (rest, true));
    let mut fields = 0;
    while fields < 8 {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits > 4 {
            return ("each group must have 4 or less digits", Some(rest));
        }
        if digits == 0 {
            return ("each colon-separated field must have at least one digit", Some(rest));
        }
        if rest[digits..].starts_with('.') {
            if !gap && fields != 6 {
                return (
                    "embedded IPv4 address must replace the final 2 fields of the address",
                    Some(rest),
                );
            }
            if fields > 6 {
                return (
                    "too many hex fields to fit an embedded IPv4 at the end of the address",
                    Some(rest),
                );
            }
            return ("IPv4 address too short", None);
        }
        fields += 1;
        rest = &rest[digits..];
        if rest.is_empty() {
            break;
        }
        let Some(after) = rest.strip_prefix(':') else {
            return ("unexpected character, want colon", Some(rest));
        };
        if after.is_empty() {
            return ("colon must be followed by more characters", Some(rest));
        }
        rest = after;
        if let Some(after) = rest.strip_prefix(':') {
            if gap {
                return ("multiple :: in address", Some(rest));
            }
            (gap, rest) = (true, after);
            if rest.is_empty() {
                break;
            }
        }
    }
    if !rest.is_empty() {
        return ("trailing garbage after address", Some(rest));
    }
    if gap {
        ("the :: must expand to at least one field of zeros", None)
    } else {
        ("address string too short", None)
    }
}

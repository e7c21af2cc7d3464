//! Addresses: of machines, networks, mail and resources.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// An address; numbers of IPv4 may have leading zeros.
fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let parts: Vec<u8> = text
        .split('.')
        .map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let significant = part.trim_start_matches('0');
            let significant = if significant.is_empty() { "0" } else { significant };
            significant.parse().ok().filter(|_| digits)
        })
        .collect::<Option<_>>()?;
    let four: [u8; 4] = parts.try_into().ok()?;
    Some(Ipv4Addr::from(four).into())
}

pub(super) fn is_ipv4(text: &str) -> bool {
    text.contains('.') && sloppy_ip(text).is_some()
}

pub(super) fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match sloppy_ip(address) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    let digits = bits.bytes().all(|b| b.is_ascii_digit());
    digits && bits.parse::<u16>().is_ok_and(|bits| bits <= most)
}

/// Bytes in hexadecimal with colons or dashes, or pairs of them with dots.
///
/// upstream: Go's net.ParseMAC
pub(super) fn is_mac(text: &str) -> bool {
    let (separator, width) = match text.as_bytes() {
        [_, _, separator @ (b':' | b'-'), ..] => (char::from(*separator), 2),
        [_, _, _, _, b'.', ..] => ('.', 4),
        _ => return false,
    };
    let mut bytes = 0;
    let good = text.split(separator).all(|part| {
        bytes += width / 2;
        part.len() == width && part.bytes().all(|b| b.is_ascii_hexdigit())
    });
    good && matches!(bytes, 6 | 8 | 20)
}

/// upstream: k8s.io/kube-openapi/pkg/validation/strfmt/default.go HostnamePattern
pub(super) fn is_hostname(text: &str) -> bool {
    static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let letter = r"[a-zA-Z0-9\p{S}\p{L}]";
        let inner = r"[a-zA-Z0-9\-\p{S}\p{L}]";
        let single = format!("{letter}((-?{letter}{{0,62}})?)");
        let label = format!(r"{letter}(({inner}{{0,61}}{letter})?)\.");
        let top = r"[a-zA-Z\p{L}]{2,63}";
        Regex::new(&format!("^({single}|({label}){{1,}}({top}))$")).ok()
    });
    FORM.as_ref().is_some_and(|form| form.is_match(text))
        && text.len() <= 255
        && text.split('.').all(|label| label.len() <= 63)
}

/// One address of mail, also with a name before it.
///
/// upstream: Go's net/mail ParseAddress (RFC 5322)
pub(super) fn is_mail(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    match text.strip_suffix('>').and_then(|inner| inner.rsplit_once('<')) {
        Some((name, address)) => is_display_name(name.trim()) && is_mail_spec(address),
        None => is_mail_spec(text),
    }
}

/// Words and quoted texts with blanks between.
fn is_display_name(mut text: &str) -> bool {
    while !text.is_empty() {
        if let Some(quoted) = text.strip_prefix('"') {
            let Some(rest) = after_quoted(quoted) else { return false };
            text = rest.trim_start();
        } else {
            let end = text.find([' ', '\t', '"']).unwrap_or(text.len());
            if !text[..end].chars().all(|c| is_atom_letter(c) || c == '.') {
                return false;
            }
            text = text[end..].trim_start();
        }
    }
    true
}

/// What follows a quoted text whose opening quote was read.
fn after_quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (index, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&text[index + 1..]),
            _ if letter == '\t' || !letter.is_control() => {}
            _ => return None,
        }
    }
    None
}

fn is_atom_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(letter)
        || (!letter.is_ascii() && !letter.is_control())
}

fn is_dot_atom(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom_letter))
}

fn is_mail_spec(text: &str) -> bool {
    let domain = match text.strip_prefix('"') {
        Some(quoted) => match after_quoted(quoted) {
            // Nothing in the quotes is no name.
            Some(rest) if !text.starts_with("\"\"") => rest.strip_prefix('@'),
            _ => None,
        },
        None => text.split_once('@').filter(|(local, _)| is_dot_atom(local)).map(|parts| parts.1),
    };
    let Some(domain) = domain else { return false };
    match domain.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(address) => match address.strip_prefix("IPv6:") {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => address.parse::<Ipv4Addr>().is_ok(),
        },
        None => is_dot_atom(domain),
    }
}

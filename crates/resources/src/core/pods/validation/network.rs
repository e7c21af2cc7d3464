//! Addresses and ranges: strict forms, old sloppy ones, and advice on the latter.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/ip.go

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, names};

use crate::core::pods::tree::text;

/// Parses an address; octets of IPv4 addresses may have leading zeros, as once allowed.
pub(crate) fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip);
    }
    let octets: Vec<u8> = text.split('.').map(octet).collect::<Option<_>>()?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn octet(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.trim_start_matches('0'))?
        .parse()
        .ok()
        .or_else(|| text.bytes().all(|b| b == b'0').then_some(0))
}

/// An address as upstream prints it: mapped IPv4 addresses as IPv4.
fn canonical(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

/// Whether the text is an IPv4 address, also in its mapped form.
pub(crate) fn is_ipv4(text: &str) -> bool {
    parse_sloppy(text).is_some_and(|ip| ip.to_canonical().is_ipv4())
}

/// Whether the text is an IPv6 address.
pub(crate) fn is_ipv6(text: &str) -> bool {
    parse_sloppy(text).is_some_and(|ip| ip.to_canonical().is_ipv6())
}

/// An address of an old field: any spelling of a good address. Known values stay allowed.
pub(crate) fn legacy_ip(text: &str, path: &Path, known: &[&str], errors: &mut ErrorList) {
    if known.contains(&text) {
        return;
    }
    let Some(ip) = parse_sloppy(text) else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(Error::invalid(path, text, detail));
        return;
    };
    if text.parse::<IpAddr>().is_err() {
        errors.push(Error::invalid(path, text, "must not have leading 0s"));
    } else if is_mapped(ip) {
        let detail = "must not be an IPv4-mapped IPv6 address";
        errors.push(Error::invalid(path, text, detail));
    }
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// An address of a new field: only the canonical spelling.
pub(crate) fn strict_ip(text: &str, path: &Path, errors: &mut ErrorList) {
    let before = errors.len();
    legacy_ip(text, path, &[], errors);
    if errors.len() > before {
        return;
    }
    let wanted = parse_sloppy(text).map(canonical).unwrap_or_default();
    if wanted != text {
        let detail = format!("must be in canonical form ({wanted:?})");
        errors.push(Error::invalid(path, text, &detail));
    }
}

/// An address that can be the end of a connection.
pub(crate) fn endpoint_ip(text: &str, path: &Path, errors: &mut ErrorList) {
    let Some(ip) = parse_sloppy(text) else {
        errors.push(Error::invalid(path, text, "must be a valid IP address"));
        return;
    };
    let ip = ip.to_canonical();
    let mut bad = |detail: &str| errors.push(Error::invalid(path, text, detail));
    if ip.is_unspecified() {
        bad(&format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        bad("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (local, local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => {
            (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02)
        }
    };
    if local {
        bad("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if local_multicast {
        bad("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// Advice on an address that a strict reader would not take.
pub(crate) fn ip_warnings(path: &str, text: &str) -> Option<String> {
    let ip = parse_sloppy(text)?;
    let strict = text.parse::<IpAddr>();
    if strict.is_err() || is_mapped(ip) {
        let wanted = canonical(ip);
        return Some(format!(
            "{path}: non-standard IP address {text:?} is invalid: use {wanted:?}"
        ));
    }
    let wanted = ip.to_string();
    (ip.is_ipv6() && wanted != text).then(|| {
        format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({wanted:?})")
    })
}

/// Warnings about the addresses of a load balancer.
///
/// upstream: pkg/registry/core/service/strategy.go serviceStatusStrategy.WarningsOnUpdate
pub(crate) fn balancer_warnings(object: &Object) -> Vec<String> {
    let ingress = object.list(&["status", "loadBalancer", "ingress"]).iter().enumerate();
    let told = ingress.filter_map(|(i, item)| {
        ip_warnings(&format!("status.loadBalancer.ingress[{i}]"), text(item, "ip"))
    });
    told.collect()
}

/// An address range in parts: address and prefix length.
pub(crate) fn parse_cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (ip, length) = text.split_once('/')?;
    let ip = parse_sloppy(ip)?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let length: u32 = length.parse().ok()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    (length <= max).then_some((ip, length))
}

fn masked(ip: IpAddr, length: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
        }
    }
}

fn has_zeros(text: &str) -> bool {
    let (ip, length) = text.split_once('/').unwrap_or((text, ""));
    ip.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'))
}

/// A range of an old field. Known values stay allowed.
pub(crate) fn legacy_cidr(text: &str, path: &Path, known: &[&str], errors: &mut ErrorList) {
    if known.contains(&text) {
        return;
    }
    let Some((ip, length)) = parse_cidr(text) else {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(Error::invalid(path, text, detail));
        return;
    };
    let detail = if has_zeros(text) {
        "must not have leading 0s in IP or prefix length"
    } else if is_mapped(ip) {
        "must not have an IPv4-mapped IPv6 address"
    } else if masked(ip, length) != ip {
        "must not have bits set beyond the prefix length"
    } else {
        return;
    };
    errors.push(Error::invalid(path, text, detail));
}

/// Advice on a range that a strict reader would not take.
pub(crate) fn cidr_warnings(path: &str, text: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some((ip, length)) = parse_cidr(text) else { return warnings };
    let net = format!("{}/{length}", canonical(masked(ip, length)));
    if masked(ip, length) != ip {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let single = format!("{}/{bits}", canonical(ip));
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {net:?} or {single:?}?)"
        ));
    }
    if has_zeros(text) || is_mapped(ip) {
        warnings.push(format!("{path}: non-standard CIDR value {text:?} is invalid: use {net:?}"));
    }
    let wanted = format!("{ip}/{length}");
    if warnings.is_empty() && ip.is_ipv6() && wanted != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({wanted:?})"
        ));
    }
    warnings
}

/// A domain name with at least two labels.
pub(crate) fn fully_qualified(name: &str, path: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let broken = names::is_dns1123_subdomain(name);
    if !broken.is_empty() {
        errors.push(Error::invalid(path, name, &broken.join(",")));
        return;
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, name, detail));
        return;
    }
    for label in name.split('.') {
        let broken = names::is_dns1123_label(label);
        if !broken.is_empty() {
            errors.push(Error::invalid(path, label, &broken.join(",")));
            return;
        }
    }
}

/// Whether there is one address of each family.
pub(crate) fn is_dual_stack(ips: &[&str]) -> bool {
    ips.iter().any(|ip| is_ipv4(ip)) && ips.iter().any(|ip| is_ipv6(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_spellings_of_addresses_are_told_apart() {
        for (text, want) in [
            ("10.1.2.3", None),
            ("2001:db8::1", None),
            ("FE80:0::1", None),
            ("010.1.2.3", Some("must not have leading 0s")),
            ("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address")),
            ("300.1.1.1", Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")),
        ] {
            let mut errors = ErrorList::new();
            legacy_ip(text, &Path::new("ip"), &[], &mut errors);
            let found = errors.first().map(|e| e.body.rsplit(": ").next().unwrap_or("").to_owned());
            assert_eq!(found.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn ranges_may_not_have_bits_after_the_prefix() {
        for (text, good) in [
            ("10.0.0.0/8", true),
            ("10.0.0.1/8", false),
            ("0.0.0.0/0", true),
            ("2001:db8::/64", true),
            ("10.0.0.0/33", false),
            ("10.0.0.0/08", false),
        ] {
            let mut errors = ErrorList::new();
            legacy_cidr(text, &Path::new("cidr"), &[], &mut errors);
            assert_eq!(errors.is_empty(), good, "{text}");
        }
    }
}

//! The rules of names, labels and keys. Each function gives the broken rules as texts; none means
//! that the value is good.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go and
//! pkg/api/validate/content

#[cfg(test)]
mod tests;

/// Longest DNS label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;
/// Longest name part of a qualified name, and longest label value.
const QUALIFIED_NAME_MAX: usize = 63;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// The text for a value over a length limit, as the rules of labels and subdomains put it.
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// The same as the other rules put it: upstream has two wordings.
fn max_characters_error(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether a text starts and ends with a good end byte and has only good ends and inner bytes.
fn has_form(text: &str, ends: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    ends(*first) && ends(*last) && bytes.iter().all(|b| ends(*b) || inner.contains(b))
}

fn is_label_form(text: &str) -> bool {
    has_form(text, is_lower_alphanumeric, b"-")
}

fn is_name_form(text: &str) -> bool {
    has_form(text, |b| b.is_ascii_alphanumeric(), b"-_.")
}

fn check(text: &str, limit: (usize, fn(usize) -> String), good: bool, rule: &str) -> Vec<String> {
    let (max, too_long) = limit;
    let mut errors = Vec::new();
    if text.len() > max {
        errors.push(too_long(max));
    }
    if !good {
        errors.push(rule.to_owned());
    }
    errors
}

/// A DNS label (RFC 1123): names of namespaces, containers, ports of pods.
pub fn is_dns1123_label(text: &str) -> Vec<String> {
    // A subdomain in the place of a label gets a hint of its own.
    let dotted = text.split('.').all(is_label_form);
    let rule = if dotted { "must not contain dots" } else { LABEL_RULE };
    check(text, (LABEL_MAX, max_characters_error), is_label_form(text), rule)
}

/// A DNS subdomain (RFC 1123): names of most objects.
pub fn is_dns1123_subdomain(text: &str) -> Vec<String> {
    check(text, (SUBDOMAIN_MAX, max_characters_error), is_subdomain_form(text), SUBDOMAIN_RULE)
}

fn is_subdomain_form(text: &str) -> bool {
    text.split('.').all(is_label_form)
}

/// A DNS label (RFC 1035), which starts with a letter: names of services.
pub fn is_dns1035_label(text: &str) -> Vec<String> {
    let letter = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let good = letter && is_label_form(text);
    check(text, (LABEL_MAX, max_characters_error), good, LABEL_1035_RULE)
}

/// A key of labels and annotations: a name with an optional DNS subdomain and slash before it.
pub fn is_qualified_name(text: &str) -> Vec<String> {
    let mut parts = text.split('/');
    let (first, second, more) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    let mut errors = Vec::new();
    let name = match (second, more) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                let limit: (_, fn(usize) -> String) = (SUBDOMAIN_MAX, max_len_error);
                let broken = check(first, limit, is_subdomain_form(first), SUBDOMAIN_RULE);
                errors.extend(broken.into_iter().map(|rule| format!("prefix part {rule}")));
            }
            name
        }
        (Some(_), Some(_)) => {
            errors.push(format!(
                "a valid label key {NAME_PART_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return errors;
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > QUALIFIED_NAME_MAX {
        errors.push(format!("name part {}", max_len_error(QUALIFIED_NAME_MAX)));
    }
    if !is_name_form(name) {
        errors.push(format!("name part {NAME_PART_RULE}"));
    }
    errors
}

/// A label's value.
pub fn is_valid_label_value(text: &str) -> Vec<String> {
    let good = text.is_empty() || is_name_form(text);
    check(text, (QUALIFIED_NAME_MAX, max_len_error), good, LABEL_VALUE_RULE)
}

/// A key of a config map or secret.
pub fn is_config_map_key(text: &str) -> Vec<String> {
    let good =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let mut errors = check(text, (SUBDOMAIN_MAX, max_characters_error), good, CONFIG_KEY_RULE);
    match text {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// A port number.
pub fn is_valid_port_num(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        return Vec::new();
    }
    vec!["must be between 1 and 65535, inclusive".to_owned()]
}

//! What calls cost when they are evaluated.
//!
//! upstream: vendor/github.com/google/cel-go/interpreter/runtimecost.go, ext/lists.go, ext/sets.go,
//! staging/src/k8s.io/apiserver/pkg/cel/library/cost.go

use crate::value::{Items, Value};

/// Making a list.
pub const LIST: u64 = 10;
/// Making a map.
pub const MAP: u64 = 30;
/// Making a struct.
pub const STRUCT: u64 = 40;
/// What going over one element of a text costs.
pub const TRAVERSAL: f64 = 0.1;
/// What one character of a pattern costs.
pub const PATTERN: f64 = 0.25;

/// What going over so many characters costs.
pub fn traversal(size: u64) -> u64 {
    (size as f64 * TRAVERSAL).ceil() as u64
}

/// Comparing two values.
pub fn equality(one: &Value<'_>, two: &Value<'_>) -> u64 {
    if matches!(one, Value::Opaque(_)) {
        return 1;
    }
    traversal(one.size().min(two.size()))
}

/// Going over all of a value.
fn tree(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.as_str().len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Value::List(list) => match &list.items {
            Items::Json(items, _)
                if items.iter().all(|item| item.is_number() || item.is_boolean()) =>
            {
                items.len() as u64
            }
            _ => list.iter().map(|item| item.map_or(1, |item| tree(&item))).sum(),
        },
        Value::Map(map) => map
            .keys()
            .iter()
            .map(|key| {
                tree(key) + map.get(key).and_then(Result::ok).map_or(1, |value| tree(&value))
            })
            .sum(),
        _ => 1,
    }
}

fn matching(text: u64, pattern: f64) -> u64 {
    let text = ((1.0 + text as f64) * TRAVERSAL).ceil() as u64;
    text.saturating_mul((pattern * PATTERN).ceil() as u64)
}

/// A call that makes a list.
fn listing(factor: f64, size: u64) -> u64 {
    ((size as f64 * factor) as u64).saturating_add(1 + LIST)
}

fn comparing(list: &Value<'_>) -> u64 {
    let size = list.size();
    let first = match list {
        Value::List(list) => list.get(0).and_then(Result::ok),
        _ => None,
    };
    let texts = matches!(first, Some(Value::String(_) | Value::Bytes(_)));
    listing(if texts { 2.0 + TRAVERSAL } else { 2.0 }, size.saturating_mul(size))
}

fn whole(value: Option<&Value<'_>>) -> u64 {
    match value {
        Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

/// The cost of a call, from what it is given: it is known before the call is made.
pub fn call(name: &str, overload: Option<&str>, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::size);
    if let Some(cost) = overload.and_then(|overload| by_overload(overload, args)) {
        return cost;
    }
    match (name, args.len()) {
        ("check", _) => return 350_000,
        ("fieldSelector" | "labelSelector", 2..) => {
            let length = size(1);
            let requirements = (length as f64 * 0.5).ceil();
            return LIST + traversal(length) + (requirements * (LIST + STRUCT) as f64) as u64;
        }
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", _) => {
            return args.first().map_or(0, tree);
        }
        (
            "url"
            | "lowerAscii"
            | "upperAscii"
            | "substring"
            | "trim"
            | "jsonpatch.escapeKey"
            | "cidr"
            | "isIP"
            | "isCIDR"
            | "quantity"
            | "isQuantity"
            | "semver"
            | "isSemver",
            1..,
        ) => return traversal(size(0)),
        ("replace" | "split" | "ip.isCanonical", 1..) => {
            return (size(0) as f64 * 2.0 * TRAVERSAL).ceil() as u64;
        }
        ("join", 1..) => return (joined(args) as f64 * 2.0 * TRAVERSAL).ceil() as u64,
        ("find" | "findAll", 2..) => return matching(size(0), size(1) as f64),
        ("ip", 1..) => return if overload == Some("cidr_ip") { 1 } else { traversal(size(0)) },
        ("containsIP" | "containsCIDR", 2..) => {
            let mut cost = traversal(size(0) * 2);
            if name == "containsCIDR" {
                cost += traversal(size(0)) + 1;
            }
            if matches!(overload, Some("cidr_contains_ip_string" | "cidr_contains_cidr_string")) {
                cost += traversal(size(1));
            }
            return cost;
        }
        ("validate", 2..) => {
            if let Some(pattern) = crate::functions::format::pattern_size(&args[0]) {
                return matching(size(1), pattern as f64);
            }
        }
        _ => {}
    }
    match overload {
        Some(
            "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
            | "strings_quote" | "string_format",
        ) => traversal(size(0)),
        Some("in_list") => size(1),
        Some(
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes",
        ) => traversal(size(0).min(size(1))),
        Some("add_string" | "add_bytes") => traversal(size(0).saturating_add(size(1))),
        Some("matches_string") => matching(size(0), size(1) as f64),
        Some("contains_string") => traversal(size(0)).saturating_mul(traversal(size(1))),
        _ => 1,
    }
}

/// The characters of joined texts.
fn joined(args: &[Value<'_>]) -> u64 {
    let Some(Value::List(list)) = args.first() else { return 1 };
    let count = list.len() as u64;
    let texts: u64 = list.iter().map(|item| item.map_or(1, |item| item.size())).sum();
    texts + args.get(1).map_or(0, Value::size).saturating_mul(count.saturating_sub(1))
}

/// The length of a part of a list; one if there is no such part.
fn sliced(args: &[Value<'_>]) -> u64 {
    match args {
        [list, Value::Int(start), Value::Int(end)] if (0..=*end).contains(start) => {
            let length = end.abs_diff(*start);
            if end.unsigned_abs() <= list.size() { length } else { 1 }
        }
        _ => 1,
    }
}

fn by_overload(overload: &str, args: &[Value<'_>]) -> Option<u64> {
    let size = |index: usize| args.get(index).map_or(1, Value::size);
    Some(match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => {
            1 + size(0).saturating_mul(size(1))
        }
        "list_sets_equivalent_list" => 1 + size(0).saturating_mul(size(1)).saturating_mul(2),
        "list_slice" => listing(1.0, sliced(args)),
        "list_flatten" => listing(1.0, size(0)),
        "list_flatten_int" => listing(whole(args.get(1)) as f64, size(0)),
        "lists_range" => listing(1.0, whole(args.first())),
        "list_reverse" => listing(1.0, size(0)),
        "list_distinct" => args.first().map_or(1, comparing),
        _ if overload.ends_with("_sort") => args.first().map_or(1, comparing),
        _ if overload.ends_with("_sortByAssociatedKeys") => args.get(1).map_or(1, comparing),
        _ => return None,
    })
}

//! The order of merged lists: the patch's order for what it names, the server's order for the rest.

use std::collections::HashMap;

use serde_json::Value;

use super::{Error, PATCH, SET_ORDER, bad_type};
use crate::patch::gotext;

/// Longest list that is sorted by insertion, as Go's stable sort does.
const INSERTION_MAX: usize = 20;

/// What two values have in common exactly when Go holds them equal.
pub(super) fn identity(value: &Value) -> String {
    match value {
        Value::String(text) => format!("s{text}"),
        other => other.to_string(),
    }
}

/// The first place of each identity in a list.
pub(super) fn places(list: &[Value], merge_key: &str, maps: bool) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(list.len());
    for (place, item) in list.iter().enumerate() {
        if let Some(key) = key_of(item, merge_key, maps) {
            places.entry(key).or_insert(place);
        }
    }
    places
}

fn key_of(item: &Value, merge_key: &str, maps: bool) -> Option<String> {
    if maps { item.get(merge_key).map(identity) } else { Some(identity(item)) }
}

/// Checks that the patch's items stand in the order that `$setElementOrder` tells.
pub(super) fn check(patch: &[Value], order: &[Value], merge_key: &str) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let maps = !merge_key.is_empty();
    let key = |item: &Value| {
        if !maps {
            return Ok(identity(item));
        }
        if !item.is_object() {
            return Err(bad_type("map[string]interface {}", item));
        }
        key_of(item, merge_key, true).ok_or_else(|| Error::no_key(item, merge_key))
    };
    let mut rest = order.iter();
    for item in patch {
        if item.get(PATCH).is_some() {
            continue;
        }
        let wanted = key(item)?;
        loop {
            let Some(next) = rest.next() else {
                return Err(Error::Other(format!(
                    "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                    gotext::plain(&Value::Array(patch.to_vec())),
                    gotext::plain(&Value::Array(order.to_vec())),
                )));
            };
            if key(next)? == wanted {
                break;
            }
        }
    }
    Ok(())
}

/// Orders a merged list: items that `named` holds follow `patch_order`, the others `server_order`,
/// and both are woven together by `server_order`.
pub(super) fn arrange(
    merged: Vec<Value>,
    named: &[Value],
    patch_order: &[Value],
    server_order: &[Value],
    merge_key: &str,
    maps: bool,
) -> Result<Vec<Value>, Error> {
    if maps {
        let all = merged.iter().chain(patch_order).chain(server_order);
        for item in all {
            if item.get(merge_key).is_none() {
                return Err(Error::no_key(item, merge_key));
            }
        }
    }
    let named = places(named, merge_key, maps);
    let of = |item: &Value| key_of(item, merge_key, maps).unwrap_or_default();
    let (patched, rest): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| named.contains_key(&of(item)));
    let server = places(server_order, merge_key, maps);
    let patched = sorted(patched, &places(patch_order, merge_key, maps), &of);
    let rest = sorted(rest, &server, &of);
    let place = |item: &Value| server.get(&of(item)).copied();
    let mut out = Vec::with_capacity(patched.len() + rest.len());
    let (mut patched, mut rest) = (patched.into_iter().peekable(), rest.into_iter().peekable());
    while let (Some(kept), Some(changed)) = (rest.peek(), patched.peek()) {
        let kept_first = matches!((place(kept), place(changed)), (Some(k), Some(c)) if k < c);
        out.extend(if kept_first { rest.next() } else { patched.next() });
    }
    out.extend(rest);
    out.extend(patched);
    Ok(out)
}

/// Sorts by place. Items without a place go before what they are compared with, as in upstream.
fn sorted(
    items: Vec<Value>,
    places: &HashMap<String, usize>,
    key: &impl Fn(&Value) -> String,
) -> Vec<Value> {
    let mut keyed: Vec<(Option<usize>, Value)> =
        items.into_iter().map(|item| (places.get(&key(&item)).copied(), item)).collect();
    if keyed.len() > INSERTION_MAX {
        keyed.sort_by_key(|(place, _)| *place);
    } else {
        for end in 1..keyed.len() {
            let mut at = end;
            while at > 0 && goes_before(keyed[at].0, keyed[at - 1].0) {
                keyed.swap(at, at - 1);
                at -= 1;
            }
        }
    }
    keyed.into_iter().map(|(_, item)| item).collect()
}

fn goes_before(left: Option<usize>, right: Option<usize>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => left < right,
        _ => true,
    }
}

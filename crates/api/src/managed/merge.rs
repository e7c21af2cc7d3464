//! Puts what somebody applies into the present state of an object.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/typed/merge.go

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map as Fields, Value};

use super::Error;
use super::item::identify;
use super::path::PathElement;
use super::schema::{Form, List, Map, Ref};

/// The live value with the applied one in it; none when nothing is left.
///
/// # Errors
/// When items of a list cannot be told apart.
pub(super) fn merge(
    at: Ref,
    live: Option<&Value>,
    applied: Option<&Value>,
) -> Result<Option<Value>, Error> {
    let leaf = || Ok(applied.or(live).cloned());
    match at.form(applied.or(live)) {
        None => Err(Error::new("schema error: invalid atom")),
        Some(Form::Scalar(_)) => leaf(),
        Some(Form::List(form)) => {
            let (a, b) = (items(live), items(applied));
            if !form.associative || (a.is_empty() && b.is_empty()) {
                return leaf();
            }
            list(form, a, b)
        }
        Some(Form::Map(form)) => {
            let fields = |value: Option<&'_ Value>| {
                value.and_then(Value::as_object).is_some_and(|fields| !fields.is_empty())
            };
            if form.atomic || !(fields(live) || fields(applied)) {
                return leaf();
            }
            map(form, live, applied)
        }
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn map(form: Map, live: Option<&Value>, applied: Option<&Value>) -> Result<Option<Value>, Error> {
    let live = live.and_then(Value::as_object);
    let applied = applied.and_then(Value::as_object);
    let mut out = Fields::new();
    let names = live.into_iter().chain(applied).flat_map(Fields::keys);
    for name in names.collect::<BTreeSet<_>>() {
        let (a, b) = (live.and_then(|f| f.get(name)), applied.and_then(|f| f.get(name)));
        let at = form.at(name).unwrap_or(Ref::Deduced);
        let merged = merge(at, a, b).map_err(|e| e.below(&PathElement::named(name)))?;
        if let Some(value) = merged {
            out.insert(name.clone(), value);
        }
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

/// The items of a list by their identity.
struct Indexed<'a> {
    order: Vec<PathElement>,
    by_element: BTreeMap<PathElement, &'a Value>,
}

fn index<'a>(form: List, items: &'a [Value], repeats: bool) -> Result<Indexed<'a>, Error> {
    let mut order = Vec::with_capacity(items.len());
    let mut by_element: BTreeMap<PathElement, &'a Value> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let element = identify(form, item).map_err(|why| Error::of_item(index, &why))?;
        match by_element.get_mut(&element) {
            Some(_) if !repeats => {
                return Err(Error::new(format!("duplicate entries for key {element}")));
            }
            // Repeated items are not merged with the applied one, which replaces them.
            Some(kept) => *kept = &Value::Null,
            None => drop(by_element.insert(element.clone(), item)),
        }
        order.push(element);
    }
    Ok(Indexed { order, by_element })
}

/// Merges the items of an associative list. The applied order holds for applied items; the others
/// stay behind the items that they followed.
fn list(form: List, live: &[Value], applied: &[Value]) -> Result<Option<Value>, Error> {
    let b = index(form, applied, false)?;
    let a = index(form, live, true)?;
    let mut shared: VecDeque<&PathElement> =
        b.order.iter().filter(|element| a.by_element.contains_key(*element)).collect();
    let mut next_shared = shared.pop_front();
    let mut merged: BTreeSet<&PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(a.order.len().max(b.order.len()));
    let mut put = |a: Option<&Value>, b: Option<&Value>| -> Result<(), Error> {
        out.extend(merge(form.item, a, b)?);
        Ok(())
    };
    let (mut i, mut j) = (0, 0);
    while i < a.order.len() || j < b.order.len() {
        if let (Some(left), Some(right)) = (a.order.get(i), b.order.get(j)) {
            if left == right {
                merged.insert(right);
                put(a.by_element.get(left).copied(), b.by_element.get(right).copied())?;
                i += 1;
                j += 1;
                next_shared = shared.pop_front();
                continue;
            }
            let applied_too = b.by_element.contains_key(left);
            if applied_too && next_shared.is_some_and(|next| next != left) {
                // A shared item, but not the one whose turn it is.
                i += 1;
                continue;
            }
        }
        if let Some(left) = a.order.get(i) {
            if !b.by_element.contains_key(left) {
                put(live.get(i), None)?;
                i += 1;
                continue;
            }
            if merged.contains(left) {
                i += 1;
            }
        }
        if let Some(right) = b.order.get(j) {
            merged.insert(right);
            put(a.by_element.get(right).copied(), b.by_element.get(right).copied())?;
            j += 1;
            if next_shared == Some(right) {
                next_shared = shared.pop_front();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(live: Value, applied: Value) -> Value {
        let ty = crate::schema::kind("", "v1", "Pod").expect("a built-in kind");
        merge(Ref::object(ty), Some(&live), Some(&applied)).expect("valid").unwrap_or_default()
    }

    /// The order of set items after merging the second list into the first.
    fn order(live: &str, applied: &str) -> String {
        let list = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        let result = merged(
            json!({"metadata": {"finalizers": list(live)}}),
            json!({"metadata": {"finalizers": list(applied)}}),
        );
        let items = result["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(Value::as_str).collect()
    }

    #[test]
    fn fields_are_merged_and_atomic_values_replaced() {
        let live = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"nodeSelector": {"x": "1"}, "containers": [
                {"name": "c", "image": "i", "env": [{"name": "E", "value": "1"}]},
            ]},
        });
        let applied = json!({
            "metadata": {"labels": {"b": "3", "c": "4"}},
            "spec": {"nodeSelector": {"y": "2"}, "containers": [
                {"name": "d"}, {"name": "c", "image": "j", "env": [{"name": "F"}]},
            ]},
        });
        let want = json!({
            "metadata": {"labels": {"a": "1", "b": "3", "c": "4"}},
            "spec": {"nodeSelector": {"y": "2"}, "containers": [
                {"name": "d"},
                {"name": "c", "image": "j", "env": [{"name": "E", "value": "1"}, {"name": "F"}]},
            ]},
        });
        assert_eq!(merged(live, applied), want);
    }

    #[test]
    fn applied_items_come_in_the_applied_order() {
        for (live, applied, want) in [
            ("abc", "", "abc"),
            ("", "abc", "abc"),
            ("abc", "abc", "abc"),
            ("abc", "cb", "acb"),
            ("abcd", "db", "acdb"),
            ("ab", "xa", "xab"),
            ("ab", "bx", "abx"),
            ("1234", "4a2", "134a2"),
            ("aXbX", "X", "aXb"),
        ] {
            assert_eq!(order(live, applied), want, "{live} + {applied}");
        }
    }

    #[test]
    fn repeated_live_items_are_replaced_by_the_applied_one() {
        let live = json!({"spec": {"containers": [
            {"name": "c", "image": "1"}, {"name": "c", "image": "2"}, {"name": "d"},
        ]}});
        let applied = json!({"spec": {"containers": [{"name": "c", "command": ["x"]}]}});
        let want =
            json!({"spec": {"containers": [{"name": "c", "command": ["x"]}, {"name": "d"}]}});
        assert_eq!(merged(live, applied), want);
    }
}

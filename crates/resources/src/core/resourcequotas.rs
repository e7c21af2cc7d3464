//! Resource quotas.
//!
//! upstream: pkg/registry/core/resourcequota/strategy.go, pkg/apis/core/validation/validation.go
//! ValidateResourceQuota

use std::collections::BTreeSet;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::pods::cells::{AGE, NAME, age, text_column};
use super::pods::defaults::round_list;
use super::pods::resources::quantity;
use super::pods::tree::{entries, list, or_null, part, text, texts};
use super::pods::validation::common::IMMUTABLE;
use super::pods::validation::compute::{WHOLE, is_extended, resource_name};
use crate::plain::keep;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// Scopes that look at pods in one way or the other.
const FLAGS: [&str; 5] =
    ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];
/// The other scopes.
const OTHERS: [&str; 2] = ["PriorityClass", "VolumeAttributesClass"];
/// Resources without a domain that quotas count; `storage` is a resource but not counted.
const UNCOUNTED: &str = "storage";

/// The rules of resource quotas.
pub(super) struct ResourceQuotas;

impl Strategy for ResourceQuotas {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::CHANGES
    }

    fn default(&self, object: &mut Object) {
        for path in [["spec", "hard"], ["status", "hard"], ["status", "used"]] {
            round_list(object.get_mut(&path));
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({}));
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        keep(new, old, if ctx.subresource == "status" { "spec" } else { "status" });
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        spec(object)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        if ctx.subresource == "status" {
            let mut errors = ErrorList::new();
            let status = or_null_at(new, "status");
            for key in ["hard", "used"] {
                amounts(&status, key, &Path::new("status").child(key), &mut errors);
            }
            return errors;
        }
        let mut errors = spec(new);
        let scopes = |object: &Object| -> BTreeSet<String> {
            let scopes = object.list(&["spec", "scopes"]).iter();
            scopes.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        if scopes(new) != scopes(old) {
            let path = Path::new("spec").child("scopes");
            let value = new.get(&["spec", "scopes"]).cloned().unwrap_or(Value::Null);
            errors.push(Error::invalid(&path, value, IMMUTABLE));
        }
        errors
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let hard = object.get(&["spec", "hard"]).cloned().unwrap_or(Value::Null);
        let named = |name: String| hard.get(&name).map(|amount| (name, quantity(amount)));
        let warning = |name: &str| {
            let bare = || named(name.to_owned()).filter(|_| matches!(name, "cpu" | "memory"));
            let (asked, request) = named(format!("requests.{name}")).or_else(bare)?;
            let (limited, limit) = named(format!("limits.{name}"))?;
            (request > limit).then(|| {
                format!("ResourceQuota {asked} ({request}) should be less than {limited} ({limit})")
            })
        };
        ["cpu", "memory", "storage", "ephemeral-storage"].into_iter().filter_map(warning).collect()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Request", "Used and allowed amounts of requests and counts."),
            text_column("Limit", "Used and allowed amounts of limits."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let status = or_null_at(object, "status");
        let used = or_null(&status, "used");
        let mut cells = [Vec::new(), Vec::new()];
        for (name, hard) in entries(&status, "hard") {
            let used = quantity(&or_null(&used, name));
            let cell = &mut cells[usize::from(name.starts_with("limits."))];
            cell.push(format!("{name}: {used}/{}", quantity(hard)));
        }
        let [requests, limits] = cells.map(|cell| Value::from(cell.join(", ")));
        vec![object.name().into(), requests, limits, age(object, now)]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

fn or_null_at(object: &Object, key: &str) -> Value {
    object.get(&[key]).cloned().unwrap_or(Value::Null)
}

fn spec(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = or_null_at(object, "spec");
    let path = Path::new("spec");
    amounts(&spec, "hard", &path.child("hard"), &mut errors);
    scopes(&spec, &path.child("scopes"), &mut errors);
    if let Some(selector) = part(&spec, "scopeSelector") {
        scope_selector(&spec, selector, &path.child("scopeSelector"), &mut errors);
    }
    errors
}

fn amounts(holder: &Value, key: &str, path: &Path, errors: &mut ErrorList) {
    for (name, value) in entries(holder, key) {
        let at = path.key(name);
        resource_name(name, &at, errors);
        if !name.contains('/') && !is_counted(name) {
            let why = "must be a standard resource for quota";
            errors.push(Error::invalid(&at, name.as_str(), why));
        }
        let amount = quantity(value);
        if amount.sign() < 0 {
            let why = "must be greater than or equal to 0";
            errors.push(Error::invalid(&at, amount.to_string(), why));
        }
        if (WHOLE.contains(&name.as_str()) || is_extended(name)) && amount.milli_value() % 1000 != 0
        {
            errors.push(Error::invalid(&at, amount.to_string(), "must be an integer"));
        }
    }
}

/// Whether the name is of a standard resource that quotas count.
fn is_counted(name: &str) -> bool {
    let standard = super::pods::validation::compute::STANDARD.contains(&name);
    let huge = name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
    (standard && name != UNCOUNTED) || huge
}

fn is_scope(scope: &str) -> bool {
    FLAGS.contains(&scope) || OTHERS.contains(&scope)
}

/// Whether a scope says something about a resource.
fn applies(scope: &str, resource: &str) -> bool {
    let pods = resource == "pods";
    match scope {
        "BestEffort" => pods,
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        scope if is_scope(scope) => {
            pods || matches!(
                resource,
                "cpu"
                    | "memory"
                    | "limits.cpu"
                    | "limits.memory"
                    | "requests.cpu"
                    | "requests.memory"
            )
        }
        _ => true,
    }
}

/// The resources that a scope does not apply to.
fn misfits<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a String> {
    let names = entries(spec, "hard").map(|(name, _)| name);
    names.filter(move |name| is_counted(name) && !applies(scope, name))
}

fn conflicting(scopes: &[&str]) -> usize {
    let pairs = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
    pairs.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))).count()
}

fn scopes(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let scopes = texts(spec, "scopes");
    let value = || or_null(spec, "scopes");
    for scope in &scopes {
        if !is_scope(scope) {
            errors.push(Error::invalid(path, value(), "unsupported scope"));
        }
        for _ in misfits(spec, scope) {
            errors.push(Error::invalid(path, value(), "unsupported scope applied to resource"));
        }
    }
    for _ in 0..conflicting(&scopes) {
        errors.push(Error::invalid(path, value(), "conflicting scopes"));
    }
}

fn scope_selector(spec: &Value, selector: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("matchExpressions");
    let expressions = list(selector, "matchExpressions");
    for expression in expressions {
        let (scope, operator) = (text(expression, "scopeName"), text(expression, "operator"));
        if !is_scope(scope) {
            errors.push(Error::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in misfits(spec, scope) {
            let why = "unsupported scope applied to resource";
            let error = Error::invalid(&path, selector.clone(), why);
            errors.push(error.as_struct("core/v1.ScopeSelector"));
        }
        if FLAGS.contains(&scope) && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Error::invalid(&path.child("operator"), operator, why));
        }
        let values = list(expression, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(&path.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Error::invalid(&path.child("values"), values.to_vec(), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let why = "not a valid selector operator";
                errors.push(Error::invalid(&path.child("operator"), operator, why));
            }
        }
    }
    let scopes: Vec<&str> = expressions.iter().map(|e| text(e, "scopeName")).collect();
    for _ in 0..conflicting(&scopes) {
        errors.push(Error::invalid(&path, or_null(spec, "scopes"), "conflicting scopes"));
    }
}

//! Configurations of admission webhooks.
//!
//! upstream: pkg/apis/admissionregistration/validation/validation.go,
//! staging/src/k8s.io/apiserver/pkg/util/webhook/validation.go

use std::collections::BTreeSet;

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, names};
use serde_json::{Value, json};

use super::{LABEL_SELECTORS, rule_with_operations};
use crate::core::pods::cells::{AGE, NAME, age, number};
use crate::core::pods::tree::{
    fill, has, int, list, list_mut, opt_text, part, part_mut, text, texts,
};
use crate::core::pods::validation::common::{has_bad_values, label_selector, one_of, required};
use crate::plain::count_as_given;
use crate::rules::admission::{Compiler, Gives, Sees};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const CONDITIONS_MAX: usize = 64;

/// The rules of webhook configurations.
pub(super) struct Webhooks {
    /// Whether the webhooks change objects.
    pub(super) mutating: bool,
}

impl Strategy for Webhooks {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::GENERIC
    }

    fn default(&self, object: &mut Object) {
        let hooks = object.get_mut(&["webhooks"]).and_then(Value::as_array_mut);
        for hook in hooks.into_iter().flatten() {
            fill(hook, "failurePolicy", "Fail");
            fill(hook, "matchPolicy", "Equivalent");
            LABEL_SELECTORS.iter().for_each(|key| fill(hook, key, json!({})));
            fill(hook, "timeoutSeconds", 10);
            if self.mutating {
                fill(hook, "reinvocationPolicy", "Never");
            }
            list_mut(hook, "rules").for_each(|rule| fill(rule, "scope", "*"));
            if part(hook, "clientConfig").is_some_and(|c| has(c, "service")) {
                fill(part_mut(part_mut(hook, "clientConfig"), "service"), "port", 443);
            }
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        count_as_given(new, old, "webhooks");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        self.rules(object, None)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        self.rules(new, Some(old))
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, number("Webhooks", "How many webhooks there are."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = object.list(&["webhooks"]).len();
        vec![object.name().into(), count.into(), age(object, now)]
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

impl Webhooks {
    fn rules(&self, object: &Object, old: Option<&Object>) -> ErrorList {
        let mut errors = ErrorList::new();
        let before = old.map_or(&[][..], |old| old.list(&["webhooks"]));
        let bad_values = before
            .iter()
            .any(|hook| LABEL_SELECTORS.iter().any(|key| has_bad_values(hook.get(*key))));
        let unknown = |hook: &Value| {
            !texts(hook, "admissionReviewVersions").iter().any(|v| REVIEWS.contains(v))
        };
        let lenient = old.is_some() && before.iter().any(unknown);
        let mut seen = BTreeSet::new();
        let hooks = object.list(&["webhooks"]);
        // Conditions that are as they were were good once.
        let known = old.is_some()
            && before.len() == hooks.len()
            && before
                .iter()
                .zip(hooks)
                .all(|(old, new)| old.get("matchConditions") == new.get("matchConditions"));
        for (i, hook) in hooks.iter().enumerate() {
            let path = Path::new("webhooks").index(i);
            self.hook(hook, bad_values, &path, &mut errors);
            if !known {
                let sees = Sees { authorizer: true, ..Sees::default() };
                match_conditions(hook, sees, &path.child("matchConditions"), &mut errors);
            }
            reviews(hook, lenient, &path.child("admissionReviewVersions"), &mut errors);
            let name = text(hook, "name");
            if !name.is_empty() && !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
        }
        errors
    }

    fn hook(&self, hook: &Value, bad_values: bool, path: &Path, errors: &mut ErrorList) {
        hook_name(text(hook, "name"), &path.child("name"), errors);
        for (i, rule) in list(hook, "rules").iter().enumerate() {
            rule_with_operations(rule, &path.child("rules").index(i), errors);
        }
        let sets: [(&str, &[&str]); 3] = [
            ("failurePolicy", &["Fail", "Ignore"]),
            ("matchPolicy", &["Equivalent", "Exact"]),
            ("reinvocationPolicy", &["IfNeeded", "Never"]),
        ];
        for (key, set) in sets {
            if let Some(value) = opt_text(hook, key) {
                one_of(value, set, &path.child(key), errors);
            }
        }
        let at = path.child("sideEffects");
        match opt_text(hook, "sideEffects") {
            None => errors.push(Error::required(&at, "must specify one of None, NoneOnDryRun")),
            Some(effects) => one_of(effects, &["None", "NoneOnDryRun"], &at, errors),
        }
        let seconds = int(hook, "timeoutSeconds").filter(|s| !(1..=30).contains(s));
        if let Some(seconds) = seconds {
            let why = "the timeout value must be between 1 and 30 seconds";
            errors.push(Error::invalid(&path.child("timeoutSeconds"), seconds, why));
        }
        for key in LABEL_SELECTORS {
            label_selector(hook.get(key), &path.child(key), bad_values, errors);
        }
        client(part(hook, "clientConfig"), &path.child("clientConfig"), errors);
    }
}

fn reviews(hook: &Value, lenient: bool, path: &Path, errors: &mut ErrorList) {
    let versions = texts(hook, "admissionReviewVersions");
    if versions.is_empty() {
        errors.push(Error::required(path, "must specify one of v1, v1beta1"));
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        if versions[..i].contains(version) {
            errors.push(Error::invalid(&path.index(i), *version, "duplicate version"));
            continue;
        }
        for why in names::is_dns1035_label(version) {
            errors.push(Error::invalid(&path.index(i), *version, &why));
        }
    }
    if !lenient && !versions.iter().any(|v| REVIEWS.contains(v)) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(Error::invalid(path, versions, why));
    }
}

fn client(config: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let config = config.unwrap_or(&Value::Null);
    match (opt_text(config, "url"), part(config, "service")) {
        (Some(address), None) => url(address, &path.child("url"), errors),
        (None, Some(target)) => service(target, &path.child("service"), errors),
        _ => errors.push(Error::required(path, "exactly one of url or service is required")),
    }
}

/// The address of a webhook.
pub(crate) fn url(url: &str, path: &Path, errors: &mut ErrorList) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            (scheme.to_lowercase(), rest)
        }
        _ => (String::new(), rest),
    };
    let authority = rest.strip_prefix("//").map_or("", |r| r.split('/').next().unwrap_or(""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(Error::invalid(path, scheme, &why));
    }
    if host.is_empty() {
        errors.push(Error::invalid(path, host, &format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        let why = "user information is not permitted in the URL";
        errors.push(Error::invalid(path, user, why));
    }
    if !fragment.is_empty() {
        errors.push(Error::invalid(path, fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        let why = "query parameters are not permitted in the URL";
        errors.push(Error::invalid(path, query, why));
    }
}

/// The service of a webhook.
pub(crate) fn service(target: &Value, path: &Path, errors: &mut ErrorList) {
    // upstream swaps the two names here
    for (field, shown) in [("namespace", "name"), ("name", "namespace")] {
        required(text(target, field), &path.child(shown), errors);
    }
    let port = int(target, "port").unwrap_or(0);
    let broken = names::is_valid_port_num(port);
    if !broken.is_empty() {
        let why = format!("port is not valid: {}", broken.join(", "));
        errors.push(Error::invalid(&path.child("port"), port, &why));
    }
    let url = text(target, "path");
    let at = path.child("path");
    match url {
        "" | "/" => return,
        "//" => {
            errors.push(Error::invalid(&at, url, "segment[0] may not be empty"));
            return;
        }
        _ => {}
    }
    if !url.starts_with('/') {
        errors.push(Error::invalid(&at, url, "must start with a '/'"));
    }
    let steps: String = url.chars().skip(1).collect();
    for (i, step) in steps.strip_suffix('/').unwrap_or(&steps).split('/').enumerate() {
        if step.is_empty() {
            errors.push(Error::invalid(&at, url, &format!("segment[{i}] may not be empty")));
            continue;
        }
        for why in names::is_dns1123_subdomain(step) {
            errors.push(Error::invalid(&at, url, &format!("segment[{i}]: {why}")));
        }
    }
}

/// Conditions under which something applies: named expressions.
pub(super) fn match_conditions(holder: &Value, sees: Sees, path: &Path, errors: &mut ErrorList) {
    let conditions = list(holder, "matchConditions");
    if conditions.len() > CONDITIONS_MAX {
        errors.push(Error::too_many(path, conditions.len(), CONDITIONS_MAX));
    }
    let mut seen = BTreeSet::new();
    let compiler = Compiler::new(sees, false);
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        let (source, here) = (text(condition, "expression").trim(), at.child("expression"));
        if source.is_empty() {
            errors.push(Error::required(&here, ""));
        } else if let Err(why) = compiler.compile(source, Gives::Bool) {
            errors.push(why.of_field(&here, source));
        }
        let name = text(condition, "name");
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
            continue;
        }
        for why in names::is_qualified_name(name) {
            errors.push(Error::invalid(&at.child("name"), name, &why));
        }
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
    }
}

/// The name of a webhook: a domain of three labels or more.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go IsFullyQualifiedName
fn hook_name(name: &str, path: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let broken = names::is_dns1123_subdomain(name);
    if !broken.is_empty() {
        errors.push(Error::invalid(path, name, &broken.join(",")));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(Error::invalid(path, name, why));
    }
}

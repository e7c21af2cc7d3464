//! Admission policies and their bindings. Expressions are not compiled here.
//!
//! upstream: pkg/apis/admissionregistration/validation/validation.go

use std::collections::BTreeSet;

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use longshore_api::{Object, names};
use serde_json::{Value, json};

use super::webhooks::match_conditions;
use super::{LABEL_SELECTORS, count, rule_with_operations};
use crate::core::pods::cells::{AGE, NAME, age, number, selector, text_column};
use crate::core::pods::tree::{fill, list, list_mut, opt_text, part, part_mut, text, texts};
use crate::core::pods::validation::common::{
    dns_subdomain, each, label_selector, one_of, qualified_name, required, required_one_of,
};
use crate::plain::{keep_metadata, separate, status_alone};
use crate::rbac::segment_name;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const ANNOTATIONS_MAX: usize = 20;
const RULES: [&str; 2] = ["resourceRules", "excludeResourceRules"];

/// The rules of policies.
pub(super) struct Policies {
    /// Whether the policy changes objects.
    pub(super) mutating: bool,
}

impl Strategy for Policies {
    fn written_fields(&self, subresource: &str) -> Filter {
        status_alone(subresource)
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::GENERIC
    }

    fn default(&self, object: &mut Object) {
        let spec = object.root_mut().entry("spec").or_insert_with(|| json!({}));
        fill(spec, "failurePolicy", "Fail");
        match_defaults(spec, "matchConstraints");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        if !self.mutating {
            object.set(&["status"], json!({}));
        }
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
        if ctx.subresource == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let path = Path::new("spec");
        let policies = ["Fail", "Ignore"];
        let at = path.child("failurePolicy");
        required_one_of(text(spec, "failurePolicy"), &policies, &at, &mut errors);
        if let Some(kind) = part(spec, "paramKind") {
            param_kind(kind, &path.child("paramKind"), &mut errors);
        }
        self.constraints(spec, &path.child("matchConstraints"), &mut errors);
        match_conditions(spec, &path.child("matchConditions"), &mut errors);
        for (i, variable) in list(spec, "variables").iter().enumerate() {
            let at = path.child("variables").index(i);
            for key in ["name", "expression"] {
                if text(variable, key).trim().is_empty() {
                    let why = format!("{key} is not specified");
                    errors.push(Error::required(&at.child(key), &why));
                }
            }
            let name = text(variable, "name");
            if !name.trim().is_empty() && !is_identifier(name) {
                let why = "must be a valid CEL identifier";
                errors.push(Error::invalid(&at.child("name"), name, why));
            }
        }
        if self.mutating {
            mutations(spec, &path, &mut errors);
        } else {
            validations(object.name(), spec, &path, &mut errors);
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        if ctx.subresource == "status" { ErrorList::new() } else { self.validate_create(new) }
    }

    fn columns(&self) -> Vec<Column> {
        let rules = if self.mutating {
            number("Mutations", "How many changes it makes.")
        } else {
            number("Validations", "How many checks it makes.")
        };
        vec![NAME, rules, text_column("ParamKind", "The kind of its parameters."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let kind = part(spec, "paramKind");
        let kind = kind.map(|k| format!("{}/{}", text(k, "apiVersion"), text(k, "kind")));
        let rules = if self.mutating { "mutations" } else { "validations" };
        vec![
            object.name().into(),
            count(spec, rules).into(),
            kind.unwrap_or_else(|| "<unset>".to_owned()).into(),
            age(object, now),
        ]
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

impl Policies {
    fn constraints(&self, spec: &Value, path: &Path, errors: &mut ErrorList) {
        let Some(constraints) = part(spec, "matchConstraints") else {
            errors.push(Error::required(path, ""));
            return;
        };
        match_resources(constraints, path, errors);
        let rules = list(constraints, "resourceRules");
        if rules.is_empty() {
            errors.push(Error::required(&path.child("resourceRules"), ""));
        }
        if self.mutating {
            changing_operations(constraints, path, errors);
        }
    }
}

/// Deletions cannot be changed.
fn changing_operations(resources: &Value, path: &Path, errors: &mut ErrorList) {
    let at = path.child("resourceRules").child("operations");
    let rules = list(resources, "resourceRules").iter();
    for operation in rules.flat_map(|rule| texts(rule, "operations")) {
        one_of(operation, &["*", "CONNECT", "CREATE", "UPDATE"], &at, errors);
    }
}

fn match_defaults(holder: &mut Value, key: &str) {
    if part(holder, key).is_none() {
        return;
    }
    let resources = part_mut(holder, key);
    fill(resources, "matchPolicy", "Equivalent");
    LABEL_SELECTORS.iter().for_each(|key| fill(resources, key, json!({})));
    for key in RULES {
        list_mut(resources, key).for_each(|rule| fill(rule, "scope", "*"));
    }
}

fn match_resources(resources: &Value, path: &Path, errors: &mut ErrorList) {
    let at = path.child("matchPolicy");
    required_one_of(text(resources, "matchPolicy"), &["Equivalent", "Exact"], &at, errors);
    for key in LABEL_SELECTORS {
        label_selector(resources.get(key), &path.child(key), false, errors);
    }
    for key in RULES {
        for (i, rule) in list(resources, key).iter().enumerate() {
            let path = path.child(key).index(i);
            let names = texts(rule, "resourceNames");
            for (i, name) in names.iter().enumerate() {
                let at = path.child("resourceNames").index(i);
                each(name, &at, &segment_name(name), errors);
                if names[..i].contains(name) {
                    errors.push(Error::duplicate(&at, *name));
                }
            }
            rule_with_operations(rule, &path, errors);
        }
    }
}

fn param_kind(kind: &Value, path: &Path, errors: &mut ErrorList) {
    let (full, at) = (text(kind, "apiVersion"), path.child("apiVersion"));
    let (group, version) = full.split_once('/').unwrap_or(("", full));
    if full.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if version.contains('/') {
        let why = format!("unexpected GroupVersion string: {full}");
        errors.push(Error::invalid(&at, full, &why));
    } else {
        let broken = names::is_dns1123_subdomain(group);
        if !group.is_empty() && !broken.is_empty() {
            errors.push(Error::invalid(&at, group, &broken.join(",")));
        }
        let broken = names::is_dns1035_label(version);
        if version.is_empty() {
            errors.push(Error::invalid(&at, full, "version must be specified"));
        } else if !broken.is_empty() {
            errors.push(Error::invalid(&at, version, &broken.join(",")));
        }
    }
    let (name, at) = (text(kind, "kind"), path.child("kind"));
    let broken = names::is_dns1035_label(&name.to_lowercase());
    if name.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if !broken.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", broken.join(","));
        errors.push(Error::invalid(&at, name, &why));
    }
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn validations(name: &str, spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (checks, annotations) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    if checks.is_empty() && annotations.is_empty() {
        for key in ["validations", "auditAnnotations"] {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(Error::required(&path.child(key), why));
        }
        return;
    }
    for (i, check) in checks.iter().enumerate() {
        let at = path.child("validations").index(i);
        expression(text(check, "expression"), &at.child("expression"), errors);
        for key in ["messageExpression", "message"] {
            let value = text(check, key);
            if !value.is_empty() && value.trim().is_empty() {
                errors.push(Error::invalid(
                    &at.child(key),
                    value,
                    "must be non-empty if specified",
                ));
            }
        }
        let message = text(check, "message");
        if message.trim().contains(['\n', '\r']) {
            let why = "must not contain line breaks";
            errors.push(Error::invalid(&at.child("message"), message, why));
        }
        if let Some(reason) = opt_text(check, "reason") {
            let set = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
            one_of(reason, &set, &at.child("reason"), errors);
        }
    }
    let at = path.child("auditAnnotations");
    if annotations.len() > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.push(Error::invalid(&at, annotations.to_vec(), &why));
    }
    let mut seen = BTreeSet::new();
    for (i, annotation) in annotations.iter().enumerate() {
        let at = at.index(i);
        let key = text(annotation, "key");
        qualified_name(&format!("{name}/{key}"), &at.child("key"), errors);
        if text(annotation, "valueExpression").trim().is_empty() {
            let why = "valueExpression is not specified";
            errors.push(Error::required(&at.child("valueExpression"), why));
        }
        if !seen.insert(key) {
            errors.push(Error::duplicate(&at.child("key"), key));
        }
    }
}

/// An expression that must be there.
fn expression(expression: &str, path: &Path, errors: &mut ErrorList) {
    if expression.trim().is_empty() {
        errors.push(Error::required(path, "expression is not specified"));
    }
}

fn mutations(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mutations = list(spec, "mutations");
    if mutations.is_empty() {
        let why = "mutations must contain at least one item";
        errors.push(Error::required(&path.child("mutations"), why));
    }
    let kinds = [("JSONPatch", "jsonPatch"), ("ApplyConfiguration", "applyConfiguration")];
    for (i, mutation) in mutations.iter().enumerate() {
        let at = path.child("mutations").index(i);
        let wanted = text(mutation, "patchType");
        required_one_of(
            wanted,
            &["ApplyConfiguration", "JSONPatch"],
            &at.child("patchType"),
            errors,
        );
        if !kinds.iter().any(|(kind, _)| *kind == wanted) {
            continue;
        }
        for (kind, key) in kinds {
            match part(mutation, key) {
                None if kind == wanted => {
                    let why = format!("must be specified when patchType is {kind}");
                    errors.push(Error::required(&at.child(key), &why));
                }
                Some(patch) if kind == wanted => {
                    let at = at.child(key).child("expression");
                    expression(text(patch, "expression"), &at, errors);
                }
                Some(_) => {
                    let why = format!("must not be specified when patchType is {wanted}");
                    let value = format!("{{{key}}}");
                    errors.push(Error::invalid(&at.child(key), value, &why));
                }
                None => {}
            }
        }
    }
    let policy = text(spec, "reinvocationPolicy");
    let at = path.child("reinvocationPolicy");
    required_one_of(policy, &["IfNeeded", "Never"], &at, errors);
}

/// The rules of bindings of policies.
pub(super) struct Bindings {
    /// Whether the policy changes objects.
    pub(super) mutating: bool,
}

impl Strategy for Bindings {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::GENERIC
    }

    fn default(&self, object: &mut Object) {
        if let Some(spec) = object.get_mut(&["spec"]) {
            match_defaults(spec, "matchResources");
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        crate::plain::count(new, old);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let path = Path::new("spec");
        match text(spec, "policyName") {
            "" => errors.push(Error::required(&path.child("policyName"), "")),
            name => dns_subdomain(name, &path.child("policyName"), &mut errors),
        }
        if let Some(reference) = part(spec, "paramRef") {
            param_ref(reference, &path.child("paramRef"), &mut errors);
        }
        if let Some(resources) = part(spec, "matchResources") {
            match_resources(resources, &path.child("matchResources"), &mut errors);
            if self.mutating {
                changing_operations(resources, &path.child("matchResources"), &mut errors);
            }
        }
        if !self.mutating {
            actions(spec, &path.child("validationActions"), &mut errors);
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        self.validate_create(new)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("PolicyName", "The policy it binds."),
            text_column("ParamRef", "Where its parameters are."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let reference = object.get(&["spec", "paramRef"]).filter(|r| !r.is_null());
        let shown = reference.map(|r| match (text(r, "namespace"), text(r, "name")) {
            (_, "") => selector(r.get("selector")),
            ("", name) => format!("*/{name}"),
            (namespace, name) => format!("{namespace}/{name}"),
        });
        vec![
            object.name().into(),
            object.str(&["spec", "policyName"]).into(),
            shown.unwrap_or_else(|| "<unset>".to_owned()).into(),
            age(object, now),
        ]
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn param_ref(reference: &Value, path: &Path, errors: &mut ErrorList) {
    let (name, labels) = (text(reference, "name"), part(reference, "selector"));
    each(name, &path.child("name"), &segment_name(name), errors);
    label_selector(labels, &path.child("selector"), false, errors);
    match (name.is_empty(), labels.is_some()) {
        (false, true) => {
            for key in ["name", "selector"] {
                let why = "name and selector are mutually exclusive";
                errors.push(Error::forbidden(&path.child(key), why));
            }
        }
        (true, false) => {
            errors.push(Error::required(path, "one of name or selector must be specified"));
        }
        _ => {}
    }
    let action = text(reference, "parameterNotFoundAction");
    let at = path.child("parameterNotFoundAction");
    required(action, &at, errors);
    if !action.is_empty() {
        one_of(action, &["Deny", "Allow"], &at, errors);
    }
}

fn actions(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let actions = texts(spec, "validationActions");
    if actions.is_empty() {
        errors.push(Error::required(path, "at least one validation action is required"));
    }
    for (i, action) in actions.iter().enumerate() {
        one_of(action, &["Audit", "Deny", "Warn"], &path.index(i), errors);
        if actions[..i].contains(action) {
            errors.push(Error::duplicate(&path.index(i), *action));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(Error::invalid(path, actions, why));
    }
}

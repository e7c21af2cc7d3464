//! Admission policies and their bindings.
//!
//! upstream: pkg/apis/admissionregistration/validation/validation.go

use std::collections::BTreeSet;

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use longshore_api::{Object, names};
use longshore_cel::escape;
use serde_json::{Value, json};

use super::webhooks::match_conditions;
use super::{LABEL_SELECTORS, count, rule_with_operations};
use crate::core::pods::cells::{AGE, NAME, age, number, selector, text_column};
use crate::core::pods::tree::{fill, has, list, list_mut, opt_text, part, part_mut, text, texts};
use crate::core::pods::validation::common::{
    dns_subdomain, each, label_selector, one_of, qualified_name, required, required_one_of,
};
use crate::plain::{keep_metadata, separate, status_alone};
use crate::rbac::segment_name;
use crate::rules::admission::{Compiler, Gives, Sees};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const ANNOTATIONS_MAX: usize = 20;
/// The longest expression that makes a text for the audit log, in bytes.
const ANNOTATION_BYTES_MAX: usize = 5 * 1024;
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
        self.rules(object, false)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        if ctx.subresource == "status" {
            return ErrorList::new();
        }
        // Conditions that are as they were were good once.
        let same = |key: &str| new.get(&["spec", key]) == old.get(&["spec", key]);
        self.rules(new, same("paramKind") && same("matchConditions"))
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
    /// The broken rules; conditions are left out when they are known.
    fn rules(&self, object: &Object, known_conditions: bool) -> ErrorList {
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
        let sees = Sees { params: has(spec, "paramKind"), authorizer: true, patches: false };
        if !known_conditions {
            match_conditions(spec, sees, &path.child("matchConditions"), &mut errors);
        }
        let variables = list(spec, "variables");
        let compiler = Compiler::new(sees, self.mutating || !variables.is_empty());
        for (i, variable) in variables.iter().enumerate() {
            self::variable(variable, &compiler, &path.child("variables").index(i), &mut errors);
        }
        if self.mutating {
            mutations(spec, &compiler, sees, &path, &mut errors);
        } else {
            validations(object.name(), spec, &compiler, sees, &path, &mut errors);
        }
        errors
    }

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
    match opt_text(resources, "matchPolicy") {
        None => errors.push(Error::required(&at, "")),
        Some(policy) => one_of(policy, &["Equivalent", "Exact"], &at, errors),
    }
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
    first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') && !is_reserved(name)
}

/// Whether a word cannot be a name: as a field it has to be escaped as a whole.
fn is_reserved(name: &str) -> bool {
    escape(name).is_some_and(|escaped| escaped == format!("__{name}__"))
}

/// The rules of a variable, which expressions after it see.
fn variable(variable: &Value, compiler: &Compiler, path: &Path, errors: &mut ErrorList) {
    let (name, source) = (text(variable, "name"), text(variable, "expression"));
    if name.trim().is_empty() {
        errors.push(Error::required(&path.child("name"), "name is not specified"));
    } else if !is_identifier(name) {
        let why = "must be a valid CEL identifier";
        errors.push(Error::invalid(&path.child("name"), name, why));
    }
    let at = path.child("expression");
    if source.trim().is_empty() {
        errors.push(Error::required(&at, "expression is not specified"));
    } else if let Err(why) = compiler.variable(name, source) {
        errors.push(why.of_field(&at, source));
    }
}

fn validations(
    name: &str,
    spec: &Value,
    compiler: &Compiler,
    sees: Sees,
    path: &Path,
    errors: &mut ErrorList,
) {
    let of_messages = Sees { params: sees.params, authorizer: false, patches: false };
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
        let source = text(check, "expression");
        let here = at.child("expression");
        if source.trim().is_empty() {
            errors.push(Error::required(&here, "expression is not specified"));
        } else if let Err(why) = compiler.compile(source, Gives::Bool) {
            errors.push(why.of_field(&here, source));
        }
        let empty = "must be non-empty if specified";
        let source = text(check, "messageExpression");
        let here = at.child("messageExpression");
        if source.is_empty() {
        } else if source.trim().is_empty() {
            errors.push(Error::invalid(&here, source, empty));
        } else if let Err(why) = compiler.compile_as(source, Gives::Text, of_messages) {
            errors.push(why.of_field(&here, source));
        }
        let message = text(check, "message");
        if !message.is_empty() && message.trim().is_empty() {
            errors.push(Error::invalid(&at.child("message"), message, empty));
        }
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
        let (source, here) = (text(annotation, "valueExpression"), at.child("valueExpression"));
        let trimmed = source.trim();
        if trimmed.is_empty() {
            errors.push(Error::required(&here, "valueExpression is not specified"));
        } else if trimmed.len() > ANNOTATION_BYTES_MAX {
            let why = format!("must not exceed {ANNOTATION_BYTES_MAX} bytes in length");
            errors.push(Error::required(&here, &why));
        } else if let Err(why) = compiler.compile(trimmed, Gives::TextOrNull) {
            errors.push(why.of_field(&here, source));
        }
        if !seen.insert(key) {
            errors.push(Error::duplicate(&at.child("key"), key));
        }
    }
}

fn mutations(spec: &Value, compiler: &Compiler, sees: Sees, path: &Path, errors: &mut ErrorList) {
    let sees = Sees { patches: true, ..sees };
    let mutations = list(spec, "mutations");
    if mutations.is_empty() {
        let why = "mutations must contain at least one item";
        errors.push(Error::required(&path.child("mutations"), why));
    }
    let kinds = [
        ("JSONPatch", "jsonPatch", Gives::Operations),
        ("ApplyConfiguration", "applyConfiguration", Gives::Configuration),
    ];
    for (i, mutation) in mutations.iter().enumerate() {
        let at = path.child("mutations").index(i);
        let wanted = text(mutation, "patchType");
        required_one_of(
            wanted,
            &["ApplyConfiguration", "JSONPatch"],
            &at.child("patchType"),
            errors,
        );
        if !kinds.iter().any(|(kind, ..)| *kind == wanted) {
            continue;
        }
        for (kind, key, gives) in kinds {
            match part(mutation, key) {
                None if kind == wanted => {
                    let why = format!("must be specified when patchType is {kind}");
                    errors.push(Error::required(&at.child(key), &why));
                }
                Some(patch) if kind == wanted => {
                    let at = at.child(key).child("expression");
                    let source = text(patch, "expression").trim();
                    if source.is_empty() {
                        errors.push(Error::required(&at, ""));
                    } else if let Err(why) = compiler.compile_as(source, gives, sees) {
                        errors.push(why.of_field(&at, source));
                    }
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

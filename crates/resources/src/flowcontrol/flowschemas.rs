//! Flow schemas.
//!
//! upstream: pkg/apis/flowcontrol/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use serde_json::{Value, json};

use super::conditions;
use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{fill_int, flag, int, list, or_null, part, text, texts};
use crate::core::pods::validation::common::{dns_label, dns_subdomain, required};
use crate::plain::{keep_metadata, separate, status_alone};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const PRECEDENCE: i64 = 1000;
const PRECEDENCE_MAX: i64 = 10_000;
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// The rules of flow schemas.
pub(super) struct FlowSchemas;

impl Strategy for FlowSchemas {
    fn written_fields(&self, subresource: &str) -> Filter {
        status_alone(subresource)
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::WHOLE
    }

    fn default(&self, object: &mut Object) {
        let root = object.root_mut();
        let spec = root.entry("spec").or_insert_with(|| json!({}));
        fill_int(spec, "matchingPrecedence", PRECEDENCE);
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({}));
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
        if ctx.subresource == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = spec(object);
        super::mandatory::flow_schema(object, &mut errors);
        conditions(object, &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        if ctx.subresource != "status" {
            return self.validate_create(new);
        }
        let mut errors = ErrorList::new();
        conditions(new, &mut errors);
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("PriorityLevel", "The priority level of its requests."),
            text_column("MatchingPrecedence", "Lower ones are tried first."),
            text_column("DistinguisherMethod", "How requests are told apart."),
            AGE,
            text_column("MissingPL", "Whether the priority level is missing."),
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let method = object.get(&["spec", "distinguisherMethod"]).filter(|m| !m.is_null());
        let conditions = object.list(&["status", "conditions"]);
        let missing = conditions.iter().find(|c| text(c, "type") == "Dangling");
        vec![
            object.name().into(),
            object.str(&["spec", "priorityLevelConfiguration", "name"]).into(),
            object.int(&["spec", "matchingPrecedence"]).unwrap_or(0).into(),
            method.map_or("<none>", |m| text(m, "type")).into(),
            age(object, now),
            missing.map_or("?", |c| text(c, "status")).into(),
        ]
    }
}

fn spec(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let path = Path::new("spec");
    let precedence = int(spec, "matchingPrecedence").unwrap_or(0);
    let mut bad = |why: &str| {
        errors.push(Error::invalid(&path.child("matchingPrecedence"), precedence, why));
    };
    match precedence {
        ..=0 => bad("must be a positive value"),
        1 if object.name() != "exempt" => {
            bad("only the schema named 'exempt' may have matchingPrecedence 1");
        }
        _ if precedence > PRECEDENCE_MAX => bad("must not be greater than 10000"),
        _ => {}
    }
    if let Some(method) = part(spec, "distinguisherMethod") {
        let set = ["ByNamespace", "ByUser"];
        if !set.contains(&text(method, "type")) {
            let at = path.child("distinguisherMethod").child("type");
            let error = Error::not_supported(&at, method.clone(), &set);
            errors.push(error.as_struct("flowcontrol/v1.FlowDistinguisherMethod"));
        }
    }
    let at = path.child("priorityLevelConfiguration").child("name");
    match object.str(&["spec", "priorityLevelConfiguration", "name"]) {
        "" => errors.push(Error::required(&at, "must reference a priority level")),
        name => dns_subdomain(name, &at, &mut errors),
    }
    for (i, item) in list(spec, "rules").iter().enumerate() {
        rule(item, &path.child("rules").index(i), &mut errors);
    }
    errors
}

fn rule(rule: &Value, path: &Path, errors: &mut ErrorList) {
    let subjects = list(rule, "subjects");
    if subjects.is_empty() {
        let why = "subjects must contain at least one value";
        errors.push(Error::required(&path.child("subjects"), why));
    }
    for (i, item) in subjects.iter().enumerate() {
        subject(item, &path.child("subjects").index(i), errors);
    }
    let (resources, others) = (list(rule, "resourceRules"), list(rule, "nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Error::required(path, why));
    }
    for (i, item) in resources.iter().enumerate() {
        resource_rule(item, &path.child("resourceRules").index(i), errors);
    }
    for (i, item) in others.iter().enumerate() {
        url_rule(item, &path.child("nonResourceRules").index(i), errors);
    }
}

fn subject(subject: &Value, path: &Path, errors: &mut ErrorList) {
    let kinds = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = text(subject, "kind");
    if !kinds.iter().any(|(known, _)| *known == kind) {
        let set = ["Group", "ServiceAccount", "User"];
        errors.push(Error::not_supported(&path.child("kind"), kind, &set));
        return;
    }
    for (known, key) in kinds {
        let at = path.child(key);
        match part(subject, key) {
            Some(_) if known != kind => {
                let why = format!("{key} is forbidden when subject kind is not '{known}'");
                errors.push(Error::forbidden(&at, &why));
            }
            None if known == kind => {
                let why = format!("{key} is required when subject kind is '{known}'");
                errors.push(Error::required(&at, &why));
            }
            Some(who) if key == "serviceAccount" => account(who, &at, errors),
            Some(who) => required(text(who, "name"), &at.child("name"), errors),
            None => {}
        }
    }
}

fn account(who: &Value, path: &Path, errors: &mut ErrorList) {
    match text(who, "name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        "*" => {}
        name => dns_subdomain(name, &path.child("name"), errors),
    }
    let at = path.child("namespace");
    match text(who, "namespace") {
        "" => errors.push(Error::required(&at, "must specify namespace for service account")),
        namespace => dns_label(namespace, &at, errors),
    }
}

/// Whether the list is a lone wildcard; complains about others beside it.
fn wildcard(rule: &Value, key: &str, what: &str, path: &Path, errors: &mut ErrorList) -> bool {
    let items = texts(rule, key);
    let found = items.contains(&"*");
    if found && items.len() > 1 {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(Error::invalid(&path.child(key), items, &why));
    }
    found
}

fn verbs(rule: &Value, path: &Path, errors: &mut ErrorList) {
    let verbs = texts(rule, "verbs");
    let at = path.child("verbs");
    if verbs.is_empty() {
        errors.push(Error::required(&at, "verbs must contain at least one value"));
    } else if !wildcard(rule, "verbs", "verbs", path, errors)
        && !verbs.iter().all(|verb| VERBS.contains(verb))
    {
        errors.push(Error::not_supported(&at, or_null(rule, "verbs"), &VERBS));
    }
}

fn resource_rule(rule: &Value, path: &Path, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let lists = [
        ("apiGroups", "api groups", "resource rules must supply at least one api group"),
        ("resources", "resources", "resource rules must supply at least one resource"),
    ];
    for (key, what, why) in lists {
        if list(rule, key).is_empty() {
            errors.push(Error::required(&path.child(key), why));
        }
        wildcard(rule, key, what, path, errors);
    }
    let namespaces = texts(rule, "namespaces");
    let at = path.child("namespaces");
    if namespaces.is_empty() && !flag(rule, "clusterScope") {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(Error::required(&at, why));
    } else if !wildcard(rule, "namespaces", "namespaces", path, errors) {
        for (i, namespace) in namespaces.into_iter().enumerate() {
            for why in longshore_api::names::is_dns1123_label(namespace) {
                let why =
                    format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.push(Error::invalid(&at.index(i), namespace, &why));
            }
        }
    }
}

fn url_rule(rule: &Value, path: &Path, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let key = "nonResourceURLs";
    let urls = texts(rule, key);
    if urls.is_empty() {
        let why = "nonResourceURLs must contain at least one value";
        errors.push(Error::required(&path.child(key), why));
    } else if !wildcard(rule, key, "non-resource URLs", path, errors) {
        for (i, url) in urls.into_iter().enumerate() {
            let why = match url {
                "" => "must not be empty",
                "/" => continue,
                _ if !url.starts_with('/') => "must start with slash",
                _ if url.contains(' ') => "must not contain white-space",
                _ if url.contains("//") => "must not contain double slash",
                _ => match url.matches('*').count() {
                    0 => continue,
                    1 if url.ends_with("/*") => continue,
                    _ => "wildcard can only do suffix matching",
                },
            };
            errors.push(Error::invalid(&path.child(key).index(i), url, why));
        }
    }
}

//! The status of a definition: which names it got, whether it is established, and its end.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/controller/{status,establish,
//! apiapproval,nonstructuralschema,finalizer}, pkg/apihelpers/helpers.go

use std::collections::BTreeSet;

use jiff::Timestamp;
use longshore_api::structural::Schema;
use longshore_api::{Object, patch::gotext::quote};
use serde_json::{Map, Value, json};

use crate::core::pods::tree::{part, text, texts};

/// Keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The annotation that says where an API of a protected group was approved.
const APPROVED: &str = "api-approved.kubernetes.io";
const APPROVAL_HELP: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// A condition that is wanted: type, status, reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

impl Condition {
    /// A condition of the end of a definition.
    pub fn terminating(status: bool, reason: &str, message: &str) -> Self {
        Self::new("Terminating", if status { "True" } else { "False" }, reason, message)
    }

    fn new(kind: &'static str, status: &'static str, reason: &str, message: &str) -> Self {
        Self { kind, status, reason: reason.to_owned(), message: message.to_owned() }
    }

    /// Whether the definition has this condition already.
    fn holds_in(&self, definition: &Object) -> bool {
        find(definition, self.kind).is_some_and(|held| {
            text(held, "status") == self.status
                && text(held, "reason") == self.reason
                && text(held, "message") == self.message
        })
    }

    /// Sets the condition; its time is that of the last change of the status.
    pub fn put(&self, definition: &mut Object, now: Timestamp) {
        let mut conditions = definition.list(&["status", "conditions"]).to_vec();
        let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let wanted = json!({
            "type": self.kind, "status": self.status, "lastTransitionTime": time,
            "reason": self.reason, "message": self.message,
        });
        match conditions.iter_mut().find(|held| text(held, "type") == self.kind) {
            None => conditions.push(wanted),
            Some(held) => {
                let since = held["lastTransitionTime"].take();
                let same = text(held, "status") == self.status && since.is_string();
                *held = wanted;
                if same {
                    held["lastTransitionTime"] = since;
                }
            }
        }
        definition.set(&["status", "conditions"], conditions);
    }
}

fn find<'a>(definition: &'a Object, kind: &str) -> Option<&'a Value> {
    let conditions = definition.list(&["status", "conditions"]);
    conditions.iter().find(|condition| text(condition, "type") == kind)
}

/// Whether a condition of a definition is true.
pub fn is_true(definition: &Object, kind: &str) -> bool {
    find(definition, kind).is_some_and(|condition| text(condition, "status") == "True")
}

/// The next state of a definition's status, one step of it; none when nothing is to do. `served` says
/// whether its objects are served already, `taken` has the accepted names of its group.
pub fn next(definition: &Object, taken: &Taken, served: bool, now: Timestamp) -> Option<Object> {
    accept_names(definition, taken, now)
        .or_else(|| judge(definition, approval(definition), now))
        .or_else(|| schema_condition(definition, now))
        .or_else(|| if served { establish(definition, now) } else { None })
}

/// Whether a definition asks for other names than it has.
pub fn wants_names(definition: &Object) -> bool {
    let none = Value::Null;
    let of = |path: &[&str]| definition.get(path).unwrap_or(&none).clone();
    !same_names(&of(&["spec", "names"]), &of(&["status", "acceptedNames"]))
}

/// Sets a condition unless it holds.
fn judge(definition: &Object, wanted: Option<Condition>, now: Timestamp) -> Option<Object> {
    let wanted = wanted.filter(|wanted| !wanted.holds_in(definition))?;
    let mut changed = definition.clone();
    wanted.put(&mut changed, now);
    Some(changed)
}

/// Names that the definitions of a group have got.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds what a definition of the group has got.
    pub fn add(&mut self, definition: &Object) {
        let names = definition.get(&["status", "acceptedNames"]).unwrap_or(&Value::Null);
        let own = |key: &str| text(names, key).to_owned();
        self.resources.extend([own("plural"), own("singular")]);
        self.resources.extend(texts(names, "shortNames").into_iter().map(str::to_owned));
        self.kinds.extend([own("kind"), own("listKind")]);
    }
}

fn free(asked: &str, own: &str, taken: &BTreeSet<String>) -> Result<(), String> {
    if asked == own || !taken.contains(asked) {
        return Ok(());
    }
    Err(format!("{} is already in use", quote(asked)))
}

/// upstream: controller/status/naming_controller.go calculateNamesAndConditions
fn accept_names(definition: &Object, taken: &Taken, now: Timestamp) -> Option<Object> {
    let none = Value::Null;
    let asked = definition.get(&["spec", "names"]).unwrap_or(&none);
    let own = definition.get(&["status", "acceptedNames"]).unwrap_or(&none);
    if same_names(asked, own) {
        return None;
    }
    let mut got = own.as_object().cloned().unwrap_or_default();
    let mut accepted = Condition::new("NamesAccepted", "True", "NoConflicts", "no conflicts found");
    let mut refuse = |reason: &str, message: &str| {
        accepted = Condition::new("NamesAccepted", "False", reason, message);
    };
    let one = |key: &str, among: &BTreeSet<String>, got: &mut Map<String, Value>| {
        free(text(asked, key), text(own, key), among)?;
        got.insert(key.to_owned(), text(asked, key).into());
        Ok::<_, String>(())
    };
    for (key, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        if let Err(why) = one(key, &taken.resources, &mut got) {
            refuse(reason, &why);
        }
    }
    let (short, present) = (texts(asked, "shortNames"), texts(own, "shortNames"));
    if short != present {
        let fresh = short.iter().filter(|name| !present.contains(*name));
        let problems: Vec<String> =
            fresh.filter_map(|name| free(name, "", &taken.resources).err()).collect();
        match problems.as_slice() {
            [] => put_list(&mut got, "shortNames", &short),
            [one] => refuse("ShortNamesConflict", one),
            many => refuse("ShortNamesConflict", &format!("[{}]", many.join(", "))),
        }
    }
    for (key, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        if let Err(why) = one(key, &taken.kinds, &mut got) {
            refuse(reason, &why);
        }
    }
    put_list(&mut got, "categories", &texts(asked, "categories"));
    got.retain(|key, value| matches!(key.as_str(), "plural" | "kind") || value != "");
    if same_names(&Value::Object(got.clone()), own) && accepted.holds_in(definition) {
        return None;
    }
    let established = is_true(definition, "Established");
    let mut changed = definition.clone();
    changed.set(&["status", "acceptedNames"], got);
    let good = accepted.status == "True";
    accepted.put(&mut changed, now);
    if !established && good {
        let message = "the initial names have been accepted";
        Condition::new("Established", "False", "Installing", message).put(&mut changed, now);
    } else if find(definition, "Established").is_none() {
        let message = "not all names are accepted";
        Condition::new("Established", "False", "NotAccepted", message).put(&mut changed, now);
    }
    Some(changed)
}

fn put_list(names: &mut Map<String, Value>, key: &str, list: &[&str]) {
    if list.is_empty() {
        names.remove(key);
    } else {
        names.insert(key.to_owned(), json!(list));
    }
}

fn same_names(a: &Value, b: &Value) -> bool {
    ["plural", "singular", "kind", "listKind"].iter().all(|key| text(a, key) == text(b, key))
        && ["shortNames", "categories"].iter().all(|key| texts(a, key) == texts(b, key))
}

/// upstream: controller/establish/establishing_controller.go
fn establish(definition: &Object, now: Timestamp) -> Option<Object> {
    if !is_true(definition, "NamesAccepted") || is_true(definition, "Established") {
        return None;
    }
    let message = "the initial names have been accepted";
    let wanted = Condition::new("Established", "True", "InitialNamesAccepted", message);
    judge(definition, Some(wanted), now)
}

/// upstream: controller/apiapproval/apiapproval_controller.go, apihelpers/helpers.go
fn approval(definition: &Object) -> Option<Condition> {
    let group = definition.str(&["spec", "group"]);
    let of =
        |domain: &str| group.strip_suffix(domain).is_some_and(|g| g.is_empty() || g.ends_with('.'));
    if !of("k8s.io") && !of("kubernetes.io") {
        return None;
    }
    let annotation = definition.annotation(APPROVED).unwrap_or("");
    let must = format!("protected groups must have approval annotation \"{APPROVED}\"");
    let (status, reason, message) = if annotation.is_empty() {
        ("False", "MissingAnnotation", format!("{must}, {APPROVAL_HELP}"))
    } else if annotation.starts_with("unapproved") {
        ("False", "UnapprovedAnnotation", format!("not approved: {}", quote(annotation)))
    } else if is_address(annotation) {
        ("True", "ApprovedAnnotation", format!("approved in {annotation}"))
    } else {
        let either = "with either a URL or a reason starting with \"unapproved\"";
        ("False", "InvalidAnnotation", format!("{must} {either}, {APPROVAL_HELP}"))
    };
    Some(Condition::new("KubernetesAPIApprovalPolicyConformant", status, reason, &message))
}

/// Whether a text is a URL with a scheme and a host.
fn is_address(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let good = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(good)
        && !host.is_empty()
        && !text.contains(|c: char| c.is_ascii_control() || c == ' ')
}

/// upstream: controller/nonstructuralschema/nonstructuralschema_controller.go
fn schema_condition(definition: &Object, now: Timestamp) -> Option<Object> {
    const KIND: &str = "NonStructuralSchema";
    let wanted = schema_problem(definition)
        .map(|(reason, message)| Condition::new(KIND, "True", reason, &message));
    if wanted.is_some() || find(definition, KIND).is_none() {
        return judge(definition, wanted, now);
    }
    let mut changed = definition.clone();
    let mut conditions = definition.list(&["status", "conditions"]).to_vec();
    conditions.retain(|condition| text(condition, "type") != KIND);
    changed.set(&["status", "conditions"], conditions);
    Some(changed)
}

fn schema_problem(definition: &Object) -> Option<(&'static str, String)> {
    for version in definition.list(&["spec", "versions"]) {
        let schema = part(version, "schema").and_then(|schema| part(schema, "openAPIV3Schema"));
        if let Err(why) = Schema::compile(schema.unwrap_or(&Value::Null), true) {
            let name = text(version, "name");
            let message = format!("failed to check validation schema for version {name}: {why}");
            return Some(("StructuralError", message));
        }
    }
    let preserves = definition.bool(&["spec", "preserveUnknownFields"]);
    let message = "spec.preserveUnknownFields: Invalid value: true: must be false";
    preserves.then(|| ("Violations", message.to_owned()))
}

/// Marks a definition that is deleted for the first time: its objects have to go first.
///
/// upstream: registry/customresourcedefinition/etcd.go Delete
pub fn begin_deletion(definition: &mut Object, now: Timestamp) {
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    definition.set(&["metadata", "deletionTimestamp"], time);
    let mut finalizers = definition.list(&["metadata", "finalizers"]).to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
        finalizers.push(CLEANUP.into());
        definition.set(&["metadata", "finalizers"], finalizers);
    }
    let message =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    Condition::terminating(true, "InstanceDeletionPending", message).put(definition, now);
}

/// Whether a definition waits for its objects to go.
pub fn is_ending(definition: &Object) -> bool {
    definition.is_deleting() && definition.finalizers().contains(&CLEANUP)
}

/// Says that the objects of a definition are being deleted.
pub fn deleting(definition: &mut Object, now: Timestamp) {
    let message = "CustomResource deletion is in progress";
    Condition::terminating(true, "InstanceDeletionInProgress", message).put(definition, now);
}

/// Lets a definition go. `were_served` says whether there could be objects.
pub fn ended(definition: &mut Object, were_served: bool, now: Timestamp) {
    let (reason, message) = if were_served {
        ("InstanceDeletionCompleted", "removed all instances")
    } else {
        ("NeverEstablished", "resource was never established")
    };
    Condition::terminating(false, reason, message).put(definition, now);
    let rest: Vec<Value> = definition
        .list(&["metadata", "finalizers"])
        .iter()
        .filter(|finalizer| *finalizer != CLEANUP)
        .cloned()
        .collect();
    if rest.is_empty() {
        definition.remove(&["metadata", "finalizers"]);
    } else {
        definition.set(&["metadata", "finalizers"], rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(kind: &str, short: &[&str]) -> Object {
        let plural = format!("{}s", kind.to_lowercase());
        Object::from_value(json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "versions": [], "names": {
                "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": short,
            }},
            "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}},
        }))
        .expect("an object")
    }

    fn reason<'a>(definition: &'a Object, kind: &str) -> &'a str {
        find(definition, kind).map_or("", |condition| text(condition, "reason"))
    }

    #[test]
    fn a_definition_gets_its_names_and_then_is_established() {
        let now = Timestamp::UNIX_EPOCH;
        let taken = Taken::default();
        let first = next(&definition("Widget", &["w"]), &taken, false, now).expect("names");
        assert_eq!(first.str(&["status", "acceptedNames", "kind"]), "Widget");
        assert_eq!(reason(&first, "Established"), "Installing");
        assert_eq!(next(&first, &taken, false, now), None, "nothing is served yet");
        let second = next(&first, &taken, true, now).expect("served");
        assert!(is_true(&second, "Established") && is_true(&second, "NamesAccepted"));
        assert_eq!(next(&second, &taken, true, now), None);
    }

    #[test]
    fn names_that_are_taken_are_not_given() {
        let now = Timestamp::UNIX_EPOCH;
        let mut taken = Taken::default();
        taken.add(&next(&definition("Widget", &["w"]), &taken, false, now).expect("names"));
        let mut other = definition("Gadget", &["g", "w", "widget"]);
        other.set(&["spec", "names", "kind"], "Widget");
        let refused = next(&other, &taken, false, now).expect("a condition");
        let names = refused.get(&["status", "acceptedNames"]).expect("names");
        assert_eq!(
            *names,
            json!({
                "plural": "gadgets", "singular": "gadget", "kind": "", "listKind": "GadgetList",
            })
        );
        assert_eq!(reason(&refused, "NamesAccepted"), "KindConflict");
        assert_eq!(reason(&refused, "Established"), "NotAccepted");
        assert_eq!(next(&refused, &taken, false, now), None);
        let freed = next(&refused, &Taken::default(), false, now).expect("the names are free");
        assert_eq!(reason(&freed, "Established"), "Installing");
    }

    #[test]
    fn protected_groups_have_to_say_who_approved_them() {
        let mut definition = definition("Widget", &[]);
        definition.set(&["spec", "group"], "x.k8s.io");
        for (annotation, want) in [
            ("", "MissingAnnotation"),
            ("unapproved, a trial", "UnapprovedAnnotation"),
            ("https://example.com/1", "ApprovedAnnotation"),
            ("example.com", "InvalidAnnotation"),
        ] {
            definition.set(&["metadata", "annotations", APPROVED], annotation);
            assert_eq!(approval(&definition).expect("a condition").reason, want);
        }
        definition.set(&["spec", "group"], "notk8s.io");
        assert_eq!(approval(&definition), None);
    }

    #[test]
    fn a_definition_goes_after_its_objects() {
        let now = Timestamp::UNIX_EPOCH;
        let mut going = definition("Widget", &[]);
        begin_deletion(&mut going, now);
        assert!(is_ending(&going) && is_true(&going, "Terminating"));
        deleting(&mut going, now);
        ended(&mut going, true, now);
        assert!(going.is_deleting() && !is_ending(&going));
        assert_eq!(reason(&going, "Terminating"), "InstanceDeletionCompleted");
    }
}

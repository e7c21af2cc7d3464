//! Role bindings and cluster role bindings.
//!
//! upstream: pkg/apis/rbac/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::{GROUP, segment_name};
use crate::core::pods::cells::{AGE, NAME, age, text_column, wide};
use crate::core::pods::tree::{fill_text, text};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::{Column, default_name_rule};

/// The rules of bindings; `namespaced` tells role bindings from cluster role bindings.
pub(super) struct Bindings {
    /// Whether they are bindings in a namespace.
    pub(super) namespaced: bool,
}

impl Strategy for Bindings {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        if let Some(role) = object.get_mut(&["roleRef"]) {
            fill_text(role, "apiGroup", GROUP);
        }
        let subjects = object.get_mut(&["subjects"]).and_then(Value::as_array_mut);
        for subject in subjects.into_iter().flatten() {
            if matches!(text(subject, "kind"), "User" | "Group") {
                fill_text(subject, "apiGroup", GROUP);
            }
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        self.check(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = self.check(new);
        if new.get(&["roleRef"]) != old.get(&["roleRef"]) {
            let role = new.get(&["roleRef"]).cloned().unwrap_or(Value::Null);
            errors.push(Error::invalid(&Path::new("roleRef"), role, "cannot change roleRef"));
        }
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        segment_name(name)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Role", "The bound role."),
            AGE,
            wide("Users", "Bound users."),
            wide("Groups", "Bound groups."),
            wide("ServiceAccounts", "Bound service accounts."),
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let of = |kind: &str| {
            let subjects = object.list(&["subjects"]).iter().filter(|s| text(s, "kind") == kind);
            let names: Vec<String> = subjects
                .map(|s| match text(s, "namespace") {
                    "" => text(s, "name").to_owned(),
                    namespace => format!("{namespace}/{}", text(s, "name")),
                })
                .collect();
            Value::from(names.join(", "))
        };
        let role =
            format!("{}/{}", object.str(&["roleRef", "kind"]), object.str(&["roleRef", "name"]));
        vec![
            object.name().into(),
            role.into(),
            age(object, now),
            of("User"),
            of("Group"),
            of("ServiceAccount"),
        ]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

impl Bindings {
    fn check(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("roleRef");
        let group = object.str(&["roleRef", "apiGroup"]);
        if group != GROUP {
            errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
        }
        let kinds: &[&str] =
            if self.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        let kind = object.str(&["roleRef", "kind"]);
        if !kinds.contains(&kind) {
            errors.push(Error::not_supported(&path.child("kind"), kind, kinds));
        }
        let name = object.str(&["roleRef", "name"]);
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            for why in segment_name(name) {
                errors.push(Error::invalid(&path.child("name"), name, &why));
            }
        }
        for (i, subject) in object.list(&["subjects"]).iter().enumerate() {
            self.subject(subject, &Path::new("subjects").index(i), &mut errors);
        }
        errors
    }

    fn subject(&self, subject: &Value, path: &Path, errors: &mut ErrorList) {
        let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        match text(subject, "kind") {
            "ServiceAccount" => {
                for why in default_name_rule(name, false).into_iter().filter(|_| !name.is_empty()) {
                    errors.push(Error::invalid(&path.child("name"), name, &why));
                }
                if !group.is_empty() {
                    errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
                }
                if !self.namespaced && text(subject, "namespace").is_empty() {
                    errors.push(Error::required(&path.child("namespace"), ""));
                }
            }
            "User" | "Group" if group != GROUP => {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
            "User" | "Group" => {}
            kind => {
                let known = ["ServiceAccount", "User", "Group"];
                errors.push(Error::not_supported(&path.child("kind"), kind, &known));
            }
        }
    }
}

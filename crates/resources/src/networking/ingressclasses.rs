//! Ingress classes.
//!
//! upstream: pkg/registry/networking/ingressclass/strategy.go,
//! pkg/apis/networking/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::reference;
use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{fill, opt_text, text};
use crate::core::pods::validation::common::{dns_label, domain_path, immutable, one_of};
use crate::plain::count;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const CONTROLLER_MAX: usize = 250;
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// The rules of ingress classes.
pub(super) struct IngressClasses;

impl Strategy for IngressClasses {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        if let Some(parameters) = object.get_mut(&["spec", "parameters"]) {
            fill(parameters, "scope", "Cluster");
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        count(new, old);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        let controller = object.str(&["spec", "controller"]);
        let at = path.child("controller");
        if controller.len() > CONTROLLER_MAX {
            errors.push(Error::too_long(&at, CONTROLLER_MAX));
        }
        domain_path(controller, &at, &mut errors);
        if let Some(target) = object.get(&["spec", "parameters"]).filter(|p| !p.is_null()) {
            parameters(target, &path.child("parameters"), &mut errors);
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (path, key) = (Path::new("spec").child("controller"), ["spec", "controller"]);
        immutable(new.get(&key), old.get(&key), &path, &mut errors);
        errors.extend(self.validate_create(new));
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Controller", "Who serves the class."),
            text_column("Parameters", "Where its settings are."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let mut name = object.name().to_owned();
        if object.annotation(DEFAULT) == Some("true") {
            name.push_str(" (default)");
        }
        let parameters = object.get(&["spec", "parameters"]).map(|p| {
            let group = opt_text(p, "apiGroup").map(|g| format!(".{g}")).unwrap_or_default();
            format!("{}{group}/{}", text(p, "kind"), text(p, "name"))
        });
        vec![
            name.into(),
            object.str(&["spec", "controller"]).into(),
            parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
            age(object, now),
        ]
    }
}

fn parameters(target: &Value, path: &Path, errors: &mut ErrorList) {
    reference(target, path, errors);
    let scope = text(target, "scope");
    one_of(scope, &["Cluster", "Namespace"], &path.child("scope"), errors);
    let at = path.child("namespace");
    match (scope, opt_text(target, "namespace")) {
        ("Namespace", None) => {
            errors.push(Error::required(&at, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(namespace)) => dns_label(namespace, &at, errors),
        ("Cluster", Some(_)) => {
            errors.push(Error::forbidden(&at, "`parameters.scope` is set to 'Cluster'"));
        }
        _ => {}
    }
}

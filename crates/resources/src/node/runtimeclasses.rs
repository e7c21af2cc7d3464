//! Runtime classes.
//!
//! upstream: pkg/registry/node/runtimeclass/strategy.go, pkg/apis/node/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_labels;
use serde_json::Value;

use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{list, part, text};
use crate::core::pods::validation::affinity::tolerations;
use crate::core::pods::validation::common::{dns_label, immutable};
use crate::core::pods::validation::compute::overhead;
use crate::core::pods::validation::options::Options;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The rules of runtime classes.
pub(super) struct RuntimeClasses;

impl Strategy for RuntimeClasses {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        match object.str(&["handler"]) {
            "" => errors.push(Error::required(&Path::new("handler"), "")),
            handler => dns_label(handler, &Path::new("handler"), &mut errors),
        }
        if let Some(fixed) = object.get(&["overhead", "podFixed"]) {
            overhead(fixed, &Path::new("overhead"), &Options::default(), &mut errors);
        }
        if let Some(scheduling) = object.get(&["scheduling"]) {
            let path = Path::new("scheduling");
            let labels = part(scheduling, "nodeSelector");
            errors.extend(validate_labels(labels, &path.child("nodeSelector")));
            let taints = list(scheduling, "tolerations");
            let path = path.child("tolerations");
            tolerations(taints, &path, &Options::default(), &mut errors);
            let keys = ["key", "operator", "value", "effect"];
            for (i, taint) in taints.iter().enumerate() {
                let same = |other: &Value| keys.iter().all(|k| text(other, k) == text(taint, k));
                if taints[..i].iter().any(same) {
                    errors.push(Error::duplicate(&path.index(i), taint.clone()));
                }
            }
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = self.validate_create(new);
        let path = Path::new("handler");
        immutable(new.get(&["handler"]), old.get(&["handler"]), &path, &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("Handler", "The runtime's name for it."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), object.str(&["handler"]).into(), age(object, now)]
    }
}

//! Managers of the number of replicas as the `scale` subresource sees them, and back.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/managedfields/scalehandler.go

use serde_json::Value;

use super::managers::{self, Entry, Managers};
use super::path::PathElement;
use super::set::Set;

/// The version of scales.
pub const SCALE_VERSION: &str = "autoscaling/v1";

/// Where a resource keeps its number of replicas.
#[derive(Clone, Debug)]
pub struct Replicas<'a> {
    /// The version of the request.
    pub api_version: &'a str,
    /// The path of the field.
    pub path: Vec<&'a str>,
    /// All versions that have the field.
    pub versions: Vec<&'a str>,
}

fn replicas_of_scale() -> Set {
    Set::of_fields(&[&["spec", "replicas"]])
}

impl Replicas<'_> {
    fn knows(&self, api_version: &str) -> bool {
        self.versions.contains(&api_version)
    }

    fn path(&self) -> Vec<PathElement> {
        self.path.iter().map(|name| PathElement::named(name)).collect()
    }

    fn set(&self) -> Set {
        let mut set = Set::new();
        set.insert(&self.path());
        set
    }

    fn held_by(&self, entry: &Entry) -> bool {
        entry.set.has(&self.path())
    }

    /// The entries of a scale: of those who manage the number of replicas.
    ///
    /// # Errors
    /// When the entries of the resource cannot be read.
    pub fn to_scale(&self, entries: &[Value]) -> Result<Option<Value>, String> {
        let mut scale = Managers::new();
        for (id, entry) in managers::decode(entries)? {
            if self.knows(&entry.api_version) && self.held_by(&entry) {
                let api_version = SCALE_VERSION.to_owned();
                let set = replicas_of_scale();
                scale.insert(id, Entry { set, api_version, time: entry.time });
            }
        }
        Ok(managers::encode(&scale))
    }

    /// The entries of the resource after those of its scale changed.
    ///
    /// # Errors
    /// When entries cannot be read.
    pub fn to_parent(
        &self,
        entries: &[Value],
        of_scale: &[Value],
    ) -> Result<Option<Value>, String> {
        let parent = managers::decode(entries)?;
        let mut scale = managers::decode(of_scale)?;
        let mut out = Managers::new();
        for (id, entry) in &parent {
            if !self.knows(&entry.api_version) {
                continue;
            }
            let mut entry = entry.clone();
            // Who lost the field to another manager keeps the rest.
            if self.held_by(&entry) && scale.remove(id).is_none() {
                entry.set = entry.set.difference(&self.set());
            }
            if !entry.set.is_empty() {
                out.insert(id.clone(), entry);
            }
        }
        for (id, entry) in scale {
            if entry.set.intersection(&replicas_of_scale()).is_empty() {
                continue;
            }
            let time = parent.get(&id).and_then(|entry| entry.time.clone());
            let api_version = self.api_version.to_owned();
            out.insert(id, Entry { set: self.set(), api_version, time });
        }
        Ok(managers::encode(&out))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replicas() -> Replicas<'static> {
        let (path, versions) = (vec!["spec", "replicas"], vec!["apps/v1"]);
        Replicas { api_version: "apps/v1", path, versions }
    }

    fn entry(name: &str, operation: &str, version: &str, fields: Value) -> Value {
        json!({
            "manager": name, "operation": operation, "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    }

    #[test]
    fn a_scaler_takes_the_replicas() {
        let both = json!({"f:spec": {"f:replicas": {}, "f:selector": {}}});
        let parent =
            [entry("a", "Apply", "apps/v1", both), entry("b", "Update", "apps/v9", json!({}))];
        let scaled = json!({"f:spec": {"f:replicas": {}}});
        let scale = replicas().to_scale(&parent).expect("valid");
        let mut of_scale = entry("a", "Apply", SCALE_VERSION, scaled.clone());
        assert_eq!(scale, Some(json!([of_scale])));
        let kept = replicas().to_parent(&parent, &[of_scale.clone()]).expect("valid");
        assert_eq!(kept, Some(json!([parent[0]])));
        of_scale = entry("s", "Update", SCALE_VERSION, scaled.clone());
        let taken = replicas().to_parent(&parent, &[of_scale]).expect("valid");
        let want = json!([
            entry("a", "Apply", "apps/v1", json!({"f:spec": {"f:selector": {}}})),
            entry("s", "Update", "apps/v1", scaled),
        ]);
        assert_eq!(taken, Some(want));
    }
}

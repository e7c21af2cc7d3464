//! The types of what expressions about requests see and make.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/cel/compile.go

use longshore_cel::{Declared, Shape, Type, Types};

fn text() -> Declared {
    Declared::new(Shape::String)
}

fn fields<const N: usize>(name: &str, fields: [(&str, Declared); N]) -> Declared {
    Declared::object(name, fields.map(|(name, declared)| (name.to_owned(), declared)))
}

/// A request.
pub fn request() -> Declared {
    let kind = || {
        let names = ["group", "version", "kind"];
        fields("kubernetes.GroupVersionKind", names.map(|name| (name, text())))
    };
    let resource = || {
        let names = ["group", "version", "resource"];
        fields("kubernetes.GroupVersionResource", names.map(|name| (name, text())))
    };
    let user = fields(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", Declared::list(text())),
            ("extra", Declared::map(Declared::list(text()))),
        ],
    );
    fields(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Declared::new(Shape::Bool)),
            ("options", Declared::new(Shape::Dyn)),
        ],
    )
}

/// A namespace.
pub fn namespace() -> Declared {
    let time = || Declared::new(Shape::Timestamp);
    let number = || Declared::new(Shape::Int);
    let condition = fields(
        "kubernetes.NamespaceCondition",
        [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = fields(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", Declared::map(text())),
            ("annotations", Declared::map(text())),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", number()),
            ("deletionTimestamp", time()),
            ("generation", number()),
            ("resourceVersion", text()),
            ("finalizers", Declared::list(text())),
        ],
    );
    let spec = fields("kubernetes.NamespaceSpec", [("finalizers", Declared::list(text()))]);
    let status = fields(
        "kubernetes.NamespaceStatus",
        [("conditions", Declared::list(condition)), ("phase", text())],
    );
    fields("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)])
}

/// The types that expressions make patches of.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/cel/mutation
pub struct Patches;

impl Types for Patches {
    fn known(&self, name: &str) -> bool {
        name == "JSONPatch" || name == "Object" || name.starts_with("Object.")
    }

    fn field(&self, name: &str, field: &str) -> Option<Type> {
        Some(match (name, field) {
            ("JSONPatch", "op" | "path" | "from") => Type::String,
            _ => Type::Dyn,
        })
    }
}

//! OpenAPI documents of the served API, made from the schema table and a list of routes.
//!
//! Names, extensions and the form of paths follow upstream, because clients read them. Descriptions
//! are left out.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/installer.go,
//! staging/src/k8s.io/apiserver/pkg/endpoints/openapi and k8s.io/kube-openapi/pkg/builder3

mod binary;
mod merge;
mod operations;
mod paths;
mod schemas;
mod shared;
#[cfg(test)]
mod tests;
pub(crate) mod texts;
mod upgrade;
mod v2;

use serde_json::{Map, Value, json};

use crate::Gvk;

pub use binary::encode_v2;
pub use merge::merge_v2;
pub use schemas::name;
pub use upgrade::document_v3;
pub use v2::document_v2;

use operations::Operation;
use schemas::Components;

/// A served resource.
#[derive(Clone, Debug)]
pub struct Route {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Lower-case plural.
    pub plural: String,
    /// Kind.
    pub kind: String,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs: create, delete, deletecollection, get, list, patch, update, watch.
    pub verbs: Vec<String>,
    /// Whether a deletion answers with the deleted object rather than a `Status`.
    pub returns_deleted: bool,
    /// Its subresources.
    pub subresources: Vec<Subroute>,
    /// The OpenAPI v3 schema of a custom resource; `None` for built-in kinds.
    pub schema: Option<Value>,
    /// The kind of its lists.
    pub list_kind: String,
    /// The paths of fields that its objects can be selected by, as a definition lists them.
    pub selectable_fields: Vec<String>,
}

/// A subresource of a route.
#[derive(Clone, Debug)]
pub struct Subroute {
    /// Its name in the path.
    pub name: String,
    /// The kind that it reads and writes.
    pub kind: Gvk,
    /// Verbs.
    pub verbs: Vec<String>,
}

/// The document of one group and version: `/openapi/v3/apis/GROUP/VERSION`. Of the routes only
/// those of the group version count.
pub fn document(group: &str, version: &str, routes: &[Route]) -> Value {
    let mut builder = Builder::new(group, version);
    let mut own = routes.iter().filter(|r| r.group == group && r.version == version).peekable();
    let custom = own.peek().is_some() && own.clone().all(|route| route.schema.is_some());
    if !custom {
        builder.discovery_path();
    }
    for route in own {
        paths::add(&mut builder, route);
    }
    let mut document = builder.finish();
    if custom {
        document["info"] = json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"});
    }
    document
}

/// The document of a path that only lists what lies below: `/api`, `/apis` or `/apis/GROUP`, and
/// of `/version`.
pub fn root_document(path: &str) -> Option<Value> {
    let mut parts = path.trim_matches('/').split('/');
    let (id, tag, answer) = match (parts.next()?, parts.next(), parts.next()) {
        ("api", None, _) => ("getCoreAPIVersions".into(), "core".into(), "APIVersions"),
        ("apis", None, _) => ("getAPIVersions".into(), "apis".into(), "APIGroupList"),
        ("apis", Some(group), None) => {
            (format!("get{}APIGroup", title(group)), tag(group), "APIGroup")
        }
        ("version", None, _) => ("getCodeVersion".into(), "version".into(), ""),
        _ => return None,
    };
    let mut builder = Builder::new("", "v1");
    let mut operation = Operation::new(&id, &tag);
    if answer.is_empty() {
        operation.answer_plain(
            "200",
            &["application/json"],
            json!({"$ref": schemas::reference(VERSION_INFO)}),
        );
        builder.components.insert(VERSION_INFO, version_info());
    } else {
        let answer = builder.components.meta(answer);
        operation.answer("200", &answer, operations::FORMATS);
    }
    let path = format!("/{}/", path.trim_matches('/'));
    builder.put(&path, vec![("get", operation)]);
    Some(builder.finish())
}

const VERSION_INFO: &str = "io.k8s.apimachinery.pkg.version.Info";

fn version_info() -> Value {
    let required = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    let optional =
        ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];
    let mut properties = Map::new();
    for name in required {
        properties.insert(name.into(), json!({"type": "string", "default": ""}));
    }
    for name in optional {
        properties.insert(name.into(), json!({"type": "string"}));
    }
    json!({"type": "object", "required": required, "properties": properties})
}

/// A document that is being built.
struct Builder {
    group: String,
    version: String,
    paths: Map<String, Value>,
    components: Components,
}

impl Builder {
    fn new(group: &str, version: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            paths: Map::new(),
            components: Components::new(group, version),
        }
    }

    /// The group version in operation names: `CoreV1`.
    fn title(&self) -> String {
        format!("{}{}", title(&self.group), capital(&self.version))
    }

    fn tag(&self) -> String {
        format!("{}_{}", tag(&self.group), self.version)
    }

    /// The URL prefix: `/api/v1` or `/apis/GROUP/VERSION`.
    fn prefix(&self) -> String {
        let version = &self.version;
        if self.group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{}/{version}", self.group)
        }
    }

    fn discovery_path(&mut self) {
        let id = format!("get{}APIResources", self.title());
        let mut operation = Operation::new(&id, &self.tag());
        let answer = self.components.meta("APIResourceList");
        operation.answer("200", &answer, operations::FORMATS);
        self.put(&format!("{}/", self.prefix()), vec![("get", operation)]);
    }

    /// Adds a path. Parameters that all its operations have are told once.
    fn put(&mut self, path: &str, operations: Vec<(&'static str, Operation)>) {
        if !operations.is_empty() {
            self.paths.insert(path.to_owned(), operations::path_item(operations));
        }
    }

    fn finish(self) -> Value {
        let mut components = json!({"securitySchemes": {"BearerToken": {
            "type": "apiKey", "in": "header", "name": "authorization",
            "description": "Bearer Token authentication",
        }}});
        let schemas = self.components.finish();
        if !schemas.is_empty() {
            components["schemas"] = Value::Object(schemas);
        }
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "1.36"},
            "paths": self.paths,
            "components": components,
        })
    }
}

/// A group in operation names: `Core`, `Apps`, `RbacAuthorization`.
fn title(group: &str) -> String {
    if group.is_empty() {
        return "Core".into();
    }
    let short = group.strip_suffix(".k8s.io").unwrap_or(group);
    short.split(['.', '-']).map(capital).collect()
}

/// A group in tags: `core`, `apps`, `rbacAuthorization`.
fn tag(group: &str) -> String {
    let title = title(group);
    let mut letters = title.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

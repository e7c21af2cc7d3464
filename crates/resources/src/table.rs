//! The description of a resource: what the routes, discovery, OpenAPI and printers derive from.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use longshore_api::meta_validation::mask_trailing_dash;
use longshore_api::{Gvk, Gvr, Model, Object, names};
use serde_json::Value;

use crate::plain::Plain;
use crate::strategy::Strategy;

/// Text that is static for built-in resources and owned for custom ones.
pub type Text = Cow<'static, str>;

/// Whether objects live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One set of names for the whole cluster.
    Cluster,
    /// One set of names for each namespace.
    Namespaced,
}

/// A subresource such as `status`, `scale` or `log`.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Its name in the path.
    pub name: Text,
    /// The kind it reads and writes; may differ from the resource's (`autoscaling/v1 Scale`).
    pub kind: Gvk,
    /// Verbs in discovery order.
    pub verbs: Vec<Text>,
}

/// One served resource.
#[derive(Clone)]
pub struct Resource {
    /// API group; empty for core.
    pub group: Text,
    /// Version.
    pub version: Text,
    /// Lower-case plural.
    pub plural: Text,
    /// Lower-case singular.
    pub singular: Text,
    /// Kind.
    pub kind: Text,
    /// Short names.
    pub short_names: Vec<Text>,
    /// Categories such as `all`.
    pub categories: Vec<Text>,
    /// Namespaced or not.
    pub scope: Scope,
    /// Verbs in discovery order.
    pub verbs: Vec<Text>,
    /// The warning of every answer of a deprecated resource; empty for others.
    pub deprecated: Text,
    /// Subresources by name.
    pub subresources: Vec<Subresource>,
    /// The storage location under `/registry/`, such as `pods` or `services/specs`. Versions of
    /// one resource share it. Empty for kinds that are
    /// answered and never stored.
    pub storage: Text,
    /// What is known of the form of its objects.
    pub model: Option<Model>,
    /// What the definition of a custom resource says besides; none for built-in ones.
    pub custom: Option<Custom>,
    /// The rules.
    pub strategy: Arc<dyn Strategy>,
}

/// What the definition of a custom resource says about how it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// The kind of its lists.
    pub list_kind: Text,
    /// The version that objects are stored in.
    pub storage_version: Text,
    /// The schema of its objects as the definition has it, in JSON; `null` for none. As a tree it
    /// would be many times as large, and few ask for it.
    pub schema: Arc<str>,
    /// Whether a webhook converts its versions.
    pub converted_by_webhook: bool,
    /// Whether discovery tells of it.
    pub established: bool,
    /// Whether the definition is being deleted: nothing new is taken.
    pub terminating: bool,
    /// Where objects keep the number of their replicas; for the subresource `scale`.
    pub scale: Option<ScalePaths>,
    /// The versions in which objects have a number of replicas.
    pub scaled_versions: Vec<String>,
}

/// Where objects keep what their scale shows: names of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The path of the wanted number as the definition tells it, such as `.spec.replicas`.
    pub spec_replicas: String,
    /// The path of the present number.
    pub status_replicas: String,
    /// The path of the selector; empty for none.
    pub selector: String,
}

impl Resource {
    /// The kind's full name.
    pub fn gvk(&self) -> Gvk {
        Gvk::new(&self.group, &self.version, &self.kind)
    }

    /// The resource's full name.
    pub fn gvr(&self) -> Gvr {
        Gvr::new(&self.group, &self.version, &self.plural)
    }

    /// Whether objects live in a namespace.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// The kind of lists.
    pub fn list_kind(&self) -> Text {
        match &self.custom {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.kind).into(),
        }
    }

    /// Whether the resource serves a verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The subresource with this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

/// One table column.
///
/// upstream: metav1.TableColumnDefinition
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading<'a> {
    /// Heading.
    pub name: &'a str,
    /// OpenAPI type: `string`, `integer`, `date`...
    pub kind: &'a str,
    /// OpenAPI format; `name` for the name column.
    pub format: &'a str,
    /// What the column shows.
    pub description: &'a str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// A column of a built-in resource.
pub type Column = Heading<'static>;

/// The columns of resources that define none: name and age.
pub fn default_columns() -> Vec<Column> {
    vec![
        Column {
            name: "Name",
            kind: "string",
            format: "name",
            description: "Name of the object",
            priority: 0,
        },
        Column {
            name: "Created At",
            kind: "date",
            format: "",
            description: "Time of creation",
            priority: 0,
        },
    ]
}

/// The row that goes with [`default_columns`].
pub fn default_row(object: &Object, _now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.str(&["metadata", "creationTimestamp"]).into()]
}

/// The default name rule: a DNS subdomain; with `prefix` a trailing dash is allowed.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/api/validation/generic.go NameIsDNSSubdomain
pub fn default_name_rule(name: &str, prefix: bool) -> Vec<String> {
    if prefix {
        return names::is_dns1123_subdomain(&mask_trailing_dash(name));
    }
    names::is_dns1123_subdomain(name)
}

/// The same where upstream's kinds declare the rule, which counts in bytes then.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/api/validate/strfmt.go LongName
pub fn declared_name_rule(name: &str, prefix: bool) -> Vec<String> {
    let broken = default_name_rule(name, prefix).into_iter();
    broken.map(|text| text.replace("253 characters", "253 bytes")).collect()
}

const STANDARD_VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Starts the table entry of a resource in namespaces.
pub fn namespaced(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
) -> Resource {
    Resource::entry(Scope::Namespaced, [group, version, plural, kind])
}

/// Starts the table entry of a resource of the whole cluster.
pub fn cluster(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
) -> Resource {
    Resource::entry(Scope::Cluster, [group, version, plural, kind])
}

fn texts(list: &[&'static str]) -> Vec<Text> {
    list.iter().map(|text| Text::Borrowed(*text)).collect()
}

/// The steps of a table entry; what is not said is standard.
impl Resource {
    fn entry(scope: Scope, [group, version, plural, kind]: [&'static str; 4]) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            kind: kind.into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope,
            verbs: texts(&STANDARD_VERBS),
            deprecated: "".into(),
            subresources: Vec::new(),
            storage: plural.into(),
            model: Model::built_in(group, version, kind),
            custom: None,
            strategy: Arc::new(Plain),
        }
    }

    /// Another singular than the kind in lower case.
    pub fn singular(mut self, singular: &'static str) -> Self {
        self.singular = singular.into();
        self
    }

    /// Short names.
    pub fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = texts(names);
        self
    }

    /// Categories.
    pub fn categories(mut self, names: &[&'static str]) -> Self {
        self.categories = texts(names);
        self
    }

    /// What is told with every answer of a deprecated resource.
    pub fn deprecated(mut self, warning: &'static str) -> Self {
        self.deprecated = warning.into();
        self
    }

    /// Other verbs than the standard ones.
    pub fn verbs(mut self, verbs: &[&'static str]) -> Self {
        self.verbs = texts(verbs);
        self
    }

    /// A subresource with the group, version and kind that it reads and writes.
    pub fn sub(
        mut self,
        name: &'static str,
        kind: (&str, &str, &str),
        verbs: &[&'static str],
    ) -> Self {
        let kind = Gvk::new(kind.0, kind.1, kind.2);
        self.subresources.push(Subresource { name: name.into(), kind, verbs: texts(verbs) });
        self
    }

    /// The subresource `status`.
    pub fn status(self) -> Self {
        let gvk = self.gvk();
        let kind = (&*gvk.group, &*gvk.version, &*gvk.kind);
        self.sub("status", kind, &["get", "patch", "update"])
    }

    /// The subresource `scale`.
    pub fn scale(self) -> Self {
        self.sub("scale", ("autoscaling", "v1", "Scale"), &["get", "patch", "update"])
    }

    /// The rules; stored under the plural.
    pub fn by(mut self, strategy: impl Strategy) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// The rules, and another storage location than the plural.
    pub fn stored(mut self, storage: &'static str, strategy: impl Strategy) -> Self {
        self.storage = storage.into();
        self.by(strategy)
    }

    /// A kind that is answered and never stored: reviews, bindings.
    pub fn virtual_kind(mut self) -> Self {
        self.storage = "".into();
        self
    }
}

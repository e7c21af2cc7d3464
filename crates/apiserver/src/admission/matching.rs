//! Which requests a policy is about: rules, selectors, and other names of the same resource.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/matching/matching.go,
//! pkg/admission/plugin/webhook/predicates

use std::sync::Arc;

use longshore_api::selector::LabelSelector;
use longshore_api::{Gvk, Gvr, Object};
use longshore_resources::Resource;
use serde_json::Value;

use super::Attributes;
use super::webhook::rules::{Asked, Rule};
use crate::reader::Reader;
use crate::registry::{Served, ServedTable};

/// One rule, and the names that it is about; none for all.
struct NamedRule {
    rule: Rule,
    names: Vec<String>,
}

impl NamedRule {
    fn new(value: &Value) -> Self {
        let names = value["resourceNames"].as_array().into_iter().flatten();
        let names = names.filter_map(Value::as_str).map(str::to_owned);
        Self { rule: Rule::of(value), names: names.collect() }
    }

    /// Whether it is about a request, which is seen as one for a resource.
    fn matches(&self, a: &Attributes<'_>, resource: &Resource) -> bool {
        let asked = Asked {
            operation: a.operation,
            group: &resource.group,
            version: &resource.version,
            resource: &resource.plural,
            subresource: a.subresource,
            namespace: namespace(a),
        };
        let named = || self.names.is_empty() || self.names.iter().any(|name| name == a.name);
        self.rule.matches(&asked) && named()
    }
}

/// Whether a request is about a namespace itself, whatever its subresource.
fn is_namespace(a: &Attributes<'_>) -> bool {
    a.is_any("", "namespaces")
}

/// The namespace of a request; that of a namespace is itself.
pub fn namespace<'a>(a: &Attributes<'a>) -> &'a str {
    if is_namespace(a) { a.name } else { a.namespace }
}

/// How a policy that is about a request sees it.
#[derive(Clone)]
pub struct Matched {
    /// The resource.
    pub resource: Gvr,
    /// The kind of its objects.
    pub kind: Gvk,
    /// The resource when it is another one than the request's.
    pub other: Option<Arc<Served>>,
}

/// Looks at the request as it came, then, unless it has to match exactly, at the other names of its
/// resource; gives how the first rule that is about it sees it.
fn by_rules(
    rules: &[NamedRule],
    exact: bool,
    a: &Attributes<'_>,
    table: &ServedTable,
) -> Option<Matched> {
    if rules.iter().any(|rule| rule.matches(a, a.resource)) {
        return Some(Matched { kind: a.kind(), resource: a.resource.gvr(), other: None });
    }
    if exact || a.resource.storage.is_empty() {
        return None;
    }
    // Resources with the same objects share their storage.
    let same = |served: &&Arc<Served>| {
        let resource = &served.resource;
        resource.storage == a.resource.storage
            && resource.gvr() != a.resource.gvr()
            && (a.subresource.is_empty() || resource.subresource(a.subresource).is_some())
    };
    let others: Vec<&Arc<Served>> = table.iter().filter(same).collect();
    let about =
        |rule: &NamedRule| others.iter().find(|served| rule.matches(a, &served.resource)).copied();
    let found = rules.iter().find_map(about)?;
    let sub = found.resource.subresource(a.subresource);
    Some(Matched {
        resource: found.resource.gvr(),
        kind: sub.map_or_else(|| found.resource.gvk(), |sub| sub.kind.clone()),
        other: Some(found.clone()),
    })
}

/// What a selector selects, or why it cannot be read.
type Selector = Result<LabelSelector, String>;

fn selector(holder: &Value, key: &str) -> Selector {
    LabelSelector::from_value(&holder[key]).map_err(|why| why.to_string())
}

/// What a policy or binding is about.
pub struct Constraints {
    namespaces: Selector,
    objects: Selector,
    rules: Vec<NamedRule>,
    excluded: Vec<NamedRule>,
    exact: bool,
}

impl Constraints {
    /// The constraints as they stand in a policy or binding.
    pub fn new(value: &Value) -> Self {
        let rules = |key: &str| {
            let rules = value[key].as_array().into_iter().flatten();
            rules.map(NamedRule::new).collect()
        };
        Self {
            namespaces: selector(value, "namespaceSelector"),
            objects: selector(value, "objectSelector"),
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            exact: value["matchPolicy"] == "Exact",
        }
    }

    /// Whether a request is in a selected namespace.
    fn in_namespace(
        &self,
        a: &Attributes<'_>,
        object: Option<&Object>,
        reader: &dyn Reader,
    ) -> Result<bool, String> {
        let name = namespace(a);
        if name.is_empty() && !is_namespace(a) {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Clone::clone)?;
        if selector.is_empty() {
            return Ok(true);
        }
        if a.is("", "namespaces") && (a.creates() || a.updates()) {
            return Ok(selector.matches_map(object.and_then(Object::labels)));
        }
        let Some(namespace) = reader.get("", "namespaces", "", name) else {
            return Err(format!("namespaces \"{name}\" not found"));
        };
        Ok(selector.matches_map(namespace.labels()))
    }

    /// Whether one of the objects is selected.
    fn selects(&self, objects: [Option<&Object>; 2]) -> Result<bool, String> {
        let selector = self.objects.as_ref().map_err(Clone::clone)?;
        let mut present = objects.into_iter().flatten();
        Ok(selector.is_empty() || present.any(|object| selector.matches_map(object.labels())))
    }

    /// How it sees a request that it is about.
    ///
    /// # Errors
    /// When its rules are about the request and the selectors cannot tell.
    pub fn matches(
        &self,
        a: &Attributes<'_>,
        object: Option<&Object>,
        old: Option<&Object>,
        reader: &dyn Reader,
        table: &ServedTable,
    ) -> Result<Option<Matched>, String> {
        let namespace = self.in_namespace(a, object, reader);
        let selected = self.selects([object, old]);
        if namespace == Ok(false) || selected == Ok(false) {
            return Ok(None);
        }
        if by_rules(&self.excluded, self.exact, a, table).is_some() {
            return Ok(None);
        }
        let matched = if self.rules.is_empty() {
            Some(Matched { kind: a.kind(), resource: a.resource.gvr(), other: None })
        } else {
            by_rules(&self.rules, self.exact, a, table)
        };
        if matched.is_some() {
            namespace?;
            selected?;
        }
        Ok(matched)
    }
}

//! One RBAC rule: what it allows and what it covers.
//!
//! upstream: pkg/apis/rbac/v1/evaluation_helpers.go,
//! staging/src/k8s.io/component-helpers/auth/rbac/validation/policy_comparator.go

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::patch::gotext;
use serde_json::{Map, Value};

use super::Attributes;

const ALL: &str = "*";

/// `rbac.authorization.k8s.io/v1 PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// Verbs; `*` is every verb.
    pub verbs: Vec<String>,
    /// API groups; `*` is every group.
    pub api_groups: Vec<String>,
    /// Resources, with subresource where meant; `*` and `*/scale` are patterns.
    pub resources: Vec<String>,
    /// Object names; empty for all.
    pub resource_names: Vec<String>,
    /// Paths; a `*` at the end is a pattern.
    pub non_resource_urls: Vec<String>,
}

impl PolicyRule {
    /// Reads a rule.
    pub fn from_value(value: &Value) -> Self {
        let list = |key: &str| {
            let items = value[key].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            api_groups: list("apiGroups"),
            resources: list("resources"),
            resource_names: list("resourceNames"),
            non_resource_urls: list("nonResourceURLs"),
        }
    }

    /// Reads the rules of a role.
    pub fn list_from(values: &[Value]) -> Vec<Self> {
        values.iter().map(Self::from_value).collect()
    }

    /// The rule as JSON; empty lists are left out.
    pub fn to_value(&self) -> Value {
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ];
        let given = fields.into_iter().filter(|(_, list)| !list.is_empty());
        Value::Object(given.map(|(k, v)| (k.to_owned(), v.clone().into())).collect::<Map<_, _>>())
    }

    /// Everything: every verb on every resource, and on every path.
    pub fn full_authority() -> Vec<Self> {
        let all = || vec![ALL.to_owned()];
        vec![
            Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() },
            Self { verbs: all(), non_resource_urls: all(), ..Self::default() },
        ]
    }

    /// Whether the rule allows a request.
    pub fn allows(&self, a: &Attributes<'_>) -> bool {
        if !has(&self.verbs, a.verb) && !has(&self.verbs, ALL) {
            return false;
        }
        if !a.resource_request {
            return self.non_resource_urls.iter().any(|url| url_covers(url, a.path));
        }
        (has(&self.api_groups, a.group) || has(&self.api_groups, ALL))
            && self.resources.iter().any(|r| resource_matches(r, a.resource, a.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, a.name))
    }

    /// The rule as many rules of one verb, group, resource and name each.
    fn breakdown(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let base = Self {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        out.push(base);
                        continue;
                    }
                    for name in &self.resource_names {
                        out.push(Self { resource_names: one(name), ..base.clone() });
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            for verb in &self.verbs {
                out.push(Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() });
            }
        }
        out
    }

    /// Whether this rule allows all that `sub` (a broken-down rule) allows.
    fn covers(&self, sub: &Self) -> bool {
        let all_of = |set: &[String], wanted: &[String]| wanted.iter().all(|w| has(set, w));
        let star_or_all = |set: &[String], wanted| has(set, ALL) || all_of(set, wanted);
        let resources = has(&self.resources, ALL)
            || sub.resources.iter().all(|path| {
                has(&self.resources, path)
                    || path.split_once('/').is_some_and(|(_, sub)| {
                        self.resources.iter().any(|r| r.strip_prefix("*/") == Some(sub))
                    })
            });
        let names = self.resource_names.is_empty()
            || (!sub.resource_names.is_empty()
                && all_of(&self.resource_names, &sub.resource_names));
        let urls = sub
            .non_resource_urls
            .iter()
            .all(|path| self.non_resource_urls.iter().any(|own| url_covers(own, path)));
        star_or_all(&self.verbs, &sub.verbs)
            && star_or_all(&self.api_groups, &sub.api_groups)
            && resources
            && names
            && urls
    }

    /// The parts of `needed`, one verb and resource each, that no rule of `owned` covers.
    pub fn uncovered(owned: &[Self], needed: &[Self]) -> Vec<Self> {
        let parts = needed.iter().flat_map(Self::breakdown);
        parts.filter(|part| !owned.iter().any(|own| own.covers(part))).collect()
    }

    /// The short form in escalation messages.
    fn compact_text(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", go_list(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// A list of strings as Go's `%q` prints it.
pub(super) fn go_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| gotext::quote(item)).collect();
    format!("[{}]", quoted.join(" "))
}

fn has(set: &[String], item: &str) -> bool {
    set.iter().any(|s| s == item)
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    rule.split_once('/')
        .is_some_and(|(own, sub)| sub == subresource && (own == ALL || own == resource))
}

fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

/// What `wanted` allows and `owned` does not, described for a message and sorted; empty when
/// covered.
pub(super) fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> BTreeSet<String> {
    let uncovered = PolicyRule::uncovered(owned, wanted);
    // upstream: pkg/registry/rbac/validation/policy_compact.go
    let mut simple: BTreeMap<(String, String, Vec<String>), PolicyRule> = BTreeMap::new();
    let mut out = BTreeSet::new();
    for rule in uncovered {
        let (Some(group), Some(resource)) = (rule.api_groups.first(), rule.resources.first())
        else {
            out.insert(rule.compact_text());
            continue;
        };
        let key = (group.clone(), resource.clone(), rule.resource_names.clone());
        match simple.get_mut(&key) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => {
                simple.insert(key, rule);
            }
        }
    }
    out.extend(simple.values().map(PolicyRule::compact_text));
    out
}

//! Which requests the rules of a webhook are about.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules/rules.go

use serde_json::Value;

use crate::admission::Operation;

/// One rule.
pub(in crate::admission) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    scope: String,
}

/// What a request is about, as rules see it.
#[derive(Clone, Copy)]
pub(in crate::admission) struct Asked<'a> {
    pub(in crate::admission) operation: Operation,
    pub(in crate::admission) group: &'a str,
    pub(in crate::admission) version: &'a str,
    pub(in crate::admission) resource: &'a str,
    pub(in crate::admission) subresource: &'a str,
    /// The namespace; of a namespace itself, its name.
    pub(in crate::admission) namespace: &'a str,
}

impl Rule {
    pub(in crate::admission) fn of(rule: &Value) -> Self {
        let texts = |key: &str| -> Vec<String> {
            let list = rule[key].as_array().into_iter().flatten();
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let resources = texts("resources").into_iter().map(|text| match text.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
            None => (text, String::new()),
        });
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: resources.collect(),
            scope: rule["scope"].as_str().unwrap_or("*").to_owned(),
        }
    }

    pub(in crate::admission) fn matches(&self, asked: &Asked<'_>) -> bool {
        self.in_scope(asked)
            && among(&self.operations, asked.operation.name())
            && among(&self.groups, asked.group)
            && among(&self.versions, asked.version)
            && self.resources.iter().any(|(resource, subresource)| {
                (resource == "*" || resource == asked.resource)
                    && (subresource == "*" || subresource == asked.subresource)
            })
    }

    fn in_scope(&self, asked: &Asked<'_>) -> bool {
        let namespace = (asked.group, asked.version, asked.resource) == ("", "v1", "namespaces");
        match self.scope.as_str() {
            "*" => true,
            "Namespaced" => !namespace && !asked.namespace.is_empty(),
            "Cluster" => namespace || asked.namespace.is_empty(),
            _ => false,
        }
    }
}

fn among(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_name_what_they_are_about() {
        let asked = |resource, subresource, namespace| Asked {
            operation: Operation::Create,
            group: if resource == "deployments" { "apps" } else { "" },
            version: "v1",
            resource,
            subresource,
            namespace,
        };
        let rule = |operations: &[&str], groups: &[&str], resources: &[&str], scope: &str| {
            Rule::of(&json!({
                "operations": operations, "apiGroups": groups, "apiVersions": ["v1"],
                "resources": resources, "scope": scope,
            }))
        };
        let (pod, exec) = (asked("pods", "", "a"), asked("pods", "exec", "a"));
        let (node, namespace) = (asked("nodes", "", ""), asked("namespaces", "", "a"));
        let deployment = asked("deployments", "", "a");
        for (rule, matching) in [
            (rule(&["*"], &["*"], &["*"], "*"), [true, false, true, true, true]),
            (rule(&["*"], &["*"], &["*/*"], "*"), [true, true, true, true, true]),
            (rule(&["CREATE"], &[""], &["pods/*"], "*"), [true, true, false, false, false]),
            (rule(&["CREATE"], &[""], &["*/exec"], "*"), [false, true, false, false, false]),
            (rule(&["UPDATE"], &["*"], &["*"], "*"), [false; 5]),
            (rule(&["*"], &["*"], &["*"], "Cluster"), [false, false, true, true, false]),
            (rule(&["*"], &["*"], &["*"], "Namespaced"), [true, false, false, false, true]),
            (rule(&["*"], &["apps"], &["*"], "Namespaced"), [false, false, false, false, true]),
        ] {
            let got = [pod, exec, node, namespace, deployment].map(|one| rule.matches(&one));
            assert_eq!(got, matching);
        }
    }
}

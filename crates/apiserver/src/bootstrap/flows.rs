//! The default priority levels and flow schemas.

use longshore_api::{Gvr, Object};
use serde_json::{Value, json};

use super::{lines, rbac};

const TABLE: &str = include_str!("flows.txt");
const GROUP: &str = "flowcontrol.apiserver.k8s.io";

pub(super) fn objects() -> Vec<(Gvr, Object)> {
    let mut out: Vec<(Gvr, Object)> = Vec::new();
    for line in lines(TABLE) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["level", name, kind, shares, lendable, rest @ ..] = words.as_slice() {
            out.push(named("prioritylevelconfigurations", "PriorityLevelConfiguration", name));
            last(&mut out).set(&["spec"], level(kind, shares, lendable, rest));
        } else if let ["flow", name, precedence, level, method] = words.as_slice() {
            out.push(named("flowschemas", "FlowSchema", name));
            let flow = last(&mut out);
            flow.set(&["spec", "matchingPrecedence"], number(precedence));
            flow.set(&["spec", "priorityLevelConfiguration", "name"], *level);
            if *method != "-" {
                flow.set(&["spec", "distinguisherMethod", "type"], *method);
            }
            flow.set(&["spec", "rules"], Vec::<Value>::new());
        } else if let ["for", subjects @ ..] = words.as_slice() {
            let subjects: Vec<Value> = subjects.iter().map(|s| subject(s)).collect();
            rules(&mut out).push(json!({ "subjects": subjects }));
        } else {
            let rule = rules(&mut out).last_mut().expect("a rule has subjects first");
            add_rule(rule, line.trim());
        }
    }
    out
}

fn named(plural: &str, kind: &str, name: &str) -> (Gvr, Object) {
    let annotations = json!({"apf.kubernetes.io/autoupdate-spec": "true"});
    super::object(GROUP, "v1", plural, kind, json!({"annotations": annotations, "name": name}))
}

fn last(out: &mut [(Gvr, Object)]) -> &mut Object {
    &mut out.last_mut().expect("just pushed").1
}

fn rules(out: &mut [(Gvr, Object)]) -> &mut Vec<Value> {
    let rules = last(out).get_mut(&["spec", "rules"]).and_then(Value::as_array_mut);
    rules.expect("a flow starts with its rules")
}

fn number(text: &str) -> i64 {
    text.parse().expect("the table holds numbers here")
}

fn level(kind: &str, shares: &str, lendable: &str, rest: &[&str]) -> Value {
    let mut body =
        json!({"nominalConcurrencyShares": number(shares), "lendablePercent": number(lendable)});
    if kind == "exempt" {
        return json!({"type": "Exempt", "exempt": body});
    }
    body["limitResponse"] = match rest {
        ["queue", queues, hand, length] => json!({"type": "Queue", "queuing": {
            "queues": number(queues), "handSize": number(hand), "queueLengthLimit": number(length),
        }}),
        _ => json!({"type": "Reject"}),
    };
    json!({"type": "Limited", "limited": body})
}

fn subject(text: &str) -> Value {
    match text.split_once(':').expect("a subject has a kind") {
        ("account", account) => {
            let (namespace, name) = account.split_once('/').expect("an account has a namespace");
            let account = json!({"namespace": namespace, "name": name});
            json!({"kind": "ServiceAccount", "serviceAccount": account})
        }
        ("group", name) => json!({"kind": "Group", "group": {"name": name}}),
        (_, name) => json!({"kind": "User", "user": {"name": name}}),
    }
}

/// `verbs @ paths`, or `verbs | groups | resources | scope` with a scope of `cluster` and `ns:x`.
fn add_rule(rule: &mut Value, line: &str) {
    let parsed = rbac::rule_of(line);
    let (list, value) = if parsed.resources.is_empty() {
        ("nonResourceRules", parsed.to_value())
    } else {
        let mut value = json!({
            "verbs": parsed.verbs, "apiGroups": parsed.api_groups, "resources": parsed.resources,
        });
        if parsed.resource_names.iter().any(|scope| scope == "cluster") {
            value["clusterScope"] = true.into();
        }
        let namespaces: Vec<&str> =
            parsed.resource_names.iter().filter_map(|scope| scope.strip_prefix("ns:")).collect();
        if !namespaces.is_empty() {
            value["namespaces"] = namespaces.into();
        }
        ("resourceRules", value)
    };
    match rule[list].as_array_mut() {
        Some(items) => items.push(value),
        None => rule[list] = json!([value]),
    }
}

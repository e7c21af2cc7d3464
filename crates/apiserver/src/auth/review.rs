//! The access review resources: questions about what is allowed, answered at once.
//!
//! upstream: pkg/registry/authorization, pkg/apis/authorization/validation/validation.go

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::selector::{FieldSelector, LabelSelector};
use longshore_api::{Object, StatusError, names};
use serde_json::{Map, Value, json};

use super::rule::PolicyRule;
use super::{Attributes, Authorization, Decision, UserInfo};

const GROUP: &str = "authorization.k8s.io";

impl Authorization {
    /// Fills the status of a SubjectAccessReview.
    pub fn review_subject(&self, review: &mut Object) -> Result<(), StatusError> {
        let mut errors = validate_spec(review, true);
        errors.extend(validate_metadata(review, false));
        self.review(review, &errors, None)
    }

    /// Fills the status of a LocalSubjectAccessReview; `namespace` is the path's.
    pub fn review_local(&self, review: &mut Object, namespace: &str) -> Result<(), StatusError> {
        let mut errors = validate_spec(review, true);
        errors.extend(validate_metadata(review, true));
        let spec = Path::new("spec");
        let own = review.namespace().to_owned();
        if review.get(&["spec", "resourceAttributes"]).is_some_and(Value::is_object) {
            let asked = review.str(&["spec", "resourceAttributes", "namespace"]);
            if asked != own {
                let path = spec.child("resourceAttributes.namespace");
                errors.push(Error::invalid(&path, asked, "must match metadata.namespace"));
            }
        }
        if let Some(given) = attributes(review, "nonResourceAttributes") {
            let path = spec.child("nonResourceAttributes");
            let text = "disallowed on this kind of request";
            errors.push(Error::invalid_text(&path, &go_non_resource(given), text));
        }
        if errors.is_empty() && namespace != own {
            return Err(StatusError::bad_request(format!(
                "spec.resourceAttributes.namespace must match namespace: {namespace}"
            )));
        }
        self.review(review, &errors, None)
    }

    /// Fills the status of a SelfSubjectAccessReview.
    pub fn review_own(&self, review: &mut Object, user: &UserInfo) -> Result<(), StatusError> {
        let mut errors = validate_spec(review, false);
        errors.extend(validate_metadata(review, false));
        self.review(review, &errors, Some(user))
    }

    /// Fills the status of a SelfSubjectRulesReview.
    pub fn review_rules(&self, review: &mut Object, user: &UserInfo) -> Result<(), StatusError> {
        let namespace = review.str(&["spec", "namespace"]).to_owned();
        if namespace.is_empty() {
            return Err(StatusError::bad_request("no namespace on request"));
        }
        let found = self.rules_for(user, &namespace);
        let list =
            |rules: &[PolicyRule]| -> Value { rules.iter().map(PolicyRule::to_value).collect() };
        let mut status = json!({
            "incomplete": found.incomplete,
            "resourceRules": list(&found.resource_rules),
            "nonResourceRules": list(&found.non_resource_rules),
        });
        if !found.error.is_empty() {
            status["evaluationError"] = found.error.into();
        }
        let mut answer = Map::new();
        for key in ["kind", "apiVersion"] {
            if let Some(value) = review.root_mut().remove(key) {
                answer.insert(key.to_owned(), value);
            }
        }
        // Upstream answers with a new object: what was sent is not repeated.
        answer.insert("metadata".into(), Value::Object(Map::new()));
        answer.insert("spec".into(), Value::Object(Map::new()));
        answer.insert("status".into(), status);
        *review.root_mut() = answer;
        Ok(())
    }

    fn review(
        &self,
        review: &mut Object,
        errors: &ErrorList,
        own: Option<&UserInfo>,
    ) -> Result<(), StatusError> {
        if !errors.is_empty() {
            // Upstream's error names no kind: the decoded object has none.
            return Err(StatusError::invalid(GROUP, "", "", errors));
        }
        let asked;
        let user = match own {
            Some(user) => user,
            None => {
                asked = spec_user(review);
                &asked
            }
        };
        let mut problems = Vec::new();
        let decision = match attributes(review, "resourceAttributes") {
            Some(a) => {
                let text = |key: &str| a[key].as_str().unwrap_or("");
                let (fields, problem) = field_selector(&a["fieldSelector"]);
                problems.extend(problem.map(|p| format!("fieldSelector {p}")));
                let problem = label_selector_problem(&a["labelSelector"]);
                problems.extend(problem.map(|p| format!("labelSelector {p}")));
                let version = if text("version").is_empty() { "*" } else { text("version") };
                self.authorize(&Attributes {
                    version,
                    subresource: text("subresource"),
                    field_selector: &fields,
                    ..Attributes::for_resource(
                        user,
                        text("verb"),
                        text("group"),
                        text("resource"),
                        text("namespace"),
                        text("name"),
                    )
                })
            }
            None => {
                let text = |key| review.str(&["spec", "nonResourceAttributes", key]);
                self.authorize(&Attributes::for_path(user, text("verb"), text("path")))
            }
        };
        let mut status = json!({ "allowed": decision.is_allowed() });
        if matches!(decision, Decision::Deny(_)) {
            status["denied"] = true.into();
        }
        if !decision.reason().is_empty() {
            status["reason"] = decision.reason().into();
        }
        if !problems.is_empty() {
            let texts: Vec<String> =
                problems.iter().map(|p| format!("spec.resourceAttributes.{p}")).collect();
            status["evaluationError"] = texts.join("; ").into();
        }
        review.root_mut().insert("status".into(), status);
        Ok(())
    }
}

fn attributes<'a>(review: &'a Object, key: &str) -> Option<&'a Value> {
    review.get(&["spec", key]).filter(|value| value.is_object())
}

fn spec_user(review: &Object) -> UserInfo {
    let strings = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let extra = review.get(&["spec", "extra"]).and_then(Value::as_object);
    UserInfo {
        name: review.str(&["spec", "user"]).to_owned(),
        uid: review.str(&["spec", "uid"]).to_owned(),
        groups: review.get(&["spec", "groups"]).map(strings).unwrap_or_default(),
        extra: extra.into_iter().flatten().map(|(k, v)| (k.clone(), strings(v))).collect(),
    }
}

const IGNORED: &str = "ignored due to parse error";
const PARTLY_IGNORED: &str = "partially ignored due to parse error";

fn problem(failed: bool, usable: bool) -> Option<&'static str> {
    failed.then_some(if usable { PARTLY_IGNORED } else { IGNORED })
}

/// The selector as text, and what is to be told about parts that could not be used.
fn field_selector(selector: &Value) -> (String, Option<&'static str>) {
    let raw = selector["rawSelector"].as_str().unwrap_or("");
    if !raw.is_empty() {
        let good = FieldSelector::parse(raw).is_ok();
        let text = if good { raw.to_owned() } else { String::new() };
        return (text, problem(!good, false));
    }
    let (mut parts, mut failed) = (Vec::new(), false);
    for requirement in selector["requirements"].as_array().into_iter().flatten() {
        let sign = match requirement["operator"].as_str() {
            Some("In") => "=",
            Some("NotIn") => "!=",
            _ => {
                failed = true;
                continue;
            }
        };
        match requirement["values"].as_array().map(Vec::as_slice) {
            Some([value]) => {
                let value = value.as_str().unwrap_or("");
                let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
                parts.push(format!("{}{sign}{escaped}", requirement["key"].as_str().unwrap_or("")));
            }
            _ => failed = true,
        }
    }
    let usable = !parts.is_empty();
    (parts.join(","), problem(failed, usable))
}

fn label_selector_problem(selector: &Value) -> Option<&'static str> {
    let raw = selector["rawSelector"].as_str().unwrap_or("");
    if !raw.is_empty() {
        return problem(LabelSelector::parse(raw).is_err(), false);
    }
    let requirements = selector["requirements"].as_array().map_or(&[][..], Vec::as_slice);
    let good = |r: &&Value| {
        matches!(r["operator"].as_str(), Some("In" | "NotIn" | "Exists" | "DoesNotExist"))
            && LabelSelector::from_value(&json!({ "matchExpressions": [r] })).is_ok()
    };
    let usable = requirements.iter().filter(good).count();
    problem(usable < requirements.len(), usable > 0)
}

/// As Go prints the internal struct, whose fields have no JSON names.
fn go_non_resource(value: &Value) -> String {
    let text = |key: &str| value[key].as_str().unwrap_or("").to_owned();
    format!("{{\"Path\":{},\"Verb\":{}}}", Value::from(text("path")), Value::from(text("verb")))
}

fn validate_spec(review: &Object, with_subject: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let resource = attributes(review, "resourceAttributes");
    match (resource, attributes(review, "nonResourceAttributes")) {
        (Some(_), Some(other)) => errors.push(Error::invalid_text(
            &spec.child("nonResourceAttributes"),
            &go_non_resource(other),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(Error::invalid_text(
            &spec.child("resourceAttributes"),
            "null",
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    if with_subject
        && review.str(&["spec", "user"]).is_empty()
        && review.list(&["spec", "groups"]).is_empty()
    {
        let text = "at least one of user or group must be specified";
        errors.push(Error::invalid(&spec.child("user"), "", text));
    }
    if let Some(resource) = resource {
        let path = spec.child("resourceAttributes");
        validate_selector(
            &resource["fieldSelector"],
            &path.child("fieldSelector"),
            false,
            &mut errors,
        );
        validate_selector(
            &resource["labelSelector"],
            &path.child("labelSelector"),
            true,
            &mut errors,
        );
    }
    errors
}

fn validate_selector(selector: &Value, path: &Path, labels: bool, errors: &mut ErrorList) {
    if !selector.is_object() {
        return;
    }
    let raw = selector["rawSelector"].as_str().unwrap_or("");
    let requirements = selector["requirements"].as_array().map_or(&[][..], Vec::as_slice);
    if !raw.is_empty() && !requirements.is_empty() {
        let text = "may not specified at the same time as requirements";
        errors.push(Error::invalid(&path.child("rawSelector"), raw, text));
    }
    if raw.is_empty() && requirements.is_empty() {
        let text = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(Error::required(&path.child("requirements"), &text));
    }
    for (i, requirement) in requirements.iter().enumerate() {
        let path = path.child("requirements").index(i);
        validate_requirement(requirement, &path, labels, errors);
    }
}

// upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go
fn validate_requirement(requirement: &Value, path: &Path, labels: bool, errors: &mut ErrorList) {
    let key = requirement["key"].as_str().unwrap_or("");
    let values = requirement["values"].as_array().map_or(&[][..], Vec::as_slice);
    if !labels && key.is_empty() {
        errors.push(Error::required(&path.child("key"), "must be specified"));
    }
    match requirement["operator"].as_str() {
        Some("In" | "NotIn") if values.is_empty() => {
            let text = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&path.child("values"), text));
        }
        Some("Exists" | "DoesNotExist") if !values.is_empty() => {
            let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&path.child("values"), text));
        }
        _ => {}
    }
    if !labels {
        return;
    }
    for text in names::is_qualified_name(key) {
        errors.push(Error::invalid(&path.child("key"), key, &text));
    }
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        for text in names::is_valid_label_value(value) {
            errors.push(Error::invalid(&path.child("values").index(i), value, &text));
        }
    }
}

/// Reviews have no metadata of their own, except what the server itself put there.
fn validate_metadata(review: &Object, namespaced: bool) -> Option<Error> {
    let metadata = review.get(&["metadata"])?.as_object()?;
    let own = |key: &str| key == "managedFields" || (namespaced && key == "namespace");
    if metadata.iter().all(|(key, value)| own(key) || value.is_null()) {
        return None;
    }
    let text = if namespaced { "must be empty except for namespace" } else { "must be empty" };
    let error = Error::invalid(&Path::new("metadata"), Value::Object(metadata.clone()), text);
    Some(error.as_struct("meta/v1.ObjectMeta"))
}

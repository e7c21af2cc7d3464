//! Checks the expressions of a policy against the kinds that it is about, as a hint for who writes it.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/validating/typechecking.go

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::schema::{self, Scalar, Shape as Form, Type};
use longshore_api::structural::Node;
use longshore_api::{Gvk, Object, gvk};
use longshore_cel::{Declared, Shape};
use serde_json::{Value, json};

use super::admission::{Compiler, Sees};
use super::declared;
use crate::Resource;
use crate::core::pods::tree::{list, part, text, texts};

/// Most kinds that a policy is checked against.
const KINDS_MAX: usize = 10;

/// What a version of a group that is not built in serves, as the server tells everybody.
pub struct Served {
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// Its list of resources.
    pub resources: Value,
    /// Its `OpenAPI` description.
    pub document: Value,
}

impl Served {
    fn kind(&self, resource: &str) -> Option<&str> {
        let found = list(&self.resources, "resources").iter();
        found.filter(|one| text(one, "name") == resource).map(|one| text(one, "kind")).next()
    }

    fn form(&self, kind: &Gvk) -> Option<Declared> {
        let schemas = part(part(&self.document, "components")?, "schemas")?.as_object()?;
        let of_kind = |schema: &&Value| {
            list(schema, "x-kubernetes-group-version-kind")
                .iter()
                .any(|one| text(one, "kind") == kind.kind && text(one, "version") == kind.version)
        };
        let mut schema = schemas.values().find(of_kind)?.clone();
        if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            // It refers to a type that is built in.
            fields.remove("metadata");
        }
        custom(&Node::compile(&schema).ok()?)
    }
}

/// The kinds that there are.
struct Kinds<'a> {
    built_in: Vec<Resource>,
    served: &'a [Served],
}

impl Kinds<'_> {
    fn served(&self, group: &str, version: &str) -> Option<&Served> {
        self.served.iter().find(|one| one.group == group && one.version == version)
    }

    fn kind(&self, group: &str, version: &str, resource: &str) -> Option<Gvk> {
        let found = |one: &&Resource| {
            one.group == group && one.version == version && one.plural == resource
        };
        let kind = match self.built_in.iter().find(found) {
            Some(built_in) => &built_in.kind,
            None => self.served(group, version)?.kind(resource)?,
        };
        Some(Gvk::new(group, version, kind))
    }

    fn form(&self, kind: &Gvk) -> Option<Declared> {
        built_in(kind).or_else(|| self.served(&kind.group, &kind.version)?.form(kind))
    }
}

/// The versions of groups that a policy is about and that are not built in.
pub fn foreign(policy: &Object) -> BTreeSet<(String, String)> {
    let built_in = crate::all();
    let rules = policy.list(&["spec", "matchConstraints", "resourceRules"]);
    let mut wanted = BTreeSet::new();
    for rule in rules {
        for group in texts(rule, "apiGroups") {
            let versions = texts(rule, "apiVersions").into_iter();
            wanted.extend(versions.map(|version| (group.to_owned(), version.to_owned())));
        }
    }
    let params = gvk::split_api_version(policy.str(&["spec", "paramKind", "apiVersion"]));
    wanted.extend(params.map(|(group, version)| (group.to_owned(), version.to_owned())));
    wanted.retain(|(group, version)| {
        let known = built_in.iter().any(|one| one.group == *group && one.version == *version);
        !known && ![group, version].iter().any(|text| text.is_empty() || text.contains(['*', '/']))
    });
    wanted
}

/// What objects of a kind that is built in look like.
fn built_in(kind: &Gvk) -> Option<Declared> {
    let ty = schema::kind(&kind.group, &kind.version, &kind.kind)?;
    Some(of_struct(ty, &kind.kind, &mut Vec::new()))
}

/// What objects of a version of a definition look like.
fn custom(node: &Node) -> Option<Declared> {
    let mut declared = declared::of(node, true).map(Arc::unwrap_or_clone)?;
    let Shape::Object(object) = &declared.shape else { return Some(declared) };
    let mut object = (**object).clone();
    let metadata =
        of_struct(schema::type_named("meta/v1.ObjectMeta")?, "metadata", &mut Vec::new());
    object.fields.insert("metadata".to_owned(), Arc::new(metadata));
    declared.shape = Shape::Object(Arc::new(object));
    Some(declared)
}

/// A struct; what is inside itself is an object without known fields.
fn of_struct(ty: &'static Type, name: &str, around: &mut Vec<&'static str>) -> Declared {
    if around.contains(&ty.name) {
        return Declared::object(name, []);
    }
    around.push(ty.name);
    let mut fields = BTreeMap::new();
    fields_of(ty, name, around, &mut fields);
    around.pop();
    Declared::object(name, fields)
}

fn fields_of(
    ty: &'static Type,
    name: &str,
    around: &mut Vec<&'static str>,
    fields: &mut BTreeMap<String, Declared>,
) {
    for field in &ty.fields {
        if field.inline {
            if let Some(inner) = field.shape.as_struct() {
                fields_of(inner, name, around, fields);
            }
        } else if let Some(declared) =
            of_shape(field.shape, &format!("{name}.{}", field.json_name), around)
        {
            fields.insert(field.json_name.to_owned(), declared);
        }
    }
}

/// A value; none when expressions cannot see it.
fn of_shape(shape: Form, name: &str, around: &mut Vec<&'static str>) -> Option<Declared> {
    Some(match shape {
        Form::Scalar(scalar) => Declared::new(match scalar {
            Scalar::String | Scalar::Duration => Shape::String,
            Scalar::Bool => Shape::Bool,
            Scalar::Int32 | Scalar::Int64 => Shape::Int,
            Scalar::Float64 => Shape::Double,
            Scalar::Bytes => Shape::Bytes,
            Scalar::Time | Scalar::MicroTime => Shape::Timestamp,
            Scalar::IntOrString => Shape::IntOrString,
            Scalar::RawExtension | Scalar::FieldsV1 => return Some(Declared::object(name, [])),
            // The published description gives them several types, or none.
            Scalar::Quantity | Scalar::Json => return None,
        }),
        Form::Struct(_) => of_struct(shape.as_struct()?, name, around),
        Form::List(_) => Declared::list(of_shape(shape.item()?, &format!("{name}.@idx"), around)?),
        Form::Map(_) => Declared::map(of_shape(shape.item()?, &format!("{name}.@elem"), around)?),
    })
}

/// The kinds that a policy is about, sorted; wildcards say nothing.
fn kinds_of(spec: &Value, kinds: &Kinds<'_>) -> BTreeSet<Gvk> {
    let mut found = BTreeSet::new();
    let none = Value::Null;
    let constraints = part(spec, "matchConstraints").unwrap_or(&none);
    for rule in list(constraints, "resourceRules") {
        let sorted = |key: &str| {
            let mut texts = texts(rule, key);
            texts.sort_unstable();
            texts
        };
        let (groups, versions) = (sorted("apiGroups"), sorted("apiVersions"));
        if groups.iter().chain(&versions).any(|text| text.contains('*')) {
            continue;
        }
        let mut resources = sorted("resources");
        resources.retain(|resource| !resource.contains(['*', '/']));
        let mut count = 0;
        for group in &groups {
            for version in &versions {
                for resource in &resources {
                    let Some(kind) = kinds.kind(group, version, resource) else { continue };
                    found.insert(kind);
                    count += 1;
                    if count == KINDS_MAX {
                        return found;
                    }
                }
            }
        }
    }
    found
}

/// What is odd about the expressions of a policy, as its status tells it.
pub fn check(policy: &Object, served: &[Served]) -> Vec<Value> {
    let kinds = Kinds { built_in: crate::all(), served };
    let none = Value::Null;
    let spec = policy.get(&["spec"]).unwrap_or(&none);
    let params = part(spec, "paramKind").and_then(|kind| {
        let (group, version) = gvk::split_api_version(text(kind, "apiVersion"))?;
        Some(Gvk::new(group, version, text(kind, "kind")))
    });
    let form_of_params = params.as_ref().and_then(|kind| kinds.form(kind)).map(Arc::new);
    let sees = Sees { params: params.is_some(), authorizer: true, patches: false };
    let mut compilers = Vec::new();
    for kind in kinds_of(spec, &kinds) {
        let Some(form) = kinds.form(&kind) else { continue };
        let compiler = Compiler::typed(sees, Arc::new(form), form_of_params.clone());
        for variable in list(spec, "variables") {
            // What is wrong with a variable is not told.
            drop(compiler.variable(text(variable, "name"), text(variable, "expression")));
        }
        compilers.push((kind, compiler));
    }
    let mut warnings = Vec::new();
    for (index, check) in list(spec, "validations").iter().enumerate() {
        for key in ["expression", "messageExpression"] {
            let source = text(check, key);
            if source.is_empty() && key == "messageExpression" {
                continue;
            }
            let told = compilers.iter().filter_map(|(kind, compiler)| {
                let issues = compiler.issues(source)?;
                let Gvk { group, version, kind } = kind;
                Some(format!("{group}/{version}, Kind={kind}: {issues}\n"))
            });
            let told: Vec<String> = told.collect();
            if !told.is_empty() {
                warnings.push(json!({
                    "fieldRef": format!("spec.validations[{index}].{key}"),
                    "warning": told.join("\n"),
                }));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_checked_against_each_kind() {
        let check = |expression: &str, resources: &[&str], group: &str| {
            let policy = json!({"spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [group], "apiVersions": ["v1"], "resources": resources,
                }]},
                "variables": [{"name": "n", "expression": "object.spec.replicas"}],
                "validations": [{"expression": expression}],
            }});
            let warnings = check(&Object::from_value(policy).expect("an object"), &[]);
            let told = warnings.iter().map(|w| text(w, "warning").to_owned());
            told.collect::<Vec<_>>().join("|")
        };
        let deployments = &["deployments"][..];
        assert_eq!(check("object.spec.replicas <= 5", deployments, "apps"), "");
        assert_eq!(check("variables.n <= 5", deployments, "apps"), "");
        assert_eq!(check("object.spec.nope", &["nothing"], "apps"), "");
        let template =
            "object.spec.template.spec.containers.all(c, c.name != '' && !has(c.livenessProbe))";
        assert_eq!(check(template, deployments, "apps"), "");
        assert_eq!(
            check("object.spec.replicas > '5'", deployments, "apps"),
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n | object.spec.replicas > '5'\n | .....................^\n"
        );
        assert_eq!(
            check("object.spec.replicas > 1", &["configmaps"], ""),
            "/v1, Kind=ConfigMap: ERROR: <input>:1:7: undefined field 'spec'\n | object.spec.replicas > 1\n | ......^\n"
        );
    }
}

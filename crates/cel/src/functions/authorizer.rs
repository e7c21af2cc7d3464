//! Asking whether somebody may do something.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/library/authz.go

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use longshore_api::names;

use super::{Context, Entry, Library, no_overload};
use crate::types::Type;
use crate::value::{EvalError, Opaque, Outcome, Value};

/// The library.
pub const AUTHORIZER: Library = Library {
    name: "authorizer",
    declarations: "
        path .authorizer_path(#kubernetes.authorization.Authorizer, string) #kubernetes.authorization.PathCheck
        group .authorizer_group(#kubernetes.authorization.Authorizer, string) #kubernetes.authorization.GroupCheck
        serviceAccount .authorizer_serviceaccount(#kubernetes.authorization.Authorizer, string, string) #kubernetes.authorization.Authorizer
        resource .groupcheck_resource(#kubernetes.authorization.GroupCheck, string) #kubernetes.authorization.ResourceCheck
        subresource .resourcecheck_subresource(#kubernetes.authorization.ResourceCheck, string) #kubernetes.authorization.ResourceCheck
        namespace .resourcecheck_namespace(#kubernetes.authorization.ResourceCheck, string) #kubernetes.authorization.ResourceCheck
        name .resourcecheck_name(#kubernetes.authorization.ResourceCheck, string) #kubernetes.authorization.ResourceCheck
        check .pathcheck_check(#kubernetes.authorization.PathCheck, string) #kubernetes.authorization.Decision
        check .resourcecheck_check(#kubernetes.authorization.ResourceCheck, string) #kubernetes.authorization.Decision
        errored .decision_errored(#kubernetes.authorization.Decision) bool
        error .decision_error(#kubernetes.authorization.Decision) string
        allowed .decision_allowed(#kubernetes.authorization.Decision) bool
        reason .decision_reason(#kubernetes.authorization.Decision) string
        fieldSelector .authorizer_fieldselector(#kubernetes.authorization.ResourceCheck, string) #kubernetes.authorization.ResourceCheck
        labelSelector .authorizer_labelselector(#kubernetes.authorization.ResourceCheck, string) #kubernetes.authorization.ResourceCheck
    ",
    functions: FUNCTIONS,
};

const FUNCTIONS: &[Entry] = &[
    ("path", |_, args| {
        step(args, |asked, text| match asked.stage {
            Stage::Authorizer if text.trim().is_empty() => {
                Err(EvalError::new("path must not be empty"))
            }
            Stage::Authorizer => {
                asked.check.path = text.to_owned();
                asked.stage = Stage::Path;
                Ok(())
            }
            _ => Err(EvalError::no_such_overload()),
        })
    }),
    ("group", |_, args| {
        step(args, |asked, text| match asked.stage {
            Stage::Authorizer => {
                asked.check.group = text.to_owned();
                asked.stage = Stage::Group;
                Ok(())
            }
            _ => Err(EvalError::no_such_overload()),
        })
    }),
    ("serviceAccount", service_account),
    ("resource", |_, args| {
        step(args, |asked, text| match asked.stage {
            Stage::Group if text.trim().is_empty() => {
                Err(EvalError::new("resource must not be empty"))
            }
            Stage::Group => {
                asked.check.resource = text.to_owned();
                asked.stage = Stage::Resource;
                Ok(())
            }
            _ => Err(EvalError::no_such_overload()),
        })
    }),
    ("subresource", |_, args| detail(args, |check, text| check.subresource = text)),
    ("namespace", |_, args| detail(args, |check, text| check.namespace = text)),
    ("name", |_, args| detail(args, |check, text| check.name = text)),
    ("fieldSelector", |_, args| detail(args, |check, text| check.field_selector = text)),
    ("labelSelector", |_, args| detail(args, |check, text| check.label_selector = text)),
    ("check", check),
    ("errored", |_, args| decision(args, |decision| Value::Bool(decision.error.is_some()))),
    ("error", |_, args| {
        decision(args, |decision| Value::text(decision.error.clone().unwrap_or_default()))
    }),
    ("allowed", |_, args| decision(args, |decision| Value::Bool(decision.allowed))),
    ("reason", |_, args| decision(args, |decision| Value::text(decision.reason.clone()))),
];

/// Whoever knows what is allowed.
pub trait Authorizer: Debug + Send + Sync {
    /// Whether something is allowed.
    fn authorize(&self, check: &Check) -> Decision;
}

/// What is asked: a path, or something of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Namespace and name of a service account; nothing is whoever sent the request.
    pub service_account: Option<(String, String)>,
    /// The path; empty for resources.
    pub path: String,
    /// The group.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The field selector, as it was given.
    pub field_selector: String,
    /// The label selector, as it was given.
    pub label_selector: String,
    /// The verb.
    pub verb: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong when it was decided.
    pub error: Option<String>,
}

/// The value of the variable `authorizer`.
pub fn authorizer_value<'a>(authorizer: Arc<dyn Authorizer>) -> Value<'a> {
    Value::opaque(Asked { authorizer, stage: Stage::Authorizer, check: Check::default() })
}

/// The value of the variable `authorizer.requestResource`: what the request is about.
pub fn request_resource_value<'a>(authorizer: Arc<dyn Authorizer>, check: Check) -> Value<'a> {
    Value::opaque(Asked { authorizer, stage: Stage::Resource, check })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

/// A question that is being put together.
#[derive(Clone, Debug)]
struct Asked {
    authorizer: Arc<dyn Authorizer>,
    stage: Stage,
    check: Check,
}

impl Opaque for Asked {
    fn type_of(&self) -> Type {
        Type::object(match self.stage {
            Stage::Authorizer => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        })
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        let other = other.as_any().downcast_ref::<Self>();
        other.is_some_and(|other| other.stage == self.stage && other.check == self.check)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Opaque for Decision {
    fn type_of(&self) -> Type {
        Type::object("kubernetes.authorization.Decision")
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| other == self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn step<'a>(
    args: &[Value<'a>],
    change: impl Fn(&mut Asked, &str) -> Result<(), EvalError>,
) -> Outcome<'a> {
    let [asked, Value::String(text)] = args else { return no_overload() };
    let Some(asked) = asked.downcast::<Asked>() else { return no_overload() };
    let mut asked = asked.clone();
    change(&mut asked, text.as_str())?;
    Ok(Value::opaque(asked))
}

fn detail<'a>(args: &[Value<'a>], set: impl Fn(&mut Check, String)) -> Outcome<'a> {
    step(args, |asked, text| {
        if asked.stage != Stage::Resource {
            return Err(EvalError::no_such_overload());
        }
        set(&mut asked.check, text.to_owned());
        Ok(())
    })
}

fn service_account<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [asked, Value::String(namespace), Value::String(name)] = args else { return no_overload() };
    let Some(asked) = asked.downcast::<Asked>().filter(|asked| asked.stage == Stage::Authorizer)
    else {
        return no_overload();
    };
    if !names::is_dns1123_subdomain(name.as_str()).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !names::is_dns1123_label(namespace.as_str()).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let mut asked = asked.clone();
    asked.check.service_account = Some((namespace.as_str().to_owned(), name.as_str().to_owned()));
    Ok(Value::opaque(asked))
}

fn check<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [asked, Value::String(verb)] = args else { return no_overload() };
    let Some(asked) = asked.downcast::<Asked>() else { return no_overload() };
    if !matches!(asked.stage, Stage::Path | Stage::Resource) {
        return no_overload();
    }
    let check = Check { verb: verb.as_str().to_owned(), ..asked.check.clone() };
    Ok(Value::opaque(asked.authorizer.authorize(&check)))
}

fn decision<'a>(args: &[Value<'a>], tell: impl Fn(&Decision) -> Value<'a>) -> Outcome<'a> {
    match args {
        [value] => match value.downcast::<Decision>() {
            Some(decision) => Ok(tell(decision)),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

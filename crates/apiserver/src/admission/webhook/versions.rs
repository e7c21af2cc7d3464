//! The objects of a request in the versions that webhooks ask for.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/conversion.go

use std::sync::Arc;

use longshore_api::{Gvk, Model, Object, StatusError};
use serde_json::Value;

use super::Shared;
use super::matching::Invocation;
use crate::admission::Attributes;
use crate::registry::{Served, convert};

/// The new and the old object in one version.
type Pair = (Option<Object>, Option<Object>);

/// The new object of a request.
pub(super) enum New<'a> {
    /// To be looked at.
    Read(&'a Object),
    /// To be changed.
    Write(&'a mut Object),
}

impl New<'_> {
    fn get(&self) -> &Object {
        match self {
            Self::Read(object) => object,
            Self::Write(object) => object,
        }
    }
}

/// The objects of one request.
pub(super) struct Versions<'a> {
    a: &'a Attributes<'a>,
    object: Option<New<'a>>,
    old: Option<&'a Object>,
    /// Those in other versions, by the `apiVersion`.
    others: Vec<(String, Pair)>,
}

impl<'a> Versions<'a> {
    pub(super) fn new(
        a: &'a Attributes<'a>,
        object: Option<New<'a>>,
        old: Option<&'a Object>,
    ) -> Self {
        Self { a, object, old, others: Vec::new() }
    }

    /// The new object in the version of the request.
    pub(super) fn object(&self) -> Option<&Object> {
        self.object.as_ref().map(New::get)
    }

    /// The old one.
    pub(super) fn old(&self) -> Option<&Object> {
        self.old
    }

    /// Both in the version that a webhook is shown.
    pub(super) async fn of(
        &mut self,
        shared: &Shared,
        invocation: &Invocation,
    ) -> Result<(Option<&Object>, Option<&Object>), StatusError> {
        let other = invocation.equivalent.as_ref().filter(|_| invocation.kind != self.a.kind());
        let Some(other) = other else { return Ok((self.object(), self.old)) };
        let at = match self.others.iter().position(|(version, _)| *version == other.api_version) {
            Some(at) => at,
            None => {
                let own = shared.served(self.a)?;
                // Upstream wraps what it does not know twice.
                let failed = |why| StatusError::internal(StatusError::internal(why));
                let mut pair: Pair = (None, None);
                if let Some(object) = self.object() {
                    let converted = convert(&own, other, object.clone()).await;
                    pair.0 = Some(converted.map_err(failed)?);
                }
                if let Some(old) = self.old {
                    pair.1 = Some(convert(&own, other, old.clone()).await.map_err(failed)?);
                }
                self.others.push((other.api_version.clone(), pair));
                self.others.len() - 1
            }
        };
        let (object, old) = &self.others[at].1;
        Ok((object.as_ref(), old.as_ref()))
    }

    /// Both, when [`Versions::of`] has made them before.
    pub(super) fn known(&self, invocation: &Invocation) -> (Option<&Object>, Option<&Object>) {
        let other = invocation.equivalent.as_ref().filter(|_| invocation.kind != self.a.kind());
        let found = other.and_then(|other| {
            self.others.iter().find(|(version, _)| *version == other.api_version)
        });
        match found {
            Some((_, (object, old))) => (object.as_ref(), old.as_ref()),
            None => (self.object(), self.old),
        }
    }

    /// Takes a new state in the version that a webhook was shown. True when it differs.
    pub(super) async fn change(
        &mut self,
        shared: &Shared,
        invocation: &Invocation,
        patched: Value,
    ) -> Result<bool, StatusError> {
        let read = read(self.a, invocation, patched).map_err(StatusError::internal)?;
        let changed = self.known(invocation).0 != Some(&read);
        let Some(New::Write(object)) = &mut self.object else { return Ok(false) };
        let other = invocation.equivalent.as_ref().filter(|_| invocation.kind != self.a.kind());
        **object = match other {
            Some(other) => {
                let own = shared.served(self.a)?;
                convert(other, &own, read).await?
            }
            None => read,
        };
        // The others are made again when somebody asks for them.
        self.others.clear();
        Ok(changed)
    }
}

/// The object that a patched document is, with its defaults.
fn read(a: &Attributes<'_>, invocation: &Invocation, mut value: Value) -> Result<Object, String> {
    let kind = &invocation.kind;
    let resource = invocation.equivalent.as_ref().map_or(a.resource, |other| &other.resource);
    let own = *kind == resource.gvk();
    let model = if own { resource.model.clone() } else { of_kind(kind) };
    let custom = own && resource.custom.is_some();
    if custom {
        for field in ["kind", "apiVersion"] {
            if value[field].as_str().unwrap_or("").is_empty() {
                let told = if field == "kind" { "Kind" } else { field };
                return Err(format!("Object '{told}' is missing in '{value}'"));
            }
        }
    }
    let mut emptied = longshore_api::emptied::Emptied::default();
    if let Some(model) = &model {
        emptied = model.normalise(&mut value)?.emptied;
    }
    let mut object =
        Object::from_value(value).ok_or("json: cannot unmarshal into Go value")?.given(emptied);
    if !custom {
        object.set(&["apiVersion"], kind.api_version());
        object.set(&["kind"], kind.kind.as_str());
    }
    if let Some(model) = &model {
        model.fill(&mut object).map_err(|error| error.to_string())?;
        if own {
            resource.strategy.default(&mut object);
        }
        model.complete(&mut object);
    }
    Ok(object)
}

fn of_kind(kind: &Gvk) -> Option<Model> {
    Model::built_in(&kind.group, &kind.version, &kind.kind)
}

impl Shared {
    /// The resource of a request with what is known of its versions.
    fn served(&self, a: &Attributes<'_>) -> Result<Arc<Served>, StatusError> {
        let own = a.resource;
        let found = self.table.load().get(&own.group, &own.version, &own.plural);
        found.ok_or_else(|| StatusError::internal(format!("{} is not served", own.gvr())))
    }
}

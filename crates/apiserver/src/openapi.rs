//! The OpenAPI documents of what is served, made once when first asked for.
//!
//! upstream: k8s.io/kube-openapi/pkg/handler3

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use longshore_api::openapi::{self, Route};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::body::Body;
use crate::discovery;
use crate::endpoints::respond;
use crate::handler::{Handler, no_such_resource};
use crate::nonresource::hex;

/// The documents by their path below `/openapi/v3/`.
#[derive(Default)]
pub struct Documents {
    made: Mutex<BTreeMap<String, (Bytes, String)>>,
}

impl Documents {
    /// Answers `/openapi/v3`: where the documents are.
    pub fn index(&self, handler: &Arc<Handler>) -> Response<Body> {
        let mut paths = Map::new();
        for path in document_paths(handler) {
            let Some((_, hash)) = self.made(handler, &path) else { continue };
            let url = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
        respond::json(200, &json!({ "paths": paths }))
    }

    /// Answers `/openapi/v3/PATH`.
    pub fn document(
        &self,
        handler: &Arc<Handler>,
        _request: &Request<Body>,
        path: &str,
    ) -> Response<Body> {
        match self.made(handler, path) {
            Some((body, _)) => respond::bytes(200, "application/json", body),
            None => respond::error(&no_such_resource()),
        }
    }

    /// Answers `/openapi/v2`.
    pub fn v2(&self, _handler: &Arc<Handler>, _request: &Request<Body>) -> Response<Body> {
        respond::error(&no_such_resource())
    }

    fn made(&self, handler: &Arc<Handler>, path: &str) -> Option<(Bytes, String)> {
        if let Some(made) = self.made.lock().get(path) {
            return Some(made.clone());
        }
        let document = make(handler, path)?;
        let body = Bytes::from(document.to_string());
        let hash = hex(&Sha256::digest(&body)).to_uppercase();
        let made = (body, hash);
        self.made.lock().insert(path.to_owned(), made.clone());
        Some(made)
    }
}

fn document_paths(handler: &Arc<Handler>) -> Vec<String> {
    let table = handler.api.registry.table();
    discovery::groups(&table)
        .iter()
        .flat_map(|(group, versions)| {
            versions.iter().map(move |version| match group.as_str() {
                "" => format!("api/{version}"),
                group => format!("apis/{group}/{version}"),
            })
        })
        .collect()
}

fn make(handler: &Arc<Handler>, path: &str) -> Option<Value> {
    let segments: Vec<&str> = path.split('/').collect();
    let (group, version) = match segments.as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    let table = handler.api.registry.table();
    let mut routes = Vec::new();
    for served in table.iter() {
        let resource = &served.resource;
        if resource.group != group || resource.version != version {
            continue;
        }
        let verbs = |verbs: &[longshore_resources::table::Text]| {
            verbs.iter().map(|verb| verb.to_string()).collect()
        };
        routes.push(Route {
            plural: resource.plural.to_string(),
            kind: resource.gvk(),
            namespaced: resource.namespaced(),
            verbs: verbs(&resource.verbs),
        });
        routes.extend(resource.subresources.iter().map(|sub| Route {
            plural: format!("{}/{}", resource.plural, sub.name),
            kind: sub.kind.clone(),
            namespaced: resource.namespaced(),
            verbs: verbs(&sub.verbs),
        }));
    }
    (!routes.is_empty()).then(|| openapi::document(group, version, &routes))
}

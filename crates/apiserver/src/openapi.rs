//! The OpenAPI documents of what is served, made once when first asked for.
//!
//! upstream: k8s.io/kube-openapi/pkg/handler3

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use longshore_api::openapi::{self, Route, Subroute};
use longshore_resources::table::{Resource, Text};
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
    pub fn v2(&self, handler: &Arc<Handler>, _request: &Request<Body>) -> Response<Body> {
        let made = || {
            let paths = document_paths(handler);
            let documents: Vec<Value> =
                paths.iter().filter_map(|path| make(handler, path)).collect();
            openapi::document_v2(&documents)
        };
        let (body, _) = self.kept("v2", made);
        respond::bytes(200, "application/json", body)
    }

    fn made(&self, handler: &Arc<Handler>, path: &str) -> Option<(Bytes, String)> {
        if let Some(made) = self.made.lock().get(path) {
            return Some(made.clone());
        }
        let document = make(handler, path)?;
        Some(self.kept(path, || document))
    }

    /// The kept document of a path with its hash; made when it is not there.
    fn kept(&self, path: &str, make: impl FnOnce() -> Value) -> (Bytes, String) {
        if let Some(made) = self.made.lock().get(path) {
            return made.clone();
        }
        let body = Bytes::from(make().to_string());
        let hash = hex(&Sha256::digest(&body)).to_uppercase();
        let made = (body, hash);
        self.made.lock().insert(path.to_owned(), made.clone());
        made
    }
}

/// Paths that only list what lies below, and `/version`.
const ROOTS: [&str; 3] = ["api", "apis", "version"];

fn document_paths(handler: &Arc<Handler>) -> Vec<String> {
    let table = handler.api.registry.table();
    let mut paths: Vec<String> = ROOTS.map(str::to_owned).to_vec();
    for (group, versions) in &discovery::groups(&table) {
        if !group.is_empty() {
            paths.push(format!("apis/{group}"));
        }
        paths.extend(versions.iter().map(|version| match group.as_str() {
            "" => format!("api/{version}"),
            group => format!("apis/{group}/{version}"),
        }));
    }
    paths
}

fn make(handler: &Arc<Handler>, path: &str) -> Option<Value> {
    let segments: Vec<&str> = path.split('/').collect();
    let (group, version) = match segments.as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => {
            let known = document_paths(handler).iter().any(|known| known == path);
            return known.then(|| openapi::root_document(path)).flatten();
        }
    };
    let table = handler.api.registry.table();
    let routes: Vec<Route> = table
        .iter()
        .map(|served| &*served.resource)
        .filter(|resource| resource.group == group && resource.version == version)
        .map(route)
        .collect();
    (!routes.is_empty()).then(|| openapi::document(group, version, &routes))
}

fn route(resource: &Resource) -> Route {
    let verbs = |verbs: &[Text]| verbs.iter().map(|verb| verb.to_string()).collect();
    let subresources = resource.subresources.iter().map(|sub| Subroute {
        name: sub.name.to_string(),
        kind: sub.kind.clone(),
        verbs: verbs(&sub.verbs),
    });
    Route {
        group: resource.group.to_string(),
        version: resource.version.to_string(),
        plural: resource.plural.to_string(),
        kind: resource.kind.to_string(),
        namespaced: resource.namespaced(),
        verbs: verbs(&resource.verbs),
        returns_deleted: resource.strategy.returns_deleted(),
        subresources: subresources.collect(),
        schema: None,
    }
}

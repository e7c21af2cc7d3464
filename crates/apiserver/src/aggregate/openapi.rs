//! What other servers tell of their types: OpenAPI documents, asked for again and again.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/controllers/{openapi,openapiv3}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{ETAG, IF_NONE_MATCH};
use longshore_api::openapi::document_v3;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha512};

use super::{Aggregator, ApiService, Remote, Table};
use crate::auth::UserInfo;
use crate::nonresource::hex;
use crate::outbound::CallError;

/// API services that are asked about side by side.
pub(super) const WORKERS: usize = 1;
/// How often a server is asked.
///
/// upstream: staging/src/k8s.io/kube-aggregator/pkg/controllers/openapi/controller.go
/// successfulUpdateDelay
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Who asks.
const USER: &str = "system:aggregator";

/// The documents of the server of one API service.
#[derive(Clone, Default, PartialEq)]
struct Spec {
    /// Where the documents of version 3 are, by their path below `/openapi/v3/`.
    paths: BTreeMap<String, String>,
    /// The document of version 2.
    whole: Option<Arc<Value>>,
    /// The entity tag of it.
    etag: String,
    /// The document of version 3 that was made of it, and its hash, where the server has none.
    made: Option<(Bytes, String)>,
}

/// What is known of the types of other servers.
#[derive(Default)]
pub struct Specs {
    known: Mutex<BTreeMap<String, Spec>>,
    generation: AtomicU64,
}

impl Specs {
    /// A number that grows when one of the documents changes.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn set(&self, name: &str, spec: Option<Spec>) {
        let mut known = self.known.lock();
        let same = known.get(name) == spec.as_ref();
        match spec {
            Some(spec) => drop(known.insert(name.to_owned(), spec)),
            None => drop(known.remove(name)),
        }
        if !same {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Where the documents of version 3 of other servers are, by path. What is served here as well
    /// is told by the one that requests go to.
    pub fn paths(
        &self,
        services: &Table,
        local: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, String> {
        let known = self.known.lock();
        let mut all = BTreeMap::new();
        for service in services.remote() {
            let Some(spec) = known.get(service.name()) else { continue };
            if let Some((_, hash)) = &spec.made {
                let path = service.path().trim_start_matches('/').to_owned();
                let url = format!("/openapi/v3/{path}?hash={hash}");
                all.entry(path).or_insert(url);
            }
            for (path, url) in &spec.paths {
                if is_told_by(service, path, services, &local) {
                    all.entry(path.clone()).or_insert_with(|| url.clone());
                }
            }
        }
        all
    }

    /// The API service whose server has the document of version 3 of a path.
    pub fn holder(
        &self,
        path: &str,
        services: &Table,
        local: impl Fn(&str) -> bool,
    ) -> Option<Arc<ApiService>> {
        let known = self.known.lock();
        let mut remote = services.remote().filter(|service| {
            known.get(service.name()).is_some_and(|spec| spec.paths.contains_key(path))
        });
        remote.find(|service| is_told_by(service, path, services, &local)).cloned()
    }

    /// A document of version 3 that was made of an older one, with its hash.
    pub fn made(&self, path: &str, services: &Table) -> Option<(Bytes, String)> {
        let service = services.route(&format!("/{path}"))?;
        let exact = service.path().trim_start_matches('/') == path;
        let known = self.known.lock();
        known.get(service.name()).filter(|_| exact)?.made.clone()
    }

    /// The documents of version 2 of other servers, each with the path that counts of it.
    pub fn whole(&self, services: &Table) -> Vec<(String, Arc<Value>)> {
        let known = self.known.lock();
        let one = |service: &Arc<ApiService>| {
            let whole = known.get(service.name())?.whole.clone()?;
            Some((format!("{}/", service.path()), whole))
        };
        services.iter().filter(|service| service.remote.is_some()).filter_map(one).collect()
    }
}

/// Whether the server of an API service tells of a path, and not another one or this one.
fn is_told_by(
    service: &ApiService,
    path: &str,
    services: &Table,
    local: &impl Fn(&str) -> bool,
) -> bool {
    if !path.starts_with("apis/") {
        return false;
    }
    match services.route(&format!("/{path}")) {
        Some(owner) => owner.name() == service.name(),
        None => !local(path),
    }
}

impl Aggregator {
    /// Asks the server of an API service for its documents, and gives the time until the next time.
    pub(super) async fn learn(&self, name: &str) -> Option<Duration> {
        let services = self.services();
        let found = services.get(name).and_then(|s| s.remote.as_ref().map(|remote| (s, remote)));
        let Some((service, remote)) = found else {
            self.specs.set(name, None);
            return None;
        };
        if !service.available {
            // It comes again when it can be asked.
            return None;
        }
        let before = self.specs.known.lock().get(name).cloned().unwrap_or_default();
        let mut next = before.clone();
        let mut old_alone = before.made.is_some();
        match self.paths_of(remote).await {
            Ok(paths) => {
                old_alone = paths.is_none();
                next.paths = paths.unwrap_or_default();
            }
            Err(error) => tracing::debug!(name, %error, "no OpenAPI documents of version 3"),
        }
        match self.whole_of(remote, &before).await {
            Ok((whole, etag)) => (next.whole, next.etag) = (whole, etag),
            Err(error) => tracing::debug!(name, %error, "no OpenAPI document of version 2"),
        }
        next.made = next.whole.as_ref().filter(|_| old_alone).map(|whole| {
            let body = Bytes::from(document_v3(whole).to_string());
            let hash = hex(&Sha512::digest(&body)).to_uppercase();
            (body, hash)
        });
        self.specs.set(name, Some(next));
        Some(REFRESH_INTERVAL)
    }

    /// Where a server has its documents of version 3; `None` for one that knows nothing of them.
    async fn paths_of(
        &self,
        remote: &Remote,
    ) -> Result<Option<BTreeMap<String, String>>, CallError> {
        let user = UserInfo::new(USER, &[]);
        let answer = self.ask(remote, "/openapi/v3", &user, &[], ANSWER_TIMEOUT).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let index: Value = serde_json::from_slice(&answer.body).map_err(super::other)?;
                let paths = index["paths"].as_object().into_iter().flatten();
                let url = |item: &Value| item["serverRelativeURL"].as_str().map(str::to_owned);
                let one = |(path, item): (&String, &Value)| Some((path.clone(), url(item)?));
                Ok(Some(paths.filter_map(one).collect()))
            }
            other => Err(CallError::Other(format!("the list is answered with {other}"))),
        }
    }

    async fn whole_of(
        &self,
        remote: &Remote,
        before: &Spec,
    ) -> Result<(Option<Arc<Value>>, String), CallError> {
        let user = UserInfo::new(USER, &[]);
        let mut headers = Vec::new();
        if !before.etag.is_empty() {
            headers.push((IF_NONE_MATCH, before.etag.as_str()));
        }
        let answer = self.ask(remote, "/openapi/v2", &user, &headers, ANSWER_TIMEOUT).await?;
        match answer.status {
            StatusCode::NOT_MODIFIED => Ok((before.whole.clone(), before.etag.clone())),
            StatusCode::NOT_FOUND => Ok((None, String::new())),
            StatusCode::OK => {
                let whole: Value = serde_json::from_slice(&answer.body).map_err(super::other)?;
                Ok((Some(Arc::new(whole)), answer.header(ETAG).to_owned()))
            }
            other => Err(CallError::Other(format!("the document is answered with {other}"))),
        }
    }
}

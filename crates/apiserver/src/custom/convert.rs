//! Conversion webhooks: another server takes custom objects from one version to another.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/conversion

mod metrics;
mod review;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longshore_api::{Object, Reason, StatusError, gvk};
use longshore_base::rng::Rng;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::outbound::webhook::{Endpoint, Limits};
use crate::outbound::{self, Client};
use crate::reader::Reader;
pub use metrics::Metrics;
use review::Trouble;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects that are sent at once.
pub const BATCH_MAX: usize = 256;
/// Changes that are kept for the watches that are told them later.
const TOLD_MAX: usize = 64;

/// What conversions need.
#[derive(Clone)]
pub struct Tools {
    /// Calls the webhooks.
    pub outbound: Client,
    /// Tells where services are.
    pub reader: Arc<dyn Reader>,
    /// For the identifiers of reviews.
    pub rng: Arc<dyn Rng>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// An object at one resource version in another version, made for whoever asks first.
type Shared = Arc<OnceCell<Result<Object, StatusError>>>;

/// What of an object is shared: its uid, its resource version, and the version that is wanted.
type Key = (String, String, String);

/// Converts the objects of one definition.
pub struct Converter {
    tools: Tools,
    definition: String,
    endpoint: Result<Endpoint, String>,
    /// The versions of reviews that the webhook understands.
    reviews: Vec<String>,
    /// The newest changes as watches are told them.
    told: Mutex<VecDeque<(Key, Shared)>>,
}

impl Converter {
    /// The converter of a definition; none when its objects only change their `apiVersion`.
    pub fn of(definition: &Object, tools: &Tools) -> Option<Arc<Self>> {
        if definition.str(&["spec", "conversion", "strategy"]) != "Webhook" {
            return None;
        }
        let webhook = definition.get(&["spec", "conversion", "webhook"]).unwrap_or(&Value::Null);
        let reviews = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        Some(Arc::new(Self {
            tools: tools.clone(),
            definition: definition.name().to_owned(),
            endpoint: Endpoint::of(&webhook["clientConfig"]),
            reviews: reviews.filter_map(|version| version.as_str().map(str::to_owned)).collect(),
            told: Mutex::default(),
        }))
    }

    /// Objects in another version. Those that are of it already stay as they are.
    ///
    /// Boxed: every open watch has room for what it may have to wait for, and hardly any waits for
    /// this.
    ///
    /// # Errors
    /// When one of them cannot be converted.
    pub fn convert<'a>(
        &'a self,
        objects: Vec<Object>,
        to: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Object>, StatusError>> {
        self.converted(objects, to).boxed()
    }

    async fn converted(
        &self,
        mut objects: Vec<Object>,
        to: &str,
    ) -> Result<Vec<Object>, StatusError> {
        // One version at a time: metrics and messages tell it.
        let mut waiting: Vec<(String, Vec<usize>)> = Vec::new();
        for (at, object) in objects.iter_mut().enumerate() {
            if is_bare(object) {
                object.set(&["apiVersion"], to);
            }
            let from = object.api_version();
            match waiting.iter_mut().find(|(version, _)| version == from) {
                _ if from == to => {}
                Some((_, own)) => own.push(at),
                None => waiting.push((from.to_owned(), vec![at])),
            }
        }
        for (from, own) in waiting {
            for batch in own.chunks(BATCH_MAX) {
                let sent: Vec<&Object> = batch.iter().map(|at| &objects[*at]).collect();
                let converted = self.observed(&sent, &from, to).await?;
                for (at, object) in batch.iter().zip(converted) {
                    objects[*at] = object;
                }
            }
        }
        Ok(objects)
    }

    /// A changed object in another version, for one of many watches: all of them share one call.
    ///
    /// # Errors
    /// When it cannot be converted.
    pub async fn convert_shared(&self, object: Object, to: &str) -> Result<Object, StatusError> {
        let key = (object.uid().to_owned(), object.resource_version().to_owned(), to.to_owned());
        let shared = self.shared(key);
        let convert = || async {
            let mut converted = self.convert(vec![object], to).await?;
            converted.pop().ok_or_else(|| StatusError::internal("a conversion has lost an object"))
        };
        let outcome = shared.get_or_init(convert).await.clone();
        if outcome.is_err() {
            // Those that wait now share the failure; who asks later may have more luck.
            self.told.lock().retain(|(_, known)| !Arc::ptr_eq(known, &shared));
        }
        outcome
    }

    fn shared(&self, key: Key) -> Shared {
        let mut told = self.told.lock();
        if let Some((_, shared)) = told.iter().rev().find(|(known, _)| *known == key) {
            return shared.clone();
        }
        if told.len() >= TOLD_MAX {
            told.pop_front();
        }
        let shared = Shared::default();
        told.push_back((key, shared.clone()));
        shared
    }

    async fn observed(
        &self,
        objects: &[&Object],
        from: &str,
        to: &str,
    ) -> Result<Vec<Object>, StatusError> {
        let started = Instant::now();
        let outcome = self.call(objects, to).await;
        let version = |text| gvk::split_api_version(text).map_or("", |(_, version)| version);
        let failure = outcome.as_ref().err().map(|trouble| trouble.kind);
        let names = [self.definition.as_str(), version(from), version(to)];
        self.tools.metrics.conversion(names, failure, started.elapsed());
        outcome.map_err(|trouble| {
            let kind = objects.first().map_or("", |object| object.kind());
            let why = &trouble.why;
            // Nothing is known of such an error but its message.
            let message = format!("conversion webhook for {from}, Kind={kind} {why}");
            StatusError::new(Reason::Unknown, message)
        })
    }

    async fn call(&self, objects: &[&Object], to: &str) -> Result<Vec<Object>, Trouble> {
        let failed = |why: String| Trouble::new("conversion_webhook_call_failure", why);
        let uid = self.tools.rng.uuid();
        let review = review::Review::new(&self.reviews, uid, objects, to)?;
        let endpoint = self.endpoint.as_ref().map_err(|why| failed(format!("failed: {why}")))?;
        let Tools { outbound: client, reader, .. } = &self.tools;
        let limits = Limits { timeout: TIMEOUT, bytes_max: outbound::ANSWER_BYTES_MAX };
        let answer = endpoint.post(client, &**reader, review.document.clone(), limits).await;
        let answer = answer.map_err(|error| failed(format!("failed: {error}")))?;
        let converted = review.read(&answer)?;
        if converted.len() != objects.len() {
            return Err(Trouble::new(
                "conversion_webhook_partial_response_failure",
                format!("returned {} objects, expected {}", converted.len(), objects.len()),
            ));
        }
        let pairs = objects.iter().zip(converted);
        pairs.map(|(before, after)| review::accept(before, after, to)).collect()
    }
}

/// Whether an object has no more than its kind.
///
/// upstream: webhook_converter.go isEmptyUnstructuredObject
fn is_bare(object: &Object) -> bool {
    let root = object.root();
    root.len() == 2 && root.contains_key("kind") && root.contains_key("apiVersion")
}

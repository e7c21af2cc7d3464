//! Namespaces that are deleted: first their content, then their finalizer.
//!
//! upstream: pkg/controller/namespace/deletion/namespaced_resources_deleter.go

use std::collections::HashSet;
use std::time::Duration;

use http::Method;
use longshore_api::Object;
use longshore_client::resource::NAMESPACES;
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, follow, gone_is_fine, rfc3339};

/// Workers side by side.
const WORKERS: usize = 10;
const FINALIZER: &str = "kubernetes";
/// How long until the next look at content that has to end by itself.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Controller {
    ctx: Context,
    namespaces: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let namespaces = ctx.caches.get(NAMESPACES);
    follow(&namespaces, &queue);
    let shutdown = ctx.shutdown.clone();
    let controller = Controller { ctx, namespaces };
    workers::run("namespace-controller", queue, WORKERS, &shutdown, move |(_, name): Key| {
        let controller = controller.clone();
        async move { controller.sync(&name).await }
    });
}

/// What is left in a namespace.
#[derive(Default)]
struct Left {
    /// `pods.` or `deployments.apps`, and how many.
    counts: Vec<(String, usize)>,
    /// Finalizers and on how many objects they are.
    finalizers: std::collections::BTreeMap<String, usize>,
    /// There are pods; nothing else was looked at.
    pods: bool,
}

impl Controller {
    async fn sync(&self, name: &str) -> Outcome {
        let Some(namespace) = self.namespaces.get("", name) else { return Ok(None) };
        let held = namespace.list(&["spec", "finalizers"]).iter().any(|f| f == FINALIZER);
        if !namespace.is_deleting() || !held {
            return Ok(None);
        }
        let left = self.delete_content(name).await?;
        self.tell(&namespace, &left).await?;
        if left.pods || !left.counts.is_empty() {
            return Ok(Some(PAUSE));
        }
        let Some(mut fresh) = self.ctx.client.find(NAMESPACES, "", name).await? else {
            return Ok(None);
        };
        let rest: Vec<Value> = fresh
            .list(&["spec", "finalizers"])
            .iter()
            .filter(|f| *f != FINALIZER)
            .cloned()
            .collect();
        fresh.set(&["spec", "finalizers"], rest);
        let done = self.ctx.client.update_subresource(NAMESPACES, "finalize", &fresh).await;
        gone_is_fine(done)?;
        Ok(None)
    }

    /// The collections of all namespaced resources that can be listed and deleted: path below the
    /// namespace's prefix, and name. Pods come first: others may need them to end.
    async fn collections(&self) -> Result<Vec<(String, String)>, Error> {
        let get = |path: String| async move { self.ctx.client.raw(Method::GET, &path, None).await };
        let mut versions = vec![("/api/v1".to_owned(), String::new())];
        let groups = get("/apis".to_owned()).await?;
        for group in groups["groups"].as_array().into_iter().flatten() {
            let name = group["name"].as_str().unwrap_or("");
            // A custom resource need not be in the version that the group prefers.
            for version in group["versions"].as_array().into_iter().flatten() {
                let version = version["groupVersion"].as_str().unwrap_or("");
                versions.push((format!("/apis/{version}"), name.to_owned()));
            }
        }
        let mut found: Vec<(String, String)> = Vec::new();
        let mut known = HashSet::new();
        for (prefix, group) in versions {
            let list = match get(prefix.clone()).await {
                // Its last definition is gone meanwhile.
                Err(error) if error.is_not_found() => continue,
                list => list?,
            };
            for resource in list["resources"].as_array().into_iter().flatten() {
                let name = resource["name"].as_str().unwrap_or("");
                let verbs = resource["verbs"].as_array().map_or(&[][..], Vec::as_slice);
                let can = |verb: &str| verbs.iter().any(|v| v == verb);
                let qualified = format!("{name}.{group}");
                let collected = resource["namespaced"] == true && can("list") && can("delete");
                if collected && known.insert(qualified.clone()) {
                    found.push((format!("{prefix}\n{name}"), qualified));
                }
            }
        }
        found.sort_by_key(|(_, name)| name != "pods.");
        Ok(found)
    }

    async fn delete_content(&self, namespace: &str) -> Result<Left, Error> {
        let mut left = Left::default();
        for (place, name) in self.collections().await? {
            let (prefix, plural) = place.split_once('\n').expect("joined with a line break");
            let path = format!("{prefix}/namespaces/{namespace}/{plural}");
            let items = self.items(&path).await?;
            if items.is_empty() {
                continue;
            }
            for item in &items {
                if !item.is_deleting() {
                    let body = json!({ "propagationPolicy": "Background" });
                    let body = Some(("application/json", &body));
                    let path = format!("{path}/{}", item.name());
                    match self.ctx.client.raw(Method::DELETE, &path, body).await {
                        Err(error) if !error.is_not_found() => return Err(error),
                        _ => {}
                    }
                }
            }
            let rest = self.items(&path).await?;
            if plural == "pods" && !rest.is_empty() {
                // The rest waits until the pods have ended, and nobody is told what it is.
                return Ok(Left { pods: true, ..Left::default() });
            }
            for item in &rest {
                for finalizer in item.finalizers() {
                    *left.finalizers.entry(finalizer.to_owned()).or_default() += 1;
                }
            }
            if !rest.is_empty() {
                left.counts.push((name, rest.len()));
            }
        }
        Ok(left)
    }

    async fn items(&self, path: &str) -> Result<Vec<Object>, Error> {
        let mut list = match self.ctx.client.raw(Method::GET, path, None).await {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            outcome => outcome?,
        };
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        Ok(items.into_iter().filter_map(Object::from_value).collect())
    }

    /// Tells in the conditions what the namespace waits for.
    async fn tell(&self, namespace: &Object, left: &Left) -> Result<(), Error> {
        let now = rfc3339(self.ctx.clock.now());
        let counts: Vec<String> = left
            .counts
            .iter()
            .map(|(name, count)| format!("{name} has {count} resource instances"))
            .collect();
        let finalizers: Vec<String> = left
            .finalizers
            .iter()
            .map(|(name, count)| format!("{name} in {count} resource instances"))
            .collect();
        let (some, held) = (!counts.is_empty(), !finalizers.is_empty());
        let words = |bad: bool, kind: &str, reason: &str, text: String, good: [&str; 2]| {
            let (status, reason, message) = if bad {
                ("True", reason.to_owned(), text)
            } else {
                ("False", good[0].to_owned(), good[1].to_owned())
            };
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": now,
            })
        };
        let wanted = [
            words(
                false,
                "NamespaceDeletionDiscoveryFailure",
                "",
                String::new(),
                ["ResourcesDiscovered", "All resources successfully discovered"],
            ),
            words(
                false,
                "NamespaceDeletionGroupVersionParsingFailure",
                "",
                String::new(),
                ["ParsedGroupVersions", "All legacy kube types successfully parsed"],
            ),
            words(
                false,
                "NamespaceDeletionContentFailure",
                "",
                String::new(),
                [
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ],
            ),
            words(
                some,
                "NamespaceContentRemaining",
                "SomeResourcesRemain",
                format!("Some resources are remaining: {}", counts.join(", ")),
                ["ContentRemoved", "All content successfully removed"],
            ),
            words(
                held,
                "NamespaceFinalizersRemaining",
                "SomeFinalizersRemain",
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    finalizers.join(", ")
                ),
                ["ContentHasNoFinalizers", "All content-preserving finalizers finished"],
            ),
        ];
        let mut conditions = namespace.list(&["status", "conditions"]).to_vec();
        let before = conditions.clone();
        for condition in wanted {
            match conditions.iter_mut().find(|c| c["type"] == condition["type"]) {
                None => conditions.push(condition),
                Some(c)
                    if c["status"] == condition["status"]
                        && c["message"] == condition["message"] => {}
                Some(c) => *c = condition,
            }
        }
        if conditions == before || (!left.pods && !some && before.is_empty()) {
            return Ok(());
        }
        let mut changed = namespace.clone();
        changed.set(&["status", "conditions"], conditions);
        match self.ctx.client.update_status(NAMESPACES, &changed).await {
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

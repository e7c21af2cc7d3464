//! Pods run as a service account and get its token.
//!
//! upstream: plugin/pkg/admission/serviceaccount/admission.go

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_api::patch::gotext::quote;
use longshore_api::{Object, Reason, StatusError};
use longshore_base::rng::Rng;
use serde_json::{Value, json};

use super::resources::items;
use super::{Attributes, Plugin, Tools, Verdict};
use crate::reader::{self, Reader};
use crate::registry::segment_rule;

const MIRROR_POD: &str = "kubernetes.io/config.mirror";
const VOLUME: &str = "kube-api-access";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// A controller makes the default account of a new namespace: so long it may take.
const DEFAULT_ATTEMPTS: u32 = 10;
const DEFAULT_WAIT: Duration = Duration::from_millis(100);

pub(super) struct ServiceAccount {
    reader: Arc<dyn Reader>,
    rng: Arc<dyn Rng>,
}

impl ServiceAccount {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone(), rng: tools.rng.clone() }
    }

    async fn account(&self, a: &Attributes<'_>, pod: &Object) -> Result<Arc<Object>, StatusError> {
        let name = pod.str(&["spec", "serviceAccountName"]);
        let namespace = a.namespace;
        if name.is_empty() {
            let text = format!("no service account specified for pod {namespace}/{}", pod.name());
            return Err(a.forbidden(Some(pod), &text));
        }
        let attempts = if name == "default" { DEFAULT_ATTEMPTS } else { 1 };
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(DEFAULT_WAIT).await;
            }
            let what = ("", "serviceaccounts");
            if let Some(account) = reader::find(&*self.reader, what, namespace, name).await? {
                return Ok(account);
            }
        }
        // Upstream asks by a client that refuses what cannot stand in a path.
        let why = match segment_rule(name, false).as_slice() {
            [] => format!("serviceaccount {} not found", quote(name)),
            wrong => format!("invalid resource name {}: [{}]", quote(name), wrong.join(" ")),
        };
        let text = format!("error looking up service account {namespace}/{name}: {why}");
        Err(a.forbidden(Some(pod), &text))
    }

    async fn admit(&self, a: &Attributes<'_>, pod: &mut Object) -> Verdict {
        if pod.annotation(MIRROR_POD).is_some() {
            return self.check(a, pod).await;
        }
        if pod.str(&["spec", "serviceAccountName"]).is_empty() {
            pod.set(&["spec", "serviceAccountName"], "default");
        }
        // The old name of the field, kept in step by conversion upstream.
        let name = pod.str(&["spec", "serviceAccountName"]).to_owned();
        pod.set(&["spec", "serviceAccount"], name);
        let account = self.account(a, pod).await?;
        let automount = |object: &Object, path: &[&str]| object.get(path).and_then(Value::as_bool);
        let mounts = automount(pod, &["spec", "automountServiceAccountToken"])
            .or_else(|| automount(&account, &["automountServiceAccountToken"]))
            .unwrap_or(true);
        if mounts {
            self.mount_token(pod);
        }
        let pull = account.list(&["imagePullSecrets"]);
        if pod.list(&["spec", "imagePullSecrets"]).is_empty() && !pull.is_empty() {
            let names: Vec<Value> = pull.iter().map(|s| json!({"name": s["name"]})).collect();
            pod.set(&["spec", "imagePullSecrets"], names);
        }
        self.check(a, pod).await
    }

    async fn check(&self, a: &Attributes<'_>, pod: &Object) -> Verdict {
        if a.subresource == "ephemeralcontainers" {
            if !a.updates() {
                return Ok(());
            }
            let account = self.account(a, pod).await?;
            if !enforces(&account) {
                return Ok(());
            }
            let secrets = names(account.list(&["secrets"]));
            let kinds = [("ephemeralContainers", "ephemeral container")];
            return container_secrets(pod, &kinds, &secrets, account.name())
                // Upstream returns a plain error here, which becomes a 500.
                .map_err(|text| StatusError::new(Reason::Unknown, text));
        }
        if !a.creates() {
            return Ok(());
        }
        if pod.annotation(MIRROR_POD).is_some() {
            return mirror_pod(pod).map_err(|text| a.forbidden(Some(pod), text));
        }
        let account = self.account(a, pod).await?;
        if enforces(&account) {
            limit_secrets(pod, &account).map_err(|text| a.forbidden(Some(pod), &text))?;
        }
        Ok(())
    }

    fn mount_token(&self, pod: &mut Object) {
        let existing = pod
            .list(&["spec", "volumes"])
            .iter()
            .filter_map(|volume| volume["name"].as_str())
            .find(|name| name.starts_with("kube-api-access-"))
            .map(str::to_owned);
        let has_volume = existing.is_some();
        let volume = existing.unwrap_or_else(|| format!("{VOLUME}-{}", self.rng.suffix(5)));
        let mut needed = false;
        for list in ["initContainers", "containers"] {
            let containers = pod.get_mut(&["spec", list]).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                if items(container, "volumeMounts").any(|m| m["mountPath"] == MOUNT_PATH) {
                    continue;
                }
                needed = true;
                let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
                match container["volumeMounts"].as_array_mut() {
                    Some(mounts) => mounts.push(mount),
                    None => container["volumeMounts"] = json!([mount]),
                }
            }
        }
        if has_volume || !needed {
            return;
        }
        let source = token_volume(&volume);
        match pod.get_mut(&["spec", "volumes"]).and_then(Value::as_array_mut) {
            Some(volumes) => volumes.push(source),
            None => pod.set(&["spec", "volumes"], vec![source]),
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt",
            "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

fn enforces(account: &Object) -> bool {
    // Go's ParseBool.
    matches!(
        account.annotation(ENFORCE_MOUNTABLE),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True")
    )
}

fn names(list: &[Value]) -> Vec<&str> {
    list.iter().filter_map(|item| item["name"].as_str()).collect()
}

fn mirror_pod(pod: &Object) -> Result<(), &'static str> {
    if !pod.str(&["spec", "serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    let env = ["initContainers", "containers", "ephemeralContainers"].iter().any(|list| {
        pod.list(&["spec", list]).iter().any(|container| {
            items(container, "envFrom").any(|e| e["secretRef"].is_object())
                || items(container, "env").any(|e| e["valueFrom"]["secretKeyRef"].is_object())
        })
    });
    let volumes = || pod.list(&["spec", "volumes"]).iter();
    let projected = |key: &str| {
        volumes().any(|v| items(&v["projected"], "sources").any(|s| s[key].is_object()))
    };
    let mounted = volumes().any(|v| v["secret"].is_object() || v["azureFile"].is_object());
    let pulled = !pod.list(&["spec", "imagePullSecrets"]).is_empty();
    if env || mounted || pulled || projected("secret") {
        return Err("a mirror pod may not reference secrets");
    }
    if projected("serviceAccountToken") {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn limit_secrets(pod: &Object, account: &Object) -> Result<(), String> {
    let secrets = names(account.list(&["secrets"]));
    let name = account.name();
    for volume in pod.list(&["spec", "volumes"]) {
        let Some(secret) = volume["secret"]["secretName"].as_str() else { continue };
        if !secrets.contains(&secret) {
            return Err(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account \
                 {name} does not reference that secret"
            ));
        }
    }
    let kinds = [("initContainers", "init container"), ("containers", "container")];
    container_secrets(pod, &kinds, &secrets, name)?;
    let pull = names(account.list(&["imagePullSecrets"]));
    for (i, secret) in pod.list(&["spec", "imagePullSecrets"]).iter().enumerate() {
        let secret = secret["name"].as_str().unwrap_or("");
        if !pull.contains(&secret) {
            return Err(format!(
                "imagePullSecrets[{i}].name=\"{secret}\" is not allowed because service account \
                 {name} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

fn container_secrets(
    pod: &Object,
    kinds: &[(&str, &str)],
    secrets: &[&str],
    account: &str,
) -> Result<(), String> {
    for (list, kind) in kinds {
        for container in pod.list(&["spec", list]) {
            let own = container["name"].as_str().unwrap_or("");
            let refused = |what: String, secret: &str| {
                format!(
                    "{kind} {own} with {what} referencing secret.secretName=\"{secret}\" is not \
                     allowed because service account {account} does not reference that secret"
                )
            };
            for env in items(container, "env") {
                let Some(secret) = env["valueFrom"]["secretKeyRef"]["name"].as_str() else {
                    continue;
                };
                if !secrets.contains(&secret) {
                    let env = env["name"].as_str().unwrap_or("");
                    return Err(refused(format!("envVar {env}"), secret));
                }
            }
            for env in items(container, "envFrom") {
                let Some(secret) = env["secretRef"]["name"].as_str() else { continue };
                if !secrets.contains(&secret) {
                    return Err(refused("envFrom".to_owned(), secret));
                }
            }
        }
    }
    Ok(())
}

fn concerns(a: &Attributes<'_>) -> bool {
    a.is_any("", "pods") && matches!(a.subresource, "" | "ephemeralcontainers")
}

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn mutate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a mut Object>,
        _old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        async move {
            match object {
                Some(pod) if concerns(a) && a.creates() => self.admit(a, pod).await,
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn validate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a Object>,
        _old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        async move {
            match object {
                Some(pod) if concerns(a) => self.check(a, pod).await,
                _ => Ok(()),
            }
        }
        .boxed()
    }
}

//! What a container has to do after its start and before its end.
//!
//! upstream: pkg/kubelet/lifecycle/handlers.go

use std::time::Duration;

use longshore_api::Object;
use serde_json::Value;

use crate::Shared;
use crate::probes::ask;

/// Runs a hook; `limit` is how long it may take in seconds. What went wrong, if something did.
pub(crate) async fn run(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    id: &str,
    ip: &str,
    hook: &Value,
    limit: i64,
) -> Result<(), String> {
    let time = Duration::from_secs(u64::try_from(limit.max(1)).unwrap_or(1));
    match tokio::time::timeout(time, carry_out(shared, pod, spec, id, ip, hook, limit)).await {
        Ok(outcome) => outcome,
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

async fn carry_out(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    id: &str,
    ip: &str,
    hook: &Value,
    limit: i64,
) -> Result<(), String> {
    let name = spec["name"].as_str().unwrap_or("");
    let place = || {
        let pod = format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid());
        format!("for Container {name:?} in Pod {pod:?} failed - error:")
    };
    if let Some(seconds) = hook["sleep"]["seconds"].as_u64() {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(())
    } else if hook["httpGet"].is_object() {
        let outcome = ask::http(spec, ip, &hook["httpGet"], "kube-lifecycle/1.36").await;
        let path = hook["httpGet"]["path"].as_str().unwrap_or("");
        // Whatever it answers, it was asked.
        outcome.map(drop).map_err(|e| format!("HTTP lifecycle hook ({path}) {} {e}", place()))
    } else if hook["tcpSocket"].is_object() {
        ask::tcp(spec, ip, &hook["tcpSocket"]).await
    } else {
        let outcome = ask::exec(&shared.runtime, id, &hook["exec"], limit.max(1)).await;
        let words = hook["exec"]["command"].as_array().into_iter().flatten();
        let words: Vec<&str> = words.filter_map(Value::as_str).collect();
        outcome.map_err(|e| format!("Exec lifecycle hook ([{}]) {} {e}", words.join(" "), place()))
    }
}

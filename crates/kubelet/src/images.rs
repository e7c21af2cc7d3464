//! Images: present ones are used, missing ones are fetched, failures are not repeated too soon.
//!
//! upstream: pkg/kubelet/images/image_manager.go

mod credentials;

use std::collections::HashMap;

use longshore_api::Object;
use longshore_client::recorder::Severity;
use longshore_cri::v1::*;
use parking_lot::Mutex;
use serde_json::Value;

use crate::Shared;
use crate::backoff::Backoff;

/// Why there is no image: the reason and message of a waiting container.
#[derive(Clone, Debug)]
pub(crate) struct NoImage {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Seconds until the next attempt.
    pub(crate) again: i64,
}

/// An image that is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// The runtime's name of it.
    pub(crate) reference: String,
    /// The user that its programs run as, by number or by name.
    pub(crate) uid: Option<i64>,
    pub(crate) user: String,
}

impl From<Image> for Found {
    fn from(image: Image) -> Self {
        // An image that says nothing runs as root.
        let root = image.username.is_empty().then_some(0);
        let uid = image.uid.map(|id| id.value).or(root);
        Self { reference: image.id, uid, user: image.username }
    }
}

/// The state of fetching.
#[derive(Default)]
pub(crate) struct Images {
    failures: Mutex<Backoff>,
    /// What went wrong last, by the same keys; gone with the next attempt.
    why: Mutex<HashMap<String, String>>,
}

/// Forgets what went wrong for a pod that is gone.
pub(crate) fn forget(shared: &Shared, uid: &str) {
    let start = format!("{uid}_");
    shared.images.failures.lock().forget(&start);
    shared.images.why.lock().retain(|key, _| !key.starts_with(&start));
}

fn image_spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..Default::default() }
}

/// A reference with the default tag if it has none.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || image.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// Gives the runtime's reference to a container's image, fetching it if the policy says so.
pub(crate) async fn ensure(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    field_path: &str,
) -> Result<Found, NoImage> {
    let image = with_tag(spec["image"].as_str().unwrap_or(""));
    let shown = spec["image"].as_str().unwrap_or("");
    let failed = |message: String| NoImage { reason: "ImageInspectError", message, again: 10 };
    let request = ImageStatusRequest { image: Some(image_spec(&image)), ..Default::default() };
    let present = shared.runtime.image_status(request).await.map_err(|e| failed(e.to_string()))?;
    let policy = spec["imagePullPolicy"].as_str().unwrap_or("IfNotPresent");
    let tell = |severity, reason: &str, message: &str| {
        shared.recorder.event_at(pod, field_path, severity, reason, message);
    };
    if let Some(found) = present.image.filter(|_| policy != "Always") {
        let message = format!(
            "Container image {shown:?} already present on machine and can be accessed by the pod"
        );
        tell(Severity::Normal, "Pulled", &message);
        return Ok(found.into());
    }
    if policy == "Never" {
        let message = format!("Container image {shown:?} is not present with pull policy of Never");
        tell(Severity::Warning, "ErrImageNeverPull", &message);
        return Err(NoImage { reason: "ErrImageNeverPull", message, again: 60 });
    }
    let key = format!("{}_{image}", pod.uid());
    let now = shared.clock.now();
    let attempt = {
        let mut failures = shared.images.failures.lock();
        let last = failures.last(&key).unwrap_or(now);
        failures.attempt(&key, last, now)
    };
    if let Err((_, left)) = attempt {
        let mut message = format!("Back-off pulling image {shown:?}");
        tell(Severity::Normal, "BackOff", &message);
        if let Some(why) = shared.images.why.lock().get(&key) {
            message = format!("{message}: {why}");
        }
        return Err(NoImage { reason: "ImagePullBackOff", message, again: left });
    }
    shared.images.why.lock().remove(&key);
    tell(Severity::Normal, "Pulling", &format!("Pulling image {shown:?}"));
    match pull(shared, pod, &image).await {
        Ok(reference) => {
            let took = shared.clock.now().duration_since(now).as_millis();
            let found = inspect(shared, &image).await;
            let size = found.as_ref().map_or(0, |image| image.size);
            let took = go_seconds(took);
            let message = format!(
                "Successfully pulled image {shown:?} in {took} ({took} including waiting). Image size: {size} bytes."
            );
            tell(Severity::Normal, "Pulled", &message);
            let found = found.map_or_else(Found::default, Found::from);
            Ok(Found { reference, ..found })
        }
        Err(error) => {
            let text = format!("Failed to pull image {shown:?}: {error}");
            tell(Severity::Warning, "Failed", &text);
            tell(Severity::Warning, "Failed", "Error: ErrImagePull");
            shared.images.why.lock().insert(key, format!("ErrImagePull: {error}"));
            Err(NoImage { reason: "ErrImagePull", message: error.to_string(), again: 10 })
        }
    }
}

/// Fetches an image, with each of the pod's credentials until one is taken.
async fn pull(shared: &Shared, pod: &Object, image: &str) -> Result<String, longshore_cri::Error> {
    let mut attempts: Vec<Option<AuthConfig>> =
        credentials::of(shared, pod, image).await.into_iter().map(Some).collect();
    if attempts.is_empty() {
        attempts.push(None);
    }
    let mut failure = None;
    for auth in attempts {
        let request =
            PullImageRequest { image: Some(image_spec(image)), auth, ..Default::default() };
        match shared.runtime.pull_image(request).await {
            Ok(answer) => return Ok(answer.image_ref),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.expect("there was an attempt"))
}

async fn inspect(shared: &Shared, image: &str) -> Option<Image> {
    let request = ImageStatusRequest { image: Some(image_spec(image)), ..Default::default() };
    let answer = shared.runtime.image_status(request).await;
    answer.ok().and_then(|a| a.image)
}

/// Milliseconds in Go's form, such as `1.5s`.
fn go_seconds(milliseconds: i128) -> String {
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let text = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

//! Images: present ones are used, missing ones are fetched, failures are not repeated too soon.
//!
//! upstream: pkg/kubelet/images/image_manager.go

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

/// The state of fetching.
#[derive(Default)]
pub(crate) struct Images {
    failures: Mutex<Backoff>,
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
) -> Result<String, NoImage> {
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
        let message = format!("Container image {shown:?} already present on machine");
        tell(Severity::Normal, "Pulled", &message);
        return Ok(found.id);
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
        let message = format!("Back-off pulling image {shown:?}");
        tell(Severity::Normal, "BackOff", &message);
        return Err(NoImage { reason: "ImagePullBackOff", message, again: left });
    }
    tell(Severity::Normal, "Pulling", &format!("Pulling image {shown:?}"));
    let request = PullImageRequest { image: Some(image_spec(&image)), ..Default::default() };
    match shared.runtime.pull_image(request).await {
        Ok(answer) => {
            tell(Severity::Normal, "Pulled", &format!("Successfully pulled image {shown:?}"));
            Ok(answer.image_ref)
        }
        Err(error) => {
            let text = format!("Failed to pull image {shown:?}: {error}");
            tell(Severity::Warning, "Failed", &text);
            tell(Severity::Warning, "Failed", "Error: ErrImagePull");
            Err(NoImage { reason: "ErrImagePull", message: error.to_string(), again: 10 })
        }
    }
}

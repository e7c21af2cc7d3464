//! From what pods use to how many there should be. Pure arithmetic.
//!
//! upstream: pkg/controller/podautoscaler/replica_calculator.go

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_resources::amounts::pod_amounts;
use serde_json::Value;

use crate::common::condition;

/// How long a pod may use more CPU than later, because it starts, in seconds.
const CPU_START_SECONDS: i64 = 300;
/// A pod that became unready within this many seconds of its start was never ready.
const FIRST_READY_SECONDS: i64 = 30;
/// Most replicas that a count may be.
const REPLICAS_MAX: f64 = i32::MAX as f64;

/// What one pod was measured at, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The end of the window.
    pub at: Option<Timestamp>,
    /// How long it was measured.
    pub window: SignedDuration,
    /// The value.
    pub value: i64,
}

/// Samples by the name of the pod.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How far a ratio may be from one before anything is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    /// Below one.
    pub down: f64,
    /// Above one.
    pub up: f64,
}

impl Tolerance {
    fn holds(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What is measured, and against what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// Pods that the target selects.
    pub pods: &'a [Arc<Object>],
    /// The resource; empty for metrics of another kind.
    pub resource: &'a str,
    /// One container, or empty for the whole pod.
    pub container: &'a str,
    /// The replicas that are wanted now.
    pub current: i64,
    /// Of the autoscaler.
    pub tolerance: Tolerance,
    /// Now.
    pub now: Timestamp,
}

/// A count and what it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proposal {
    /// How many replicas there should be.
    pub replicas: i64,
    /// The use in percent of what is asked for, where that is the target.
    pub utilization: i64,
    /// The use of each pod on average, in thousandths.
    pub average: i64,
}

struct Measured {
    ratio: f64,
    utilization: i64,
    average: i64,
}

impl Question<'_> {
    /// The count at which pods use `target` percent of what they ask for.
    pub fn by_utilization(&self, samples: Samples, target: i64) -> Result<Proposal, String> {
        let requests = self.requests();
        let measure = |samples: &Samples| {
            let requests = requests.as_ref().map_err(String::clone)?;
            utilization(samples, requests, target)
        };
        let fallback = target.max(100);
        self.answer(samples, measure, |pod| {
            let request = requests.as_ref().ok().and_then(|all| all.get(pod)).copied().unwrap_or(0);
            request.saturating_mul(fallback) / 100
        })
    }

    /// The count at which pods use `target` thousandths each.
    pub fn by_average(&self, samples: Samples, target: i64) -> Result<Proposal, String> {
        let measure = |samples: &Samples| {
            let average = total(samples.values().map(|sample| sample.value)) / count(samples.len());
            Ok(Measured { ratio: float(average) / float(target), utilization: 0, average })
        };
        self.answer(samples, measure, |_| target)
    }

    fn answer(
        &self,
        mut samples: Samples,
        measure: impl Fn(&Samples) -> Result<Measured, String>,
        if_missing: impl Fn(&str) -> i64,
    ) -> Result<Proposal, String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".into());
        }
        let groups = self.group(&samples);
        samples.retain(|pod, _| {
            !groups.ignored.contains(pod.as_str()) && !groups.unready.contains(pod.as_str())
        });
        if samples.is_empty() {
            let text = "did not receive metrics for targeted pods (pods might be unready)";
            return Err(text.into());
        }
        let Measured { ratio, utilization, average } = measure(&samples)?;
        let propose = |replicas| Proposal { replicas, utilization, average };
        let unready_matter = !groups.unready.is_empty() && ratio > 1.0;
        if !unready_matter && groups.missing.is_empty() {
            let same = self.tolerance.holds(ratio);
            let replicas = if same { self.current } else { ceil(ratio * float(groups.ready)) };
            return Ok(propose(replicas));
        }
        // Whoever is not known is taken for what changes the least.
        let guess = |value| Sample { at: None, window: SignedDuration::ZERO, value };
        for pod in &groups.missing {
            if ratio < 1.0 {
                samples.insert((*pod).to_owned(), guess(if_missing(pod)));
            } else if ratio > 1.0 {
                samples.insert((*pod).to_owned(), guess(0));
            }
        }
        if unready_matter {
            samples.extend(groups.unready.iter().map(|pod| ((*pod).to_owned(), guess(0))));
        }
        let again = measure(&samples)?.ratio;
        let turned = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
        if self.tolerance.holds(again) || turned {
            return Ok(propose(self.current));
        }
        let replicas = ceil(again * float(count(samples.len())));
        let turned =
            (again < 1.0 && replicas > self.current) || (again > 1.0 && replicas < self.current);
        Ok(propose(if turned { self.current } else { replicas }))
    }

    /// The count for a value of something else: in proportion to the pods that are ready, or from
    /// nothing as many as the ratio says.
    pub fn by_ratio(&self, ratio: f64) -> Result<i64, String> {
        if self.current == 0 {
            return Ok(ceil(ratio));
        }
        if self.tolerance.holds(ratio) {
            return Ok(self.current);
        }
        if self.pods.is_empty() {
            let text = "no pods returned by selector while calculating replica count";
            return Err(format!("unable to calculate ready pods: {text}"));
        }
        let ready = self.pods.iter().filter(|pod| {
            pod.str(&["status", "phase"]) == "Running" && crate::common::is_ready(pod)
        });
        Ok(ceil(ratio * float(count(ready.count()))))
    }

    fn group(&self, samples: &Samples) -> Groups<'_> {
        let mut groups = Groups::default();
        for pod in self.pods {
            let (name, phase) = (pod.name(), pod.str(&["status", "phase"]));
            if pod.is_deleting() || phase == "Failed" {
                groups.ignored.insert(name);
            } else if phase == "Pending" {
                groups.unready.insert(name);
            } else if let Some(sample) = samples.get(name) {
                if self.resource == "cpu" && self.starts(pod, sample) {
                    groups.unready.insert(name);
                } else {
                    groups.ready += 1;
                }
            } else {
                groups.missing.insert(name);
            }
        }
        groups
    }

    /// Whether what a pod was measured at may come from its start.
    fn starts(&self, pod: &Object, sample: &Sample) -> bool {
        let time = |text: &str| text.parse::<Timestamp>().ok();
        let Some(started) = time(pod.str(&["status", "startTime"])) else { return true };
        let Some(ready) = condition(pod, "Ready") else { return true };
        let is_unready = ready["status"] == "False";
        let since = ready["lastTransitionTime"].as_str().and_then(time);
        let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
        if started + SignedDuration::from_secs(CPU_START_SECONDS) > self.now {
            return is_unready || sample.at.is_none_or(|at| at < since + sample.window);
        }
        is_unready && started + SignedDuration::from_secs(FIRST_READY_SECONDS) > since
    }

    /// What each pod asks for, in thousandths.
    fn requests(&self) -> Result<BTreeMap<String, i64>, String> {
        let each = self.pods.iter().map(|pod| Ok((pod.name().to_owned(), self.request(pod)?)));
        each.collect()
    }

    fn request(&self, pod: &Object) -> Result<i64, String> {
        let (resource, name) = (self.resource, pod.name());
        let of_pod = pod.get(&["spec", "resources", "requests"]).and_then(Value::as_object);
        let of_pod = of_pod.is_some_and(|all| all.keys().any(|key| is_of_pods(key)));
        if self.container.is_empty() && of_pod {
            let amounts = pod_amounts(pod, "requests", true);
            let amount = amounts.get(resource);
            let missing = || format!("missing pod-level request for {resource} in Pod {name}");
            return amount.map(|amount| amount.milli_value()).ok_or_else(missing);
        }
        let sidecars = pod.list(&["spec", "initContainers"]).iter();
        let sidecars = sidecars.filter(|c| c["restartPolicy"] == "Always");
        let containers = pod.list(&["spec", "containers"]).iter().chain(sidecars);
        let (mut sum, mut found) = (0_i64, false);
        for container in containers {
            let own = container["name"].as_str().unwrap_or("");
            if !self.container.is_empty() && own != self.container {
                continue;
            }
            let amount = container["resources"]["requests"][resource].as_str();
            let amount = amount.and_then(|text| Quantity::parse(text).ok()).ok_or_else(|| {
                format!("missing request for {resource} in container {own} of Pod {name}")
            })?;
            sum = sum.saturating_add(amount.milli_value());
            found = true;
        }
        if !found && !self.container.is_empty() {
            return Err(format!("container {} not found in Pod {name}", self.container));
        }
        Ok(sum)
    }
}

/// Whether pods as a whole may ask for a resource.
fn is_of_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

#[derive(Default)]
struct Groups<'a> {
    ready: i64,
    unready: BTreeSet<&'a str>,
    missing: BTreeSet<&'a str>,
    ignored: BTreeSet<&'a str>,
}

/// upstream: pkg/controller/podautoscaler/metrics/utilization.go
fn utilization(
    samples: &Samples,
    requests: &BTreeMap<String, i64>,
    target: i64,
) -> Result<Measured, String> {
    let both = || samples.iter().filter_map(|(pod, s)| Some((s.value, *requests.get(pod)?)));
    let asked = total(both().map(|(_, request)| request));
    if asked == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    let used = total(both().map(|(value, _)| value));
    let percent = used.saturating_mul(100) / asked;
    Ok(Measured {
        ratio: float(percent) / float(target),
        utilization: percent,
        average: used / count(both().count()),
    })
}

/// A count for a value that all pods share: as many as it takes so that each has at most `target`.
pub(super) fn shared(value: i64, target: i64, replicas: i64, tolerance: Tolerance) -> (i64, i64) {
    let ratio = float(value) / (float(target) * float(replicas));
    let wanted = if tolerance.holds(ratio) { replicas } else { ceil(float(value) / float(target)) };
    let each = float(value) / float(replicas);
    (wanted, to_integer(each.ceil()))
}

/// The sum, as far as an integer goes.
pub(super) fn total(values: impl Iterator<Item = i64>) -> i64 {
    values.fold(0, i64::saturating_add)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Counts and thousandths are far below 2^53, where this begins to round.
#[expect(clippy::cast_precision_loss, reason = "the nearest number is good enough")]
pub(super) fn float(number: i64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, reason = "cut to the ends of the range")]
fn to_integer(number: f64) -> i64 {
    number as i64
}

/// Rounded up, at most [`REPLICAS_MAX`].
fn ceil(number: f64) -> i64 {
    to_integer(number.ceil().min(REPLICAS_MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// A pod that has run for long and asks for one CPU.
    fn pod(name: &str, phase: &str) -> Arc<Object> {
        let ready = if phase == "Running" { "True" } else { "False" };
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {
                "phase": phase, "startTime": time(NOW - 5000).to_string(),
                "conditions": [{"type": "Ready", "status": ready,
                    "lastTransitionTime": time(NOW - 4000).to_string()}],
            },
        });
        Arc::new(Object::from_value(pod).expect("an object"))
    }

    fn samples(values: &[(&str, i64)]) -> Samples {
        let window = SignedDuration::from_secs(60);
        let sample = |value| Sample { at: Some(time(NOW)), window, value };
        values.iter().map(|(pod, value)| ((*pod).to_owned(), sample(*value))).collect()
    }

    fn ask(pods: &[Arc<Object>], current: i64) -> Question<'_> {
        let tolerance = Tolerance { down: 0.1, up: 0.1 };
        Question { pods, resource: "cpu", container: "", current, tolerance, now: time(NOW) }
    }

    #[test]
    fn use_decides() {
        let pods = [pod("a", "Running"), pod("b", "Running")];
        for (used, replicas, utilization) in [(800, 4, 80), (420, 2, 42), (100, 1, 10)] {
            let used = samples(&[("a", used), ("b", used)]);
            let got = ask(&pods, 2).by_utilization(used, 40).expect("a count");
            assert_eq!((got.replicas, got.utilization), (replicas, utilization));
        }
        let average = ask(&pods, 2).by_average(samples(&[("a", 300), ("b", 900)]), 200);
        let wanted = Proposal { replicas: 6, utilization: 0, average: 600 };
        assert_eq!(average, Ok(wanted));
    }

    #[test]
    fn whoever_is_not_known_slows_the_change() {
        let pods = [pod("a", "Running"), pod("b", "Running"), pod("c", "Pending")];
        // Two pods at double the target would need four; the third is taken to use nothing.
        let up = ask(&pods, 3).by_utilization(samples(&[("a", 800), ("b", 800)]), 40);
        assert_eq!(up.expect("a count").replicas, 4);
        // A pod without a sample is taken to use all on the way down.
        let pods = [pod("a", "Running"), pod("b", "Running"), pod("c", "Running")];
        let down = ask(&pods, 3).by_utilization(samples(&[("a", 100), ("b", 100)]), 40);
        assert_eq!(down.expect("a count").replicas, 3);
        let down = ask(&pods, 3).by_average(samples(&[("a", 10), ("b", 10)]), 40);
        assert_eq!(down.expect("a count").replicas, 2);
        let failed = [pod("a", "Failed")];
        let error = ask(&failed, 1).by_average(samples(&[("a", 1)]), 1).expect_err("no pod");
        assert_eq!(error, "did not receive metrics for targeted pods (pods might be unready)");
    }

    #[test]
    fn a_pod_that_starts_does_not_count() {
        let mut young = Object::clone(&pod("a", "Running"));
        young.set(&["status", "startTime"], time(NOW - 60).to_string());
        let question = ask(&[], 1);
        let mut sample = samples(&[("a", 1)])["a"];
        let ready_since = |pod: &Object, second: i64| {
            let mut pod = pod.clone();
            let ready = json!([{"type": "Ready", "status": "True",
                "lastTransitionTime": time(second).to_string()}]);
            pod.set(&["status", "conditions"], ready);
            pod
        };
        assert!(question.starts(&ready_since(&young, NOW - 10), &sample));
        assert!(!question.starts(&ready_since(&young, NOW - 60), &sample));
        sample.window = SignedDuration::from_secs(90);
        assert!(question.starts(&ready_since(&young, NOW - 60), &sample));
        assert!(!question.starts(&pod("a", "Running"), &sample));
        assert!(!question.starts(&pod("a", "Unknown"), &sample));
        let mut never = Object::clone(&pod("a", "Unknown"));
        never.set(&["status", "startTime"], time(NOW - 4010).to_string());
        assert!(question.starts(&never, &sample));
    }

    #[test]
    fn requests_are_those_of_the_container_or_the_pod() {
        let mut own = Object::clone(&pod("a", "Running"));
        let mut question = ask(&[], 1);
        question.container = "other";
        assert_eq!(question.request(&own), Err("container other not found in Pod a".into()));
        question.container = "c";
        assert_eq!(question.request(&own), Ok(1000));
        question.resource = "memory";
        let missing = "missing request for memory in container c of Pod a".to_owned();
        assert_eq!(question.request(&own), Err(missing));
        own.set(&["spec", "resources"], json!({"requests": {"cpu": "3"}}));
        question.container = "";
        let missing = "missing pod-level request for memory in Pod a".to_owned();
        assert_eq!(question.request(&own), Err(missing));
        question.resource = "cpu";
        assert_eq!(question.request(&own), Ok(3000));
    }

    #[test]
    fn shared_values_are_split() {
        let tolerance = Tolerance { down: 0.1, up: 0.1 };
        assert_eq!(shared(10_000, 2_000, 3, tolerance), (5, 3334));
        assert_eq!(shared(6_100, 2_000, 3, tolerance), (3, 2034));
        let from_nothing = ask(&[], 0).by_ratio(2.5);
        assert_eq!(from_nothing, Ok(3));
        assert_eq!(shared(i64::MAX, 1, 1, tolerance).0, i64::from(i32::MAX));
    }
}

//! What one look at a job knows and decides.
//!
//! upstream: pkg/controller/job/job_controller.go syncJob, manageJob

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
use serde_json::{Value, json};

use super::policy::{self, Verdict};
use super::{FINALIZER, backoff, has, indexes, is_tracked, seconds};
use crate::common::{is_active, rfc3339};
use crate::pods;

/// The annotation that tells how often an index failed before this pod.
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The tracked ends that one look counts at most.
const UNCOUNTED_MAX: usize = 500;

/// One look at a job.
pub(super) struct State {
    pub(super) job: Arc<Object>,
    pub(super) now: Timestamp,
    pods: Vec<Arc<Object>>,
    pub(super) active: Vec<Arc<Object>>,
    pub(super) terminating: i64,
    /// Pods that were created just now.
    pub(super) created: i64,
    /// When to look again.
    pub(super) again: Option<Duration>,
    conditions: Vec<Value>,
    start: Option<String>,
    /// Counted ends.
    succeeded: i64,
    failed: i64,
    /// Uids that are noted and not counted yet.
    noted_succeeded: Vec<String>,
    noted_failed: Vec<String>,
    done: BTreeSet<i64>,
    failed_indexes: BTreeSet<i64>,
    /// `SuccessCriteriaMet` or `FailureTarget`: how the job ends.
    end: Option<Value>,
    /// Events to tell when the status is written.
    events: Vec<(&'static str, &'static str)>,
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn is_succeeded(pod: &Object) -> bool {
    pod.str(&["status", "phase"]) == "Succeeded"
}

/// How often the pod's index had failed before it was made.
fn failures_before(pod: &Object) -> i64 {
    pod.annotation(INDEX_FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn time_of(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// When a pod ended: with its last container, or when it was not ready any more, or when it was
/// deleted.
///
/// upstream: pkg/controller/job/backoff_utils.go getFinishedTime
fn end_time(pod: &Object) -> Option<i64> {
    let statuses = pod.list(&["status", "containerStatuses"]).iter();
    let ends = statuses.map(|s| time_of(s["state"]["terminated"]["finishedAt"].as_str()?));
    let last = ends.collect::<Option<Vec<i64>>>().and_then(|ends| ends.into_iter().max());
    let unready = || {
        let ready = crate::common::condition(pod, "Ready").filter(|c| c["status"] == "False")?;
        time_of(ready["lastTransitionTime"].as_str()?)
    };
    // The time of a deletion is that when patience ends.
    let deleted = || {
        let end = time_of(pod.str(&["metadata", "deletionTimestamp"]))?;
        Some(end - pod.int(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0))
    };
    let created = || time_of(pod.str(&["metadata", "creationTimestamp"]));
    last.or_else(unready).or_else(deleted).or_else(created)
}

impl State {
    pub(super) fn new(job: &Arc<Object>, pods: Vec<Arc<Object>>, now: Timestamp) -> Self {
        let count = |field: &str| job.int(&["status", field]).unwrap_or(0);
        let noted = |field: &str| texts(job.list(&["status", "uncountedTerminatedPods", field]));
        let terminal = |p: &Object| matches!(p.str(&["status", "phase"]), "Succeeded" | "Failed");
        let terminating = pods.iter().filter(|p| p.is_deleting() && !terminal(p)).count();
        let start = job.str(&["status", "startTime"]);
        let mut state = Self {
            job: job.clone(),
            now,
            active: pods.iter().filter(|pod| is_active(pod)).cloned().collect(),
            terminating: i64::try_from(terminating).unwrap_or(0),
            pods,
            created: 0,
            again: None,
            conditions: job.list(&["status", "conditions"]).to_vec(),
            start: (!start.is_empty()).then(|| start.to_owned()),
            succeeded: count("succeeded"),
            failed: count("failed"),
            noted_succeeded: noted("succeeded"),
            noted_failed: noted("failed"),
            done: BTreeSet::new(),
            failed_indexes: BTreeSet::new(),
            end: None,
            events: Vec::new(),
        };
        // What was noted before and has lost its finalizer was not counted yet: count it now.
        let open = state.pods.iter().filter(|pod| is_tracked(pod));
        let open = open.map(|pod| pod.uid().to_owned()).collect();
        state.count_noted(&open);
        if state.indexed() {
            state.look_at_indexes();
        }
        state
    }

    fn spec(&self, field: &str) -> Option<i64> {
        self.job.int(&["spec", field])
    }

    fn indexed(&self) -> bool {
        self.job.str(&["spec", "completionMode"]) == "Indexed"
    }

    fn suspended(&self) -> bool {
        self.job.bool(&["spec", "suspend"])
    }

    fn only_failed_replaced(&self) -> bool {
        self.job.str(&["spec", "podReplacementPolicy"]) == "Failed"
    }

    /// A pod that is being deleted counts as failed, unless only failed pods are replaced.
    fn is_failed(&self, pod: &Object) -> bool {
        let phase = pod.str(&["status", "phase"]);
        phase == "Failed"
            || (!self.only_failed_replaced() && pod.is_deleting() && phase != "Succeeded")
    }

    fn look_at_indexes(&mut self) {
        let completions = self.spec("completions").unwrap_or(0);
        let text = |field: &str| self.job.str(&["status", field]).to_owned();
        self.done = indexes::parse(&text("completedIndexes"), completions);
        self.failed_indexes = indexes::parse(&text("failedIndexes"), completions);
        let Some(limit) = self.spec("backoffLimitPerIndex") else {
            self.note_done(completions);
            return;
        };
        // Those without the finalizer have been counted, as what they were then.
        let failed = self.pods.iter().filter(|pod| is_tracked(pod) && self.is_failed(pod));
        let lost = failed.filter(|pod| match policy::judge(&self.job, pod) {
            Verdict::FailIndex => true,
            Verdict::Ignore => false,
            _ => failures_before(pod) >= limit,
        });
        let lost: Vec<i64> = lost.filter_map(|pod| indexes::of(pod)).collect();
        self.failed_indexes.extend(lost.into_iter().filter(|index| *index < completions));
        self.note_done(completions);
    }

    fn note_done(&mut self, completions: i64) {
        let new = self.pods.iter().filter(|pod| is_tracked(pod) && is_succeeded(pod));
        let done = new.filter_map(|pod| indexes::of(pod));
        self.done.extend(done.filter(|index| *index < completions));
        self.failed_indexes.retain(|index| !self.done.contains(index));
    }

    fn failures_by_index(&self) -> BTreeMap<i64, i64> {
        let mut failures = BTreeMap::new();
        for pod in self.pods.iter().filter(|pod| self.is_failed(pod)) {
            if policy::judge(&self.job, pod) == Verdict::Ignore {
                continue;
            }
            let Some(index) = indexes::of(pod) else { continue };
            let count = failures.entry(index).or_insert(0);
            *count = (*count).max(failures_before(pod) + 1);
        }
        failures
    }

    /// Ends so far, with those that are not counted yet.
    fn total_succeeded(&self) -> i64 {
        if self.indexed() {
            return i64::try_from(self.done.len()).unwrap_or(i64::MAX);
        }
        let new = self.pods.iter().filter(|pod| is_tracked(pod) && is_succeeded(pod));
        let new =
            new.filter(|pod| !self.noted_succeeded.iter().any(|uid| uid == pod.uid())).count();
        let noted = self.noted_succeeded.len();
        self.succeeded + i64::try_from(new + noted).unwrap_or(0)
    }

    fn total_failed(&self) -> i64 {
        let new = self.pods.iter().filter(|pod| is_tracked(pod) && self.is_failed(pod));
        let new = new
            .filter(|pod| !self.noted_failed.iter().any(|uid| uid == pod.uid()))
            .filter(|pod| policy::judge(&self.job, pod) != Verdict::Ignore)
            .count();
        self.failed + i64::try_from(new + self.noted_failed.len()).unwrap_or(0)
    }

    fn condition(&self, kind: &str, reason: &str, message: &str) -> Value {
        let now = rfc3339(self.now);
        json!({ "type": kind, "status": "True", "reason": reason, "message": message,
            "lastProbeTime": now, "lastTransitionTime": now })
    }

    /// Decides whether the job has failed or met its success policy.
    pub(super) fn decide(&mut self) {
        if self.start.is_none() && !self.suspended() {
            self.start = Some(rfc3339(self.now));
        }
        let present = |kind: &str| {
            has(&self.job, kind)
                .then(|| self.conditions.iter().find(|c| c["type"] == kind).cloned())
                .flatten()
        };
        self.end = present("SuccessCriteriaMet").or_else(|| present("FailureTarget"));
        if self.end.is_none() {
            let found = self.failure();
            self.end =
                found.map(|(reason, message)| self.condition("FailureTarget", reason, &message));
        }
        if self.end.is_none() {
            let found = self.success_rule();
            self.end = found.map(|at| {
                let message = format!("Matched rules at index {at}");
                self.condition("SuccessCriteriaMet", "SuccessPolicy", &message)
            });
        }
        self.note_suspension();
    }

    fn failure(&mut self) -> Option<(&'static str, String)> {
        for pod in self.pods.iter().filter(|pod| self.is_failed(pod)) {
            if let Verdict::FailJob(message) = policy::judge(&self.job, pod) {
                return Some(("PodFailurePolicy", message));
            }
        }
        let per_index = self.spec("backoffLimitPerIndex").is_some();
        let limit = self.spec("backoffLimit").unwrap_or(if per_index { i64::MAX } else { 6 });
        if self.total_failed() > limit || self.too_many_restarts(limit) {
            let text = "Job has reached the specified backoff limit";
            return Some(("BackoffLimitExceeded", text.to_owned()));
        }
        if self.past_deadline() {
            let text = "Job was active longer than specified deadline";
            return Some(("DeadlineExceeded", text.to_owned()));
        }
        if !per_index || !self.indexed() {
            return None;
        }
        let failed = i64::try_from(self.failed_indexes.len()).unwrap_or(i64::MAX);
        if self.spec("maxFailedIndexes").is_some_and(|most| failed > most) {
            let text = "Job has exceeded the specified maximal number of failed indexes";
            return Some(("MaxFailedIndexesExceeded", text.to_owned()));
        }
        let all = self.spec("completions").unwrap_or(0);
        (failed > 0 && failed + self.total_succeeded() >= all)
            .then(|| ("FailedIndexes", "Job has failed indexes".to_owned()))
    }

    fn too_many_restarts(&self, limit: i64) -> bool {
        if self.job.str(&["spec", "template", "spec", "restartPolicy"]) != "OnFailure" {
            return false;
        }
        let running = self
            .pods
            .iter()
            .filter(|pod| matches!(pod.str(&["status", "phase"]), "Running" | "Pending"));
        let lists = [["status", "initContainerStatuses"], ["status", "containerStatuses"]];
        let restarts: i64 = running
            .flat_map(|pod| lists.iter().flat_map(|path| pod.list(path)))
            .filter_map(|status| status["restartCount"].as_i64())
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn past_deadline(&mut self) -> bool {
        let start = self.start.as_deref().and_then(time_of);
        let (Some(allowed), Some(start)) = (self.spec("activeDeadlineSeconds"), start) else {
            return false;
        };
        let left = start + allowed - self.now.as_second();
        if self.suspended() {
            return false;
        }
        if left > 0 {
            self.look_again(left);
        }
        left <= 0
    }

    fn look_again(&mut self, after: i64) {
        self.again = [self.again, seconds(after)].into_iter().flatten().min();
    }

    fn success_rule(&self) -> Option<usize> {
        if !self.indexed() {
            return None;
        }
        let completions = self.spec("completions").unwrap_or(0);
        self.job.list(&["spec", "successPolicy", "rules"]).iter().position(|rule| {
            let done = match rule["succeededIndexes"].as_str() {
                Some(text) => {
                    let wanted = indexes::parse(text, completions);
                    let done = wanted.intersection(&self.done).count();
                    if rule["succeededCount"].is_null() {
                        return done == wanted.len();
                    }
                    done
                }
                None => self.done.len(),
            };
            rule["succeededCount"].as_u64().is_some_and(|n| done as u64 >= n)
        })
    }

    fn note_suspension(&mut self) {
        if self.end.is_some() {
            return;
        }
        let at = self.conditions.iter().position(|c| c["type"] == "Suspended");
        let is = at.is_some_and(|at| self.conditions[at]["status"] == "True");
        if self.suspended() == is {
            return;
        }
        let mut condition = if self.suspended() {
            self.events.push(("Suspended", "Job suspended"));
            self.start = None;
            self.condition("Suspended", "JobSuspended", "Job suspended")
        } else {
            self.events.push(("Resumed", "Job resumed"));
            self.start = Some(rfc3339(self.now));
            self.condition("Suspended", "JobResumed", "Job resumed")
        };
        condition["status"] = if self.suspended() { "True".into() } else { "False".into() };
        match at {
            Some(at) => self.conditions[at] = condition,
            None => self.conditions.push(condition),
        }
    }

    /// How many pods should be active.
    fn wanted(&self) -> i64 {
        let active = i64::try_from(self.active.len()).unwrap_or(0);
        let parallelism = self.spec("parallelism").unwrap_or(1);
        match self.spec("completions") {
            None if self.total_succeeded() > 0 => active,
            None => parallelism,
            Some(all) => {
                let failed = i64::try_from(self.failed_indexes.len()).unwrap_or(0);
                (all - self.total_succeeded() - failed).clamp(0, parallelism)
            }
        }
    }

    /// The active pods that have to go.
    pub(super) fn surplus(&self) -> Vec<Arc<Object>> {
        if self.end.is_some() || self.suspended() {
            return self.active.clone();
        }
        if self.job.is_deleting() {
            return Vec::new();
        }
        let mut surplus = Vec::new();
        let mut kept = self.active.clone();
        kept.sort_by_key(|pod| {
            let running = pod.str(&["status", "phase"]) == "Running";
            (!crate::common::is_ready(pod), !running, pod.name().to_owned())
        });
        if self.indexed() {
            let completions = self.spec("completions").unwrap_or(0);
            let mut taken = BTreeSet::new();
            kept.retain(|pod| {
                let useful = indexes::of(pod).is_some_and(|index| {
                    let open = !self.done.contains(&index) && !self.failed_indexes.contains(&index);
                    index < completions && open && taken.insert(index)
                });
                if !useful {
                    surplus.push(pod.clone());
                }
                useful
            });
        }
        let wanted = usize::try_from(self.wanted()).unwrap_or(0);
        surplus.extend(kept.into_iter().skip(wanted));
        surplus
    }

    /// The pods to create now.
    pub(super) fn missing(&mut self, most: usize) -> Vec<Object> {
        if self.end.is_some() || self.suspended() || self.job.is_deleting() {
            return Vec::new();
        }
        let active = i64::try_from(self.active.len()).unwrap_or(0);
        let terminating = if self.only_failed_replaced() { self.terminating } else { 0 };
        let count = usize::try_from(self.wanted() - active - terminating).unwrap_or(0).min(most);
        if count == 0 {
            return Vec::new();
        }
        let per_index = self.spec("backoffLimitPerIndex").is_some();
        let pause = if per_index { 0 } else { self.pause(None) };
        if pause > 0 {
            self.look_again(pause);
            return Vec::new();
        }
        if !self.indexed() {
            return (0..count).map(|_| self.pod(None)).collect();
        }
        let mut open = Vec::new();
        for index in self.open_indexes(count) {
            let pause = if per_index { self.pause(Some(index)) } else { 0 };
            if pause > 0 {
                self.look_again(pause);
            } else {
                open.push(index);
            }
        }
        open.into_iter().map(|index| self.pod(Some(index))).collect()
    }

    fn open_indexes(&self, count: usize) -> Vec<i64> {
        let busy = |pod: &Arc<Object>| {
            is_active(pod) || (self.only_failed_replaced() && pod.is_deleting())
        };
        let taken: BTreeSet<i64> =
            self.pods.iter().filter(|p| busy(p)).filter_map(|p| indexes::of(p)).collect();
        let all = 0..self.spec("completions").unwrap_or(0);
        let open = all.filter(|index| {
            !taken.contains(index)
                && !self.done.contains(index)
                && !self.failed_indexes.contains(index)
        });
        open.take(count).collect()
    }

    /// The seconds until a pod may follow those that failed since the last success.
    fn pause(&self, index: Option<i64>) -> i64 {
        let of_index = |pod: &&Arc<Object>| index.is_none() || indexes::of(pod) == index;
        let pods = || self.pods.iter().filter(of_index);
        let success = pods().filter(|p| is_succeeded(p)).filter_map(|p| end_time(p)).max();
        let failures: Vec<i64> = pods()
            .filter(|pod| self.is_failed(pod))
            .filter_map(|pod| end_time(pod))
            .filter(|at| success.is_none_or(|success| *at > success))
            .collect();
        let Some(last) = failures.iter().max() else { return 0 };
        (last + backoff(failures.len()) - self.now.as_second()).max(0)
    }

    fn pod(&self, index: Option<i64>) -> Object {
        let empty = Value::Null;
        let template = self.job.get(&["spec", "template"]).unwrap_or(&empty);
        let mut pod = pods::from_template(&self.job, template);
        let mut finalizers = pod.list(&["metadata", "finalizers"]).to_vec();
        finalizers.push(FINALIZER.into());
        pod.set(&["metadata", "finalizers"], finalizers);
        let Some(index) = index else { return pod };
        let text = index.to_string();
        pod.set(&["metadata", "generateName"], format!("{}-{text}-", self.job.name()));
        pod.set(&["metadata", "labels", indexes::INDEX], text.as_str());
        pod.set(&["metadata", "annotations", indexes::INDEX], text.as_str());
        if self.spec("backoffLimitPerIndex").is_some() {
            let failures = self.failures_by_index().get(&index).copied().unwrap_or(0);
            pod.set(&["metadata", "annotations", INDEX_FAILURES], failures.to_string());
        }
        pod.set(&["spec", "hostname"], format!("{}-{text}", self.job.name()));
        for list in ["initContainers", "containers"] {
            let Some(containers) = pod.get_mut(&["spec", list]).and_then(Value::as_array_mut)
            else {
                continue;
            };
            containers.iter_mut().for_each(tell_index);
        }
        pod
    }

    /// Notes the pods that ended; gives them, to be released.
    pub(super) fn note_ended(&mut self) -> Vec<Arc<Object>> {
        self.succeed_if_complete();
        let mut ended = Vec::new();
        for pod in self.pods.clone() {
            if !is_tracked(&pod) || ended.len() >= UNCOUNTED_MAX {
                continue;
            }
            let (good, mut bad) = (is_succeeded(&pod), self.is_failed(&pod));
            if !good && !bad && !self.job.is_deleting() && self.end.is_none() {
                continue;
            }
            // When the job has failed, so have all pods that are left.
            bad |= self.end.as_ref().is_some_and(|end| end["type"] != "SuccessCriteriaMet");
            let completions = self.spec("completions").unwrap_or(0);
            let outside =
                self.indexed() && indexes::of(&pod).is_none_or(|index| index >= completions);
            let uid = pod.uid().to_owned();
            if good && !self.indexed() && !self.noted_succeeded.contains(&uid) {
                self.noted_succeeded.push(uid);
            } else if bad
                && !good
                && !outside
                && !self.noted_failed.contains(&uid)
                && policy::judge(&self.job, &pod) != Verdict::Ignore
            {
                self.noted_failed.push(uid);
            }
            ended.push(pod);
        }
        ended
    }

    fn succeed_if_complete(&mut self) {
        let active = i64::try_from(self.active.len()).unwrap_or(0) + self.created;
        if self.end.is_some() || active > 0 {
            return;
        }
        let complete = match self.spec("completions") {
            None => self.total_succeeded() > 0,
            Some(all) => self.total_succeeded() >= all,
        };
        if complete {
            let text = "Reached expected number of succeeded pods";
            self.end = Some(self.condition("SuccessCriteriaMet", "CompletionsReached", text));
        }
    }

    /// Whether pods are noted that have not been counted.
    pub(super) fn has_uncounted(&self) -> bool {
        !self.noted_succeeded.is_empty() || !self.noted_failed.is_empty()
    }

    /// Counts what was noted, except the pods that still are `open`.
    pub(super) fn count_noted(&mut self, open: &BTreeSet<String>) {
        let count = |list: &mut Vec<String>| {
            let before = list.len();
            list.retain(|uid| open.contains(uid));
            i64::try_from(before - list.len()).unwrap_or(0)
        };
        self.succeeded += count(&mut self.noted_succeeded);
        self.failed += count(&mut self.noted_failed);
    }
}

/// Gives a container its index in the environment.
fn tell_index(container: &mut Value) {
    let name = "JOB_COMPLETION_INDEX";
    let variable = json!({ "name": name, "valueFrom": { "fieldRef": {
        "fieldPath": format!("metadata.labels['{}']", indexes::INDEX),
    }}});
    let Some(fields) = container.as_object_mut() else { return };
    let env = fields.entry("env").or_insert_with(|| json!([]));
    let Some(env) = env.as_array_mut() else { return };
    if env.iter().all(|v| v["name"] != name) {
        env.push(variable);
    }
}

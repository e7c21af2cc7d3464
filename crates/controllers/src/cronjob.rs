//! CronJobs: a job at each time of a schedule.
//!
//! upstream: pkg/controller/cronjob/cronjob_controllerv2.go

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use longshore_api::Object;
use longshore_client::recorder::Severity;
use longshore_client::resource::{CRON_JOBS, JOBS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::common::{Key, condition, controller_ref, follow, follow_owned, gone_is_fine, rfc3339};
use crate::{Context, job, pods};
use schedule::Schedule;

/// Workers side by side.
const WORKERS: usize = 2;
/// Missed times that are worth a warning.
///
/// upstream: pkg/controller/cronjob/utils.go mostRecentScheduleTime
const MISSED_MANY: usize = 100;
/// A little more than the time until the next start, so that it has surely come.
const LATE: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Controller {
    ctx: Context,
    crons: Informer,
    jobs: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (crons, jobs) = (ctx.caches.get(CRON_JOBS), ctx.caches.get(JOBS));
    follow(&crons, &queue);
    follow_owned(&jobs, "CronJob", &queue);
    let controller = Controller { ctx, crons, jobs };
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("cronjob-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

fn time_at(object: &Object, path: &[&str]) -> Option<Timestamp> {
    object.str(path).parse().ok()
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        self.crons.synced().await;
        self.jobs.synced().await;
        let Some(cron) = self.crons.get(&namespace, &name) else { return Ok(None) };
        let jobs = self.jobs.owned_by(cron.uid());
        let mut status = cron.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
        self.look_at_jobs(&cron, &jobs, &mut status);
        let outcome =
            if cron.is_deleting() { Ok(None) } else { self.start_job(&cron, &mut status).await };
        if status["active"].as_array().is_none_or(Vec::is_empty)
            && let Some(fields) = status.as_object_mut()
        {
            fields.remove("active");
        }
        pods::write_status(&self.ctx, &self.crons, CRON_JOBS, &cron, status).await?;
        let again = outcome?;
        self.forget_jobs(&cron, &jobs).await?;
        Ok(again)
    }

    fn tell(&self, cron: &Object, severity: Severity, reason: &str, message: &str) {
        self.ctx.recorder.event(cron, severity, reason, message);
    }

    /// Takes finished and vanished jobs from the list of active ones.
    fn look_at_jobs(&self, cron: &Object, jobs: &[Arc<Object>], status: &mut Value) {
        let mut active = status["active"].as_array().cloned().unwrap_or_default();
        for job in jobs {
            let listed = active.iter().position(|reference| reference["uid"] == job.uid());
            if !job::is_finished(job) {
                if listed.is_none() {
                    let text = format!(
                        "Saw a job that the controller did not create or forgot: {}",
                        job.name()
                    );
                    self.tell(cron, Severity::Warning, "UnexpectedJob", &text);
                }
                continue;
            }
            if let Some(at) = listed {
                active.remove(at);
                let end = if has_failed(job) { "Failed" } else { "Complete" };
                let text = format!("Saw completed job: {}, condition: {end}", job.name());
                self.tell(cron, Severity::Normal, "SawCompletedJob", &text);
            }
            let ended = job.str(&["status", "completionTime"]);
            let known = status["lastSuccessfulTime"].as_str().unwrap_or("");
            if !has_failed(job) && !ended.is_empty() && known < ended {
                status["lastSuccessfulTime"] = ended.into();
            }
        }
        active.retain(|reference| {
            let there = jobs.iter().any(|job| reference["uid"] == job.uid());
            if !there {
                let name = reference["name"].as_str().unwrap_or("");
                let text = format!("Active job went missing: {name}");
                self.tell(cron, Severity::Normal, "MissingJob", &text);
            }
            there
        });
        status["active"] = active.into();
    }

    fn schedule(&self, cron: &Object) -> Option<Schedule> {
        let name = cron.str(&["spec", "timeZone"]);
        let zone = match name {
            "" | "UTC" | "Etc/UTC" => TimeZone::UTC,
            _ => match TimeZone::get(name) {
                Ok(zone) => zone,
                Err(error) => {
                    let text = format!("invalid timeZone: {name:?}: {error}");
                    self.tell(cron, Severity::Warning, "UnknownTimeZone", &text);
                    return None;
                }
            },
        };
        if cron.bool(&["spec", "suspend"]) {
            return None;
        }
        let text = cron.str(&["spec", "schedule"]);
        match Schedule::parse(text, zone) {
            Ok(schedule) => Some(schedule),
            Err(error) => {
                let text = format!("unparseable schedule: {text:?} : {error}");
                self.tell(cron, Severity::Warning, "UnparseableSchedule", &text);
                None
            }
        }
    }

    /// Starts the job whose time has come; gives the time until the next.
    async fn start_job(
        &self,
        cron: &Object,
        status: &mut Value,
    ) -> Result<Option<Duration>, Error> {
        let Some(schedule) = self.schedule(cron) else { return Ok(None) };
        let now = self.ctx.clock.now();
        let again = schedule.next(now).map(|next| {
            let wait = next.duration_since(now);
            Duration::try_from(wait).unwrap_or_default() + LATE
        });
        let Some(at) = self.due(cron, &schedule, now) else { return Ok(again) };
        let deadline = cron.int(&["spec", "startingDeadlineSeconds"]);
        if deadline.is_some_and(|most| now.as_second() - at.as_second() > most) {
            let when = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let text = format!("Missed scheduled time to start a job: {when}");
            self.tell(cron, Severity::Warning, "MissSchedule", &text);
            return Ok(again);
        }
        let name = format!("{}-{}", cron.name(), at.as_second() / 60);
        let active = status["active"].as_array().cloned().unwrap_or_default();
        let processed = time_at(cron, &["status", "lastScheduleTime"]) == Some(at);
        if processed || active.iter().any(|reference| reference["name"] == *name) {
            return Ok(again);
        }
        match cron.str(&["spec", "concurrencyPolicy"]) {
            "Forbid" if !active.is_empty() => {
                let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.tell(cron, Severity::Normal, "JobAlreadyActive", text);
                return Ok(again);
            }
            "Replace" => {
                for reference in &active {
                    let name = reference["name"].as_str().unwrap_or("");
                    self.delete_job(cron, name).await?;
                }
                status["active"] = json!([]);
            }
            _ => {}
        }
        if let Some(job) = self.create_job(cron, &name, at).await? {
            let mut reference = longshore_client::recorder::reference(&job);
            reference["namespace"] = job.namespace().into();
            if let Some(active) = status["active"].as_array_mut() {
                active.push(reference);
            }
            status["lastScheduleTime"] = rfc3339(at).into();
        }
        Ok(again)
    }

    /// The last time that has passed and was not used.
    fn due(&self, cron: &Object, schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
        let mut earliest = time_at(cron, &["metadata", "creationTimestamp"])?;
        if let Some(last) = time_at(cron, &["status", "lastScheduleTime"]) {
            earliest = last;
        }
        if let Some(deadline) = cron.int(&["spec", "startingDeadlineSeconds"]) {
            let bound = now.checked_sub(jiff::SignedDuration::from_secs(deadline)).ok()?;
            earliest = earliest.max(bound);
        }
        let (at, many) = schedule.last(earliest, now, MISSED_MANY);
        if many {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell(cron, Severity::Warning, "TooManyMissedTimes", text);
        }
        at
    }

    async fn create_job(
        &self,
        cron: &Object,
        name: &str,
        at: Timestamp,
    ) -> Result<Option<Object>, Error> {
        let empty = Value::Null;
        let template = cron.get(&["spec", "jobTemplate"]).unwrap_or(&empty);
        let mut metadata = json!({
            "name": name, "namespace": cron.namespace(),
            "labels": template["metadata"].get("labels").cloned().unwrap_or_else(|| json!({})),
            "annotations":
                template["metadata"].get("annotations").cloned().unwrap_or_else(|| json!({})),
            "ownerReferences": [controller_ref(cron)],
        });
        metadata["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] =
            scheduled(at, cron.str(&["spec", "timeZone"])).into();
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": template["spec"],
        });
        match self.ctx.client.create(JOBS, &job).await {
            Ok(job) => {
                self.jobs.wait_for(&job).await;
                let text = format!("Created job {}", job.name());
                self.tell(cron, Severity::Normal, "SuccessfulCreate", &text);
                Ok(Some(job))
            }
            Err(error) if error.is_already_exists() => {
                let there = self.ctx.client.find(JOBS, cron.namespace(), name).await?;
                let owner = |job: &Object| {
                    longshore_client::informer::controller_uid(job) == Some(cron.uid())
                };
                Ok(there.filter(owner))
            }
            Err(error) if error.is_namespace_terminating() => Ok(None),
            Err(error) => {
                let text = format!("Error creating job: {error}");
                self.tell(cron, Severity::Warning, "FailedCreate", &text);
                Err(error)
            }
        }
    }

    async fn delete_job(&self, cron: &Object, name: &str) -> Result<(), Error> {
        let options = json!({ "propagationPolicy": "Background" });
        let gone = self.ctx.client.delete(JOBS, cron.namespace(), name, options).await;
        if gone_is_fine(gone)?.is_some() {
            let text = format!("Deleted job {name}");
            self.tell(cron, Severity::Normal, "SuccessfulDelete", &text);
        }
        Ok(())
    }

    /// Deletes the oldest finished jobs beyond the history limits.
    async fn forget_jobs(&self, cron: &Object, jobs: &[Arc<Object>]) -> Result<(), Error> {
        for (failed, field) in
            [(false, "successfulJobsHistoryLimit"), (true, "failedJobsHistoryLimit")]
        {
            let Some(limit) = cron.int(&["spec", field]) else { continue };
            let ended = jobs.iter().filter(|job| job::is_finished(job) && !job.is_deleting());
            let mut ended: Vec<_> = ended.filter(|job| has_failed(job) == failed).collect();
            ended.sort_by_key(|job| {
                (job.str(&["status", "startTime"]).to_owned(), job.name().to_owned())
            });
            let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in &ended[..surplus] {
                self.delete_job(cron, job.name()).await?;
            }
        }
        Ok(())
    }
}

fn has_failed(job: &Object) -> bool {
    condition(job, "Failed").is_some_and(|c| c["status"] == "True")
}

/// A time as a clock in its zone tells it.
fn scheduled(at: Timestamp, zone: &str) -> String {
    match TimeZone::get(zone) {
        Ok(zone) if zone != TimeZone::UTC => {
            at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        }
        _ => rfc3339(at),
    }
}

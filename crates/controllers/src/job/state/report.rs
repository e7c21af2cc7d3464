//! What a look at a job reports: its status, its end, its events.

use longshore_client::EventRecorder;
use serde_json::{Value, json};

use super::super::{indexes, ready_count, severity_of};
use super::State;

impl State {
    /// Adds the condition that says how the job will end; whether it is new.
    pub(in crate::job) fn interim_condition(&mut self) -> bool {
        let Some(end) = &self.end else { return false };
        if self.conditions.iter().any(|c| c["type"] == end["type"]) {
            return false;
        }
        self.conditions.push(end.clone());
        true
    }

    /// Adds the last condition when everything has been counted and every pod is gone.
    pub(in crate::job) fn finish(&mut self) -> bool {
        let Some(end) = &self.end else { return false };
        if self.has_uncounted() || self.terminating > 0 || !self.active.is_empty() {
            return false;
        }
        let good = end["type"] == "SuccessCriteriaMet";
        let text = |key: &str| end[key].as_str().unwrap_or("").to_owned();
        let kind = if good { "Complete" } else { "Failed" };
        let last = self.condition(kind, &text("reason"), &text("message"));
        self.conditions.push(last);
        true
    }

    /// The status as it is now.
    pub(in crate::job) fn status(&self) -> Value {
        let active = i64::try_from(self.active.len()).unwrap_or(0) + self.created;
        let succeeded = if self.indexed() { self.total_succeeded() } else { self.succeeded };
        let mut status = json!({
            "ready": ready_count(&self.active), "terminating": self.terminating,
        });
        for (field, count) in
            [("active", active), ("succeeded", succeeded), ("failed", self.failed)]
        {
            if count != 0 {
                status[field] = count.into();
            }
        }
        let mut noted = json!({});
        for (field, uids) in [("succeeded", &self.noted_succeeded), ("failed", &self.noted_failed)]
        {
            if !uids.is_empty() {
                noted[field] = uids.clone().into();
            }
        }
        status["uncountedTerminatedPods"] = noted;
        if let Some(start) = &self.start {
            status["startTime"] = start.as_str().into();
        }
        if !self.conditions.is_empty() {
            status["conditions"] = self.conditions.clone().into();
        }
        if let Some(done) = self.conditions.iter().find(|c| c["type"] == "Complete") {
            status["completionTime"] = done["lastTransitionTime"].clone();
        }
        if self.indexed() {
            if !self.done.is_empty() {
                status["completedIndexes"] = indexes::print(&self.done).into();
            }
            if self.spec("backoffLimitPerIndex").is_some() {
                status["failedIndexes"] = indexes::print(&self.failed_indexes).into();
            }
        }
        status
    }

    /// Tells what happened.
    pub(in crate::job) fn tell(&self, recorder: &EventRecorder, finished: bool) {
        for (reason, message) in &self.events {
            recorder.event(&self.job, severity_of(""), reason, message);
        }
        let Some(last) = self.conditions.last().filter(|_| finished) else { return };
        if last["type"] == "Complete" {
            recorder.event(&self.job, severity_of("Complete"), "Completed", "Job completed");
        } else {
            let text = |key: &str| last[key].as_str().unwrap_or("").to_owned();
            recorder.event(&self.job, severity_of("Failed"), &text("reason"), &text("message"));
        }
    }
}

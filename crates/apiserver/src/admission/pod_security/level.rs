//! Levels, versions and the labels that choose them.
//!
//! upstream: staging/src/k8s.io/pod-security-admission/api/helpers.go

use std::fmt;

use longshore_api::Object;
use longshore_api::field::{Error, Path};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict a policy is; stricter ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level at a version of the standards: the minor version of 1.x; `None` is the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub level: Level,
    pub version: Option<u32>,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

/// What a namespace asks for. Audit annotations are not kept, so `audit` only matters for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policies {
    pub enforce: Policy,
    pub audit: Policy,
    pub warn: Policy,
}

impl Policies {
    pub(super) fn all_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|p| p.level == Level::Privileged)
    }
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

/// `latest` or `v1.x`, without leading zeros.
fn version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok().map(Some) } else { None }
}

/// The policies that the labels of a namespace ask for, and what is wrong with the labels.
///
/// A broken label enforces the strictest level, and neither audits nor warns.
pub(super) fn policies(namespace: &Object) -> (Policies, Vec<Error>) {
    let mut errors = Vec::new();
    let labels = Path::new("metadata").child("labels");
    let mut read = |mode: &str, broken: Level| {
        let mut policy = Policy { level: Level::Privileged, version: None };
        let (mut has_level, mut has_version) = (None, false);
        if let Some(text) = namespace.label(&format!("{PREFIX}{mode}")) {
            has_level = Some(level(text).is_some());
            policy.level = level(text).unwrap_or(broken);
            if level(text).is_none() {
                let path = labels.key(&format!("{PREFIX}{mode}"));
                let detail = "must be one of privileged, baseline, restricted";
                errors.push(Error::invalid(&path, text, detail));
            }
        }
        if let Some(text) = namespace.label(&format!("{PREFIX}{mode}-version")) {
            has_version = true;
            policy.version = version(text).unwrap_or(None);
            if version(text).is_none() {
                let path = labels.key(&format!("{PREFIX}{mode}-version"));
                errors.push(Error::invalid(&path, text, "must be \"latest\" or \"v1.x\""));
            }
        }
        (policy, has_level, has_version)
    };
    let (enforce, enforce_level, _) = read("enforce", Level::Restricted);
    let (audit, ..) = read("audit", Level::Privileged);
    let (mut warn, warn_level, warn_version) = read("warn", Level::Privileged);
    // Who enforces is warned too, unless the labels say otherwise.
    if warn_level.is_none() && enforce_level == Some(true) && enforce.level > warn.level {
        warn.level = enforce.level;
        if !warn_version {
            warn.version = enforce.version;
        }
    }
    (Policies { enforce, audit, warn }, errors)
}

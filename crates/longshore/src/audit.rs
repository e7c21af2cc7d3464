//! The settings of the audit log, under upstream's names.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/server/options/audit.go

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use longshore_apiserver::audit::{
    Audit, Batch, Format, Log, Mode, Output, Policy, Rotation, Truncate, Way, Webhook,
};
use longshore_apiserver::outbound::{Address, Target, Tls};
use longshore_base::SystemClock;
use longshore_base::rng::SystemRng;
use longshore_client::kubeconfig;

use crate::config::Error;

/// Declares the flags, and finds them by their names.
macro_rules! flags {
    ($($(#[$attribute:meta])* $field:ident = $name:literal,)*) => {
        /// The flags of the audit log.
        #[derive(Args, Default, Debug)]
        pub struct AuditArguments {
            $(
                $(#[$attribute])*
                pub $field: Option<String>,
            )*
        }

        impl AuditArguments {
            /// The setting of a name.
            pub fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
                match name {
                    $($name => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

flags! {
    /// File with the rules that say what is written to the audit log; without it nothing is.
    #[arg(long, value_name = "FILE")]
    audit_policy_file = "audit-policy-file",
    /// File of the audit log; - is the standard output.
    #[arg(long, value_name = "FILE")]
    audit_log_path = "audit-log-path",
    /// Days that older log files are kept; 0 for ever [default: 366].
    #[arg(long, value_name = "DAYS")]
    audit_log_maxage = "audit-log-maxage",
    /// Older log files that are kept; 0 for all [default: 100].
    #[arg(long, value_name = "NUMBER")]
    audit_log_maxbackup = "audit-log-maxbackup",
    /// Megabytes of a log file; 0 for one file of any size [default: 100].
    #[arg(long, value_name = "MB")]
    audit_log_maxsize = "audit-log-maxsize",
    /// Form of the lines: json or legacy [default: json].
    #[arg(long, value_name = "FORMAT")]
    audit_log_format = "audit-log-format",
    /// Whether older log files are packed [default: false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    audit_log_compress = "audit-log-compress",
    /// Version of the events in the log; there is audit.k8s.io/v1.
    #[arg(long, value_name = "VERSION", hide_short_help = true)]
    audit_log_version = "audit-log-version",
    /// How events get to the log: batch, blocking or blocking-strict [default: blocking].
    #[arg(long, value_name = "MODE")]
    audit_log_mode = "audit-log-mode",
    /// Events that may wait for the log in batch mode [default: 10000].
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    audit_log_batch_buffer_size = "audit-log-batch-buffer-size",
    /// Events of a batch for the log [default: 1].
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    audit_log_batch_max_size = "audit-log-batch-max-size",
    /// How long events wait for a batch for the log [default: 0s].
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    audit_log_batch_max_wait = "audit-log-batch-max-wait",
    /// Whether batches for the log are limited [default: false].
    #[arg(long, value_name = "BOOL", hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    audit_log_batch_throttle_enable = "audit-log-batch-throttle-enable",
    /// Batches for the log each second.
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    audit_log_batch_throttle_qps = "audit-log-batch-throttle-qps",
    /// Batches for the log at once after a pause.
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    audit_log_batch_throttle_burst = "audit-log-batch-throttle-burst",
    /// Whether large events are cut for the log [default: false].
    #[arg(long, value_name = "BOOL", hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    audit_log_truncate_enabled = "audit-log-truncate-enabled",
    /// Bytes of a batch for the log [default: 10485760].
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    audit_log_truncate_max_batch_size = "audit-log-truncate-max-batch-size",
    /// Bytes of an event for the log [default: 102400].
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    audit_log_truncate_max_event_size = "audit-log-truncate-max-event-size",
    /// Kubeconfig of a server that takes audit events.
    #[arg(long, value_name = "FILE")]
    audit_webhook_config_file = "audit-webhook-config-file",
    /// How long until a batch is sent again that the server did not take [default: 10s].
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    audit_webhook_initial_backoff = "audit-webhook-initial-backoff",
    /// Version of the events for the server; there is audit.k8s.io/v1.
    #[arg(long, value_name = "VERSION", hide_short_help = true)]
    audit_webhook_version = "audit-webhook-version",
    /// How events get to the server: batch, blocking or blocking-strict [default: batch].
    #[arg(long, value_name = "MODE")]
    audit_webhook_mode = "audit-webhook-mode",
    /// Events that may wait for the server in batch mode [default: 10000].
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    audit_webhook_batch_buffer_size = "audit-webhook-batch-buffer-size",
    /// Events of a batch for the server [default: 400].
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    audit_webhook_batch_max_size = "audit-webhook-batch-max-size",
    /// How long events wait for a batch for the server [default: 30s].
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    audit_webhook_batch_max_wait = "audit-webhook-batch-max-wait",
    /// Whether batches for the server are limited [default: true].
    #[arg(long, value_name = "BOOL", hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    audit_webhook_batch_throttle_enable = "audit-webhook-batch-throttle-enable",
    /// Batches for the server each second [default: 10].
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    audit_webhook_batch_throttle_qps = "audit-webhook-batch-throttle-qps",
    /// Batches for the server at once after a pause [default: 15].
    #[arg(long, value_name = "NUMBER", hide_short_help = true)]
    audit_webhook_batch_throttle_burst = "audit-webhook-batch-throttle-burst",
    /// Whether large events are cut for the server [default: false].
    #[arg(long, value_name = "BOOL", hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    audit_webhook_truncate_enabled = "audit-webhook-truncate-enabled",
    /// Bytes of a batch for the server [default: 10485760].
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    audit_webhook_truncate_max_batch_size = "audit-webhook-truncate-max-batch-size",
    /// Bytes of an event for the server [default: 102400].
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    audit_webhook_truncate_max_event_size = "audit-webhook-truncate-max-event-size",
}

/// How events get to one output.
#[derive(Clone, Debug, PartialEq)]
struct Delivery {
    mode: Mode,
    truncate: Option<Truncate>,
}

/// The audit log, checked.
#[derive(Clone, Debug, Default)]
pub struct AuditConfig {
    policy: Option<PathBuf>,
    log: Option<(PathBuf, Format, Option<Rotation>, Delivery)>,
    webhook: Option<(PathBuf, Duration, Delivery)>,
}

/// Bytes of a megabyte, as log files are measured.
const MEGABYTE: u64 = 1024 * 1024;
const DAY: u64 = 86_400;

impl AuditConfig {
    /// The settings that follow from the flags.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn check(mut a: AuditArguments) -> Result<Self, Error> {
        let log = match a.audit_log_path.take() {
            None => None,
            Some(path) => {
                let format = match a.audit_log_format.take().as_deref() {
                    None | Some("json") => Format::Json,
                    Some("legacy") => Format::Legacy,
                    Some(other) => {
                        return Err(wrong("audit-log-format", other, "is neither json nor legacy"));
                    }
                };
                let mut number = |name, default| number(&mut a, name, default);
                let (days, files) =
                    (number("audit-log-maxage", 366)?, number("audit-log-maxbackup", 100)?);
                let megabytes = number("audit-log-maxsize", 100)?;
                let compress = flag(&mut a, "audit-log-compress", false)?;
                let rotation = (megabytes > 0).then(|| Rotation {
                    bytes_max: megabytes.saturating_mul(MEGABYTE),
                    age_max: (days > 0).then(|| Duration::from_secs(days.saturating_mul(DAY))),
                    files_max: usize::try_from(files).ok().filter(|files| *files > 0),
                    compress,
                });
                let batch = Batch {
                    buffer_max: 10_000,
                    size_max: 1,
                    wait_max: Duration::ZERO,
                    throttle: None,
                    side_by_side: false,
                };
                let delivery = delivery(&mut a, "log", "blocking", batch)?;
                Some((PathBuf::from(path), format, rotation, delivery))
            }
        };
        let webhook = match a.audit_webhook_config_file.take() {
            None => None,
            Some(path) => {
                let pause = Duration::from_secs(10);
                let pause = duration(&mut a, "audit-webhook-initial-backoff", pause)?;
                let batch = Batch {
                    buffer_max: 10_000,
                    size_max: 400,
                    wait_max: Duration::from_secs(30),
                    throttle: Some((10.0, 15)),
                    side_by_side: true,
                };
                let delivery = delivery(&mut a, "webhook", "batch", batch)?;
                Some((PathBuf::from(path), pause, delivery))
            }
        };
        Ok(Self { policy: a.audit_policy_file.map(PathBuf::from), log, webhook })
    }

    /// Opens what events go to; none when nothing is written down.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn open(&self) -> Result<Option<Arc<Audit>>> {
        let Some(policy) = &self.policy else {
            if self.log.is_some() || self.webhook.is_some() {
                tracing::warn!("without --audit-policy-file nothing goes to the audit log");
            }
            return Ok(None);
        };
        let text = std::fs::read(policy);
        let told = || format!("--audit-policy-file {}", policy.display());
        let policy = Policy::parse(&text.with_context(told)?).map_err(anyhow::Error::msg);
        let policy = policy.with_context(told)?;
        let clock = Arc::new(SystemClock);
        let mut ways = Vec::new();
        if let Some((path, format, rotation, delivery)) = &self.log {
            let log = if path == Path::new("-") {
                Log::standard(*format, clock.clone())
            } else {
                Log::file(path, *format, *rotation, clock.clone())
                    .with_context(|| format!("--audit-log-path {}", path.display()))?
            };
            ways.push(delivery.way(Arc::new(log)));
        }
        if let Some((path, pause, delivery)) = &self.webhook {
            let webhook = webhook(path, *pause)
                .with_context(|| format!("--audit-webhook-config-file {}", path.display()))?;
            ways.push(delivery.way(Arc::new(webhook)));
        }
        Ok((!ways.is_empty()).then(|| Audit::new(policy, ways, clock)))
    }
}

impl Delivery {
    fn way(&self, output: Arc<dyn Output>) -> Way {
        Way { output, mode: self.mode.clone(), truncate: self.truncate }
    }
}

fn webhook(path: &Path, pause: Duration) -> Result<Webhook> {
    let server = kubeconfig::target(&std::fs::read_to_string(path)?)?;
    let address = Address { host: server.host, port: server.port };
    let authority = address.to_string();
    let tls = Tls { config: Arc::new(server.tls), server_name: server.server_name };
    let token = server.token.map(|token| format!("Bearer {token}").parse()).transpose()?;
    let target = Target { address, tls: Some(tls), authority };
    Ok(Webhook::new(target, server.path, token, pause, Arc::new(SystemRng)))
}

fn wrong(flag: &'static str, value: &str, why: &str) -> Error {
    Error::Value { flag, value: value.to_owned(), why: why.to_owned() }
}

fn taken(a: &mut AuditArguments, name: &'static str) -> Option<String> {
    a.slot(name).and_then(Option::take)
}

fn number(a: &mut AuditArguments, name: &'static str, default: u64) -> Result<u64, Error> {
    let Some(text) = taken(a, name) else { return Ok(default) };
    text.parse().map_err(|_| wrong(name, &text, "is not a number from 0 on"))
}

fn positive(a: &mut AuditArguments, name: &'static str, default: usize) -> Result<usize, Error> {
    let Some(text) = taken(a, name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| wrong(name, &text, "must be a positive number"))
}

fn flag(a: &mut AuditArguments, name: &'static str, default: bool) -> Result<bool, Error> {
    let Some(text) = taken(a, name) else { return Ok(default) };
    text.parse().map_err(|_| wrong(name, &text, "is neither true nor false"))
}

fn duration(
    a: &mut AuditArguments,
    name: &'static str,
    default: Duration,
) -> Result<Duration, Error> {
    let Some(text) = taken(a, name) else { return Ok(default) };
    let nanoseconds = longshore_api::duration::parse(&text).ok();
    let nanoseconds = nanoseconds.and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
    nanoseconds
        .map(Duration::from_nanos)
        .ok_or_else(|| wrong(name, &text, "is not a time such as 30s"))
}

/// The names of one output's settings.
struct Names {
    mode: &'static str,
    version: &'static str,
    buffer: &'static str,
    size: &'static str,
    wait: &'static str,
    throttle: [&'static str; 3],
    truncate: [&'static str; 3],
}

const LOG: Names = Names {
    mode: "audit-log-mode",
    version: "audit-log-version",
    buffer: "audit-log-batch-buffer-size",
    size: "audit-log-batch-max-size",
    wait: "audit-log-batch-max-wait",
    throttle: [
        "audit-log-batch-throttle-enable",
        "audit-log-batch-throttle-qps",
        "audit-log-batch-throttle-burst",
    ],
    truncate: [
        "audit-log-truncate-enabled",
        "audit-log-truncate-max-batch-size",
        "audit-log-truncate-max-event-size",
    ],
};

const WEBHOOK: Names = Names {
    mode: "audit-webhook-mode",
    version: "audit-webhook-version",
    buffer: "audit-webhook-batch-buffer-size",
    size: "audit-webhook-batch-max-size",
    wait: "audit-webhook-batch-max-wait",
    throttle: [
        "audit-webhook-batch-throttle-enable",
        "audit-webhook-batch-throttle-qps",
        "audit-webhook-batch-throttle-burst",
    ],
    truncate: [
        "audit-webhook-truncate-enabled",
        "audit-webhook-truncate-max-batch-size",
        "audit-webhook-truncate-max-event-size",
    ],
};

fn delivery(
    a: &mut AuditArguments,
    output: &str,
    default: &str,
    batch: Batch,
) -> Result<Delivery, Error> {
    let names = if output == "log" { &LOG } else { &WEBHOOK };
    if let Some(version) = taken(a, names.version).filter(|version| version != "audit.k8s.io/v1") {
        return Err(wrong(names.version, &version, "is not audit.k8s.io/v1"));
    }
    let mode = taken(a, names.mode).unwrap_or_else(|| default.to_owned());
    let mode = match mode.as_str() {
        "blocking" => Mode::Blocking,
        "blocking-strict" => Mode::BlockingStrict,
        "batch" => {
            let (rate, burst) = batch.throttle.unwrap_or((0.0, 0));
            let [enable, qps, most] = names.throttle;
            let throttled = flag(a, enable, batch.throttle.is_some())?;
            let rate = match taken(a, qps) {
                None => rate,
                Some(text) => text.parse().map_err(|_| wrong(qps, &text, "is not a number"))?,
            };
            let burst = positive(a, most, usize::try_from(burst).unwrap_or(usize::MAX))?;
            if throttled && (!rate.is_finite() || rate <= 0.0 || burst == 0) {
                let why = "must be a positive number, and so must the burst";
                return Err(wrong(qps, &rate.to_string(), why));
            }
            let burst = u32::try_from(burst).unwrap_or(u32::MAX);
            Mode::Batch(Batch {
                buffer_max: positive(a, names.buffer, batch.buffer_max)?,
                size_max: positive(a, names.size, batch.size_max)?,
                wait_max: duration(a, names.wait, batch.wait_max)?,
                throttle: throttled.then_some((rate, burst)),
                side_by_side: batch.side_by_side,
            })
        }
        other => {
            let why = "is not one of batch, blocking, blocking-strict";
            return Err(wrong(names.mode, other, why));
        }
    };
    let [enabled, batch_max, event_max] = names.truncate;
    let enabled = flag(a, enabled, false)?;
    let limits = Truncate {
        batch_max: positive(a, batch_max, 10 << 20)?,
        event_max: positive(a, event_max, 100 << 10)?,
    };
    if limits.batch_max < limits.event_max {
        let why = format!("must be at least the size of an event, {}", limits.event_max);
        return Err(wrong(batch_max, &limits.batch_max.to_string(), &why));
    }
    Ok(Delivery { mode, truncate: enabled.then_some(limits) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[(&str, &str)]) -> Result<AuditConfig, String> {
        let mut arguments = AuditArguments::default();
        for (name, value) in settings {
            *arguments.slot(name).expect("a known name") = Some((*value).to_owned());
        }
        AuditConfig::check(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_have_upstreams_defaults() {
        let config = check(&[("audit-log-path", "/a"), ("audit-webhook-config-file", "/b")]);
        let config = config.expect("good settings");
        let (_, format, rotation, delivery) = config.log.expect("a log");
        let days = Duration::from_secs(366 * DAY);
        let wanted = Rotation {
            bytes_max: 100 * MEGABYTE,
            age_max: Some(days),
            files_max: Some(100),
            compress: false,
        };
        assert_eq!((format, rotation), (Format::Json, Some(wanted)));
        assert_eq!(delivery, Delivery { mode: Mode::Blocking, truncate: None });
        let (_, pause, delivery) = config.webhook.expect("a webhook");
        assert_eq!(pause, Duration::from_secs(10));
        let Mode::Batch(batch) = delivery.mode else { panic!("no batches") };
        assert_eq!((batch.buffer_max, batch.size_max), (10_000, 400));
        assert_eq!(batch.throttle, Some((10.0, 15)));
    }

    #[test]
    fn bad_settings_are_told_by_name() {
        let log = ("audit-log-path", "/a");
        for (name, value, want) in [
            ("audit-log-mode", "later", "is not one of"),
            ("audit-log-format", "xml", "is neither json nor legacy"),
            ("audit-log-maxage", "-1", "is not a number"),
            ("audit-log-version", "audit.k8s.io/v1beta1", "is not audit.k8s.io/v1"),
            ("audit-log-truncate-max-batch-size", "5", "must be at least"),
            ("audit-log-compress", "perhaps", "is neither true nor false"),
        ] {
            let told = check(&[log, (name, value)]).expect_err("a bad setting");
            assert!(told.starts_with(&format!("--{name} ")) && told.contains(want), "{told}");
        }
        let batch = ("audit-log-mode", "batch");
        let told = check(&[log, batch, ("audit-log-batch-throttle-enable", "true")]);
        assert!(told.expect_err("no rate").contains("must be a positive number"));
    }
}

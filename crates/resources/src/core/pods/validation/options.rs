//! What an object may keep although it breaks a rule: mostly what it had before.
//!
//! upstream: pkg/api/pod/util.go GetValidationOptionsFromPodSpecAndMeta

use longshore_api::field::{ErrorList, Path};
use serde_json::Value;

use super::common::has_bad_values;
use super::{affinity, compute, paths, security};
use crate::core::pods::tree::{entries, flag, has, list, part, text};

/// The exceptions for one pod or template.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// A pod rather than a template.
    pub(crate) is_pod: bool,
    /// Selectors of pods may have values that no label can have.
    pub(crate) bad_selector_values: bool,
    /// So may required node affinities.
    pub(crate) bad_node_values: bool,
    /// Spread constraints may have broken selectors.
    pub(crate) bad_spread_selectors: bool,
    /// Spread constraints may name keys twice.
    pub(crate) bad_spread_keys: bool,
    /// Huge pages need not come in whole pages.
    pub(crate) indivisible_huge_pages: bool,
    /// Projected tokens may have any path.
    pub(crate) non_local_token_path: bool,
    /// Sysctls may be those of the host's namespaces.
    pub(crate) host_sysctls: bool,
    /// Tolerations may compare numbers.
    pub(crate) comparing_tolerations: bool,
    /// User namespaces go together with volume devices.
    pub(crate) devices_with_host_users: bool,
    /// Plain init containers may ask for a restart when resized.
    pub(crate) init_restart_on_resize: bool,
    /// Volumes may be labelled in any known way.
    pub(crate) any_selinux_change: bool,
}

impl Options {
    /// The exceptions that follow from the spec before the change.
    pub(crate) fn new(is_pod: bool, old: Option<&Value>) -> Self {
        let Some(old) = old else { return Self { is_pod, ..Self::default() } };
        let spread = list(old, "topologySpreadConstraints");
        Self {
            is_pod,
            bad_selector_values: affinity::terms(old).any(|term| {
                has_bad_values(term.get("labelSelector"))
                    || has_bad_values(term.get("namespaceSelector"))
            }),
            bad_node_values: affinity::required_node_terms(old).iter().any(has_bad_values_in_term),
            bad_spread_selectors: spread.iter().any(|constraint| {
                let mut errors = ErrorList::new();
                let selector = constraint.get("labelSelector");
                super::common::label_selector(selector, &Path::default(), false, &mut errors);
                !errors.is_empty()
            }),
            bad_spread_keys: spread.iter().any(|constraint| {
                let mut errors = ErrorList::new();
                affinity::label_keys(constraint, &Path::default(), &mut errors);
                !errors.is_empty()
            }),
            indivisible_huge_pages: containers(old).any(|container| {
                let resources = part(container, "resources").unwrap_or(&Value::Null);
                ["limits", "requests"].iter().any(|kind| {
                    entries(resources, kind)
                        .any(|(name, value)| compute::huge_page_error(name, value).is_some())
                })
            }),
            non_local_token_path: list(old, "volumes").iter().any(|volume| {
                let projected = part(volume, "projected").unwrap_or(&Value::Null);
                list(projected, "sources").iter().any(|source| {
                    let token = part(source, "serviceAccountToken");
                    token.is_some_and(|token| {
                        let mut errors = ErrorList::new();
                        paths::local(text(token, "path"), &Path::default(), &mut errors);
                        !errors.is_empty()
                    })
                })
            }),
            host_sysctls: security::has_host_sysctls(old),
            comparing_tolerations: list(old, "tolerations")
                .iter()
                .any(|t| matches!(text(t, "operator"), "Lt" | "Gt")),
            devices_with_host_users: old.get("hostUsers") == Some(&Value::Bool(false))
                && containers(old).any(|c| !list(c, "volumeDevices").is_empty()),
            any_selinux_change: part(old, "securityContext")
                .is_some_and(|context| has(context, "seLinuxChangePolicy")),
            init_restart_on_resize: list(old, "initContainers").iter().any(|c| {
                text(c, "restartPolicy") != "Always"
                    && list(c, "resizePolicy")
                        .iter()
                        .any(|p| text(p, "restartPolicy") == "RestartContainer")
            }),
        }
    }
}

fn has_bad_values_in_term(term: &Value) -> bool {
    list(term, "matchExpressions").iter().any(|expression| {
        list(expression, "values")
            .iter()
            .filter_map(Value::as_str)
            .any(|v| !longshore_api::names::is_valid_label_value(v).is_empty())
    })
}

/// Every container of a spec, in the order in which they are visited.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |key| list(spec, key))
}

/// Every container with its path.
pub(crate) fn containers_at<'a>(
    spec: &'a Value,
    path: &Path,
) -> impl Iterator<Item = (&'a Value, Path)> {
    let path = path.clone();
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |key| {
        let path = path.child(key);
        list(spec, key).iter().enumerate().map(move |(i, c)| (c, path.index(i)))
    })
}

/// Whether the pod shares the users of its node.
pub(crate) fn has_host_users(spec: &Value) -> bool {
    part(spec, "hostUsers").is_none() || flag(spec, "hostUsers")
}

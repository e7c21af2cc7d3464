//! The resources that components use, by name.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// Names a resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Lower-case plural.
    pub plural: &'static str,
    /// Kind.
    pub kind: &'static str,
}

/// Names of resources that are defined at run time and live as long as the process. Each is kept once.
const NAMES_MAX: usize = 65_536;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The kept copy of a name; none when there are [`NAMES_MAX`] others.
fn kept(name: &str) -> Option<&'static str> {
    let mut names = NAMES.lock();
    if let Some(kept) = names.get(name) {
        return Some(kept);
    }
    if names.len() >= NAMES_MAX {
        tracing::error!(
            name,
            "too many kinds were defined: nothing looks after the objects of this one"
        );
        return None;
    }
    let kept: &'static str = Box::leak(name.into());
    names.insert(kept);
    Some(kept)
}

impl Resource {
    /// A resource that is defined at run time; none when there were too many of them.
    pub fn named(group: &str, version: &str, plural: &str, kind: &str) -> Option<Self> {
        Some(Self {
            group: kept(group)?,
            version: kept(version)?,
            plural: kept(plural)?,
            kind: kept(kind)?,
        })
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        longshore_api::gvk::api_version(self.group, self.version)
    }

    /// The path of a collection (`name` empty) or object; `namespace` empty for cluster scope and
    /// for all namespaces.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if !namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(self.plural);
        if !name.is_empty() {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

macro_rules! resources {
    ($($name:ident = $group:literal $version:literal $plural:literal $kind:literal;)*) => {
        $(
            #[doc = concat!("`", $plural, "` of `", $group, "`.")]
            pub const $name: Resource =
                Resource { group: $group, version: $version, plural: $plural, kind: $kind };
        )*
    };
}

resources! {
    CONFIG_MAPS = "" "v1" "configmaps" "ConfigMap";
    CUSTOM_RESOURCE_DEFINITIONS =
        "apiextensions.k8s.io" "v1" "customresourcedefinitions" "CustomResourceDefinition";
    ENDPOINTS = "" "v1" "endpoints" "Endpoints";
    EVENTS = "" "v1" "events" "Event";
    NAMESPACES = "" "v1" "namespaces" "Namespace";
    NODES = "" "v1" "nodes" "Node";
    PERSISTENT_VOLUME_CLAIMS = "" "v1" "persistentvolumeclaims" "PersistentVolumeClaim";
    PERSISTENT_VOLUMES = "" "v1" "persistentvolumes" "PersistentVolume";
    PODS = "" "v1" "pods" "Pod";
    SECRETS = "" "v1" "secrets" "Secret";
    REPLICATION_CONTROLLERS = "" "v1" "replicationcontrollers" "ReplicationController";
    RESOURCE_QUOTAS = "" "v1" "resourcequotas" "ResourceQuota";
    SERVICES = "" "v1" "services" "Service";
    SERVICE_ACCOUNTS = "" "v1" "serviceaccounts" "ServiceAccount";
    CONTROLLER_REVISIONS = "apps" "v1" "controllerrevisions" "ControllerRevision";
    DAEMON_SETS = "apps" "v1" "daemonsets" "DaemonSet";
    DEPLOYMENTS = "apps" "v1" "deployments" "Deployment";
    REPLICA_SETS = "apps" "v1" "replicasets" "ReplicaSet";
    STATEFUL_SETS = "apps" "v1" "statefulsets" "StatefulSet";
    CRON_JOBS = "batch" "v1" "cronjobs" "CronJob";
    JOBS = "batch" "v1" "jobs" "Job";
    VALIDATING_ADMISSION_POLICIES =
        "admissionregistration.k8s.io" "v1" "validatingadmissionpolicies" "ValidatingAdmissionPolicy";
    ENDPOINT_SLICES = "discovery.k8s.io" "v1" "endpointslices" "EndpointSlice";
    FLOW_SCHEMAS = "flowcontrol.apiserver.k8s.io" "v1" "flowschemas" "FlowSchema";
    PRIORITY_LEVELS = "flowcontrol.apiserver.k8s.io" "v1" "prioritylevelconfigurations" "PriorityLevelConfiguration";
    IP_ADDRESSES = "networking.k8s.io" "v1" "ipaddresses" "IPAddress";
    SERVICE_CIDRS = "networking.k8s.io" "v1" "servicecidrs" "ServiceCIDR";
    DEVICE_CLASSES = "resource.k8s.io" "v1" "deviceclasses" "DeviceClass";
    RESOURCE_CLAIM_TEMPLATES =
        "resource.k8s.io" "v1" "resourceclaimtemplates" "ResourceClaimTemplate";
    RESOURCE_CLAIMS = "resource.k8s.io" "v1" "resourceclaims" "ResourceClaim";
    RESOURCE_SLICES = "resource.k8s.io" "v1" "resourceslices" "ResourceSlice";
    RUNTIME_CLASSES = "node.k8s.io" "v1" "runtimeclasses" "RuntimeClass";
    CSI_NODES = "storage.k8s.io" "v1" "csinodes" "CSINode";
    STORAGE_CLASSES = "storage.k8s.io" "v1" "storageclasses" "StorageClass";
    VOLUME_ATTRIBUTES_CLASSES =
        "storage.k8s.io" "v1" "volumeattributesclasses" "VolumeAttributesClass";
    HORIZONTAL_POD_AUTOSCALERS =
        "autoscaling" "v2" "horizontalpodautoscalers" "HorizontalPodAutoscaler";
    LEASES = "coordination.k8s.io" "v1" "leases" "Lease";
    POD_DISRUPTION_BUDGETS = "policy" "v1" "poddisruptionbudgets" "PodDisruptionBudget";
    CERTIFICATE_SIGNING_REQUESTS =
        "certificates.k8s.io" "v1" "certificatesigningrequests" "CertificateSigningRequest";
    SUBJECT_ACCESS_REVIEWS =
        "authorization.k8s.io" "v1" "subjectaccessreviews" "SubjectAccessReview";
    TOKEN_REVIEWS = "authentication.k8s.io" "v1" "tokenreviews" "TokenReview";
    CLUSTER_ROLES = "rbac.authorization.k8s.io" "v1" "clusterroles" "ClusterRole";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_once() {
        let one = Resource::named("example.com", "v1", "widgets", "Widget").expect("few names");
        let two = Resource::named("example.com", "v1", "widgets", "Widget").expect("few names");
        assert_eq!(one, two);
        assert!(std::ptr::eq(one.plural, two.plural));
        assert_eq!(one.path("n", "a"), "/apis/example.com/v1/namespaces/n/widgets/a");
    }
}

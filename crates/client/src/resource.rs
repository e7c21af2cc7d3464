//! The resources that components use, by name.

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

impl Resource {
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
    ENDPOINT_SLICES = "discovery.k8s.io" "v1" "endpointslices" "EndpointSlice";
    FLOW_SCHEMAS = "flowcontrol.apiserver.k8s.io" "v1" "flowschemas" "FlowSchema";
    PRIORITY_LEVELS = "flowcontrol.apiserver.k8s.io" "v1" "prioritylevelconfigurations" "PriorityLevelConfiguration";
    IP_ADDRESSES = "networking.k8s.io" "v1" "ipaddresses" "IPAddress";
    SERVICE_CIDRS = "networking.k8s.io" "v1" "servicecidrs" "ServiceCIDR";
    CSI_NODES = "storage.k8s.io" "v1" "csinodes" "CSINode";
    STORAGE_CLASSES = "storage.k8s.io" "v1" "storageclasses" "StorageClass";
    LEASES = "coordination.k8s.io" "v1" "leases" "Lease";
    POD_DISRUPTION_BUDGETS = "policy" "v1" "poddisruptionbudgets" "PodDisruptionBudget";
    CLUSTER_ROLES = "rbac.authorization.k8s.io" "v1" "clusterroles" "ClusterRole";
}

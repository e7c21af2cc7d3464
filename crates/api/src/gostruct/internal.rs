//! How internal structs differ from the published ones: names, order, pointers.
//!
//! upstream: pkg/apis/*/types.go

use serde_json::{Map, Value};

use crate::schema::Type;

/// Structs whose fields are declared in another order or under other names than published:
/// Go names in order; `NAME=ZERO` is a field that only the internal struct has, with its zero value.
const ORDERS: [(&str, &str); 15] = [
    (
        "admissionregistration/v1.ValidatingAdmissionPolicySpec",
        "ParamKind MatchConstraints Validations MatchConditions FailurePolicy AuditAnnotations Variables",
    ),
    (
        "apps/v1.DaemonSetSpec",
        "Selector Template UpdateStrategy MinReadySeconds TemplateGeneration=0 RevisionHistoryLimit",
    ),
    (
        "apps/v1.DeploymentSpec",
        "Replicas Selector Template Strategy MinReadySeconds RevisionHistoryLimit Paused RollbackTo=null ProgressDeadlineSeconds",
    ),
    ("autoscaling/v2.ContainerResourceMetricSource", "Name Container Target"),
    ("autoscaling/v2.ContainerResourceMetricStatus", "Name Container Current"),
    (
        "batch/v1.JobSpec",
        "Parallelism Completions PodFailurePolicy SuccessPolicy ActiveDeadlineSeconds BackoffLimit BackoffLimitPerIndex MaxFailedIndexes Selector ManualSelector Template TTLSecondsAfterFinished CompletionMode Suspend PodReplacementPolicy ManagedBy",
    ),
    (
        "batch/v1.JobStatus",
        "Conditions StartTime CompletionTime Active Terminating Ready Succeeded Failed CompletedIndexes FailedIndexes UncountedTerminatedPods",
    ),
    (
        "core/v1.NodeSpec",
        "PodCIDRs ProviderID Unschedulable Taints ConfigSource DoNotUseExternalID",
    ),
    (
        "core/v1.PersistentVolumeSource",
        "GCEPersistentDisk AWSElasticBlockStore HostPath Glusterfs NFS RBD Quobyte ISCSI FlexVolume Cinder CephFS FC Flocker AzureFile VsphereVolume AzureDisk PhotonPersistentDisk PortworxVolume ScaleIO Local StorageOS CSI",
    ),
    (
        "core/v1.PodSecurityContext",
        "HostNetwork=false HostPID=false HostIPC=false ShareProcessNamespace=null HostUsers=null SELinuxOptions WindowsOptions RunAsUser RunAsGroup RunAsNonRoot SupplementalGroups SupplementalGroupsPolicy FSGroup FSGroupChangePolicy Sysctls SeccompProfile AppArmorProfile SELinuxChangePolicy",
    ),
    (
        "core/v1.PodSpec",
        "Volumes InitContainers Containers EphemeralContainers RestartPolicy TerminationGracePeriodSeconds ActiveDeadlineSeconds DNSPolicy NodeSelector ServiceAccountName AutomountServiceAccountToken NodeName SecurityContext ImagePullSecrets Hostname Subdomain SetHostnameAsFQDN Affinity SchedulerName Tolerations HostAliases PriorityClassName Priority PreemptionPolicy DNSConfig ReadinessGates RuntimeClassName Overhead EnableServiceLinks TopologySpreadConstraints OS SchedulingGates ResourceClaims Resources HostnameOverride SchedulingGroup",
    ),
    (
        "core/v1.PodStatus",
        "ObservedGeneration Phase Conditions Message Reason NominatedNodeName HostIP HostIPs PodIPs StartTime QOSClass InitContainerStatuses ContainerStatuses EphemeralContainerStatuses Resize ResourceClaimStatuses ExtendedResourceClaimStatus AllocatedResources Resources NodeAllocatableResourceClaimStatuses",
    ),
    (
        "core/v1.ServiceSpec",
        "Type Ports Selector ClusterIP ClusterIPs IPFamilies IPFamilyPolicy ExternalName ExternalIPs LoadBalancerIP SessionAffinity SessionAffinityConfig LoadBalancerSourceRanges ExternalTrafficPolicy HealthCheckNodePort PublishNotReadyAddresses AllocateLoadBalancerNodePorts LoadBalancerClass InternalTrafficPolicy TrafficDistribution",
    ),
    (
        "core/v1.VolumeSource",
        "HostPath EmptyDir GCEPersistentDisk AWSElasticBlockStore GitRepo Secret NFS ISCSI Glusterfs PersistentVolumeClaim RBD Quobyte FlexVolume Cinder CephFS Flocker DownwardAPI FC AzureFile ConfigMap VsphereVolume AzureDisk PhotonPersistentDisk Projected PortworxVolume ScaleIO StorageOS CSI Ephemeral Image",
    ),
    (
        "storage/v1.CSIDriverSpec",
        "AttachRequired FSGroupPolicy PodInfoOnMount VolumeLifecycleModes StorageCapacity TokenRequests RequiresRepublish SELinuxMount NodeAllocatableUpdatePeriodSeconds ServiceAccountTokenInSecrets PreventPodSchedulingIfMissing",
    ),
];

/// Go names that are not the JSON name with a capital letter: JSON name and Go name; with a type
/// before the JSON name, only there.
const NAMES: [(&str, &str); 70] = [
    ("apiGroup", "APIGroup"),
    ("apiGroups", "APIGroups"),
    ("apiVersion", "APIVersion"),
    ("apiVersions", "APIVersions"),
    ("awsElasticBlockStore", "AWSElasticBlockStore"),
    ("caBundle", "CABundle"),
    ("cel", "CEL"),
    ("cephfs", "CephFS"),
    ("chapAuthDiscovery", "DiscoveryCHAPAuth"),
    ("chapAuthSession", "SessionCHAPAuth"),
    ("cidr", "CIDR"),
    ("cidrs", "CIDRs"),
    ("core/v1.AzureDiskVolumeSource.diskURI", "DataDiskURI"),
    ("core/v1.ContainerStatus.lastState", "LastTerminationState"),
    ("core/v1.GlusterfsPersistentVolumeSource.endpoints", "EndpointsName"),
    ("core/v1.GlusterfsVolumeSource.endpoints", "EndpointsName"),
    ("core/v1.NodeSpec.externalID", "DoNotUseExternalID"),
    ("core/v1.RBDPersistentVolumeSource.image", "RBDImage"),
    ("core/v1.RBDPersistentVolumeSource.monitors", "CephMonitors"),
    ("core/v1.RBDPersistentVolumeSource.pool", "RBDPool"),
    ("core/v1.RBDPersistentVolumeSource.user", "RadosUser"),
    ("core/v1.RBDVolumeSource.image", "RBDImage"),
    ("core/v1.RBDVolumeSource.monitors", "CephMonitors"),
    ("core/v1.RBDVolumeSource.pool", "RBDPool"),
    ("core/v1.RBDVolumeSource.user", "RadosUser"),
    ("csi", "CSI"),
    ("dnsConfig", "DNSConfig"),
    ("dnsPolicy", "DNSPolicy"),
    ("fc", "FC"),
    ("fsGroup", "FSGroup"),
    ("fsGroupChangePolicy", "FSGroupChangePolicy"),
    ("fsGroupPolicy", "FSGroupPolicy"),
    ("fsType", "FSType"),
    ("gcePersistentDisk", "GCEPersistentDisk"),
    ("gid", "GID"),
    ("gmsaCredentialSpec", "GMSACredentialSpec"),
    ("gmsaCredentialSpecName", "GMSACredentialSpecName"),
    ("grpc", "GRPC"),
    ("http", "HTTP"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("ip", "IP"),
    ("ipBlock", "IPBlock"),
    ("ipFamilies", "IPFamilies"),
    ("ipFamilyPolicy", "IPFamilyPolicy"),
    ("ipMode", "IPMode"),
    ("ips", "IPs"),
    ("iqn", "IQN"),
    ("iscsi", "ISCSI"),
    ("iscsiInterface", "ISCSIInterface"),
    ("jsonPatch", "JSONPatch"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("osImage", "OSImage"),
    ("pdName", "PDName"),
    ("qosClass", "QOSClass"),
    ("rbd", "RBD"),
    ("reportingComponent", "ReportingController"),
    ("seLinuxChangePolicy", "SELinuxChangePolicy"),
    ("seLinuxMount", "SELinuxMount"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("sslEnabled", "SSLEnabled"),
    ("storageos", "StorageOS"),
    ("tcpSocket", "TCPSocket"),
    ("tls", "TLS"),
    ("ttlSecondsAfterFinished", "TTLSecondsAfterFinished"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("url", "URL"),
    ("wwids", "WWIDs"),
];

/// Fields that are pointers in the published structs only.
const VALUES: [&str; 11] = [
    "admissionregistration/v1.ServiceReference.port",
    "apps/v1.DeploymentSpec.replicas",
    "apps/v1.ReplicaSetSpec.replicas",
    "apps/v1.RollingUpdateDaemonSet.maxSurge",
    "apps/v1.RollingUpdateDaemonSet.maxUnavailable",
    "apps/v1.RollingUpdateDeployment.maxSurge",
    "apps/v1.RollingUpdateDeployment.maxUnavailable",
    "apps/v1.RollingUpdateStatefulSetStrategy.partition",
    "apps/v1.StatefulSetSpec.replicas",
    "core/v1.ServiceAccountTokenProjection.expirationSeconds",
    "flowcontrol/v1.LimitedPriorityLevelConfiguration.nominalConcurrencyShares",
];

/// Fields of a pod's spec that the internal struct keeps in the security context.
const HOST_FIELDS: [&str; 5] =
    ["hostIPC", "hostNetwork", "hostPID", "hostUsers", "shareProcessNamespace"];

/// The fields of an internal struct in order, when they are not in the published one's.
pub(super) fn order(ty: &str) -> Option<&'static str> {
    ORDERS.iter().find(|(name, _)| *name == ty).map(|(_, order)| *order)
}

/// The Go name of a field.
pub(super) fn go_name(ty: &str, json_name: &str) -> String {
    let exact = |name: &str| NAMES.binary_search_by(|(known, _)| (*known).cmp(name)).ok();
    let found = exact(&format!("{ty}.{json_name}")).or_else(|| exact(json_name));
    if let Some(index) = found {
        return NAMES[index].1.to_owned();
    }
    if ty == "resource/v1.DeviceAttribute" {
        let plural = json_name.strip_suffix('s');
        let value = if plural.is_some() { "Values" } else { "Value" };
        return format!("{}{value}", capital(plural.unwrap_or(json_name)));
    }
    capital(json_name)
}

/// The JSON name of a field that only the internal struct has.
pub(super) fn json_name(go_name: &str) -> String {
    let (first, rest) = go_name.split_at_checked(1).unwrap_or(("", go_name));
    format!("{}{rest}", first.to_ascii_lowercase())
}

fn capital(name: &str) -> String {
    let (first, rest) = name.split_at_checked(1).unwrap_or(("", name));
    format!("{}{rest}", first.to_ascii_uppercase())
}

/// Whether the internal field is no pointer although the published one is.
pub(super) fn is_value(ty: &str, json_name: &str) -> bool {
    VALUES.contains(&format!("{ty}.{json_name}").as_str())
}

/// The fields of a struct that keeps some of them elsewhere.
///
/// upstream: pkg/apis/core/v1/conversion.go Convert_v1_PodSpec_To_core_PodSpec
pub(super) fn moved(ty: &Type, fields: &Map<String, Value>) -> Option<Map<String, Value>> {
    if ty.name != "core/v1.PodSpec" {
        return None;
    }
    let mut fields = fields.clone();
    let mut context = match fields.remove("securityContext") {
        Some(Value::Object(context)) => context,
        _ => return Some(fields),
    };
    for name in HOST_FIELDS {
        if let Some(value) = fields.remove(name) {
            context.insert(name.to_owned(), value);
        }
    }
    fields.insert("securityContext".into(), Value::Object(context));
    Some(fields)
}

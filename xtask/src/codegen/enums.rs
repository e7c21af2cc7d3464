//! The string types whose values OpenAPI lists, and the constants that defaults name.
//!
//! upstream: the `+enum` markers of staging/src/k8s.io/api

/// Enumerations by the Go name of their type.
pub const ENUMERATIONS: &[&str] = &[
    "AddressType",
    "AllocationConfigSource",
    "AppArmorProfileType",
    "AzureDataDiskCachingMode",
    "AzureDataDiskKind",
    "ClaimResourceStatus",
    "CompletionMode",
    "ConcurrencyPolicy",
    "DNSPolicy",
    "DaemonSetUpdateStrategyType",
    "DeploymentStrategyType",
    "DeviceAllocationMode",
    "DeviceTaintEffect",
    "DeviceTolerationOperator",
    "FailurePolicyType",
    "FieldValueErrorReason",
    "HostPathType",
    "IPFamily",
    "IPFamilyPolicy",
    "KeyUsage",
    "MatchPolicyType",
    "MountPropagationMode",
    "NamespacePhase",
    "NodeInclusionPolicy",
    "NodePhase",
    "NodeSelectorOperator",
    "OperationType",
    "PatchType",
    "PathType",
    "PersistentVolumeAccessMode",
    "PersistentVolumeClaimModifyVolumeStatus",
    "PersistentVolumeClaimPhase",
    "PersistentVolumeMode",
    "PersistentVolumePhase",
    "PersistentVolumeReclaimPolicy",
    "PodFSGroupChangePolicy",
    "PodFailurePolicyAction",
    "PodFailurePolicyOnExitCodesOperator",
    "PodManagementPolicyType",
    "PodPhase",
    "PodQOSClass",
    "PodReplacementPolicy",
    "PolicyType",
    "PreemptionPolicy",
    "ProcMountType",
    "Protocol",
    "PullPolicy",
    "ReinvocationPolicyType",
    "ResourceQuotaScope",
    "RestartPolicy",
    "ScopeSelectorOperator",
    "ScopeType",
    "SeccompProfileType",
    "ServiceAffinity",
    "ServiceExternalTrafficPolicy",
    "ServiceInternalTrafficPolicy",
    "ServiceType",
    "SideEffectClass",
    "Signal",
    "StatefulSetUpdateStrategyType",
    "SupplementalGroupsPolicy",
    "TaintEffect",
    "TerminationMessagePolicy",
    "TolerationOperator",
    "URIScheme",
    "UnhealthyPodEvictionPolicyType",
    "UnsatisfiableConstraintAction",
    "ValidationAction",
    "VolumeBindingMode",
];

/// Values of enumerations that the facts do not list: type and values.
pub const UNLISTED: &[(&str, &[&str])] = &[
    ("AddressType", &["FQDN", "IPv4", "IPv6"]),
    ("DeviceAllocationMode", &["All", "ExactCount"]),
    ("PathType", &["Exact", "ImplementationSpecific", "Prefix"]),
];

/// Go constants that defaults name, and their values.
///
/// upstream: staging/src/k8s.io/api/core/v1/types.go
pub const CONSTANTS: &[(&str, &str)] =
    &[("ref(AzureDataDiskCachingReadWrite)", "ReadWrite"), ("ref(AzureSharedBlobDisk)", "Shared")];

/// Fields whose declared default is the empty string, which the facts do not tell from none: type
/// and field.
///
/// upstream: staging/src/k8s.io/api/core/v1/types.go
pub const EMPTY_DEFAULTS: &[(&str, &str)] =
    &[("GRPCAction", "service"), ("LocalObjectReference", "name")];

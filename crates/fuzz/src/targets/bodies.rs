//! Targets that read bodies.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use jiff::Timestamp;
use longshore_api::field::Path;
use longshore_api::meta_validation::validate_object_meta;
use longshore_api::{
    Gvk, Object, cbor, complete, defaults, json, normalize, protobuf, schema, yaml,
};
use longshore_apiserver::endpoints::body::{self, FieldValidation};
use longshore_resources::{Context, Resource, Unheard};
use serde_json::Value;

use super::{choice, chosen, objects, outcome};
use crate::generate;
use crate::random::Random;

pub const JSON_WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"1e-999",
    b"0.1",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"2147483648",
    b"\\u0000",
    b"\\ud800",
    b"\\ud83e\\udd80",
    b"\\",
    b"\"",
    b"\"\"",
    b"\"metadata\":",
    b"\"name\":",
    b"\"spec\":",
    b"\"status\":",
    b"\"apiVersion\":",
    b"\"kind\":",
    b"\"labels\":",
    b"\"annotations\":",
    b"\"finalizers\":",
    b"\"-1\"",
    b"\"0\"",
    b"\"99999999999999999999\"",
    b"\"100%\"",
    b"\"1e9\"",
    b"\"10.0.0.0/8\"",
    b"\"::1\"",
    b"\"2026-01-01T00:00:00Z\"",
    b"\"0001-01-01T00:00:00Z\"",
    b"\"9999-12-31T23:59:59.999999999Z\"",
    b"\"1h\"",
    b"\"*\"",
    b"\"@every 1s\"",
    b"\"* * * * *\"",
    b"\"\xc3\xa9\"",
    b"\xf0\x9f\xa6\x80",
    b"-1",
    b"0",
    b"1",
];
pub const YAML_WORDS: &[&[u8]] = &[
    b"- ",
    b": ",
    b"\n",
    b"  ",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!binary ",
    b"!!int ",
    b"!!str ",
    b"!!null ",
    b"? ",
    b"---\n",
    b"...\n",
    b"|\n",
    b">-\n",
    b"|2\n",
    b"#",
    b"'",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"0x1f",
    b"0644",
    b"0b1",
    b".inf",
    b".nan",
    b"1_000",
    b"yes",
    b"~",
    b"null",
    b"2026-01-01",
    b"\t",
    b"%YAML 1.1\n",
    b"\\x41",
    b"\\U0001F980",
    b"9223372036854775808",
];

/// Objects that lead further than random ones.
const GOOD: &[&str] = &[
    r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"default"},"spec":{"containers":[{"name":"a","image":"b:1","ports":[{"containerPort":80,"hostPort":81}],"env":[{"name":"A","value":"b"},{"name":"B","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],"resources":{"requests":{"cpu":"1m","memory":"1Mi"},"limits":{"cpu":"2m"}},"livenessProbe":{"httpGet":{"path":"/","port":80}},"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Gi"}}],"tolerations":[{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":3}],"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"a","operator":"Gt","values":["1"]}]}]}}},"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"a":"b"}}}]}}"#,
    r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","namespace":"default"},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"}},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"b"}]}}}}"#,
    r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"default"},"spec":{"type":"NodePort","clusterIP":"10.96.0.9","ports":[{"name":"a","port":80,"targetPort":"x","nodePort":30080,"protocol":"UDP"}],"externalIPs":["1.2.3.4"],"sessionAffinity":"ClientIP","ipFamilies":["IPv4"]}}"#,
    r#"{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"a","namespace":"default"},"spec":{"schedule":"*/5 1-3,7 * JAN MON-FRI","timeZone":"Europe/Berlin","jobTemplate":{"spec":{"completionMode":"Indexed","completions":3,"parallelism":2,"podFailurePolicy":{"rules":[{"action":"Ignore","onExitCodes":{"operator":"In","values":[1]}}]},"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"a","image":"b"}]}}}}}}"#,
    r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"a","namespace":"default"},"spec":{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":80,"endPort":90}]}]}}"#,
    r#"{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"a","namespace":"default"},"spec":{"hard":{"cpu":"1","pods":"2","count/jobs.batch":"1"},"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In","values":["a"]}]}}}"#,
    r#"{"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"a","namespace":"default"},"spec":{"minReplicas":1,"maxReplicas":3,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"a"},"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}],"behavior":{"scaleDown":{"policies":[{"type":"Pods","value":1,"periodSeconds":60}]}}}}"#,
];

fn texts(random: &mut Random) -> Vec<String> {
    let good = GOOD.iter().map(|text| (*text).to_owned());
    good.chain(objects(random).iter().map(Value::to_string)).collect()
}

pub fn json_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    let plain = r#"{"a":[1,-2.5e3,true,null,"\u00e9\n"],"b":{"c":{}}}"#;
    texts(random).into_iter().chain([plain.to_owned()]).map(String::into_bytes).collect()
}

pub fn json(input: &[u8]) -> String {
    let decoded = match json::decode(input) {
        Ok(decoded) => decoded,
        Err(error) => return error.to_string(),
    };
    let again = json::decode(decoded.value.to_string().as_bytes());
    assert_eq!(again.map(|d| d.value).ok().as_ref(), Some(&decoded.value), "JSON round trip");
    format!("decoded with {} duplicates", decoded.duplicates.len().min(2))
}

pub fn yaml_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    let more = "a: &x [1, 0644, yes, ~, '2', \"3\"]\nb: *x\nc: |\n  text\n  more\nd: >-\n  folded\n  on\ne: {f: 1.5, g: }\n";
    let own = objects(random).into_iter().map(|object| yaml::encode(&object));
    own.chain([more.to_owned()]).map(String::into_bytes).collect()
}

pub fn yaml(input: &[u8]) -> String {
    let value = match yaml::decode(input) {
        Ok(value) => value,
        Err(error) => return error.to_string(),
    };
    let text = yaml::encode(&value);
    let again = yaml::decode(text.as_bytes());
    assert_eq!(again.as_ref().ok(), Some(&value), "YAML round trip of {text:?}");
    "decoded".into()
}

pub fn protobuf_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    objects(random).iter().filter_map(|object| protobuf::encode_object(object).ok()).collect()
}

pub fn protobuf(input: &[u8]) -> String {
    let value = match protobuf::decode_object(input, ("v1", "Pod")) {
        Ok(value) => value,
        Err(error) => return error.to_string(),
    };
    // Whatever was decoded can be written in every format.
    assert!(protobuf::encode_object(&value).is_ok(), "a decoded object cannot be encoded");
    assert!(!value.to_string().is_empty() && !yaml::encode(&value).is_empty());
    format!("decoded {}", value["kind"])
}

fn kinds() -> &'static [Gvk] {
    static KINDS: OnceLock<Vec<Gvk>> = OnceLock::new();
    KINDS.get_or_init(|| generate::kinds().into_iter().map(|(gvk, _)| gvk).collect())
}

pub fn cbor_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    objects(random).iter().map(cbor::encode).collect()
}

pub fn cbor(input: &[u8]) -> String {
    let sequence = cbor::decode_sequence(input);
    let value = match cbor::decode(input) {
        Ok(value) => value,
        Err(error) => return error.to_string(),
    };
    assert_eq!(sequence.as_deref().ok(), Some(&[value.clone()][..]), "a document is a sequence");
    let again = cbor::decode(&cbor::encode(&value));
    assert_eq!(again.as_ref().ok(), Some(&value), "CBOR round trip");
    assert!(!value.to_string().is_empty() && !yaml::encode(&value).is_empty());
    "decoded".into()
}

/// Media types of bodies, some with parameters.
const MEDIA_TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/cbor",
    "application/json; charset=utf-8",
];

/// The kind and then one byte for the media type.
pub fn body_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, object) in objects(random).iter().enumerate() {
        let binary = protobuf::encode_object(object).unwrap_or_default();
        let yaml = yaml::encode(object).into_bytes();
        let bodies = [object.to_string().into_bytes(), yaml, binary, cbor::encode(object)];
        for (media_type, body) in bodies.into_iter().enumerate() {
            let head = [&choice(index)[..], &[u8::try_from(media_type).unwrap_or(0)]].concat();
            seeds.push([head, body].concat());
        }
    }
    seeds
}

pub fn body(input: &[u8]) -> String {
    let Some((kind, rest)) = chosen(input, kinds()) else { return "too short".into() };
    let Some((media_type, body)) = rest.split_first() else { return "too short".into() };
    let media_type = MEDIA_TYPES[usize::from(*media_type) % MEDIA_TYPES.len()];
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    let mut warnings = Vec::new();
    let want = &body::Wanted::built_in(kind.clone());
    let decoded = body::decode(&headers, body, want, FieldValidation::Warn, &mut warnings);
    let strict = body::decode(&headers, body, want, FieldValidation::Strict, &mut Vec::new());
    if decoded.is_ok() && warnings.is_empty() {
        assert!(strict.is_ok(), "nothing was warned of, but strict decoding fails");
    }
    outcome(decoded.map_err(|error| error.message), "decoded")
}

fn resources() -> &'static [Resource] {
    static RESOURCES: OnceLock<Vec<Resource>> = OnceLock::new();
    RESOURCES.get_or_init(longshore_resources::all)
}

pub fn object_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    texts(random).into_iter().map(String::into_bytes).collect()
}

/// What happens to an object between its decoding and its storing, and what is printed of it.
pub fn object(input: &[u8]) -> String {
    let Ok(decoded) = json::decode(input) else { return "no JSON".into() };
    let text = |key: &str| decoded.value[key].as_str().unwrap_or("");
    let found = resources()
        .iter()
        .find(|r| text("kind") == r.kind && text("apiVersion") == r.gvk().api_version());
    let Some(resource) = found else { return "another kind".into() };
    let gvk = resource.gvk();
    let Some(ty) = schema::kind(&gvk.group, &gvk.version, &gvk.kind) else {
        return "a kind without type".into();
    };
    let mut value = decoded.value.clone();
    if let Err(error) = normalize::normalize(ty, &mut value) {
        return error.to_string();
    }
    let mut again = value.clone();
    let unknown = normalize::normalize(ty, &mut again).expect("a normal object stays one");
    assert!(unknown.is_empty() && again == value, "normalising twice is not normalising once");
    defaults::apply(ty, &mut value);
    let Some(mut object) = Object::from_value(value) else { return "no object".into() };
    resource.strategy.default(&mut object);
    let now = Timestamp::from_second(1_772_600_000).expect("a time in range");
    let groups = ["system:authenticated".to_owned()];
    let extra = BTreeMap::new();
    for subresource in ["", "status"] {
        let ctx = Context {
            now,
            user: "eve",
            uid: "",
            groups: &groups,
            extra: &extra,
            subresource,
            warnings: &Unheard,
        };
        let strategy = &resource.strategy;
        let mut new = object.clone();
        strategy.prepare_create(&ctx, &mut new);
        let mut errors = validate_object_meta(
            &new,
            resource.namespaced(),
            &|name, prefix| strategy.validate_name(name, prefix),
            &Path::new("metadata"),
        );
        errors.extend(strategy.validate_create(&new));
        strategy.warnings(&new, None);
        let mut changed = object.clone();
        strategy.prepare_update(&ctx, &mut changed, &new);
        strategy.validate_update(&ctx, &changed, &new);
        strategy.warnings(&changed, Some(&new));
        strategy.selectable_fields(&object);
        assert_eq!(strategy.row(&object, now).len(), strategy.columns().len(), "cells and columns");
        let mut stored = new.clone();
        strategy.to_storage(&mut stored);
        strategy.from_storage(&mut stored);
        let mut whole = new.into_value();
        complete::complete(ty, &mut whole);
        if let Some(error) = errors.first() {
            return format!("{}: {error}", gvk.kind);
        }
    }
    format!("{} is valid", gvk.kind)
}

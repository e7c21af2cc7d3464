//! Certificate signing requests.
//!
//! upstream: pkg/registry/certificates/certificates/strategy.go,
//! pkg/apis/certificates/validation/validation.go

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use longshore_api::{Object, names};
use serde_json::{Value, json};

use crate::core::pods::cells::{AGE, NAME, age, human, text_column};
use crate::core::pods::tree::{fill, list_mut, text, texts};
use crate::plain::keep;
use crate::rbac::segment_name;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SHORTEST_SECONDS: i64 = 600;
/// Conditions that are never taken back.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];

/// The rules of signing requests.
pub(super) struct SigningRequests;

impl Strategy for SigningRequests {
    fn written_fields(&self, subresource: &str) -> Filter {
        match subresource {
            "status" => Filter::Except(&[&["spec"], &["status", "conditions"]]),
            "approval" => Filter::Except(&[&["spec"], &["status", "certificate"]]),
            _ => Filter::Except(&[&["spec"], &["status"]]),
        }
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn prepare_create(&self, ctx: &Context<'_>, object: &mut Object) {
        for key in ["uid", "extra"] {
            object.remove(&["spec", key]);
        }
        object.set(&["spec", "username"], ctx.user);
        object.set(&["spec", "groups"], ctx.groups.to_vec());
        if !ctx.uid.is_empty() {
            object.set(&["spec", "uid"], ctx.uid);
        }
        if !ctx.extra.is_empty() {
            object.set(&["spec", "extra"], json!(ctx.extra));
        }
        object.set(&["status"], json!({}));
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        keep(new, old, "spec");
        match ctx.subresource {
            "" => keep(new, old, "status"),
            "approval" => {
                let certificate = old.get(&["status", "certificate"]).cloned();
                new.remove(&["status", "certificate"]);
                if let Some(certificate) = certificate {
                    new.set(&["status", "certificate"], certificate);
                }
                stamp(ctx, new);
            }
            _ => stamp(ctx, new),
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object, None)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = rules(new, Some(old));
        changes(ctx, new, old, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        segment_name(name)
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", object.str(&["spec", "signerName"]).to_owned())]
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            AGE,
            text_column("SignerName", "Who is to sign it."),
            text_column("Requestor", "Who asked."),
            text_column("RequestedDuration", "How long it is to be good."),
            text_column("Condition", "What became of it."),
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let signer = match object.str(&["spec", "signerName"]) {
            "" => "<none>",
            signer => signer,
        };
        let duration = object.int(&["spec", "expirationSeconds"]).map(human);
        vec![
            object.name().into(),
            age(object, now),
            signer.into(),
            object.str(&["spec", "username"]).into(),
            duration.unwrap_or_else(|| "<none>".to_owned()).into(),
            state(object).into(),
        ]
    }
}

fn state(object: &Object) -> String {
    let has =
        |kind: &str| object.list(&["status", "conditions"]).iter().any(|c| text(c, "type") == kind);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied".to_owned(),
        (false, true) => "Approved".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !object.str(&["status", "certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    state
}

/// Fills the times of new conditions.
fn stamp(ctx: &Context<'_>, object: &mut Object) {
    let now = ctx.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let Some(status) = object.get_mut(&["status"]) else { return };
    for condition in list_mut(status, "conditions") {
        fill(condition, "lastUpdateTime", now.clone());
        fill(condition, "lastTransitionTime", now.clone());
    }
}

fn rules(object: &Object, old: Option<&Object>) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let path = Path::new("spec");
    let request = text(spec, "request");
    if !is_request(request) {
        let why = "PEM block type must be CERTIFICATE REQUEST";
        let shown = if request.is_empty() { Value::Null } else { request.into() };
        errors.push(Error::invalid(&path.child("request"), shown, why));
    }
    let usages = texts(spec, "usages");
    let at = path.child("usages");
    if usages.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    for (i, usage) in usages.iter().enumerate() {
        if !USAGES.contains(usage) {
            errors.push(Error::not_supported(&at.index(i), *usage, &USAGES));
        }
        if usages[..i].contains(usage) {
            errors.push(Error::duplicate(&at.index(i), *usage));
        }
    }
    let signer = text(spec, "signerName");
    let known = old.is_some_and(|old| old.str(&["spec", "signerName"]) == LEGACY_SIGNER);
    let at = path.child("signerName");
    if signer == LEGACY_SIGNER && !known {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&at, signer, why));
    } else {
        signer_name(signer, &at, &mut errors);
    }
    let seconds = object.int(&["spec", "expirationSeconds"]);
    if let Some(seconds) = seconds.filter(|s| *s < SHORTEST_SECONDS) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, why));
    }
    conditions(object, &mut errors);
    errors
}

/// Whether a request in base64 is in the right envelope.
fn is_request(request: &str) -> bool {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(request).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    ["-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"]
        .iter()
        .all(|line| text.contains(line))
}

/// upstream: pkg/apis/core/validation/validation.go ValidateSignerName
fn signer_name(name: &str, path: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(path, name, why));
        return;
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        errors.push(Error::too_long(path, names::SUBDOMAIN_MAX));
    }
    for part in [domain, rest] {
        for label in part.split('.') {
            let broken = if part == domain {
                names::is_dns1123_label(label)
            } else {
                names::is_dns1123_subdomain(label)
            };
            for why in broken {
                let why = format!("validating label {label:?}: {why}");
                errors.push(Error::invalid(path, part, &why));
            }
        }
    }
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, why));
    }
    let longest = names::SUBDOMAIN_MAX * 2 + names::LABEL_MAX + 2;
    if name.len() > longest {
        errors.push(Error::too_long(path, longest));
    }
}

fn conditions(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("status").child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in object.list(&["status", "conditions"]).iter().enumerate() {
        let at = path.index(i);
        let (kind, status) = (text(condition, "type"), text(condition, "status"));
        if kind.is_empty() {
            errors.push(Error::required(&at.child("type"), ""));
        }
        let set: &[&str] =
            if FINAL.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        if status.is_empty() {
            errors.push(Error::required(&at.child("status"), ""));
        } else if !set.contains(&status) {
            errors.push(Error::not_supported(&at.child("status"), status, set));
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(&other) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(&path, kind, why));
        }
        if seen.contains(&kind) {
            errors.push(Error::duplicate(&at.child("type"), kind));
        }
        seen.push(kind);
    }
}

/// What may change through which path.
fn changes(ctx: &Context<'_>, new: &Object, old: &Object, errors: &mut ErrorList) {
    let of = |object: &Object, kind: &str| -> Vec<Value> {
        let all = object.list(&["status", "conditions"]).iter();
        all.filter(|c| text(c, "type") == kind).cloned().collect()
    };
    let path = Path::new("status").child("conditions");
    for kind in FINAL {
        let (now, before) = (of(new, kind), of(old, kind));
        let what = if now.len() < before.len() {
            "remove"
        } else if ctx.subresource == "approval" || kind == "Failed" || now == before {
            continue;
        } else if now.len() > before.len() {
            "add"
        } else {
            "modify"
        };
        let why = format!("updates may not {what} a condition of type {kind:?}");
        errors.push(Error::forbidden(&path, &why));
    }
    let certificate = |object: &'_ Object| object.str(&["status", "certificate"]).to_owned();
    let (now, before) = (certificate(new), certificate(old));
    if now != before {
        let path = Path::new("status").child("certificate");
        if ctx.subresource != "status" {
            errors.push(Error::forbidden(&path, "updates may not set certificate content"));
        } else if !before.is_empty() {
            let why = "updates may not modify existing certificate content";
            errors.push(Error::forbidden(&path, why));
        }
    }
}

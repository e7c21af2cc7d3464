//! Certificate signing requests.
//!
//! upstream: pkg/registry/certificates/certificates/strategy.go,
//! pkg/apis/certificates/validation/validation.go

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use longshore_api::{Object, names};
use serde_json::{Value, json};

use crate::core::pods::cells::{AGE, NAME, age, human, text_column};
use crate::core::pods::tree::{fill, list_mut, text, texts};
use crate::plain::keep;
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
/// The tag of an ASN.1 sequence.
const SEQUENCE: u8 = 0x30;
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
                stamp(ctx, new, old);
            }
            _ => {
                keep_decision(new, old);
                stamp(ctx, new, old);
            }
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

    fn validate_name(&self, _name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
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

/// Fills the times of new conditions; one of the same state has been since as long.
///
/// upstream: strategy.go populateConditionTimestamps
fn stamp(ctx: &Context<'_>, object: &mut Object, old: &Object) {
    let now = ctx.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let before = old.list(&["status", "conditions"]);
    let Some(status) = object.get_mut(&["status"]) else { return };
    for condition in list_mut(status, "conditions") {
        let same = |old: &&Value| {
            ["type", "status"].iter().all(|key| text(old, key) == text(condition, key))
                && !text(old, "lastTransitionTime").is_empty()
        };
        let since = before.iter().find(same).map(|old| text(old, "lastTransitionTime"));
        let since = since.unwrap_or(&now).to_owned();
        fill(condition, "lastUpdateTime", now.clone());
        fill(condition, "lastTransitionTime", since);
    }
}

/// Approvals and denials stay as they are when they are not fewer or more.
///
/// upstream: strategy.go preserveConditionInstances
fn keep_decision(new: &mut Object, old: &Object) {
    let of = |object: &Object, kind: &str| -> Vec<usize> {
        let all = object.list(&["status", "conditions"]).iter().enumerate();
        all.filter(|(_, condition)| text(condition, "type") == kind).map(|(i, _)| i).collect()
    };
    for kind in ["Approved", "Denied"] {
        let (now, before) = (of(new, kind), of(old, kind));
        if now.len() != before.len() {
            continue;
        }
        let Some(all) = new.get_mut(&["status", "conditions"]).and_then(Value::as_array_mut) else {
            continue;
        };
        for (place, was) in now.into_iter().zip(before) {
            all[place] = old.list(&["status", "conditions"])[was].clone();
        }
    }
}

fn rules(object: &Object, old: Option<&Object>) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let path = Path::new("spec");
    if let Some(why) = wrong_request(text(spec, "request")) {
        let shown = spec.get("request").cloned().unwrap_or(Value::Null);
        errors.push(Error::invalid(&path.child("request"), shown, &why));
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
    let certificate = object.str(&["status", "certificate"]);
    let unchanged = old.is_some_and(|old| old.str(&["status", "certificate"]) == certificate);
    if let Some(why) = wrong_certificate(certificate).filter(|_| !unchanged) {
        let path = Path::new("status").child("certificate");
        errors.push(Error::invalid(&path, "<certificate data>", &why));
    }
    errors
}

/// What is wrong with an issued certificate in base64; a later one that was there already is not
/// asked again.
///
/// upstream: pkg/apis/certificates/validation/validation.go validateCertificate
fn wrong_certificate(certificate: &str) -> Option<String> {
    if certificate.is_empty() {
        return None;
    }
    let bytes = STANDARD.decode(certificate).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let (mut rest, mut blocks) = (&*text, 0_usize);
    while let Some((kind, body, after)) = next_block(rest) {
        rest = after;
        let lines = || body.lines().map(str::trim).filter(|line| !line.is_empty());
        let headers = lines().any(|line| line.contains(':'));
        let data: String = lines().collect();
        let Some(der) = STANDARD.decode(data).ok().or(headers.then(Vec::new)) else { continue };
        if kind != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {kind:?}"));
        }
        if headers {
            return Some("no PEM block headers are permitted".to_owned());
        }
        if der.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        if !is_sequence(&der) {
            return Some("x509: malformed certificate".to_owned());
        }
        blocks += 1;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// The type and the lines of the first PEM block of a text, and what comes after it.
fn next_block(text: &str) -> Option<(&str, &str, &str)> {
    const BEGIN: &str = "-----BEGIN ";
    let start = text.strip_prefix(BEGIN);
    let start = start.or_else(|| text.split_once(&format!("\n{BEGIN}")).map(|(_, rest)| rest))?;
    let (kind, body) = start.split_once("-----")?;
    let (body, after) = body.split_once(&format!("\n-----END {kind}-----"))?;
    Some((kind, body, after))
}

/// Whether bytes are one ASN.1 sequence in DER, as far as its length tells.
fn is_sequence(der: &[u8]) -> bool {
    let [SEQUENCE, first, rest @ ..] = der else { return false };
    let long = usize::from(first & 0x7f);
    if first & 0x80 == 0 {
        return rest.len() == long;
    }
    if long > size_of::<u32>() || rest.len() < long {
        return false;
    }
    let (length, rest) = rest.split_at(long);
    length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)) == rest.len()
}

/// What is wrong with a request in base64, as far as its envelope tells.
///
/// upstream: pkg/apis/certificates/helpers.go ParseCSR
fn wrong_request(request: &str) -> Option<String> {
    let bytes = STANDARD.decode(request).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let Some(("CERTIFICATE REQUEST", body, _)) = next_block(&text) else {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let data: String = body.lines().map(str::trim).collect();
    let der = STANDARD.decode(data).unwrap_or_default();
    match *der {
        [tag, length, ..] if tag != SEQUENCE => Some(format!(
            "asn1: structure error: tags don't match (16 vs {{class:{} tag:{} length:{length} isCompound:{}}}) {{optional:false explicit:false application:false private:false defaultValue:<nil> tag:<nil> stringType:0 timeType:0 set:false omitEmpty:false}} certificateRequest @2",
            tag >> 6,
            tag & 0x1f,
            tag & 0x20 != 0
        )),
        _ if is_sequence(&der) => None,
        _ => Some("asn1: syntax error: data truncated".to_owned()),
    }
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
            if !broken.is_empty() {
                let why = format!("validating label {label:?}: {}", broken.join(", "));
                errors.push(Error::invalid(path, part, &why));
                break;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_certificates_are_read() {
        let block = |kind: &str, lines: &str| {
            format!("-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n")
        };
        let check = |text: &str, why: Option<&str>| {
            assert_eq!(wrong_certificate(&STANDARD.encode(text)).as_deref(), why, "{text}");
        };
        let none = Some("must contain at least one CERTIFICATE PEM block");
        check("x", none);
        check("-----BEGIN CERTIFICATE-----\n", none);
        check(&format!("x{}", block("CERTIFICATE", "MAA=")), none);
        check(&block("CERTIFICATE", "%"), none);
        check(&block("CERTIFICATE", "MAA="), None);
        check(&block("CERTIFICATE", "MIEB/w=="), None);
        check(&block("CERTIFICATE", "MAE="), Some("x509: malformed certificate"));
        check(&block("CERTIFICATE", "A: b\n\nMAA="), Some("no PEM block headers are permitted"));
        let foreign = Some("only CERTIFICATE PEM blocks are allowed, found \"X\"");
        check(&(block("CERTIFICATE", "MAA=") + &block("X", "MAA=")), foreign);
        assert_eq!(wrong_certificate(""), None);
    }
}

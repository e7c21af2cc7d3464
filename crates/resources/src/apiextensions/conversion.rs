//! How objects get from one version to another.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go
//! validateCustomResourceConversion, staging/src/k8s.io/apiserver/pkg/util/webhook/validation.go

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::names;
use serde_json::Value;

use super::rules::{Rules, one_of};
use crate::admissionregistration::webhooks;
use crate::core::pods::tree::{opt_text, part, text, texts};

/// The versions of reviews that upstream's server reads.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

fn reviews(conversion: &Value) -> Vec<&str> {
    part(conversion, "webhook")
        .map_or_else(Vec::new, |hook| texts(hook, "conversionReviewVersions"))
}

fn client(conversion: &Value) -> Option<&Value> {
    part(conversion, "webhook").and_then(|hook| part(hook, "clientConfig"))
}

/// Whether the webhook takes no review at all or one that upstream's server knows.
pub(super) fn has_recognized_review(conversion: &Value) -> bool {
    let reviews = reviews(conversion);
    reviews.is_empty() || reviews.iter().any(|version| REVIEWS.contains(version))
}

/// Whether there is no bundle of certificates that is broken.
pub(super) fn has_good_bundle(conversion: &Value) -> bool {
    let bundle = client(conversion).map_or("", |client| text(client, "caBundle"));
    bundle_problem(bundle).is_none()
}

/// The rules of a conversion.
pub(super) fn check(conversion: &Value, rules: &Rules<'_>, path: &Path, errors: &mut ErrorList) {
    let strategy = text(conversion, "strategy");
    one_of(strategy, &["None", "Webhook"], &path.child("strategy"), errors);
    let at = path.child("webhookClientConfig");
    let at_reviews = path.child("conversionReviewVersions");
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client(conversion).is_some() {
            errors.push(Error::forbidden(&at, why));
        }
        if !reviews(conversion).is_empty() {
            errors.push(Error::forbidden(&at_reviews, why));
        }
        return;
    }
    match client(conversion) {
        None => errors.push(Error::required(&at, "required when strategy is set to Webhook")),
        Some(client) => {
            match (opt_text(client, "url"), part(client, "service")) {
                (Some(url), None) => webhooks::url(url, &at.child("url"), errors),
                (None, Some(service)) => {
                    webhooks::service(service, &at.child("service"), errors);
                }
                _ => errors.push(Error::required(&at, "exactly one of url or service is required")),
            }
            let bundle = text(client, "caBundle");
            if let Some(why) = bundle_problem(bundle).filter(|_| rules.good_bundle) {
                let why = format!("unable to load root certificates: {why}");
                errors.push(Error::invalid(&at.child("caBundle"), bundle, &why));
            }
        }
    }
    check_reviews(&reviews(conversion), rules.recognized_review, &at_reviews, errors);
}

fn check_reviews(versions: &[&str], recognized: bool, path: &Path, errors: &mut ErrorList) {
    if versions.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let at = path.index(index);
        if versions[..index].contains(version) {
            errors.push(Error::invalid(&at, *version, "duplicate version"));
            continue;
        }
        for why in names::is_dns1035_label(version) {
            errors.push(Error::invalid(&at, *version, &why));
        }
    }
    if recognized && !versions.iter().any(|version| REVIEWS.contains(version)) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(Error::invalid(path, versions.to_vec(), &why));
    }
}

/// What is wrong with a bundle of certificates, as far as it can be told from outside.
///
/// upstream: staging/src/k8s.io/client-go/transport/transport.go rootCertPool
fn bundle_problem(bundle: &str) -> Option<&'static str> {
    if bundle.is_empty() {
        return None;
    }
    let bytes = STANDARD.decode(bundle).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut rest: &str = &text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((kind, body)) = after.split_once("-----") else { break };
        let Some((body, after)) = body.split_once(&format!("-----END {kind}-----")) else {
            rest = after;
            continue;
        };
        rest = after;
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(&body).unwrap_or_default();
        if kind == "CERTIFICATE" && is_sequence(&der) {
            return None;
        }
        if rest.trim().is_empty() {
            let why = match kind {
                "CERTIFICATE" => "failed to parse certificate: x509: malformed certificate",
                _ => "no valid certificate authority data seen",
            };
            return Some(why);
        }
    }
    Some("unable to parse bytes as PEM block")
}

/// Whether bytes are one sequence of DER, as every certificate is.
fn is_sequence(der: &[u8]) -> bool {
    let (Some(0x30), Some(&first)) = (der.first(), der.get(1)) else { return false };
    let (length, header) = match first {
        0..=0x7f => (usize::from(first), 2),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let Some(bytes) = der.get(2..2 + count) else { return false };
            let length = bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            (length, 2 + count)
        }
        _ => return false,
    };
    der.len() == header + length
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bundles_hold_certificates() {
        let pem = |kind: &str, der: &[u8]| {
            let body = STANDARD.encode(der);
            STANDARD.encode(format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n"))
        };
        let cases = [
            (String::new(), None),
            (pem("CERTIFICATE", &[0x30, 1, 5]), None),
            (pem("CERTIFICATE", &[0x30, 0x81, 1, 5]), None),
            (
                pem("CERTIFICATE", &[0x30, 9, 5]),
                Some("failed to parse certificate: x509: malformed certificate"),
            ),
            (pem("KEY", &[1]), Some("no valid certificate authority data seen")),
            (STANDARD.encode("x"), Some("unable to parse bytes as PEM block")),
            ("!".into(), Some("unable to parse bytes as PEM block")),
        ];
        for (bundle, want) in cases {
            assert_eq!(bundle_problem(&bundle), want, "{bundle}");
        }
    }

    #[test]
    fn reviews_have_to_be_known_unless_they_were_not() {
        let conversion = |versions: Value| json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": versions}});
        assert!(has_recognized_review(&json!({"strategy": "None"})));
        assert!(has_recognized_review(&conversion(json!(["v2", "v1"]))));
        assert!(!has_recognized_review(&conversion(json!(["v2"]))));
    }
}

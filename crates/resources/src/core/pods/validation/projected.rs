//! Volumes that put several sources into one directory.
//!
//! upstream: pkg/apis/core/validation/validation.go validateProjectionSources

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::names;
use serde_json::Value;

use super::common::{label_selector, required};
use super::options::Options;
use super::paths::{local, mode};
use super::volumes::{downward, key_to_path};
use crate::core::pods::tree::{has, int, list, opt_text, part, text};

const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

/// A projected volume.
pub(super) fn source(source: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    mode(int(source, "defaultMode"), &path.child("defaultMode"), errors);
    let mut seen = BTreeSet::new();
    for (i, one) in list(source, "sources").iter().enumerate() {
        let at = path.child("sources").index(i);
        let mut count = 0;
        for key in ["secret", "configMap"] {
            if let Some(object) = part(one, key) {
                count += 1;
                keys(object, &at.child(key), path, &mut seen, errors);
            }
        }
        if let Some(fields) = part(one, "downwardAPI") {
            count += 1;
            for file in list(fields, "items") {
                downward(file, &at.child("downwardAPI"), errors);
                let target = text(file, "path");
                if !target.is_empty() && !seen.insert(target) {
                    conflict(path, target, errors);
                }
            }
        }
        if let Some(token) = part(one, "serviceAccountToken") {
            count += 1;
            self::token(token, &at.child("serviceAccountToken"), path, options, errors);
        }
        if let Some(bundle) = part(one, "clusterTrustBundle") {
            count += 1;
            self::bundle(bundle, &at.child("clusterTrustBundle"), errors);
            let target = text(bundle, "path");
            if !seen.insert(target) {
                conflict(path, target, errors);
            }
        }
        if count > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.push(Error::forbidden(&at, detail));
        }
    }
}

fn conflict(path: &Path, value: &str, errors: &mut ErrorList) {
    errors.push(Error::invalid(path, value, "conflicting duplicate paths"));
}

fn keys<'a>(
    object: &'a Value,
    at: &Path,
    volume: &Path,
    seen: &mut BTreeSet<&'a str>,
    errors: &mut ErrorList,
) {
    let name = text(object, "name");
    required(name, &at.child("name"), errors);
    for (i, item) in list(object, "items").iter().enumerate() {
        key_to_path(item, &at.child("items").index(i), errors);
        let target = text(item, "path");
        if !target.is_empty() && !seen.insert(target) {
            conflict(volume, name, errors);
        }
    }
}

fn token(token: &Value, at: &Path, volume: &Path, options: &Options, errors: &mut ErrorList) {
    let seconds = int(token, "expirationSeconds").unwrap_or(0);
    let detail = if seconds < TOKEN_SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > TOKEN_SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        ""
    };
    if !detail.is_empty() {
        errors.push(Error::invalid(&at.child("expirationSeconds"), seconds, detail));
    }
    let target = text(token, "path");
    let at = volume.child("path");
    if target.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if !options.non_local_token_path {
        local(target, &at, errors);
    }
}

fn bundle(bundle: &Value, at: &Path, errors: &mut ErrorList) {
    match (opt_text(bundle, "name"), opt_text(bundle, "signerName")) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            errors.push(Error::invalid(at, bundle.clone(), detail));
        }
        (Some(name), None) => {
            let path = at.child("name");
            if name.is_empty() {
                errors.push(Error::required(&path, "must be a valid object name"));
            }
            let own = name.rsplit_once(':').map_or(name, |(_, own)| own);
            for message in names::is_dns1123_subdomain(own) {
                let detail = format!("not a valid clustertrustbundlename: {message}");
                errors.push(Error::invalid(&path, name, &detail));
            }
            if has(bundle, "labelSelector") {
                let detail = "labelSelector must be unset if name is specified";
                let selector = bundle["labelSelector"].clone();
                errors.push(Error::invalid(&at.child("labelSelector"), selector, detail));
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                let detail = "must be a valid signer name";
                errors.push(Error::required(&at.child("signerName"), detail));
            }
            let selector = bundle.get("labelSelector");
            label_selector(selector, &at.child("labelSelector"), false, errors);
        }
        (None, None) => {
            let detail = "either name or signerName must be specified";
            errors.push(Error::required(at, detail));
        }
    }
    required(text(bundle, "path"), &at.child("path"), errors);
    local(text(bundle, "path"), &at.child("path"), errors);
}

/// Without a service account there are no tokens.
pub(super) fn no_tokens(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        let Some(projected) = part(volume, "projected") else { continue };
        let at = path.child("volumes").index(i).child("projected").child("sources");
        for (i, source) in list(projected, "sources").iter().enumerate() {
            if has(source, "serviceAccountToken") {
                let detail = "must not be specified when serviceAccountName is not set";
                let at = at.index(i).child("serviceAccountToken");
                errors.push(Error::forbidden(&at, detail));
            }
        }
    }
}

//! Secrets.
//!
//! upstream: pkg/registry/core/secret/strategy.go, pkg/apis/core/validation/validation.go ValidateSecret

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, json, names};
use serde_json::Value;

use super::configmaps::{DATA_BYTES_MAX, frozen, map, size};
use super::pods::cells::{AGE, NAME, age, text_column};
use super::pods::validation::common::immutable;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// The rules of secrets.
pub(super) struct Secrets;

impl Strategy for Secrets {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        // What clients may write as plain text is kept as data.
        if let Some(Value::Object(plain)) = object.remove(&["stringData"]) {
            for (key, value) in plain {
                let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
                object.set(&["data", &key], encoded);
            }
        }
        if object.str(&["type"]).is_empty() {
            object.set(&["type"], "Opaque");
        }
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        // A client that leaves the type out does not mean to change it.
        if new.str(&["type"]).is_empty() {
            new.set(&["type"], old.str(&["type"]));
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        immutable(new.get(&["type"]), old.get(&["type"]), &Path::new("type"), &mut errors);
        errors.extend(frozen(new, old, &["data"]));
        errors.extend(rules(new));
        errors
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        if object.str(&["type"]) != "kubernetes.io/tls" {
            return Vec::new();
        }
        tls_warning(object).into_iter().collect()
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("type", object.str(&["type"]).to_owned())]
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> Vec<Column> {
        let data = text_column("Data", "How many values it holds.");
        vec![NAME, text_column("Type", "What the values are for."), data, AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = map(object, "data").len();
        let kind = object.str(&["type"]);
        vec![object.name().into(), kind.into(), count.into(), age(object, now)]
    }
}

fn rules(object: &Object) -> ErrorList {
    let path = Path::new("data");
    let data = map(object, "data");
    let mut errors = ErrorList::new();
    let mut total = 0;
    for (key, value) in data {
        for why in names::is_config_map_key(key) {
            errors.push(Error::invalid(&path.key(key), key.as_str(), &why));
        }
        total += size(value, true);
    }
    if total > DATA_BYTES_MAX {
        errors.push(Error::too_long(&path, DATA_BYTES_MAX));
    }
    let mut required = |key: &str| errors.push(Error::required(&path.key(key), ""));
    match object.str(&["type"]) {
        "kubernetes.io/service-account-token"
            if object.annotation(ACCOUNT_NAME).unwrap_or("").is_empty() =>
        {
            let path = Path::new("metadata").child("annotations").key(ACCOUNT_NAME);
            errors.push(Error::required(&path, ""));
        }
        "kubernetes.io/dockercfg" => docker(object, ".dockercfg", &mut errors),
        "kubernetes.io/dockerconfigjson" => docker(object, ".dockerconfigjson", &mut errors),
        "kubernetes.io/basic-auth"
            if !data.contains_key("username") && !data.contains_key("password") =>
        {
            required("username");
            required("password");
        }
        "kubernetes.io/ssh-auth" => {
            let empty = data.get("ssh-privatekey").is_none_or(|v| size(v, true) == 0);
            if empty {
                required("ssh-privatekey");
            }
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !data.contains_key(key) {
                    required(key);
                }
            }
        }
        _ => {}
    }
    errors
}

/// What is wrong with the texts of a certificate and its key; whether they go together is not
/// looked at.
///
/// upstream: pkg/registry/core/secret/strategy.go warningsForSecret
fn tls_warning(object: &Object) -> Option<String> {
    let data = map(object, "data");
    for (key, input, wanted) in
        [("tls.crt", "certificate", "CERTIFICATE"), ("tls.key", "key", "PRIVATE KEY")]
    {
        let value = data.get(key).and_then(Value::as_str).unwrap_or("");
        let text =
            String::from_utf8_lossy(&STANDARD.decode(value).unwrap_or_default()).into_owned();
        let blocks = pem_blocks(&text);
        if blocks.is_empty() {
            return Some(format!("tls: failed to find any PEM data in {input} input"));
        }
        if !blocks.iter().any(|block| block.ends_with(wanted)) {
            let (named, skipped) = match input {
                "key" => ("PEM block with type ending in \"PRIVATE KEY\"", blocks.join(" ")),
                _ => ("\"CERTIFICATE\" PEM block", blocks.join(" ")),
            };
            return Some(format!(
                "tls: failed to find {named} in {input} input after skipping PEM blocks of the following types: [{skipped}]"
            ));
        }
    }
    None
}

/// The types of the PEM blocks in a text.
fn pem_blocks(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((kind, body)) = after.split_once("-----") else { break };
        match body.split_once(&format!("-----END {kind}-----")) {
            Some((_, after)) => {
                blocks.push(kind);
                rest = after;
            }
            None => rest = body,
        }
    }
    blocks
}

/// Registry credentials have to be a JSON object.
fn docker(object: &Object, key: &str, errors: &mut ErrorList) {
    let path = Path::new("data").key(key);
    let Some(value) = map(object, "data").get(key) else {
        errors.push(Error::required(&path, ""));
        return;
    };
    let bytes = STANDARD.decode(value.as_str().unwrap_or("")).unwrap_or_default();
    let found = match json::decode(&bytes).map(|decoded| decoded.value) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(Value::Bool(_)) => Ok("bool"),
        Ok(Value::Number(_)) => Ok("number"),
        Ok(Value::String(_)) => Ok("string"),
        Ok(Value::Array(_)) => Ok("array"),
        Err(error) => Err(error.to_string()),
    };
    let why = found.map_or_else(
        |why| why,
        |kind| {
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        },
    );
    errors.push(Error::invalid(&path, "<secret contents redacted>", &why));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn certificates_that_are_no_pem_warn() {
        let check = |crt: &str, key: &str, want: Option<&str>| {
            let data = json!({"tls.crt": STANDARD.encode(crt), "tls.key": STANDARD.encode(key)});
            let secret = json!({"type": "kubernetes.io/tls", "data": data});
            let secret = Object::from_value(secret).expect("an object");
            assert_eq!(tls_warning(&secret).as_deref(), want);
        };
        let block = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        let (crt, key) = (block("CERTIFICATE"), block("EC PRIVATE KEY"));
        check("x", "y", Some("tls: failed to find any PEM data in certificate input"));
        check(&crt, "y", Some("tls: failed to find any PEM data in key input"));
        check(&crt, &key, None);
        check(
            &key,
            &key,
            Some(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [EC PRIVATE KEY]",
            ),
        );
    }
}

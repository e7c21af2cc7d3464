//! Priority levels.
//!
//! upstream: pkg/apis/flowcontrol/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use serde_json::{Value, json};

use super::conditions;
use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{fill, fill_int, int, part, part_mut, text};
use crate::plain::{keep_metadata, separate, status_alone};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const QUEUES_MAX: i64 = 10_000_000;
/// Bits of the hash that deals requests to queues.
const HASH_BITS: u32 = 60;
const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

/// The rules of priority levels.
pub(super) struct PriorityLevels;

impl Strategy for PriorityLevels {
    fn written_fields(&self, subresource: &str) -> Filter {
        status_alone(subresource)
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::WHOLE
    }

    fn default(&self, object: &mut Object) {
        let Some(spec) = object.get_mut(&["spec"]) else { return };
        for (key, shares) in [("exempt", 0), ("limited", 30)] {
            if part(spec, key).is_some() {
                let level = part_mut(spec, key);
                fill(level, "nominalConcurrencyShares", shares);
                fill(level, "lendablePercent", 0);
            }
        }
        let Some(response) = spec.get_mut("limited").and_then(|l| l.get_mut("limitResponse"))
        else {
            return;
        };
        if part(response, "queuing").is_some() {
            let queuing = part_mut(response, "queuing");
            for (key, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                fill_int(queuing, key, value);
            }
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({}));
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
        if ctx.subresource == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = spec(object);
        super::mandatory::priority_level(object, &mut errors);
        conditions(object, &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        if ctx.subresource != "status" {
            return self.validate_create(new);
        }
        let mut errors = ErrorList::new();
        conditions(new, &mut errors);
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Type", "Exempt or Limited."),
            text_column("NominalConcurrencyShares", "Its share of all requests at a time."),
            text_column("Queues", "How many queues it has."),
            text_column("HandSize", "How many queues a flow may use."),
            text_column("QueueLengthLimit", "How many requests may wait in a queue."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        const QUEUING: [&str; 4] = ["spec", "limited", "limitResponse", "queuing"];
        let shares = object.get(&["spec", "limited", "nominalConcurrencyShares"]);
        let queuing = |key: &str| {
            let value = object.get(&QUEUING).and_then(|queuing| queuing.get(key));
            value.cloned().unwrap_or_else(|| "<none>".into())
        };
        vec![
            object.name().into(),
            object.str(&["spec", "type"]).into(),
            shares.cloned().unwrap_or_else(|| "<none>".into()),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            age(object, now),
        ]
    }
}

fn spec(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if object.annotation(PRESERVE_ZERO).is_some() {
        let path = Path::new("metadata").child("annotations");
        let why = format!("annotation '{PRESERVE_ZERO}' is forbidden");
        errors.push(Error::forbidden(&path, &why));
    }
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let path = Path::new("spec");
    let kind = text(spec, "type");
    if (object.name() == "exempt") != (kind == "Exempt") {
        let why = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(Error::invalid(&path.child("type"), kind, why));
    }
    let (exempt, limited) = (part(spec, "exempt"), part(spec, "limited"));
    let at = path.child("limited");
    match kind {
        "Exempt" => {
            if limited.is_some() {
                errors.push(Error::forbidden(&at, "must be nil if the type is not Limited"));
            }
            if let Some(level) = exempt {
                shares(level, &path.child("exempt"), &mut errors);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                let why = "must be nil if the type is Limited";
                errors.push(Error::forbidden(&path.child("exempt"), why));
            }
            match limited {
                None => {
                    errors.push(Error::required(&at, "must not be empty when type is Limited"));
                }
                Some(level) => {
                    shares(level, &at, &mut errors);
                    response(level, &at.child("limitResponse"), &mut errors);
                    if let Some(n) = int(level, "borrowingLimitPercent").filter(|n| *n < 0) {
                        let why = "if specified, must be a non-negative integer";
                        errors.push(Error::invalid(&at.child("borrowingLimitPercent"), n, why));
                    }
                }
            }
        }
        _ => {
            let set = ["Exempt", "Limited"];
            errors.push(Error::not_supported(&path.child("type"), kind, &set));
        }
    }
    errors
}

fn shares(level: &Value, path: &Path, errors: &mut ErrorList) {
    if let Some(n) = int(level, "nominalConcurrencyShares").filter(|n| *n < 0) {
        let why = "must be a non-negative integer";
        errors.push(Error::invalid(&path.child("nominalConcurrencyShares"), n, why));
    }
    if let Some(n) = int(level, "lendablePercent").filter(|n| !(0..=100).contains(n)) {
        let why = "must be between 0 and 100, inclusive";
        errors.push(Error::invalid(&path.child("lendablePercent"), n, why));
    }
}

fn response(level: &Value, path: &Path, errors: &mut ErrorList) {
    let response = part(level, "limitResponse").unwrap_or(&Value::Null);
    let at = path.child("queuing");
    match (text(response, "type"), part(response, "queuing")) {
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(Error::forbidden(&at, why));
        }
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(Error::required(&at, why));
        }
        ("Queue", Some(queuing)) => queues(queuing, &at, errors),
        ("Reject", None) => {}
        (kind, _) => {
            errors.push(Error::not_supported(&path.child("type"), kind, &["Queue", "Reject"]));
        }
    }
}

fn queues(queuing: &Value, path: &Path, errors: &mut ErrorList) {
    let get = |key: &str| int(queuing, key).unwrap_or(0);
    let (queues, hand) = (get("queues"), get("handSize"));
    let mut bad = |key: &str, why: &str| {
        errors.push(Error::invalid(&path.child(key), get(key), why));
    };
    if get("queueLengthLimit") <= 0 {
        bad("queueLengthLimit", "must be positive");
    }
    if queues <= 0 {
        bad("queues", "must be positive");
    } else if queues > QUEUES_MAX {
        bad("queues", &format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand <= 0 {
        bad("handSize", "must be positive");
    } else if hand > queues {
        bad("handSize", &format!("should not be greater than queues ({queues})"));
    } else if entropy_bits(queues, hand) > HASH_BITS {
        bad(
            "handSize",
            &format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
            ),
        );
    }
}

/// Bits that dealing a hand needs.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/util/shufflesharding RequiredEntropyBits
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "upstream counts in floats; the product of two small positive numbers is small"
)]
fn entropy_bits(deck: i64, hand: i64) -> u32 {
    ((deck as f64).log2() * hand as f64).ceil() as u32
}

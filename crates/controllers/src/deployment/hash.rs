//! The hash of a template that tells a deployment's ReplicaSets apart.
//!
//! Upstream hashes Go's print of the struct, which nobody else can repeat; the value is opaque, so
//! ours is the same kind of hash over the template's JSON, whose keys are sorted.
//!
//! upstream: pkg/controller/controller_utils.go ComputeHash

use serde_json::Value;

/// The letters of safe suffixes: no vowels, no look-alikes.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/rand/rand.go
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template; `collisions` changes it when a name is taken.
pub(crate) fn of(template: &Value, collisions: Option<i64>) -> String {
    let mut hash = 0x811c_9dc5_u32;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    eat(template.to_string().as_bytes());
    if let Some(collisions) = collisions {
        eat(&collisions.to_le_bytes());
    }
    let digits = hash.to_string();
    digits.bytes().map(|b| char::from(ALPHABET[b as usize % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_and_collisions_change_the_hash() {
        let (a, b) = (json!({"spec": {"a": 1}}), json!({"spec": {"a": 2}}));
        assert_eq!(of(&a, None), of(&a.clone(), None));
        assert_ne!(of(&a, None), of(&b, None));
        assert_ne!(of(&a, None), of(&a, Some(1)));
        assert!(of(&a, None).bytes().all(|b| ALPHABET.contains(&b)));
    }
}

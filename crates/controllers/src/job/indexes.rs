//! Sets of completion indexes, written like `1,3-5,7`.
//!
//! upstream: pkg/controller/job/indexed_job_utils.go

use std::collections::BTreeSet;
use std::fmt::Write as _;

use longshore_api::Object;

/// The annotation (and label) with a pod's index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The indexes that a text names, below `limit`.
pub(super) fn parse(text: &str, limit: i64) -> BTreeSet<i64> {
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
            all.extend(first.max(0)..=last.min(limit - 1));
        }
    }
    all
}

/// The text for a set of indexes.
pub(super) fn print(indexes: &BTreeSet<i64>) -> String {
    let mut text = String::new();
    let mut rest = indexes.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.peek() == Some(&(last + 1)) {
            last += 1;
            rest.next();
        }
        if !text.is_empty() {
            text.push(',');
        }
        let written = match last - first {
            0 => write!(text, "{first}"),
            1 => write!(text, "{first},{last}"),
            _ => write!(text, "{first}-{last}"),
        };
        written.expect("writing to a string does not fail");
    }
    text
}

/// The index of a pod.
pub(super) fn of(pod: &Object) -> Option<i64> {
    pod.annotation(INDEX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_sets() {
        for text in ["", "0", "1,3-5,7", "0,1", "0-2,9"] {
            assert_eq!(print(&parse(text, 100)), text);
        }
        assert_eq!(print(&parse("0-9", 3)), "0-2");
    }
}

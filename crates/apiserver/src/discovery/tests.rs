use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::*;

fn facts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts/reference")
}

/// A recorded document; `None` when the facts are not there.
fn recorded(name: &str) -> Option<Value> {
    let path = facts().join(format!("{name}.json.gz"));
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("gzip");
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn table() -> ServedTable {
    ServedTable::new(longshore_resources::all())
}

#[test]
fn legacy_documents_are_as_recorded() {
    let Some(recorded) = recorded("discovery-legacy") else { return };
    let table = table();
    let mut differences = Vec::new();
    for (path, theirs) in recorded.as_object().expect("documents by path") {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let mine = match segments.as_slice() {
            ["api"] => Some(core_versions("127.0.0.1:16643")),
            ["apis"] => Some(group_list(&table, &[])),
            ["api", version] => resource_list(&table, "", version),
            ["apis", name] => group(&table, &[], name),
            ["apis", group, version] => resource_list(&table, group, version),
            _ => continue,
        };
        let mine = mine.unwrap_or_default();
        if mine != *theirs {
            differences.push(format!("{path}:\n  {mine}\nwhere upstream has\n  {theirs}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn aggregated_documents_are_as_recorded() {
    for (name, core) in [("discovery-aggregated-api", true), ("discovery-aggregated-apis", false)] {
        let Some(theirs) = recorded(name) else { return };
        let mine = aggregated(&table(), &[], core);
        let items = |value: &Value| value["items"].as_array().cloned().unwrap_or_default();
        for (mine, theirs) in items(&mine).iter().zip(items(&theirs)) {
            assert_eq!(mine, &theirs, "{name} {}", theirs["metadata"]);
        }
        assert_eq!(mine, theirs, "{name}");
    }
}

#[test]
fn every_stored_resource_has_a_hash_of_its_own() {
    let table = table();
    let stored = table.iter().filter(|served| !served.resource.storage.is_empty());
    let hashes: Vec<String> = stored.map(|served| storage_hash(&served.resource)).collect();
    let distinct: BTreeSet<&String> = hashes.iter().collect();
    // Two pairs of versions share their stored form.
    assert_eq!(distinct.len() + 2, hashes.len());
}

//! Advice on volumes: old sources, and files that hide each other.
//!
//! upstream: pkg/api/pod/warnings.go warningsForOverlappingVirtualPaths

use serde_json::Value;

use super::claim;
use crate::core::pods::tree::{has, list, opt_text, part, text};

/// Sources that no longer work: the field, its name in paths, and since when.
const OLD: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "v1.28, non-functional in v1.31+"),
];

/// A file in a volume, and where it comes from.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
    }

    fn print(&self) -> String {
        match self.source.as_str() {
            "" => format!("{:?}", self.path),
            source => format!("{:?} ({source})", self.path),
        }
    }

    /// Whether one of the files is the other or lies under it.
    fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty() && !other.path.is_empty() && (a.starts_with(&b) || b.starts_with(&a))
    }
}

/// The warnings of a spec's volumes.
pub(super) fn volumes(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        let at = format!("{path}.volumes[{i}]");
        for (key, name, since) in OLD {
            if has(volume, key) {
                warnings.push(format!("{at}.{name}: deprecated in {since}"));
            }
        }
        let template = part(volume, "ephemeral").and_then(|e| part(e, "volumeClaimTemplate"));
        if let Some(template) = template {
            let at = format!("{at}.ephemeral.volumeClaimTemplate.spec");
            warnings.extend(claim(part(template, "spec").unwrap_or(&Value::Null), &at));
        }
    }
    list(spec, "volumes").iter().for_each(|volume| overlaps(volume, warnings));
}

fn items(holder: &Value, source: &str) -> Vec<File> {
    list(holder, "items").iter().map(|item| File::new(text(item, "path"), source)).collect()
}

fn overlaps(volume: &Value, warnings: &mut Vec<String>) {
    let name = text(volume, "name");
    let mut report = |what: &str, files: Vec<File>| {
        for (i, file) in files.iter().enumerate() {
            for other in files[..i].iter().filter(|other| file.overlaps(other)) {
                warnings.push(format!(
                    "volume {name:?} ({what}): overlapping paths: {} with {}",
                    file.print(),
                    other.print()
                ));
            }
        }
    };
    if let Some(map) = part(volume, "configMap") {
        report(&format!("ConfigMap {:?}", text(map, "name")), items(map, ""));
    }
    if let Some(secret) = part(volume, "secret") {
        report(&format!("Secret {:?}", text(secret, "secretName")), items(secret, ""));
    }
    if let Some(fields) = part(volume, "downwardAPI") {
        report("DownwardAPI", items(fields, ""));
    }
    let Some(projected) = part(volume, "projected") else { return };
    let sources = list(projected, "sources");
    report("Projected", sources.iter().flat_map(files).collect());
    for _ in sources.iter().filter(|s| s.as_object().is_none_or(serde_json::Map::is_empty)) {
        warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
    }
}

/// The files of one source of a projected volume.
fn files(source: &Value) -> Vec<File> {
    let named = |key: &str, what: &str| {
        let object = part(source, key).filter(|o| !list(o, "items").is_empty())?;
        Some(items(object, &format!("{what} {:?}", text(object, "name"))))
    };
    if let Some(files) = named("configMap", "ConfigMap").or_else(|| named("secret", "Secret")) {
        return files;
    }
    if let Some(fields) = part(source, "downwardAPI") {
        return items(fields, "DownwardAPI");
    }
    if let Some(token) = part(source, "serviceAccountToken") {
        return vec![File::new(text(token, "path"), "ServiceAccountToken")];
    }
    if let Some(bundle) = part(source, "clusterTrustBundle") {
        let name = opt_text(bundle, "name").unwrap_or(text(bundle, "signerName"));
        return vec![File::new(text(bundle, "path"), &format!("ClusterTrustBundle {name:?}"))];
    }
    Vec::new()
}

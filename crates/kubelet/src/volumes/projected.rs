//! Files that are made from objects: config maps, secrets, fields of the pod, and tokens. All files
//! of a volume change at once.
//!
//! upstream: pkg/volume/projected, pkg/volume/util/atomic_writer.go

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use longshore_api::Object;
use longshore_client::resource::{CONFIG_MAPS, Resource, SECRETS};
use serde_json::Value;

use crate::Shared;
use crate::env::{self, ConfigError};
use crate::tokens;

/// The link to the directory with the present files.
const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
/// The mode of files when the volume says nothing.
const MODE_DEFAULT: u32 = 0o644;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    /// Whose file it is, if not root's.
    pub(crate) owner: Option<u32>,
}

impl File {
    fn new(content: Vec<u8>, mode: u32) -> Self {
        Self { content, mode, owner: None }
    }
}

/// The user whom all containers of a pod run as, if the spec says so.
///
/// upstream: pkg/volume/util/util.go FsUserFrom
fn user(pod: &Object) -> Option<u32> {
    let of_pod = pod.int(&["spec", "securityContext", "runAsUser"]);
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers = lists.iter().flat_map(|list| pod.list(&["spec", list]));
    let mut users = containers.map(|c| c["securityContext"]["runAsUser"].as_i64().or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

/// A token is for the pod's user only, when it is known who that is.
///
/// upstream: pkg/volume/projected/projected.go collectData
fn token(pod: &Object, content: Vec<u8>, default: u32) -> File {
    let owner = user(pod);
    let private = owner.is_some() || super::group(pod).is_some();
    File { content, mode: if private { 0o600 } else { default }, owner }
}

/// Files by their path in the volume.
pub(crate) type Files = BTreeMap<String, File>;

fn mode(value: &Value, default: u32) -> u32 {
    value.as_i64().and_then(|m| u32::try_from(m).ok()).unwrap_or(default)
}

/// The files of a volume.
pub(crate) async fn files(
    shared: &Shared,
    pod: &Object,
    volume: &Value,
) -> Result<Files, ConfigError> {
    let mut files = Files::new();
    let source = |kind: &str| volume.get(kind);
    if let Some(spec) = source("configMap") {
        let default = mode(&spec["defaultMode"], MODE_DEFAULT);
        object(shared, pod, spec, CONFIG_MAPS, "name", default, &mut files).await?;
    } else if let Some(spec) = source("secret") {
        let default = mode(&spec["defaultMode"], MODE_DEFAULT);
        object(shared, pod, spec, SECRETS, "secretName", default, &mut files).await?;
    } else if let Some(spec) = source("downwardAPI") {
        let default = mode(&spec["defaultMode"], MODE_DEFAULT);
        fields(shared, pod, spec, default, &mut files);
    } else if let Some(spec) = source("projected") {
        let default = mode(&spec["defaultMode"], MODE_DEFAULT);
        for part in spec["sources"].as_array().into_iter().flatten() {
            if let Some(spec) = part.get("configMap") {
                object(shared, pod, spec, CONFIG_MAPS, "name", default, &mut files).await?;
            }
            if let Some(spec) = part.get("secret") {
                object(shared, pod, spec, SECRETS, "name", default, &mut files).await?;
            }
            if let Some(spec) = part.get("downwardAPI") {
                fields(shared, pod, spec, default, &mut files);
            }
            if let Some(spec) = part.get("serviceAccountToken") {
                let content = tokens::get(shared, pod, spec).await?;
                let path = spec["path"].as_str().unwrap_or("token").to_owned();
                files.insert(path, token(pod, content, default));
            }
        }
    }
    Ok(files)
}

async fn object(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    of: Resource,
    name_field: &str,
    default: u32,
    files: &mut Files,
) -> Result<(), ConfigError> {
    let name = spec[name_field].as_str().unwrap_or("");
    let optional = spec["optional"] == true;
    let Some(found) = env::source(shared, pod.namespace(), of, name, optional).await? else {
        return Ok(());
    };
    let mut values = env::values(&found);
    let Some(items) = spec["items"].as_array() else {
        let all = values.into_iter().map(|(k, content)| (k, File::new(content, default)));
        files.extend(all);
        return Ok(());
    };
    for item in items {
        let key = item["key"].as_str().unwrap_or("");
        match values.remove(key) {
            Some(content) => {
                let path = item["path"].as_str().unwrap_or(key).to_owned();
                files.insert(path, File::new(content, mode(&item["mode"], default)));
            }
            None if optional => {}
            None => {
                return Err(ConfigError::Missing(format!(
                    "references non-existent config key: {key}"
                )));
            }
        }
    }
    Ok(())
}

fn fields(shared: &Shared, pod: &Object, spec: &Value, default: u32, files: &mut Files) {
    for item in spec["items"].as_array().into_iter().flatten() {
        let text = match item["fieldRef"]["fieldPath"].as_str() {
            // Addresses are no fields that a volume may name.
            Some(path) => env::field(shared, pod, path, &[]),
            None => env::resource(shared, pod, &Value::Null, &item["resourceFieldRef"]),
        };
        let path = item["path"].as_str().unwrap_or("").to_owned();
        files.insert(path, File::new(text.into(), mode(&item["mode"], default)));
    }
}

/// Writes the files in one step: into a new directory, then a link is turned to it.
pub(crate) fn write(dir: &Path, files: &Files, group: Option<u32>) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let data = dir.join(DATA);
    let old = std::fs::read_link(&data).ok();
    if old.is_some() && is_current(&data, files) {
        return Ok(());
    }
    let number = old.as_ref().and_then(|o| o.to_str()?.strip_prefix("..v")?.parse::<u64>().ok());
    let name = format!("..v{}", number.unwrap_or(0) + 1);
    let target = dir.join(&name);
    for (path, file) in files {
        let full = target.join(path);
        std::fs::create_dir_all(full.parent().unwrap_or(&target))?;
        std::fs::write(&full, &file.content)?;
        let readable = if group.is_some() { file.mode | 0o040 } else { file.mode };
        std::fs::set_permissions(&full, std::fs::Permissions::from_mode(readable))?;
        std::os::unix::fs::chown(&full, file.owner, group)?;
    }
    std::fs::create_dir_all(&target)?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
    let temporary = dir.join(DATA_NEW);
    if temporary.symlink_metadata().is_ok() {
        std::fs::remove_file(&temporary)?;
    }
    symlink(&name, &temporary)?;
    std::fs::rename(&temporary, &data)?;
    let tops: std::collections::BTreeSet<&str> =
        files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let link = dir.join(top);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(top), link)?;
        }
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let own = entry.file_name().to_string_lossy().into_owned();
        if !own.starts_with("..") && !tops.contains(own.as_str()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    match old {
        Some(old) => std::fs::remove_dir_all(dir.join(old)),
        None => Ok(()),
    }
}

fn is_current(data: &Path, files: &Files) -> bool {
    let mut count = 0;
    let mut pending = vec![data.to_owned()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { return false };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let relative = path.strip_prefix(data).unwrap_or(&path).display().to_string();
            let same = files
                .get(&relative)
                .is_some_and(|file| std::fs::read(&path).is_ok_and(|c| c == file.content));
            if !same {
                return false;
            }
            count += 1;
        }
    }
    count == files.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_the_user_of_the_pod() {
        let file = |of_pod: Value, of_container: Value| {
            let pod = Object::from_value(serde_json::json!({ "spec": {
                "securityContext": of_pod,
                "initContainers": [{ "name": "i", "securityContext": of_container }],
                "containers": [{ "name": "c" }],
            }}));
            let file = token(&pod.expect("an object"), Vec::new(), 0o644);
            (file.mode, file.owner)
        };
        let json = |text: &str| serde_json::from_str::<Value>(text).expect("json");
        let (user, other) = (json(r#"{"runAsUser":1000}"#), json(r#"{"runAsUser":5}"#));
        assert_eq!(file(Value::Null, Value::Null), (0o644, None));
        assert_eq!(file(user.clone(), Value::Null), (0o600, Some(1000)));
        assert_eq!(file(user, other.clone()), (0o644, None));
        assert_eq!(file(Value::Null, other), (0o644, None));
        assert_eq!(file(json(r#"{"fsGroup":1}"#), Value::Null), (0o600, None));
    }

    #[test]
    fn files_change_at_once_and_gone_ones_disappear() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = |text: &str| File::new(text.into(), 0o600);
        let mut files = Files::from([("a".to_owned(), file("1")), ("d/b".to_owned(), file("2"))]);
        write(dir.path(), &files, None).expect("writes");
        let read = |path: &str| std::fs::read_to_string(dir.path().join(path)).ok();
        assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("1"), Some("2")));
        let before = std::fs::read_link(dir.path().join(DATA)).expect("a link");
        write(dir.path(), &files, None).expect("writes");
        assert_eq!(std::fs::read_link(dir.path().join(DATA)).expect("a link"), before);
        files.remove("d/b");
        files.insert("a".into(), file("3"));
        write(dir.path(), &files, None).expect("writes");
        assert_eq!((read("a").as_deref(), read("d/b")), (Some("3"), None));
        assert!(!dir.path().join(before).exists());
    }
}

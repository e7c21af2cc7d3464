//! The volumes of a pod: made before its containers start, kept up to date while it runs, removed
//! when it is gone.
//!
//! upstream: pkg/volume

mod projected;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_cri::v1::{Mount, MountPropagation};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::Value;

use crate::Shared;
use crate::env::{self, ConfigError};

/// The directory of a pod.
pub(crate) fn pod_dir(shared: &Shared, pod: &Object) -> PathBuf {
    dir_of(shared, pod.uid())
}

/// The directory of a pod by its uid.
pub(crate) fn dir_of(shared: &Shared, uid: &str) -> PathBuf {
    shared.config.root_dir.join("pods").join(uid)
}

/// The kinds of volumes whose content is written by us.
const WRITTEN: [&str; 4] = ["configMap", "secret", "projected", "downwardAPI"];

fn kind_of(volume: &Value) -> &str {
    let fields = volume.as_object().into_iter().flatten();
    fields.map(|(key, _)| key.as_str()).find(|key| *key != "name").unwrap_or("emptyDir")
}

/// Where a volume of a pod lies.
pub(crate) fn volume_dir(shared: &Shared, pod: &Object, volume: &Value) -> PathBuf {
    let kind = kind_of(volume).replace("emptyDir", "empty-dir");
    let name = volume["name"].as_str().unwrap_or("");
    let kind = kind.replace("configMap", "configmap").replace("downwardAPI", "downward-api");
    pod_dir(shared, pod).join("volumes").join(format!("kubernetes.io~{kind}")).join(name)
}

fn io(path: &Path, error: impl std::fmt::Display) -> ConfigError {
    ConfigError::Missing(format!("cannot prepare {}: {error}", path.display()))
}

/// Makes all volumes of a pod; those that are there already are brought up to date.
pub(crate) async fn prepare(shared: &Shared, pod: &Object) -> Result<(), ConfigError> {
    let dir = pod_dir(shared, pod);
    std::fs::create_dir_all(&dir).map_err(|e| io(&dir, e))?;
    for volume in pod.list(&["spec", "volumes"]) {
        let dir = volume_dir(shared, pod, volume);
        let kind = kind_of(volume);
        match kind {
            "emptyDir" => empty(&dir, &volume["emptyDir"], group(pod))?,
            "hostPath" => host_path(&volume["hostPath"])?,
            kind if WRITTEN.contains(&kind) => {
                if kind == "secret" || kind == "projected" {
                    in_memory(&dir, "")?;
                }
                let files = projected::files(shared, pod, volume).await?;
                projected::write(&dir, &files, group(pod)).map_err(|e| io(&dir, e))?;
            }
            other => {
                return Err(ConfigError::Missing(format!(
                    "volume {:?}: the type {other} is not supported by this node",
                    volume["name"].as_str().unwrap_or("")
                )));
            }
        }
    }
    Ok(())
}

/// Whether a pod has volumes whose content may change.
pub(crate) fn may_change(pod: &Object) -> bool {
    pod.list(&["spec", "volumes"]).iter().any(|v| WRITTEN.contains(&kind_of(v)))
}

fn group(pod: &Object) -> Option<u32> {
    pod.int(&["spec", "securityContext", "fsGroup"]).and_then(|g| u32::try_from(g).ok())
}

fn empty(dir: &Path, spec: &Value, group: Option<u32>) -> Result<(), ConfigError> {
    if dir.exists() {
        return Ok(());
    }
    if spec["medium"] == "Memory" {
        let limit = spec["sizeLimit"].as_str().and_then(|q| Quantity::parse(q).ok());
        let options = limit.map_or(String::new(), |q| format!("size={}", q.value()));
        in_memory(dir, &options)?;
    } else {
        std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
    }
    // A file system in memory comes with the bit that keeps what is others'.
    let sticky = if spec["medium"] == "Memory" { 0o1000 } else { 0 };
    let mode = sticky | if group.is_some() { 0o2777 } else { 0o777 };
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(dir, permissions).map_err(|e| io(dir, e))?;
    std::os::unix::fs::chown(dir, None, group).map_err(|e| io(dir, e))
}

fn is_mounted(dir: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = dir.display().to_string();
    table.lines().any(|line| line.split(' ').nth(1) == Some(&dir))
}

/// Puts a file system in memory on a directory.
fn in_memory(dir: &Path, options: &str) -> Result<(), ConfigError> {
    std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
    if is_mounted(dir) {
        return Ok(());
    }
    let options = std::ffi::CString::new(options).map_err(|e| io(dir, e))?;
    rustix::mount::mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID, Some(options.as_c_str()))
        .map_err(|e| io(dir, e))
}

/// upstream: pkg/volume/hostpath/host_path.go
fn host_path(spec: &Value) -> Result<(), ConfigError> {
    use std::os::unix::fs::FileTypeExt as _;
    let path = Path::new(spec["path"].as_str().unwrap_or(""));
    let found = std::fs::metadata(path).ok().map(|m| m.file_type());
    let is = |test: fn(&std::fs::FileType) -> bool| found.as_ref().is_some_and(test);
    let wrong = |what: &str| {
        Err(ConfigError::Missing(format!(
            "hostPath type check failed: {} is not {what}",
            path.display()
        )))
    };
    match spec["type"].as_str().unwrap_or("") {
        "DirectoryOrCreate" if found.is_none() => {
            std::fs::create_dir_all(path).map_err(|e| io(path, e))
        }
        "FileOrCreate" if found.is_none() => std::fs::write(path, "").map_err(|e| io(path, e)),
        "Directory" | "DirectoryOrCreate" if !is(std::fs::FileType::is_dir) => wrong("a directory"),
        "File" | "FileOrCreate" if !is(std::fs::FileType::is_file) => wrong("a file"),
        "Socket" if !is(|t| t.is_socket()) => wrong("a socket file"),
        "CharDevice" if !is(|t| t.is_char_device()) => wrong("a character device"),
        "BlockDevice" if !is(|t| t.is_block_device()) => wrong("a block device"),
        _ => Ok(()),
    }
}

/// The mounts of a container.
pub(crate) fn mounts(
    shared: &Shared,
    pod: &Object,
    spec: &Value,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Mount>, ConfigError> {
    let mut mounts = Vec::new();
    for mount in spec["volumeMounts"].as_array().into_iter().flatten() {
        let name = mount["name"].as_str().unwrap_or("");
        let volume = pod.list(&["spec", "volumes"]).iter().find(|v| v["name"] == name);
        let Some(volume) = volume else {
            return Err(ConfigError::Missing(format!("volume {name:?} not found")));
        };
        let mut host = match kind_of(volume) {
            "hostPath" => PathBuf::from(volume["hostPath"]["path"].as_str().unwrap_or("")),
            _ => volume_dir(shared, pod, volume),
        };
        let sub = match mount["subPathExpr"].as_str() {
            Some(expression) => env::expand_all(expression, lookup)?,
            None => mount["subPath"].as_str().unwrap_or("").to_owned(),
        };
        if !sub.is_empty() {
            host = sub_path(&host, &sub)?;
        }
        let propagation = match mount["mountPropagation"].as_str() {
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => MountPropagation::PropagationBidirectional,
            _ => MountPropagation::PropagationPrivate,
        };
        let path = mount["mountPath"].as_str().unwrap_or("");
        mounts.push(Mount {
            container_path: if path.starts_with('/') { path.into() } else { format!("/{path}") },
            host_path: host.display().to_string(),
            readonly: mount["readOnly"] == true || WRITTEN.contains(&kind_of(volume)),
            propagation: propagation as i32,
            ..Default::default()
        });
    }
    Ok(mounts)
}

/// A path inside a volume: made when it is missing, as open as the volume is, and never outside of
/// the volume, also by way of symbolic links.
///
/// upstream: staging/src/k8s.io/mount-utils, pkg/volume/util/subpath SafeMakeDir
fn sub_path(volume: &Path, sub: &str) -> Result<PathBuf, ConfigError> {
    let escapes = || ConfigError::Missing(format!("subPath {sub:?} leaves the volume"));
    if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
        return Err(escapes());
    }
    let root = volume.canonicalize().map_err(|e| io(volume, e))?;
    let permissions = std::fs::metadata(&root).map_err(|e| io(&root, e))?.permissions();
    let mut path = root.clone();
    for part in sub.split('/').filter(|part| !matches!(*part, "" | ".")) {
        path.push(part);
        match std::fs::create_dir(&path) {
            // The mode is set after it, as the process takes some rights away from what it makes.
            Ok(()) => std::fs::set_permissions(&path, permissions.clone()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(|e| io(&path, e))?;
        path = path.canonicalize().map_err(|e| io(&path, e))?;
        if !path.starts_with(&root) {
            return Err(escapes());
        }
    }
    Ok(path)
}

/// Removes everything of a pod from the disk.
pub(crate) fn remove(shared: &Shared, uid: &str) {
    let dir = dir_of(shared, uid);
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let prefix = format!("{}/", dir.display());
    let mut mounted: Vec<&str> = table
        .lines()
        .filter_map(|l| l.split(' ').nth(1))
        .filter(|p| p.starts_with(&prefix))
        .collect();
    mounted.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for path in mounted {
        if let Err(error) = rustix::mount::unmount(path, UnmountFlags::DETACH) {
            tracing::warn!(path, %error, "cannot unmount a volume");
            return;
        }
    }
    if let Err(error) = std::fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %dir.display(), %error, "cannot remove a pod's directory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_in_a_volume_is_as_open_as_the_volume() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (volume, outside) = (dir.path().join("v"), dir.path().join("o"));
        std::fs::create_dir(&volume).and_then(|()| std::fs::create_dir(&outside)).expect("made");
        let open = std::fs::Permissions::from_mode(0o2777);
        std::fs::set_permissions(&volume, open).expect("it is ours");
        let made = sub_path(&volume, "a/./b").expect("made");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(made, volume.canonicalize().expect("there").join("a/b"));
        assert_eq!((mode(&made) & 0o7777, mode(&volume.join("a")) & 0o7777), (0o2777, 0o2777));
        std::fs::write(volume.join("f"), "").expect("writes");
        assert!(sub_path(&volume, "f").is_ok_and(|path| path.is_file()));
        std::os::unix::fs::symlink(&outside, volume.join("l")).expect("linked");
        for bad in ["l", "l/x", "/a", "a/../..", "f/x"] {
            assert!(sub_path(&volume, bad).is_err(), "{bad}");
        }
        assert!(!outside.join("x").exists());
    }
}

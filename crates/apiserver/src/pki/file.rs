//! Files that are written whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// Mode of files that hold secrets.
pub(super) const PRIVATE: u32 = 0o600;
/// Mode of files that everybody may read.
pub(super) const PUBLIC: u32 = 0o644;

pub(super) fn cert(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.crt"))
}

pub(super) fn key(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.key"))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

pub(super) fn create_dir(dir: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed("create", dir))
}

/// The file's text, or `None` when there is no file.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| Error::Damaged {
            path: path.to_owned(),
            why: "it is not text".to_owned(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Replaces the file: a new file beside it is written, synced and renamed over it.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let parent = path.parent().expect("files lie in a directory");
    let mut name = path.file_name().expect("files have a name").to_owned();
    name.push(".new");
    let temporary = parent.join(name);
    // One left by a crash may have another mode: start afresh.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed("remove", &temporary)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("create", &temporary))?;
    file.write_all(text.as_bytes()).map_err(failed("write", &temporary))?;
    file.sync_all().map_err(failed("sync", &temporary))?;
    std::fs::rename(&temporary, path).map_err(failed("rename", &temporary))?;
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("sync", parent))
}

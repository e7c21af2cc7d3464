//! Paths inside volumes.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateLocalNonReservedPath

use longshore_api::field::{Error, ErrorList, Path};

/// A path without steps upwards.
pub(crate) fn no_backsteps(target: &str, path: &Path, errors: &mut ErrorList) {
    if target.split('/').any(|step| step == "..") {
        errors.push(Error::invalid(path, target, "must not contain '..'"));
    }
}

/// A relative path without steps upwards.
pub(crate) fn descending(target: &str, path: &Path, errors: &mut ErrorList) {
    if target.starts_with('/') {
        errors.push(Error::invalid(path, target, "must be a relative path"));
    }
    no_backsteps(target, path, errors);
}

/// As [`descending`], and not starting with two dots.
pub(crate) fn local(target: &str, path: &Path, errors: &mut ErrorList) {
    descending(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.push(Error::invalid(path, target, "must not start with '..'"));
    }
}

/// The permissions of a file.
pub(crate) fn mode(mode: Option<i64>, path: &Path, errors: &mut ErrorList) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(Error::invalid(path, mode, detail));
    }
}

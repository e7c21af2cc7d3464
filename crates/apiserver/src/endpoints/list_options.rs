//! The options of lists, watches and deletions of collections, from the query.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/internalversion/{defaults,validation},
//! staging/src/k8s.io/apiserver/pkg/endpoints/handlers/get.go listOpts

use std::num::IntErrorKind;

use longshore_api::StatusError;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::selector::{FieldSelector, LabelSelector};

use crate::cache::Interest;
use crate::registry::Served;
use crate::request_info::RequestInfo;

/// The checked options of one request.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Which objects are asked for.
    pub interest: Interest,
    /// `resourceVersion` as given.
    pub version: String,
    /// `resourceVersionMatch`.
    pub matching: String,
    /// The most objects of one page; 0 for all.
    pub limit: usize,
    /// `continue`.
    pub token: String,
    /// `timeoutSeconds`; 0 when none is asked for.
    pub timeout_seconds: u64,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `sendInitialEvents`, also where it follows from the other options.
    pub initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks the options of a request.
    pub fn of(served: &Served, info: &RequestInfo) -> Result<Self, StatusError> {
        let timeout = number(info, "timeoutSeconds")?;
        let limit = number(info, "limit")?;
        let labels = match info.param("labelSelector") {
            "" => None,
            text => Some(LabelSelector::parse(text).map_err(bad)?),
        };
        let fields = match info.param("fieldSelector") {
            "" => None,
            text => Some(FieldSelector::parse(text).map_err(bad)?),
        };
        let given = info.query.contains_key("sendInitialEvents");
        let mut options = Self {
            interest: Interest {
                namespace: info.namespace.clone(),
                name: String::new(),
                labels: labels.filter(|selector| !selector.is_empty()),
                fields: None,
            },
            version: info.param("resourceVersion").to_owned(),
            matching: info.param("resourceVersionMatch").to_owned(),
            limit: usize::try_from(limit).unwrap_or(0),
            token: info.param("continue").to_owned(),
            timeout_seconds: u64::try_from(timeout).unwrap_or(0),
            bookmarks: info.flag("allowWatchBookmarks"),
            initial_events: given.then(|| info.flag("sendInitialEvents")),
        };
        let watch = info.flag("watch");
        options.complete(watch);
        let errors = options.problems(watch);
        if !errors.is_empty() {
            return Err(StatusError::invalid("meta.k8s.io", "ListOptions", "", &errors));
        }
        options.interest.fields = select(served, info, fields)?;
        options.interest.name = info.name.clone();
        if let Some(fields) = &options.interest.fields {
            let name = fields.exact("metadata.name").unwrap_or("").to_owned();
            options.narrow(served, name);
        }
        Ok(options)
    }

    /// A watch from any state starts with that state.
    fn complete(&mut self, watch: bool) {
        let any_state = matches!(self.version.as_str(), "" | "0");
        if watch && any_state && self.initial_events.is_none() && self.matching.is_empty() {
            self.initial_events = Some(true);
            self.matching = "NotOlderThan".into();
        }
    }

    /// Takes from the selector what the cache can look up.
    fn narrow(&mut self, served: &Served, name: String) {
        if self.interest.name.is_empty() {
            self.interest.name = name;
        }
        let fields = self.interest.fields.as_ref();
        let namespace = fields.and_then(|f| f.exact("metadata.namespace")).unwrap_or("");
        if self.interest.namespace.is_empty() && served.resource.namespaced() {
            self.interest.namespace = namespace.to_owned();
        }
    }

    fn problems(&self, watch: bool) -> ErrorList {
        let path = Path::new("resourceVersionMatch");
        let forbidden = |text: &str| Error::forbidden(&path, text);
        let mut errors = ErrorList::new();
        let matching = self.matching.as_str();
        if watch && self.initial_events.is_some() && matching != "NotOlderThan" {
            errors.push(forbidden(
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        let continued = "resourceVersionMatch is forbidden when continue is provided";
        if watch && !matching.is_empty() {
            if self.initial_events.is_none() {
                errors.push(forbidden(
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            if matching != "NotOlderThan" {
                errors.push(Error::not_supported(&path, matching, &["NotOlderThan"]));
            }
            if !self.token.is_empty() {
                errors.push(forbidden(continued));
            }
        }
        if watch {
            return errors;
        }
        if !matching.is_empty() {
            if self.version.is_empty() {
                errors.push(forbidden(
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if !self.token.is_empty() {
                errors.push(forbidden(continued));
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                errors.push(Error::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
            }
            if matching == "Exact" && self.version == "0" {
                errors.push(forbidden(
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
        }
        if self.initial_events.is_some() {
            let text = "sendInitialEvents is forbidden for list";
            errors.push(Error::forbidden(&Path::new("sendInitialEvents"), text));
        }
        errors
    }

    /// Whether a selector restricts the result; a name alone does, too.
    pub fn is_selective(&self) -> bool {
        self.interest.labels.is_some() || self.interest.fields.is_some()
    }
}

fn bad(error: impl std::fmt::Display) -> StatusError {
    StatusError::bad_request(error.to_string())
}

/// A number of the query; 0 when it is not there. Present without a value is an error.
fn number(info: &RequestInfo, name: &str) -> Result<i64, StatusError> {
    let Some(text) = info.query.get(name).and_then(|values| values.first()) else { return Ok(0) };
    parse_number(text)
}

/// Parses a number as Go's `strconv.ParseInt` does.
pub fn parse_number(text: &str) -> Result<i64, StatusError> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let range = matches!(error.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
        let why = if range { "value out of range" } else { "invalid syntax" };
        StatusError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
    })
}

/// The field selector with the names that the resource keeps its fields under.
fn select(
    served: &Served,
    info: &RequestInfo,
    fields: Option<FieldSelector>,
) -> Result<Option<FieldSelector>, StatusError> {
    let resource = &served.resource;
    let known = resource.strategy.selectable_names();
    let Some(mut selector) = fields.filter(|selector| !selector.requirements().is_empty()) else {
        return Ok(None);
    };
    for requirement in selector.requirements_mut() {
        let field = resource.strategy.canonical_field(&requirement.field);
        let own = known.contains(&field) || field == "metadata.name";
        let plain = known.is_empty() && resource.custom.is_none();
        let namespace = field == "metadata.namespace" && (plain || resource.namespaced());
        if !own && !namespace {
            return Err(bad(resource.strategy.unsupported_field(field)));
        }
        requirement.field = field.to_owned();
    }
    if !info.name.is_empty() && selector.exact("metadata.name") != Some(info.name.as_str()) {
        return Err(bad("fieldSelector metadata.name doesn't match requested name"));
    }
    Ok(Some(selector))
}

/// The number of a `resourceVersion`; 400 for what is none.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/storage/api_object_versioner.go ParseResourceVersion
pub fn parse_version(text: &str) -> Result<u64, StatusError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|error: std::num::ParseIntError| {
        let range = *error.kind() == IntErrorKind::PosOverflow;
        let why = if range { "value out of range" } else { "invalid syntax" };
        let detail = format!("strconv.ParseUint: parsing {text:?}: {why}");
        let error = Error::invalid(&Path::new("resourceVersion"), text, &detail);
        StatusError::bad_request(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str, watch: bool) -> Vec<String> {
        let query = crate::request_info::parse_query(text);
        let param = |name: &str| {
            query.get(name).and_then(|v| v.first()).map_or(String::new(), String::clone)
        };
        let mut options = ListOptions {
            version: param("resourceVersion"),
            matching: param("resourceVersionMatch"),
            token: param("continue"),
            initial_events: query.contains_key("sendInitialEvents").then_some(true),
            ..ListOptions::default()
        };
        options.complete(watch);
        options.problems(watch).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn watches_and_lists_have_rules_of_their_own() {
        for (text, list, watch) in [
            ("", 0, 0),
            ("resourceVersion=1&resourceVersionMatch=Exact", 0, 2),
            ("resourceVersion=0&resourceVersionMatch=Exact", 1, 2),
            ("resourceVersionMatch=NotOlderThan", 1, 1),
            ("resourceVersion=1&resourceVersionMatch=x", 1, 2),
            ("sendInitialEvents=1", 1, 1),
            ("sendInitialEvents=1&resourceVersionMatch=NotOlderThan", 2, 0),
            ("continue=a", 0, 1),
            ("continue=a&resourceVersion=5", 0, 0),
        ] {
            assert_eq!(options(text, false).len(), list, "list {text}");
            assert_eq!(options(text, true).len(), watch, "watch {text}");
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, want) in [
            ("", "strconv.ParseInt: parsing \"\": invalid syntax"),
            ("1.5", "strconv.ParseInt: parsing \"1.5\": invalid syntax"),
            (
                "99999999999999999999",
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(parse_number(text).expect_err("not a number").message, want);
        }
        assert_eq!(parse_number("-3").expect("a number"), -3);
        assert_eq!(parse_version("").expect("unset"), 0);
        assert!(parse_version("-1").is_err());
    }
}

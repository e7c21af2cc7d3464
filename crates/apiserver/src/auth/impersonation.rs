//! Acting as somebody else.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/impersonation

use std::collections::BTreeMap;

use http::header::{HeaderMap, HeaderName};
use longshore_api::patch::gotext;
use longshore_api::{StatusError, names};

use super::user::{
    ANONYMOUS, AUTHENTICATED, MASTERS, NODE_NAME, NODE_PREFIX, NODES, UNAUTHENTICATED, UserInfo,
    split_service_account,
};
use super::{Attributes, Authorization, Decision, forbidden};
use crate::request_info::percent_decode;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Whether a request asks to act as somebody else.
pub fn is_requested(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("impersonate-"))
}

/// The user to act as, when the headers ask for one and `request.user` may do so; the headers are
/// removed then. `request` is what the real user asks for.
pub fn impersonate(
    authorization: &Authorization,
    headers: &mut HeaderMap,
    request: &Attributes<'_>,
) -> Result<Option<UserInfo>, StatusError> {
    let Some(wanted) = wanted_user(headers)? else { return Ok(None) };
    let own: Vec<HeaderName> =
        headers.keys().filter(|n| n.as_str().starts_with("impersonate-")).cloned().collect();
    for name in own {
        headers.remove(name);
    }
    // Who may act as anybody needs no narrower permission, and gets no groups by it.
    let refused = match ANYBODY.check(authorization, &wanted, request) {
        Ok(user) => return Ok(Some(user)),
        Err(error) => error,
    };
    let mut first_error = None;
    for mode in &MODES {
        if !(mode.applies)(&wanted, request.user) {
            continue;
        }
        match mode.check(authorization, &wanted, request) {
            Ok(user) => return Ok(Some(user)),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or(refused))
}

fn wanted_user(headers: &HeaderMap) -> Result<Option<UserInfo>, StatusError> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let one = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let mut user = UserInfo { name: one(USER), uid: one(UID), ..UserInfo::default() };
    user.groups = headers.get_all(GROUP).iter().map(text).collect();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let values = headers.get_all(name).iter().map(text);
        user.extra.entry(percent_decode(key, false)).or_default().extend(values);
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    Err(StatusError::bad_request(format!(
        "requested {} without impersonating a user name",
        go_syntax(&user)
    )))
}

/// The user as Go's `%#v` prints it.
fn go_syntax(user: &UserInfo) -> String {
    let list = |items: &[String]| {
        let quoted: Vec<String> = items.iter().map(|item| gotext::quote(item)).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups =
        if user.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&user.groups) };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let entries: Vec<String> =
            user.extra.iter().map(|(k, v)| format!("{}:{}", gotext::quote(k), list(v))).collect();
        format!("map[string][]string{{{}}}", entries.join(", "))
    };
    format!(
        "&user.DefaultInfo{{Name:{}, UID:{}, Groups:{groups}, Extra:{extra}}}",
        gotext::quote(&user.name),
        gotext::quote(&user.uid)
    )
}

/// One way to be allowed. All but [`ANYBODY`] also ask whether the request itself may be made in this
/// way.
struct Mode {
    name: &'static str,
    applies: fn(&UserInfo, &UserInfo) -> bool,
}

// The order is upstream's: the narrow permissions are tried first.
const MODES: [Mode; 4] = [
    Mode { name: "associated-node", applies: is_own_node },
    Mode { name: "arbitrary-node", applies: |u, _| only_name(u) && node_name(&u.name).is_some() },
    Mode {
        name: "serviceaccount",
        applies: |u, _| only_name(u) && split_service_account(&u.name).is_some(),
    },
    Mode {
        name: "user-info",
        applies: |u, _| node_name(&u.name).is_none() && split_service_account(&u.name).is_none(),
    },
];

/// The permission that is not bound to requests.
const ANYBODY: Mode = Mode { name: "", applies: |_, _| true };

fn only_name(user: &UserInfo) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix(NODE_PREFIX).filter(|name| names::is_dns1123_subdomain(name).is_empty())
}

fn is_own_node(wanted: &UserInfo, requester: &UserInfo) -> bool {
    let values = requester.extra.get(NODE_NAME).map_or(&[][..], Vec::as_slice);
    only_name(wanted)
        && requester.as_service_account().is_some()
        && node_name(&wanted.name).is_some_and(|name| matches!(values, [one] if one == name))
}

impl Mode {
    fn constrained(&self) -> bool {
        !self.name.is_empty()
    }

    fn check(
        &self,
        authorization: &Authorization,
        wanted: &UserInfo,
        request: &Attributes<'_>,
    ) -> Result<UserInfo, StatusError> {
        if self.constrained() {
            let verb = format!("impersonate-on:{}:{}", self.name, request.verb);
            allowed(authorization, &Attributes { verb: &verb, ..*request })?;
        }
        let verb = if self.constrained() {
            format!("impersonate:{}", self.name)
        } else {
            "impersonate".to_owned()
        };
        let (group, version) = if self.constrained() { (AUTHENTICATION, "v1") } else { ("", "v1") };
        let ask = Attributes {
            version,
            ..Attributes::for_resource(request.user, &verb, group, "users", "", "")
        };
        let mut user = wanted.clone();
        self.check_name(authorization, &ask, wanted, &mut user)?;
        if !wanted.uid.is_empty() {
            let uid =
                Attributes { group: AUTHENTICATION, resource: "uids", name: &wanted.uid, ..ask };
            allowed(authorization, &uid)?;
        }
        self.check_groups(authorization, &Attributes { resource: "groups", ..ask }, wanted)?;
        let extras = Attributes { group: AUTHENTICATION, resource: "userextras", ..ask };
        self.check_extra(authorization, &extras, &wanted.extra)?;
        if user.name == ANONYMOUS {
            ensure_group(&mut user, UNAUTHENTICATED);
        } else if !user.in_group(UNAUTHENTICATED) {
            ensure_group(&mut user, AUTHENTICATED);
        }
        Ok(user)
    }

    fn check_name(
        &self,
        authorization: &Authorization,
        ask: &Attributes<'_>,
        wanted: &UserInfo,
        user: &mut UserInfo,
    ) -> Result<(), StatusError> {
        let mut ask = Attributes { name: &wanted.name, ..*ask };
        if self.constrained()
            && let Some(node) = node_name(&wanted.name)
        {
            ask.resource = "nodes";
            // Being allowed for the own node means being allowed for whichever that is.
            ask.name = if self.name == "associated-node" { "*" } else { node };
            user.groups = vec![NODES.to_owned()];
        }
        if let Some((namespace, name)) = split_service_account(&wanted.name) {
            (ask.resource, ask.namespace, ask.name) = ("serviceaccounts", namespace, name);
            if wanted.groups.is_empty() {
                let mut groups = UserInfo::service_account(namespace, name).groups;
                groups.retain(|group| group != AUTHENTICATED);
                user.groups = groups;
            }
        }
        allowed(authorization, &ask)
    }

    fn check_groups(
        &self,
        authorization: &Authorization,
        ask: &Attributes<'_>,
        wanted: &UserInfo,
    ) -> Result<(), StatusError> {
        if self.constrained() {
            if wanted.groups.iter().any(String::is_empty) {
                let text = "impersonating the empty string group is not allowed";
                return Err(forbidden(ask, text));
            }
            if wanted.in_group(MASTERS) {
                let text = "impersonating the system:masters group is not allowed";
                return Err(forbidden(&Attributes { name: MASTERS, ..*ask }, text));
            }
        }
        for group in &wanted.groups {
            allowed(authorization, &Attributes { name: group, ..*ask })?;
        }
        Ok(())
    }

    fn check_extra(
        &self,
        authorization: &Authorization,
        ask: &Attributes<'_>,
        extra: &BTreeMap<String, Vec<String>>,
    ) -> Result<(), StatusError> {
        for (key, values) in extra {
            if self.constrained() {
                if key.is_empty() {
                    let text = "impersonating the empty string key in extra is not allowed";
                    return Err(forbidden(ask, text));
                }
                if values.iter().any(String::is_empty) {
                    let text = "impersonating the empty string value in extra is not allowed";
                    return Err(forbidden(ask, text));
                }
            }
            for value in values {
                allowed(authorization, &Attributes { subresource: key, name: value, ..*ask })?;
            }
        }
        Ok(())
    }
}

const AUTHENTICATION: &str = "authentication.k8s.io";

fn allowed(authorization: &Authorization, ask: &Attributes<'_>) -> Result<(), StatusError> {
    match authorization.authorize(ask) {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(ask, &reason)),
    }
}

fn ensure_group(user: &mut UserInfo, group: &str) {
    if !user.in_group(group) {
        user.groups.push(group.to_owned());
    }
}

//! Who may write what of a claim of devices.
//!
//! upstream: pkg/registry/resource/resourceclaim/strategy.go, pkg/registry/resource/utils.go

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_resources::rights;
use serde_json::Value;

use super::{Registry, WriteContext};
use crate::auth::{Attributes, forbidden};

const GROUP: &str = "resource.k8s.io";
const CLAIMS: &str = "resourceclaims";
/// Marks the namespaces in which claims may ask for all rights on devices.
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";
/// What a token that was made for a pod tells of the pod's node.
const NODE_EXTRA: &str = "authentication.kubernetes.io/node-name";

/// A change of the state of a claim.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
    verb: &'a str,
}

impl Registry {
    /// What a user may not write of a claim or of a template of claims.
    pub(super) fn claim_rights(
        &self,
        ctx: &WriteContext<'_>,
        new: &Object,
        old: Option<&Object>,
        verb: &str,
    ) -> ErrorList {
        let mut errors = ErrorList::new();
        if ctx.resource().group != GROUP {
            return errors;
        }
        let empty = Value::Null;
        let of =
            |object: &'_ Object, path: &[&str]| object.get(path).cloned().unwrap_or(Value::Null);
        match (&*ctx.resource().plural, ctx.subresource, old) {
            (CLAIMS, "", None) => self.admin(ctx, &of(new, &["spec"]), &empty, &mut errors),
            ("resourceclaimtemplates", "", None) => {
                self.admin(ctx, &of(new, &["spec", "spec"]), &empty, &mut errors);
            }
            (CLAIMS, "status", Some(old)) => {
                let (after, before) = (of(new, &["status"]), of(old, &["status"]));
                if rights::asks_for_admin(&empty, &before).is_none() {
                    self.admin(ctx, &empty, &after, &mut errors);
                }
                let change = Change { new: &after, old: &before, verb };
                self.may_bind(ctx, &change, &mut errors);
                self.may_drive(ctx, &change, &mut errors);
            }
            _ => {}
        }
        errors
    }

    fn admin(&self, ctx: &WriteContext<'_>, spec: &Value, status: &Value, errors: &mut ErrorList) {
        let Some(path) = rights::asks_for_admin(spec, status) else { return };
        let table = self.table();
        let namespaces = table.get("", "v1", "namespaces");
        let namespace = namespaces.and_then(|served| served.cache.get("", ctx.namespace));
        let label = ["metadata", "labels", ADMIN_LABEL];
        if namespace.is_none_or(|namespace| namespace.object().str(&label) != "true") {
            let why = "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
            errors.push(Error::forbidden(&path, why));
        }
    }

    /// Allocations are for those who bind claims, anywhere.
    fn may_bind(&self, ctx: &WriteContext<'_>, change: &Change<'_>, errors: &mut ErrorList) {
        let Change { new, old, verb } = *change;
        let same = |key: &str| {
            let some = |status: &Value| {
                status.get(key).filter(|v| !v.is_null() && v.as_array() != Some(&vec![])).cloned()
            };
            some(new) == some(old)
        };
        if same("allocation") && same("reservedFor") {
            return;
        }
        if let Err(why) = self.may(ctx, verb, "binding", "", "") {
            let why = format!(
                "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb={verb:?} permission: {why}"
            );
            errors.push(Error::forbidden(&Path::new("status").child("allocation"), &why));
        }
    }

    /// The states of devices are for their drivers: those of the claim's node, or of any.
    fn may_drive(&self, ctx: &WriteContext<'_>, change: &Change<'_>, errors: &mut ErrorList) {
        let Change { new, old, verb } = *change;
        let mut verbs = vec![format!("arbitrary-node:{}", verb)];
        let account = ctx.user.name.starts_with("system:serviceaccount:");
        let nodes = ctx.user.extra.get(NODE_EXTRA).map_or(&[][..], Vec::as_slice);
        if let ([node], true) = (nodes, account)
            && rights::node_of(if new.get("allocation").is_some() { new } else { old })
                == Some(node.as_str())
        {
            verbs.insert(0, format!("associated-node:{}", verb));
        }
        for driver in rights::changed_drivers(new, old) {
            let asked = |verb: &String| self.may(ctx, verb, "driver", ctx.namespace, &driver);
            let answers: Vec<Result<(), String>> = verbs.iter().map(asked).collect();
            if answers.iter().any(Result::is_ok) {
                continue;
            }
            let Some(Err(why)) = answers.into_iter().next_back() else { continue };
            let why = format!(
                "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {why}",
                verbs.join(" ")
            );
            errors.push(Error::forbidden(&Path::new("status").child("devices"), &why));
        }
    }

    fn may(
        &self,
        ctx: &WriteContext<'_>,
        verb: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), String> {
        let asked = Attributes::for_resource(ctx.user, verb, GROUP, CLAIMS, namespace, name);
        let asked = Attributes { subresource, version: "v1", ..asked };
        let decision = self.authorization.authorize(&asked);
        if decision.is_allowed() {
            return Ok(());
        }
        Err(forbidden(&asked, decision.reason()).message)
    }
}

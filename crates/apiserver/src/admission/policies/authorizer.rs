//! What expressions may ask of who may do what.

use std::fmt;
use std::sync::Arc;

use longshore_cel::{Check, Decision, Value, authorizer_value, request_resource_value};
use longshore_resources::rules::admission::Authorizer;

use crate::admission::{Attributes, matching};
use crate::auth::{self, Authorization, UserInfo};

/// Asks for the user of a request.
pub struct Asker {
    asked: Arc<Asked>,
    /// What the request is about.
    request: Check,
}

/// Who is asked for whom.
struct Asked {
    authorization: Arc<Authorization>,
    user: UserInfo,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Asker {
    /// For the user of a request.
    pub fn new(authorization: &Arc<Authorization>, a: &Attributes<'_>) -> Self {
        let request = Check {
            group: a.resource.group.to_string(),
            resource: a.resource.plural.to_string(),
            subresource: a.subresource.to_owned(),
            namespace: matching::namespace(a).to_owned(),
            name: a.name.to_owned(),
            ..Check::default()
        };
        let (authorization, user) = (authorization.clone(), a.user.clone());
        Self { asked: Arc::new(Asked { authorization, user }), request }
    }
}

impl longshore_cel::Authorizer for Asked {
    fn authorize(&self, check: &Check) -> Decision {
        let account = check
            .service_account
            .as_ref()
            .map(|(namespace, name)| UserInfo::service_account(namespace, name));
        let user = account.as_ref().unwrap_or(&self.user);
        let attributes = if check.path.is_empty() {
            auth::Attributes {
                version: "*",
                subresource: &check.subresource,
                field_selector: &check.field_selector,
                ..auth::Attributes::for_resource(
                    user,
                    &check.verb,
                    &check.group,
                    &check.resource,
                    &check.namespace,
                    &check.name,
                )
            }
        } else {
            auth::Attributes::for_path(user, &check.verb, &check.path)
        };
        let decision = self.authorization.authorize(&attributes);
        let reason = decision.reason().to_owned();
        Decision { allowed: decision.is_allowed(), reason, error: None }
    }
}

impl Authorizer for Asker {
    fn own<'v>(&self) -> Value<'v> {
        authorizer_value(self.asked.clone())
    }

    fn of_request<'v>(&self) -> Value<'v> {
        request_resource_value(self.asked.clone(), self.request.clone())
    }
}

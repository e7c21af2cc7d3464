//! Who may approve and sign certificate requests, and what nobody may ask for.
//!
//! upstream: plugin/pkg/admission/certificates

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use longshore_api::Object;
use longshore_api::patch::gotext;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::{Attributes, Plain, Tools, Verdict};
use crate::auth::{self, Authorization};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whether the user may use a verb on a signer, or on all signers of its domain.
///
/// upstream: pkg/certauthorization/certauthorization.go
fn may_use(authorization: &Authorization, a: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let may = |name: &str| {
        let ask = auth::Attributes {
            version: "*",
            ..auth::Attributes::for_resource(a.user, verb, GROUP, "signers", "", name)
        };
        authorization.authorize(&ask).is_allowed()
    };
    let domain = signer.split('/').next().unwrap_or("");
    may(signer) || may(&format!("{domain}/*"))
}

pub(super) struct Approval(Arc<Authorization>);

impl Approval {
    pub(super) fn new(tools: &Tools) -> Self {
        Self(tools.authorization.clone())
    }
}

impl Plain for Approval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, old: Option<&Object>) -> Verdict {
        let Some(old) = old else { return Ok(()) };
        if !a.is_any(GROUP, RESOURCE) || a.subresource != "approval" || !a.updates() {
            return Ok(());
        }
        let signer = old.str(&["spec", "signerName"]);
        if may_use(&self.0, a, "approve", signer) {
            return Ok(());
        }
        let text = format!(
            "user not permitted to approve requests with signerName {}",
            gotext::quote(signer)
        );
        Err(a.forbidden(object, &text))
    }
}

pub(super) struct Signing(Arc<Authorization>);

impl Signing {
    pub(super) fn new(tools: &Tools) -> Self {
        Self(tools.authorization.clone())
    }
}

impl Plain for Signing {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, old: Option<&Object>) -> Verdict {
        let (Some(request), Some(old)) = (object, old) else { return Ok(()) };
        if !a.is_any(GROUP, RESOURCE) || a.subresource != "status" || !a.updates() {
            return Ok(());
        }
        let same = |key: &str| request.get(&["status", key]) == old.get(&["status", key]);
        let signer = old.str(&["spec", "signerName"]);
        if same("certificate") && same("conditions") || may_use(&self.0, a, "sign", signer) {
            return Ok(());
        }
        let text = format!(
            "user not permitted to sign requests with signerName {}",
            gotext::quote(signer)
        );
        Err(a.forbidden(object, &text))
    }
}

pub(super) struct SubjectRestriction;

impl Plain for SubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, _old: Option<&Object>) -> Verdict {
        let Some(request) = object.filter(|_| a.is(GROUP, RESOURCE) && a.creates()) else {
            return Ok(());
        };
        if request.str(&["spec", "signerName"]) != CLIENT_SIGNER {
            return Ok(());
        }
        let groups = organizations(request.str(&["spec", "request"]))
            .map_err(|why| a.forbidden(object, &format!("failed to parse CSR: {why}")))?;
        if groups.iter().any(|group| group == auth::user::MASTERS) {
            let text =
                format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
            return Err(a.forbidden(object, &text));
        }
        Ok(())
    }
}

fn organizations(request: &str) -> Result<Vec<String>, String> {
    subject(request, |subject| {
        let groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
        groups.map(str::to_owned).collect()
    })
}

/// The common name that a certificate is asked for; empty when there is none.
pub(super) fn common_name(request: &str) -> Result<String, String> {
    subject(request, |subject| {
        let mut names = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        names.next().unwrap_or("").to_owned()
    })
}

/// What is wanted of the subject of a request in base64.
fn subject<T>(request: &str, wanted: impl Fn(&X509Name<'_>) -> T) -> Result<T, String> {
    let pem = STANDARD.decode(request).map_err(|error| error.to_string())?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    let (_, request) =
        X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
    Ok(wanted(&request.certification_request_info.subject))
}

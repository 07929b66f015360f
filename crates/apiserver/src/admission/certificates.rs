//! Who may approve, sign or vouch for certificates of a signer.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#authorization>

use api::{
    meta::{self, View},
    status::Status,
};
use serde_json::Value;

use super::Attributes;
use crate::{auth, auth::rbac::Wanted, certificate, server::Server};

/// The signer of certificates that the API server takes for users.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

/// Refuses what the user has no right to with that signer.
pub async fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(new) = object.filter(|_| attributes.kind.group == "certificates.k8s.io") else { return Ok(()) };
    let signer = |object| View::new(object).at("spec").text("signerName");
    let (verb, what, signer) = match (attributes.kind.kind, attributes.sub, old) {
        ("CertificateSigningRequest", "approval", Some(old)) => ("approve", "approve requests with", signer(old)),
        ("CertificateSigningRequest", "status", Some(old)) => {
            let status = |object| View::new(object).at("status");
            if ["certificate", "conditions"].iter().all(|member| status(new).at(member).same(status(old).at(member))) {
                return Ok(());
            }
            ("sign", "sign requests with", signer(old))
        }
        ("CertificateSigningRequest", "", None) if signer(new) == CLIENTS => {
            let request = View::new(new).at("spec").text("request");
            if certificate::organizations(request).iter().any(|group| group == auth::MASTERS) {
                let why = format!("use of {CLIENTS} signer with system:masters group is not allowed");
                return Err(attributes.refuse(why));
            }
            return Ok(());
        }
        ("ClusterTrustBundle", "", _) if !signer(new).is_empty() => {
            if old.is_some_and(|old| content(old) == content(new)) {
                return Ok(());
            }
            ("attest", "attest for", signer(new))
        }
        _ => return Ok(()),
    };
    if may(server, attributes, verb, signer).await {
        return Ok(());
    }
    Err(attributes.refuse(format!("user not permitted to {what} signerName {signer:?}")))
}

/// What a bundle says, without what collectors and migrations change.
fn content(bundle: &Value) -> Value {
    let mut bundle = bundle.clone();
    let metadata = meta::metadata_mut(&mut bundle);
    for field in ["managedFields", "ownerReferences", "finalizers", "resourceVersion"] {
        metadata.remove(field);
    }
    bundle
}

/// Whether the user may do that with the signer, or with all signers of its domain.
async fn may(server: &Server, attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let wildcard = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    for name in [Some(signer.to_owned()), wildcard].into_iter().flatten() {
        let wanted = Wanted {
            verb,
            group: "certificates.k8s.io",
            resource: "signers",
            subresource: "",
            namespace: "",
            name: &name,
            path: "",
        };
        if server.allows(attributes.user, &wanted).await {
            return true;
        }
    }
    false
}

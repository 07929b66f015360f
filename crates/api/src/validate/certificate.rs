//! Requests for certificates of pods: who asks, and for how long at most.
//!
//! What needs cryptography, the requests and keys themselves, is checked by the API server.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/pod-certificate-request-v1beta1/>

use serde_json::Value;

use super::check::faults;
use super::metadata::{annotations, unchanging};
use super::registration::signer_name;
use super::{Errors, Path, format};
use crate::meta::View;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
/// The shortest `maxExpirationSeconds`.
const SHORTEST: i64 = 60 * 60;
/// The longest for signers of others.
const LONGEST: i64 = 91 * 24 * 60 * 60;
/// The longest for Kubernetes' own signers.
const LONGEST_OWN: i64 = 24 * 60 * 60;
/// Conditions that end a request.
const ENDS: &[&str] = &["Denied", "Failed", "Issued"];

/// A PodCertificateRequest.
pub fn pod_request(subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    match (old, subresource) {
        (None, _) => create(new.at("spec"), errors),
        (Some(old), "status") => status(new.at("status"), old.at("status"), errors),
        (Some(old), _) => unchanging(new.at("spec"), old.at("spec"), &SPEC, errors),
    }
}

/// How long a certificate of a signer may be valid at most, in seconds.
pub fn longest_lifetime(signer: &str) -> i64 {
    let own = signer.split('/').next().is_some_and(|domain| {
        domain.strip_suffix("kubernetes.io").is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    if own { LONGEST_OWN } else { LONGEST }
}

fn create(spec: View<'_>, errors: &mut Errors) {
    let signer = spec.text("signerName");
    signer_name(signer, &SPEC.child("signerName"), errors);
    annotations(spec.at("unverifiedUserAnnotations"), &SPEC.child("unverifiedUserAnnotations"), errors);
    for (name, uid) in [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")] {
        faults(format::dns_subdomain(spec.text(name)), spec.text(name), &SPEC.child(name), errors);
        if spec.text(uid).is_empty() {
            errors.invalid(&SPEC.child(uid), "", "must not be empty");
        }
        if spec.text(uid).len() > 128 {
            errors.too_long(&SPEC.child(uid), 128);
        }
    }
    let path = SPEC.child("maxExpirationSeconds");
    let Some(seconds) = spec.int("maxExpirationSeconds") else {
        errors.required(&path, "must be set");
        return;
    };
    let longest = longest_lifetime(signer);
    if !(SHORTEST..=longest).contains(&seconds) {
        errors.invalid(&path, seconds, format!("must be in the range [{SHORTEST}, {longest}]"));
    }
    let has = |member: &str| !spec.text(member).is_empty();
    let old_form = (has("pkixPublicKey"), has("proofOfPossession"));
    if !matches!((has("stubPKCS10Request"), old_form), (true, (false, false)) | (false, (true, true))) {
        let detail = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        errors.invalid(&SPEC, Value::Null, detail);
    }
}

fn status(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let before = errors.len();
    let path = STATUS.child("conditions");
    let mut known = 0;
    for (position, condition) in new.list("conditions").enumerate() {
        let at = path.index(position);
        let kind = condition.text("type");
        if !ENDS.contains(&kind) {
            errors.not_supported(&at.child("type"), kind, &["Issued", "Denied", "Failed"]);
            continue;
        }
        known += 1;
        if known > 1 {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid(&at.child("type"), kind, detail);
        }
        if condition.text("status") != "True" {
            errors.not_supported(&at.child("status"), condition.text("status"), &["True"]);
        }
    }
    super::scaling::conditions(new, &path, errors);
    if errors.len() > before {
        return;
    }
    if ended(old).is_some() {
        if !new.same(old) {
            errors.invalid(&STATUS, Value::Null, "immutable after PodCertificateRequest is issued, denied, or failed");
        }
        return;
    }
    let others = ["certificateChain", "notBefore", "beginRefreshAt", "notAfter"];
    match ended(new) {
        Some("Issued") => issued(new, errors),
        Some(_) if others.iter().any(|member| new.has(member)) => {
            let detail = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            errors.invalid(&STATUS, Value::Null, detail);
        }
        Some(_) => {}
        None if !new.same(old) => {
            let detail = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid(&STATUS, Value::Null, detail);
        }
        None => {}
    }
}

/// The condition that ended a request.
fn ended(status: View<'_>) -> Option<&str> {
    status.list("conditions").map(|item| item.text("type")).find(|kind| ENDS.contains(kind))
}

/// The times that come with a certificate; the certificate itself is read by the API server.
fn issued(status: View<'_>, errors: &mut Errors) {
    if status.text("certificateChain").is_empty() {
        let detail = "issued certificate chain must contain at least one certificate";
        errors.invalid(&STATUS.child("certificateChain"), "", detail);
        return;
    }
    const TIMES: [(&str, &str); 3] = [
        ("notBefore", "must be present and consistent with the issued certificate"),
        ("notAfter", "must be present and consistent with the issued certificate"),
        ("beginRefreshAt", "must be present and in the range [notbefore+10min, notafter-10min]"),
    ];
    for (member, detail) in TIMES {
        if !status.has(member) {
            errors.required(&STATUS.child(member), detail);
        }
    }
}

//! Certificate requests and trust bundles in objects: the part of their validation that needs cryptography.
//!
//! | object | what is looked at |
//! |---|---|
//! | CertificateSigningRequest | `spec.request`: PEM of a PKCS#10 request whose signature is right |
//! | PodCertificateRequest | `spec.stubPKCS10Request`: such a request in DER, with a key of a kind that is allowed |
//! | ClusterTrustBundle | `spec.trustBundle`: PEM of certificates of authorities, each once |
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

use api::{kinds::Kind, meta::View, validate::FieldError};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use x509_parser::{
    certification_request::X509CertificationRequest,
    pem::Pem,
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
};

use crate::auth::User;

/// The longest `spec.stubPKCS10Request`, in bytes.
const STUB: usize = 10 * 1024;
/// The longest `spec.trustBundle`, in bytes.
const BUNDLE: usize = 1024 * 1024;

/// Notes in a new CertificateSigningRequest who made it, whatever it says itself.
pub fn sign_in(kind: &Kind, user: &User, object: &mut Value) {
    if !kind.is("certificates.k8s.io", "CertificateSigningRequest") {
        return;
    }
    let spec = api::meta::object_at(object, "spec");
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".to_owned(), user.name.as_str().into());
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), serde_json::json!(user.extra));
    }
}

/// What is wrong with the certificates and requests in an object; nothing for objects of other kinds.
pub fn errors(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if kind.group != "certificates.k8s.io" {
        return Vec::new();
    }
    let spec = View::new(new).at("spec");
    let same = |field: &str| old.is_some_and(|old| View::new(old).at("spec").at(field) == spec.at(field));
    match kind.kind {
        "CertificateSigningRequest" if !same("request") => signing_request(spec.text("request")).into_iter().collect(),
        "PodCertificateRequest" if old.is_none() => stub(spec.text("stubPKCS10Request")).into_iter().collect(),
        "ClusterTrustBundle" if !same("trustBundle") => bundle(spec.text("trustBundle")),
        _ => Vec::new(),
    }
}

fn signing_request(request: &str) -> Option<FieldError> {
    let refused = |detail: String| Some(FieldError::invalid("spec.request", request, detail));
    let bytes = BASE64_STANDARD.decode(request).unwrap_or_default();
    let block = Pem::iter_from_buffer(&bytes).next().and_then(Result::ok);
    let Some(block) = block.filter(|block| block.label == "CERTIFICATE REQUEST") else {
        return refused("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    match X509CertificationRequest::from_der(&block.contents) {
        Ok((rest, _)) if !rest.is_empty() => refused("asn1: syntax error: trailing data".to_owned()),
        Ok((_, request)) => match request.verify_signature() {
            Ok(()) => None,
            Err(error) => refused(format!("x509: {error}")),
        },
        Err(error) => refused(format!("asn1: structure error: {error}")),
    }
}

/// The organizations that the subject of a request (PEM in base64) names.
pub fn organizations(request: &str) -> Vec<String> {
    let bytes = BASE64_STANDARD.decode(request).unwrap_or_default();
    let Some(block) = Pem::iter_from_buffer(&bytes).next().and_then(Result::ok) else { return Vec::new() };
    let Ok((_, request)) = X509CertificationRequest::from_der(&block.contents) else { return Vec::new() };
    let subject = &request.certification_request_info.subject;
    subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect()
}

/// A request that carries only a key; what else it says is not looked at.
fn stub(text: &str) -> Option<FieldError> {
    const PATH: &str = "spec.stubPKCS10Request";
    if text.is_empty() {
        return None;
    }
    let unspoken = |detail: &str| Some(FieldError::invalid(PATH, Value::Null, detail));
    let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
    if bytes.len() > STUB {
        return Some(FieldError::too_long(PATH, STUB));
    }
    let Ok((_, request)) = X509CertificationRequest::from_der(&bytes) else {
        return unspoken("must be a valid PKCS#10 CSR");
    };
    match request.certification_request_info.subject_pki.parsed() {
        Ok(PublicKey::EC(point)) if !matches!(point.key_size(), 256 | 384 | 521 | 528) => {
            return Some(FieldError::invalid(
                PATH,
                format!("curve of {} bits", point.key_size()),
                "elliptic public keys must use curve P256, P384, or P521",
            ));
        }
        Ok(PublicKey::RSA(key)) if !matches!(key.key_size(), 3072 | 4096) => {
            let shown = format!("{}-bit modulus", key.key_size());
            return Some(FieldError::invalid(PATH, shown, "RSA keys must have modulus size 3072 or 4096"));
        }
        Ok(PublicKey::EC(_) | PublicKey::RSA(_)) => {}
        // Ed25519, which the parser leaves as bytes.
        Ok(PublicKey::Unknown(_))
            if request.certification_request_info.subject_pki.algorithm.algorithm.to_id_string() == "1.3.101.112" => {}
        _ => return unspoken("unknown public key type; supported types are Ed25519, ECDSA, and RSA"),
    }
    match request.verify_signature() {
        Ok(()) => None,
        Err(_) => unspoken("invalid signature"),
    }
}

fn bundle(text: &str) -> Vec<FieldError> {
    const PATH: &str = "spec.trustBundle";
    if text.len() > BUNDLE {
        return vec![FieldError::too_long(PATH, BUNDLE)];
    }
    let refused = |detail: String| FieldError::invalid(PATH, "<value omitted>", detail);
    let mut errors = Vec::new();
    let mut anchors: Vec<(Vec<u8>, Vec<usize>)> = Vec::new();
    for (position, block) in Pem::iter_from_buffer(text.as_bytes()).map_while(Result::ok).enumerate() {
        if block.label != "CERTIFICATE" {
            errors.push(refused(format!("entry {position} has bad block type: {}", block.label)));
            continue;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(&block.contents) else {
            errors.push(refused(format!("entry {position} does not parse as X.509")));
            continue;
        };
        match certificate.basic_constraints() {
            Ok(Some(constraints)) if constraints.value.ca => {}
            Ok(_) => {
                errors.push(refused(format!("entry {position} does not have the CA bit set")));
                continue;
            }
            Err(_) => {
                errors.push(refused(format!("entry {position} has invalid basic constraints")));
                continue;
            }
        }
        match anchors.iter_mut().find(|(bytes, _)| *bytes == block.contents) {
            Some((_, places)) => places.push(position),
            None => anchors.push((block.contents, vec![position])),
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if anchors.is_empty() {
        errors.push(refused("at least one trust anchor must be provided".to_owned()));
    }
    for (_, places) in anchors.iter().filter(|(_, places)| places.len() > 1) {
        let places: Vec<String> = places.iter().map(usize::to_string).collect();
        errors.push(refused(format!("duplicate trust anchor (indices [{}])", places.join(" "))));
    }
    errors
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn request() -> rcgen::CertificateSigningRequest {
        let key = KeyPair::generate().unwrap();
        CertificateParams::new(["a.example".to_owned()]).unwrap().serialize_request(&key).unwrap()
    }

    #[test]
    fn a_request_must_be_one_and_be_signed_with_its_key() {
        let good = request().pem().unwrap();
        assert_eq!(signing_request(&BASE64_STANDARD.encode(&good)), None);
        for (bad, why) in [
            ("nonsense".to_owned(), "PEM block type must be CERTIFICATE REQUEST"),
            (good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), "PEM block type must be CERTIFICATE REQUEST"),
            ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_owned(), "asn1"),
        ] {
            let error = signing_request(&BASE64_STANDARD.encode(&bad)).expect(why);
            assert!(error.detail.contains(why), "{}", error.detail);
        }
        let mut forged = request().der().to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(stub(&BASE64_STANDARD.encode(&forged)).is_some());
        assert_eq!(stub(&BASE64_STANDARD.encode(request().der())), None);
    }

    #[test]
    fn a_bundle_holds_authorities_each_once() {
        let certificate = |authority: bool| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            if authority {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
        };
        let (one, two) = (certificate(true), certificate(true));
        assert!(bundle(&format!("{one}{two}")).is_empty());
        for (text, why) in [
            (String::new(), "at least one trust anchor"),
            (format!("{one}{one}"), "duplicate trust anchor (indices [0 1])"),
            (certificate(false), "entry 0 does not have the CA bit set"),
            (one.replace("CERTIFICATE", "PRIVATE KEY"), "entry 0 has bad block type: PRIVATE KEY"),
        ] {
            let errors = bundle(&text);
            assert!(errors.iter().any(|error| error.detail.contains(why)), "{why}: {errors:?}");
        }
    }
}

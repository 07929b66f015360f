//! Requests for certificates, and who they are said to come from.

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, KeyPair};

use crate::*;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

pub fn pem() -> String {
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    BASE64_STANDARD.encode(request.pem().unwrap())
}

pub fn signing_request(request: &str, name: &str, signer: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "request": request, "signerName": signer, "usages": ["client auth"],
            "username": "somebody else", "groups": ["system:masters"], "uid": "forged", "extra": {"a": ["b"]},
        },
    })
}

#[tokio::test]
async fn a_signing_request_says_who_made_it() {
    let cluster = Cluster::start().await;
    let mut user = User::new("alice", &["system:masters", "readers"]);
    user.extra.insert("scopes".to_owned(), vec!["x".to_owned()]);
    let made = cluster.as_user(&user, "POST", REQUESTS, signing_request(&pem(), "r", "example.com/s")).await.ok();
    assert_eq!(made["spec"]["username"], "alice");
    assert_eq!(made["spec"]["groups"], json!(["system:masters", "readers", "system:authenticated"]));
    assert_eq!(made["spec"]["extra"], json!({"scopes": ["x"]}));
    assert_eq!(made["spec"].get("uid"), None);
    let changed = json!({"spec": {"username": "bob"}});
    let after = cluster.patch(&format!("{REQUESTS}/r"), changed).await.ok();
    assert_eq!(after["spec"]["username"], "alice", "nobody changes who asked");
}

#[tokio::test]
async fn a_signing_request_without_a_request_is_refused() {
    let cluster = Cluster::start().await;
    for bad in ["", "bm9uc2Vuc2U="] {
        let answer = cluster.post(REQUESTS, signing_request(bad, "r", "example.com/s")).await;
        answer.refused(422, "Invalid", "PEM block type must be CERTIFICATE REQUEST");
    }
}

#[tokio::test]
async fn a_pod_asks_for_a_certificate_within_limits() {
    let cluster = Cluster::start().await;
    let stub = {
        let request = CertificateParams::new(Vec::new()).unwrap().serialize_request(&KeyPair::generate().unwrap());
        BASE64_STANDARD.encode(request.unwrap().der())
    };
    let path = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests";
    let request = |name: &str, signer: &str, seconds: i64| {
        json!({
            "metadata": {"name": name},
            "spec": {
                "signerName": signer, "podName": "p", "podUID": "u", "serviceAccountName": "default",
                "serviceAccountUID": "u", "nodeName": "n", "nodeUID": "u", "maxExpirationSeconds": seconds,
                "stubPKCS10Request": stub,
            },
        })
    };
    for (name, signer, seconds, fits) in [
        ("a", "example.com/s", 3600, true),
        ("b", "example.com/s", 3599, false),
        ("c", "example.com/s", 91 * 86400, true),
        ("d", "example.com/s", 91 * 86400 + 1, false),
        ("e", "kubernetes.io/kube-apiserver-client-pod", 86400, true),
        ("f", "kubernetes.io/kube-apiserver-client-pod", 86401, false),
    ] {
        let answer = cluster.post(path, request(name, signer, seconds)).await;
        if fits {
            answer.ok();
        } else {
            answer.refused(422, "Invalid", "must be in the range [3600, ");
        }
    }
}

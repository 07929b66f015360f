//! AdmissionReview: the question that a webhook is asked, and what its answer means.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#webhook-request-and-response>

use api::{
    meta::{self, View},
    status::{Reason, Status},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::Method;
use serde_json::{Map, Value, json};

use super::{Invocation, Subject, configuration::Hook};
use crate::admission::{Attributes, Operation};

/// What a webhook says.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// Whether the request may go on.
    pub allowed: bool,
    /// `status`, the reason why not.
    pub refusal: Option<Value>,
    /// What the client is told.
    pub warnings: Vec<String>,
    /// A JSON patch for the object.
    pub patch: Option<Value>,
}

/// The question; `None` if the webhook speaks no version that is known.
pub fn request(
    uid: &str,
    subject: &Subject<'_>,
    invocation: &Invocation,
    hook: &Hook,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Option<Value> {
    let attributes = subject.attributes;
    let kind = |gvk: &meta::Gvk| json!({ "group": gvk.group, "version": gvk.version, "kind": gvk.kind });
    let resource =
        |group: &str, version: &str| json!({ "group": group, "version": version, "resource": attributes.kind.plural });
    let itself = attributes.kind.is("", "Namespace");
    let namespace = if itself { attributes.name } else { attributes.namespace };
    let mut request = json!({
        "uid": uid,
        "kind": kind(&invocation.kind),
        "resource": resource(&invocation.group, &invocation.version),
        "requestKind": kind(&subject.kind),
        "requestResource": resource(attributes.kind.group, attributes.kind.version),
        "operation": attributes.operation.name(),
        "userInfo": attributes.user.to_value(),
        "object": object,
        "oldObject": old,
        "dryRun": attributes.dry_run,
        "options": options(attributes),
    });
    if let Some(map) = request.as_object_mut() {
        let texts = [
            ("subResource", attributes.sub),
            ("requestSubResource", attributes.sub),
            ("name", attributes.name),
            ("namespace", namespace),
        ];
        for (member, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            map.insert(member.to_owned(), text.into());
        }
    }
    let version = hook.review?;
    Some(json!({ "kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request }))
}

/// The options of a request, as far as they are not in the object.
fn options(attributes: &Attributes<'_>) -> Value {
    let call = attributes.call;
    let patches = call.is_some_and(|call| call.parts.method == Method::PATCH);
    let kind = match attributes.operation {
        Operation::Create => "CreateOptions",
        Operation::Update if patches => "PatchOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = Map::new();
    options.insert("kind".to_owned(), kind.into());
    options.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    if attributes.dry_run {
        options.insert("dryRun".to_owned(), json!(["All"]));
    }
    for member in ["fieldManager", "fieldValidation", "propagationPolicy"] {
        if let Some(value) = call.and_then(|call| call.query.get(member)).filter(|value| !value.is_empty()) {
            options.insert(member.to_owned(), value.into());
        }
    }
    options.into()
}

/// Reads an answer, or says what is wrong with it.
pub fn verdict(uid: &str, version: Option<&str>, mutating: bool, answer: &Value) -> Result<Verdict, String> {
    let view = View::new(answer);
    let response = view.at("response");
    if !response.exists() {
        return Err("webhook response was absent".to_owned());
    }
    // The older version was never checked, and answers of that age rely on it.
    let strict = version == Some("v1");
    if strict {
        if response.text("uid") != uid {
            return Err(format!("expected response.uid={uid:?}, got {:?}", response.text("uid")));
        }
        if (view.text("apiVersion"), view.text("kind")) != ("admission.k8s.io/v1", "AdmissionReview") {
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
                view.text("apiVersion"),
                view.text("kind")
            ));
        }
    }
    let (patch, kind) = (response.text("patch"), response.at("patchType"));
    if strict && !mutating && !patch.is_empty() {
        return Err("validating webhook may not return response.patch".to_owned());
    }
    if strict && !mutating && kind.exists() {
        return Err("validating webhook may not return response.patchType".to_owned());
    }
    if strict && !patch.is_empty() && !kind.exists() {
        return Err("webhook returned response.patch but not response.patchType".to_owned());
    }
    if strict && patch.is_empty() && kind.exists() {
        return Err("webhook returned response.patchType but not response.patch".to_owned());
    }
    if strict && kind.exists() && kind.string() != "JSONPatch" {
        return Err(format!("webhook returned invalid response.patchType of {:?}", kind.string()));
    }
    let patch = match patch {
        "" => None,
        _ if !mutating => None,
        text => {
            let bytes = BASE64_STANDARD.decode(text).map_err(|error| format!("response.patch: {error}"))?;
            let parsed = api::json::parse(&bytes).map_err(|error| format!("response.patch: {error}"))?;
            Some(parsed.value)
        }
    };
    let status = response.at("status");
    Ok(Verdict {
        allowed: response.is("allowed"),
        refusal: status.exists().then(|| status.value().clone()),
        warnings: response.list("warnings").map(|item| item.string().to_owned()).collect(),
        patch,
    })
}

/// A webhook's refusal, in its own words.
pub fn refused(name: &str, status: Option<&Value>) -> Status {
    let nothing = json!({});
    let mut status = status.cloned().unwrap_or(nothing);
    let view = View::new(&status);
    let code = view.int("code").unwrap_or(0).max(400);
    let why = match (view.text("message"), view.text("reason")) {
        ("", "") => " without explanation".to_owned(),
        ("", reason) => format!(": {reason}"),
        (message, _) => format!(": {message}"),
    };
    let text = format!("admission webhook {name:?} denied the request{why}");
    status["code"] = code.into();
    status["status"] = "Failure".into();
    status["message"] = text.as_str().into();
    let code = u16::try_from(code).unwrap_or(400);
    Status::from_value(&status).unwrap_or_else(|| Status::new(code, Reason::Unknown, text, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    }

    #[test]
    fn answers_are_read_as_they_must_be() {
        let patch = BASE64_STANDARD.encode(r#"[{"op":"remove","path":"/a"}]"#);
        let good = answer(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"}));
        assert!(verdict("u", Some("v1"), true, &good).unwrap().patch.is_some());
        for (bad, mutating, why) in [
            (json!({}), true, "webhook response was absent"),
            (answer(json!({"uid": "other"})), true, "expected response.uid"),
            (json!({"kind": "X", "response": {"uid": "u"}}), true, "expected webhook response of"),
            (answer(json!({"uid": "u", "patch": patch})), true, "but not response.patchType"),
            (answer(json!({"uid": "u", "patchType": "JSONPatch"})), true, "but not response.patch"),
            (good.clone(), false, "may not return response.patch"),
            (answer(json!({"uid": "u", "patch": "%", "patchType": "JSONPatch"})), true, "response.patch:"),
        ] {
            let error = verdict("u", Some("v1"), mutating, &bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn refusals_keep_the_webhooks_words() {
        for (status, code, text) in [
            (None, 400, "admission webhook \"w\" denied the request without explanation"),
            (Some(json!({"message": "no", "code": 403})), 403, "admission webhook \"w\" denied the request: no"),
            (
                Some(json!({"reason": "Because", "code": 200})),
                400,
                "admission webhook \"w\" denied the request: Because",
            ),
        ] {
            let refusal = refused("w", status.as_ref());
            assert_eq!((refusal.code(), refusal.message()), (code, text));
        }
    }
}

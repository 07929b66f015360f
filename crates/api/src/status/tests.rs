//! Tests of `status`: cases as data where there are many.

use super::*;
use crate::kinds;

fn pods() -> Qualified<'static> {
    Qualified { group: "", name: "pods" }
}

fn deployments() -> Qualified<'static> {
    kinds::find("apps", "v1", "deployments").unwrap().resource()
}

#[test]
fn every_refusal_has_upstreams_code_reason_and_words() {
    let resource =
        |subresource, namespace, name| AttemptOn::Resource { resource: deployments(), subresource, namespace, name };
    let attempt = |on, reason| Attempt { user: "jane", verb: "get", on, reason };
    for (status, code, reason, message) in [
        (Status::not_found(pods(), "a"), 404, "NotFound", r#"pods "a" not found"#),
        (Status::not_found(deployments(), "a"), 404, "NotFound", r#"deployments.apps "a" not found"#),
        (Status::already_exists(pods(), "a"), 409, "AlreadyExists", r#"pods "a" already exists"#),
        (
            Status::stale(deployments(), "a"),
            409,
            "Conflict",
            r#"Operation cannot be fulfilled on deployments.apps "a": the object has been modified; please apply your changes to the latest version and try again"#,
        ),
        (
            Status::update_precondition(pods(), "a", "u1", "u2"),
            409,
            "Conflict",
            r#"Operation cannot be fulfilled on pods "a": Precondition failed: UID in precondition: u1, UID in object meta: u2"#,
        ),
        (
            Status::invalid(Qualified { group: "", name: "Pod" }, "a", &[FieldError::required("spec.containers", "")]),
            422,
            "Invalid",
            r#"Pod "a" is invalid: spec.containers: Required value"#,
        ),
        (Status::bad_request("no"), 400, "BadRequest", "no"),
        (Status::unauthorized(""), 401, "Unauthorized", "Unauthorized"),
        (
            Status::forbidden(attempt(resource("", "default", "web"), "")),
            403,
            "Forbidden",
            r#"deployments.apps "web" is forbidden: User "jane" cannot get resource "deployments" in API group "apps" in the namespace "default""#,
        ),
        (
            Status::forbidden(attempt(resource("scale", "", ""), "RBAC: role not found")),
            403,
            "Forbidden",
            r#"deployments.apps is forbidden: User "jane" cannot get resource "deployments/scale" in API group "apps" at the cluster scope: RBAC: role not found"#,
        ),
        (
            Status::forbidden(attempt(AttemptOn::Path("/a<b"), "")),
            403,
            "Forbidden",
            r#"forbidden: User "jane" cannot get path "/a&lt;b""#,
        ),
        (Status::expired("old"), 410, "Expired", "old"),
        (Status::too_old(3, 9), 410, "Expired", "too old resource version: 3 (9)"),
        (
            Status::too_large_resource_version(9, 3, 1),
            504,
            "Timeout",
            "Timeout: Too large resource version: 9, current: 3",
        ),
        (
            Status::method_not_supported(deployments(), "watch"),
            405,
            "MethodNotAllowed",
            r#"watch is not supported on resources of kind "deployments.apps""#,
        ),
        (
            Status::not_acceptable(&["application/json", "application/yaml"]),
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml",
        ),
        (
            Status::unsupported_media_type(&["application/json"]),
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json",
        ),
        (Status::body_too_large(3145728), 413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"),
        (Status::internal("disk"), 500, "InternalError", "Internal error occurred: disk"),
        (
            Status::server_timeout(pods(), "create", 1),
            500,
            "ServerTimeout",
            "The create operation against pods could not be completed at this time, please try again.",
        ),
        (Status::too_many_requests("wait", 10), 429, "TooManyRequests", "wait"),
        (Status::service_unavailable("no"), 503, "ServiceUnavailable", "no"),
        (
            Status::generic(502, "GET", pods(), "a", "bad gateway"),
            502,
            "InternalError",
            r#"an error on the server ("bad gateway") has prevented the request from succeeding (get pods a)"#,
        ),
    ] {
        assert_eq!((status.code(), status.reason().as_str(), status.message()), (code, reason, message));
        assert_eq!(Status::from_value(&status.to_value()), Some(status));
    }
}

#[test]
fn details_say_what_it_is_about() {
    assert_eq!(
        Status::invalid(
            Qualified { group: "apps", name: "Deployment" },
            "a",
            &[FieldError::invalid("spec.x", 3, "no")]
        )
        .to_value(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422, "reason": "Invalid",
            "message": "Deployment.apps \"a\" is invalid: spec.x: Invalid value: 3: no",
            "details": {"name": "a", "group": "apps", "kind": "Deployment", "causes": [
                {"reason": "FieldValueInvalid", "message": "Invalid value: 3: no", "field": "spec.x"},
            ]},
        })
    );
    assert_eq!(
        Status::deleted(pods(), "a", "u").to_value(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "a", "kind": "pods", "uid": "u"}})
    );
    assert_eq!(Status::too_many_requests("x", 10).retry_after_seconds(), Some(10));
    assert_eq!(Status::bad_request("x").retry_after_seconds(), None);
}

#[test]
fn text_is_quoted_as_go_quotes_it() {
    for (text, quoted) in [
        ("a", r#""a""#),
        ("a\"b\\", r#""a\"b\\""#),
        ("a\nb\t", r#""a\nb\t""#),
        ("\u{1}\u{7f}", r#""\x01\x7f""#),
        ("마당", "\"마당\""),
        ("\u{a0}", r#""\u00a0""#),
        ("'", "\"'\""),
    ] {
        assert_eq!(quote(text), quoted);
    }
}

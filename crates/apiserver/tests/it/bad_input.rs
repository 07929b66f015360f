//! One case a bad input: upstream's code and reason, and the server answers the next request as if nothing had been.

use crate::*;

struct Case {
    what: &'static str,
    request: Request<Body>,
    code: u16,
    reason: &'static str,
    text: &'static str,
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn case(what: &'static str, request: Request<Body>, code: u16, reason: &'static str, text: &'static str) -> Case {
    Case { what, request, code, reason, text }
}

fn json_request(method: &str, path: &str, body: impl Into<String>) -> Request<Body> {
    request(method, path, &[("content-type", "application/json")], body.into())
}

fn typed(method: &str, path: &str, kind: &str, body: impl Into<Bytes>) -> Request<Body> {
    request(method, path, &[("content-type", kind)], body)
}

fn cases() -> Vec<Case> {
    let map = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b"}}"#;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!(r#"{{"metadata":{{"name":"b"}},"data":{}1{}}}"#, r#"{"a":"#.repeat(5000), "}".repeat(5000));
    let long = format!(r#"{{"metadata":{{"name":"{}"}}}}"#, "a".repeat(300));
    let huge = format!(r#"{{"metadata":{{"name":"b"}},"data":{{"k":"{}"}}}}"#, "x".repeat(4 << 20));
    let yaml = "application/yaml";
    let proto = "application/vnd.kubernetes.protobuf";
    vec![
        case(
            "an empty body",
            json_request("POST", MAPS, ""),
            400,
            "BadRequest",
            "unrecognized (must be of type ConfigMap)",
        ),
        case(
            "no json",
            json_request("POST", MAPS, "{"),
            400,
            "BadRequest",
            "json parse error: unexpected end of JSON input",
        ),
        case(
            "json and more",
            json_request("POST", MAPS, format!("{map}x")),
            400,
            "BadRequest",
            "invalid character 'x' after top-level value",
        ),
        case("a list", json_request("POST", MAPS, "[]"), 400, "BadRequest", "must be of type ConfigMap"),
        case("null", json_request("POST", MAPS, "null"), 400, "BadRequest", ""),
        case("deep arrays", json_request("POST", MAPS, deep), 400, "BadRequest", ""),
        case("deep objects", json_request("POST", MAPS, nested), 400, "BadRequest", ""),
        case(
            "no utf-8",
            typed("POST", MAPS, "application/json", Bytes::from_static(b"{\"metadata\":{\"name\":\"\xff\xfe\"}}")),
            422,
            "Invalid",
            "",
        ),
        case("no yaml", typed("POST", MAPS, yaml, "a: [b"), 400, "BadRequest", ""),
        case("a yaml bomb", typed("POST", MAPS, yaml, bomb()), 400, "BadRequest", ""),
        case("no protobuf", typed("POST", MAPS, proto, "k8s"), 400, "BadRequest", ""),
        case(
            "cut protobuf",
            typed("POST", MAPS, proto, Bytes::from_static(b"k8s\0\x0a\xff\xff\xff\xff\x0f")),
            400,
            "BadRequest",
            "",
        ),
        case(
            "an unknown media type",
            typed("POST", MAPS, "text/plain", map),
            415,
            "UnsupportedMediaType",
            "application/json",
        ),
        case(
            "another kind",
            json_request("POST", MAPS, map.replace("ConfigMap", "Secret")),
            400,
            "BadRequest",
            "cannot be handled as a ConfigMap",
        ),
        case(
            "another version",
            json_request("POST", MAPS, map.replace("v1", "v2")),
            400,
            "BadRequest",
            "does not match the expected API version",
        ),
        case(
            "another namespace",
            json_request("POST", MAPS, map.replace(r#""name""#, r#""namespace":"other","name""#)),
            400,
            "BadRequest",
            "does not match the namespace sent on the request",
        ),
        case(
            "no name",
            json_request("POST", MAPS, r#"{"metadata":{}}"#),
            422,
            "Invalid",
            "name or generateName is required",
        ),
        case(
            "a bad name",
            json_request("POST", MAPS, map.replace("\"b\"", "\"B_\"")),
            422,
            "Invalid",
            "a lowercase RFC 1123 subdomain must consist of",
        ),
        case("a long name", json_request("POST", MAPS, long), 422, "Invalid", "must be no more than 253"),
        case(
            "a bad label",
            json_request("POST", MAPS, map.replace(r#""name""#, r#""labels":{"a b":"c"},"name""#)),
            422,
            "Invalid",
            "metadata.labels",
        ),
        case(
            "a wrong type",
            json_request("POST", MAPS, r#"{"metadata":{"name":"b"},"data":[]}"#),
            400,
            "BadRequest",
            "cannot unmarshal array into Go struct field ConfigMap.data",
        ),
        case(
            "a wrong scalar",
            json_request("POST", MAPS, r#"{"metadata":{"name":"b"},"data":{"a":1}}"#),
            400,
            "BadRequest",
            "cannot unmarshal number into Go struct field ConfigMap.data",
        ),
        case(
            "a wrong number",
            json_request("POST", PODS, r#"{"metadata":{"name":"b"},"spec":{"containers":[],"priority":1.5}}"#),
            400,
            "BadRequest",
            "",
        ),
        case(
            "an unknown field, strictly",
            json_request("POST", &format!("{MAPS}?fieldValidation=Strict"), map.replace("}}", r#"},"spec":{}}"#)),
            400,
            "BadRequest",
            "unknown field \"spec\"",
        ),
        case(
            "a duplicate field, strictly",
            json_request(
                "POST",
                &format!("{MAPS}?fieldValidation=Strict"),
                map.replace("}}", r#"},"data":{"a":"1","a":"2"}}"#),
            ),
            400,
            "BadRequest",
            "duplicate field \"data.a\"",
        ),
        case("an oversized body", json_request("POST", MAPS, huge), 413, "RequestEntityTooLarge", "limit is 3145728"),
        case(
            "a resourceVersion on creation",
            json_request("POST", MAPS, map.replace(r#""name""#, r#""resourceVersion":"7","name""#)),
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ),
        case(
            "what is there already",
            json_request("POST", MAPS, map.replace("\"b\"", "\"there\"")),
            409,
            "AlreadyExists",
            "configmaps \"there\" already exists",
        ),
        case(
            "a missing namespace",
            json_request("POST", "/api/v1/namespaces/none/configmaps", map),
            404,
            "NotFound",
            "namespaces \"none\" not found",
        ),
        case("a bad dryRun", json_request("POST", &format!("{MAPS}?dryRun=Half"), map), 422, "Invalid", "dryRun"),
        case(
            "a bad fieldValidation",
            json_request("POST", &format!("{MAPS}?fieldValidation=Loose"), map),
            422,
            "Invalid",
            "fieldValidation",
        ),
        case(
            "a long fieldManager",
            json_request("POST", &format!("{MAPS}?fieldManager={}", "m".repeat(200)), map),
            422,
            "Invalid",
            "fieldManager",
        ),
        case(
            "what is not there",
            json_request("GET", &format!("{MAPS}/none"), ""),
            404,
            "NotFound",
            "configmaps \"none\" not found",
        ),
        case(
            "an unknown resource",
            json_request("GET", "/api/v1/namespaces/default/things", ""),
            404,
            "NotFound",
            "could not find the requested resource",
        ),
        case("an unknown group", json_request("GET", "/apis/none.example.com/v1/things", ""), 404, "NotFound", ""),
        case("an unknown sub-resource", json_request("GET", &format!("{MAPS}/there/none"), ""), 404, "NotFound", ""),
        case("an unknown path", json_request("GET", "/none", ""), 404, "NotFound", ""),
        case(
            "a namespace around a cluster resource",
            json_request("GET", "/api/v1/namespaces/default/nodes", ""),
            404,
            "NotFound",
            "",
        ),
        case("a named pod without namespace", json_request("GET", "/api/v1/pods/a", ""), 404, "NotFound", ""),
        case(
            "a method that is not there",
            json_request("POST", &format!("{MAPS}/there"), map),
            405,
            "MethodNotAllowed",
            "",
        ),
        case(
            "creation without namespace",
            json_request("POST", "/api/v1/configmaps", map),
            405,
            "MethodNotAllowed",
            "",
        ),
        case("a put without name", json_request("PUT", MAPS, map), 405, "MethodNotAllowed", ""),
        case("an odd method", json_request("TRACE", &format!("{MAPS}/there"), ""), 405, "MethodNotAllowed", ""),
        case(
            "a verb without a resource",
            json_request("GET", "/api/v1/watch", ""),
            500,
            "InternalError",
            "unable to determine kind and namespace",
        ),
        case(
            "nothing acceptable",
            request("GET", &format!("{MAPS}/there"), &[("accept", "text/html")], ""),
            406,
            "NotAcceptable",
            "only the following media types are accepted",
        ),
        case("a bad selector", json_request("GET", &format!("{MAPS}?labelSelector=a%20in"), ""), 400, "BadRequest", ""),
        case(
            "a bad field selector",
            json_request("GET", &format!("{MAPS}?fieldSelector=data.k%3Dv"), ""),
            400,
            "BadRequest",
            "not a known field selector",
        ),
        case("a bad limit", json_request("GET", &format!("{MAPS}?limit=x"), ""), 400, "BadRequest", "strconv.ParseInt"),
        case(
            "a bad token",
            json_request("GET", &format!("{MAPS}?continue=%25"), ""),
            400,
            "BadRequest",
            "continue key is not valid",
        ),
        case(
            "a bad resourceVersion",
            json_request("GET", &format!("{MAPS}?resourceVersion=x"), ""),
            400,
            "BadRequest",
            "resourceVersion",
        ),
        case(
            "a bad match",
            json_request("GET", &format!("{MAPS}?resourceVersionMatch=Exact"), ""),
            422,
            "Invalid",
            "resourceVersionMatch is forbidden",
        ),
        case(
            "a revision of the future",
            json_request("GET", &format!("{MAPS}?resourceVersion=999999"), ""),
            504,
            "Timeout",
            "Too large resource version",
        ),
        case(
            "a get of the future",
            json_request("GET", &format!("{MAPS}/there?resourceVersion=999999"), ""),
            504,
            "Timeout",
            "Too large resource version",
        ),
        case(
            "an update of what is not there",
            json_request("PUT", &format!("{MAPS}/none"), map.replace("\"b\"", "\"none\"")),
            404,
            "NotFound",
            "configmaps \"none\" not found",
        ),
        case(
            "an update under another name",
            json_request("PUT", &format!("{MAPS}/there"), map),
            400,
            "BadRequest",
            "does not match the name on the URL",
        ),
        case(
            "an update without name",
            json_request("PUT", &format!("{MAPS}/there"), "{}"),
            400,
            "BadRequest",
            "name must be provided",
        ),
        case(
            "a stale update",
            json_request("PUT", &format!("{MAPS}/there"), map.replace("\"b\"", "\"there\",\"resourceVersion\":\"1\"")),
            409,
            "Conflict",
            "the object has been modified",
        ),
        case(
            "an update of another uid",
            json_request("PUT", &format!("{MAPS}/there"), map.replace("\"b\"", "\"there\",\"uid\":\"u\"")),
            409,
            "Conflict",
            "Precondition failed: UID in precondition",
        ),
        case(
            "a patch without type",
            json_request("PATCH", &format!("{MAPS}/there"), "{}"),
            415,
            "UnsupportedMediaType",
            "application/json-patch+json",
        ),
        case(
            "a patch that is no json",
            typed("PATCH", &format!("{MAPS}/there"), "application/merge-patch+json", "{"),
            400,
            "BadRequest",
            "",
        ),
        case(
            "a merge patch that is a list",
            typed("PATCH", &format!("{MAPS}/there"), "application/merge-patch+json", "[]"),
            400,
            "BadRequest",
            "",
        ),
        case(
            "a json patch that is an object",
            typed("PATCH", &format!("{MAPS}/there"), "application/json-patch+json", "{}"),
            400,
            "BadRequest",
            "",
        ),
        case(
            "a json patch of nothing",
            typed(
                "PATCH",
                &format!("{MAPS}/there"),
                "application/json-patch+json",
                r#"[{"op":"remove","path":"/none"}]"#,
            ),
            422,
            "Invalid",
            "",
        ),
        case(
            "a json patch whose test fails",
            typed(
                "PATCH",
                &format!("{MAPS}/there"),
                "application/json-patch+json",
                r#"[{"op":"test","path":"/data/k","value":"x"}]"#,
            ),
            422,
            "Invalid",
            "",
        ),
        case(
            "a patch of what is not there",
            typed("PATCH", &format!("{MAPS}/none"), "application/merge-patch+json", "{}"),
            404,
            "NotFound",
            "",
        ),
        case(
            "a patch to another name",
            typed("PATCH", &format!("{MAPS}/there"), "application/merge-patch+json", r#"{"metadata":{"name":"x"}}"#),
            400,
            "BadRequest",
            "does not match the name on the URL",
        ),
        case(
            "a patch to a wrong type",
            typed("PATCH", &format!("{MAPS}/there"), "application/merge-patch+json", r#"{"data":[]}"#),
            422,
            "Invalid",
            "",
        ),
        case(
            "a patch with force",
            typed("PATCH", &format!("{MAPS}/there?force=true"), "application/merge-patch+json", "{}"),
            422,
            "Invalid",
            "may not be specified for non-apply patch",
        ),
        case(
            "a stale patch",
            typed(
                "PATCH",
                &format!("{MAPS}/there"),
                "application/merge-patch+json",
                r#"{"metadata":{"resourceVersion":"1"},"data":{"a":"b"}}"#,
            ),
            409,
            "Conflict",
            "the object has been modified",
        ),
        case(
            "a deletion of what is not there",
            json_request("DELETE", &format!("{MAPS}/none"), ""),
            404,
            "NotFound",
            "",
        ),
        case(
            "a deletion of another uid",
            json_request("DELETE", &format!("{MAPS}/there"), r#"{"preconditions":{"uid":"u"}}"#),
            409,
            "Conflict",
            "the UID in the precondition (u) does not match",
        ),
        case(
            "a deletion of another revision",
            json_request("DELETE", &format!("{MAPS}/there"), r#"{"preconditions":{"resourceVersion":"1"}}"#),
            409,
            "Conflict",
            "the ResourceVersion in the precondition (1)",
        ),
        case(
            "a bad policy",
            json_request("DELETE", &format!("{MAPS}/there"), r#"{"propagationPolicy":"Sideways"}"#),
            422,
            "Invalid",
            "propagationPolicy",
        ),
        case("options that are none", json_request("DELETE", &format!("{MAPS}/there"), "["), 400, "BadRequest", ""),
        case(
            "options of another kind",
            json_request("DELETE", &format!("{MAPS}/there"), r#"{"kind":"Pod"}"#),
            400,
            "BadRequest",
            "cannot be converted to DeleteOptions",
        ),
        case(
            "a namespace for ever",
            json_request("DELETE", "/api/v1/namespaces/kube-system", ""),
            403,
            "Forbidden",
            "this namespace may not be deleted",
        ),
        case(
            "a pod without account",
            json_request(
                "POST",
                PODS,
                r#"{"metadata":{"name":"p"},"spec":{"serviceAccountName":"none","containers":[{"name":"c","image":"i"}]}}"#,
            ),
            403,
            "Forbidden",
            "serviceaccount \"none\" not found",
        ),
        case(
            "a pod of no priority",
            json_request(
                "POST",
                PODS,
                r#"{"metadata":{"name":"p"},"spec":{"priorityClassName":"none","containers":[{"name":"c","image":"i"}]}}"#,
            ),
            403,
            "Forbidden",
            "no PriorityClass with name none was found",
        ),
        case(
            "a token review without token",
            json_request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", "{}"),
            400,
            "BadRequest",
            "token is required",
        ),
        case(
            "an access review of nothing",
            json_request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", r#"{"spec":{"user":"a"}}"#),
            422,
            "Invalid",
            "exactly one of",
        ),
        case(
            "a get of a review",
            json_request("GET", "/apis/authentication.k8s.io/v1/tokenreviews", ""),
            405,
            "MethodNotAllowed",
            "",
        ),
        case(
            "a short token",
            json_request(
                "POST",
                "/api/v1/namespaces/default/serviceaccounts/default/token",
                r#"{"spec":{"expirationSeconds":1}}"#,
            ),
            422,
            "Invalid",
            "less than 10 minutes",
        ),
        case(
            "a binding to nothing",
            json_request("POST", &format!("{PODS}/none/binding"), r#"{"metadata":{"name":"none"},"target":{}}"#),
            422,
            "Invalid",
            "target.name",
        ),
        case(
            "a negative scale",
            json_request(
                "PUT",
                "/apis/apps/v1/namespaces/default/deployments/d/scale",
                r#"{"metadata":{"name":"d"},"spec":{"replicas":-1}}"#,
            ),
            422,
            "Invalid",
            "must be greater than or equal to 0",
        ),
        case(
            "logs with odd numbers",
            json_request("GET", &format!("{PODS}/p/log?tailLines=-1"), ""),
            404,
            "NotFound",
            "",
        ),
    ]
}

/// References that grow without bound.
fn bomb() -> String {
    let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (name, last) in ('b'..='j').zip('a'..='i') {
        text.push_str(&format!(
            "{name}: &{name} [*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last}]\n"
        ));
    }
    text
}

#[tokio::test]
async fn every_bad_input_gets_upstreams_answer() {
    let cluster = Cluster::start().await;
    cluster.config_map("there").await;
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}},
    });
    cluster.post("/apis/apps/v1/namespaces/default/deployments", deployment).await.ok();
    let mut wrong = Vec::new();
    for Case { what, request, code, reason, text } in cases() {
        let answer = cluster.send(Some(admin()), request).await;
        let value: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
        let found = value["reason"].as_str().unwrap_or_default();
        let message = value["message"].as_str().unwrap_or_default();
        let right = answer.code == code && found == reason && message.contains(text) && value["kind"] == "Status";
        if !right {
            wrong.push(format!("{what}: {} {found:?} {message:?}, not {code} {reason:?} {text:?}", answer.code));
        }
        assert_eq!(cluster.get(&format!("{MAPS}/there")).await.code, 200, "after {what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn bytes_at_random_never_break_the_server() {
    let cluster = Cluster::start().await;
    cluster.config_map("there").await;
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let valid = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    for round in 0..300 {
        let mut bytes = valid.to_vec();
        for _ in 0..1 + next() % 4 {
            let at = (next() % bytes.len() as u64) as usize;
            match next() % 3 {
                0 => bytes[at] = next() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, next() as u8),
            }
        }
        let kinds = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
        if round % 3 == 2 {
            bytes.splice(0..0, *b"k8s\0");
        }
        let answer = cluster.send(Some(admin()), typed("POST", PODS, kinds[round % 3], bytes)).await;
        assert!(answer.code < 500, "{} {:?}", answer.code, answer.bytes);
    }
    assert_eq!(cluster.get(&format!("{MAPS}/there")).await.code, 200);
}

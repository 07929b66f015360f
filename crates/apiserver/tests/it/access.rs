//! Who may do what: certificates, tokens, roles, nodes, impersonation.

use crate::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn user(name: &str, groups: &[&str]) -> User {
    User::new(name, groups)
}

async fn role(cluster: &Cluster, name: &str, rules: Value, subject: Value) {
    let role = json!({"metadata": {"name": name}, "rules": rules});
    cluster.post(&format!("{RBAC}/namespaces/default/roles"), role).await.ok();
    let binding = json!({
        "metadata": {"name": name}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
    });
    cluster.post(&format!("{RBAC}/namespaces/default/rolebindings"), binding).await.ok();
}

fn subject(kind: &str, name: &str) -> Value {
    match kind {
        "ServiceAccount" => json!({"kind": kind, "name": name, "namespace": "default"}),
        _ => json!({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}),
    }
}

#[tokio::test]
async fn strangers_see_health_and_nothing_else() {
    let cluster = Cluster::start().await;
    for path in ["/healthz", "/livez", "/readyz", "/version", "/readyz?verbose"] {
        let answer = cluster.send(None, request("GET", path, &[], "")).await;
        assert_eq!(answer.code, 200, "{path}");
    }
    for path in ["/api", "/apis", "/metrics", "/openapi/v2", PODS, "/none"] {
        cluster.send(None, request("GET", path, &[], "")).await.refused(401, "Unauthorized", "Unauthorized");
    }
    let bad = request("GET", "/version", &[("authorization", "Bearer nonsense")], "");
    cluster.send(None, bad).await.refused(401, "Unauthorized", "");
}

#[tokio::test]
async fn roles_give_what_they_say_where_they_say_it() {
    let cluster = Cluster::start().await;
    let alice = user("alice", &[]);
    let refused = cluster.as_user(&alice, "GET", PODS, Value::Null).await;
    refused.refused(403, "Forbidden", "pods is forbidden: User \"alice\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"");
    role(
        &cluster,
        "r",
        json!([{"verbs": ["list", "get"], "apiGroups": [""], "resources": ["pods"]}]),
        subject("User", "alice"),
    )
    .await;
    assert_eq!(cluster.as_user(&alice, "GET", PODS, Value::Null).await.code, 200);
    let other = "/api/v1/namespaces/kube-system/pods";
    cluster.as_user(&alice, "GET", other, Value::Null).await.refused(403, "Forbidden", "");
    cluster.as_user(&alice, "GET", "/api/v1/pods", Value::Null).await.refused(403, "Forbidden", "at the cluster scope");
    cluster.as_user(&alice, "POST", PODS, pod("p")).await.refused(403, "Forbidden", "cannot create");
    cluster.as_user(&alice, "GET", "/metrics", Value::Null).await.refused(
        403,
        "Forbidden",
        "User \"alice\" cannot get path \"/metrics\"",
    );
    assert_eq!(
        cluster.as_user(&alice, "GET", "/api/v1", Value::Null).await.code,
        200,
        "discovery is for everyone known"
    );
    cluster.delete(&format!("{RBAC}/namespaces/default/rolebindings/r")).await.ok();
    cluster.as_user(&alice, "GET", PODS, Value::Null).await.refused(403, "Forbidden", "");
    role(&cluster, "g", json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]), subject("Group", "team"))
        .await;
    assert_eq!(cluster.as_user(&user("bob", &["team"]), "POST", PODS, pod("p")).await.code, 201);
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let cluster = Cluster::start().await;
    let rules = json!([
        {"verbs": ["create"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
    ]);
    role(&cluster, "r", rules, subject("User", "eve")).await;
    let eve = user("eve", &[]);
    let roles = format!("{RBAC}/namespaces/default/roles");
    let grant = |verb: &str| json!({"metadata": {"name": verb}, "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]});
    assert_eq!(cluster.as_user(&eve, "POST", &roles, grant("get")).await.code, 201);
    cluster.as_user(&eve, "POST", &roles, grant("delete")).await.refused(
        403,
        "Forbidden",
        "user \"eve\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}",
    );
    let bind = json!({
        "metadata": {"name": "me"}, "subjects": [subject("User", "eve")],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    });
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    cluster.as_user(&eve, "POST", &bindings, bind.clone()).await.refused(403, "Forbidden", "not currently held");
    let may_bind = json!([{"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"]}]);
    let wide = json!({"metadata": {"name": "binder"}, "rules": may_bind});
    cluster.post(&format!("{RBAC}/clusterroles"), wide).await.ok();
    let binder = json!({
        "metadata": {"name": "binder"}, "subjects": [subject("User", "eve")],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "binder"},
    });
    cluster.post(&format!("{RBAC}/clusterrolebindings"), binder).await.ok();
    assert_eq!(cluster.as_user(&eve, "POST", &bindings, bind).await.code, 201);
}

#[tokio::test]
async fn tokens_say_who_one_is() {
    let cluster = Cluster::start().await;
    let whoami = |token: String| {
        let cluster = &cluster;
        async move {
            let auth = format!("Bearer {token}");
            let headers = [("authorization", auth.as_str()), ("content-type", "application/json")];
            let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
            cluster.send(None, request("POST", path, &headers, "{}")).await
        }
    };
    let review = whoami("alice-token".to_owned()).await.ok();
    assert_eq!(review["status"]["userInfo"]["username"], "alice");
    assert_eq!(review["status"]["userInfo"]["groups"], json!(["readers", "system:authenticated"]));
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let token = cluster.post(path, json!({})).await.ok()["status"]["token"].as_str().unwrap().to_owned();
    let review = whoami(token.clone()).await.ok();
    assert_eq!(review["status"]["userInfo"]["username"], "system:serviceaccount:default:default");
    cluster.delete("/api/v1/namespaces/default/serviceaccounts/default").await.ok();
    whoami(token).await.refused(401, "Unauthorized", "");
}

#[tokio::test]
async fn a_node_touches_only_its_own() {
    let cluster = Cluster::start().await;
    let node = user("system:node:n1", &["system:nodes"]);
    let as_node = |method: &'static str, path: &'static str, body: Value| {
        let (cluster, node) = (&cluster, &node);
        async move { cluster.as_user(node, method, path, body).await }
    };
    as_node("POST", "/api/v1/nodes", json!({"metadata": {"name": "n2"}})).await.refused(
        403,
        "Forbidden",
        "is not allowed to modify node \"n2\"",
    );
    assert_eq!(as_node("POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await.code, 201);
    as_node("PATCH", "/api/v1/nodes/n1", json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}))
        .await
        .refused(403, "Forbidden", "is not allowed to modify the following labels: node-restriction.kubernetes.io/x");
    let lease = json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}});
    assert_eq!(
        as_node("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease).await.code,
        201
    );
    let foreign = json!({"metadata": {"name": "n2"}});
    as_node("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", foreign).await.refused(
        403,
        "Forbidden",
        "same name",
    );
    for name in ["used", "unused"] {
        let secret = json!({"metadata": {"name": name}});
        cluster.post("/api/v1/namespaces/default/secrets", secret).await.ok();
    }
    let mut wanting = pod("p");
    wanting["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "used"}}]);
    cluster.post(PODS, wanting).await.ok();
    as_node("GET", "/api/v1/namespaces/default/secrets/used", Value::Null).await.refused(403, "Forbidden", "");
    as_node("PATCH", "/api/v1/namespaces/default/pods/p/status", json!({"status": {"phase": "Running"}}))
        .await
        .refused(403, "Forbidden", "");
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    cluster.post(&format!("{PODS}/p/binding"), binding).await;
    assert_eq!(as_node("GET", "/api/v1/namespaces/default/secrets/used", Value::Null).await.code, 200);
    as_node("GET", "/api/v1/namespaces/default/secrets/unused", Value::Null).await.refused(403, "Forbidden", "");
    as_node("GET", "/api/v1/namespaces/default/secrets", Value::Null).await.refused(403, "Forbidden", "");
    let status = json!({"status": {"phase": "Running"}});
    assert_eq!(as_node("PATCH", "/api/v1/namespaces/default/pods/p/status", status).await.code, 200);
    assert_eq!(as_node("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", Value::Null).await.code, 200);
    assert_eq!(as_node("GET", "/api/v1/services", Value::Null).await.code, 200);
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    assert_eq!(as_node("POST", token, json!({})).await.code, 201);
}

#[tokio::test]
async fn impersonation_needs_its_own_right() {
    let cluster = Cluster::start().await;
    let act = |user: User| {
        let headers =
            [("impersonate-user", "bob"), ("impersonate-group", "team"), ("content-type", "application/json")];
        let request = request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &headers, "{}");
        let cluster = &cluster;
        async move { cluster.send(Some(user), request).await }
    };
    act(user("alice", &[])).await.refused(403, "Forbidden", "User \"alice\" cannot impersonate resource \"users\"");
    let review = act(admin()).await.ok();
    assert_eq!(review["status"]["userInfo"], json!({"username": "bob", "groups": ["team", "system:authenticated"]}));
}

#[tokio::test]
async fn reviews_answer_as_requests_would() {
    let cluster = Cluster::start().await;
    role(
        &cluster,
        "r",
        json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]),
        subject("User", "alice"),
    )
    .await;
    let alice = user("alice", &[]);
    let ask = |verb: &'static str| {
        let body = json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "default"}}});
        let (cluster, alice) = (&cluster, &alice);
        async move {
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            cluster.as_user(alice, "POST", path, body).await.ok()["status"]["allowed"].clone()
        }
    };
    assert_eq!(ask("list").await, true);
    assert_eq!(ask("delete").await, false);
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let rules = cluster.as_user(&alice, "POST", path, json!({"spec": {"namespace": "default"}})).await.ok();
    let rules = rules["status"]["resourceRules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["resources"] == json!(["pods"])));
    let body = json!({"spec": {"user": "alice", "resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    let path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    assert_eq!(cluster.post(path, body).await.ok()["status"]["allowed"], true);
}

#[tokio::test]
async fn roles_are_gathered_by_their_labels() {
    let cluster = Cluster::start().await;
    let rules = |role: Value| role["rules"].as_array().map_or(0, Vec::len);
    let before = rules(cluster.get(&format!("{RBAC}/clusterroles/view")).await.ok());
    assert!(before > 5, "view is gathered from the start: {before}");
    let extra = json!({
        "metadata": {"name": "more", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]}],
    });
    cluster.post(&format!("{RBAC}/clusterroles"), extra).await.ok();
    for _ in 0..100 {
        if rules(cluster.get(&format!("{RBAC}/clusterroles/view")).await.ok()) == before + 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("view did not gather the new role");
}

#[tokio::test]
async fn a_review_is_no_table() {
    let cluster = Cluster::start().await;
    let body = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}).to_string();
    let headers = [("content-type", "application/json"), ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = cluster.send(Some(admin()), request("POST", path, &headers, body)).await;
    answer.refused(406, "NotAcceptable", "");
}

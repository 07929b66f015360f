//! Rules that depend on other objects: quotas, limits, runtime classes, default classes.

use crate::*;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn quota(cluster: &Cluster, hard: Value) {
    let path = "/api/v1/namespaces/default/resourcequotas";
    cluster.post(path, json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await.ok();
    let used: serde_json::Map<String, Value> =
        hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0"))).collect();
    // What the quota controller does elsewhere.
    let status = json!({"status": {"hard": hard, "used": used}});
    cluster.patch(&format!("{path}/q/status"), status).await.ok();
}

async fn used(cluster: &Cluster) -> Value {
    cluster.get("/api/v1/namespaces/default/resourcequotas/q").await.ok()["status"]["used"].clone()
}

fn sized(name: &str, cpu: &str) -> Value {
    let mut made = pod(name);
    made["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    made
}

#[tokio::test]
async fn a_quota_is_charged_in_the_commit_that_stores_the_object() {
    let cluster = Cluster::start().await;
    quota(&cluster, json!({"pods": "3", "cpu": "1", "count/configmaps": "1"})).await;
    cluster.post(PODS, sized("a", "600m")).await.ok();
    assert_eq!(used(&cluster).await, json!({"pods": "1", "cpu": "600m", "count/configmaps": "0"}));
    let refused = cluster.post(PODS, sized("b", "500m")).await;
    let text = "pods \"b\" is forbidden: exceeded quota: q, requested: cpu=500m, used: cpu=600m, limited: cpu=1";
    refused.refused(403, "Forbidden", text);
    cluster.post(PODS, pod("c")).await.refused(403, "Forbidden", "failed quota: q: must specify cpu for: c");
    cluster.post(PODS, sized("a", "100m")).await.refused(409, "AlreadyExists", "");
    cluster.post(&format!("{PODS}?dryRun=All"), sized("d", "100m")).await.ok();
    assert_eq!(used(&cluster).await["pods"], "1", "neither refusals nor dry runs are charged");
    cluster.config_map("one").await;
    let other = json!({"metadata": {"name": "two"}});
    cluster.post("/api/v1/namespaces/default/configmaps", other).await.refused(403, "Forbidden", "count/configmaps=1");
}

#[tokio::test]
async fn requests_at_the_same_time_get_no_more_than_there_is() {
    let cluster = Cluster::start().await;
    quota(&cluster, json!({"count/configmaps": "10"})).await;
    let posts = (0..30).map(|number| {
        let body = json!({"metadata": {"name": format!("m{number}")}});
        cluster.post("/api/v1/namespaces/default/configmaps", body)
    });
    let answers = futures::future::join_all(posts).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    assert_eq!(made, 10, "{:?}", answers.iter().map(|answer| answer.code).collect::<Vec<_>>());
    assert_eq!(used(&cluster).await, json!({"count/configmaps": "10"}));
}

#[tokio::test]
async fn limits_complete_and_bound_pods_and_claims() {
    let cluster = Cluster::start().await;
    let limits = json!([
        {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "500m"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]);
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": limits}});
    cluster.post("/api/v1/namespaces/default/limitranges", range).await.ok();
    let made = cluster.post(PODS, pod("a")).await.ok();
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}));
    assert_eq!(made["status"]["qosClass"], "Burstable", "the class follows from what was filled in");
    let mut large = pod("b");
    large["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    let text = "pods \"b\" is forbidden: maximum cpu usage per Container is 500m, but limit is 1";
    cluster.post(PODS, large).await.refused(403, "Forbidden", text);
    let claim = json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
    }});
    let path = "/api/v1/namespaces/default/persistentvolumeclaims";
    let text = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
    cluster.post(path, claim).await.refused(403, "Forbidden", text);
}

#[tokio::test]
async fn a_pod_gets_what_its_runtime_class_says() {
    let cluster = Cluster::start().await;
    let mut made = pod("a");
    made["spec"]["runtimeClassName"] = "safe".into();
    let text = "pods \"a\" is forbidden: pod rejected: RuntimeClass \"safe\" not found";
    cluster.post(PODS, made.clone()).await.refused(403, "Forbidden", text);
    let class = json!({
        "metadata": {"name": "safe"}, "handler": "safe", "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {"nodeSelector": {"safe": "yes"}},
    });
    cluster.post("/apis/node.k8s.io/v1/runtimeclasses", class).await.ok();
    let spec = cluster.post(PODS, made).await.ok()["spec"].clone();
    assert_eq!((&spec["overhead"], &spec["nodeSelector"]), (&json!({"cpu": "10m"}), &json!({"safe": "yes"})));
    let mut own = pod("b");
    own["spec"]["overhead"] = json!({"cpu": "1"});
    cluster.post(PODS, own).await.refused(403, "Forbidden", "Pod Overhead set without corresponding RuntimeClass");
}

#[tokio::test]
async fn a_claim_without_a_class_gets_the_newest_default() {
    let cluster = Cluster::start().await;
    for (name, mark) in [("plain", "false"), ("first", "true"), ("second", "true")] {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": mark});
        let class = json!({"metadata": {"name": name, "annotations": annotations}, "provisioner": "example.com/p"});
        cluster.post("/apis/storage.k8s.io/v1/storageclasses", class).await.ok();
    }
    let claim = |name: &str, class: Option<&str>| {
        let mut claim = json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }});
        if let Some(class) = class {
            claim["spec"]["storageClassName"] = class.into();
        }
        claim
    };
    let path = "/api/v1/namespaces/default/persistentvolumeclaims";
    let made = cluster.post(path, claim("a", None)).await.ok();
    assert!(["first", "second"].contains(&made["spec"]["storageClassName"].as_str().unwrap()), "{made}");
    assert_eq!(cluster.post(path, claim("b", Some(""))).await.ok()["spec"]["storageClassName"], "");
    let growth = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    cluster.patch(&format!("{path}/a/status"), json!({"status": {"phase": "Bound"}})).await.ok();
    let text = "only dynamically provisioned pvc can be resized";
    cluster.patch(&format!("{path}/a"), growth).await.refused(403, "Forbidden", text);
}

#[tokio::test]
async fn only_those_who_may_speak_for_a_signer_approve() {
    let cluster = Cluster::start().await;
    let rules = json!([
        {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"], "verbs": ["*"]},
        {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["good.example/*"], "verbs": ["approve"]},
    ]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    cluster.post(&format!("{rbac}/clusterroles"), json!({"metadata": {"name": "a"}, "rules": rules})).await.ok();
    let binding = json!({"metadata": {"name": "a"}, "subjects": [{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "a", "apiGroup": "rbac.authorization.k8s.io"}});
    cluster.post(&format!("{rbac}/clusterrolebindings"), binding).await.ok();
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    for (name, signer, allowed) in [("a", "good.example/s", true), ("b", "other.example/s", false)] {
        let body = crate::certificates::signing_request(&crate::certificates::pem(), name, signer);
        let mut made = cluster.post(requests, body).await.ok();
        made["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]);
        let path = format!("{requests}/{name}/approval");
        let answer = cluster.as_user(&User::new("ann", &[]), "PUT", &path, made).await;
        if allowed {
            answer.ok();
        } else {
            answer.refused(
                403,
                "Forbidden",
                "user not permitted to approve requests with signerName \"other.example/s\"",
            );
        }
    }
}

#[tokio::test]
async fn a_namespace_chooses_how_much_its_pods_may_ask_for() {
    let cluster = Cluster::start().await;
    let namespace = "/api/v1/namespaces/default";
    let privileged = |name: &str| {
        let mut made = pod(name);
        made["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        made
    };
    cluster.post(PODS, privileged("before")).await.ok();
    let label = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    cluster.patch(namespace, label("odd")).await.refused(
        422,
        "Invalid",
        "must be one of privileged, baseline, restricted",
    );
    let stricter = cluster.patch(namespace, label("baseline")).await;
    let warnings: Vec<String> =
        stricter.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
    assert!(warnings.iter().any(|warning| warning.contains("before: privileged")), "{warnings:?}");
    stricter.ok();
    let text =
        "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set";
    cluster.post(PODS, privileged("a")).await.refused(403, "Forbidden", text);
    cluster.post(PODS, pod("b")).await.ok();
    let labels = json!({"app": "x"});
    let set = json!({"metadata": {"name": "s"}, "spec": {
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": privileged("x")["spec"]},
    }});
    let made = cluster.post("/apis/apps/v1/namespaces/default/replicasets", set).await;
    let warning = made.headers.get("warning").expect("a warning").to_str().unwrap().to_owned();
    assert!(warning.contains("would violate PodSecurity"), "{warning}");
    made.ok();
    cluster.patch(&format!("{PODS}/before"), json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
}

#[tokio::test]
async fn whoever_writes_expressions_is_told_that_they_are_not_evaluated() {
    let cluster = Cluster::start().await;
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let spec = json!({
        "matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "object.spec.hostNetwork == false"}],
    });
    let made = cluster.post(path, json!({"metadata": {"name": "p"}, "spec": spec})).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert!(made.headers["warning"].to_str().unwrap().contains("not evaluated"), "{made:?}");
    let schema = |spec: Value| json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let definition = |plural: &str, spec: Value| {
        json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": plural, "kind": plural.to_uppercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema(spec)}],
        }})
    };
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let rule = json!([{"rule": "self.a < 10"}]);
    let ruled = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": rule});
    let made = cluster.post(path, definition("ruled", ruled)).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert!(made.headers["warning"].to_str().unwrap().contains("x-kubernetes-validations"), "{made:?}");
    let made = cluster.post(path, definition("plain", json!({"type": "object"}))).await;
    assert!(made.code == 201 && !made.headers.contains_key("warning"), "{made:?}");
}

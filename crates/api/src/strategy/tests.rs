//! Tests of `strategy`: cases as data where there are many.

use serde_json::{Value, json};

use super::*;
use crate::kinds::{self, Kind};

fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::all().iter().find(|kind| kind.group == group && kind.plural == plural).unwrap()
}

fn create(kind: &Kind, object: Value) -> Value {
    let mut object = object;
    crate::defaults::apply(kind, &mut object);
    prepare_create(kind, &mut object);
    object
}

fn update(kind: &Kind, subresource: &str, new: Value, old: &Value) -> Value {
    let mut new = new;
    crate::defaults::apply(kind, &mut new);
    prepare_update(kind, subresource, &mut new, old);
    new
}

#[test]
fn creating_resets_the_status_and_starts_the_generation() {
    for (group, plural, status) in [
        ("apps", "deployments", json!({})),
        ("apps", "replicasets", json!({"replicas": 0})),
        ("", "services", json!({"loadBalancer": {}})),
        ("batch", "jobs", json!({})),
    ] {
        let object = create(kind(group, plural), json!({"spec": {}, "status": {"replicas": 7, "x": 1}}));
        assert_eq!(object["status"], status, "{plural}");
        let generation = if plural == "services" { 0 } else { 1 };
        assert_eq!(meta::generation(&object), generation, "{plural}");
    }
    let node = create(kind("", "nodes"), json!({"status": {"capacity": {"cpu": "1"}}}));
    assert_eq!(node["status"]["capacity"], json!({"cpu": "1"}));
}

#[test]
fn a_change_of_the_spec_raises_the_generation_and_nothing_else_does() {
    let kind = kind("apps", "replicasets");
    let old = create(kind, json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}}));
    for (new, generation) in [
        (json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}}), 1),
        (json!({"metadata": {"name": "a", "generation": 9, "labels": {"x": "y"}}, "spec": {"replicas": 1}}), 1),
        (json!({"metadata": {"name": "a"}, "spec": {"replicas": 2}, "status": {"replicas": 5}}), 2),
    ] {
        let new = update(kind, "", new, &old);
        assert_eq!((meta::generation(&new), &new["status"]), (generation, &json!({"replicas": 0})));
    }
}

#[test]
fn a_deployments_annotations_count_too() {
    let kind = kind("apps", "deployments");
    let old = create(kind, json!({"spec": {}}));
    let new = update(kind, "", json!({"metadata": {"annotations": {"a": "b"}}, "spec": {}}), &old);
    assert_eq!(meta::generation(&new), 2);
    let new = update(
        kind,
        "status",
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"replicas": 9}, "status": {"replicas": 3}}),
        &old,
    );
    assert_eq!(
        (meta::generation(&new), &new["spec"], &new["status"], meta::labels(&new)),
        (1, &old["spec"], &json!({"replicas": 3}), None)
    );
}

#[test]
fn an_update_keeps_what_only_the_server_sets() {
    let kind = kind("", "configmaps");
    let old = json!({"metadata": {"name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
        "deletionTimestamp": "2026-01-02T00:00:00Z", "deletionGracePeriodSeconds": 5}});
    let new = update(kind, "", json!({"metadata": {"name": "a", "creationTimestamp": "1999-01-01T00:00:00Z"}}), &old);
    assert_eq!(new["metadata"], old["metadata"]);
}

#[test]
fn a_namespace_has_its_finalizer_and_only_finalize_removes_it() {
    let kind = kind("", "namespaces");
    let old = create(kind, json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}}));
    assert_eq!((&old["spec"], &old["status"]), (&json!({"finalizers": ["kubernetes"]}), &json!({"phase": "Active"})));
    assert_eq!(update(kind, "", json!({"spec": {}}), &old)["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(update(kind, "finalize", json!({"spec": {}}), &old)["spec"], json!({}));
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    for (containers, class) in [
        (json!([{}]), "BestEffort"),
        (json!([{"requests": {"cpu": "1"}}]), "Burstable"),
        (
            json!([{"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}}]),
            "Guaranteed",
        ),
        (json!([{"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}]), "Burstable"),
        (json!([{"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}]), "Burstable"),
        (
            json!([{"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}, {}]),
            "Burstable",
        ),
        (json!([{"requests": {"ephemeral-storage": "1Gi"}}]), "BestEffort"),
    ] {
        let containers: Vec<Value> =
            containers.as_array().unwrap().iter().map(|resources| json!({"resources": resources})).collect();
        assert_eq!(pod::quality_of_service(&json!({"spec": {"containers": containers}})), class, "{containers:?}");
    }
}

#[test]
fn a_pod_is_created_pending_with_its_class() {
    let kind = kind("", "pods");
    let pod = create(
        kind,
        json!({"spec": {"containers": [{"name": "a", "image": "i"}], "schedulingGates": [{"name": "g"}]},
            "status": {"phase": "Running"}}),
    );
    assert_eq!((&pod["status"]["phase"], &pod["status"]["qosClass"]), (&json!("Pending"), &json!("BestEffort")));
    assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
    assert_eq!(meta::generation(&pod), 1);
}

#[test]
fn label_keys_of_affinity_become_expressions() {
    let pod = create(
        kind("", "pods"),
        json!({"metadata": {"labels": {"v": "1"}}, "spec": {"containers": [], "affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution":
                [{"topologyKey": "t", "labelSelector": {}, "matchLabelKeys": ["v", "w"]}]}}}}),
    );
    assert_eq!(
        pod.pointer("/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector"),
        Some(&json!({"matchExpressions": [{"key": "v", "operator": "In", "values": ["1"]}]}))
    );
}

#[test]
fn a_pods_sub_resources_change_their_part_only() {
    let kind = kind("", "pods");
    let old = create(
        kind,
        json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}),
    );
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({});
    new["metadata"]["ownerReferences"] = json!([{"name": "x"}]);
    new["spec"]["containers"][0]["image"] = json!("other");
    new["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    new["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
    new["status"] = json!({"phase": "Running"});

    let status = update(kind, "status", new.clone(), &old);
    assert_eq!((&status["spec"], meta::owner_references(&status).len()), (&old["spec"], 0));
    assert_eq!(status["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
    assert_eq!(meta::generation(&status), 1);

    let ephemeral = update(kind, "ephemeralcontainers", new.clone(), &old);
    assert_eq!((&ephemeral["spec"]["containers"], &ephemeral["status"]), (&old["spec"]["containers"], &old["status"]));
    assert_eq!(ephemeral["spec"]["ephemeralContainers"][0]["name"], "d");
    assert_eq!((meta::label(&ephemeral, "a"), meta::generation(&ephemeral)), ("b", 2));

    let resized = update(kind, "resize", new, &old);
    assert_eq!(resized["spec"]["containers"][0]["image"], "i");
    assert_eq!(resized["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "1"}));
    assert!(resized["spec"].get("ephemeralContainers").is_none());
}

#[test]
fn a_pod_ends_at_once_unless_it_runs() {
    let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
    for (pod, requested, period) in [
        (pod("n", "Running"), None, 30),
        (pod("n", "Running"), Some(5), 5),
        (pod("n", "Running"), Some(0), 0),
        (pod("n", "Running"), Some(-1), 1),
        (pod("", "Pending"), None, 0),
        (pod("n", "Succeeded"), Some(60), 0),
    ] {
        assert_eq!(super::pod::grace_period_seconds(&pod, requested), period);
    }
}

#[test]
fn a_service_keeps_its_address_and_ports() {
    let kind = kind("", "services");
    let mut old = create(
        kind,
        json!({"spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": [{"name": "x", "port": 80}]}}),
    );
    assert!(service::wants_cluster_ip(&old));
    assert_eq!(service::node_ports_wanted(&old), [0]);
    assert_eq!(old["spec"]["ipFamilies"], json!(["IPv4"]));
    old["spec"]["clusterIP"] = json!("10.0.0.1");
    old["spec"]["clusterIPs"] = json!(["10.0.0.1"]);
    old["spec"]["ports"][0]["nodePort"] = json!(30000);
    let again = json!({"spec": {"type": "NodePort", "selector": {"a": "b"},
        "ports": [{"name": "x", "port": 81}, {"name": "y", "port": 82}]}});
    let new = update(kind, "", again, &old);
    assert_eq!((&new["spec"]["clusterIP"], &new["spec"]["clusterIPs"]), (&json!("10.0.0.1"), &json!(["10.0.0.1"])));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30000);
    assert_eq!(service::node_ports_wanted(&new), [1]);

    let external = update(
        kind,
        "",
        json!({"spec": {"type": "ExternalName", "externalName": "x.test", "clusterIP": "10.0.0.1",
            "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Cluster", "ports": [{"name": "x", "port": 80, "nodePort": 30000}]}}),
        &old,
    );
    for member in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "externalTrafficPolicy"] {
        assert!(external["spec"].get(member).is_none(), "{member}");
    }
    assert!(external["spec"]["ports"][0].get("nodePort").is_none());
}

#[test]
fn a_headless_service_without_selector_is_of_both_families() {
    let service = create(kind("", "services"), json!({"spec": {"clusterIP": "None"}}));
    assert_eq!(service["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(service["spec"]["ipFamilyPolicy"], "RequireDualStack");
}

#[test]
fn a_job_selects_by_its_uid() {
    let kind = kind("batch", "jobs");
    let job = create(kind, json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}}));
    assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        json!({"job-name": "j", "batch.kubernetes.io/job-name": "j", "controller-uid": "u",
            "batch.kubernetes.io/controller-uid": "u"})
    );
    let manual = create(kind, json!({"spec": {"manualSelector": true, "template": {"spec": {}}}}));
    assert!(manual["spec"].get("selector").is_none());
}

#[test]
fn a_daemon_set_counts_its_templates() {
    let kind = kind("apps", "daemonsets");
    let annotation = |object: &Value| meta::annotation(object, "deprecated.daemonset.template.generation").to_owned();
    let old = create(kind, json!({"spec": {"template": {"spec": {"containers": []}}}}));
    assert_eq!(annotation(&old), "1");
    let same = update(kind, "", json!({"spec": {"template": {"spec": {"containers": []}}}}), &old);
    assert_eq!((annotation(&same).as_str(), meta::generation(&same)), ("1", 1));
    let other = update(kind, "", json!({"spec": {"template": {"spec": {"nodeName": "x"}}}}), &old);
    assert_eq!((annotation(&other).as_str(), meta::generation(&other)), ("2", 2));
}

#[test]
fn a_custom_resources_status_is_apart_if_its_definition_says_so() {
    let mut of = kinds::Custom {
        group: "example.test",
        version: "v1",
        kind: "Widget",
        list_kind: "WidgetList",
        plural: "widgets",
        singular: "widget",
        short_names: vec![],
        categories: vec![],
        namespaced: true,
        status: true,
        scale: false,
        storage_version: "v1",
    };
    let kind = Kind::custom(&of);
    let mut old = json!({"spec": {"a": 1}, "status": {"b": 1}});
    prepare_create(&kind, &mut old);
    assert_eq!(old, json!({"metadata": {"generation": 1}, "spec": {"a": 1}}));
    let mut new = json!({"metadata": {"resourceVersion": "5"}, "spec": {"a": 2}, "status": {"b": 2}, "x": 1});
    prepare_update(&kind, "status", &mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"generation": 1, "resourceVersion": "5"}, "spec": {"a": 1}, "status": {"b": 2}})
    );
    of.status = false;
    let kind = Kind::custom(&of);
    let mut new = json!({"spec": {"a": 1}, "status": {"b": 2}});
    prepare_update(&kind, "", &mut new, &old);
    assert_eq!((meta::generation(&new), &new["status"]), (2, &json!({"b": 2})));
}

#[test]
fn a_definition_remembers_versions_it_stored() {
    let kind = kind("apiextensions.k8s.io", "customresourcedefinitions");
    let versions = |storage: &str| json!({"spec": {"versions": [{"name": "v1", "storage": storage == "v1"}, {"name": "v2", "storage": storage == "v2"}]}});
    let old = create(kind, versions("v1"));
    assert_eq!(old["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(update(kind, "", versions("v2"), &old)["status"]["storedVersions"], json!(["v1", "v2"]));
}

#[test]
fn a_claims_two_data_sources_agree() {
    let kind = kind("", "persistentvolumeclaims");
    let claim = create(kind, json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"}}}));
    assert_eq!(claim["spec"]["dataSourceRef"], json!({"kind": "PersistentVolumeClaim", "name": "a"}));
    let claim = create(kind, json!({"spec": {"dataSource": {"apiGroup": "x", "kind": "Y", "name": "a"}}}));
    assert!(claim["spec"].get("dataSource").is_none());
    let claim = create(kind, json!({"spec": {"dataSourceRef": {"apiGroup": "x", "kind": "Y", "name": "a"}}}));
    assert_eq!(claim["spec"]["dataSource"], json!({"apiGroup": "x", "kind": "Y", "name": "a"}));
}

#[test]
fn times_are_stamped_where_upstream_stamps_them() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let later: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    let kind = kind("", "persistentvolumes");
    let mut old = create(kind, json!({"spec": {}}));
    stamp(kind, &mut old, None, now);
    assert_eq!(old["status"]["lastPhaseTransitionTime"], "2026-01-01T00:00:00Z");
    let mut new = old.clone();
    stamp(kind, &mut new, Some(&old), later);
    assert_eq!(new["status"]["lastPhaseTransitionTime"], "2026-01-01T00:00:00Z");
    new["status"]["phase"] = json!("Bound");
    stamp(kind, &mut new, Some(&old), later);
    assert_eq!(new["status"]["lastPhaseTransitionTime"], "2026-01-02T00:00:00Z");
}

#[test]
fn a_scale_shows_and_sets_the_size() {
    let places = scale::Places::built_in();
    let mut deployment = json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 2}});
    let mut seen = scale::of(&places, &deployment);
    assert_eq!(
        seen,
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7"},
            "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "a=b"}})
    );
    seen["spec"]["replicas"] = json!(5);
    scale::apply(&places, &seen, &mut deployment);
    assert_eq!(deployment["spec"]["replicas"], 5);
    let custom = scale::Places::custom(&json!({"specReplicasPath": ".spec.size.n", "statusReplicasPath": ".status.n"}));
    let mut object = json!({});
    scale::apply(&custom, &json!({"spec": {"replicas": 4}}), &mut object);
    assert_eq!(object["spec"]["size"]["n"], 4);
}

#[test]
fn unconditional_updates_and_creation_by_put_are_allowed_where_upstream_allows_them() {
    for (group, plural, create, unconditional) in [
        ("", "pods", false, true),
        ("", "services", true, true),
        ("coordination.k8s.io", "leases", true, false),
        ("rbac.authorization.k8s.io", "roles", true, true),
        ("policy", "poddisruptionbudgets", false, false),
        ("apiextensions.k8s.io", "customresourcedefinitions", false, false),
    ] {
        let kind = kind(group, plural);
        assert_eq!(
            (allows_create_on_update(kind), allows_unconditional_update(kind)),
            (create, unconditional),
            "{plural}"
        );
    }
}

#[test]
fn objects_of_the_wrong_shape_do_not_panic() {
    for kind in kinds::all() {
        for given in [
            json!({}),
            json!({"spec": 1, "status": [], "metadata": "x", "secrets": [1]}),
            json!({"spec": {"template": 3, "containers": {}, "ports": [1, "x"], "finalizers": 1, "affinity": {"podAffinity": 1},
                "versions": [1], "type": 4}, "status": {"conditions": [1, {"type": 4}], "storedVersions": {}}}),
        ] {
            let mut created = given.clone();
            prepare_create(kind, &mut created);
            for sub in ["", "status", "ephemeralcontainers", "resize", "finalize", "approval"] {
                let mut new = given.clone();
                prepare_update(kind, sub, &mut new, &created);
                stamp(kind, &mut new, Some(&created), Timestamp::UNIX_EPOCH);
            }
        }
    }
}

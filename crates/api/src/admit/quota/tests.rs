//! What a quota counts and when it is full, as upstream documents its scopes and resources.

use serde_json::json;

use super::*;

const POD: Counted<'_> = Counted { group: "", plural: "pods" };
const SERVICE: Counted<'_> = Counted { group: "", plural: "services" };
const CLAIM: Counted<'_> = Counted { group: "", plural: "persistentvolumeclaims" };
const SECRET: Counted<'_> = Counted { group: "", plural: "secrets" };
const THING: Counted<'_> = Counted { group: "example.com", plural: "things" };

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

fn pod(cpu: &str) -> Value {
    json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn created(quota: &Value, kind: Counted<'_>, object: &Value) -> Result<Option<Value>, String> {
    let change = Change { kind, new: object, old: None, enforced: true, now: Timestamp::UNIX_EPOCH };
    charge(quota, change).map(|used| used.as_ref().map(amount::write))
}

#[test]
fn each_kind_is_measured() {
    let used = |kind, object| amount::write(&usage(kind, &object, Timestamp::UNIX_EPOCH));
    assert_eq!(used(POD, pod("100m")), json!({"count/pods": "1", "pods": "1", "cpu": "100m", "requests.cpu": "100m"}));
    let mut ended = pod("100m");
    ended["status"] = json!({"phase": "Succeeded"});
    assert_eq!(used(POD, ended), json!({"count/pods": "1"}));
    let service = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}});
    assert_eq!(
        used(SERVICE, service),
        json!({"count/services": "1", "services": "1", "services.loadbalancers": "1", "services.nodeports": "2"})
    );
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        used(CLAIM, claim),
        json!({
            "count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "1Gi",
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            "gold.storageclass.storage.k8s.io/requests.storage": "1Gi",
        })
    );
    assert_eq!(used(SECRET, json!({})), json!({"count/secrets": "1", "secrets": "1"}));
    assert_eq!(used(THING, json!({})), json!({"count/things.example.com": "1"}));
}

#[test]
fn what_is_left_is_given_and_no_more() {
    let limits = quota(json!({"cpu": "1", "pods": "2"}), json!({"cpu": "700m", "pods": "1"}));
    assert_eq!(created(&limits, POD, &pod("300m")), Ok(Some(json!({"cpu": "1", "pods": "2"}))));
    assert_eq!(
        created(&limits, POD, &pod("400m")),
        Err("exceeded quota: q, requested: cpu=400m, used: cpu=700m, limited: cpu=1".to_owned())
    );
    assert_eq!(created(&limits, SECRET, &json!({})), Ok(None), "it says nothing of secrets");
    let unnamed = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
    assert_eq!(created(&limits, POD, &unnamed), Err("failed quota: q: must specify cpu for: a,b".to_owned()));
    let fresh = quota(json!({"pods": "2"}), json!({}));
    assert_eq!(created(&fresh, POD, &pod("1")), Err("status unknown for quota: q, resources: pods".to_owned()));
}

#[test]
fn an_update_is_charged_for_what_it_adds() {
    let limits = quota(json!({"services.nodeports": "1"}), json!({"services.nodeports": "0"}));
    let (old, new) =
        (json!({"spec": {"type": "ClusterIP", "ports": [{}]}}), json!({"spec": {"type": "NodePort", "ports": [{}]}}));
    let change = Change { kind: SERVICE, new: &new, old: Some(&old), enforced: true, now: Timestamp::UNIX_EPOCH };
    assert_eq!(
        charge(&limits, change).unwrap().map(|used| amount::write(&used)),
        Some(json!({"services.nodeports": "1"}))
    );
    let back = Change { new: &old, old: Some(&new), ..change };
    assert!(charge(&limits, back).unwrap().is_none(), "what is freed is counted by the controller");
    assert!(SERVICE.measures("", &new, Some(&old)) && !POD.measures("status", &new, Some(&old)));
}

#[test]
fn scopes_choose_objects() {
    let scoped = |scope: Value| {
        let mut quota = quota(json!({"pods": "5"}), json!({"pods": "0"}));
        quota["spec"]["scopeSelector"] = json!({"matchExpressions": [scope]});
        quota
    };
    let mut urgent = pod("1");
    urgent["spec"]["priorityClassName"] = "high".into();
    urgent["spec"]["activeDeadlineSeconds"] = 5.into();
    urgent["status"] = json!({"qosClass": "Burstable"});
    let across = json!([{"podAffinityTerm": {"namespaceSelector": {}}}]);
    urgent["spec"]["affinity"] =
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": across}});
    for (name, operator, values, inside) in [
        ("PriorityClass", "In", json!(["high"]), true),
        ("PriorityClass", "NotIn", json!(["high"]), false),
        ("PriorityClass", "NotIn", json!(["low"]), true),
        ("PriorityClass", "Exists", json!([]), true),
        ("PriorityClass", "DoesNotExist", json!([]), false),
        ("Terminating", "Exists", json!([]), true),
        ("NotTerminating", "Exists", json!([]), false),
        ("BestEffort", "Exists", json!([]), false),
        ("NotBestEffort", "Exists", json!([]), true),
        ("CrossNamespacePodAffinity", "Exists", json!([]), true),
    ] {
        let quota = scoped(json!({"scopeName": name, "operator": operator, "values": values}));
        assert_eq!(created(&quota, POD, &urgent).unwrap().is_some(), inside, "{name} {operator}");
        assert_eq!(created(&quota, SERVICE, &json!({})), Ok(None));
    }
}

#[test]
fn used_is_counted_anew() {
    let quota = quota(json!({"pods": "5", "cpu": "1", "secrets": "3"}), json!({}));
    let (one, two, secret) = (pod("100m"), pod("200m"), json!({}));
    let objects = [(POD, &one), (POD, &two), (SECRET, &secret)];
    let used = recount(&quota, objects.into_iter(), Timestamp::UNIX_EPOCH);
    assert_eq!(amount::write(&used), json!({"cpu": "300m", "pods": "2", "secrets": "1"}));
}

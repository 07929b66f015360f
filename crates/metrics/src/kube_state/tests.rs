//! Objects as they are written, and what upstream's tests expect of such.

use serde_json::{Value, json};

use super::*;

fn cache<K>(objects: Vec<Value>) -> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    Cache::holding(objects.into_iter().map(|object| serde_json::from_value(object).unwrap()))
}

fn sources() -> Sources {
    Sources {
        pods: Cache::idle(),
        nodes: Cache::idle(),
        leases: Cache::idle(),
        namespaces: Cache::idle(),
        services: Cache::idle(),
        slices: Cache::idle(),
        endpoints: Cache::idle(),
        replica_sets: Cache::idle(),
        deployments: Cache::idle(),
        replication_controllers: Cache::idle(),
        jobs: Cache::idle(),
        cron_jobs: Cache::idle(),
        daemon_sets: Cache::idle(),
        stateful_sets: Cache::idle(),
        budgets: Cache::idle(),
        claims: Cache::idle(),
        volumes: Cache::idle(),
        classes: Cache::idle(),
        autoscalers: Cache::idle(),
        next_run: |_, _, after| Some(after),
    }
}

fn own() -> Own {
    Own {
        config_maps: Cache::idle(),
        secrets: Cache::idle(),
        ingresses: Cache::idle(),
        policies: Cache::idle(),
        limits: Cache::idle(),
        quotas: Cache::idle(),
        certificates: Cache::idle(),
        mutating: Cache::idle(),
        validating: Cache::idle(),
        attachments: Cache::idle(),
    }
}

fn check(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line}\n{text}");
    }
}

const MADE: &str = "1970-01-01T00:25:00Z";

#[test]
fn pods_tell_what_they_want_and_how_they_fare() {
    let pod = json!({
        "metadata": {
            "name": "pod1", "namespace": "ns1", "uid": "uid1", "creationTimestamp": MADE,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": true}],
        },
        "spec": {
            "nodeName": "node1", "restartPolicy": "Always", "hostNetwork": true,
            "containers": [{
                "name": "c1", "image": "spec:1",
                "resources": {
                    "requests": {"cpu": "200m", "memory": "100M", "example.com/dev": "3", "requests.x/y": "1"},
                    "limits": {"cpu": "1", "hugepages-2Mi": "4Mi"},
                },
            }],
            "initContainers": [{"name": "i1", "image": "i:1", "restartPolicy": "Always"}],
            "tolerations": [{"key": "k", "operator": "Exists"}, {"key": "k", "operator": "Exists"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim", "readOnly": true}}],
        },
        "status": {
            "phase": "Running", "qosClass": "Burstable", "hostIP": "1.1.1.1", "podIP": "1.2.3.4", "podIPs": [{"ip": "1.2.3.4"}],
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": MADE},
                {"type": "PodScheduled", "status": "False", "lastTransitionTime": MADE},
            ],
            "containerStatuses": [{
                "name": "c1", "image": "img:1", "imageID": "id", "containerID": "containerd://c", "ready": true,
                "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": MADE}},
            }],
            "initContainerStatuses": [{
                "name": "i1", "image": "i:1", "imageID": "id2", "containerID": "containerd://i", "ready": false, "restartCount": 0,
                "state": {"terminated": {"reason": "Evicted", "exitCode": 0}},
            }],
        },
    });
    let text = write(&Sources { pods: cache(vec![pod]), ..sources() }, &own(), &Settings::default()).text();
    check(
        &text,
        &[
            "kube_pod_info{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",host_ip=\"1.1.1.1\",pod_ip=\"1.2.3.4\",node=\"node1\",created_by_kind=\"ReplicaSet\",created_by_name=\"rs\",priority_class=\"\",host_network=\"true\"} 1",
            "kube_pod_created{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\"} 1500",
            "kube_pod_owner{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",owner_kind=\"ReplicaSet\",owner_name=\"rs\",owner_is_controller=\"true\"} 1",
            "kube_pod_container_resource_requests{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",container=\"c1\",node=\"node1\",resource=\"cpu\",unit=\"core\"} 0.2",
            "kube_pod_container_resource_requests{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",container=\"c1\",node=\"node1\",resource=\"memory\",unit=\"byte\"} 100000000",
            "kube_pod_container_resource_requests{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",container=\"c1\",node=\"node1\",resource=\"example_com_dev\",unit=\"integer\"} 3",
            "kube_pod_container_resource_limits{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",container=\"c1\",node=\"node1\",resource=\"hugepages_2Mi\",unit=\"byte\"} 4194304",
            "kube_pod_container_status_waiting_reason{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",container=\"c1\",reason=\"CrashLoopBackOff\"} 1",
            "kube_pod_container_status_last_terminated_exitcode{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",container=\"c1\"} 137",
            "# TYPE kube_pod_container_status_restarts_total counter",
            "kube_pod_container_status_restarts_total{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",container=\"c1\"} 4",
            "kube_pod_init_container_info{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",container=\"i1\",image_spec=\"i:1\",image=\"i:1\",image_id=\"id2\",container_id=\"containerd://i\",restart_policy=\"Always\"} 1",
            "kube_pod_status_phase{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",phase=\"Running\"} 1",
            "kube_pod_status_phase{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",phase=\"Failed\"} 0",
            "kube_pod_status_ready{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",condition=\"true\"} 1",
            "kube_pod_status_unschedulable{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\"} 1",
            "kube_pod_ips{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",ip=\"1.2.3.4\",ip_family=\"4\"} 1",
            "kube_pod_spec_volumes_persistentvolumeclaims_readonly{namespace=\"ns1\",pod=\"pod1\",uid=\"uid1\",volume=\"v\",persistentvolumeclaim=\"claim\"} 1",
            "kube_state_metrics_total_shards 1",
        ],
    );
    assert_eq!(text.matches("kube_pod_tolerations{").count(), 1);
    assert!(!text.contains("requests_x_y") && !text.contains("kube_pod_labels{"), "{text}");
}

#[test]
fn workloads_tell_replicas_conditions_and_reasons() {
    let deployment = json!({
        "metadata": {"name": "d", "namespace": "n", "generation": 21, "creationTimestamp": MADE},
        "spec": {
            "replicas": 10, "selector": {}, "template": {},
            "strategy": {"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        },
        "status": {"replicas": 10, "availableReplicas": 7, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            {"type": "Available", "status": "False", "reason": "Odd"},
        ]},
    });
    let job = json!({
        "metadata": {"name": "j", "namespace": "n"}, "spec": {"template": {}},
        "status": {"failed": 2, "conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]},
    });
    let cron = json!({
        "metadata": {"name": "c", "namespace": "n", "creationTimestamp": MADE, "resourceVersion": "11"},
        "spec": {"schedule": "@daily", "suspend": false, "jobTemplate": {}},
    });
    let sources = Sources {
        deployments: cache(vec![deployment]),
        jobs: cache(vec![job]),
        cron_jobs: cache(vec![cron]),
        ..sources()
    };
    let text = write(&sources, &own(), &Settings::default()).text();
    check(
        &text,
        &[
            "kube_deployment_spec_strategy_rollingupdate_max_unavailable{namespace=\"n\",deployment=\"d\"} 2",
            "kube_deployment_spec_strategy_rollingupdate_max_surge{namespace=\"n\",deployment=\"d\"} 3",
            "kube_deployment_status_condition{namespace=\"n\",deployment=\"d\",reason=\"NewReplicaSetAvailable\",condition=\"Progressing\",status=\"true\"} 1",
            "kube_deployment_status_condition{namespace=\"n\",deployment=\"d\",reason=\"unknown\",condition=\"Available\",status=\"false\"} 1",
            "kube_deployment_labels{namespace=\"n\",deployment=\"d\"} 1",
            "kube_deployment_owner{namespace=\"n\",deployment=\"d\",owner_kind=\"\",owner_name=\"\"} 1",
            "kube_job_status_failed{namespace=\"n\",job_name=\"j\",reason=\"DeadlineExceeded\"} 1",
            "kube_job_status_failed{namespace=\"n\",job_name=\"j\",reason=\"Evicted\"} 0",
            "kube_job_failed{namespace=\"n\",job_name=\"j\",condition=\"true\"} 1",
            "kube_cronjob_next_schedule_time{namespace=\"n\",cronjob=\"c\"} 1500",
            "kube_cronjob_info{namespace=\"n\",cronjob=\"c\",schedule=\"@daily\",concurrency_policy=\"\",timezone=\"local\"} 1",
            "kube_cronjob_metadata_resource_version{namespace=\"n\",cronjob=\"c\"} 11",
        ],
    );
}

#[test]
fn labels_come_as_asked_for_and_keep_apart_where_their_names_meet() {
    let node = json!({
        "metadata": {"name": "a", "labels": {
            "node-role.kubernetes.io/worker": "", "some.label/x": "1", "some-label/x": "2", "camelCase": "3",
        }},
        "spec": {"taints": [{"key": "t", "effect": "NoSchedule"}]},
        "status": {
            "capacity": {"cpu": "4300m", "memory": "2G", "pods": "1000", "nvidia.com/gpu": "4", "unknown": "1"},
            "conditions": [{"type": "Ready", "status": "Unknown"}],
        },
    });
    let all = Allowed { labels: Some(vec!["*".into()]), annotations: None };
    let settings = Settings { allowed: BTreeMap::from([("nodes".to_owned(), all)]) };
    let text = write(&Sources { nodes: cache(vec![node]), ..sources() }, &own(), &settings).text();
    check(
        &text,
        &[
            "kube_node_role{node=\"a\",role=\"worker\"} 1",
            "kube_node_status_capacity{node=\"a\",resource=\"cpu\",unit=\"core\"} 4.3",
            "kube_node_status_capacity{node=\"a\",resource=\"nvidia_com_gpu\",unit=\"integer\"} 4",
            "kube_node_spec_taint{node=\"a\",key=\"t\",value=\"\",effect=\"NoSchedule\"} 1",
            "kube_node_status_condition{node=\"a\",condition=\"Ready\",status=\"unknown\"} 1",
            "kube_node_labels{node=\"a\",label_camel_case=\"3\",label_node_role_kubernetes_io_worker=\"\",label_some_label_x_conflict1=\"2\",label_some_label_x_conflict2=\"1\"} 1",
        ],
    );
}

#[test]
fn ten_thousand_series_take_milliseconds() {
    let pod = |number: usize| {
        json!({
            "metadata": {"name": format!("pod-{number}"), "namespace": "ns", "uid": number.to_string()},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
            }]},
        })
    };
    let sources = Sources { pods: cache((0..450).map(pod).collect()), ..sources() };
    let began = std::time::Instant::now();
    let text = write(&sources, &own(), &Settings::default()).text();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    eprintln!("{series} series, {} bytes, {:?}", text.len(), began.elapsed());
    assert!(series > 10_000 && began.elapsed() < std::time::Duration::from_secs(5), "{series} {:?}", began.elapsed());
}

#[test]
fn lists_say_which_labels_and_annotations_are_told() {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let some = |names: &[&str]| Some(texts(names));
    let labels = texts(&["pods=[app, team],nodes=[*]", "pods=[tier]"]);
    let settings = Settings::allowing(&labels, &texts(&["*=[owner]"])).unwrap();
    let of = |kind: &str| settings.allowed[kind].clone();
    assert_eq!(of("pods"), Allowed { labels: some(&["app", "team", "tier"]), annotations: some(&["owner"]) });
    assert_eq!(of("nodes"), Allowed { labels: some(&["*"]), annotations: some(&["owner"]) });
    assert_eq!(of("deployments"), Allowed { labels: some(&[]), annotations: some(&["owner"]) });
    assert_eq!(of("jobs").labels, None);
    for wrong in ["pods", "pods=[a", "pods=[a]nodes=[b]", "pods=[a],", "pots=[a]", "=[a]"] {
        assert!(Settings::allowing(&texts(&[wrong]), &[]).is_err(), "{wrong}");
    }
}

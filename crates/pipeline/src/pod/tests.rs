//! Pods of agents, as descriptions say.

use serde_json::json;

use super::*;

fn make(asked: Json, agents: &[AgentPod], template: Option<&Json>) -> Result<Made, String> {
    made(&Wanted {
        run: "shop-abcde",
        uid: "1-2",
        pipeline: "shop",
        key: "0",
        owner: OwnerReference { name: "shop-abcde".into(), ..OwnerReference::default() },
        account: "builder",
        image: "step:1",
        agents,
        template,
        asked: &asked,
    })
}

fn containers(made: &Made) -> Vec<(&str, &str, bool)> {
    let spec = made.pod.spec.as_ref().unwrap();
    let waits = |one: &Container| one.command.as_ref().is_some_and(|words| words.contains(&"wait".to_owned()));
    spec.containers.iter().map(|one| (&*one.name, one.image.as_deref().unwrap_or_default(), waits(one))).collect()
}

#[test]
fn an_agent_is_one_container_that_waits() {
    let made = make(json!({"kind": "any"}), &[], None).unwrap();
    assert_eq!(containers(&made), [("main", IMAGE, true)]);
    let spec = made.pod.spec.as_ref().unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("builder"));
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    assert_eq!(spec.init_containers.as_ref().unwrap()[0].image.as_deref(), Some("step:1"));
    assert_eq!(spec.containers[0].working_dir.as_deref(), Some(WORKSPACE));
    let again = make(json!({"kind": "any"}), &[], None).unwrap();
    assert_eq!(made.pod.metadata.name, again.pod.metadata.name);
    assert!(made.pod.metadata.name.unwrap().starts_with("shop-abcde-"));
}

#[test]
fn labels_choose_among_a_pipelines_agents() {
    let agents = [
        AgentPod { labels: "linux small".into(), image: Some("a:1".into()), ..AgentPod::default() },
        AgentPod { labels: "linux docker".into(), image: Some("b:1".into()), ..AgentPod::default() },
    ];
    for (label, image) in [
        ("linux", "a:1"),
        ("docker", "b:1"),
        ("linux && docker", "b:1"),
        ("linux && !small", "b:1"),
        ("mac || docker", "b:1"),
    ] {
        let made = make(json!({"kind": "label", "label": label}), &agents, None).unwrap();
        assert_eq!(containers(&made)[0].1, image, "{label}");
    }
    assert!(make(json!({"kind": "label", "label": "windows"}), &agents, None).unwrap_err().contains("windows"));
    assert_eq!(containers(&make(json!({"kind": "node"}), &agents, None).unwrap())[0].1, "a:1");
}

#[test]
fn a_docker_agent_has_what_its_arguments_say() {
    let made =
        make(json!({"kind": "docker", "image": "node:22", "args": "-u 1000:1001 -e A=b -v /x:/y --rm"}), &[], None);
    let made = made.unwrap();
    let spec = made.pod.spec.as_ref().unwrap();
    assert_eq!(spec.security_context.as_ref().unwrap().run_as_group, Some(1001));
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].value.as_deref(), Some("b"));
    let made = make(json!({"kind": "docker", "image": "x:1", "registryUrl": "https://r.example/"}), &[], None).unwrap();
    assert_eq!(containers(&made)[0].1, "r.example/x:1");
    for args in ["--privileged", "--pid host", "-u", "-u me"] {
        assert!(make(json!({"kind": "docker", "image": "x", "args": args}), &[], None).is_err(), "{args}");
    }
}

#[test]
fn a_pod_of_ones_own_keeps_its_containers() {
    let yaml = "apiVersion: v1\nkind: Pod\nspec:\n  serviceAccountName: root\n  containers:\n  - name: go\n    image: go:1\n    command: [sleep]\n    args: [infinity]\n  - name: tools\n    image: tools:1\n";
    let made = make(json!({"kind": "kubernetes", "yaml": yaml, "defaultContainer": "tools"}), &[], None).unwrap();
    assert_eq!(made.container, "tools");
    assert_eq!(containers(&made), [("go", "go:1", false), ("tools", "tools:1", true)]);
    assert_eq!(made.pod.spec.as_ref().unwrap().service_account_name.as_deref(), Some("builder"));
    assert_eq!(make(json!({"kind": "kubernetes", "yaml": yaml}), &[], None).unwrap().container, "go");
    assert!(make(json!({"kind": "kubernetes", "yaml": yaml, "defaultContainer": "x"}), &[], None).is_err());
    assert!(make(json!({"kind": "kubernetes", "yaml": "spec: {containers: 3}"}), &[], None).is_err());
}

#[test]
fn templates_of_a_script_are_pods_too() {
    let template = json!({"containers": [{"name": "maven", "image": "maven:3", "command": "sleep", "args": "99d", "envVars": [{"key": "A", "value": "b"}]}]});
    let made = make(json!({"kind": "node", "label": "x"}), &[], Some(&template)).unwrap();
    assert_eq!(containers(&made), [("maven", "maven:3", false)]);
    assert_eq!(made.container, "maven");
}

//! Who goes for whom.

use serde_json::{Value, json};

use super::*;

fn pod(name: &str, priority: i32, cpu: &str, started: u8) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": name}},
            "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
            "status": {"phase": "Running", "startTime": format!("2026-01-01T00:{started:02}:00Z")}}))
        .unwrap(),
    )
}

fn state(nodes: &[(&str, &[Arc<Pod>])]) -> State {
    let mut state = State::default();
    for (name, pods) in nodes {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "2", "pods": "10"}}});
        state.put_node(name, Arc::new(serde_json::from_value(node).unwrap()));
        for pod in *pods {
            state.place(&Key::of(&**pod), pod.clone(), name);
        }
    }
    state
}

fn budget(app: &str, allowed: i32) -> Arc<PodDisruptionBudget> {
    let whole: Value = json!({"metadata": {"name": app, "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": allowed}});
    Arc::new(serde_json::from_value(whole).unwrap())
}

fn chosen(state: &State, pod: &Pod, budgets: &[Arc<PodDisruptionBudget>]) -> Option<(String, Vec<String>)> {
    let found = choose(state, pod, budgets, |_| true)?;
    let names = found.victims.iter().map(|(key, _)| key.name.to_string()).collect();
    Some((found.node, names))
}

#[test]
fn as_few_and_as_unimportant_pods_go_as_make_room() {
    let wants = |node: &str, pods: &[&str]| Some((node.to_owned(), pods.iter().map(ToString::to_string).collect()));
    let important = pod("new", 100, "1", 0);
    let small = [pod("a", 1, "1", 0), pod("b", 2, "1", 0)];
    assert_eq!(chosen(&state(&[("x", &small)]), &important, &[]), wants("x", &["a"]));
    // Nothing less important is there, or it would not help.
    assert_eq!(chosen(&state(&[("x", &[pod("a", 100, "2", 0)])]), &important, &[]), None);
    assert_eq!(chosen(&state(&[("x", &[pod("a", 1, "2", 0)])]), &pod("new", 100, "3", 0), &[]), None);
    // The node whose most important victim matters least.
    let two = state(&[("x", &[pod("a", 50, "2", 0)]), ("y", &[pod("b", 10, "1", 0), pod("c", 20, "1", 0)])]);
    assert_eq!(chosen(&two, &pod("new", 100, "2", 0), &[]), wants("y", &["c", "b"]));
    // The one that has run for the shorter time.
    let alike = state(&[("x", &[pod("a", 1, "2", 1)]), ("y", &[pod("b", 1, "2", 9)])]);
    assert_eq!(chosen(&alike, &important, &[]), wants("y", &["b"]));
}

#[test]
fn budgets_are_broken_only_where_nothing_else_helps() {
    let two = state(&[("x", &[pod("a", 1, "2", 0)]), ("y", &[pod("b", 50, "2", 0)])]);
    let found = chosen(&two, &pod("new", 100, "1", 0), &[budget("a", 0)]).unwrap();
    assert_eq!(found.0, "y");
    let found = chosen(&two, &pod("new", 100, "1", 0), &[budget("a", 1)]).unwrap();
    assert_eq!(found.0, "x");
    let one = state(&[("x", &[pod("a", 1, "2", 0)])]);
    assert_eq!(chosen(&one, &pod("new", 100, "1", 0), &[budget("a", 0)]).unwrap().0, "x");
}

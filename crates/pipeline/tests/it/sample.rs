//! The sample application's own pipeline, `examples/shop/Jenkinsfile`, in a world that notes what is deployed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use pipeline::{
    result::Result,
    run::{
        self, Ended, Start,
        world::{Answer, Ask, Event, World},
    },
};
use serde_json::{Value as Json, json};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the project's root").join("examples/shop")
}

/// A cluster: whether the shop is there, and whether releases go well.
struct Shop {
    is_there: bool,
    well: bool,
    /// What was done, in order; only that of deploying has a certain one.
    done: Mutex<Vec<String>>,
}

impl World for Shop {
    fn ask(&self, ask: &Ask) -> Answer {
        let text = |name: &str| ask.arguments[name].as_str().unwrap_or_default().to_owned();
        let note = |line: String| self.done.lock().unwrap().push(line);
        Answer::Done(match ask.name.as_str() {
            "agent" => json!({ "id": ask.key, "workspace": "/workspace" }),
            "timer" => json!({ "id": ask.key }),
            "checkout" => json!({ "GIT_COMMIT": COMMIT }),
            "sh" if ask.arguments["returnStatus"] == true => json!(if self.is_there { 0 } else { 2 }),
            "readFile" => json!(fs::read_to_string(sample().join(text("file"))).unwrap()),
            "sh" => {
                text("script")
                    .lines()
                    .map(str::trim)
                    .filter(|line| line.starts_with("docker "))
                    .for_each(|line| note(line.into()));
                Json::Null
            }
            "release" if !self.well => {
                note(format!("release {}", text("name")));
                let message = "rolled back: errors failed 3 times".into();
                return Answer::Failed { class: "AbortException".into(), message };
            }
            "release" => {
                note(format!("release {}", text("name")));
                Json::Null
            }
            "apply" => {
                assert!(ask.arguments["force"] == true);
                let yaml = text("yaml");
                for left in ["shop.example", "COMMIT"] {
                    assert!(!yaml.contains(left), "{left} is left in {yaml}");
                }
                let lines = |start: &str| -> Vec<String> {
                    yaml.lines().filter_map(|line| line.strip_prefix(start)).map(str::to_owned).collect()
                };
                let objects: Vec<String> =
                    lines("kind: ").into_iter().zip(lines("  name: ")).map(|(kind, name)| kind + "/" + &name).collect();
                let none = if yaml.contains("replicas: 0") { " without pods" } else { "" };
                note(format!("apply {}{none}", objects.join(" ")));
                Json::Null
            }
            "rollout" => {
                note(format!("wait {}", text("resource")));
                Json::Null
            }
            "junit" => json!({ "totalCount": 5, "failCount": 0 }),
            _ => Json::Null,
        })
    }

    fn tell(&self, _: Event) {}

    fn interrupt(&self, _: &str, _: &str) {}
}

fn run(is_there: bool, well: bool) -> (Ended, Vec<String>, Vec<String>) {
    let shop = Arc::new(Shop { is_there, well, done: Mutex::default() });
    let start = Start {
        name: "Jenkinsfile".into(),
        script: fs::read_to_string(sample().join("Jenkinsfile")).unwrap(),
        environment: vec![("BUILD_NUMBER".into(), "1".into()), ("BRANCH_NAME".into(), "main".into())],
        scm: json!({ "repository": "shop" }),
        ..Start::default()
    };
    let ended = run::run(start, shop.clone());
    let done = shop.done.lock().unwrap().clone();
    let (images, deployed) = done.into_iter().partition(|line| line.starts_with("docker "));
    (ended, images, deployed)
}

#[test]
fn the_first_run_deploys_all_of_it() {
    let (ended, mut images, deployed) = run(false, true);
    assert_eq!(ended.result, Result::Success, "{:?}", ended.error);
    images.sort();
    assert_eq!(images.len(), 12, "{images:#?}");
    let orders = "registry.madang.internal/shop/orders:0123456789ab";
    assert!(images.contains(&format!("docker push --quiet {orders}")), "{images:#?}");
    let build = images.iter().find(|line| line.ends_with(&format!(" --tag {orders} orders"))).unwrap();
    assert!(build.starts_with("docker build ") && build.contains("VERSION=0123456789ab"), "{build}");
    assert_eq!(
        deployed,
        [
            "apply ConfigMap/shop ConfigMap/catalogue Secret/inventory-token",
            "apply Deployment/inventory Service/inventory",
            "apply Deployment/orders Service/orders",
            "wait deployment/inventory",
            "wait deployment/orders",
            "apply Deployment/storefront Service/storefront",
            "wait deployment/storefront",
            "apply Gateway/shop HTTPRoute/shop",
            "apply HorizontalPodAutoscaler/orders",
            "apply PrometheusRule/shop",
            "apply ConfigMap/shop-dashboard",
            "apply ConfigMap/load Deployment/load",
            "wait deployment/load",
        ]
    );
}

/// What comes in each later run before the release is judged.
const BEFORE: [&str; 9] = [
    "apply ConfigMap/shop ConfigMap/catalogue Secret/inventory-token",
    "apply Deployment/inventory Service/inventory",
    "apply Deployment/orders Service/orders",
    "wait deployment/inventory",
    "wait deployment/orders",
    "apply Deployment/storefront-canary Service/storefront-canary",
    "wait deployment/storefront-canary",
    "apply Release/storefront-0123456789ab",
    "release storefront-0123456789ab",
];

#[test]
fn later_runs_give_a_tenth_the_new_storefront_first() {
    let (ended, _, deployed) = run(true, true);
    assert_eq!(ended.result, Result::Success, "{:?}", ended.error);
    let after = [
        "apply Deployment/storefront Service/storefront",
        "wait deployment/storefront",
        "apply Gateway/shop HTTPRoute/shop",
        "apply Deployment/storefront-canary Service/storefront-canary without pods",
    ];
    assert_eq!(deployed, [&BEFORE[..], &after].concat());
}

#[test]
fn a_release_that_is_taken_back_fails_the_run_and_says_why() {
    let (ended, _, deployed) = run(true, false);
    assert_eq!(ended.result, Result::Failure);
    assert!(format!("{:?}", ended.error).contains("errors failed 3 times"), "{:?}", ended.error);
    let after = ["apply Deployment/storefront-canary Service/storefront-canary without pods"];
    assert_eq!(deployed, [&BEFORE[..], &after].concat());
}

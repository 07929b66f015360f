//! The web interface: its sign-in, what it passes on, and in a browser every page (see `docs/console.md`).

use std::{path::Path, process::Command};

use e2e::{Cluster, Kubectl};

use crate::{
    filled,
    shared::{self, IMAGE, cluster, fresh},
};

/// Debian's browser.
const BROWSER: &str = "/usr/bin/chromium";

/// A link that signs in.
fn link(cluster: &Cluster) -> String {
    let output = cluster.madang("console").output().expect("run madang console");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Whether there is no browser, or no `git` to push with.
fn lacks_browser() -> bool {
    let git = Command::new("git").arg("version").output().is_err().then_some("no git");
    let missing = (!Path::new(BROWSER).exists()).then_some("no /usr/bin/chromium: install chromium");
    shared::lacks(missing.or(git))
}

/// A script of the pages' own, where the server is.
fn node(cluster: &Cluster) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the project's root");
    let mut node = cluster.place.command("node");
    node.current_dir(root.join("ui"));
    node
}

/// What the console answers: status and body.
fn ask(cluster: &Cluster, arguments: &[&str]) -> (String, String) {
    let mut curl = cluster.place.command("curl");
    curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}"]).args(arguments);
    let output = curl.output().expect("run curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').expect("a status");
    (code.to_owned(), body.to_owned())
}

#[test]
fn the_console_signs_in_once_by_link_and_passes_on_what_the_person_may_do() {
    let Some(cluster) = cluster() else { return };
    let link = link(cluster);
    let (base, code) = link.split_once("/sign-in#").expect("a link with a code");
    let url = |path: &str| format!("{base}{path}");
    let jar = tempfile::NamedTempFile::new().expect("make a file");
    let jar = jar.path().to_str().expect("a plain path");
    let origin = format!("Origin: {base}");
    let posted = format!("{{\"code\": \"{code}\"}}");
    assert!(ask(cluster, &[&url("/session")]).1.contains("null"));
    assert_eq!(ask(cluster, &[&url("/k8s/api/v1/pods")]).0, "401");
    let sign_in = ["--cookie-jar", jar, "--header", &origin, "--data", &posted, &url("/session")];
    let (status, body) = ask(cluster, &sign_in);
    assert!(status == "200" && body.contains("madang-system:console-login"), "{status} {body}");
    assert_eq!(ask(cluster, &sign_in[2..]).0, "403", "the link works once");
    let get = |path: &str| ask(cluster, &["--cookie", jar, &url(path)]);
    assert!(get("/k8s/api/v1/namespaces/default").1.contains("\"Namespace\""));
    assert!(get("/prometheus/api/v1/query?query=vector(1)").1.contains("success"));
    assert!(get("/alertmanager/api/v2/status").1.contains("original"));
    assert!(get("/api/search").1.contains("madang-cluster"), "built-in dashboards are found");
    assert_eq!(get("/k8s/api/v1/namespaces/default/services/kubernetes/proxy/").0, "403", "pages of others");
    // What changes something needs the console's own origin, and any request its host.
    let change = ["--cookie", jar, "--request", "DELETE", &url("/k8s/api/v1/namespaces/default/pods/none")];
    assert_eq!(ask(cluster, &change).0, "403");
    assert_eq!(ask(cluster, &[&change[..], &["--header", "Origin: http://127.0.0.1:1"]].concat()).0, "403");
    assert_eq!(ask(cluster, &[&change[..], &["--header", &origin]].concat()).0, "404", "as the person");
    assert_eq!(ask(cluster, &["--cookie", jar, "--header", "Host: evil.example", &url("/session")]).0, "403");
    let (_, page) = get("/workloads/pods");
    assert!(page.contains("<title>Madang</title>"), "{page}");
}

/// Two versions behind routes of the gateway, and a release of each route that waits for somebody at its first step.
fn released() -> String {
    let mut all = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: madang
  listeners: [{name: http, port: 80, protocol: HTTP}]
"#
    .to_owned();
    for version in ["shop", "shop-v2"] {
        all += &format!(
            r#"
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {version}}}
spec:
  selector: {{matchLabels: {{app: {version}}}}}
  template:
    metadata: {{labels: {{app: {version}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {IMAGE}
        command: [sh, -c, 'mkdir /www; echo {version} > /www/index.html; exec httpd -f -p 8080 -h /www']
---
apiVersion: v1
kind: Service
metadata: {{name: {version}}}
spec: {{selector: {{app: {version}}}, ports: [{{port: 80, targetPort: 8080}}]}}
"#
        );
    }
    for (route, path) in [("shop", "/"), ("back", "/back")] {
        all += &format!(
            r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {route}}}
spec:
  parentRefs: [{{name: web}}]
  rules:
  - matches: [{{path: {{value: {path}}}}}]
    backendRefs: [{{name: shop, port: 80}}]
---
apiVersion: madang.dev/v1alpha1
kind: Release
metadata: {{name: {route}-v2}}
spec:
  route: {{name: {route}}}
  stable: {{name: shop, port: 80}}
  canary: {{name: shop-v2, port: 80}}
  steps: [{{weight: 20, approve: true}}]
  metrics:
  - name: answers
    interval: 1s
    unknowns: 1000
    failure: 'sum(rate(gateway_requests_total{{namespace="$(namespace)",service="$(canary)",code=~"5.."}}[1m])) > 0'
    success: 'sum(rate(gateway_requests_total{{namespace="$(namespace)",service="$(canary)"}}[1m])) > 0'
"#
        );
    }
    all
}

/// What `ui/e2e/pipelines.mjs` expects of the pipeline `shop`.
const JENKINSFILE: &str = r#"
pipeline {
    agent any
    parameters {
        string(name: 'WHO', defaultValue: 'everybody', description: 'Whom the page greets')
        choice(name: 'TARGET', choices: ['test', 'live'], description: 'Where it goes')
        booleanParam(name: 'ASK', defaultValue: false, description: 'Ask before it is deployed')
    }
    stages {
        stage('Build') {
            steps {
                sh 'mkdir -p out; echo "hello $WHO" | tee out/greeting.txt; i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo "compiled $i"; sleep 0.1; done'
                archiveArtifacts 'out/*'
            }
        }
        stage('Check') {
            parallel {
                stage('Unit') { steps { junit 'report.xml' } }
                stage('Lint') { steps { sh 'for i in 1 2 3 4 5; do echo "lint $i"; sleep 0.2; done' } }
            }
        }
        stage('Deploy') {
            when { beforeInput true; expression { params.ASK } }
            input { message 'Deploy it?'; ok 'Deploy'; parameters { string(name: 'NOTE', defaultValue: '', description: 'Why now') } }
            steps { sh 'echo "deployed to $TARGET: $NOTE"' }
        }
    }
}
"#;

/// A report of three tests, of which one fails and one was skipped.
const REPORT: &str = r#"<testsuite name="shop" tests="3" failures="1" skipped="1" time="0.5">
<testcase classname="shop.Sum" name="adds" time="0.1"/>
<testcase classname="shop.Sum" name="rounds" time="0.3"><failure message="expected 2 but was 3">shop.py:7: in rounds</failure></testcase>
<testcase classname="shop.Sum" name="divides" time="0.1"><skipped message="not yet"/></testcase>
</testsuite>
"#;

/// The pipeline `shop` of the repository `shop`, and a push that starts its first run.
fn pushed(cluster: &Cluster, kubectl: &Kubectl<'_>, base: &str) {
    kubectl.apply(
        &serde_json::json!({
            "apiVersion": "madang.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "shop"},
            "spec": {"repository": {"name": "shop"}, "agents": [{"labels": "linux", "image": IMAGE}]},
        })
        .to_string(),
    );
    let folder = tempfile::tempdir().expect("make a directory");
    std::fs::write(folder.path().join("Jenkinsfile"), JENKINSFILE).expect("write the Jenkinsfile");
    std::fs::write(folder.path().join("report.xml"), REPORT).expect("write the report");
    let git = |arguments: &[&str]| {
        let mut git = cluster.place.command("git");
        git.current_dir(folder.path()).env("HOME", folder.path()).env("GIT_TERMINAL_PROMPT", "0");
        git.args(["-c", "user.name=Kim", "-c", "user.email=kim@example.org", "-c", "init.defaultBranch=main"]);
        let output = git.args(arguments).output().expect("run git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=The shop"]);
    let token = cluster.madang("token").output().expect("run madang token");
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    git(&[
        "push",
        "--quiet",
        &format!("{}/git/walk/shop.git", base.replace("http://", &format!("http://kim:{token}@"))),
        "main",
    ]);
}

#[test]
#[ignore = "needs Chromium, and walks through every page for minutes"]
fn every_page_does_in_a_browser_what_its_row_says() {
    if lacks_browser() {
        return;
    }
    let Some(cluster) = cluster() else { return };
    let kubectl = cluster.kubectl("walk");
    kubectl.run(&["create", "namespace", "walk"]).good();
    kubectl.until(&["get", "serviceaccount", "default", "--ignore-not-found", "--output=name"], |out| !out.is_empty());
    kubectl.apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {IMAGE}
        command: [sh, -c, 'i=0; while true; do i=$((i+1)); echo "line $i"; sleep 0.5; done']
        resources: {{requests: {{cpu: 20m, memory: 64Mi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: broken}}
spec:
  containers:
  - {{name: main, image: {IMAGE}, command: [sh, -c, 'echo no; exit 3']}}
"#
    ));
    kubectl.apply(&released());
    let link = link(cluster);
    pushed(cluster, &kubectl, link.split_once("/sign-in#").expect("a link with a code").0);
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=120s"]).good();
    kubectl.until(&["get", "pod", "broken", "--output=jsonpath={.status.containerStatuses[0].restartCount}"], |out| {
        out.parse::<u32>().is_ok_and(|restarts| restarts > 1)
    });
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    let mut node = node(cluster);
    node.arg("e2e/pages.mjs").arg(&link).arg(&pictures);
    let ports = std::fs::read_to_string(cluster.run_dir().join("ports.json")).expect("read ports.json");
    let ports: serde_json::Value = serde_json::from_str(&ports).expect("ports.json");
    node.env("MADANG_GATEWAY", format!("http://127.0.0.1:{}", ports["gateway-http"]));
    let output = node.output().expect("run node");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs Chromium, and looks at 652 panels for minutes"]
fn public_dashboards_draw_what_their_queries_answer() {
    if lacks_browser() {
        return;
    }
    let Some(suites) = std::env::var_os("MADANG_SUITES") else {
        assert!(std::env::var_os("CI").is_none(), "MADANG_SUITES names no directory");
        return eprintln!("not run: MADANG_SUITES names no directory");
    };
    let suites = Path::new(&suites);
    let Some(cluster) = fresh(64, &[]) else { return };
    filled::fill(&cluster, suites);
    let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards.md");
    let mut node = node(&cluster);
    let output = node.arg("e2e/dashboards.mjs").arg(link(&cluster)).arg(suites.join("dashboards")).arg(&table).output();
    let output = output.expect("run node");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}\n{}", table.display());
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

//! Pipelines: runs of one step, many of them, and the way from a push to its answer.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{Bench, field};
use crate::{
    bench::{
        median,
        report::{Figure, Target},
    },
    demo::cluster::until,
    host, images,
};

/// Pushes that are timed.
const PUSHES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(180);

const IMAGE: &str = "walk.example/busybox:1";
/// A pipeline of one step, in an image that is there.
const ONE_STEP: &str = "
apiVersion: madang.dev/v1alpha1
kind: Pipeline
metadata: {name: one, namespace: default}
spec:
  script: |
    pipeline {
      agent { docker { image 'IMAGE' } }
      stages { stage('one') { steps { sh 'true' } } }
    }
";

/// Runs of one step: the median of those in turn, and how many in a minute.
pub fn runs(bench: &mut Bench<'_>) -> Result<()> {
    let cluster = bench.cluster()?;
    let busybox = images::busybox()?;
    cluster.server.load(std::slice::from_ref(&busybox.path))?;
    // What is called `latest` is looked for again each time, and this network leads nowhere.
    let mut tag = cluster.server.madang();
    host::run(tag.args(["tag", &busybox.name, IMAGE, "--run-dir"]).arg(cluster.server.run_dir()))?;
    cluster.apply(&ONE_STEP.replace("IMAGE", IMAGE))?;
    let kubeconfig = cluster.server.kubeconfig();
    let kubeconfig = kubeconfig.to_str().context("a path that is no text")?;
    let (turns, many) = if bench.arguments.quick { ("5", "50") } else { ("20", "300") };
    let alone = bench.load.run(&cluster.server, "runs", &[kubeconfig, "one", "--count", turns])?;
    bench.figures.push(Figure {
        name: "one-step pipeline, image present, median",
        value: field(&alone, "/ms/p50")?,
        unit: "ms",
        target: Target::AtMost(500.0),
        beside: vec![("p99".to_owned(), field(&alone, "/ms/p99")?)],
        detail: alone,
    });
    let together = bench.load.run(&cluster.server, "runs", &[kubeconfig, "one", "--count", many, "--at-once", "20"])?;
    bench.figures.push(Figure {
        name: "one-step runs a minute, 20 at a time",
        value: field(&together, "/a_minute")?,
        unit: "/min",
        target: Target::AtLeast(600.0),
        beside: Vec::new(),
        detail: together,
    });
    Ok(())
}

/// A page that changes, the image that serves it, and how it gets there.
const DOCKERFILE: &str = "FROM registry.madang.internal/page/busybox:latest\nCOPY index.html /www/index.html\n\
    CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";
const JENKINSFILE: &str = r#"
pipeline {
    agent { docker { image 'registry.madang.internal/page/docker:cli' } }
    environment { DOCKER_BUILDKIT = '0' }
    stages {
        stage('page') {
            steps {
                sh 'docker build --tag "registry.madang.internal/page/page:$GIT_COMMIT" . && docker push --quiet "registry.madang.internal/page/page:$GIT_COMMIT"'
                script {
                    apply yaml: readFile('page.yaml').replace('IMAGE', "registry.madang.internal/page/page:${env.GIT_COMMIT}"), force: true
                }
                rollout resource: 'deployment/page', namespace: 'page', timeout: 120
            }
        }
    }
}
"#;
const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: page, namespace: page}
spec:
  replicas: 1
  selector: {matchLabels: {app: page}}
  template:
    metadata: {labels: {app: page}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: page
        image: IMAGE
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: page, namespace: page}
spec: {selector: {app: page}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: page, namespace: page}
spec: {gatewayClassName: madang, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: page, namespace: page}
spec: {parentRefs: [{name: page}], rules: [{backendRefs: [{name: page, port: 80}]}]}
";
/// From a push of a changed line until the gateway answers with it; the first push, which nothing is warm for, is not counted.
pub fn push(bench: &mut Bench<'_>) -> Result<()> {
    let cluster = bench.cluster()?;
    cluster.found("page")?;
    cluster.give(&images::busybox()?, "page/busybox:latest")?;
    cluster.give(&cluster.docker, "page/docker:cli")?;
    let folder = &cluster.repository;
    for (name, text) in [("Dockerfile", DOCKERFILE), ("Jenkinsfile", JENKINSFILE), ("page.yaml", MANIFEST)] {
        fs::write(folder.join(name), text)?;
    }
    cluster.begin("page")?;
    let mut took = Vec::new();
    for number in 0..=PUSHES {
        let page = format!("version {number}");
        fs::write(folder.join("index.html"), format!("{page}\n"))?;
        cluster.git(&["add", "--all"])?;
        cluster.git(&["commit", "--quiet", "--message", &page])?;
        let began = Instant::now();
        cluster.git(&["push", "--quiet", "origin", "HEAD:main"])?;
        until(&format!("the gateway answers {page}"), PATIENCE, || {
            let (code, body) = cluster.curl(&["http://127.0.0.1:8080/"])?;
            Ok((code == 200 && body.trim() == page).then_some(()))
        })?;
        if number > 0 {
            took.push(began.elapsed().as_secs_f64());
        }
    }
    bench.figures.push(Figure {
        name: "git push of a changed line to the new version serving",
        value: median(took.clone()),
        unit: "s",
        target: Target::AtMost(15.0),
        beside: Vec::new(),
        detail: json!({ "seconds": took }),
    });
    Ok(())
}

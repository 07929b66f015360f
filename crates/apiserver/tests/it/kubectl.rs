//! What users do with `kubectl`, against the server over plain HTTP on loopback. Skipped without a kubectl.

use std::{path::PathBuf, process::Stdio};

use tokio::{net::TcpListener, process::Command};

use crate::*;

/// `MADANG_KUBECTL`, or the one in the path.
fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MADANG_KUBECTL") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.is_file())
}

struct Kubectl {
    program: PathBuf,
    address: String,
    home: tempfile::TempDir,
}

impl Kubectl {
    async fn start(cluster: &Cluster) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: no kubectl");
            return None;
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = cluster.server.clone();
        let handler = move |mut request: Request<Body>| {
            request.extensions_mut().insert(admin());
            server.handle(request)
        };
        let task = cluster.task.clone();
        let limits = serve::http::Limits::default();
        cluster.task.spawn("listener", serve::http::serve(task, listener, None, limits, handler));
        Some(Self { program, address, home: tempfile::tempdir().unwrap() })
    }

    /// Runs it; what it prints, and whether it succeeded.
    async fn run(&self, line: &str, input: &str) -> (bool, String) {
        let mut child = Command::new(&self.program)
            .args(["-s", &self.address])
            .args(line.split(' '))
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("none"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    #[track_caller]
    fn has((ok, text): (bool, String), line: &str, wanted: &str) {
        assert!(ok && text.contains(wanted), "kubectl {line}: {text:?} lacks {wanted:?}");
    }
}

const MANIFEST: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn everyday_commands_work() {
    let cluster = Cluster::start().await;
    let Some(kubectl) = Kubectl::start(&cluster).await else { return };
    let cases = [
        ("version", "", "Server Version: v1.37.1"),
        ("create namespace shop", "", "namespace/shop created"),
        ("apply -f -", MANIFEST, "deployment.apps/web created"),
        ("apply -f -", MANIFEST, "deployment.apps/web unchanged"),
        ("get deploy,svc", "", "deployment.apps/web"),
        ("get deploy web -o wide", "", "nginx"),
        ("get deploy web -o jsonpath={.spec.replicas}", "", "2"),
        ("get deploy -o name", "", "deployment.apps/web"),
        ("get all", "", "service/web"),
        ("describe deploy web", "", "StrategyType"),
        ("scale deploy web --replicas=3", "", "scaled"),
        ("get deploy web -o yaml", "", "replicas: 3"),
        ("set image deploy/web web=nginx:2", "", "image updated"),
        ("label deploy web tier=front", "", "labeled"),
        ("get deploy -l tier=front", "", "web"),
        ("annotate deploy web note=x", "", "annotated"),
        (r#"patch deploy web -p {"spec":{"replicas":1}}"#, "", "patched"),
        ("diff -f -", "", ""),
        ("create configmap settings --from-literal=a=b", "", "configmap/settings created"),
        ("create secret generic key --from-literal=p=q", "", "secret/key created"),
        ("run once --image=busybox --restart=Never", "", "pod/once created"),
        ("get pods", "", "once"),
        ("wait --for=jsonpath={.status.phase}=Pending pod/once --timeout=5s", "", "condition met"),
        ("create token default", "", "eyJ"),
        ("auth can-i create pods", "", "yes"),
        ("auth can-i --list", "", "*.*"),
        ("auth whoami", "", "admin"),
        ("api-resources", "", "deployments"),
        ("api-versions", "", "apps/v1"),
        ("explain deploy.spec.replicas", "", "replicas"),
        ("get events", "", ""),
        ("expose deploy web --name=again --port=80", "", "service/again exposed"),
        ("delete -f -", MANIFEST, "deleted"),
        ("delete pod once --now", "", "deleted"),
        ("get --raw /readyz", "", "ok"),
        ("cluster-info", "", "is running"),
    ];
    for (line, input, wanted) in cases {
        if line == "diff -f -" {
            // It exits with 1 where there is a difference.
            let (_, text) = kubectl.run(line, MANIFEST).await;
            assert!(text.contains("replicas"), "{text}");
            continue;
        }
        Kubectl::has(kubectl.run(line, input).await, line, wanted);
    }
    let (ok, text) = kubectl.run("get pods none", "").await;
    assert!(!ok && text.contains("Error from server (NotFound): pods \"none\" not found"), "{text}");
}

//! The server of the demo, and how one asks it: kubectl, curl, Prometheus.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    go, host,
    images::{self, Archive},
    server::Server,
};

/// A team: its namespace, what its pipeline may do, and the pipeline of its repository of the same name.
const TEAM: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: TEAM, labels: {app.kubernetes.io/part-of: TEAM}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: pipeline, namespace: TEAM}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: pipeline, namespace: TEAM}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: pipeline, namespace: TEAM}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: images, namespace: TEAM}
rules: [{apiGroups: [registry.madang.dev], resources: [repositories], verbs: [get, update]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: images, namespace: TEAM}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: images}
subjects: [{kind: ServiceAccount, name: pipeline, namespace: TEAM}]
---
apiVersion: madang.dev/v1alpha1
kind: Pipeline
metadata: {name: TEAM, namespace: TEAM}
spec: {repository: {name: TEAM}, serviceAccountName: pipeline}
";

/// How long a server may take for what comes after its start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked what is waited for.
const LOOK: Duration = Duration::from_millis(250);

/// A server, the repository that is pushed to it, and a password.
pub struct Cluster {
    /// The server.
    pub server: Server,
    /// The sample application's.
    pub repository: PathBuf,
    /// For git and the registry, once the server runs.
    pub token: String,
    /// The image that all others are built on.
    pub base: Archive,
    /// The image that has docker's client.
    pub docker: Archive,
    kubectl: PathBuf,
}

impl Cluster {
    /// Around a server that does not run yet; makes what is missing of tools and images.
    pub fn new(server: Server) -> Result<Self> {
        let repository = server.scratch("shop")?;
        let (base, docker) = (images::debian()?, images::docker(&go::docker()?)?);
        Ok(Self { server, repository, token: String::new(), base, docker, kubectl: go::kubectl()? })
    }

    /// What kubectl prints.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = self.server.inside(&self.kubectl);
        kubectl.env("KUBECONFIG", self.server.kubeconfig()).env_remove("HTTPS_PROXY");
        host::output(kubectl.args(["--namespace", "shop"]).args(arguments).stdin(Stdio::null()))
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let mut kubectl = self.server.inside(&self.kubectl);
        kubectl.env("KUBECONFIG", self.server.kubeconfig()).env_remove("HTTPS_PROXY").args([
            "apply",
            "--filename",
            "-",
        ]);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("start kubectl")?;
        child.stdin.take().context("kubectl's input")?.write_all(manifest.as_bytes())?;
        if !child.wait()?.success() {
            bail!("kubectl apply failed");
        }
        Ok(())
    }

    /// Objects as JSON; `Null` where there are none.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "--output=json", "--ignore-not-found"], arguments].concat())?;
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).context("kubectl's output") }
    }

    /// Status and body of an answer.
    pub fn curl(&self, arguments: &[&str]) -> Result<(u16, String)> {
        let mut curl = self.server.inside(Path::new("curl"));
        curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}"]).args(arguments);
        let output = curl.output().context("run curl")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n').context("curl's output")?;
        Ok((code.parse().unwrap_or_default(), body.to_owned()))
    }

    /// The results of an expression of PromQL.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let form = format!("query={expression}");
        let (code, body) = self.curl(&["--data-urlencode", &form, "http://127.0.0.1:9090/api/v1/query"])?;
        let answer: Value = serde_json::from_str(&body).with_context(|| format!("{expression}: {code} {body}"))?;
        if answer["status"] != "success" {
            bail!("{expression}: {}", answer["error"]);
        }
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// Gets a password from the server, which has just said that it is ready: what it installs in the cluster comes after that.
    pub fn sign_in(&mut self) -> Result<()> {
        until("what comes with the server is installed", PATIENCE, || {
            let kinds =
                ["crd/pipelines.madang.dev", "crd/releases.madang.dev", "crd/httproutes.gateway.networking.k8s.io"];
            let known = self.quietly(&[&["get", "--output=name"][..], &kinds].concat())?;
            Ok((known.lines().count() == kinds.len()).then_some(()))
        })?;
        self.token = until("the server gives a token", PATIENCE, || {
            let mut token = self.server.madang();
            let said =
                token.args(["token", "--data-dir"]).arg(self.server.data_dir()).output().context("run madang")?;
            let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            Ok(said.status.success().then_some(text))
        })?;
        Ok(())
    }

    /// What kubectl prints, whatever it complains of.
    fn quietly(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = self.server.inside(&self.kubectl);
        kubectl.env("KUBECONFIG", self.server.kubeconfig()).env_remove("HTTPS_PROXY").args(arguments);
        let output = kubectl.stdin(Stdio::null()).output().context("run kubectl")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes a team with a pipeline.
    pub fn found(&self, team: &str) -> Result<()> {
        self.apply(&TEAM.replace("TEAM", team))
    }

    /// git in the repository, as somebody with a name; what it prints.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut git = self.server.inside(Path::new("git"));
        git.current_dir(&self.repository).env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.args(["-c", "user.name=Kim", "-c", "user.email=kim@shop.example", "-c", "init.defaultBranch=main"]);
        host::output(git.args(arguments).stdin(Stdio::null())).map(|text| text.trim().to_owned())
    }

    /// Makes the repository one of a team's on the server, with a password.
    pub fn begin(&self, team: &str) -> Result<()> {
        self.git(&["init", "--quiet"])?;
        let url = format!("http://kim:{}@127.0.0.1:3000/git/{team}/{team}.git", self.token);
        self.git(&["remote", "add", "origin", &url]).map(drop)
    }

    /// Puts an image into the cluster's registry, as TEAM/NAME:TAG.
    pub fn give(&self, image: &Archive, name: &str) -> Result<()> {
        let name = &format!("127.0.0.1:5000/{name}");
        self.server.load(std::slice::from_ref(&image.path))?;
        // A login of the demo's own: whoever starts it may have others.
        let logins = self.server.scratch("logins")?;
        let mut login = self.server.madang();
        login.arg("login").arg("--file").arg(logins.join("config.json"));
        login.arg("--data-dir").arg(self.server.data_dir());
        host::output(&mut login)?;
        for arguments in [&["tag", &image.name, name][..], &["push", "--quiet", name]] {
            let mut madang = self.server.madang();
            madang.args(arguments).env("DOCKER_CONFIG", &logins);
            madang.arg("--run-dir").arg(self.server.run_dir());
            host::output(&mut madang)?;
        }
        Ok(())
    }

    /// A link that signs a browser in, once.
    pub fn link(&self) -> Result<String> {
        let mut console = self.server.madang();
        host::output(console.args(["console", "--data-dir"]).arg(self.server.data_dir()))
            .map(|link| link.trim().to_owned())
    }

    /// Keeps beside the server's log how everything stood when a step failed.
    pub fn explain(&self, output: &Path) {
        let mut text = String::new();
        for arguments in [
            &["get", "pipelines,pipelineruns,pods,builds,releases,httproutes,gateways,hpa", "--output=wide"][..],
            &["get", "pipelineruns", "--output=yaml"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            text += &self.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}\n"));
        }
        let path = output.join("failed.txt");
        match fs::write(&path, text) {
            Ok(()) => eprintln!("how it stood: {}; the server's log is beside it", path.display()),
            Err(error) => eprintln!("write {}: {error}", path.display()),
        }
    }
}

/// Asks until there is an answer; says what is waited for where that takes longer.
pub fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    let mut said = false;
    loop {
        let asked = ask();
        if let Ok(Some(answer)) = asked {
            if said {
                println!("   {what}: {}", super::spoken(started.elapsed()));
            }
            return Ok(answer);
        }
        if started.elapsed() > patience {
            let last = asked.err().map(|error| format!(": {error:#}")).unwrap_or_default();
            bail!("{what}: not within {}{last}", super::spoken(patience));
        }
        said |= started.elapsed() > 4 * LOOK;
        std::thread::sleep(LOOK);
    }
}

//! Programs of others, built from Go modules into the cache: test dependencies only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::host;

/// The version of Kubernetes whose API is served.
pub const KUBERNETES: &str = "1.37.1";
/// The version of its staging modules.
const STAGING: &str = "v0.37.1";
const ETCD: &str = "v3.7.3";
const BUILDX: &str = "v0.38.2";
const COMPOSE: &str = "v5.6.0";
const DOCKER: &str = "v29.9.3+incompatible";
/// Ryuk 0.14.0.
const RYUK: &str = "v0.0.0-20250926081232-b3726afd6cc2";
const ALERTMANAGER: &str = "v0.34.2";
/// Prometheus 3.15.0 as a module.
const PROMETHEUS: &str = "v0.315.0";
/// Gateway API, whose kinds are served and whose suite judges the gateway.
const GATEWAY: &str = "v1.6.3";
/// kubectl of this minor version or newer does.
const KUBECTL_MINOR: u32 = 36;

fn binaries() -> Result<PathBuf> {
    let dir = host::cache()?.join("bin");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn require_go() -> Result<()> {
    if host::find("go").is_none() {
        bail!("no Go here: install Go 1.26 or newer, from which test tools are built");
    }
    Ok(())
}

/// kubectl: the machine's own if it is new enough, else one that is built.
pub fn kubectl() -> Result<PathBuf> {
    let built = binaries()?.join("kubectl");
    if built.exists() {
        return Ok(built);
    }
    if let Some(found) =
        host::find("kubectl").filter(|found| minor_of(found).is_some_and(|minor| minor >= KUBECTL_MINOR))
    {
        return Ok(found);
    }
    kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl", &["build"])
}

fn minor_of(kubectl: &Path) -> Option<u32> {
    let text = host::output(Command::new(kubectl).args(["version", "--client", "--output=json"])).ok()?;
    let version: serde_json::Value = serde_json::from_str(&text).ok()?;
    version["clientVersion"]["minor"].as_str()?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

/// etcd, against which the store's contract is tested.
pub fn etcd() -> Result<PathBuf> {
    let built = binaries()?.join("etcd");
    if built.exists() {
        return Ok(built);
    }
    require_go()?;
    eprintln!("building etcd {ETCD} from its Go module");
    let dir = host::cache()?.join("go/etcd");
    fs::create_dir_all(&dir)?;
    fs::write(
        dir.join("main.go"),
        "package main\n\nimport (\n\t\"os\"\n\n\t\"go.etcd.io/etcd/server/v3/etcdmain\"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n",
    )?;
    if !dir.join("go.mod").exists() {
        host::run(Command::new("go").current_dir(&dir).args(["mod", "init", "peers/etcd"]))?;
    }
    host::run(Command::new("go").current_dir(&dir).args(["get", &format!("go.etcd.io/etcd/server/v3@{ETCD}")]))?;
    let mut build = Command::new("go");
    build
        .current_dir(&dir)
        .env("CGO_ENABLED", "0")
        .args(["build", "-buildvcs=false", "-ldflags=-s -w", "-o"])
        .arg(&built)
        .arg(".");
    host::run(&mut build)?;
    Ok(built)
}

/// docker's plugin for builds, with which BuildKit's protocol is tested.
pub fn buildx() -> Result<PathBuf> {
    patched(&Patched {
        name: "docker-buildx",
        module: "github.com/docker/buildx",
        version: BUILDX,
        replaced: &["github.com/moby/policy-helpers", "github.com/tonistiigi/fsutil"],
        variable: Some("github.com/docker/buildx/version.Version"),
        package: "./cmd/buildx",
    })
}

/// docker's plugin for services of several containers.
pub fn compose() -> Result<PathBuf> {
    patched(&Patched {
        name: "docker-compose",
        module: "github.com/docker/compose/v5",
        version: COMPOSE,
        replaced: &["github.com/DefangLabs/secret-detector"],
        variable: Some("github.com/docker/compose/v5/internal.Version"),
        package: "./cmd",
    })
}

/// docker's command line of the version after that which distributions have.
pub fn docker() -> Result<PathBuf> {
    patched(&Patched {
        name: "docker",
        module: "github.com/docker/cli",
        version: DOCKER,
        replaced: &["github.com/moby/swarmkit/v2"],
        variable: Some("github.com/docker/cli/cli/version.Version"),
        package: "./cmd/docker",
    })
}

/// What Testcontainers' libraries have clean up after them. Its releases have no versions of modules: this is the commit of one.
pub fn ryuk() -> Result<PathBuf> {
    patched(&Patched {
        name: "ryuk",
        module: "github.com/testcontainers/moby-ryuk",
        version: RYUK,
        replaced: &[],
        variable: None,
        package: ".",
    })
}

/// A program that is built in a copy of its module, since something in it has to be changed first.
struct Patched<'a> {
    name: &'a str,
    module: &'a str,
    version: &'a str,
    /// Not every module proxy has the commits between releases that it asks for: those are replaced by the newest there is.
    replaced: &'a [&'a str],
    /// Takes the version; none where nothing asks for it.
    variable: Option<&'a str>,
    package: &'a str,
}

fn patched(wanted: &Patched<'_>) -> Result<PathBuf> {
    let Patched { name, version, .. } = *wanted;
    let built = binaries()?.join(name);
    if built.exists() {
        return Ok(built);
    }
    require_go()?;
    eprintln!("building {name} {version} from its Go module (minutes the first time)");
    let module = format!("{}@{version}", wanted.module);
    let text = host::output(Command::new("go").current_dir("/").args(["mod", "download", "-json", &module]))?;
    let found: serde_json::Value = serde_json::from_str(&text)?;
    let sources = found["Dir"].as_str().with_context(|| format!("{module}: not in the module cache"))?;
    let dir = host::cache()?.join("go").join(name);
    let _ = fs::remove_dir_all(&dir);
    host::run(Command::new("cp").args(["-r", "--no-preserve=mode", sources]).arg(&dir))?;
    // Docker's command line keeps its list of modules under another name.
    for (from, to) in [("vendor.mod", "go.mod"), ("vendor.sum", "go.sum")] {
        if dir.join(from).exists() {
            fs::copy(dir.join(from), dir.join(to)).with_context(|| format!("copy {from} of {module}"))?;
        }
    }
    for module in wanted.replaced {
        let there = Command::new("go").current_dir(&dir).args(["mod", "download", module]).output();
        if there.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let latest = format!("{module}@latest");
        let version = host::output(Command::new("go").current_dir(&dir).args([
            "list",
            "-mod=mod",
            "-m",
            "-f",
            "{{.Version}}",
            &latest,
        ]))?;
        let replace = format!("-replace={module}={module}@{}", version.trim());
        host::run(Command::new("go").current_dir(&dir).args(["mod", "edit", &replace]))?;
    }
    let version = version.trim_end_matches("+incompatible");
    let flags = wanted.variable.map_or("-s -w".to_owned(), |variable| format!("-s -w -X {variable}={version}"));
    let mut build = Command::new("go");
    build.current_dir(&dir).env("CGO_ENABLED", "0");
    build.args(["build", "-mod=mod", "-buildvcs=false", "-ldflags", &flags, "-o"]).arg(&built).arg(wanted.package);
    host::run(&mut build)?;
    Ok(built)
}

/// amtool, which judges the API of alerts.
pub fn amtool() -> Result<PathBuf> {
    const PACKAGE: &str = "github.com/prometheus/alertmanager/cmd/amtool";
    let built = binaries()?.join("amtool");
    if built.exists() {
        return Ok(built);
    }
    require_go()?;
    eprintln!("building amtool {ALERTMANAGER} from its Go module");
    let dir = host::cache()?.join("go/alertmanager");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("tools.go"), format!("//go:build tools\n\npackage tools\n\nimport _ \"{PACKAGE}\"\n"))?;
    if !dir.join("go.mod").exists() {
        host::run(Command::new("go").current_dir(&dir).args(["mod", "init", "peers/alertmanager"]))?;
    }
    host::run(Command::new("go").current_dir(&dir).args(["get", &format!("{PACKAGE}@{ALERTMANAGER}")]))?;
    let mut build = Command::new("go");
    build.current_dir(&dir).env("CGO_ENABLED", "0").args(["build", "-buildvcs=false", "-ldflags=-s -w", "-o"]);
    host::run(build.arg(&built).arg(PACKAGE))?;
    Ok(built)
}

/// Prometheus, beside which metrics are measured, without its web pages.
pub fn prometheus() -> Result<PathBuf> {
    of_prometheus("prometheus")
}

/// promtool, which opens what is exported.
pub fn promtool() -> Result<PathBuf> {
    of_prometheus("promtool")
}

fn of_prometheus(name: &str) -> Result<PathBuf> {
    let built = binaries()?.join(name);
    if built.exists() {
        return Ok(built);
    }
    require_go()?;
    eprintln!("building {name} of Prometheus {PROMETHEUS} from its Go module (minutes the first time)");
    let dir = host::cache()?.join("go/prometheus");
    fs::create_dir_all(&dir)?;
    if !dir.join("go.mod").exists() {
        host::run(Command::new("go").current_dir(&dir).args(["mod", "init", "peers/prometheus"]))?;
    }
    let package = format!("github.com/prometheus/prometheus/cmd/{name}");
    host::run(Command::new("go").current_dir(&dir).args(["get", &format!("{package}@{PROMETHEUS}")]))?;
    let mut build = Command::new("go");
    build.current_dir(&dir).env("CGO_ENABLED", "0").args(["build", "-mod=mod", "-buildvcs=false", "-ldflags=-s -w"]);
    host::run(build.arg("-o").arg(&built).arg(&package))?;
    Ok(built)
}

/// A command or the tests of a package of Gateway API's conformance module.
pub fn gateway(name: &str, package: &str, verb: &[&str]) -> Result<PathBuf> {
    let built = binaries()?.join(name);
    if built.exists() {
        return Ok(built);
    }
    require_go()?;
    eprintln!("building {name} of Gateway API {GATEWAY} from its Go module (minutes the first time)");
    let dir = host::cache()?.join("go/gateway");
    fs::create_dir_all(&dir)?;
    if !dir.join("go.sum").exists() {
        fs::write(dir.join("go.mod"), "module peers\n\ngo 1.26.0\n")?;
        let packages = ["conformance", "conformance/echo-basic"];
        let imports: String =
            packages.iter().map(|package| format!("\t_ \"sigs.k8s.io/gateway-api/{package}\"\n")).collect();
        fs::write(dir.join("tools.go"), format!("//go:build tools\n\npackage tools\n\nimport (\n{imports})\n"))?;
        // The suite's own module leads to the kinds by a path; here both are named by their version.
        for module in ["sigs.k8s.io/gateway-api/conformance", "sigs.k8s.io/gateway-api"] {
            let wanted = format!("{module}@{GATEWAY}");
            host::run(Command::new("go").current_dir(&dir).args(["mod", "edit", "-require", &wanted]))?;
        }
        host::run(Command::new("go").current_dir(&dir).args(["mod", "tidy"]))?;
    }
    let mut build = Command::new("go");
    build.current_dir(&dir).args(verb).args(["-mod=mod", "-buildvcs=false", "-ldflags=-s -w", "-o"]).arg(&built);
    host::run(build.env("CGO_ENABLED", "0").arg(package))?;
    Ok(built)
}

/// The suite itself.
pub fn e2e() -> Result<PathBuf> {
    kubernetes("e2e.test", "k8s.io/kubernetes/test/e2e", &["test", "-c"])
}

/// The runner of the suite.
pub fn ginkgo() -> Result<PathBuf> {
    kubernetes("ginkgo", "github.com/onsi/ginkgo/v2/ginkgo", &["build"])
}

/// A static program of Kubernetes' test images.
pub fn image_program(name: &str, package: &str) -> Result<PathBuf> {
    kubernetes(name, package, &["build"])
}

/// The folder of Kubernetes' sources in the module cache.
pub fn kubernetes_sources() -> Result<PathBuf> {
    require_go()?;
    let module = format!("k8s.io/kubernetes@v{KUBERNETES}");
    let text = host::output(Command::new("go").current_dir("/").args(["mod", "download", "-json", &module]))?;
    let found: serde_json::Value = serde_json::from_str(&text)?;
    Ok(PathBuf::from(found["Dir"].as_str().with_context(|| format!("{module}: not in the module cache"))?))
}

/// Builds a command of Kubernetes in a module that requires it and replaces its staging modules by their releases.
fn kubernetes(name: &str, package: &str, verb: &[&str]) -> Result<PathBuf> {
    let built = binaries()?.join(name);
    if built.exists() {
        return Ok(built);
    }
    require_go()?;
    eprintln!("building {name} of Kubernetes {KUBERNETES} from its Go module (minutes the first time)");
    let dir = module()?;
    let version = format!(
        "-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES} -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
    );
    let mut build = Command::new("go");
    build.current_dir(&dir).args(verb).args(["-mod=mod", "-buildvcs=false", "-ldflags", &version, "-o"]).arg(&built);
    build.env("CGO_ENABLED", "0").arg(package);
    host::run(&mut build)?;
    Ok(built)
}

fn module() -> Result<PathBuf> {
    let dir = host::cache()?.join("go/kubernetes");
    if dir.join("go.sum").exists() {
        return Ok(dir);
    }
    fs::create_dir_all(&dir)?;
    let sources = kubernetes_sources()?;
    let original = fs::read_to_string(sources.join("go.mod")).context("read Kubernetes' go.mod")?;
    let go = original.lines().find(|line| line.starts_with("go ")).context("go.mod without a go line")?;
    let staging = original.lines().filter_map(|line| {
        let (module, path) = line.trim().split_once(" => ")?;
        path.starts_with("./staging/").then(|| format!("\t{module} => {module} {STAGING}\n"))
    });
    let staging: String = staging.collect();
    fs::write(
        dir.join("go.mod"),
        format!(
            "module peers\n\n{go}\n\ngodebug default=go1.26\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\nreplace (\n{staging})\n"
        ),
    )?;
    let packages = [
        "k8s.io/kubernetes/cmd/kubectl",
        "k8s.io/kubernetes/test/e2e",
        "k8s.io/kubernetes/test/images/agnhost",
        "k8s.io/kubernetes/test/images/nonewprivs",
        "k8s.io/sample-apiserver",
        "github.com/onsi/ginkgo/v2/ginkgo",
    ];
    let imports: String = packages.iter().map(|package| format!("\t_ \"{package}\"\n")).collect();
    fs::write(dir.join("tools.go"), format!("//go:build tools\n\npackage tools\n\nimport (\n{imports})\n"))?;
    host::run(Command::new("go").current_dir(&dir).args(["mod", "tidy"]))?;
    Ok(dir)
}

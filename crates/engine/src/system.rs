//! The engine about itself: ping, version, info.

use std::time::SystemTime;

use http::{HeaderValue, Method, Response, header};
use serde_json::{Value, json};
use serve::{Body, body};

use crate::{
    Engine, answer,
    call::{Call, NEWEST, OLDEST},
    error::Result,
    route,
};

/// The newest version, as headers say it.
pub(crate) const API_VERSION: &str = "1.50";
/// Which builder `docker build` takes by itself: 1 is that of `POST /build`, 2 BuildKit.
const BUILDER: &str = "2";

/// Answers a request.
pub(crate) async fn answer(engine: &Engine, call: Call) -> Result<Response<Body>> {
    match (&call.method, call.path.iter().map(String::as_str).collect::<Vec<_>>().as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => Ok(ping(&call)),
        (&Method::GET, ["version"]) => answer::json(&version(engine)),
        (&Method::GET, ["info"]) => answer::json(&info(engine)),
        _ => Err(route::unknown()),
    }
}

fn ping(call: &Call) -> Response<Body> {
    let body = if call.method == Method::HEAD { body::empty() } else { body::full("OK") };
    let mut response = answer::typed(body, "text/plain; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("builder-version", HeaderValue::from_static(BUILDER));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    response
}

/// A time as the API writes it.
pub(crate) fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().to_string()
}

/// What the API calls this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn version(engine: &Engine) -> Value {
    let settings = engine.settings();
    let oldest = format!("1.{OLDEST}");
    let newest = format!("1.{NEWEST}");
    json!({
        "Platform": {"Name": "Madang"},
        "Components": [{
            "Name": "Engine",
            "Version": settings.version,
            "Details": {
                "ApiVersion": newest, "MinAPIVersion": oldest, "Os": "linux", "Arch": architecture(),
                "KernelVersion": kernel(), "Experimental": "false", "GitCommit": "", "GoVersion": "", "BuildTime": "",
            },
        }],
        "Version": settings.version,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel(),
        "BuildTime": "",
    })
}

/// `NAME=value` of a file such as `/etc/os-release`.
fn os_release() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn info(engine: &Engine) -> Value {
    let settings = engine.settings();
    let (running, paused, stopped) = engine.containers().counts();
    let memory = rustix::system::sysinfo();
    let total = (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit));
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let environment = |name: &str| {
        [name.to_uppercase(), name.to_lowercase()].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
    };
    let machine = json!({
        "ID": settings.instance,
        "Containers": running + paused + stopped,
        "ContainersRunning": running, "ContainersPaused": paused, "ContainersStopped": stopped,
        "Images": engine.images().list().len(),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", ""], ["Supports d_type", "true"], ["Native Overlay Diff", "true"]],
        "Plugins": {
            "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "none"],
        },
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true,
        "CPUSet": true, "PidsLimit": true, "IPv4Forwarding": true, "OomKillDisable": false, "KernelMemoryTCP": false,
        "Debug": false, "NFd": 0, "NGoroutines": 0, "NEventsListener": 0,
        "SystemTime": timestamp(SystemTime::now()),
        "KernelVersion": kernel(),
        "OperatingSystem": os_release(),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": processors,
        "MemTotal": total,
    });
    let mut all = json!({
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if engine.runtime().is_cgroup_v2() { "2" } else { "1" },
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true}},
            "Mirrors": [],
        },
        "GenericResources": null,
        "DockerRootDir": settings.dir,
        "HttpProxy": environment("http_proxy"), "HttpsProxy": environment("https_proxy"), "NoProxy": environment("no_proxy"),
        "Name": settings.name,
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": settings.version,
        "Runtimes": {"madang": {"path": "madang runtime"}},
        "DefaultRuntime": "madang",
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""},
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "CDISpecDirs": [],
        "Warnings": [],
    });
    if let (Value::Object(all), Value::Object(machine)) = (&mut all, machine) {
        all.extend(machine);
    }
    all
}

//! The gateway beside Debian's nginx and haproxy: 64 clients, one backend, in turns; whose processor time a request takes.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Bench, field};
use crate::{
    bench::{
        median, memory,
        report::{Figure, Target},
    },
    demo::cluster::until,
    host,
    server::Server,
};

/// Debian's packages of what stands beside it.
const PEERS: &[host::Package] = &[("nginx-light", "/usr/sbin/nginx"), ("haproxy", "/usr/sbin/haproxy")];
/// A file by which Debian's packages know that they start nothing.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const TURNS: usize = 3;
const CONNECTIONS: &str = "64";
/// Ports of the backend and of the peers.
const BACKEND: u16 = 9101;
const NGINX: u16 = 9102;
const HAPROXY: u16 = 9103;

/// A peer, ended with its workers when this goes.
struct Peer(Child);

impl Peer {
    fn start(server: &Server, program: &str, arguments: &[&str], port: u16) -> Result<Self> {
        let mut command = server.inside(Path::new(program));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let peer = Self(command.spawn().with_context(|| format!("start {program}"))?);
        let started = Instant::now();
        let address = server.address();
        loop {
            let mut curl = server.inside(Path::new("curl"));
            curl.args(["--silent", "--output", "/dev/null", "--max-time", "2", &format!("http://{address}:{port}/")]);
            if curl.status()?.success() {
                return Ok(peer);
            }
            if started.elapsed() > Duration::from_secs(20) {
                bail!("{program} does not answer at port {port}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Their workers end with them on this signal.
        if let Err(error) = host::run(std::process::Command::new("kill").arg(self.0.id().to_string())) {
            eprintln!("{error:#}");
        }
        let _reaped = self.0.wait();
    }
}

/// Installs the peers without starting them.
fn install() -> Result<()> {
    let held = !Path::new(POLICY).exists();
    if held {
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        std::os::unix::fs::chown(POLICY, Some(0), Some(0))?;
        fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let installed = host::install(PEERS);
    if held {
        fs::remove_file(POLICY)?;
    }
    installed
}

fn backend(dir: &Path) -> String {
    let body = "x".repeat(1024);
    format!(
        "worker_processes 1; daemon off; pid {0}/backend.pid; error_log {0}/backend.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {0}/backend; \
         server {{ listen {BACKEND}; location / {{ return 200 \"{body}\"; }} }} }}\n",
        dir.display()
    )
}

fn nginx(dir: &Path, backend: &str) -> String {
    format!(
        "worker_processes 2; daemon off; pid {0}/nginx.pid; error_log {0}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; \
         upstream backend {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen {NGINX}; location / {{ proxy_pass http://backend; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; proxy_set_header Host $host; \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n",
        dir.display()
    )
}

fn haproxy(backend: &str) -> String {
    format!(
        "global\n  nbthread 2\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  http-reuse always\n  option forwardfor\n\
         frontend in\n  bind :{HAPROXY}\n  default_backend out\n\
         backend out\n  server one {backend}\n"
    )
}

/// A Service whose one endpoint is the backend, and a route to it.
fn objects(address: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: bench, namespace: default}}
spec: {{ports: [{{port: 80, targetPort: {BACKEND}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: bench, namespace: default, labels: {{kubernetes.io/service-name: bench}}}}
addressType: IPv4
endpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]
ports: [{{port: {BACKEND}, protocol: TCP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: bench, namespace: default}}
spec: {{gatewayClassName: madang, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: bench, namespace: default}}
spec: {{parentRefs: [{{name: bench}}], rules: [{{backendRefs: [{{name: bench, port: 80}}]}}]}}
"
    )
}

/// The processes whose time counts: a process and those below it, or the role `edge` alone.
fn processes(pid: u32, edge: bool) -> Vec<memory::Process> {
    let is_edge = |process: &memory::Process| {
        let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains("role edge")
    };
    memory::family(pid).into_iter().filter(|process| !edge || is_edge(process)).collect()
}

/// Measures the row.
pub fn measure(bench: &mut Bench<'_>) -> Result<()> {
    install()?;
    let cluster = bench.cluster()?;
    let server = &cluster.server;
    let dir = server.scratch("peers")?;
    let target = format!("{}:{BACKEND}", server.address());
    let write = |name: &str, text: String| -> Result<String> {
        let path = dir.join(name);
        fs::write(&path, text)?;
        Ok(path.to_str().context("a plain path")?.to_owned())
    };
    let (at_back, at_nginx) = (write("backend.conf", backend(&dir))?, write("nginx.conf", nginx(&dir, &target))?);
    let at_haproxy = write("haproxy.cfg", haproxy(&target))?;
    let _backend = Peer::start(server, "/usr/sbin/nginx", &["-c", &at_back], BACKEND)?;
    let nginx = Peer::start(server, "/usr/sbin/nginx", &["-c", &at_nginx], NGINX)?;
    let haproxy = Peer::start(server, "/usr/sbin/haproxy", &["-db", "-f", &at_haproxy], HAPROXY)?;
    cluster.apply(&objects(server.address()))?;
    until("the gateway answers", Duration::from_secs(30), || {
        Ok((cluster.curl(&["http://127.0.0.1:8080/"])?.0 == 200).then_some(()))
    })?;
    let own = server.pid().context("the server does not run")?;
    let proxies = [("madang", 8080, own), ("nginx", NGINX, nginx.0.id()), ("haproxy", HAPROXY, haproxy.0.id())];
    let seconds = if bench.arguments.quick { "3" } else { "10" };
    let mut costs = vec![Vec::new(); proxies.len()];
    let mut tails = vec![Vec::new(); proxies.len()];
    let mut rates = vec![Vec::new(); proxies.len()];
    for turn in 0..=TURNS {
        for (at, (_, port, pid)) in proxies.iter().enumerate() {
            let address = format!("{}:{port}", server.address());
            let counted = processes(*pid, at == 0);
            ensure!(!counted.is_empty(), "no process serves port {port}");
            let before = memory::time(&counted);
            let asked =
                bench.load.run(server, "requests", &[&address, "--connections", CONNECTIONS, "--seconds", seconds])?;
            let spent = memory::time(&counted) - before;
            // The first turn warms up.
            if turn > 0 {
                costs[at].push(spent * 1e6 / field(&asked, "/requests")?);
                tails[at].push(field(&asked, "/ms/p99")?);
                rates[at].push(field(&asked, "/rate")?);
            }
        }
    }
    let middle = |all: &[Vec<f64>]| all.iter().map(|one| median(one.clone())).collect::<Vec<f64>>();
    let (cost, tail, rate) = (middle(&costs), middle(&tails), middle(&rates));
    let beside = |all: &[f64]| -> Vec<(String, f64)> {
        proxies.iter().zip(all).skip(1).map(|((name, ..), value)| ((*name).to_owned(), *value)).collect()
    };
    let detail: Value = json!({ "cpu_us": costs, "p99_ms": tails, "rate": rates });
    let mut beside_cost = beside(&cost);
    beside_cost.extend(proxies.iter().zip(&rate).map(|((name, ..), rate)| (format!("{name} requests/s"), *rate)));
    bench.figures.push(Figure {
        name: "gateway: CPU a proxied request, 64 connections",
        value: cost[0],
        unit: "us",
        target: Target::AtMost(cost[1] * 1.25),
        beside: beside_cost,
        detail: detail.clone(),
    });
    bench.figures.push(Figure {
        name: "gateway: p99 of the same",
        value: tail[0],
        unit: "ms",
        target: Target::AtMost(tail[1].max(tail[2])),
        beside: beside(&tail),
        detail,
    });
    Ok(())
}

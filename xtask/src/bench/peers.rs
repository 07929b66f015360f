//! Peers, each in the network namespace of the server it is compared with.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::memory::{self, Process};
use crate::{
    go, host,
    server::{Place, Server},
};

/// How long a peer may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Debian's packages of other engines.
pub const ENGINES: &[host::Package] =
    &[("docker.io", "/usr/sbin/dockerd"), ("podman", "/usr/bin/podman"), ("runc", "/usr/sbin/runc")];

/// An etcd on the loopback address of the namespace.
pub struct Etcd {
    child: Child,
    /// Where it answers.
    pub endpoint: String,
    /// How long it took until it answered.
    pub started: Duration,
}

impl Etcd {
    /// Starts it on what is in `dir`.
    pub fn start(server: &Server, dir: &Path) -> Result<Self> {
        let (endpoint, peer) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
        let log = dir.join("log");
        let file = fs::File::create(&log)?;
        let mut command = server.inside(&go::etcd()?);
        command.arg("--data-dir").arg(dir.join("data")).args(["--listen-client-urls", endpoint]);
        command.args(["--advertise-client-urls", endpoint, "--listen-peer-urls", peer]);
        command.args(["--initial-advertise-peer-urls", peer, "--initial-cluster", &format!("default={peer}")]);
        command.args(["--quota-backend-bytes", "8589934592"]).stdout(file.try_clone()?).stderr(file);
        let started = Instant::now();
        let child = command.spawn().context("start etcd")?;
        let mut etcd = Self { child, endpoint: endpoint.to_owned(), started: Duration::ZERO };
        let mut lines = BufReader::new(fs::File::open(&log)?);
        let mut line = String::new();
        while started.elapsed() < PATIENCE {
            if lines.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            if line.contains("ready to serve client requests") {
                etcd.started = started.elapsed();
                return Ok(etcd);
            }
            line.clear();
        }
        bail!("etcd does not answer: {}", log.display())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Debian's docker, with a data directory of its own.
pub struct Docker {
    daemon: Child,
    socket: String,
    dir: PathBuf,
}

impl Docker {
    /// Starts the daemon and loads an image.
    pub fn start(server: &Server, archive: &Path) -> Result<Self> {
        let dir = server.scratch("docker")?;
        let socket = format!("unix://{}/docker.sock", dir.display());
        let log = fs::File::create(dir.join("log"))?;
        let mut command = server.inside(Path::new("/usr/sbin/dockerd"));
        command.args(["--host", &socket, "--data-root"]).arg(dir.join("data")).arg("--exec-root").arg(dir.join("run"));
        command.arg("--pidfile").arg(dir.join("pid")).args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        let daemon = command.stdout(log.try_clone()?).stderr(log).spawn().context("start dockerd")?;
        let docker = Self { daemon, socket, dir };
        let started = Instant::now();
        while host::output(docker.client().arg("version").stderr(Stdio::null())).is_err() {
            if started.elapsed() > PATIENCE {
                bail!("dockerd does not answer: {}", docker.dir.join("log").display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        host::output(docker.client().arg("load").arg("--input").arg(archive))?;
        Ok(docker)
    }

    /// The daemon and its containerd.
    pub fn processes(&self) -> Vec<Process> {
        let mut family = memory::family(self.daemon.id());
        family.retain(|process| process.name == "dockerd" || process.name == "containerd");
        family
    }

    /// Its command line.
    pub fn client(&self) -> Command {
        let mut client = Command::new("docker");
        client.args(["--host", &self.socket]);
        client
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}

/// Another engine that runs containers from the command line.
pub enum Engine<'a> {
    /// Docker, by its daemon.
    Docker(&'a Docker),
    /// Podman, in a place, with its data in a directory.
    Podman(Place, PathBuf),
}

impl Engine<'_> {
    /// Debian's podman, with an image loaded.
    pub fn podman(server: &Server, archive: &Path) -> Result<Self> {
        let podman = Self::Podman(server.namespace(), server.scratch("podman")?);
        host::output(podman.client().arg("load").arg("--input").arg(archive))?;
        Ok(podman)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Docker(_) => "docker",
            Self::Podman(..) => "podman",
        }
    }

    fn client(&self) -> Command {
        match self {
            Self::Docker(docker) => docker.client(),
            Self::Podman(place, dir) => {
                let mut client = place.inside(Path::new("podman"));
                client.arg("--root").arg(dir.join("data")).arg("--runroot").arg(dir.join("run"));
                client.args(["--cgroup-manager", "cgroupfs"]);
                // Debian's crun refuses the hybrid layout of cgroups.
                if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
                    client.args(["--runtime", "runc"]);
                }
                client
            }
        }
    }

    /// Pulls an image from a registry over plain HTTP and removes it; how long the first took.
    pub fn pull(&self, image: &str) -> Result<Duration> {
        let mut client = self.client();
        client.args(["pull", "--quiet"]);
        if matches!(self, Self::Podman(..)) {
            client.arg("--tls-verify=false");
        }
        let started = Instant::now();
        host::output(client.arg(image))?;
        let took = started.elapsed();
        host::output(self.client().args(["rmi", "-f", image]))?;
        Ok(took)
    }

    /// Runs a container and removes it; how long the first took.
    pub fn run(&self, image: &str) -> Result<Duration> {
        let started = Instant::now();
        let mut client = self.client();
        client.args(["run", "-d"]);
        if matches!(self, Self::Podman(..)) {
            // Its defaults raise limits, which a machine without CAP_SYS_RESOURCE refuses.
            client.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        }
        let id = host::output(client.arg(image))?;
        let took = started.elapsed();
        host::output(self.client().args(["rm", "-f", id.trim()]))?;
        Ok(took)
    }
}

/// Debian's registry, which is distribution 2.8.
pub const REGISTRY: &[host::Package] = &[("docker-registry", "/usr/bin/docker-registry")];

/// A docker-registry with its content in a directory, over plain HTTP or with a certificate.
pub struct DockerRegistry {
    child: Child,
    /// Where it answers.
    pub host: String,
}

impl DockerRegistry {
    /// Starts it; `certificate` is a chain and its key.
    pub fn start(server: &Server, port: u16, certificate: Option<(&Path, &Path)>) -> Result<Self> {
        let dir = server.scratch("docker-registry")?;
        let host = format!("127.0.0.1:{port}");
        let config = dir.join(format!("{port}.yml"));
        fs::write(
            &config,
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {}}\n",
        )?;
        let log = fs::File::create(dir.join(format!("{port}.log")))?;
        let mut command = server.inside(Path::new("/usr/bin/docker-registry"));
        command.arg("serve").arg(&config).env("REGISTRY_HTTP_ADDR", &host);
        command.env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", dir.join("data"));
        if let Some((chain, key)) = certificate {
            command.env("REGISTRY_HTTP_TLS_CERTIFICATE", chain).env("REGISTRY_HTTP_TLS_KEY", key);
        }
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().context("start docker-registry")?;
        let registry = Self { child, host };
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let started = Instant::now();
        let url = format!("{scheme}://{}/v2/", registry.host);
        while host::output(server.inside(Path::new("curl")).args(["--insecure", "--silent", "--fail", &url])).is_err() {
            if started.elapsed() > PATIENCE {
                bail!("docker-registry does not answer: {}", dir.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }

    /// Its process.
    pub fn processes(&self) -> Vec<Process> {
        memory::family(self.child.id())
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

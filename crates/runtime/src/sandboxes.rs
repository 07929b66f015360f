//! Making, stopping and removing sandboxes.
//!
//! ```text
//! run:   address ─ record, files, cgroup ─ shim ─ network        (a failure undoes what was done)
//! stop:  containers ─ network ─ shim (cgroup) ─ address
//! ```
//!
//! What is begun of a sandbox goes on to its end when whoever asked for it gives up, and is then there to be removed: a process that
//! starts cannot be taken back halfway. Stopping waits for that.

use std::{
    collections::BTreeSet,
    fs, io,
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use container::{
    cgroup::Group,
    shim::{IdRange, SandboxSpec, Shim, Users},
};
use network::SandboxNet;
use oci_spec::runtime::LinuxResources;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::{
    description::{HostPort, Protocol, Resources, SandboxConfig, Sharing},
    files,
    record::{self, SandboxRecord},
    service::{Runtime, Sandbox, lock},
};

/// Users and groups of a sandbox that has its own: as many as programs expect, from root to nobody.
const USERS: u32 = 65_536;

/// The users and groups of build steps: every number that programs can name, and so that every file of an image has an owner. They
/// lie above all others, where no machine has users and no pod gets any.
pub(crate) const STEP_USERS: IdRange = IdRange { inside: 0, outside: 1 << 31, size: (1 << 31) - 1 };

/// The shim is about as precious as a daemon.
const SHIM_OOM_SCORE: i32 = -998;
const SHM_SIZE: &str = "mode=1777,size=67108864";

impl Runtime {
    /// Makes a sandbox: group, shim with namespaces, network. Also when the future is dropped: then it is among
    /// [`Runtime::list_sandboxes`], for whoever gave up to remove.
    pub async fn run_pod_sandbox(&self, config: SandboxConfig) -> Result<SandboxRecord> {
        let name = format!("{}/{}", config.namespace, config.name);
        let ip = match config.host_network || config.no_network {
            true => None,
            false => {
                let mut pool = lock(&self.0.pool);
                Some(pool.as_mut().context("the pod network is not ready")?.take()?)
            }
        };
        let (own_users, step_users) = (config.own_users, config.step_users);
        let mut record = SandboxRecord {
            id: record::new_id()?,
            config,
            ip,
            users: None,
            created_at: SystemTime::now(),
            boot_id: self.0.boot_id.clone(),
            stopping: false,
            stopped: false,
        };
        let (sandbox, turn) = {
            let _placing = lock(&self.0.placing);
            if own_users && step_users {
                record.users = Some(STEP_USERS.outside);
            } else if own_users {
                let taken = self.all().iter().filter_map(|sandbox| lock(&sandbox.record).users).collect();
                match free_users(&taken) {
                    Some(users) => record.users = Some(users),
                    None => {
                        if let (Some(ip), Some(pool)) = (ip, lock(&self.0.pool).as_mut()) {
                            pool.release(ip);
                        }
                        anyhow::bail!("sandbox of pod {name}: no users are left that no other pod has");
                    }
                }
            }
            let sandbox = Arc::new(Sandbox::new(record.clone()));
            // Nobody else knows it yet.
            let turn = sandbox.turn.clone().try_lock_owned().context("the turn of a new sandbox")?;
            self.keep(sandbox.clone());
            (sandbox, turn)
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        let runtime = self.clone();
        self.0.task.spawn("make a sandbox", async move {
            let brought = runtime.bring_up(&sandbox, &record).await;
            drop(turn);
            let made = match brought {
                Ok(()) => Ok(record),
                Err(error) => {
                    if let Err(error) = runtime.remove_pod_sandbox(&record.id).await {
                        tracing::warn!(sandbox = record.id, error = format!("{error:#}"), "undo a failed sandbox");
                    }
                    Err(error)
                }
            };
            // Whoever asked may have given up.
            let _ = tell.send(made);
        });
        let made = told.await.unwrap_or_else(|_| Err(anyhow::anyhow!("the runtime ends")));
        made.with_context(|| format!("sandbox of pod {name}"))
    }

    async fn bring_up(&self, sandbox: &Arc<Sandbox>, record: &SandboxRecord) -> Result<()> {
        let began = Instant::now();
        let (runtime, prepared) = (self.clone(), record.clone());
        tokio::task::spawn_blocking(move || runtime.prepare(&prepared)).await??;
        let prepared = began.elapsed();
        let config = &record.config;
        let mut sysctls = config.sysctls.clone();
        if !config.host_network {
            // Root is not needed for what only names a port of the pod's own, or pings.
            let groups = if record.users == Some(STEP_USERS.outside) { "0 4294967294" } else { "0 2147483647" };
            for (name, value) in [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", groups)] {
                sysctls.entry(name.into()).or_insert_with(|| value.into());
            }
        }
        let spec = SandboxSpec {
            id: record.id.clone(),
            dir: record::sandbox_dir(&self.0.config.dir, &record.id).join("shim"),
            socket: self.socket(&record.id),
            hostname: config.hostname.clone(),
            domainname: String::new(),
            host_network: config.host_network,
            host_pid: config.pid == Sharing::Node,
            host_ipc: config.ipc == Sharing::Node,
            share_pid: config.pid == Sharing::Pod,
            cgroup: self.cgroup(record)?,
            sysctls,
            oom_score_adj: SHIM_OOM_SCORE,
            users: record.users.map(|outside| {
                let range = match outside {
                    outside if outside == STEP_USERS.outside => STEP_USERS,
                    outside => IdRange { inside: 0, outside, size: USERS },
                };
                Users { uids: vec![range], gids: vec![range] }
            }),
        };
        let shim = Shim::launch(&self.0.task, &self.0.binary, &spec).await.context("launch shim")?;
        let launched = began.elapsed();
        *lock(&sandbox.shim) = Some(shim.clone());
        self.follow(sandbox.clone(), shim.clone());
        if let Some(request) = attachment(record, &shim) {
            let network = self.network().context("the pod network is not ready")?;
            network.attach(request).await.context("attach to the network")?;
        }
        tracing::debug!(pod = config.name, ?prepared, ?launched, attached = ?began.elapsed(), "sandbox");
        Ok(())
    }

    /// Everything of a sandbox that is made by plain system calls.
    fn prepare(&self, record: &SandboxRecord) -> Result<()> {
        let dir = record::sandbox_dir(&self.0.config.dir, &record.id);
        fs::create_dir_all(dir.join("containers")).with_context(|| format!("make {}", dir.display()))?;
        self.save_sandbox(record)?;
        let config = &record.config;
        let hosts = if config.host_network {
            let machine = match fs::read_to_string("/etc/hosts") {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                found => found.context("read /etc/hosts")?,
            };
            files::host_network_hosts(config, &machine)
        } else {
            files::hosts(config, record.ip.map(Into::into))
        };
        let texts = [
            ("hosts", hosts),
            ("resolv.conf", files::resolv_conf(&config.dns)),
            ("hostname", format!("{}\n", config.hostname)),
        ];
        for (name, text) in texts {
            fs::write(dir.join(name), text).with_context(|| format!("write {name} of sandbox {}", record.id))?;
        }
        if config.ipc != Sharing::Node {
            let shm = dir.join("shm");
            fs::create_dir_all(&shm).with_context(|| format!("make {}", shm.display()))?;
            let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
            let options = std::ffi::CString::new(SHM_SIZE).context("mount options")?;
            rustix::mount::mount("shm", &shm, "tmpfs", flags, Some(options.as_c_str()))
                .with_context(|| format!("mount {}", shm.display()))?;
        }
        let group = Group::create(&self.0.version, &self.cgroup(record)?)?;
        let limits: LinuxResources = serde_json::from_value(config.resources.to_oci()).context("limits of the pod")?;
        group.limit(&limits)?;
        Ok(())
    }

    /// Stops everything in a sandbox and gives its address back. Stopping again is no error, nor is one that is not there.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let Some(sandbox) = self.find(id) else { return Ok(()) };
        let _turn = sandbox.turn.lock().await;
        let record = {
            let mut record = lock(&sandbox.record);
            if record.stopped {
                return Ok(());
            }
            record.stopping = true;
            record.clone()
        };
        // The directory is missing when making the sandbox failed at the very beginning.
        let kept = record::sandbox_dir(&self.0.config.dir, id).join("sandbox.json").exists();
        if kept {
            self.save_sandbox(&record)?;
        }
        if record.ip.is_some()
            && let Some(network) = self.network()
        {
            network.detach(id).await.with_context(|| format!("detach sandbox {id}"))?;
        }
        let shim = lock(&sandbox.shim).take();
        let shim = match shim {
            Some(shim) => Some(shim),
            // Launching may have failed after the shim was there.
            None => Shim::connect(&self.0.task, &self.socket(id)).await.ok().filter(|shim| shim.id() == id),
        };
        if let Some(shim) = shim {
            shim.shutdown().await.with_context(|| format!("stop shim of sandbox {id}"))?;
        }
        self.lose(&sandbox);
        let (runtime, gone) = (self.clone(), record.clone());
        tokio::task::spawn_blocking(move || runtime.clear(&gone)).await??;
        if let (Some(ip), Some(pool)) = (record.ip, lock(&self.0.pool).as_mut()) {
            pool.release(ip);
        }
        let record = {
            let mut record = lock(&sandbox.record);
            record.stopped = true;
            record.clone()
        };
        if kept { self.save_sandbox(&record) } else { Ok(()) }
    }

    /// What the shim could not take away itself, because it was killed.
    fn clear(&self, record: &SandboxRecord) -> Result<()> {
        let group = Group::open(&self.0.version, &self.cgroup(record)?);
        if group.exists() {
            group.kill(Duration::from_secs(10));
            group.remove(Duration::from_secs(5))?;
        }
        unmount_shm(&record::sandbox_dir(&self.0.config.dir, &record.id));
        match fs::remove_file(self.socket(&record.id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove the shim's socket"),
            _ => Ok(()),
        }
    }

    /// Stops a sandbox if need be and removes it with its containers; not their logs.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.stop_pod_sandbox(id).await?;
        let Some(sandbox) = self.find(id) else { return Ok(()) };
        let _turn = sandbox.turn.lock().await;
        let containers: Vec<String> = lock(&sandbox.containers).keys().cloned().collect();
        for container in containers {
            self.0
                .images
                .release(&container)
                .await
                .with_context(|| format!("release files of container {container}"))?;
            self.forget_process(&container).await;
        }
        let dir = record::sandbox_dir(&self.0.config.dir, id);
        let removed = tokio::task::spawn_blocking(move || match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", dir.display()))
            }
            _ => Ok(()),
        });
        removed.await??;
        self.forget(id);
        Ok(())
    }

    /// Changes the limits of a sandbox as a whole.
    pub fn update_sandbox(&self, id: &str, resources: &Resources) -> Result<()> {
        let sandbox = self.sandbox(id)?;
        let record = {
            let mut record = lock(&sandbox.record);
            record.config.resources = resources.clone();
            record.clone()
        };
        let limits: LinuxResources = serde_json::from_value(resources.to_oci()).context("limits of the pod")?;
        Group::open(&self.0.version, &self.cgroup(&record)?).limit(&limits)?;
        self.save_sandbox(&record)
    }

    /// What a sandbox has used since it was made.
    pub fn sandbox_stats(&self, id: &str) -> Result<container::cgroup::Stats> {
        let sandbox = self.sandbox(id)?;
        let path = self.cgroup(&lock(&sandbox.record))?;
        Ok(Group::open(&self.0.version, &path).stats()?)
    }

    /// The control group of a sandbox, from the root of every hierarchy; those of its containers are below it by id.
    pub fn sandbox_group(&self, id: &str) -> Result<String> {
        let sandbox = self.sandbox(id)?;
        let path = self.cgroup(&lock(&sandbox.record))?;
        Ok(format!("/{}", path.as_str().trim_start_matches('/')))
    }

    /// A connection to a port on the loopback of a sandbox's network.
    pub async fn dial(&self, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream> {
        let shim = self.sandbox(sandbox)?.shim()?;
        Ok(shim.dial(port).await?)
    }

    /// The network namespace of a sandbox, valid while it runs.
    pub fn netns(&self, sandbox: &str) -> Result<std::path::PathBuf> {
        Ok(self.sandbox(sandbox)?.shim()?.netns())
    }
}

/// The first range of users that nobody has. The very first is the machine's own.
fn free_users(taken: &BTreeSet<u32>) -> Option<u32> {
    (1..STEP_USERS.outside / USERS).map(|place| place * USERS).find(|first| !taken.contains(first))
}

/// Unmounts a sandbox's `/dev/shm`, if it is there.
pub(crate) fn unmount_shm(dir: &Path) {
    match rustix::mount::unmount(dir.join("shm"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => tracing::warn!(dir = %dir.display(), %error, "unmount /dev/shm of a sandbox"),
    }
}

/// What the network needs to know of a sandbox; none in the machine's network.
pub(crate) fn attachment(record: &SandboxRecord, shim: &Shim) -> Option<SandboxNet> {
    let ip = record.ip?;
    let host_ports = record.config.host_ports.iter().filter_map(host_port).collect();
    Some(SandboxNet { id: record.id.clone(), netns: shim.netns(), ip, host_ports })
}

fn host_port(port: &HostPort) -> Option<network::HostPort> {
    let host_ip = match port.host_ip {
        None => Ipv4Addr::UNSPECIFIED,
        Some(std::net::IpAddr::V4(ip)) => ip,
        Some(std::net::IpAddr::V6(ip)) if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED,
        Some(std::net::IpAddr::V6(_)) => return None,
    };
    let protocol = match port.protocol {
        Protocol::Tcp => network::Protocol::Tcp,
        Protocol::Udp => network::Protocol::Udp,
        Protocol::Sctp => network::Protocol::Sctp,
    };
    Some(network::HostPort { host_ip, host_port: port.host_port, container_port: port.container_port, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sandboxes_have_the_same_users_and_none_has_the_machines() {
        let mut taken = BTreeSet::new();
        for place in 1..4 {
            let users = free_users(&taken).unwrap();
            assert_eq!(users, place * USERS);
            taken.insert(users);
        }
        taken.remove(&(2 * USERS));
        assert_eq!(free_users(&taken), Some(2 * USERS));
    }

    #[test]
    fn users_of_steps_are_those_of_no_pod_and_reach_the_last_that_there_is() {
        let all = (1..STEP_USERS.outside / USERS).map(|place| place * USERS).collect();
        assert_eq!(free_users(&all), None);
        assert!(all.last().is_some_and(|last| last + (USERS - 1) < STEP_USERS.outside));
        // The very last number means nobody at all.
        assert_eq!(STEP_USERS.outside + (STEP_USERS.size - 1), u32::MAX - 1);
    }
}

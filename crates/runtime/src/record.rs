//! What is remembered on disk: one directory a sandbox, one below it a container.
//!
//! ```text
//! DIR/sandboxes/ID/sandbox.json        description, address, state
//!                  hosts resolv.conf hostname
//!                  shm/                /dev/shm of the pod
//!                  shim/               the shim's own state
//!                  containers/ID/container.json
//!                               termination-log
//! ```
//!
//! A record is written to another name and renamed, never half there. It is not synced: what matters is that it outlives
//! the daemon, and after the machine's own crash its containers are gone too (the boot id in the record tells).

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::description::{ContainerConfig, SandboxConfig};

/// What is known of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Unique on this machine, 64 hexadecimal digits.
    pub id: String,
    /// The request.
    pub config: SandboxConfig,
    /// The address that is reserved for it; none in the machine's network.
    pub ip: Option<Ipv4Addr>,
    /// First of the machine's users and groups that are its own; none where it has the machine's.
    #[serde(default)]
    pub users: Option<u32>,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// Boot of the machine that it belongs to.
    pub boot_id: String,
    /// Set before anything of it is stopped.
    pub stopping: bool,
    /// Set when shim, network and address are gone.
    pub stopped: bool,
}

/// What is known of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Unique on this machine, 64 hexadecimal digits.
    pub id: String,
    /// Its sandbox.
    pub sandbox: String,
    /// The request.
    pub config: ContainerConfig,
    /// Config digest of the image.
    pub image_id: String,
    /// User, primary group, further groups of the first process.
    pub user: (u32, u32, Vec<u32>),
    /// Signal number that stops it.
    pub stop_signal: i32,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// When its process was started.
    pub started_at: Option<SystemTime>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Set when starting failed.
    #[serde(default)]
    pub failure: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed something in it for want of memory.
    pub oom: bool,
    /// When.
    pub finished_at: SystemTime,
    /// Nobody saw how: the shim was gone. The code is then 137.
    #[serde(default)]
    pub lost: bool,
}

/// Directory of a sandbox.
pub fn sandbox_dir(root: &Path, id: &str) -> PathBuf {
    root.join("sandboxes").join(id)
}

/// Directory of a container.
pub fn container_dir(root: &Path, sandbox: &str, id: &str) -> PathBuf {
    sandbox_dir(root, sandbox).join("containers").join(id)
}

/// Writes `value` to `path`, whole or not at all.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let text = serde_json::to_vec(value).with_context(|| format!("encode {}", path.display()))?;
    fs::write(&temporary, text).with_context(|| format!("write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("rename {} into place", path.display()))
}

/// Reads a record; `None` where there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| format!("decode {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// A sandbox and its containers.
pub type Recorded = (SandboxRecord, Vec<ContainerRecord>);

/// All records below `root`: sandboxes, each with its containers. Directories without a readable record (a crash between
/// the two steps of making one) come in the second list.
pub fn load(root: &Path) -> Result<(Vec<Recorded>, Vec<PathBuf>)> {
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    for dir in directories(&root.join("sandboxes"))? {
        let Ok(Some(sandbox)) = read::<SandboxRecord>(&dir.join("sandbox.json")) else {
            broken.push(dir);
            continue;
        };
        let mut containers = Vec::new();
        for dir in directories(&dir.join("containers"))? {
            match read::<ContainerRecord>(&dir.join("container.json")) {
                Ok(Some(container)) => containers.push(container),
                _ => broken.push(dir),
            }
        }
        containers.sort_by_key(|container| container.created_at);
        found.push((sandbox, containers));
    }
    found.sort_by_key(|(sandbox, _)| sandbox.created_at);
    Ok((found, broken))
}

fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read directory {}", path.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("read directory {}", path.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The kernel's name for this boot of the machine.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).with_context(|| format!("read {path}"))?.trim().to_owned())
}

/// A new id: 64 hexadecimal digits.
pub fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    let mut file = fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    io::Read::read_exact(&mut file, &mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_half_made_ones_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let sandbox = SandboxRecord {
            id: new_id().unwrap(),
            config: SandboxConfig { name: "web".into(), ..Default::default() },
            users: None,
            ip: Some(Ipv4Addr::new(10, 42, 0, 5)),
            created_at: SystemTime::now(),
            boot_id: boot_id().unwrap(),
            stopping: false,
            stopped: false,
        };
        let path = sandbox_dir(root, &sandbox.id);
        fs::create_dir_all(&path).unwrap();
        write(&path.join("sandbox.json"), &sandbox).unwrap();
        fs::create_dir_all(sandbox_dir(root, "half")).unwrap();
        fs::create_dir_all(container_dir(root, &sandbox.id, "half")).unwrap();

        let (found, broken) = load(root).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0.ip, sandbox.ip);
        assert_eq!(found[0].0.config.name, "web");
        assert_eq!(broken.len(), 2);
    }

    #[test]
    fn ids_differ() {
        let (one, two) = (new_id().unwrap(), new_id().unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
    }
}

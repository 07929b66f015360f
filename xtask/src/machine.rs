//! What the machine of the end-to-end tests boots: Debian's kernel for virtual machines, and a Debian root with systemd.
//!
//! ```text
//! linux-image-cloud-amd64 ─► apt-get download ─► vmlinuz, and the modules that containers and networks need
//! mmdebstrap ──────────────► a tree with systemd (tier 2)
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::host;

/// What booting needs.
const PACKAGES: &[host::Package] = &[
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("busybox-static", BUSYBOX),
    ("binutils", "/usr/bin/strip"),
    ("dpkg", "/usr/bin/dpkg-deb"),
];
/// What making the root with systemd needs.
const ROOT_PACKAGES: &[host::Package] = &[
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
];
const BUSYBOX: &str = "/bin/busybox";
/// Names the newest kernel by what it depends on.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Directories and files of modules that are kept, below `kernel/`.
const MODULES: [&str; 16] = [
    "net/netfilter",
    "net/ipv4",
    "net/ipv6",
    "net/bridge",
    "net/llc",
    "net/802",
    "net/core",
    "lib",
    "crypto",
    "fs/overlayfs",
    "drivers/virtio",
    "drivers/net/vxlan",
    "drivers/net/veth.ko",
    "drivers/net/virtio_net.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/dummy.ko",
];
/// Changes with what is made of the package, so that an older folder is not taken for a new one.
const RECIPE: &str = "1";
/// The same of the root.
const ROOT_RECIPE: &str = "1";

/// The folder with `vmlinuz` and `modules/VERSION`; made once, kept in the cache.
pub fn kernel() -> Result<PathBuf> {
    host::install(PACKAGES)?;
    made("kernel", RECIPE, |work| {
        let package = newest()?;
        eprintln!("fetching {package}");
        // A mirror forgets the version that yesterday's lists name.
        if download(&package, work).is_err() {
            host::run(Command::new("apt-get").args(["--quiet", "--quiet", "update"]))?;
            download(&newest()?, work)?;
        }
        let package = find(work, |name| name.ends_with(".deb"))?;
        let tree = work.join("tree");
        host::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&tree))?;
        let vmlinuz = find(&tree.join("boot"), |name| name.starts_with("vmlinuz-"))?;
        fs::rename(vmlinuz, work.join("vmlinuz"))?;
        let all = find(&tree.join("lib/modules"), |_| true)?;
        let version = all.file_name().context("a version")?.to_owned();
        let kept = work.join("lib/modules").join(&version);
        for name in MODULES {
            let to = kept.join("kernel").join(name);
            fs::create_dir_all(to.parent().context("a module's folder")?)?;
            fs::rename(all.join("kernel").join(name), to).with_context(|| format!("{name} of {KERNEL}"))?;
        }
        for name in ["modules.order", "modules.builtin"] {
            fs::rename(all.join(name), kept.join(name))?;
        }
        host::run(Command::new(BUSYBOX).arg("depmod").arg("-b").arg(work).arg(&version))?;
        fs::rename(work.join("lib/modules"), work.join("modules"))?;
        fs::remove_dir(work.join("lib"))?;
        fs::remove_dir_all(tree)?;
        Ok(fs::remove_file(package)?)
    })
}

/// The folder with a Debian root whose init is systemd; made once, kept in the cache.
pub fn systemd() -> Result<PathBuf> {
    host::install(ROOT_PACKAGES)?;
    let made = made("systemd", ROOT_RECIPE, |work| {
        eprintln!("making a Debian root with systemd");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]);
        command.arg("--include=systemd,systemd-sysv,kmod,iproute2,procps,busybox-static");
        for path in ["doc", "info", "locale", "man", "zoneinfo"] {
            command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
        }
        command.arg("--customize-hook=rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/* \"$1\"/etc/resolv.conf");
        // Nobody looks at a screen, and a test has no use for what waits for the network or the hour.
        command.arg("--customize-hook=rm -f \"$1\"/etc/systemd/system/getty.target.wants/* \"$1\"/etc/systemd/system/timers.target.wants/*");
        host::run(command.arg("bookworm").arg(work.join("root")))
    })?;
    Ok(made.join("root"))
}

/// The package that the newest kernel is in.
fn newest() -> Result<String> {
    let text = host::output(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let depends = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    Ok(format!("linux-image-{}", depends.with_context(|| format!("{KERNEL} is not among this machine's packages"))?))
}

fn download(package: &str, to: &Path) -> Result<()> {
    // Its own user may not write here.
    host::run(Command::new("apt-get").current_dir(to).args([
        "--quiet",
        "--quiet",
        "-o",
        "APT::Sandbox::User=root",
        "download",
        package,
    ]))
}

/// The one file in a folder whose name is wanted.
fn find(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let names = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let named = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
    names.into_iter().find(named).with_context(|| format!("{} lacks what was looked for", dir.display()))
}

/// A folder in the cache that `make` fills, unless it is there.
fn made(name: &str, recipe: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = host::cache()?.join("machine");
    let path = cache.join(format!("{name}-{recipe}"));
    if path.exists() {
        return Ok(path);
    }
    let work = cache.join(format!(".{name}-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let done = make(&work).and_then(|()| Ok(fs::rename(&work, &path)?));
    if done.is_err() {
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    }
    done.with_context(|| format!("make the {name} of the test machine"))?;
    Ok(path)
}

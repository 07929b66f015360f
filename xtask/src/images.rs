//! Images for tests and for the sample application, made from Debian's packages: no container registry is needed.
//!
//! ```text
//! mmdebstrap ─────────────► debian:bookworm-slim ──┐
//! busybox-static, bash-static ─► busybox           ├─ buildah ─► inventory, orders, storefront
//! examples/shop/*/Dockerfile ──────────────────────┘
//! ```
//!
//! Each is an archive as `docker save` writes it, in `$MADANG_CACHE` or `~/.cache/madang`, named after a hash of what it
//! is made from. Builds reach the network as this machine does: with its certificate authorities, which are shown to
//! build steps in a directory that every image has and that stays empty, and with its proxies. Neither gets into the
//! image.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::host;

/// What making the base image takes.
const BASE_PACKAGES: &[host::Package] = &[
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
];
/// What making the small image takes.
const BUSYBOX_PACKAGES: &[host::Package] = &[("busybox-static", BUSYBOX_FILE), ("bash-static", BASH_FILE)];
/// What building from a Dockerfile takes; the second package says whom to trust, without which buildah refuses to work.
const BUILD_PACKAGES: &[host::Package] =
    &[("buildah", "/usr/bin/buildah"), ("golang-github-containers-common", "/etc/containers/policy.json")];
const BUSYBOX_FILE: &str = "/bin/busybox";
const BASH_FILE: &str = "/bin/bash-static";

/// The base image that Dockerfiles name `debian:bookworm-slim`.
pub const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// A small image for tests: every applet of busybox, and bash as its shell.
pub const BUSYBOX: &str = "docker.io/library/busybox:latest";
/// The same with docker's client.
const DOCKER: &str = "docker.io/library/docker:cli";
/// The images of the sample application: name, directory below `examples/shop`, build arguments.
pub const SHOP: [(&str, &str, &[&str]); 4] = [
    ("shop.example/inventory:1", "inventory", &[]),
    ("shop.example/orders:1", "orders", &[]),
    ("shop.example/storefront:1", "storefront", &["VERSION=1"]),
    ("shop.example/storefront:2", "storefront", &["VERSION=2"]),
];

/// What Debian's slim images leave out.
const LEFT_OUT: [&str; 8] = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/linda/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/groff/*",
    "/usr/share/bug/*",
];
/// Changes with the recipe of [`debian`], so that an older archive is not taken for a new one.
const BASE_RECIPE: &str = "2";
/// Changes with the recipe of [`busybox`].
const BUSYBOX_RECIPE: &str = "1";
/// Changes with the way the sample application is built.
const SHOP_RECIPE: &str = "1";

/// Where build steps see the host's certificate authorities: a directory that is there, and empty, in every image.
const TRUST_DIR: &str = "/mnt";
/// Variables by which programs are told about them.
const TRUST_VARIABLES: [&str; 6] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"];
/// Where distributions keep their bundle of certificate authorities.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// An image in the cache.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Its full name.
    pub name: String,
    /// As `docker save` writes it.
    pub path: PathBuf,
}

/// All images: the base, busybox, and the sample application.
pub fn all() -> Result<Vec<Archive>> {
    let mut archives = vec![debian()?, busybox()?];
    archives.extend(shop()?);
    Ok(archives)
}

/// Debian 12 without documentation, as `debian:bookworm-slim`.
pub fn debian() -> Result<Archive> {
    let recipe = [BASE, BASE_RECIPE, &LEFT_OUT.join(" "), &architecture()?];
    finished(BASE, "debian-bookworm-slim", &key(recipe), |work| {
        eprintln!("making {BASE} from Debian's packages");
        let rootfs = work.join("rootfs.tar");
        host::install(BASE_PACKAGES)?;
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "--format=tar"]);
        // Without root, user namespaces do.
        command.arg(if host::is_root() { "--mode=root" } else { "--mode=unshare" });
        for path in LEFT_OUT {
            command.arg(format!("--dpkgopt=path-exclude={path}"));
        }
        command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
        command.arg("--aptopt=Acquire::Languages \"none\"");
        command.arg("--aptopt=Apt::AutoRemove::SuggestsImportant \"false\"");
        // The system has `/bin` as a link from the start. The package that could make it one is taken all the same, and
        // brings the whole of perl: out with it.
        command.arg("--include=usr-is-merged");
        for hook in [
            "chroot \"$1\" dpkg --purge usrmerge $(chroot \"$1\" dpkg-query --show --showformat='${Package} ' \
                perl 'perl-modules-*' 'libperl5*' 'libgdbm*' libfile-find-rule-perl libnumber-compare-perl \
                libtext-glob-perl)",
            // Container builds run `apt-get` many times: what it fetched and worked out is not kept in a layer.
            "echo 'DPkg::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb || true\"; }; \
                Dir::Cache::pkgcache \"\"; Dir::Cache::srcpkgcache \"\"; Acquire::GzipIndexes \"true\";' \
                > \"$1/etc/apt/apt.conf.d/docker-clean\"",
            // What this machine is called and whom it asks is nobody's business.
            "rm -f \"$1/etc/hostname\" \"$1/etc/resolv.conf\"; touch \"$1/etc/hosts\" \"$1/etc/resolv.conf\"",
            "rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/* \"$1\"/var/log/*.log \"$1\"/var/log/apt",
        ] {
            command.arg(format!("--customize-hook={hook}"));
        }
        run(command.arg("bookworm").arg(&rootfs))?;
        let config = json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["bash"],
        });
        docker_archive(work, BASE, config, &rootfs)
    })
}

/// Busybox with all its applets, and bash as `sh`: busybox's own drops variables whose names are no identifiers.
pub fn busybox() -> Result<Archive> {
    host::install(BUSYBOX_PACKAGES)?;
    let (busybox, bash) = (Path::new(BUSYBOX_FILE), Path::new(BASH_FILE));
    let recipe = [BUSYBOX, BUSYBOX_RECIPE, &file_hash(busybox)?, &file_hash(bash)?, &architecture()?];
    finished(BUSYBOX, "busybox", &key(recipe), |work| small(work, BUSYBOX, None))
}

/// The same with docker's client, for who builds through a socket.
pub fn docker(client: &Path) -> Result<Archive> {
    host::install(BUSYBOX_PACKAGES)?;
    let (busybox, bash) = (Path::new(BUSYBOX_FILE), Path::new(BASH_FILE));
    let own = [file_hash(busybox)?, file_hash(bash)?, file_hash(client)?];
    let recipe = [DOCKER, BUSYBOX_RECIPE, &own.join(" "), &architecture()?];
    finished(DOCKER, "docker-cli", &key(recipe), |work| small(work, DOCKER, Some(client)))
}

/// An image of busybox and bash, and a program more.
fn small(work: &Path, name: &str, more: Option<&Path>) -> Result<PathBuf> {
    let (busybox, bash) = (Path::new(BUSYBOX_FILE), Path::new(BASH_FILE));
    let root = work.join("root");
    for directory in ["bin", "etc", "home", "root", "tmp", "usr/bin", "usr/sbin", "var/spool", "var/www"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777))?;
    std::fs::set_permissions(root.join("root"), PermissionsExt::from_mode(0o700))?;
    symlink("bin", root.join("sbin"))?;
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    std::fs::copy(bash, root.join("bin/bash"))?;
    symlink("bash", root.join("bin/sh"))?;
    if let Some(program) = more {
        let to = root.join("bin").join(program.file_name().context("a program has a name")?);
        std::fs::copy(program, to)?;
    }
    for applet in output(Command::new(busybox).arg("--list"))?.lines() {
        let path = root.join("bin").join(applet);
        if path.symlink_metadata().is_err() {
            symlink("busybox", path)?;
        }
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
         www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    )?;
    std::fs::write(
        root.join("etc/group"),
        "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    )?;
    let rootfs = work.join("rootfs.tar");
    tar(&root, &rootfs)?;
    let config = json!({"Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"], "Cmd": ["sh"]});
    docker_archive(work, name, config, &rootfs)
}

/// The sample application's images, built with buildah from their sources.
pub fn shop() -> Result<Vec<Archive>> {
    let base = debian()?;
    let base_hash = base.path.file_name().and_then(OsStr::to_str).context("name of the base image")?.to_owned();
    let mut archives = Vec::new();
    for (name, directory, arguments) in SHOP {
        let context = host::root().join("examples/shop").join(directory);
        let recipe = [name, SHOP_RECIPE, &base_hash, &arguments.join(" "), &tree_hash(&context)?];
        let file = name.replace(['/', ':'], "-");
        archives.push(finished(name, &file, &key(recipe), |work| {
            eprintln!("building {name}");
            build(work, name, &context, arguments, &base)
        })?);
    }
    Ok(archives)
}

/// Builds a Dockerfile on top of `base`, and returns the archive.
fn build(work: &Path, name: &str, context: &Path, arguments: &[&str], base: &Archive) -> Result<PathBuf> {
    host::install(BUILD_PACKAGES)?;
    let storage = Storage::find()?;
    // Fails where there is none.
    let present = output(storage.buildah().args(["images", "--quiet", BASE])).is_ok();
    let stamp = storage.0.join("base");
    if !present || std::fs::read_to_string(&stamp).unwrap_or_default() != base.path.to_string_lossy() {
        run(storage.buildah().arg("pull").arg("--quiet").arg(format!("docker-archive:{}", base.path.display())))?;
        std::fs::write(&stamp, base.path.to_string_lossy().as_bytes())?;
    }
    let mut command = storage.buildah();
    // Steps run in a chroot on the host's network, so that no container runtime is needed; what was built before is
    // taken from the storage.
    command.args(["bud", "--isolation", "chroot", "--pull=never", "--layers", "--tag", name]);
    for argument in arguments {
        command.args(["--build-arg", argument]);
    }
    if let Some(trust) = trust(&storage.0)? {
        command.args(["--volume", &format!("{}:{TRUST_DIR}:ro", trust.display())]);
        for variable in TRUST_VARIABLES {
            command.args(["--env", &format!("{variable}={TRUST_DIR}/ca.crt")]);
        }
    }
    run(command.arg(context))?;
    let built = work.join("built.tar");
    run(storage.buildah().args(["push", "--quiet", name]).arg(format!("docker-archive:{}:{name}", built.display())))?;
    without_trust(work, name, &built)
}

/// Where buildah keeps images and finished steps.
struct Storage(PathBuf, &'static str);

impl Storage {
    /// With overlay mounts where the file system allows, else with copies.
    fn find() -> Result<Self> {
        let cache = host::cache()?;
        for driver in ["overlay", "vfs"] {
            let storage = Self(cache.join(format!("buildah-{driver}")), driver);
            std::fs::create_dir_all(&storage.0)?;
            let works = storage.buildah().arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
            if works {
                return Ok(storage);
            }
        }
        bail!("buildah works neither with the storage driver overlay nor with vfs: try `buildah info`")
    }

    fn buildah(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--storage-driver").arg(self.1);
        command.arg("--root").arg(self.0.join("root")).arg("--runroot").arg(self.0.join("run"));
        // Settings of this machine's own storage do not apply here.
        command.env_remove("STORAGE_OPTS").env_remove("CONTAINERS_STORAGE_CONF");
        command
    }
}

/// A directory with a copy of the host's certificate authorities, for build steps.
fn trust(storage: &Path) -> Result<Option<PathBuf>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = named.into_iter().chain(BUNDLES.iter().map(PathBuf::from)).find(|bundle| bundle.is_file());
    let Some(bundle) = bundle else { return Ok(None) };
    let directory = storage.join("trust");
    std::fs::create_dir_all(&directory)?;
    let copied = directory.join("ca.crt");
    let content = std::fs::read(&bundle).with_context(|| format!("read {}", bundle.display()))?;
    if std::fs::read(&copied).ok().as_ref() != Some(&content) {
        std::fs::write(&copied, content)?;
    }
    std::fs::set_permissions(&copied, PermissionsExt::from_mode(0o644))?;
    Ok(Some(directory))
}

/// The archive without the variables that were set for build steps: buildah has no way to set them for those only.
fn without_trust(work: &Path, name: &str, built: &Path) -> Result<PathBuf> {
    let unpacked = work.join("unpacked");
    std::fs::create_dir_all(&unpacked)?;
    run(Command::new("tar").arg("-C").arg(&unpacked).arg("-xf").arg(built))?;
    std::fs::remove_file(built)?;
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(unpacked.join("manifest.json"))?)?;
    let old = manifest[0]["Config"].as_str().context("an archive without a configuration")?.to_owned();
    let mut config: Value = serde_json::from_slice(&std::fs::read(unpacked.join(&old))?)?;
    if let Some(Value::Array(variables)) = config.pointer_mut("/config/Env") {
        variables.retain(|variable| {
            let name = variable.as_str().unwrap_or_default().split('=').next().unwrap_or_default();
            !TRUST_VARIABLES.contains(&name)
        });
    }
    let config = serde_json::to_vec(&config)?;
    let file = format!("{}.json", hex(&Sha256::digest(&config)));
    std::fs::remove_file(unpacked.join(&old))?;
    std::fs::write(unpacked.join(&file), config)?;
    let layers = manifest[0]["Layers"].take();
    let manifest = json!([{"Config": file, "RepoTags": [name], "Layers": layers}]);
    write_anew(&unpacked.join("manifest.json"), &serde_json::to_vec(&manifest)?)?;
    let archive = work.join("archive.tar");
    // Only what the manifest names: buildah adds files for readers of ten years ago.
    let mut command = Command::new("tar");
    command.arg("-C").arg(&unpacked).args(["--owner=0", "--group=0", "--mtime=@0", "-cf"]).arg(&archive);
    command.args(["manifest.json", &file]);
    let names = layers.as_array().context("an archive without layers")?;
    let mut seen = std::collections::HashSet::new();
    command.args(names.iter().filter_map(Value::as_str).filter(|layer| seen.insert(*layer)));
    run(&mut command)?;
    Ok(archive)
}

/// Files in archives are often read-only.
fn write_anew(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::remove_file(path)?;
    Ok(std::fs::write(path, content)?)
}

/// An image of one layer, as `docker save` writes it.
fn docker_archive(work: &Path, name: &str, config: Value, rootfs: &Path) -> Result<PathBuf> {
    let parts = work.join("parts");
    std::fs::create_dir_all(&parts)?;
    let layer = file_hash(rootfs)?;
    std::fs::rename(rootfs, parts.join(format!("{layer}.tar")))?;
    let config = serde_json::to_vec(&json!({
        "architecture": architecture()?,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images"}],
    }))?;
    let file = format!("{}.json", hex(&Sha256::digest(&config)));
    std::fs::write(parts.join(&file), config)?;
    let manifest = json!([{"Config": file, "RepoTags": [name], "Layers": [format!("{layer}.tar")]}]);
    std::fs::write(parts.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    let archive = work.join("archive.tar");
    tar(&parts, &archive)?;
    Ok(archive)
}

/// Packs a directory, the same way each time.
fn tar(directory: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.arg("-C").arg(directory).args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]);
    run(command.arg("-cf").arg(archive).arg("."))
}

/// The archive in the cache, made by `make` in a directory of its own if it is not there. Older ones of the same image
/// are removed.
fn finished(name: &str, file: &str, key: &str, make: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<Archive> {
    let cache = host::cache()?;
    let path = cache.join(format!("{file}-{key}.tar"));
    if !path.exists() {
        let work = cache.join(format!(".{file}-{}", std::process::id()));
        std::fs::create_dir_all(&work)?;
        let made = make(&work)
            .and_then(|archive| Ok(std::fs::rename(&archive, &path)?))
            .with_context(|| format!("make image {name}"));
        std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        made?;
        for entry in std::fs::read_dir(&cache)?.flatten() {
            let other = entry.file_name().to_string_lossy().into_owned();
            let same = other.strip_prefix(file).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".tar"));
            if same.is_some_and(|other| other.len() == key.len() && other != key) {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(Archive { name: name.to_owned(), path })
}

fn key<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize())[..16].to_owned()
}

fn file_hash(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Names, modes and contents of all files below a directory.
fn tree_hash(directory: &Path) -> Result<String> {
    let mut parts = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| format!("read {}", next.display()))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                left.push(entry.path());
                continue;
            }
            let name = entry.path().strip_prefix(directory)?.to_string_lossy().into_owned();
            parts.push(format!("{name} {:o} {}", metadata.permissions().mode() & 0o111, file_hash(&entry.path())?));
        }
    }
    parts.sort();
    Ok(key(parts.iter().map(String::as_str)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Debian's name of this machine's architecture, which is Go's as well where images are concerned.
fn architecture() -> Result<String> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no images are made for {other}"),
    }
    .to_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let ran = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let ran = ran.with_context(|| format!("run {shown}"))?;
    if !ran.status.success() {
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        let lines: Vec<_> = out.lines().chain(err.lines()).collect();
        let last = &lines[lines.len().saturating_sub(40)..];
        bail!("{shown}: {}\n{}", ran.status, last.join("\n"));
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let ran = command.stdin(Stdio::null()).stderr(Stdio::null()).output().with_context(|| format!("run {shown}"))?;
    match ran.status.success() {
        true => Ok(String::from_utf8(ran.stdout)?),
        false => bail!("{shown}: {}", ran.status),
    }
}

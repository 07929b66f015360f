//! Stand-ins for the images that upstream's conformance tests run, made from Debian's packages and Go modules.
//!
//! They bear upstream's names and hold what the tests look for, no more. Everything is made once and kept in the cache.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{go, host};

const E2E: &str = "registry.k8s.io/e2e-test-images";

/// What making them needs.
pub const PACKAGES: &[host::Package] = &[
    ("busybox-static", "/bin/busybox"),
    ("bash-static", "/bin/bash-static"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("gcc", "/usr/bin/gcc"),
    ("libc6-dev", "/usr/include/stdio.h"),
];

/// Programs that the tests call in a Debian image.
const DEBIAN: &str = "base-files,bash,dash,coreutils,libc-bin,grep,sed,mawk,findutils,hostname,util-linux,mount,procps,\
    iproute2,iputils-ping,bind9-dnsutils,bind9-host,curl,netcat-openbsd,iperf,socat,ca-certificates,nginx-light";

/// The name of the smallest image: one program that waits.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.2";

/// Makes all images that are missing; returns their archives.
pub fn archives() -> Result<Vec<PathBuf>> {
    Maker::open()?.all()
}

/// Makes the smallest image, [`PAUSE`]; returns its archive.
pub fn pause() -> Result<PathBuf> {
    Maker::open()?.pause_image()
}

/// Makes the images of Gateway API's suite: one program under the names that the suite asks for; returns their archives.
pub fn gateway() -> Result<Vec<PathBuf>> {
    let maker = Maker::open()?;
    let echo = go::gateway("echo-basic", "sigs.k8s.io/gateway-api/conformance/echo-basic", &["build"])?;
    let echo = maker.program_layer("echo-basic", &echo, "/echo-basic", 0o755)?;
    let config = json!({"User": "65532:65532", "Entrypoint": ["/echo-basic"]});
    let name = |version: &str| format!("registry.k8s.io/gateway-api/echo-basic:{version}");
    let versions = ["v1.5.1", "v1.6.0-dev.2", "v1.6.0-dev.3"];
    let mut archives = vec![maker.pause_image()?];
    for version in versions {
        archives.push(maker.image(&name(version), config.clone(), &[&echo])?);
    }
    // Asked by tests of UDPRoute alone, which are not run; the others wait until its pod runs.
    let pause = maker.program_layer("pause", &maker.pause()?, "/pause", 0o755)?;
    archives.push(maker.image(
        "registry.k8s.io/coredns/coredns:v1.12.2",
        json!({"Entrypoint": ["/pause"]}),
        &[&pause],
    )?);
    Ok(archives)
}

struct Maker {
    dir: PathBuf,
}

impl Maker {
    fn open() -> Result<Self> {
        host::install(PACKAGES)?;
        let dir = host::cache()?.join("stand-ins");
        for name in ["roots", "layers", "images"] {
            fs::create_dir_all(dir.join(name))?;
        }
        Ok(Self { dir })
    }

    fn pause_image(&self) -> Result<PathBuf> {
        let layer = self.program_layer("pause", &self.pause()?, "/pause", 0o755)?;
        self.image(PAUSE, json!({"User": "65535:65535", "Entrypoint": ["/pause"]}), &[&layer])
    }

    fn all(&self) -> Result<Vec<PathBuf>> {
        let pause = self.program_layer("pause", &self.pause()?, "/pause", 0o755)?;
        let busybox = self.busybox()?;
        let debian = self.debian()?;
        let pause_image = self.pause_image()?;
        let agnhost = self.agnhost(&pause)?;
        let (kitten, nautilus) = (self.pictures("kitten")?, self.pictures("nautilus")?);
        let nnp = go::image_program("nnp", "k8s.io/kubernetes/test/images/nonewprivs")?;
        let nnp = self.program_layer("nnp", &nnp, "/usr/local/bin/nnp", 0o6755)?;
        let etcd = self.program_layer("etcd", &go::etcd()?, "/usr/local/bin/etcd", 0o755)?;
        let sample = go::image_program("sample-apiserver", "k8s.io/sample-apiserver")?;
        let sample = self.program_layer("sample-apiserver", &sample, "/sample-apiserver", 0o755)?;
        let ports: Value =
            ["80", "8080", "8081", "9376", "5000"].iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
        let host = json!({"Entrypoint": ["/agnhost"], "Cmd": ["pause"], "ExposedPorts": ports});
        let web = json!({"Entrypoint": ["/agnhost"], "Cmd": ["test-webserver"]});
        let nginx =
            json!({"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"});
        let shell = json!({"Cmd": ["sh"]});
        let e2e = |name: &str| format!("{E2E}/{name}");
        Ok(vec![
            pause_image,
            self.image(&e2e("busybox:1.37.0-2"), shell.clone(), &[&busybox])?,
            self.image(&e2e("agnhost:2.66.1"), host.clone(), &[&debian, &agnhost])?,
            self.image(&e2e("agnhost:2.55"), host, &[&debian, &agnhost])?,
            self.image(&e2e("kitten:1.8"), web.clone(), &[&debian, &agnhost, &kitten])?,
            self.image(&e2e("nautilus:1.8"), web, &[&debian, &agnhost, &nautilus])?,
            self.image(&e2e("glibc-dns-testing:2.1.1"), json!({"Cmd": ["bash"]}), &[&debian])?,
            self.image(&e2e("nginx:1.27.0-2"), nginx.clone(), &[&debian])?,
            self.image(&e2e("nginx:1.28.0-2"), nginx, &[&debian])?,
            self.image(&e2e("nonewprivs:1.4"), json!({"Cmd": ["nnp"]}), &[&busybox, &nnp])?,
            self.image(&e2e("nonroot:1.5"), json!({"User": "1234", "Cmd": ["sh"]}), &[&busybox])?,
            self.image("registry.k8s.io/etcd:3.7.0-0", json!({"Cmd": ["/usr/local/bin/etcd"]}), &[&busybox, &etcd])?,
            self.image(
                &e2e("sample-apiserver:1.29.2"),
                json!({"Entrypoint": ["/sample-apiserver"]}),
                &[&busybox, &sample],
            )?,
        ])
    }

    /// An empty directory for a layer's contents.
    fn root(&self, name: &str) -> Result<PathBuf> {
        let root = self.dir.join("roots").join(name);
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
        }
        fs::create_dir_all(&root)?;
        Ok(root)
    }

    /// The layer of that name, made by `fill` if it is missing.
    fn layer(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let layer = self.dir.join("layers").join(format!("{name}.tar"));
        if layer.exists() {
            return Ok(layer);
        }
        let root = self.root(name)?;
        fill(&root).with_context(|| format!("make layer {name}"))?;
        let part = layer.with_extension("part");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--sort=name", "--mtime=@0", "--numeric-owner", "--xattrs", "--file"]).arg(&part);
        host::run(tar.arg("--directory").arg(&root).arg("."))?;
        fs::rename(part, &layer)?;
        fs::remove_dir_all(root)?;
        Ok(layer)
    }

    fn program_layer(&self, name: &str, program: &Path, target: &str, mode: u32) -> Result<PathBuf> {
        self.layer(name, |root| {
            let path = root.join(target.trim_start_matches('/'));
            fs::create_dir_all(path.parent().context("a path below the root")?)?;
            fs::copy(program, &path)?;
            Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
        })
    }

    fn pause(&self) -> Result<PathBuf> {
        let built = self.dir.join("pause");
        if !built.exists() {
            let source = go::kubernetes_sources()?.join("build/pause/linux/pause.c");
            host::run(Command::new("gcc").args(["-Os", "-static", "-DVERSION=3.10.2", "-o"]).arg(&built).arg(source))?;
        }
        Ok(built)
    }

    fn busybox(&self) -> Result<PathBuf> {
        self.layer("busybox", |root| {
            users(root)?;
            applets(root, "bin")?;
            // Debian's busybox sh drops variables whose names are no identifiers, which tests read.
            fs::remove_file(root.join("bin/sh"))?;
            fs::copy("/bin/bash-static", root.join("bin/sh"))?;
            Ok(fs::write(root.join("etc/os-release"), "NAME=\"busybox from Debian\"\n")?)
        })
    }

    fn debian(&self) -> Result<PathBuf> {
        self.layer("debian", |root| {
            fs::remove_dir(root)?;
            let mut make = Command::new("mmdebstrap");
            make.args([
                "--quiet",
                "--mode=root",
                "--variant=extract",
                "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            ]);
            make.arg(format!("--include={DEBIAN}")).arg("bookworm").arg(root).env("TMPDIR", &self.dir);
            host::run(&mut make)?;
            for waste in [
                "usr/share/doc",
                "usr/share/man",
                "usr/share/locale",
                "usr/share/info",
                "usr/share/perl",
                "usr/share/zoneinfo",
                "var/lib/apt",
                "var/cache/apt",
                "var/lib/dpkg",
                "dev",
            ] {
                let path = root.join(waste);
                if path.exists() {
                    fs::remove_dir_all(path)?;
                }
            }
            fs::create_dir(root.join("dev"))?;
            users(root)?;
            for (link, target) in [("usr/bin/sh", "dash"), ("usr/bin/nc", "nc.openbsd"), ("usr/bin/awk", "mawk")] {
                let _ = fs::remove_file(root.join(link));
                symlink(target, root.join(link))?;
            }
            applets(root, "usr/bin")?;
            for dir in ["usr/local/bin", "usr/share/nginx/html", "var/lib/nginx"] {
                fs::create_dir_all(root.join(dir))?;
            }
            symlink("/usr/bin/iperf", root.join("usr/local/bin/iperf"))?;
            fs::write(root.join("usr/share/nginx/html/index.html"), "<title>Welcome to nginx!</title>\n")?;
            Ok(fs::write(
                root.join("etc/nginx/nginx.conf"),
                "user root; worker_processes 1; pid /tmp/nginx.pid; error_log /dev/stderr notice;\n\
                 events { worker_connections 256; }\n\
                 http { include mime.types; access_log /dev/stdout;\n\
                 server { listen 80; listen [::]:80; root /usr/share/nginx/html; index index.html; } }\n",
            )?)
        })
    }

    fn agnhost(&self, pause: &Path) -> Result<PathBuf> {
        self.layer("agnhost", |root| {
            let source = go::kubernetes_sources()?.join("test/images/agnhost");
            fs::create_dir_all(root.join("uploads"))?;
            fs::copy(go::image_program("agnhost", "k8s.io/kubernetes/test/images/agnhost")?, root.join("agnhost"))?;
            symlink("agnhost", root.join("agnhost-2"))?;
            for name in ["localhost.crt", "localhost.key"] {
                fs::copy(source.join("porter").join(name), root.join(name))?;
                fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o644))?;
            }
            fake_registry(&root.join("var/registry/pause"), "testing", pause)
        })
    }

    fn pictures(&self, name: &str) -> Result<PathBuf> {
        self.layer(name, |root| {
            let source = go::kubernetes_sources()?.join("test/images").join(name).join("html");
            for entry in fs::read_dir(source)? {
                let entry = entry?;
                let target = root.join(entry.file_name());
                fs::copy(entry.path(), &target)?;
                fs::set_permissions(target, fs::Permissions::from_mode(0o644))?;
            }
            fs::create_dir(root.join("etc"))?;
            Ok(fs::write(root.join("etc/os-release"), "NAME=\"stands in for Alpine Linux\"\n")?)
        })
    }

    /// An archive as `docker save` writes it.
    fn image(&self, reference: &str, config: Value, layers: &[&Path]) -> Result<PathBuf> {
        let name = reference.rsplit('/').next().unwrap_or(reference).replace(':', "_");
        let archive = self.dir.join("images").join(format!("{name}.tar"));
        if archive.exists() {
            return Ok(archive);
        }
        let root = self.root(&name)?;
        let (mut files, mut digests) = (Vec::new(), Vec::new());
        for layer in layers {
            let digest = sha256(layer)?;
            fs::hard_link(layer, root.join(format!("{digest}.tar")))?;
            files.push(format!("{digest}.tar"));
            digests.push(format!("sha256:{digest}"));
        }
        let config = image_config(reference, config, &digests);
        fs::write(root.join("config.json"), config.to_string())?;
        let manifest = json!([{"Config": "config.json", "RepoTags": [reference], "Layers": files}]);
        fs::write(root.join("manifest.json"), manifest.to_string())?;
        let part = archive.with_extension("part");
        let mut tar = Command::new("tar");
        host::run(
            tar.args(["--create", "--hard-dereference", "--file"]).arg(&part).arg("--directory").arg(&root).arg("."),
        )?;
        fs::rename(part, &archive)?;
        fs::remove_dir_all(root)?;
        Ok(archive)
    }
}

fn image_config(reference: &str, mut config: Value, digests: &[String]) -> Value {
    config["Env"] = json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    // Two versions with the same contents still differ in digest, as tests expect.
    config["Labels"] = json!({"stands.in.for": reference});
    json!({"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z", "config": config,
        "rootfs": {"type": "layers", "diff_ids": digests}})
}

fn sha256(file: &Path) -> Result<String> {
    let text = host::output(Command::new("sha256sum").arg(file))?;
    match text.split_whitespace().next() {
        Some(digest) => Ok(digest.to_owned()),
        None => bail!("sha256sum {}: {text:?}", file.display()),
    }
}

/// Users and groups that tests name.
fn users(root: &Path) -> Result<()> {
    for dir in ["etc", "tmp", "root", "home", "proc", "sys", "dev", "run", "var/log"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
         www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n\
         user-defined-in-image:x:1000:1000::/home:/bin/sh\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\n\
         group-defined-in-image:x:50000:user-defined-in-image\n",
    )?;
    Ok(fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?)
}

/// busybox in `dir`, and a link for each of its applets that the root lacks.
fn applets(root: &Path, dir: &str) -> Result<()> {
    let bin = root.join(dir);
    fs::create_dir_all(&bin)?;
    fs::copy("/bin/busybox", bin.join("busybox"))?;
    let there = |name: &str| {
        ["bin", "sbin", "usr/bin", "usr/sbin"].iter().any(|dir| root.join(dir).join(name).symlink_metadata().is_ok())
    };
    for applet in host::output(Command::new("/bin/busybox").arg("--list"))?.lines() {
        if !there(applet) {
            symlink("busybox", bin.join(applet))?;
        }
    }
    Ok(())
}

/// The files that agnhost's registry serves: one image of one layer.
fn fake_registry(root: &Path, tag: &str, layer: &Path) -> Result<()> {
    let put = |kind: &str, from: &Path| -> Result<(String, u64)> {
        let digest = sha256(from)?;
        let dir = root.join(kind).join("sha256").join(&digest[..2]).join(&digest);
        fs::create_dir_all(&dir)?;
        fs::copy(from, dir.join("data"))?;
        Ok((format!("sha256:{digest}"), fs::metadata(from)?.len()))
    };
    fs::create_dir_all(root)?;
    let scratch = root.join("scratch");
    let put_json = |kind: &str, value: &Value| -> Result<(String, u64)> {
        fs::write(&scratch, value.to_string())?;
        put(kind, &scratch)
    };
    let descriptor = |kind: &str, (digest, size): (String, u64)| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
    let blob = put("blobs", layer)?;
    let config = image_config(
        "pause:testing",
        json!({"User": "65535:65535", "Entrypoint": ["/pause"]}),
        std::slice::from_ref(&blob.0),
    );
    let config = put_json("blobs", &config)?;
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config), "layers": [descriptor("layer.v1.tar", blob)]});
    let mut listed = descriptor("manifest.v1+json", put_json("manifests", &manifest)?);
    listed["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [listed]});
    let (digest, _) = put_json("manifests", &index)?;
    fs::remove_file(&scratch)?;
    Ok(fs::write(root.join("manifests").join(tag), format!("{digest}\n"))?)
}

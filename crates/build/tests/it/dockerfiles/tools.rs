//! The two that build, the base that they start from, and a web server for `ADD`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output as Said},
    sync::{Arc, Mutex},
};

use build::{
    client::Given,
    request::{ArchiveForm, Compression, Context, File, NetworkMode, Options, Output, Realm, Request, Sink},
};

use super::{
    case::Case,
    made::{self, Made},
};
use crate::place::Place;

const BASE: &str = "test.madang.dev/base:1";
const CASE_BASE: &str = "test.madang.dev/case-base:1";

/// What came of a build.
pub enum Outcome {
    Made(Box<Made>),
    Failed(String),
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // Two tests of one process may each have one.
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("madang-dockerfiles-{}-{name}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("make a folder");
        Self(path)
    }

    /// A new folder for a case.
    fn case(&self, case: &Case, web: &Web) -> PathBuf {
        let path = self.0.join("case");
        let _ = fs::remove_dir_all(&path);
        case.write(&path, &web.url_of(&path));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The builder of this crate.
pub struct Ours {
    place: Place,
    folder: Folder,
}

impl Ours {
    pub async fn new() -> Self {
        let (place, folder) = (Place::new().await, Folder::new("ours"));
        let archive = tokio::fs::File::open(base()).await.expect("the base");
        place.store.load(archive).await.expect("load the base");
        Self { place, folder }
    }

    async fn build(&self, case: &Case, folder: &Path, file: File, output: Output) -> (bool, String) {
        let mut options = Options { network: NetworkMode::None, ..Options::default() };
        let mut named = BTreeMap::new();
        let flags = case.flags(folder);
        for pair in flags.chunks(2) {
            let (name, value) = pair[1].split_once('=').unwrap_or((&pair[1], ""));
            match pair[0].as_str() {
                "--build-arg" => drop(options.arguments.insert(name.to_owned(), value.to_owned())),
                "--label" => drop(options.labels.insert(name.to_owned(), value.to_owned())),
                "--target" => options.target = Some(pair[1].clone()),
                "--build-context" => drop(named.insert(name.to_owned(), Context::Directory(value.into()))),
                "--secret" => {}
                flag => panic!("{}: {flag}", case.name),
            }
        }
        let secrets = case.secrets.iter().map(|(id, text)| (id.clone(), text.clone().into_bytes())).collect();
        let request = Request {
            options,
            context: Context::Directory(folder.join("context")),
            dockerfile: file,
            named,
            client: Arc::new(Given { secrets, ..Given::default() }),
            outputs: vec![output],
            realm: Realm::Machine,
        };
        match self.place.build(request).await {
            (Ok(_), told) => (true, told.output),
            (Err(error), told) => (false, format!("{}{}", error.show(), told.output)),
        }
    }

    /// Builds a case, and holds it against what it expects.
    pub async fn check(&self, case: &Case, web: &Web) -> Result<Outcome, String> {
        let folder = self.folder.case(case, web);
        let archive = self.folder.0.join("out.tar");
        let _ = fs::remove_file(&archive);
        let text = |path: PathBuf| fs::read_to_string(path).ok();
        let compression = Compression::default();
        if let Some(base) = &case.base {
            let file = File::Text { name: "base".to_owned(), text: base.clone(), ignore: None };
            let names = vec![CASE_BASE.parse().expect("a name")];
            let (good, text) = self.build(case, &folder, file, Output::Image { names, push: false, compression }).await;
            if !good {
                return Err(format!("its base: {text}"));
            }
        }
        let file = match case.in_context {
            true => File::InContext("Dockerfile".to_owned()),
            false => File::Text {
                name: "Dockerfile".to_owned(),
                text: text(case.file(&folder)).expect("a Dockerfile"),
                ignore: text(folder.join("Dockerfile.dockerignore")),
            },
        };
        let names = vec!["test.madang.dev/case:1".parse().expect("a name")];
        let output = Output::Archive { form: ArchiveForm::Docker, names, compression, to: Sink::File(archive.clone()) };
        let (good, text) = self.build(case, &folder, file, output).await;
        for (_, secret) in &case.secrets {
            if text.contains(secret.as_str()) {
                return Err(format!("a secret is shown: {text}"));
            }
        }
        match (&case.fails, good) {
            (Some(says), false) if text.contains(says.as_str()) => Ok(Outcome::Failed(text)),
            (Some(says), false) => Err(format!("fails without {says:?}: {text}")),
            (Some(_), true) => Err("was built, and should fail".to_owned()),
            (None, false) => Err(text),
            (None, true) => {
                let made = Made::read(&archive);
                let unmet = made::unmet(&made, &case.expect);
                if unmet.is_empty() { Ok(Outcome::Made(Box::new(made))) } else { Err(unmet.join("; ")) }
            }
        }
    }
}

/// `buildah build`, with a store of its own.
pub struct Buildah {
    folder: Folder,
}

impl Buildah {
    pub fn new() -> Self {
        let buildah = Self { folder: Folder::new("buildah") };
        let pulled = buildah.good(&["pull", "--quiet", &format!("docker-archive:{}", base().display())]);
        buildah.good(&["tag", pulled.trim(), BASE]);
        buildah
    }

    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.folder.0.join("root")).arg("--runroot").arg(self.folder.0.join("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = run(self.command().args(arguments));
        assert!(output.status.success(), "buildah {arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn one(&self, case: &Case, folder: &Path, file: &Path, tag: &str) -> Said {
        let mut command = self.command();
        command.args(["build", "--isolation", "chroot", "--pull=never", "--layers", "--format", "docker"]);
        command.args(["--identity-label=false", "--tag", tag]).args(&case.buildah_arguments).args(case.flags(folder));
        run(command.arg("--file").arg(file).arg(folder.join("context")))
    }

    /// Builds a case.
    pub fn build(&self, case: &Case, web: &Web) -> Outcome {
        let folder = self.folder.case(case, web);
        let archive = self.folder.0.join("out.tar");
        let _ = fs::remove_file(&archive);
        if case.base.is_some() {
            let output = self.one(case, &folder, &folder.join("base"), CASE_BASE);
            if !output.status.success() {
                return Outcome::Failed(said(&output));
            }
        }
        let output = self.one(case, &folder, &case.file(&folder), "localhost/case:1");
        if !output.status.success() {
            return Outcome::Failed(said(&output));
        }
        self.good(&["push", "--quiet", "localhost/case:1", &format!("docker-archive:{}:case:1", archive.display())]);
        Outcome::Made(Box::new(Made::read(&archive)))
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Its layers are mounted nowhere, but removed by it alone without complaint.
        let _ = run(self.command().args(["rmi", "--all", "--force"]));
    }
}

fn run(command: &mut Command) -> Said {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn said(output: &Said) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Files of the cases, over HTTP, for both.
pub struct Web {
    address: String,
    folders: Arc<Mutex<Vec<PathBuf>>>,
}

impl Web {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address").to_string();
        let folders: Arc<Mutex<Vec<PathBuf>>> = Arc::default();
        let served = folders.clone();
        // It ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut line = String::new();
                let mut reader = BufReader::new(&stream);
                if reader.read_line(&mut line).is_err() {
                    continue;
                }
                let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                while line.trim() != "" {
                    line.clear();
                    if reader.read_line(&mut line).is_err() {
                        break;
                    }
                }
                let (number, path) = path.split_once('/').unwrap_or((&path, ""));
                let folder = number.parse().ok().and_then(|at: usize| served.lock().expect("folders").get(at).cloned());
                let (status, body) = match folder.and_then(|folder| fs::read(folder.join("web").join(path)).ok()) {
                    Some(body) => ("200 OK", body),
                    None => ("404 Not Found", Vec::new()),
                };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let mut stream = &stream;
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self { address, folders }
    }

    /// Where the files of a case's folder are.
    fn url_of(&self, folder: &Path) -> String {
        let mut folders = self.folders.lock().expect("folders");
        let at = folders.iter().position(|known| known == folder).unwrap_or_else(|| {
            folders.push(folder.to_owned());
            folders.len() - 1
        });
        format!("http://{}/{at}", self.address)
    }
}

/// The archive of the base, made once.
fn base() -> PathBuf {
    static MADE: Mutex<Option<Folder>> = Mutex::new(None);
    let mut made = MADE.lock().expect("the base");
    let folder = made.get_or_insert_with(|| {
        let folder = Folder::new("base");
        pack(&folder.0);
        folder
    });
    folder.0.join("base.tar")
}

fn pack(folder: &Path) {
    let root = folder.join("root");
    for name in ["bin", "etc", "home/app", "root", "tmp", "usr/bin", "var/empty", "var/data"] {
        fs::create_dir_all(root.join(name)).expect("make the base");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    let applets = run(Command::new("/bin/busybox").arg("--list"));
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("an applet");
    }
    std::os::unix::fs::symlink("var/data", root.join("link-dir")).expect("a link");
    for (name, text) in [
        ("passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"),
        ("group", "root:x:0:\nstaff:x:50:\napp:x:1001:\n"),
        ("base", "base\n"),
        // A static glibc crashes when it looks for the modules of its defaults.
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
    ] {
        fs::write(root.join("etc").join(name), text).expect("write the base");
    }
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(root.join(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
    };
    mode("tmp", 0o1777);
    mode("root", 0o700);
    let tar = |arguments: &[&str]| {
        let output = run(Command::new("tar").current_dir(folder).args(arguments));
        assert!(output.status.success(), "tar {arguments:?}: {}", said(&output));
    };
    let options =
        ["--create", "--file=layer.tar", "--numeric-owner", "--owner=0", "--group=0", "--mtime=@1", "--sort=name"];
    tar(&[&options[..], &["--directory=root", "."]].concat());
    let sum = run(Command::new("sha256sum").current_dir(folder).arg("layer.tar"));
    let digest = String::from_utf8_lossy(&sum.stdout).split_whitespace().next().expect("a digest").to_owned();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        "history": [{"created": "1970-01-01T00:00:01Z", "created_by": "the tests"}],
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [BASE], "Layers": ["layer.tar"]}]);
    fs::write(folder.join("config.json"), config.to_string()).expect("write the base");
    fs::write(folder.join("manifest.json"), manifest.to_string()).expect("write the base");
    tar(&["--create", "--file=base.tar", "manifest.json", "config.json", "layer.tar"]);
}

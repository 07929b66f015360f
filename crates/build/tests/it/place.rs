//! Where a test builds: a store, a runtime and a builder in a directory of its own.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use build::{
    builder::{Builder, Settings},
    client::Given,
    progress::{Event, Outcome, Progress},
    request::{Built, Context, Error, File, NetworkMode, Options, Output, Realm, Request, Sink},
};
use container::{cgroup, shim::Binary};
use image::{Store, Unpacker, pull::Trust};
use runtime::Runtime;
use task::Task;
use tokio::runtime::Handle;

use crate::leftovers;

/// Marks a start of this executable that is to unpack.
pub const CHILD: &str = "unpack-a-layer";

/// How long what a test has begun may take to end.
const ENDING: Duration = Duration::from_secs(30);

/// Runs a test that needs root, or skips it without. In CI it fails rather than skip.
pub fn as_root<F: Future<Output = ()>>(test: F) {
    as_root_within(Duration::from_secs(120), test);
}

/// The same for tests that take their time.
pub fn as_root_within<F: Future<Output = ()>>(limit: Duration, test: F) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "needs root");
        eprintln!("skipped: needs root");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(limit, test).await.expect("the test hangs") });
}

/// The shim's program: what `MADANG_SHIM` names, else built as `madang`'s build script does.
fn shim() -> Binary {
    static BINARY: OnceLock<Binary> = OnceLock::new();
    let find = || {
        if let Some(file) = std::env::var_os("MADANG_SHIM").filter(|file| !file.is_empty()) {
            return PathBuf::from(file);
        }
        let executable = std::env::current_exe().unwrap();
        let target = executable.ancestors().find(|path| path.ends_with("deps")).unwrap();
        let directory = target.ancestors().nth(2).unwrap().join("shim");
        let triple = "x86_64-unknown-linux-gnu";
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let status = Command::new(env!("CARGO"))
            .current_dir(workspace)
            .args(["build", "--quiet", "--package", "container", "--bin", "madang-shim", "--no-default-features"])
            .args(["--profile", "shim", "--target", triple, "--target-dir"])
            .arg(&directory)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
            .env_remove("CARGO_TARGET_DIR")
            .status()
            .unwrap();
        assert!(status.success(), "build the shim");
        directory.join(triple).join("shim/madang-shim")
    };
    BINARY.get_or_init(|| Binary::from_file(&find()).unwrap()).clone()
}

/// A place to build in.
pub struct Place {
    pub directory: tempfile::TempDir,
    pub task: Task,
    pub store: Store,
    pub runtime: Runtime,
    pub builder: Builder,
    group: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        // What a build that was given up still does would go on in a directory that is gone.
        let drained = tokio::task::block_in_place(|| Handle::current().block_on(self.task.drain(ENDING)));
        if !drained {
            eprintln!("tasks of {} do not end", self.group);
        }
        let version = cgroup::Version::detect().unwrap();
        leftovers::remove_group(&version, &cgroup::Path::new(&self.group).unwrap());
    }
}

/// What a build has told.
#[derive(Debug, Default)]
pub struct Told {
    pub names: BTreeMap<u32, String>,
    pub outcomes: BTreeMap<u32, Outcome>,
    pub output: String,
}

impl Told {
    /// Names of steps that were carried out.
    pub fn done(&self) -> Vec<&str> {
        let steps = self.outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Done);
        let names = steps.map(|(id, _)| self.names[id].as_str());
        names.filter(|name| !name.starts_with("[internal]") && !name.starts_with("exporting")).collect()
    }
}

impl Place {
    pub async fn new() -> Self {
        Self::with(Trust::Configured, true).await
    }

    /// One whose steps believe what the machine believes.
    pub async fn trusting() -> Self {
        Self::with(Trust::Host, true).await
    }

    /// One whose steps are the machine's root.
    pub async fn without_users() -> Self {
        Self::with(Trust::Configured, false).await
    }

    async fn with(trust: Trust, own_users: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        leftovers::remove();
        let own = std::process::id();
        let directory = tempfile::Builder::new().prefix(&format!("madang-build-{own}-")).tempdir().unwrap();
        let group = format!("{}{own}-{number}", leftovers::GROUP);
        let task = Task::root("test");
        let (store, runtime, builder) = Self::open(directory.path(), &group, &task, trust, own_users).await;
        Self { directory, task, store, runtime, builder, group }
    }

    async fn open(at: &Path, group: &str, task: &Task, trust: Trust, own_users: bool) -> (Store, Runtime, Builder) {
        let arguments = ["--exact", "unpack_child", "--test-threads=1", "--nocapture", CHILD];
        let unpacker = Unpacker::Child {
            program: std::env::current_exe().unwrap(),
            arguments: arguments.iter().map(|&argument| argument.into()).collect(),
        };
        let options = image::Options::new(unpacker);
        let begin = std::time::Instant::now();
        // Processes that other tests begin to start hold a copy of the lock for a moment.
        let store = loop {
            match Store::open(&at.join("images"), options.clone()).await {
                Err(error) if format!("{error:#}").contains("in use") && begin.elapsed() < Duration::from_secs(30) => {}
                store => break store.unwrap(),
            }
        };
        let config = runtime::service::Config {
            dir: at.join("runtime"),
            run_dir: at.join("run"),
            cgroup_root: group.to_owned(),
            log_bytes: 1 << 20,
            log_files: 2,
        };
        let runtime = Runtime::open(task, config, store.clone(), shim()).await.unwrap();
        let settings = Settings {
            dir: at.join("build"),
            registries: Arc::default(),
            trust,
            parallel: 4,
            nameservers: Vec::new(),
            own_users,
            cache: 1 << 30,
        };
        let builder = Builder::open(task, settings, runtime.clone()).await.unwrap();
        (store, runtime, builder)
    }

    /// The same place in a new process, so to say.
    pub async fn again(&mut self) {
        self.task.drain(Duration::from_secs(5)).await;
        // The store locks its directory as long as anything holds it.
        let spare = tempfile::tempdir().unwrap();
        let task = Task::root("between");
        let (store, runtime, builder) =
            Self::open(spare.path(), &format!("{}-between", self.group), &task, Trust::Configured, true).await;
        (self.store, self.runtime, self.builder) = (store, runtime, builder);
        let task = Task::root("test");
        let (store, runtime, builder) =
            Self::open(self.directory.path(), &self.group, &task, Trust::Configured, true).await;
        (self.task, self.store, self.runtime, self.builder) = (task, store, runtime, builder);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A context of files, each with its text; a name that ends with a slash is a directory, a text that begins with `-> ` a link.
    pub fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.path(name);
        fs::create_dir_all(&root).unwrap();
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target, &path).unwrap(),
                None if file.ends_with('/') => fs::create_dir_all(&path).unwrap(),
                None => fs::write(&path, text).unwrap(),
            }
        }
        root
    }

    /// A request for a Dockerfile over a context.
    pub fn request(&self, dockerfile: &str, context: &Path) -> Request {
        Request {
            options: Options { network: NetworkMode::None, ..Options::default() },
            context: Context::Directory(context.to_owned()),
            dockerfile: File::Text { name: "Dockerfile".into(), text: dockerfile.into(), ignore: None },
            named: BTreeMap::new(),
            client: Arc::new(Given::default()),
            outputs: Vec::new(),
            realm: Realm::Machine,
        }
    }

    pub async fn build(&self, request: Request) -> (Result<Built, Error>, Told) {
        let (progress, mut events) = Progress::channel();
        let listen = async {
            let mut told = Told::default();
            while let Some(event) = events.recv().await {
                match event {
                    Event::Known(vertex) => drop(told.names.insert(vertex.id, vertex.name)),
                    Event::Finished { vertex, outcome, .. } => drop(told.outcomes.insert(vertex, outcome)),
                    Event::Log { bytes, .. } => told.output.push_str(&String::from_utf8_lossy(&bytes)),
                    _ => {}
                }
            }
            told
        };
        let build = async {
            let built = self.builder.build(request, &progress).await;
            drop(progress);
            built
        };
        tokio::join!(build, listen)
    }

    /// Builds to files, and lists them.
    pub async fn files(&self, mut request: Request) -> Result<Vec<String>, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let out = self.path(&format!("out-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        request.outputs = vec![Output::Files { to: Sink::Directory(out.clone()) }];
        let (built, told) = self.build(request).await;
        match built {
            Ok(_) => Ok(list(&out)),
            Err(error) => Err(format!("{}{}", error.show(), told.output)),
        }
    }

    /// Makes the image `busybox` of the machine's own static one.
    pub async fn busybox(&self) {
        let context = self.path("busybox");
        fs::create_dir_all(context.join("bin")).unwrap();
        fs::create_dir_all(context.join("etc")).unwrap();
        fs::create_dir_all(context.join("tmp")).unwrap();
        fs::set_permissions(context.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", context.join("bin/busybox")).unwrap();
        let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
            let _ = symlink("busybox", context.join("bin").join(applet));
        }
        fs::write(context.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:50::/:/bin/sh\n").unwrap();
        fs::write(context.join("etc/group"), "root:x:0:\nweb:x:50:\nstaff:x:20:\n").unwrap();
        let mut request = self.request("FROM scratch\nCOPY . /\nCMD [\"/bin/sh\"]\n", &context);
        let names = vec!["test.madang.dev/busybox:1".parse().unwrap()];
        request.outputs = vec![Output::Image { names, push: false, compression: Default::default() }];
        let (built, _) = self.build(request).await;
        built.unwrap();
    }
}

/// `path mode uid:gid what`, one a file, sorted.
pub fn list(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let status = path.symlink_metadata().unwrap();
            let kind = status.file_type();
            let what = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                left.push(path.clone());
                "dir".into()
            } else if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() {
                "special".into()
            } else {
                let text = fs::read(&path).unwrap();
                String::from_utf8_lossy(&text[..text.len().min(40)]).trim_end().replace('\n', "|")
            };
            let mode = if kind.is_symlink() { 0o777 } else { status.mode() & 0o7777 };
            let shown = path.strip_prefix(root).unwrap().display();
            found.push(format!("{shown} {mode:o} {}:{} {what}", status.uid(), status.gid()));
        }
    }
    found.sort();
    found
}

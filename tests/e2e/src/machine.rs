//! A machine of its own, with another kernel: QEMU, without acceleration, so that it works everywhere.
//!
//! ```text
//! this machine                                   the machine in QEMU
//!   kubectl ──────────► 127.0.0.1:PORT ────────►   madang server, its pods
//!   run(script) ──────► second serial line ────►   init, which runs it and answers
//! ```
//!
//! Its only file system is the archive that the kernel unpacks at start. It has control groups of version 2 and nothing that
//! Debian's kernel package does not have. It has one processor: one with two was seen to stand still, kernel and all,
//! when its first containers started, which is when a kernel rewrites its own code under the other processor's feet.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::TcpListener,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{Answer, Kubectl, cluster, cpio::Archive};

/// How long the kernel may take until init answers.
const BOOT: Duration = Duration::from_secs(120);
/// How long a script may take.
const SCRIPT: Duration = Duration::from_secs(180);
/// How long a machine that does nothing may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes of a script's output at most.
const OUTPUT: usize = 16 << 20;
/// The port of the API server inside.
const API: u16 = 6443;

/// What the machine begins with.
#[derive(Clone, Debug)]
pub enum Root {
    /// Busybox, and an init that only mounts what must be.
    Busybox,
    /// The tree of a distribution whose init is systemd.
    Systemd(PathBuf),
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    dir: PathBuf,
    port: u16,
    serial: Mutex<BufReader<UnixStream>>,
    /// An answer did not come, so that the next one to come would be taken for another's.
    lost: AtomicBool,
    reaper: Child,
}

impl Machine {
    /// Boots the kernel in `$MADANG_KERNEL`, as `cargo xtask test` lays it out, and waits until init answers. `image` is an
    /// archive that lies at `/image.tar` inside.
    pub fn boot(name: &str, root: &Root, image: &Path) -> Result<Self> {
        let kernel = std::env::var_os("MADANG_KERNEL").map(PathBuf::from);
        let kernel = kernel.context("MADANG_KERNEL names no kernel: run the tests by cargo xtask test")?;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("madang-machine-{name}-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let archive = dir.join("root.cpio");
        write_root(root, &kernel, image, &archive).with_context(|| format!("write {}", archive.display()))?;
        // Free now; nobody else is likely to ask for it in between.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let reaper = qemu(&dir, &kernel, &archive, port, root)?;
        let mut machine = Self { dir, port, serial: Mutex::new(unconnected()?), lost: AtomicBool::new(false), reaper };
        machine.connect().with_context(|| format!("boot the machine:\n{}", machine.console()))?;
        Ok(machine)
    }

    fn connect(&mut self) -> Result<()> {
        let started = Instant::now();
        let path = self.dir.join("serial");
        loop {
            let ended = self.reaper.try_wait()?;
            if ended.is_some() || started.elapsed() > BOOT {
                bail!("it does not answer after {:?} {ended:?}", started.elapsed());
            }
            if self.console().contains("init answers")
                && let Ok(stream) = UnixStream::connect(&path)
            {
                stream.set_write_timeout(Some(SCRIPT))?;
                *self.serial.get_mut().expect("nobody else has it") = BufReader::new(stream);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What kernel and init have said.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("console")).unwrap_or_default()).into_owned()
    }

    /// Runs a shell script inside; standard output and error come together. One runs at a time.
    #[track_caller]
    pub fn run(&self, script: &str) -> Answer {
        self.ask(script, SCRIPT).unwrap_or_else(|error| panic!("{script}: {error:#}\n{}", self.console()))
    }

    /// Whether init still answers: an emulated machine may stand still for no reason of ours.
    pub fn answers(&self) -> bool {
        self.ask("true", ANSWER).is_ok()
    }

    fn ask(&self, script: &str, within: Duration) -> Result<Answer> {
        let mut serial = self.serial.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.lost.load(Ordering::Relaxed) {
            bail!("the machine did not answer before");
        }
        serial.get_ref().set_read_timeout(Some(within))?;
        let answer = Self::exchange(&mut serial, script);
        self.lost.store(answer.is_err(), Ordering::Relaxed);
        answer
    }

    fn exchange(serial: &mut BufReader<UnixStream>, script: &str) -> Result<Answer> {
        serial.get_mut().write_all(format!("{}\n", STANDARD.encode(script)).as_bytes())?;
        let mut head = String::new();
        serial.by_ref().take(64).read_line(&mut head).context("wait for the script's end")?;
        let numbers: Vec<usize> = head.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [code, length] = numbers[..] else { bail!("not an answer: {head:?}") };
        if length > OUTPUT {
            bail!("{length} bytes of output");
        }
        let mut out = vec![0; length];
        serial.read_exact(&mut out).context("read the script's output")?;
        Ok(Answer { out: String::from_utf8_lossy(&out).into_owned(), err: String::new(), ok: code == 0 })
    }

    /// Starts the server, which must not run, and waits until it is ready. What runs no containers is left out: the machine has one emulated
    /// processor, of which cases measure shares.
    #[track_caller]
    pub fn serve(&self) {
        let started = self.run(
            "without='--without metrics --without gateway --without pipeline --without console'
             setsid madang server --node-name node-1 $without >> /tmp/log 2>&1 < /dev/null & echo $! > /tmp/pid
             for i in $(seq 600); do madang status > /dev/null 2>&1 && exit; kill -0 $(cat /tmp/pid) || break; sleep 0.1; done
             cat /tmp/log; exit 1",
        );
        started.good();
        self.fetch_kubeconfig();
    }

    /// Writes a kubeconfig that leads from here to the server inside.
    #[track_caller]
    pub fn fetch_kubeconfig(&self) {
        let text = self.run("cat /var/lib/madang/kubeconfig").good();
        let text = text.replace(&format!(":{API}"), &format!(":{}", self.port));
        fs::write(self.kubeconfig(), text).expect("write the kubeconfig");
    }

    /// Kills the server and its roles at once; containers go on.
    #[track_caller]
    pub fn kill(&self) {
        self.run("kill -9 -$(cat /tmp/pid) && while kill -0 $(cat /tmp/pid) 2> /dev/null; do sleep 0.1; done").good();
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// kubectl, as the administrator of the server inside.
    pub fn kubectl(&self, namespace: &str) -> Kubectl<'_> {
        Kubectl::new(None, self.kubeconfig(), namespace)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // QEMU goes with the other end of the shell's standard input, also when this process is killed.
        drop(self.reaper.stdin.take());
        if let Err(error) = self.reaper.wait() {
            eprintln!("end the machine: {error}");
        }
    }
}

/// A stream that stands in until the machine's is there.
fn unconnected() -> Result<BufReader<UnixStream>> {
    Ok(BufReader::new(UnixStream::pair()?.0))
}

/// Starts QEMU under a shell that ends it, and removes its files, once this process has gone or says so.
fn qemu(dir: &Path, kernel: &Path, archive: &Path, port: u16, root: &Root) -> Result<Child> {
    const SCRIPT: &str = r#"
        exec 3<&0
        "$@" < /dev/null 3<&- & pid=$!
        { cat <&3 > /dev/null; kill -9 $pid; rm -rf "$DIR"; } &
        exec 3<&-
        wait $pid
    "#;
    let memory = match root {
        Root::Busybox => "2048",
        Root::Systemd(_) => "3072",
    };
    let forward = format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:{API}");
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"]);
    command.args(["-display", "none", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", memory]);
    command.arg("-kernel").arg(kernel.join("vmlinuz")).arg("-initrd").arg(archive);
    command.args(["-append", "console=ttyS0 panic=-1 quiet systemd.getty_auto=no"]);
    command.arg("-serial").arg(format!("file:{}", dir.join("console").display()));
    command.arg("-chardev").arg(format!("socket,id=line,path={},server=on,wait=off", dir.join("serial").display()));
    command.args(["-serial", "chardev:line", "-netdev", &forward, "-device", "virtio-net-pci,netdev=net"]);
    let log = File::create(dir.join("qemu.log"))?;
    command.env("DIR", dir).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).process_group(0);
    command.spawn().context("start QEMU")
}

/// Mounts what every process expects, loads the network's driver, and runs what comes over the second serial line.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
if [ -z "$MOVED" ]; then
    # A container's root is put in place of another one's, which the kernel's first file system does not allow.
    mkdir -p /new && mount --bind / /new && cd /new && mount --move . / || exit 1
    MOVED=1 exec chroot . /init
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
for dir in /dev/shm /tmp /run /var; do mount -t tmpfs tmpfs $dir; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
hostname machine
ip link set lo up
modprobe virtio_pci
modprobe virtio_net
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
echo nameserver 10.0.2.3 > /etc/resolv.conf
exec sh /agent
"#;

/// Runs scripts that come over the second serial line, each in base64 on a line, and answers with exit code, length, output.
/// The line is open before anybody hears that there is an answer: a port loses what comes while nobody has it open.
const AGENT: &str = r#"
exec < /dev/ttyS1 > /dev/ttyS1
stty raw -echo
echo init answers > /dev/console
while read -r line; do
    echo "$line" | base64 -d > /run/script
    sh /run/script > /run/output 2>&1 < /dev/null
    echo $? $(wc -c < /run/output)
    cat /run/output
done
"#;

/// With systemd, a service does the same. (Nobody logs in on the serial line: without udev its device never appears.)
const AGENT_UNIT: &str = "[Unit]\nDescription=Runs the tests' scripts\n\
    [Service]\nExecStartPre=-/sbin/modprobe virtio_net\nExecStartPre=/bin/sh /network\nExecStart=/bin/sh /agent\n\
    [Install]\nWantedBy=multi-user.target\n";

const NETWORK: &str = "i=0; until ip link set eth0 up || [ $i = 50 ]; do i=$((i+1)); sleep 0.1; done\n\
    ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; echo nameserver 10.0.2.3 > /etc/resolv.conf\n";

/// systemd, once the root is one that containers can put theirs in place of.
const INIT_SYSTEMD: &str = r#"#!/bin/sh
if [ -z "$MOVED" ]; then
    mkdir -p /new && mount --bind / /new && cd /new && mount --move . / || exit 1
    MOVED=1 exec chroot . /init
fi
# The indexes that kmod reads; those that come with the modules are busybox's.
/sbin/depmod
exec /lib/systemd/systemd
"#;

fn write_root(root: &Root, kernel: &Path, image: &Path, to: &Path) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(to)?));
    match root {
        Root::Busybox => {
            for dir in ["bin", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"]
            {
                archive.directory(dir)?;
            }
            archive.file("bin/busybox", 0o755, &fs::read("/bin/busybox")?)?;
            let applets = Command::new("/bin/busybox").arg("--list").output().context("list busybox's applets")?;
            for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
                archive.link(&format!("bin/{applet}"), "busybox")?;
            }
            // The kernel asks for modules by this name.
            archive.link("sbin/modprobe", "../bin/busybox")?;
            archive.file("init", 0o755, INIT.as_bytes())?;
        }
        Root::Systemd(tree) => {
            archive.tree("", tree)?;
            archive.file("init", 0o755, INIT_SYSTEMD.as_bytes())?;
            archive.file("network", 0o755, NETWORK.as_bytes())?;
            let unit = "etc/systemd/system/agent.service";
            archive.file(unit, 0o644, AGENT_UNIT.as_bytes())?;
            let wanted = "etc/systemd/system/multi-user.target.wants";
            if !tree.join(wanted).is_dir() {
                archive.directory(wanted)?;
            }
            archive.link(&format!("{wanted}/agent.service"), &format!("/{unit}"))?;
        }
    }
    archive.file("agent", 0o755, AGENT.as_bytes())?;
    archive.file("image.tar", 0o644, &fs::read(image)?)?;
    let modules = if matches!(root, Root::Systemd(tree) if tree.join("lib").is_symlink()) { "usr/lib" } else { "lib" };
    archive.directory(&format!("{modules}/modules"))?;
    archive.tree(&format!("{modules}/modules"), &kernel.join("modules"))?;
    binary(&mut archive, root)?;
    archive.finish()?;
    Ok(())
}

/// The binary under test without what only a debugger needs, and the libraries that it is linked to.
fn binary(archive: &mut Archive<BufWriter<File>>, root: &Root) -> Result<()> {
    let binary = cluster::binary()?;
    let stripped = std::env::temp_dir().join(format!("madang-stripped-{}", std::process::id()));
    let strip = Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(&binary).status();
    if !strip.context("run strip")?.success() {
        bail!("strip {} failed", binary.display());
    }
    let content = fs::read(&stripped);
    fs::remove_file(&stripped)?;
    // Not where `madang install` puts it, but on every PATH.
    archive.file(if matches!(root, Root::Busybox) { "bin/madang" } else { "usr/bin/madang" }, 0o755, &content?)?;
    if matches!(root, Root::Systemd(_)) {
        // The tree has a C library of its own, of the same distribution or a newer one.
        return Ok(());
    }
    // A static binary has none, of which `ldd` complains.
    let libraries = Command::new("ldd").arg(&binary).output().context("run ldd")?;
    let mut made = vec!["lib".to_owned(), "lib64".to_owned()];
    for line in String::from_utf8_lossy(&libraries.stdout).lines() {
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if !made.iter().any(|dir| dir == parent) && parent != "usr" {
                archive.directory(parent)?;
                made.push(parent.to_owned());
            }
        }
        archive.file(path, 0o755, &fs::read(Path::new("/").join(path))?)?;
    }
    Ok(())
}

//! A server of its own in a network namespace of its own, for what is tested and measured; nothing of it is left behind.
//!
//! ```text
//! place (or here) ─ start ⇄ stop ─ drop: containers, links, tables, cgroups, files, namespace
//! ```

use std::{
    fs,
    io::{BufRead, BufReader, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::host;

/// How long a server may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a place reaches the world with.
const WORLD: &[host::Package] = &[("slirp4netns", "/usr/bin/slirp4netns")];

/// A place for a server, and the server while it runs.
pub struct Server {
    name: String,
    dir: PathBuf,
    madang: PathBuf,
    log: PathBuf,
    link: String,
    address: String,
    child: Option<Child>,
    /// Whether the network is one of its own.
    own: bool,
    /// What the place reaches the world with.
    world: Option<Child>,
}

/// A network namespace, by its name; the machine's own without one.
pub struct Place(Option<String>);

impl Place {
    /// A command that runs in it.
    pub fn inside(&self, program: &Path) -> Command {
        let Some(name) = &self.0 else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{name}")).arg(program);
        command
    }
}

impl Server {
    /// Makes the place, without starting anything. `purpose` begins its names; the server's log goes to `output`.
    pub fn place(purpose: &str, madang: &Path, output: &Path) -> Result<Self> {
        let id = std::process::id();
        let name = format!("{purpose}-{id}");
        let link = format!("{}{}", &purpose[..2], id % 1_000_000);
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let log = output.join("server.log");
        // Addresses set aside for tests between networks (RFC 2544), another pair for each process.
        let block = (id % 0x4000) * 4;
        let address = |last: u32| format!("198.{}.{}.{}", 18 + (block >> 16), block >> 8 & 0xff, (block & 0xff) + last);
        let (near, far) = (address(1), address(2));
        let madang = madang.to_owned();
        let server = Self { name, dir, madang, log, link, address: far.clone(), child: None, own: true, world: None };
        let ip = |arguments: &[&str]| host::run(Command::new("ip").args(arguments));
        let (name, link) = (&server.name, &server.link);
        ip(&["netns", "add", name])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["link", "add", link, "type", "veth", "peer", "name", "up0", "netns", name])?;
        ip(&["addr", "add", &format!("{near}/30"), "dev", link])?;
        ip(&["link", "set", link, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{far}/30"), "dev", "up0"])?;
        ip(&["-n", name, "link", "set", "up0", "up"])?;
        ip(&["-n", name, "route", "add", "default", "via", &near])?;
        Ok(server)
    }

    /// The same in the machine's own network, as a person would start it.
    pub fn here(purpose: &str, madang: &Path, output: &Path) -> Result<Self> {
        let name = format!("{purpose}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let (madang, log) = (madang.to_owned(), output.join("server.log"));
        let (link, address) = (String::new(), "127.0.0.1".to_owned());
        Ok(Self { name, dir, madang, log, link, address, child: None, own: false, world: None })
    }

    /// Lets the place reach what the machine reaches, without a change of the machine's own network.
    pub fn connect(&mut self) -> Result<()> {
        if !self.own {
            return Ok(());
        }
        host::install(WORLD)?;
        let place = format!("/run/netns/{}", self.name);
        let mut slirp = Command::new("slirp4netns");
        slirp.args(["--mtu=65520", "--disable-host-loopback", "--netns-type=path", &place, "world"]);
        slirp.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.world = Some(slirp.spawn().context("start slirp4netns")?);
        let ip = |arguments: &[&str]| {
            let mut ip = Command::new("ip");
            host::run(ip.args(["-n", &self.name]).args(arguments).stderr(Stdio::null()))
        };
        let started = Instant::now();
        while ip(&["addr", "add", "10.0.2.100/24", "dev", "world"]).is_err() {
            if started.elapsed() > PATIENCE {
                bail!("slirp4netns makes no link in {place}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        ip(&["link", "set", "world", "up"])?;
        ip(&["route", "replace", "default", "via", "10.0.2.2", "dev", "world"])
    }

    /// Starts the server with further flags; returns how long it took until it said that it is ready.
    pub fn start(&mut self, flags: &[&str]) -> Result<Duration> {
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let end = log.metadata()?.len();
        let mut command = self.inside(&self.madang);
        command.arg("server").arg("--data-dir").arg(self.data_dir()).arg("--run-dir").arg(self.run_dir());
        command.args(["--node-name", "node-1", "--cgroup-root", &self.name]).args(flags);
        let started = Instant::now();
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().context("start the server")?;
        let child = self.child.insert(child);
        let mut lines = BufReader::new(fs::File::open(&self.log)?);
        lines.seek(SeekFrom::Start(end))?;
        let mut line = String::new();
        while started.elapsed() < PATIENCE {
            if lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
                if line.starts_with("ready in ") {
                    return Ok(started.elapsed());
                }
                line.clear();
                continue;
            }
            if let Some(status) = child.try_wait()? {
                bail!("the server ended while starting: {status}; see {}", self.log.display());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        bail!("the server is not ready after {PATIENCE:?}; see {}", self.log.display())
    }

    /// Tells the server to end and waits for it; containers go on.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        host::run(Command::new("kill").arg(child.id().to_string()))?;
        let started = Instant::now();
        while child.try_wait()?.is_none() {
            if started.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("the server did not end in {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Becomes a process that waits until the server ends, as it does when the terminal is interrupted, and then removes what it made.
    pub fn leave_to_the_terminal(&self) -> Result<()> {
        const SCRIPT: &str = r#"
            trap : INT TERM HUP
            while [ -e "/proc/$PID/exe" ]; do sleep 0.2; done
            "$MADANG" uninstall --data --data-dir "$DIR/data" --run-dir "$DIR/run"
            rm -rf "$DIR"
        "#;
        let pid = self.pid().context("the server does not run")?.to_string();
        let mut waiting = Command::new("sh");
        waiting.args(["-c", SCRIPT]).env("PID", pid).env("MADANG", &self.madang).env("DIR", &self.dir);
        Err(waiting.exec()).context("start sh")
    }

    /// The process id of the supervisor, while the server runs.
    pub fn pid(&self) -> Option<u32> {
        Some(self.child.as_ref()?.id())
    }

    /// Loads images.
    pub fn load(&self, archives: &[PathBuf]) -> Result<()> {
        for archive in archives {
            let mut load = self.inside(&self.madang);
            load.args(["load", "--quiet", "--input"]).arg(archive).arg("--run-dir").arg(self.run_dir());
            host::run(&mut load)?;
        }
        Ok(())
    }

    /// A command that runs where the server's addresses are.
    pub fn inside(&self, program: &Path) -> Command {
        self.namespace().inside(program)
    }

    /// The network namespace.
    pub fn namespace(&self) -> Place {
        Place(self.own.then(|| self.name.clone()))
    }

    /// Pulls an image; how long that took.
    pub fn pull(&self, image: &str) -> Result<Duration> {
        let started = Instant::now();
        host::output(self.madang().args(["pull", "--quiet", "--run-dir"]).arg(self.run_dir()).arg(image))?;
        Ok(started.elapsed())
    }

    /// The program itself, where the server's addresses are.
    pub fn madang(&self) -> Command {
        self.inside(&self.madang)
    }

    /// The address by which others reach the place.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig")
    }

    /// A folder for what is compared with the server; goes with it.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    /// Where its state is.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where its sockets are.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
        let mut uninstall = self.inside(&self.madang);
        uninstall.args(["uninstall", "--data", "--data-dir"]).arg(self.data_dir());
        uninstall.arg("--run-dir").arg(self.run_dir());
        let mut left = vec![uninstall];
        if self.own {
            for arguments in [["link", "del", &self.link], ["netns", "del", &self.name]] {
                let mut ip = Command::new("ip");
                ip.args(arguments);
                left.push(ip);
            }
        }
        if let Some(mut world) = self.world.take() {
            let _ended_already = world.kill();
            let _reaped = world.wait();
        }
        // One that fails does not keep the others from being done.
        for command in &mut left {
            if let Err(error) = host::run(command) {
                eprintln!("{error:#}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("remove {}: {error}", self.dir.display());
        }
    }
}

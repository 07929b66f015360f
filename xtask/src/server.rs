//! A server of its own in a network namespace of its own, for what is tested and measured; nothing of it is left behind.
//!
//! ```text
//! place ─ start ⇄ stop ─ drop: containers, links, tables, cgroups, files, namespace
//! ```

use std::{
    fs,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::host;

/// How long a server may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place for a server, and the server while it runs.
pub struct Server {
    name: String,
    dir: PathBuf,
    madang: PathBuf,
    log: PathBuf,
    link: String,
    address: String,
    child: Option<Child>,
}

/// A network namespace, by its name.
pub struct Place(String);

impl Place {
    /// A command that runs in it.
    pub fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.0)).arg(program);
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
        let server = Self { name, dir, madang: madang.to_owned(), log, link, address: far.clone(), child: None };
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
        Place(self.name.clone())
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
        let mut link = Command::new("ip");
        link.args(["link", "del", &self.link]);
        let mut place = Command::new("ip");
        place.args(["netns", "del", &self.name]);
        // One that fails does not keep the others from being done.
        for mut command in [uninstall, link, place] {
            if let Err(error) = host::run(&mut command) {
                eprintln!("{error:#}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("remove {}: {error}", self.dir.display());
        }
    }
}

//! A server with its directories, started, killed, started again.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{Kubectl, Place};

/// How a cluster is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More flags of `madang server`.
    pub flags: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub struct Cluster {
    /// Where it runs.
    pub place: Place,
    dir: PathBuf,
    binary: PathBuf,
    group: String,
    flags: Vec<String>,
    server: Option<Child>,
    reaper: Child,
}

/// How long the server may take until everything answers.
const READY: Duration = Duration::from_secs(60);

impl Cluster {
    /// Starts the cluster number `n` of this process in a place and waits until it is ready.
    pub fn start(place: Place, n: u32, options: &Options) -> Result<Self> {
        let binary = binary()?;
        let id = std::process::id();
        let dir = std::env::temp_dir().join(format!("madang-e2e-{id}-{n}"));
        std::fs::create_dir_all(&dir)?;
        let reaper = reaper(&place, &binary, &dir)?;
        let mut cluster = Self {
            reaper,
            place,
            dir,
            binary,
            group: format!("madang-e2e-{id}-{n}"),
            flags: options.flags.clone(),
            server: None,
        };
        cluster.serve()?;
        Ok(cluster)
    }

    /// Starts the server, which must not run.
    pub fn serve(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = self.place.command(&self.binary);
        command
            .arg("server")
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--run-dir")
            .arg(self.run_dir())
            .args(["--node-name", "node-1", "--cgroup-root", &self.group])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let server = command.spawn().context("start the server")?;
        // nsenter becomes the server, so that this is its process.
        std::fs::write(self.dir.join("pid"), server.id().to_string())?;
        self.server = Some(server);
        let started = Instant::now();
        loop {
            if self.madang("status").output()?.status.success() {
                return Ok(());
            }
            let ended = self.server.as_mut().and_then(|server| server.try_wait().ok().flatten());
            if ended.is_some() || started.elapsed() > READY {
                bail!("the server is not ready:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the server to stop, as a service manager would.
    pub fn stop(&mut self) -> Result<()> {
        self.end("TERM")
    }

    /// Kills the server and its roles at once: `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.end("KILL")
    }

    /// Kills the supervisor alone, as systemd does: its roles end by themselves.
    pub fn kill_supervisor(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.kill()?;
        server.wait()?;
        Ok(())
    }

    fn end(&mut self, signal: &str) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        // The server's process group holds the roles, and no shim.
        let target = if signal == "KILL" { format!("-{}", server.id()) } else { server.id().to_string() };
        Command::new("kill").args([format!("-{signal}"), "--".into(), target]).status()?;
        server.wait()?;
        Ok(())
    }

    /// The `madang` command `name` for this instance; more arguments may follow.
    pub fn madang(&self, name: &str) -> Command {
        let mut command = self.place.command(&self.binary);
        command.arg(name).arg("--data-dir").arg(self.data_dir()).arg("--run-dir").arg(self.run_dir());
        command
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self, namespace: &str) -> Kubectl<'_> {
        Kubectl::new(Some(&self.place), self.data_dir().join("kubeconfig"), namespace)
    }

    /// The instance's state.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The instance's sockets.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Loads an image archive.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let output = self.madang("load").arg("--input").arg(archive).output()?;
        if !output.status.success() {
            bail!("load {}: {}", archive.display(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("MADANG_E2E_LOG").is_some() {
            eprintln!("--- log of the server\n{}", self.log());
        }
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}

/// Starts the process that cleans up once this one has gone, however it ends: it waits for the end of its standard input.
/// Statics are never dropped, and a test may be killed.
fn reaper(place: &Place, binary: &Path, dir: &Path) -> Result<Child> {
    const SCRIPT: &str = r#"
        cat > /dev/null
        pid=$(cat "$DIR/pid" 2> /dev/null)
        if [ -n "$pid" ] && kill -TERM "$pid" 2> /dev/null; then
            for i in $(seq 300); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
        fi
        nsenter --net="/run/netns/$PLACE" "$BINARY" uninstall --data --data-dir "$DIR/data" --run-dir "$DIR/run"
        ip link del "$LINK"; ip netns del "$PLACE"; rm -rf "$DIR"
        kill -0 "$OWNER" 2> /dev/null || rm -rf "${DIR%/*}/madang-e2e-image-$OWNER"
    "#;
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT])
        .env("DIR", dir)
        .env("OWNER", std::process::id().to_string())
        .env("BINARY", binary)
        .env("PLACE", place.name())
        .env("LINK", place.link())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command.spawn().context("start the process that cleans up")
}

/// The binary under test: `$MADANG_BIN`, else the one that the workspace has built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MADANG_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let built = own.ancestors().map(|dir| dir.join("madang")).find(|path| path.is_file());
    built.context("no madang is built: cargo build --package madang")
}

//! The two that are compared, each a process on loopback ports of its own, spoken to over HTTP.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::super::memory::{self, Process};

/// How long a start or an answer may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A port of the loopback address that nobody has.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Asks for a path, on a connection of its own; whole answers only.
pub fn ask(port: u16, method: &str, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Of this version answers come in one piece that the end of the connection ends.
    let asked = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(asked.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer without an end of its head")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("an answer without a status")?;
    Ok((status, answer.split_off(end + 4)))
}

/// What is in an address has no blanks, braces or quotes.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Bytes of the files below a directory.
pub fn size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// What exposes the series.
pub struct Target {
    child: Child,
    /// Where it answers.
    pub port: u16,
}

impl Target {
    /// Starts it.
    pub fn start(load: &Path, series: u64) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(load);
        command.arg("expose").arg(port.to_string()).args(["--series", &series.to_string()]);
        let target = Self { child: command.spawn().context("start the target")?, port };
        let started = Instant::now();
        while target.lines().is_err() {
            ensure!(started.elapsed() < PATIENCE, "the target does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(target)
    }

    /// How many samples were taken from it.
    pub fn lines(&self) -> Result<u64> {
        let (_, body) = ask(self.port, "GET", "/served")?;
        String::from_utf8_lossy(&body).parse().context("the target does not say how much it served")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `madang metrics`.
    Madang,
    /// Prometheus.
    Prometheus,
}

impl Kind {
    /// Both, in the order in which they are measured.
    pub const BOTH: [Self; 2] = [Self::Prometheus, Self::Madang];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Madang => "madang",
            Self::Prometheus => "prometheus",
        }
    }
}

/// One of the two, with a directory and a port.
pub struct Side {
    /// Which.
    pub kind: Kind,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Side {
    /// A place for one of the two, empty; what was there is removed.
    pub fn place(kind: Kind, program: &Path, within: &Path) -> Result<Self> {
        let dir = within.join(kind.name());
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let side = Self { kind, program: program.to_owned(), dir, port: free_port()?, child: None };
        side.configure("scrape_configs: []\n")?;
        Ok(side)
    }

    /// Gives it a configuration, for the next start.
    pub fn configure(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.dir.join("prometheus.yml"), text)?)
    }

    /// Has it scrape a target, from the next start on.
    pub fn scrape(&self, target: &Target, interval: Duration) -> Result<()> {
        let (port, interval) = (target.port, interval.as_millis());
        self.configure(&format!(
            "global: {{scrape_interval: {interval}ms, scrape_timeout: {interval}ms}}\n\
             scrape_configs:\n- job_name: bench\n  static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]\n"
        ))
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts it; how long it took until it said that it is ready.
    pub fn start(&mut self) -> Result<Duration> {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = Command::new(&self.program);
        if self.kind == Kind::Madang {
            command.arg("metrics");
        }
        command.arg("--config.file").arg(self.dir.join("prometheus.yml"));
        command.arg("--storage.tsdb.path").arg(self.data()).arg("--web.enable-admin-api");
        command.arg(format!("--web.listen-address=127.0.0.1:{}", self.port));
        command.current_dir(&self.dir).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = self.child.insert(command.spawn().with_context(|| format!("start {}", self.program.display()))?);
        loop {
            if ask(self.port, "GET", "/-/ready").is_ok_and(|(status, _)| status == 200) {
                return Ok(started.elapsed());
            }
            if let Some(status) = child.try_wait()? {
                bail!("{} ended while starting: {status}; see {}", self.kind.name(), self.dir.join("log").display());
            }
            ensure!(started.elapsed() < PATIENCE, "{} is not ready", self.kind.name());
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Ends it as a lost machine would, nothing flushed.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn processes(&self) -> Vec<Process> {
        self.child.as_ref().map(|child| memory::family(child.id())).unwrap_or_default()
    }

    /// Processor time so far, in seconds.
    pub fn time(&self) -> f64 {
        memory::time(&self.processes())
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> f64 {
        memory::rss(&self.processes())
    }

    /// Resident memory in MiB: the median of some seconds, since collecting garbage makes it go up and down.
    pub fn usual_memory(&self, seconds: u64) -> f64 {
        let looks = (0..seconds * 2).map(|_| {
            std::thread::sleep(Duration::from_millis(500));
            self.memory()
        });
        super::super::median(looks.collect())
    }

    fn answer(&self, method: &str, path: &str) -> Result<Value> {
        let (status, body) = ask(self.port, method, path)?;
        let text = String::from_utf8_lossy(&body);
        ensure!(status == 200, "{} answers {path} with {status}: {}", self.kind.name(), text.trim());
        serde_json::from_str(&text).with_context(|| format!("answer of {} to {path}", self.kind.name()))
    }

    /// Evaluates a query at a time, or at 61 times up to it; how many milliseconds it took. There must be `groups` series.
    pub fn query(&self, query: &str, time: f64, over: Option<f64>, groups: usize) -> Result<f64> {
        let query = escaped(query);
        let path = match over {
            None => format!("/api/v1/query?query={query}&time={time}"),
            Some(span) => {
                format!("/api/v1/query_range?query={query}&start={}&end={time}&step={}", time - span, span / 60.0)
            }
        };
        let started = Instant::now();
        let (status, body) = ask(self.port, "GET", &path)?;
        let took = started.elapsed();
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let found = answer["data"]["result"].as_array().map_or(0, Vec::len);
        let points = answer.pointer("/data/result/0/values").and_then(Value::as_array).map_or(1, Vec::len);
        let whole = found == groups && (over.is_none() || points > 1);
        ensure!(status == 200 && whole, "{} answers {path} with {status}, {found} series", self.kind.name());
        Ok(took.as_secs_f64() * 1e3)
    }

    /// The value of a query that has one.
    pub fn number(&self, query: &str, time: f64) -> Result<f64> {
        let answer = self.answer("GET", &format!("/api/v1/query?query={}&time={time}", escaped(query)))?;
        let value = answer.pointer("/data/result/0/value/1").and_then(Value::as_str);
        value.and_then(|text| text.parse().ok()).with_context(|| format!("{query} has no value: {answer}"))
    }

    /// Writes all of the head as blocks; their bytes.
    pub fn snapshot(&self) -> Result<u64> {
        let answer = self.answer("POST", "/api/v1/admin/tsdb/snapshot")?;
        let name = answer["data"]["name"].as_str().context("a snapshot without a name")?;
        let dir = self.data().join("snapshots").join(name);
        let bytes = size(&dir);
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        Ok(bytes)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("end {}: {error:#}", self.kind.name());
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("remove {}: {error}", self.dir.display());
        }
    }
}

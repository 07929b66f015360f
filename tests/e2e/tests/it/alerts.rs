//! Alerts through `kill -9` and outages of their receiver: `madang metrics` by itself, with a rule that fires and alerts that are
//! handed to it. Each alert that was taken reaches the receiver at least once.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use e2e::binary;
use serde_json::{Value, json};

/// How often the process is killed.
const KILLS: usize = 6;
/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where webhooks go to. While it is down, it answers 503.
struct Receiver {
    address: String,
    down: Arc<AtomicBool>,
    taken: Arc<Mutex<BTreeSet<String>>>,
}

impl Receiver {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver =
            Self { address: listener.local_addr().unwrap().to_string(), down: Arc::default(), taken: Arc::default() };
        let (down, taken) = (receiver.down.clone(), receiver.taken.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (down, taken) = (down.clone(), taken.clone());
                thread::spawn(move || answer(stream, &down, &taken));
            }
        });
        receiver
    }
}

/// Answers requests of a connection until it ends.
fn answer(stream: TcpStream, down: &AtomicBool, taken: &Mutex<BTreeSet<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(body) = request(&mut reader) {
        let status = if down.load(Ordering::SeqCst) { "503 Service Unavailable" } else { "200 OK" };
        if status == "200 OK" {
            let told: Value = serde_json::from_slice(&body).unwrap();
            let names = told["alerts"].as_array().unwrap().iter().map(|alert| &alert["labels"]["alertname"]);
            taken.lock().unwrap().extend(names.map(|name| name.as_str().unwrap().to_owned()));
        }
        // The other side may be gone.
        if write!(writer, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// The body of the next request.
fn request(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// Asks the process; none if it does not answer.
fn ask(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

/// The process, which is killed when this goes.
struct Metrics {
    child: Child,
    port: u16,
}

impl Metrics {
    fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let child = Command::new(binary().unwrap())
            .arg("metrics")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--alertmanager.config.file={}", dir.join("alertmanager.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let metrics = Self { child, port };
        let began = Instant::now();
        while ask(port, "GET", "/-/ready", "").is_none_or(|answer| answer.0 != 200) {
            assert!(began.elapsed() < PATIENCE, "{}", fs::read_to_string(dir.join("log")).unwrap());
            thread::sleep(Duration::from_millis(50));
        }
        metrics
    }

    /// Hands an alert over; what it was answered with 200 for is taken.
    fn take(&self, name: &str) {
        let alert = json!([{"labels": {"alertname": name, "by": "hand"}}]).to_string();
        let answer = ask(self.port, "POST", "/alertmanager/api/v2/alerts", &alert);
        assert_eq!(answer.map(|answer| answer.0), Some(200), "{name}");
    }

    /// Alerts of rules that are with Alertmanager.
    fn known(&self) -> BTreeSet<String> {
        let Some((200, body)) = ask(self.port, "GET", "/alertmanager/api/v2/alerts", "") else {
            return BTreeSet::new();
        };
        // The body may come in chunks, each after its length.
        let start = body.find('[').unwrap_or(0);
        let end = body.rfind(']').map_or(0, |end| end + 1);
        let alerts: Value = serde_json::from_str(&body[start..end]).unwrap_or(json!([]));
        let names = alerts.as_array().unwrap().iter().map(|alert| &alert["labels"]["alertname"]);
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // SIGKILL; it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_alert_that_was_taken_reaches_its_receiver_through_kills_and_outages() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::new();
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
    write("prometheus.yml", "global: {evaluation_interval: 200ms}\nrule_files: [rules.yml]\n".to_owned());
    let rules: Vec<String> = (0..20).map(|n| format!("  - {{alert: Rule{n}, expr: vector({n}) >= 0}}\n")).collect();
    write("rules.yml", format!("groups:\n- name: all\n  rules:\n{}", rules.concat()));
    write(
        "alertmanager.yml",
        format!(
            "route: {{receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}}\nreceivers:\n- name: hook\n  webhook_configs: [{{url: 'http://{}/hook'}}]\n",
            receiver.address
        ),
    );
    let mut taken = BTreeSet::new();
    for round in 0..KILLS {
        // In every other round nobody takes notifications.
        receiver.down.store(round % 2 == 1, Ordering::SeqCst);
        let metrics = Metrics::start(dir.path());
        for n in 0..5 {
            let name = format!("Hand{round}x{n}");
            metrics.take(&name);
            taken.insert(name);
        }
        // One round is killed at once, before anything was sent; others while notifications are under way.
        if round > 0 {
            let began = Instant::now();
            while metrics.known().iter().filter(|name| name.starts_with("Rule")).count() < 20 {
                assert!(began.elapsed() < PATIENCE, "rules do not fire");
                thread::sleep(Duration::from_millis(20));
            }
            taken.extend(metrics.known());
        }
        drop(metrics);
    }
    receiver.down.store(false, Ordering::SeqCst);
    let _metrics = Metrics::start(dir.path());
    let began = Instant::now();
    loop {
        let left: Vec<String> = taken.difference(&receiver.taken.lock().unwrap()).cloned().collect();
        if left.is_empty() {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "never told of: {left:?}\n{}",
            fs::read_to_string(dir.path().join("log")).unwrap()
        );
        thread::sleep(Duration::from_millis(100));
    }
    assert!(taken.len() >= 20 + 5 * KILLS, "{taken:?}");
}

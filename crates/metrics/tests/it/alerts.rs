//! Alertmanager's API with `amtool` unmodified as the judge, and receivers that listen.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use metrics::alertmanager::{Alertmanager, config::Config};
use serde_json::Value;
use serve::{Body, body};
use task::{Clock, Task};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// `amtool`, where `MADANG_AMTOOL` names it, as `cargo xtask test --full` does.
fn amtool() -> Option<PathBuf> {
    let program = std::env::var_os("MADANG_AMTOOL").map(PathBuf::from);
    if program.is_none() {
        eprintln!("skipped: MADANG_AMTOOL does not name amtool; this run says nothing of it");
    }
    program
}

/// A server on a port of its own that keeps what it is sent, and answers as it is told.
struct Listener {
    address: String,
    taken: Arc<Mutex<Vec<(String, Value)>>>,
}

async fn listen(task: &Task, answer: &'static str) -> Listener {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = socket.local_addr().expect("address").to_string();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let kept = taken.clone();
    let handler = move |request: Request<Body>| {
        let kept = kept.clone();
        async move {
            let path = request.uri().path().to_owned();
            let bytes = body::read(request.into_body(), 1 << 20).await.expect("body");
            kept.lock().expect("lock").push((path, serde_json::from_slice(&bytes).unwrap_or_default()));
            Response::new(body::full(answer))
        }
    };
    start(task, socket, handler);
    Listener { address, taken }
}

fn start<H, F>(task: &Task, socket: TcpListener, handler: H)
where
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let child = task.child("http");
    task.spawn("http", serve::http::serve(child, socket, None, serve::http::Limits::default(), handler));
}

/// Alertmanager on a port of its own, below a path.
struct Place {
    url: String,
    task: Task,
    alertmanager: Alertmanager,
    dir: tempfile::TempDir,
}

impl Place {
    async fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let task = Task::root("test");
        let config = Config::parse(config, Path::new("")).expect("configuration");
        let alertmanager =
            Alertmanager::start(&task, &dir.path().join("alerts"), Some(config), "http://outside", Clock::system())
                .expect("start");
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}/alertmanager", socket.local_addr().expect("address"));
        let handler = alertmanager.handler();
        start(&task, socket, move |mut request: Request<Body>| {
            let path = request.uri().path_and_query().map_or("", |path| path.as_str());
            let path = path.strip_prefix("/alertmanager").unwrap_or(path).to_owned();
            *request.uri_mut() = path.parse().expect("path");
            handler(request)
        });
        Self { url, task, alertmanager, dir }
    }

    /// Runs `amtool`; gives what it printed if it succeeded.
    async fn amtool(&self, program: &Path, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program);
        command.arg(format!("--alertmanager.url={}", self.url)).args(args).env("HOME", self.dir.path());
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("task").expect("run amtool");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stdout) + &text(&output.stderr))
        }
    }
}

const CONFIG: &str = "\
global:
  resolve_timeout: 10m
route:
  receiver: all
  group_by: [alertname]
  group_wait: 100ms
  group_interval: 1s
  routes:
  - matchers: [team=\"web\"]
    receiver: web
receivers:
- name: all
  webhook_configs: [{url: 'http://ADDRESS/hook/{{ .GroupLabels.alertname }}'}]
- name: web
  slack_configs: [{api_url: 'http://ADDRESS/slack', channel: '#web', send_resolved: true}]
  pagerduty_configs: [{routing_key: key, url: 'http://ADDRESS/pagerduty'}]
";

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} did not come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amtool_works_unmodified() {
    let Some(program) = amtool() else { return };
    let receiver = Task::root("receiver");
    let listener = listen(&receiver, "ok").await;
    let config = CONFIG.replace("ADDRESS", &listener.address);
    let place = Place::new(&config).await;
    let run =
        async |args: &[&str]| place.amtool(&program, args).await.unwrap_or_else(|error| panic!("{args:?}: {error}"));

    let shown = run(&["config", "show"]).await;
    assert!(shown.contains("receiver: all") && shown.contains("resolve_timeout: 10m"), "{shown}");
    let file = place.dir.path().join("config.yml");
    std::fs::write(&file, &config).expect("write");
    let checked = run(&["check-config", file.to_str().expect("path")]).await;
    assert!(checked.contains("SUCCESS") && checked.contains("2 receivers"), "{checked}");
    assert_eq!(run(&["config", "routes", "test", "team=web"]).await.trim(), "web");
    assert_eq!(run(&["config", "routes", "test", "team=other"]).await.trim(), "all");

    run(&["alert", "add", "alertname=Disk", "node=a", "--annotation=summary=full"]).await;
    run(&["alert", "add", "alertname=Net", "node=b"]).await;
    let alerts = run(&["alert", "query", "-o", "json"]).await;
    let alerts: Value = serde_json::from_str(&alerts).expect("JSON");
    assert_eq!(alerts.as_array().map(Vec::len), Some(2));
    assert_eq!(alerts[0]["status"]["state"], "active");
    let one = run(&["alert", "query", "alertname=Disk", "-o", "extended"]).await;
    assert!(one.contains("Disk") && one.contains("full") && !one.contains("Net"), "{one}");
    let id = run(&["silence", "add", "alertname=Disk", "--duration=1h", "--comment=why", "--author=me"]).await;
    let id = id.trim().to_owned();
    let shown = run(&["silence", "query"]).await;
    assert!(shown.contains(&id) && shown.contains("alertname=\"Disk\"") && shown.contains("why"), "{shown}");
    assert_eq!(run(&["alert", "query", "--silenced", "-o", "simple"]).await.matches("Disk").count(), 1);
    let active = run(&["alert", "query", "-a", "-o", "simple"]).await;
    assert!(active.contains("Net") && !active.contains("Disk"), "{active}");
    let updated = run(&["silence", "update", "--duration=2h", "--comment=longer", &id]).await;
    assert!(updated.contains("longer") && updated.contains(&id), "{updated}");
    let json = run(&["silence", "query", "-o", "json"]).await;
    let saved = place.dir.path().join("silences.json");
    std::fs::write(&saved, &json).expect("write");
    run(&["silence", "expire", &id]).await;
    assert!(!run(&["silence", "query", "-q"]).await.contains(&id));
    assert!(run(&["silence", "query", "-q", "--expired"]).await.contains(&id));
    let imported = run(&["silence", "import", "--force", saved.to_str().expect("path")]).await;
    assert!(!imported.is_empty());
    assert_eq!(run(&["silence", "query", "-q"]).await.lines().count(), 1);
    let error =
        place.amtool(&program, &["silence", "add", "alertname=~.*", "--comment=x"]).await.expect_err("matches all");
    assert!(error.contains("at least one matcher must not match the empty string"), "{error}");
    let error = place.amtool(&program, &["silence", "expire", "00000000-0000-4000-8000-000000000000"]).await;
    assert!(error.is_err());

    let told = until("a webhook", || {
        let taken = listener.taken.lock().expect("lock");
        taken.iter().find(|(path, _)| path == "/hook/Net").map(|taken| taken.1.clone())
    })
    .await;
    assert_eq!((&told["version"], &told["status"], &told["receiver"]), (&"4".into(), &"firing".into(), &"all".into()));
    assert_eq!(told["groupKey"], "{}:{alertname=\"Net\"}");
    assert_eq!(
        (&told["alerts"][0]["labels"]["node"], &told["alerts"][0]["endsAt"]),
        (&"b".into(), &"0001-01-01T00:00:00Z".into())
    );
    assert_eq!(told["externalURL"], "http://outside");
    place.task.drain(Duration::from_secs(5)).await;
    receiver.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_and_pagerduty_hear_of_beginnings_and_ends() {
    let receiver = Task::root("receiver");
    let listener = listen(&receiver, "ok").await;
    let place = Place::new(&CONFIG.replace("ADDRESS", &listener.address)).await;
    let labels = tsdb::labels::Labels::from_pairs([("alertname", "Slow"), ("team", "web")]);
    let now = jiff::Timestamp::now().as_millisecond();
    let notice = |ends_at: i64| metrics::rule::alert::Notice {
        labels: labels.clone(),
        annotations: tsdb::labels::Labels::from_pairs([("summary", "slow")]),
        starts_at: now - 1000,
        ends_at,
        generator_url: "http://rules".to_owned(),
    };
    place.alertmanager.put(vec![notice(now + 600_000)]).await.expect("put");
    let find = |path: &str, key: &str, value: &str| {
        let taken = listener.taken.lock().expect("lock");
        let found =
            taken.iter().find(|(at, content)| at == path && content.pointer(key).is_some_and(|found| found == value));
        found.map(|taken| taken.1.clone())
    };
    let slack = until("a message", || find("/slack", "/channel", "#web")).await;
    assert_eq!(slack["attachments"][0]["title"], "[FIRING:1] Slow (web)");
    assert_eq!(slack["attachments"][0]["color"], "danger");
    let event = until("an event", || find("/pagerduty", "/event_action", "trigger")).await;
    assert_eq!((&event["routing_key"], &event["payload"]["severity"]), (&"key".into(), &"error".into()));
    assert_eq!(event["payload"]["custom_details"]["num_firing"], 1);
    place.alertmanager.put(vec![notice(jiff::Timestamp::now().as_millisecond())]).await.expect("put");
    let slack = until("the end", || find("/slack", "/attachments/0/color", "good")).await;
    assert_eq!(slack["attachments"][0]["title"], "[RESOLVED] Slow (web)");
    let ended = until("the end of the event", || find("/pagerduty", "/event_action", "resolve")).await;
    assert_eq!(ended["dedup_key"], event["dedup_key"]);
    place.task.drain(Duration::from_secs(5)).await;
    receiver.drain(Duration::from_secs(5)).await;
}

/// When a mail server speaks TLS.
#[derive(Clone)]
enum Tls {
    Never,
    Asked(TlsAcceptor),
    First(TlsAcceptor),
}

/// A mail server that says yes to everything and keeps what it hears.
async fn mail_server(task: &Task, tls: Tls) -> (String, Arc<Mutex<String>>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = socket.local_addr().expect("address").to_string();
    let heard = Arc::new(Mutex::new(String::new()));
    let kept = heard.clone();
    task.spawn_until_cancelled("mail", async move {
        while let Ok((stream, _)) = socket.accept().await {
            match &tls {
                Tls::Never => drop(hear(stream, true, "", &kept).await),
                Tls::First(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => drop(hear(stream, true, "", &kept).await),
                    Err(error) => kept.lock().expect("lock").push_str(&format!("no TLS: {error}")),
                },
                Tls::Asked(acceptor) => {
                    let stream = hear(stream, true, "250-STARTTLS\r\n", &kept).await;
                    match acceptor.accept(stream).await {
                        Ok(stream) => drop(hear(stream, false, "", &kept).await),
                        Err(error) => kept.lock().expect("lock").push_str(&format!("no TLS: {error}")),
                    }
                }
            }
        }
    });
    (address, heard)
}

/// Answers until the connection ends, or until TLS is asked for.
async fn hear<S: AsyncRead + AsyncWrite + Unpin>(stream: S, greets: bool, more: &str, kept: &Mutex<String>) -> S {
    let mut stream = BufReader::new(stream);
    if greets {
        stream.write_all(b"220 here\r\n").await.expect("write");
    }
    let mut data = false;
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        kept.lock().expect("lock").push_str(&line);
        let answer = match line.trim_end() {
            "." => {
                data = false;
                "250 taken\r\n".to_owned()
            }
            _ if data => String::new(),
            "DATA" => {
                data = true;
                "354 go on\r\n".to_owned()
            }
            "STARTTLS" => {
                stream.write_all(b"220 go on\r\n").await.expect("write");
                break;
            }
            text if text.starts_with("EHLO") => format!("250-here\r\n{more}250 AUTH PLAIN\r\n"),
            text if text.starts_with("AUTH") => "235 welcome\r\n".to_owned(),
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => "250 ok\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await.expect("write");
        stream.flush().await.expect("flush");
        line.clear();
    }
    kept.lock().expect("lock").push_str("the connection ends\n");
    stream.into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_over_tls_to_servers_that_are_trusted_alone() {
    let key = rcgen::KeyPair::generate().expect("key");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).expect("names").self_signed(&key).expect("certificate");
    let dir = tempfile::tempdir().expect("directory");
    let authority = dir.path().join("ca.crt");
    std::fs::write(&authority, certificate.pem()).expect("write");
    let server = serve::tls::server_config(certificate.pem().as_bytes(), key.serialize_pem().as_bytes(), None);
    let mut server = (*server.expect("settings")).clone();
    server.alpn_protocols.clear();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let trusted = format!("{{ca_file: '{}'}}", authority.display());
    for (tls, more, trust, ending) in [
        (Tls::Asked(acceptor.clone()), "", trusted.as_str(), "QUIT"),
        (Tls::First(acceptor.clone()), "force_implicit_tls: true", trusted.as_str(), "QUIT"),
        (Tls::Asked(acceptor.clone()), "", "{}", "no TLS"),
        (Tls::Never, "", trusted.as_str(), "the connection ends"),
    ] {
        let taken = ending == "QUIT";
        let receiver = Task::root("receiver");
        let (address, heard) = mail_server(&receiver, tls).await;
        let config = format!(
            "route: {{receiver: mail, group_wait: 100ms}}\nreceivers:\n- name: mail\n  email_configs:\n  - to: a@example.org\n    from: me@example.org\n    smarthost: '{address}'\n    auth_username: user\n    auth_password: pass\n    tls_config: {trust}\n    {more}\n"
        );
        let place = Place::new(&config).await;
        let now = jiff::Timestamp::now().as_millisecond();
        let notice = metrics::rule::alert::Notice {
            labels: tsdb::labels::Labels::from_pairs([("alertname", "Full")]),
            annotations: tsdb::labels::Labels::empty(),
            starts_at: now,
            ends_at: now + 600_000,
            generator_url: String::new(),
        };
        place.alertmanager.put(vec![notice]).await.expect("put");
        let text = until("mail", || {
            let heard = heard.lock().expect("lock").clone();
            heard.contains(ending).then_some(heard)
        })
        .await;
        // Without TLS neither password nor message is told.
        assert_eq!(text.contains("AUTH PLAIN AHVzZXIAcGFzcw=="), taken, "{more} {trust}: {text}");
        assert_eq!(text.contains("MAIL FROM"), taken, "{more} {trust}: {text}");
        place.task.drain(Duration::from_secs(5)).await;
        receiver.drain(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_is_handed_over_with_text_and_html() {
    let receiver = Task::root("receiver");
    let (address, heard) = mail_server(&receiver, Tls::Never).await;
    let config = format!(
        "route: {{receiver: mail, group_wait: 100ms}}\nreceivers:\n- name: mail\n  email_configs:\n  - to: 'A <a@example.org>, b@example.org'\n    from: me@example.org\n    smarthost: '{address}'\n    require_tls: false\n    auth_username: user\n    auth_password: pass\n    text: '{{{{ range .Alerts }}}}{{{{ .Annotations.summary }}}}{{{{ end }}}}'\n"
    );
    let place = Place::new(&config).await;
    let now = jiff::Timestamp::now().as_millisecond();
    let notice = metrics::rule::alert::Notice {
        labels: tsdb::labels::Labels::from_pairs([("alertname", "Full")]),
        annotations: tsdb::labels::Labels::from_pairs([("summary", ".a line that begins with a dot")]),
        starts_at: now,
        ends_at: now + 600_000,
        generator_url: String::new(),
    };
    place.alertmanager.put(vec![notice]).await.expect("put");
    let text = until("mail", || {
        let heard = heard.lock().expect("lock").clone();
        heard.contains("QUIT").then_some(heard)
    })
    .await;
    for expected in [
        "AUTH PLAIN AHVzZXIAcGFzcw==",
        "MAIL FROM:<me@example.org>",
        "RCPT TO:<a@example.org>",
        "RCPT TO:<b@example.org>",
        "Subject: [FIRING:1] ",
        "To: \"A\" <a@example.org>, b@example.org",
        "..a line that begins with a dot",
        "<!DOCTYPE html>",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    place.task.drain(Duration::from_secs(5)).await;
    receiver.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_the_configuration_alert_and_are_shown() {
    let receiver = Task::root("receiver");
    let listener = listen(&receiver, "ok").await;
    let dir = tempfile::tempdir().expect("directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        path
    };
    let rules = "groups:\n- name: g\n  rules:\n  - record: one\n    expr: vector(1)\n  - alert: Always\n    expr: one == 1\n    labels: {node: a}\n    annotations: {summary: 'is {{ $value }} at {{ $externalLabels.site }}'}\n";
    write("rules.yml", rules);
    let mut settings = metrics::settings::Settings::new(dir.path().join("data"));
    let text = "global:\n  evaluation_interval: 200ms\n  external_labels: {site: here}\nrule_files: [rules.yml]\n";
    settings.config = Some(write("prometheus.yml", text));
    settings.alertmanager = Some(write("alertmanager.yml", &CONFIG.replace("ADDRESS", &listener.address)));
    settings.external_url = "http://outside".to_owned();
    let task = Task::root("test");
    let metrics = metrics::Metrics::open(&task, settings).expect("open");
    metrics::start::start(&metrics, None).await.expect("start");
    let told = until("a webhook", || {
        let taken = listener.taken.lock().expect("lock");
        taken.iter().find(|(path, _)| path == "/hook/Always").map(|taken| taken.1.clone())
    })
    .await;
    let alert = &told["alerts"][0];
    assert_eq!((&alert["annotations"]["summary"], &alert["labels"]["site"]), (&"is 1 at here".into(), &"here".into()));
    assert_eq!(alert["generatorURL"], "http://outside/graph?g0.expr=one+%3D%3D+1&g0.tab=1");
    assert_eq!(told["externalURL"], "http://outside/alertmanager");
    let door = metrics::web::door::Door { gate: None, open: true, local_only: false };
    let get = async |path: &str| {
        let request = Request::get(path).body(body::empty()).expect("request");
        let answer = metrics.answer(&door, request).await;
        let bytes = body::read(answer.into_body(), 1 << 20).await.expect("body");
        String::from_utf8(bytes.to_vec()).expect("text")
    };
    let shown: Value = serde_json::from_str(&get("/api/v1/rules").await).expect("JSON");
    let rules = &shown["data"]["groups"][0]["rules"];
    assert_eq!((&rules[0]["health"], &rules[1]["state"]), (&"ok".into(), &"firing".into()), "{shown}");
    let alerts: Value = serde_json::from_str(&get("/alertmanager/api/v2/alerts").await).expect("JSON");
    assert_eq!(alerts[0]["labels"]["alertname"], "Always");
    let exposed = get("/metrics").await;
    assert!(
        exposed.contains("prometheus_rule_evaluations_total{")
            && exposed.contains("alertmanager_alerts{state=\"active\"} 1"),
        "{exposed}"
    );
    metrics.close(Duration::from_secs(10)).await.expect("close");
    receiver.drain(Duration::from_secs(5)).await;
}

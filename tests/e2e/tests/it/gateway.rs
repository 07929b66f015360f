//! The gateway before real pods: Gateway API, Ingress, certificates, WebSocket; changes under load; releases.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use e2e::{Cluster, Kubectl};

use crate::shared::{IMAGE, cluster, fresh, pod, space};

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// curl where the server is; the answer's body and its status.
fn curl(cluster: &Cluster, arguments: &[&str]) -> (String, String) {
    let mut curl = cluster.place.command("curl");
    let output = curl.args(["--silent", "--max-time", "10", "--write-out", "\n%{http_code}"]).args(arguments).output();
    let text = String::from_utf8_lossy(&output.expect("run curl").stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or_default();
    (body.trim().to_owned(), code.to_owned())
}

/// Asks until the answer is as expected.
#[track_caller]
fn curl_until(cluster: &Cluster, arguments: &[&str], expected: (&str, &str)) {
    let started = Instant::now();
    loop {
        let (body, code) = curl(cluster, arguments);
        if (body.as_str(), code.as_str()) == expected {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{arguments:?}: {code} {body}, not {expected:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn web(name: &str) -> String {
    pod(name, "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www")
}

/// Agrees to another protocol whatever is asked, and then says back what it hears.
const SOCKET: &str = r#"cat > /tmp/answer <<'END'
#!/bin/sh
while read -r line; do [ "${#line}" -le 1 ] && break; done
printf 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n'
exec cat
END
chmod +x /tmp/answer; exec nc -ll -p 8080 -e /tmp/answer"#;

#[test]
fn gateways_routes_and_ingresses_answer_with_certificates_and_web_sockets() {
    let Some(kubectl) = space("gate") else { return };
    let cluster = cluster().expect("the cluster that the space is on");
    for name in ["one", "two"] {
        kubectl.apply(&web(name));
    }
    kubectl.apply(&pod("socket", SOCKET));
    for name in ["one", "two", "socket"] {
        kubectl.run(&["expose", "pod", name, "--port=80", "--target-port=8080"]).good();
    }
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["shop.gate.test".to_owned()]).unwrap();
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    fs::write(&chain, signed.cert.pem()).unwrap();
    fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let pair = [format!("--cert={chain}"), format!("--key={key}")];
    let pair = [pair[0].as_str(), pair[1].as_str()];
    kubectl.run(&[&["create", "secret", "tls", "shop-tls"][..], &pair].concat()).good();
    kubectl.apply(
        r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: madang
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: "*.gate.test"}
  - name: https
    port: 443
    protocol: HTTPS
    hostname: shop.gate.test
    tls: {certificateRefs: [{name: shop-tls}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: web}]
  hostnames: [shop.gate.test]
  rules:
  - backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /two}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: two, port: 80}]
  - matches: [{path: {value: /socket}}]
    backendRefs: [{name: socket, port: 80}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: old}
spec:
  rules:
  - host: old.ingress.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: two, port: {number: 80}}}}]}
"#,
    );
    kubectl.run(&["wait", "--for=condition=Programmed", "gateway/web", "--timeout=30s"]).good();
    kubectl.run(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]).good();

    let plain = "http://127.0.0.1:8080";
    curl_until(cluster, &["--header", "Host: shop.gate.test", plain], ("one", "200"));
    curl_until(cluster, &["--header", "Host: shop.gate.test", &format!("{plain}/two")], ("two", "200"));
    curl_until(cluster, &["--header", "Host: old.ingress.test", plain], ("two", "200"));
    let (_, nobody) = curl(cluster, &["--header", "Host: nobody.gate.test", plain]);
    assert_eq!(nobody, "404");

    let there = ["--cacert", chain, "--resolve", "shop.gate.test:8443:127.0.0.1", "https://shop.gate.test:8443/"];
    curl_until(cluster, &there, ("one", "200"));
    curl_until(cluster, &[&["--http2"], &there[..]].concat(), ("one", "200"));
    // Another certificate is shown as soon as the Secret holds another one.
    let signed = rcgen::generate_simple_self_signed(["shop.gate.test".to_owned()]).unwrap();
    fs::write(chain, signed.cert.pem()).unwrap();
    fs::write(key, signed.signing_key.serialize_pem()).unwrap();
    let create = ["create", "secret", "tls", "shop-tls", "--dry-run=client", "--output=yaml"];
    let changed = kubectl.run(&[&create[..], &pair].concat()).good();
    kubectl.apply(&changed);
    curl_until(cluster, &there, ("one", "200"));

    tunnel(cluster);

    // What was counted, in the words of the guide.
    let counted = |query: &str| {
        let url = format!("http://127.0.0.1:9090/api/v1/query?query={query}");
        curl(cluster, &["--globoff", &url]).0
    };
    let query = format!("gateway_requests_total{{namespace=\"{}\",service=\"one\",code=\"200\"}}", kubectl.name());
    let query = query.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
    let started = Instant::now();
    while !counted(&query).contains("\"value\"") {
        assert!(started.elapsed() < PATIENCE, "no samples of the gateway: {}", counted("gateway_requests_total"));
        thread::sleep(Duration::from_millis(500));
    }
}

/// Asks for another protocol, and talks through what comes of it.
fn tunnel(cluster: &Cluster) {
    let mut client: Command = cluster.place.command("timeout");
    client.args(["20", "/bin/busybox", "nc", "127.0.0.1", "8080"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn().expect("run nc");
    let (mut to, mut from) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut heard = String::new();
    let mut until = |end: &str| {
        let mut piece = [0; 1024];
        while !heard.ends_with(end) {
            let read = from.read(&mut piece).expect("read");
            assert!(read > 0, "closed after {heard:?}");
            heard.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        std::mem::take(&mut heard)
    };
    let head = "GET /socket HTTP/1.1\r\nHost: shop.gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    to.write_all(head.as_bytes()).unwrap();
    let answer = until("\r\n\r\n").to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    for said in ["first words", "and others"] {
        to.write_all(said.as_bytes()).unwrap();
        assert_eq!(until(said), said);
    }
    drop(to);
    client.kill().unwrap();
    client.wait().unwrap();
}

/// Whoever asks all the time, over connections that are kept.
struct Client {
    address: String,
    host: &'static str,
    path: &'static str,
    stream: Option<TcpStream>,
}

impl Client {
    fn new(cluster: &Cluster, host: &'static str, path: &'static str) -> Self {
        Self { address: format!("{}:8080", cluster.place.address), host, path, stream: None }
    }

    /// Status and body of one answer.
    fn ask(&mut self) -> Result<(u16, String), String> {
        let asked = self.exchange();
        if asked.as_ref().map_or(true, |(_, _, last)| *last) {
            self.stream = None;
        }
        asked.map(|(status, body, _)| (status, body))
    }

    fn exchange(&mut self) -> Result<(u16, String, bool), String> {
        let text = |error: std::io::Error| error.to_string();
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address).map_err(text)?;
            stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(text)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Err("no connection".into()) };
        write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path, self.host).map_err(text)?;
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let so_far = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                let chunked = head.contains("transfer-encoding: chunked");
                if (chunked && body.ends_with("0\r\n\r\n")) || length.is_some_and(|length| body.len() >= length) {
                    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
                    return Ok((status, body.to_owned(), head.contains("connection: close")));
                }
            }
            match stream.read(&mut piece).map_err(text)? {
                0 => return Err(format!("closed after {so_far:?}")),
                read => answer.extend_from_slice(&piece[..read]),
            }
        }
    }
}

/// A Deployment and its Service, whose answer at `/cgi-bin/app` is the name, with a status.
fn application(name: &str, status: &str, replicas: u32) -> String {
    format!(
        r##"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: main
        image: {IMAGE}
        command: [sh, -c, 'mkdir -p /tmp/www/cgi-bin; printf "#!/bin/sh\nprintf \"Status: {status}\\\\r\\\\nContent-Type: text/plain\\\\r\\\\n\\\\r\\\\n{name}\"\n" > /tmp/www/cgi-bin/app; chmod +x /tmp/www/cgi-bin/app; exec httpd -f -p 8080 -h /tmp/www']
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 2}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
"##
    )
}

fn gateway(name: &str, host: &str, filter: &str) -> String {
    format!(
        r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web}}
spec: {{gatewayClassName: madang, listeners: [{{name: http, port: 80, protocol: HTTP, hostname: {host}}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: shop}}
spec:
  parentRefs: [{{name: web}}]
  rules:
  - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-round, value: "{filter}"}}]}}}}]
    backendRefs: [{{name: {name}, port: 80}}]
"#
    )
}

#[test]
#[ignore = "asks for half a minute while everything is rolled out every second"]
fn a_rollout_every_second_drops_no_request() {
    let Some(kubectl) = space("roll") else { return };
    let cluster = cluster().expect("the cluster that the space is on");
    kubectl.apply(&application("web", "200 OK", 2));
    kubectl.apply(&gateway("web", "roll.gate.test", "0"));
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    curl_until(cluster, &["--header", "Host: roll.gate.test", "http://127.0.0.1:8080/cgi-bin/app"], ("web", "200"));
    let stop = AtomicBool::new(false);
    let (answered, failed) = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::new(cluster, "roll.gate.test", "/cgi-bin/app");
                    let (mut answered, mut failed) = (0, Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        match client.ask() {
                            Ok((200, body)) if body.contains("web") => answered += 1,
                            other => failed.push(format!("{other:?}")),
                        }
                        thread::sleep(Duration::from_millis(5));
                    }
                    (answered, failed)
                })
            })
            .collect();
        for round in 1..=25 {
            let began = Instant::now();
            let change = format!(r#"{{"spec":{{"template":{{"metadata":{{"annotations":{{"round":"{round}"}}}}}}}}}}"#);
            kubectl.run(&["patch", "deployment", "web", "--patch", &change]).good();
            kubectl.apply(&gateway("web", "roll.gate.test", &round.to_string()));
            thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
        }
        kubectl.run(&["rollout", "status", "deployment/web", "--timeout=120s"]).good();
        stop.store(true, Ordering::Relaxed);
        let results = clients.into_iter().map(|client| client.join().expect("a client"));
        results.fold((0, Vec::new()), |mut all, (answered, failed)| {
            all.0 += answered;
            all.1.extend(failed);
            all
        })
    });
    println!("{answered} answered");
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:#?}",
        failed.len(),
        answered + failed.len(),
        &failed[..failed.len().min(10)]
    );
    assert!(answered > 500, "{answered}");
}

#[test]
#[ignore = "waits for samples of minutes"]
fn releases_move_traffic_and_take_it_back_when_their_metrics_say_so() {
    // Metrics ask who somebody is here, and releases can say it.
    let flags = ["--cluster-cidr", "10.66.0.0/16", "--service-cidr", "10.67.0.0/16", "--loopback-auth"];
    let Some(cluster) = fresh(71, &flags) else { return };
    let kubectl = cluster.kubectl("shop");
    kubectl.run(&["create", "namespace", "shop"]).good();
    for (name, status) in [("first", "200 OK"), ("broken", "500 Broken"), ("second", "200 OK")] {
        kubectl.apply(&application(name, status, 1));
        kubectl.run(&["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]).good();
    }
    kubectl.apply(&gateway("first", "release.gate.test", "0"));
    curl_until(
        &cluster,
        &["--header", "Host: release.gate.test", "http://127.0.0.1:8080/cgi-bin/app"],
        ("first", "200"),
    );
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = Client::new(&cluster, "release.gate.test", "/cgi-bin/app");
            let mut broken = 0;
            while !stop.load(Ordering::Relaxed) {
                broken += usize::from(client.ask().is_ok_and(|(status, _)| status == 500));
                thread::sleep(Duration::from_millis(20));
            }
            broken
        });
        // An end with the reason is told, whatever comes; the load ends in any case.
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| both_ways(&cluster, &kubectl)));
        stop.store(true, Ordering::Relaxed);
        let broken = load.join().expect("the load");
        if let Err(panic) = told {
            std::panic::resume_unwind(panic);
        }
        assert!(broken > 0, "the broken version never had traffic");
    });
}

/// A release that fails, and one that does not.
fn both_ways(cluster: &Cluster, kubectl: &Kubectl<'_>) {
    let release = |name: &str, canary: &str| {
        let of = "gateway_requests_total{namespace=\"$(namespace)\",service=\"$(canary)\"";
        format!(
            r#"
apiVersion: madang.dev/v1alpha1
kind: Release
metadata: {{name: {name}}}
spec:
  route: {{name: shop}}
  stable: {{name: first, port: 80}}
  canary: {{name: {canary}, port: 80}}
  steps: [{{weight: 20, pause: 10s}}, {{weight: 60, pause: 5s}}]
  metrics:
  - name: errors
    interval: 2s
    failures: 2
    successes: 2
    unknowns: 60
    success: 'sum(rate({of}}}[1m])) > 0'
    failure: 'sum(rate({of},code=~"5.."}}[1m])) / sum(rate({of}}}[1m])) > 0.05'
"#
        )
    };
    let ends = |name: &str, phase: &str| {
        let wait = format!("--for=jsonpath={{.status.phase}}={phase}");
        let ended = kubectl.run(&["wait", &wait, &format!("release/{name}"), "--timeout=180s"]);
        assert!(ended.ok, "{}\n{}", ended.err, kubectl.run(&["get", "release", name, "--output=yaml"]).out);
    };
    let weights = || kubectl.field("httproute/shop", "{range .spec.rules[0].backendRefs[*]}{.name}={.weight} {end}");
    let ask = ["--header", "Host: release.gate.test", "http://127.0.0.1:8080/cgi-bin/app"];

    kubectl.apply(&release("bad", "broken"));
    kubectl.until(&["get", "httproute", "shop", "--output=jsonpath={.spec.rules[0].backendRefs[*].weight}"], |out| {
        out == "80 20"
    });
    ends("bad", "RolledBack");
    assert_eq!(weights(), "first=100 broken=0 ");
    let message = kubectl.field("release/bad", "{.status.message}");
    assert!(message.contains("errors failed 2 times") && message.contains("gateway_requests_total"), "{message}");
    kubectl.until(&["get", "events", "--field-selector=reason=RolledBack", "--output=name"], |out| !out.is_empty());
    for _ in 0..40 {
        assert_eq!(curl(cluster, &ask), ("first".into(), "200".into()));
    }

    kubectl.apply(&release("good", "second"));
    ends("good", "Succeeded");
    assert_eq!(weights(), "first=0 broken=0 second=100 ");
    for _ in 0..40 {
        assert_eq!(curl(cluster, &ask), ("second".into(), "200".into()));
    }
}

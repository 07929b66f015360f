//! Each endpoint of the API asked of both: targets that both scrape, rules that both evaluate, and what is wrong with requests.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use metrics::{settings::Settings, start};
use serde_json::Value;
use serve::{Body, body};
use task::Task;

use super::{FEATURES, Prometheus, answers::Differences};
use crate::place::{Answered, Place};

/// What the target exposes.
const PAGE: &str = "\
# HELP shop_orders_total Orders, \\\\ and \\n of all kinds.
# TYPE shop_orders_total counter
shop_orders_total{kind=\"a\",quoted=\"\\\"x\\\"\"} 3
shop_orders_total{kind=\"b\"} 4.5e3
# HELP shop_wait_seconds How long.
# TYPE shop_wait_seconds histogram
shop_wait_seconds_bucket{le=\"0.1\"} 1
shop_wait_seconds_bucket{le=\"+Inf\"} 2
shop_wait_seconds_sum 7
shop_wait_seconds_count 2
# TYPE shop_open gauge
shop_open NaN
untyped_thing 1 1700000000000
";

const RULES: &str = r#"groups:
- name: one
  interval: 1s
  limit: 10
  labels: {team: x}
  rules:
  - record: kinds:orders:sum
    expr: sum by (kind) (shop_orders_total)
    labels: {of: shop}
  - alert: Always
    expr: vector(1) > 0
    for: 1h
    keep_firing_for: 5m
    labels: {severity: page}
    annotations: {summary: "value {{ $value | humanize }} {{ $labels.severity }}"}
  - alert: Orders
    expr: shop_orders_total{kind="b"} > 10
    annotations: {summary: "{{ $labels.kind }}: {{ $value }}"}
  - alert: Never
    expr: vector(1) < 0
- name: two
  interval: 1s
  query_offset: 1s
  rules:
  - record: wrong
    expr: shop_orders_total * on () group_left shop_wait_seconds_bucket
"#;

/// What is different by nature: times, durations, versions.
const OWN: [&str; 14] = [
    "lastScrape",
    "lastScrapeDuration",
    "lastEvaluation",
    "evaluationTime",
    "activeAt",
    "startTime",
    "CWD",
    "hostname",
    "serverTime",
    "lastConfigTime",
    "goroutineCount",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOGC",
];

/// What is asked for, and for what reason only the names and types of its fields are compared.
const ASKED: &[(&str, bool)] = &[
    ("/api/v1/query", false),
    ("/api/v1/query?query=", false),
    ("/api/v1/query?query=up", false),
    ("/api/v1/query?query=1&time=abc", false),
    ("/api/v1/query?query=1&time=2023-01-01T00:00:00Z", false),
    ("/api/v1/query?query=1&time=1.2345678", false),
    ("/api/v1/query?query=1&time=1&timeout=abc", false),
    ("/api/v1/query?query=1&time=1&timeout=1e100", false),
    ("/api/v1/query?query=1&time=1&limit=-1", false),
    ("/api/v1/query?query=1&time=1&limit=x", false),
    ("/api/v1/query?query=1&time=1&lookback_delta=x", false),
    ("/api/v1/query?query=1&time=1&stats=all", true),
    ("/api/v1/query?query=shop_orders_total&limit=1", true),
    ("/api/v1/query?query=%22text%22&time=1", false),
    ("/api/v1/query?query=shop_orders_total%5B5m%5D&time=1", false),
    ("/api/v1/query_range", false),
    ("/api/v1/query_range?query=up&start=1&end=2", false),
    ("/api/v1/query_range?query=up&start=1&end=2&step=0", false),
    ("/api/v1/query_range?query=up&start=1&end=2&step=-1", false),
    ("/api/v1/query_range?query=up&start=1&end=2&step=x", false),
    ("/api/v1/query_range?query=up&start=2&end=1&step=1", false),
    ("/api/v1/query_range?query=up&start=1&end=20000&step=1", false),
    ("/api/v1/query_range?query=up&start=1&end=x&step=1", false),
    ("/api/v1/query_range?query=%22a%22&start=1&end=2&step=1", false),
    ("/api/v1/query_range?query=up%5B5m%5D&start=1&end=2&step=1", false),
    ("/api/v1/query_range?query=1&start=1&end=2&step=1&limit=0", false),
    ("/api/v1/query_exemplars", false),
    ("/api/v1/query_exemplars?query=up", false),
    ("/api/v1/query_exemplars?query=up&start=2&end=1", false),
    ("/api/v1/query_exemplars?query=up&start=x", false),
    ("/api/v1/query_exemplars?query=1%2B", false),
    ("/api/v1/format_query", false),
    ("/api/v1/format_query?query=sum(a)by(b)", false),
    ("/api/v1/parse_query?query=1%2B", false),
    ("/api/v1/parse_query?query=sum%20by(a)(rate(b%5B5m%5D%20offset%201m))", false),
    ("/api/v1/labels", false),
    ("/api/v1/labels?match%5B%5D=shop_open", false),
    ("/api/v1/labels?match%5B%5D=%7B%7D", false),
    ("/api/v1/labels?match%5B%5D=%7B", false),
    ("/api/v1/labels?match%5B%5D=1", false),
    ("/api/v1/labels?limit=2", false),
    ("/api/v1/labels?limit=x", false),
    ("/api/v1/labels?start=x", false),
    ("/api/v1/labels?end=x", false),
    ("/api/v1/labels?start=5&end=1", false),
    ("/api/v1/label/kind/values", false),
    ("/api/v1/label/job/values", false),
    ("/api/v1/label/job/values?limit=1", true),
    ("/api/v1/label/kind/values?match%5B%5D=shop_orders_total%7Bkind!%3D%22a%22%7D", false),
    ("/api/v1/label/U__a_2e_b/values", false),
    ("/api/v1/label/a-b/values", false),
    ("/api/v1/label//values", false),
    ("/api/v1/label/nothing/values", false),
    ("/api/v1/series", false),
    ("/api/v1/series?match%5B%5D=%7B__name__%3D~%22shop.*%22%7D", false),
    ("/api/v1/series?match%5B%5D=shop_open&match%5B%5D=shop_open", false),
    ("/api/v1/series?match%5B%5D=shop_orders_total&limit=1", false),
    ("/api/v1/series?match%5B%5D=%7Ba%3D%22%22%7D", false),
    ("/api/v1/series?match%5B%5D=a&start=3&end=1", false),
    ("/api/v1/scrape_pools", false),
    ("/api/v1/scrape_pools/config", false),
    ("/api/v1/scrape_pools/config?scrapePool=shop", false),
    ("/api/v1/scrape_pools/config?scrapePool=none", false),
    ("/api/v1/targets", false),
    ("/api/v1/targets?state=active", false),
    ("/api/v1/targets?state=dropped", false),
    ("/api/v1/targets?state=DROPPED", false),
    ("/api/v1/targets?state=other", false),
    ("/api/v1/targets?scrapePool=none", false),
    ("/api/v1/targets/metadata", false),
    ("/api/v1/targets/metadata?metric=shop_open", false),
    ("/api/v1/targets/metadata?match_target=%7Bjob%3D%22shop%22%7D&limit=1", false),
    ("/api/v1/targets/metadata?match_target=%7B", false),
    ("/api/v1/targets/metadata?metric=none", false),
    ("/api/v1/targets/metadata?limit=x", false),
    ("/api/v1/targets/relabel_steps", false),
    ("/api/v1/targets/relabel_steps?scrapePool=shop&labels=%7B%22__address__%22%3A%22a%3A1%22%7D", false),
    ("/api/v1/targets/relabel_steps?scrapePool=none&labels=%7B%7D", false),
    ("/api/v1/targets/relabel_steps?scrapePool=shop&labels=x", false),
    ("/api/v1/metadata", false),
    ("/api/v1/metadata?metric=shop_orders_total", false),
    ("/api/v1/metadata?metric=none", false),
    ("/api/v1/metadata?limit=x", false),
    ("/api/v1/metadata?limit_per_metric=x", false),
    ("/api/v1/alertmanagers", false),
    ("/api/v1/alerts", false),
    ("/api/v1/rules", false),
    ("/api/v1/rules?type=alert", false),
    ("/api/v1/rules?type=record", false),
    ("/api/v1/rules?type=other", false),
    ("/api/v1/rules?rule_name%5B%5D=Always&exclude_alerts=true", false),
    ("/api/v1/rules?exclude_alerts=x", false),
    ("/api/v1/rules?rule_group%5B%5D=two", false),
    ("/api/v1/rules?file%5B%5D=none", false),
    ("/api/v1/rules?match%5B%5D=%7Bseverity%3D%22page%22%7D", false),
    ("/api/v1/rules?match%5B%5D=%7B", false),
    ("/api/v1/rules?group_limit=1", false),
    ("/api/v1/rules?group_limit=x", false),
    ("/api/v1/rules?group_limit=-1", false),
    ("/api/v1/rules?group_next_token=x", false),
    ("/api/v1/rules?group_limit=1&group_next_token=x", false),
    ("/api/v1/status/config", false),
    ("/api/v1/status/runtimeinfo", true),
    ("/api/v1/status/buildinfo", true),
    ("/api/v1/status/tsdb", true),
    ("/api/v1/status/tsdb?limit=0", false),
    ("/api/v1/status/tsdb?limit=x", false),
    ("/api/v1/status/tsdb/blocks", true),
    ("/api/v1/status/walreplay", true),
    ("/api/v1/status/self_metrics", true),
    ("/api/v1/status/nothing", false),
    ("/api/v1/features", true),
    ("/api/v1/notifications", false),
    ("/api/v1/nothing", false),
    ("/api/v1/write", false),
    ("/api/v1/admin/tsdb/snapshot", false),
    ("/federate", false),
    ("/federate?match%5B%5D=shop_orders_total&match%5B%5D=shop_wait_seconds_bucket", false),
    ("/federate?match%5B%5D=%7B", false),
    ("/-/healthy", false),
    ("/-/ready", false),
    ("/-/quit", false),
    ("/-/reload", false),
    ("/nothing", false),
];

/// The same with POST.
const POSTED: &[(&str, &str)] = &[
    ("/api/v1/query", "query=1&time=1"),
    ("/api/v1/query", "query=%zz"),
    ("/api/v1/query_range", "query=1&start=1&end=3&step=1"),
    ("/api/v1/series", "match[]=shop_open"),
    ("/api/v1/labels", "limit=1"),
    ("/api/v1/label/job/values", ""),
    ("/api/v1/targets", ""),
    ("/api/v1/write", "x"),
    ("/api/v1/read", "x"),
    ("/api/v1/otlp/v1/metrics", "x"),
    ("/api/v1/admin/tsdb/delete_series", ""),
    ("/api/v1/admin/tsdb/delete_series", "match[]={"),
    ("/api/v1/admin/tsdb/delete_series?match[]=nothing_at_all", ""),
    ("/api/v1/admin/tsdb/delete_series?match[]=a&start=x", ""),
    ("/api/v1/admin/tsdb/clean_tombstones", ""),
    ("/api/v1/admin/tsdb/snapshot?skip_head=x", ""),
    ("/-/reload", ""),
    ("/nothing", ""),
];

/// Asks both for everything.
pub async fn check() {
    let task = Task::root("target");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let handler = |_: Request<Body>| async {
        let mut response = Response::new(body::full(PAGE));
        let kind = http::HeaderValue::from_static("text/plain; version=0.0.4");
        response.headers_mut().insert("content-type", kind);
        response
    };
    task.spawn("listener", serve::http::serve(task.child("listener"), listener, None, Default::default(), handler));
    let dir = tempfile::tempdir().unwrap();
    let (rules, file) = (dir.path().join("rules.yml"), dir.path().join("prometheus.yml"));
    std::fs::write(&rules, RULES).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{region: eu}}}}\n\
         rule_files: [{}]\n\
         alerting:\n  alertmanagers:\n  - static_configs: [{{targets: ['127.0.0.1:1']}}]\n\
         scrape_configs:\n\
         - job_name: shop\n  static_configs: [{{targets: ['{target}'], labels: {{env: test}}}}]\n\
         \x20 relabel_configs: [{{target_label: added, replacement: 'yes'}}]\n\
         - job_name: gone\n  scrape_interval: 2s\n  scrape_timeout: 1s\n  metrics_path: /else\n  static_configs: [{{targets: ['127.0.0.1:1', '127.0.0.1:2']}}]\n\
         \x20 relabel_configs: [{{source_labels: [__address__], regex: .*:2, action: drop}}]\n",
        rules.display()
    );
    std::fs::write(&file, &config).unwrap();
    let peer = Prometheus::start(&config).await;
    let place = Place::empty(|settings: &mut Settings| {
        settings.query.features = FEATURES;
        settings.config = Some(file);
        settings.web.lifecycle = true;
        settings.external_url = format!("http://{}:1", rustix::system::uname().nodename().to_string_lossy());
    });
    start::start(&place.metrics, None).await.unwrap();
    for asked in ["shop_orders_total", "kinds:orders:sum", "ALERTS{alertname=\"Orders\"}", "up{job=\"gone\"}"] {
        let address = format!("/api/v1/query?query={}", super::escaped(asked));
        for attempt in 0.. {
            let answers = [ask(&place, "GET", &address, "").await, peer.get(&address).await];
            if answers
                .iter()
                .all(|answered| answered.json()["data"]["result"].as_array().is_some_and(|list| !list.is_empty()))
            {
                break;
            }
            assert!(attempt < 300, "{asked}: {answers:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for attempt in 0.. {
        let asked = "/api/v1/rules?rule_group%5B%5D=two";
        if ask(&place, "GET", asked, "").await.text().contains("lastError")
            && peer.get(asked).await.text().contains("lastError")
        {
            break;
        }
        assert!(attempt < 300, "the rule that is wrong is not evaluated");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut differences = Differences::new("endpoint");
    for (address, shape) in ASKED {
        let (ours, theirs) = (ask(&place, "GET", address, "").await, peer.get(address).await);
        compare(&mut differences, &format!("GET {address}"), *shape, ours, theirs);
    }
    for (address, form) in POSTED {
        let ours = ask(&place, "POST", address, form).await;
        let theirs = peer.try_send(posted(address), (*form).into()).await.unwrap();
        compare(&mut differences, &format!("POST {address} {form}"), false, ours, theirs);
    }
    for method in ["DELETE", "OPTIONS", "HEAD"] {
        for address in ["/api/v1/query?query=1&time=1", "/api/v1/targets", "/-/healthy"] {
            let ours = ask(&place, method, address, "").await;
            let theirs = peer.try_send(Request::builder().method(method).uri(address), "".into()).await.unwrap();
            compare(&mut differences, &format!("{method} {address}"), false, ours, theirs);
        }
    }
    differences.judge(true);
    task.drain(Duration::from_secs(1)).await;
}

fn posted(address: &str) -> http::request::Builder {
    Request::post(address).header("content-type", "application/x-www-form-urlencoded")
}

async fn ask(place: &Place, method: &str, address: &str, form: &'static str) -> Answered {
    let request = match method {
        "POST" => posted(address),
        _ => Request::builder().method(method).uri(address),
    };
    place.request(request, form).await
}

fn compare(differences: &mut Differences, asked: &str, shape: bool, mut ours: Answered, mut theirs: Answered) {
    for name in ["content-type", "allow", "location"] {
        let value = |answered: &Answered| answered.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let (mine, other) = (value(&ours), value(&theirs));
        if mine != other {
            differences.note(format!("{asked}\n   ours: {name} {mine:?}\n theirs: {name} {other:?}"));
        }
    }
    let times = regex::Regex::new(r" \d{13}\n").unwrap();
    for answered in [&mut ours, &mut theirs] {
        if asked.contains("/federate") {
            // The times of the samples.
            answered.bytes = times.replace_all(&answered.text(), " T\n").into_owned().into_bytes();
        }
        if let Ok(mut value) = serde_json::from_slice::<Value>(&answered.bytes) {
            blank(&mut value, shape && answered.status == StatusCode::OK);
            // Series and descriptions come in no order.
            for list in ["/data", "/data/result"] {
                if let Some(list) = value.pointer_mut(list).and_then(Value::as_array_mut) {
                    list.sort_by_cached_key(Value::to_string);
                }
            }
            answered.bytes = value.to_string().into_bytes();
        }
    }
    if let (Some(mine), Some(other)) = (yaml(&ours), yaml(&theirs)) {
        for (name, one, other) in [("only theirs", &other, &mine), ("only ours", &mine, &other)] {
            for line in one.lines().filter(|line| !other.lines().any(|known| known == *line)) {
                differences.note(format!("{asked}\n {name}: {line}"));
            }
        }
    } else if shape && ours.status == theirs.status {
        for (name, one, other) in [("only theirs", &theirs, &ours), ("only ours", &ours, &theirs)] {
            let (has, lacks) = (fields(&one.json()), fields(&other.json()));
            for field in has.iter().filter(|field| !lacks.contains(field)) {
                differences.note(format!("{asked}\n {name}: {field}"));
            }
        }
    } else {
        differences.compare(asked, true, &ours, &theirs);
    }
}

/// A configuration that was answered.
fn yaml(answered: &Answered) -> Option<String> {
    let value: Value = serde_json::from_slice(&answered.bytes).ok()?;
    value.pointer("/data/yaml")?.as_str().map(str::to_owned)
}

/// Takes out what is different by nature: of a shape all values.
fn blank(value: &mut Value, shape: bool) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if OWN.contains(&key.as_str()) && (value.is_string() || value.is_number()) {
                    *value = Value::from(if value.is_string() { "own" } else { "0" });
                } else if key == "value" && value.is_array() || key == "globalUrl" {
                    // The time of a sample; and the port.
                    *value = Value::from("own");
                } else {
                    blank(value, shape);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| blank(value, shape)),
        _ if shape => {
            *value = Value::from(if value.is_number() {
                "number"
            } else if value.is_boolean() {
                "truth"
            } else {
                "text"
            })
        }
        _ => {}
    }
}

/// Paths of all fields with their types.
fn fields(value: &Value) -> Vec<String> {
    let mut found = match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| fields(value).into_iter().map(move |field| format!(".{key}{field}")))
            .collect(),
        Value::Array(list) => {
            list.iter().flat_map(|value| fields(value).into_iter().map(|field| format!("[]{field}"))).collect()
        }
        leaf => vec![format!(" {}", leaf.as_str().unwrap_or("null"))],
    };
    found.sort();
    found.dedup();
    found
}

//! Queries, series, status, administration.

use http::{Method, Request, StatusCode};
use metrics::{
    shown::{Alert, Alerting, Dropped, Health, Rule, RuleGroup, Rules, Step, Target, Targets},
    web::door::Door,
};
use serde_json::{Value, json};
use serve::body;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tsdb::{Metadata, labels::Labels};

use crate::place::{NOW, Place};

async fn check(place: &Place, address: &str, expected: Value) {
    let answer = place.get(address).await;
    assert_eq!(answer.status, StatusCode::OK, "{address}: {}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/json", "{address}");
    assert_eq!(answer.json(), json!({"status": "success", "data": expected}), "{address}");
}

#[tokio::test]
async fn queries_are_answered_as_prometheus_answers_them() {
    let place = Place::filled();
    let both = json!({"resultType": "vector", "result": [
        {"metric": {"instance": "a"}, "value": [NOW, "300"]},
        {"metric": {"instance": "b"}, "value": [NOW, "600"]},
    ]});
    check(&place, &format!("/api/v1/query?query=sort(sum by(instance)(requests_total))&time={NOW}"), both).await;
    let scalar = json!({"resultType": "scalar", "result": [NOW, "0.1"]});
    check(&place, &format!("/api/v1/query?query=0.1&time={NOW}"), scalar).await;
    let text = json!({"resultType": "string", "result": [1.5, "a<b"]});
    check(&place, "/api/v1/query?query=\"a<b\"&time=1.5", text).await;
    let inf = json!({"resultType": "vector", "result": [
        {"metric": {"__name__": "up", "markup": "<b>&"}, "value": [NOW + 1, "+Inf"]},
    ]});
    check(&place, &format!("/api/v1/query?query=up&time={}", NOW + 1), inf).await;
    let none = json!({"resultType": "vector", "result": []});
    check(&place, "/api/v1/query?query=absent_metric", none).await;
    let matrix = json!({"resultType": "matrix", "result": [
        {"metric": {}, "values": [[NOW - 30, "810"], [NOW - 15, "855"], [NOW, "900"]]},
    ]});
    let (start, end) = (NOW - 30, NOW);
    check(&place, &format!("/api/v1/query_range?query=sum(requests_total)&start={start}&end={end}&step=15"), matrix)
        .await;
    let window = json!({"resultType": "matrix", "result": [
        {"metric": {"__name__": "requests_total", "instance": "a", "job": "shop"}, "values": [[NOW - 15, "285"], [NOW, "300"]]},
    ]});
    check(&place, &format!("/api/v1/query?query=requests_total{{instance=\"a\"}}[30s]&time={NOW}"), window).await;
}

#[tokio::test]
async fn ranges_come_as_columns_to_who_asks_for_them() {
    let place = Place::filled();
    let ask = async |query: &str| {
        let uri = format!("/api/v1/query_range?query={query}&start={}&end={NOW}&step=15", NOW - 30);
        let accept = "application/vnd.madang.columns, application/json;q=0.9";
        place.request(Request::get(uri).header("accept", accept).header("accept-encoding", "gzip"), "").await
    };
    let answer = ask("sum(requests_total)").await;
    assert_eq!(answer.headers["content-type"], "application/vnd.madang.columns");
    let values = &answer.bytes[8 + 24 + 8..][..24];
    let values: Vec<f64> = values.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(values, [810.0, 855.0, 900.0]);
    // Errors, and what is no number, are JSON to everybody.
    assert_eq!(ask("(").await.headers["content-type"], "application/json");
    let instant = Request::get("/api/v1/query?query=1").header("accept", "application/vnd.madang.columns");
    assert_eq!(place.request(instant, "").await.headers["content-type"], "application/json");
}

#[tokio::test]
async fn posted_forms_go_before_the_address() {
    let place = Place::filled();
    let answer = place.post("/api/v1/query?query=2", "query=1&time=7").await;
    assert_eq!(answer.json()["data"]["result"], json!([7, "1"]));
}

#[tokio::test]
async fn results_are_cut_with_a_warning_and_cost_is_told() {
    let place = Place::filled();
    let answer = place.get(&format!("/api/v1/query?query=requests_total&time={NOW}&limit=1&stats=all")).await.json();
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(answer["warnings"], json!(["results truncated due to limit"]));
    assert!(answer["data"]["stats"]["samples"]["samplesRead"].as_u64() >= Some(2));
    let answer = place.get("/api/v1/query?query=1&stats=yes").await.json();
    let warning = "value \"yes\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\"";
    assert_eq!(answer["warnings"], json!([warning]));
    let answer = place.get(&format!("/api/v1/query?query=rate(up[5m])&time={}", NOW + 60)).await.json();
    let info =
        "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"up\" (1:6)";
    assert!(answer.get("infos").is_none() || answer["infos"] == json!([info]), "{answer}");
}

#[tokio::test]
async fn errors_have_the_words_and_statuses_of_prometheus() {
    let place = Place::filled();
    let range = "/api/v1/query_range?query=1";
    let cases = [
        (
            "/api/v1/query",
            400,
            "bad_data",
            "invalid parameter \"query\": unknown position: parse error: no expression found in input",
        ),
        (
            "/api/v1/query?query=1&limit=x",
            400,
            "bad_data",
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ("/api/v1/query?query=1&limit=-1", 400, "bad_data", "invalid parameter \"limit\": limit must be non-negative"),
        (
            "/api/v1/query?query=1&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        (
            "/api/v1/query?query=1&timeout=x",
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        (
            "/api/v1/query?query=1&lookback_delta=x",
            400,
            "bad_data",
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        ("/api/v1/query?query=up&timeout=0.000000001", 503, "timeout", ""),
        ("/api/v1/query?query=requests_total%2Bon(job)requests_total&time=1700000000", 422, "execution", ""),
        (
            &format!("{range}&start=x"),
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"x\" to a valid timestamp",
        ),
        (
            &format!("{range}&start=2&end=1&step=1"),
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            &format!("{range}&start=1&end=2&step=0"),
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            &format!("{range}&start=0&end=11001&step=1"),
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        ("/api/v1/series", 400, "bad_data", "no match[] parameter provided"),
        (
            "/api/v1/series?match[]={}",
            400,
            "bad_data",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        ("/api/v1/labels?match[]={}", 400, "bad_data", "match[] must contain at least one non-empty matcher"),
        ("/api/v1/label//values", 400, "bad_data", "invalid label name: \"\""),
        ("/api/v1/metadata?limit=x", 400, "bad_data", "limit must be a number"),
        ("/api/v1/status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number"),
        ("/api/v1/status/tsdb?limit=10001", 400, "bad_data", "limit must not exceed 10000"),
        ("/api/v1/rules?type=x", 400, "bad_data", "invalid parameter \"type\": not supported value \"x\""),
        (
            "/api/v1/rules?group_next_token=x",
            400,
            "bad_data",
            "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups",
        ),
        ("/api/v1/scrape_pools/config", 400, "bad_data", "no scrapePool parameter provided"),
        (
            "/api/v1/query_exemplars?query=up&start=2&end=1",
            400,
            "bad_data",
            "end timestamp must not be before start timestamp",
        ),
    ];
    for (address, status, kind, message) in cases {
        let answer = place.get(address).await;
        assert_eq!(answer.status.as_u16(), status, "{address}: {}", answer.text());
        let body = answer.json();
        assert_eq!((&body["status"], &body["errorType"]), (&json!("error"), &json!(kind)), "{address}");
        if !message.is_empty() {
            assert_eq!(body["error"], json!(message), "{address}");
        }
    }
}

#[tokio::test]
async fn series_and_labels_are_listed() {
    let place = Place::filled();
    check(&place, "/api/v1/labels", json!(["__name__", "instance", "job", "markup"])).await;
    check(&place, "/api/v1/labels?match[]=up", json!(["__name__", "markup"])).await;
    check(&place, "/api/v1/labels?match[]=up&match[]={job=\"shop\"}", json!(["__name__", "instance", "job", "markup"]))
        .await;
    check(&place, "/api/v1/label/instance/values", json!(["a", "b"])).await;
    check(&place, "/api/v1/label/instance/values?match[]={instance!=\"a\",job=\"shop\"}", json!(["b"])).await;
    check(&place, "/api/v1/label/none/values", json!([])).await;
    check(&place, &format!("/api/v1/label/instance/values?end={}", NOW - 301), json!([])).await;
    let a = json!({"__name__": "requests_total", "instance": "a", "job": "shop"});
    check(&place, "/api/v1/series?match[]=requests_total{instance=\"a\"}&match[]={instance=~\"a|z\"}", json!([a]))
        .await;
    check(&place, &format!("/api/v1/series?match[]=up&end={}", NOW - 1), json!([])).await;
    let cut = place.get("/api/v1/series?match[]=requests_total&limit=1").await.json();
    assert_eq!(cut["data"].as_array().unwrap().len(), 1);
    assert_eq!(cut["warnings"], json!(["results truncated due to limit"]));
}

#[tokio::test]
async fn exemplars_are_found_by_the_selectors_of_a_query() {
    let place = Place::filled();
    let expected = json!([{
        "seriesLabels": {"__name__": "requests_total", "instance": "a", "job": "shop"},
        "exemplars": [{"labels": {"trace_id": "t1"}, "value": "0.5", "timestamp": NOW}],
    }]);
    check(&place, "/api/v1/query_exemplars?query=rate(requests_total[5m])", expected).await;
    assert_eq!(place.get("/api/v1/query_exemplars?query=1").await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn expressions_are_printed_and_parsed() {
    let place = Place::filled();
    check(&place, "/api/v1/format_query?query=sum(  foo)by(a)", json!("sum by (a) (foo)")).await;
    let tree = place.get("/api/v1/parse_query?query=-foo").await.json();
    assert_eq!((&tree["data"]["type"], &tree["data"]["op"]), (&json!("unaryExpr"), &json!("-")));
}

#[tokio::test]
async fn a_deleted_series_is_gone_and_snapshots_have_names() {
    let place = Place::filled();
    let answer = place.post("/api/v1/admin/tsdb/delete_series", "match[]=requests_total{instance=\"a\"}").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    let left = place.get(&format!("/api/v1/query?query=count(requests_total)&time={NOW}")).await.json();
    assert_eq!(left["data"]["result"][0]["value"][1], json!("1"));
    assert_eq!(place.post("/api/v1/admin/tsdb/clean_tombstones", "").await.status, StatusCode::NO_CONTENT);
    let name = place.post("/api/v1/admin/tsdb/snapshot", "").await.json()["data"]["name"].clone();
    let dir = place.metrics.settings().dir.join("snapshots").join(name.as_str().unwrap());
    assert!(dir.is_dir(), "{}", dir.display());
    assert_eq!(place.get("/api/v1/admin/tsdb/snapshot").await.status, StatusCode::METHOD_NOT_ALLOWED);
    let closed = Place::empty(|settings| settings.web.admin = false);
    let answer = closed.post("/api/v1/admin/tsdb/snapshot", "").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["error"], json!("admin APIs disabled"));
}

#[tokio::test]
async fn management_answers_with_upstreams_words() {
    let place = Place::filled();
    assert_eq!(place.get("/-/healthy").await.text(), "Prometheus Server is Healthy.\n");
    assert_eq!(place.get("/-/ready").await.text(), "Prometheus Server is Ready.\n");
    let quit = place.post("/-/quit", "").await;
    assert_eq!((quit.status, quit.text().as_str()), (StatusCode::FORBIDDEN, "Lifecycle API is not enabled."));
    let wrong = place.get("/-/reload").await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    let open = Place::empty(|settings| settings.web.lifecycle = true);
    assert_eq!(open.post("/-/reload", "").await.status, StatusCode::OK);
    open.metrics.show(|parts| {
        parts.apply.push(("scrape", Arc::new(|_| Box::pin(async { Err(anyhow::anyhow!("bad file")) }))));
    });
    assert_eq!(open.post("/-/reload", "").await.text(), "failed to reload config: scrape: bad file\n");
    let notice = open.get("/api/v1/notifications").await.json();
    assert_eq!(notice["data"][0]["text"], json!("Configuration reload has failed."));
    assert_eq!(open.post("/-/quit", "").await.text(), "Requesting termination... Goodbye!");
    assert_eq!(open.post("/-/quit", "").await.text(), "Termination already in progress.");
    open.metrics.quit_asked().await;
}

#[tokio::test]
async fn pages_in_browsers_are_refused() {
    let place = Place::filled();
    let door = Door { gate: None, open: true, local_only: true };
    for (host, origin, status) in [
        ("evil.example:9090", None, StatusCode::FORBIDDEN),
        ("127.0.0.1:9090", Some("http://evil.example"), StatusCode::FORBIDDEN),
        ("localhost:9090", Some("http://localhost:3000"), StatusCode::OK),
    ] {
        let mut request = Request::get("/api/v1/query?query=1").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let response = place.metrics.answer(&door, request.body(body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{host} {origin:?}");
    }
    let closed = Door { gate: None, open: false, local_only: true };
    let request = Request::get("/api/v1/query?query=1").header("host", "localhost").body(body::empty()).unwrap();
    assert_eq!(place.metrics.answer(&closed, request).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_take_it() {
    use std::io::Read;
    let place = Place::filled();
    let address = format!("/api/v1/query_range?query=requests_total&start={}&end={NOW}&step=1", NOW - 300);
    let plain = place.get(&address).await;
    let request = Request::get(&address).header("accept-encoding", "gzip, deflate");
    let packed = place.request(request, "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.bytes);
}

#[tokio::test]
async fn newest_samples_are_federated() {
    let place = Place::empty(|_| {});
    let storage = place.metrics.storage();
    let now = jiff::Timestamp::now().as_millisecond();
    let mut batch = tsdb::batch::Batch::default();
    for (instance, time, value) in [("a", now - 1_000, 3.0), ("a", now - 500, 4.0), ("old", now - 600_000, 5.0)] {
        let series = storage.series(&Labels::from_pairs([("__name__", "up"), ("instance", instance)])).unwrap();
        batch.float(series, time, value);
    }
    storage.append(&batch, tsdb::batch::Durability::Logged).unwrap();
    place.configure("global: {external_labels: {region: eu}}");
    let answer = place.get("/federate?match[]=up").await;
    let expected = format!("# TYPE up untyped\nup{{instance=\"a\",region=\"eu\"}} 4 {}\n", now - 500);
    assert_eq!(answer.text(), expected);
    assert_eq!(place.get("/federate?match[]=up{").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn own_metrics_are_exposed() {
    let place = Place::filled();
    place.get("/api/v1/query?query=1").await;
    let text = place.get("/metrics").await.text();
    for line in [
        "prometheus_tsdb_head_series 3",
        "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/query\"} 1",
        "prometheus_config_last_reload_successful 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

struct Shown;

impl Targets for Shown {
    fn pools(&self) -> Vec<String> {
        vec!["shop".into()]
    }

    fn pool_config(&self, pool: &str) -> Option<String> {
        (pool == "shop").then(|| "job_name: shop\n".into())
    }

    fn active(&self, pool: Option<&str>) -> Vec<Target> {
        let target = Target {
            discovered: Labels::from_pairs([("__address__", "a:1")]),
            labels: Labels::from_pairs([("instance", "a:1"), ("job", "shop")]),
            pool: "shop".into(),
            url: "http://a:1/metrics".into(),
            last_error: String::new(),
            last_scrape: None,
            last_duration: Duration::from_millis(250),
            health: Health::Good,
            interval: "15s".into(),
            timeout: "10s".into(),
        };
        if pool.is_none_or(|pool| pool == "shop") { vec![target] } else { Vec::new() }
    }

    fn dropped(&self, _: Option<&str>) -> Vec<Dropped> {
        Vec::new()
    }

    fn dropped_counts(&self) -> BTreeMap<String, usize> {
        BTreeMap::from([("shop".to_owned(), 0)])
    }

    fn each_metadata(&self, metric: Option<&str>, take: &mut dyn FnMut(&Labels, &str, &Metadata) -> bool) {
        let labels = Labels::from_pairs([("instance", "a:1"), ("job", "shop")]);
        let described = Metadata { kind: "counter".into(), unit: String::new(), help: "Requests.".into() };
        if metric.is_none_or(|metric| metric == "requests_total") {
            take(&labels, "requests_total", &described);
        }
    }

    fn relabel(&self, _: &str, _: &Labels) -> Option<Vec<Step>> {
        None
    }
}

impl Rules for Shown {
    fn groups(&self, _: &[Vec<promql::matcher::Matcher>]) -> Vec<RuleGroup> {
        let at = "2026-01-02T03:04:05.5Z".parse().unwrap();
        let rule = |name: &str, alerting: Option<Alerting>| Rule {
            name: name.into(),
            query: "up == 0".into(),
            labels: Labels::empty(),
            health: Health::Good,
            last_error: String::new(),
            evaluation: Duration::from_millis(1),
            last_evaluation: Some(at),
            alerting,
        };
        let alert = Alert {
            labels: Labels::from_pairs([("alertname", "Down")]),
            annotations: Labels::empty(),
            state: "firing",
            active_at: at,
            keep_firing_since: None,
            value: 1.0,
        };
        let alerting = Alerting {
            state: "firing",
            hold: Duration::from_mins(5),
            keep_firing: Duration::ZERO,
            annotations: Labels::empty(),
            alerts: vec![alert],
        };
        let group = |name: &str, rules: Vec<Rule>| RuleGroup {
            name: name.into(),
            file: "rules.yml".into(),
            interval: Duration::from_secs(15),
            limit: 0,
            evaluation: Duration::ZERO,
            last_evaluation: None,
            rules,
        };
        vec![
            group("one", vec![rule("Down", Some(alerting)), rule("job:up", None)]),
            group("two", vec![rule("r2", None)]),
        ]
    }
}

#[tokio::test]
async fn what_parts_show_is_written_as_prometheus_writes_it() {
    let place = Place::filled();
    check(
        &place,
        "/api/v1/targets?state=dropped",
        json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}),
    )
    .await;
    check(&place, "/api/v1/rules", json!({"groups": []})).await;
    check(&place, "/api/v1/alertmanagers", json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})).await;
    place.metrics.show(|parts| {
        parts.targets = Some(Arc::new(Shown));
        parts.rules = Some(Arc::new(Shown));
    });
    let target = json!({
        "discoveredLabels": {"__address__": "a:1"},
        "labels": {"instance": "a:1", "job": "shop"},
        "scrapePool": "shop",
        "scrapeUrl": "http://a:1/metrics",
        "globalUrl": "http://a:1/metrics",
        "lastError": "",
        "lastScrape": "0001-01-01T00:00:00Z",
        "lastScrapeDuration": 0.25,
        "health": "up",
        "scrapeInterval": "15s",
        "scrapeTimeout": "10s",
    });
    check(
        &place,
        "/api/v1/targets?state=active",
        json!({"activeTargets": [target], "droppedTargets": [], "droppedTargetCounts": null}),
    )
    .await;
    check(
        &place,
        "/api/v1/metadata",
        json!({"requests_total": [{"type": "counter", "help": "Requests.", "unit": ""}]}),
    )
    .await;
    check(&place, "/api/v1/metadata?metric=other", json!({})).await;
    let of_target = json!([{
        "target": {"instance": "a:1", "job": "shop"}, "metric": "requests_total",
        "type": "counter", "help": "Requests.", "unit": "",
    }]);
    check(&place, "/api/v1/targets/metadata?match_target={job=\"shop\"}", of_target).await;
    check(&place, "/api/v1/targets/metadata?match_target={job=\"x\"}", json!([])).await;
    let alerts = json!({"alerts": [{
        "labels": {"alertname": "Down"}, "annotations": {}, "state": "firing",
        "activeAt": "2026-01-02T03:04:05.5Z", "value": "1e+00",
    }]});
    check(&place, "/api/v1/alerts", alerts).await;
    let first = place.get("/api/v1/rules?group_limit=1").await.json()["data"].clone();
    assert_eq!(first["groups"][0]["rules"][0]["duration"], json!(300));
    assert_eq!(first["groups"][0]["rules"][0]["alerts"].as_array().unwrap().len(), 1);
    let token = first["groupNextToken"].as_str().unwrap();
    let second = place.get(&format!("/api/v1/rules?group_limit=1&group_next_token={token}")).await.json();
    assert_eq!(second["data"]["groups"][0]["name"], json!("two"));
    assert!(second["data"].get("groupNextToken").is_none());
    let records = place.get("/api/v1/rules?type=record&rule_name[]=job:up").await.json();
    assert_eq!(records["data"]["groups"][0]["rules"][0]["name"], json!("job:up"));
    assert_eq!(records["data"]["groups"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_query_that_is_too_large_ends_with_prometheus_words() {
    let place = {
        let place = Place::empty(|settings| settings.query.samples = 10);
        let mut batch = tsdb::batch::Batch::default();
        for nth in 0..50 {
            let labels = Labels::from_pairs([("__name__", "many"), ("nth", &nth.to_string())]);
            batch.float(place.metrics.storage().series(&labels).unwrap(), NOW * 1000, 1.0);
        }
        place.metrics.storage().append(&batch, tsdb::batch::Durability::Logged).unwrap();
        place
    };
    let answer = place.get(&format!("/api/v1/query?query=many&time={NOW}")).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let message = "query processing would load too many samples into memory in expression evaluation";
    assert_eq!(answer.json()["error"], json!(message));
}

#[tokio::test]
async fn hostile_requests_are_answered_with_errors() {
    let place = Place::filled();
    let deep = "(".repeat(100_000);
    let answer = place.post("/api/v1/query", &format!("query={deep}1")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let long = format!("query={}", "1+".repeat(1 << 20));
    assert_eq!(place.post("/api/v1/query", &long).await.status, StatusCode::BAD_REQUEST);
    let endless = body::stream(futures::stream::repeat_with(|| Ok(bytes::Bytes::from(vec![b'a'; 1 << 16]))));
    let request = Request::post("/api/v1/query")
        .header("host", "localhost")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(endless)
        .unwrap();
    let door = Door { gate: None, open: true, local_only: true };
    assert_eq!(place.metrics.answer(&door, request).await.status(), StatusCode::BAD_REQUEST);
    let pairs = "match[]=up&".repeat(20_000);
    assert_eq!(place.post("/api/v1/series", &pairs).await.status, StatusCode::BAD_REQUEST);
    let nothing = place.request(Request::builder().method(Method::DELETE).uri("/api/v1/query"), "").await;
    assert_eq!(nothing.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(place.get("/api/v1/nothing").await.status, StatusCode::NOT_FOUND);
}

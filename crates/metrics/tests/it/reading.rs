//! Remote read as a client: queries over what is here and what another has.

use std::time::Duration;

use http::Request;
use metrics::{Metrics, settings::Settings, start, web::door::Door};
use serve::Body;
use task::Task;
use tsdb::{
    batch::{Batch, Durability},
    labels::Labels,
};

use crate::place::{NOW, Place};

/// Serves the API of a place; its address.
async fn listen(task: &Task, place: &Place) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v1/read", listener.local_addr().unwrap());
    let (metrics, door) = (place.metrics.clone(), Door { gate: None, open: true, local_only: true });
    let handler = move |request: Request<Body>| {
        let (metrics, door) = (metrics.clone(), door.clone());
        async move { metrics.answer(&door, request).await }
    };
    task.spawn("listener", serve::http::serve(task.child("listener"), listener, None, Default::default(), handler));
    url
}

async fn reading(task: &Task, dir: &std::path::Path, yaml: &str) -> Metrics {
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, yaml).unwrap();
    let metrics = Metrics::open(task, Settings { config: Some(file), ..Settings::new(dir.join("data")) }).unwrap();
    start::start(&metrics, None).await.unwrap();
    let storage = metrics.storage();
    let mut batch = Batch::default();
    for instance in ["a", "c"] {
        let labels = [("__name__", "requests_total"), ("instance", instance), ("job", "shop")];
        let series = storage.series(&Labels::from_pairs(labels)).unwrap();
        batch.float(series, (NOW + 15) * 1000, 1000.0);
    }
    storage.append(&batch, Durability::Logged).unwrap();
    metrics
}

async fn asked(metrics: &Metrics, query: &str) -> serde_json::Value {
    let uri = format!("/api/v1/query?query={query}&time={}", NOW + 15);
    let request = Request::get(uri).header("host", "127.0.0.1").body(serve::body::empty()).unwrap();
    let door = Door { gate: None, open: true, local_only: true };
    let bytes = serve::body::read(metrics.answer(&door, request).await.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_see_what_is_here_and_what_another_has() {
    let task = Task::root("test");
    let there = Place::filled();
    there.configure("global: {external_labels: {region: eu}}");
    let url = listen(&task, &there).await;
    let dir = tempfile::tempdir().unwrap();
    let yaml =
        format!("global: {{external_labels: {{region: eu}}}}\nremote_read: [{{url: '{url}', read_recent: true}}]");
    let here = reading(&task, dir.path(), &yaml).await;
    // a has 21 samples there and one here, b has 21 there, c one here; external labels are asked for and taken away.
    let answer = asked(&here, "sort(count_over_time(requests_total%5B10m%5D))").await;
    let rows: Vec<(&str, &str, bool)> = answer["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let labels = &row["metric"];
            (labels["instance"].as_str().unwrap(), row["value"][1].as_str().unwrap(), labels["region"].is_null())
        })
        .collect();
    assert_eq!(rows, [("c", "1", true), ("b", "21", true), ("a", "22", true)], "{answer}");
    let text = here.parts().exposed.iter().fold(String::new(), |mut out, exposed| {
        exposed(&mut out);
        out
    });
    assert!(text.contains("prometheus_remote_read_client_queries_total{code=\"200\""), "{text}");
    here.close(Duration::from_secs(5)).await.unwrap();
    task.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_makes_a_warning_and_who_need_not_be_asked_is_not() {
    let task = Task::root("test");
    for (more, warned) in [
        ("read_recent: true", true),
        ("read_recent: true, required_matchers: {job: other}", false),
        ("read_recent: true, required_matchers: {job: shop}", true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        // Nobody listens there.
        let yaml = format!("remote_read: [{{url: 'http://127.0.0.1:1/read', {more}}}]");
        let here = reading(&task, dir.path(), &yaml).await;
        let answer = asked(&here, "requests_total%7Bjob=%22shop%22%7D").await;
        assert_eq!(answer["data"]["result"].as_array().map(Vec::len), Some(2), "{answer}");
        let warnings = answer["warnings"].as_array().map_or(0, Vec::len);
        assert_eq!(warnings == 1, warned, "{more}: {answer}");
        here.close(Duration::from_secs(5)).await.unwrap();
    }
    task.drain(Duration::from_secs(5)).await;
}

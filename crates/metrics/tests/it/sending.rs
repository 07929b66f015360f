//! Remote write to another: what arrives, after refusals and restarts too.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use metrics::{Metrics, remote::message, settings::Settings, start};
use serve::{Body, body};
use task::Task;
use tsdb::{
    batch::{Batch, Durability},
    labels::Labels,
};

type Samples = Vec<(String, i64, f64)>;

/// A receiver that answers with statuses given, then with 204, and notes what it takes.
struct Receiver {
    url: String,
    taken: Arc<Mutex<Samples>>,
    asked: Arc<Mutex<Vec<(u16, String)>>>,
    task: Task,
}

impl Receiver {
    async fn new(statuses: Vec<u16>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/write", listener.local_addr().unwrap());
        let (taken, asked) = (Arc::new(Mutex::new(Samples::new())), Arc::new(Mutex::new(Vec::new())));
        let statuses = Arc::new(Mutex::new(statuses));
        let task = Task::root("receiver");
        let (samples, noted) = (taken.clone(), asked.clone());
        let handler = move |request: Request<Body>| {
            let (samples, noted, statuses) = (samples.clone(), noted.clone(), statuses.clone());
            async move {
                let (parts, sent) = request.into_parts();
                let packed = body::read(sent, 1 << 20).await.unwrap();
                let bytes = snap::raw::Decoder::new().decompress_vec(&packed).unwrap();
                let version = parts.headers["x-prometheus-remote-write-version"].to_str().unwrap().to_owned();
                let status = statuses.lock().unwrap().pop().unwrap_or(204);
                noted.lock().unwrap().push((status, version.clone()));
                if status == 204 {
                    let mut found = Samples::new();
                    let take = |series: message::Series| {
                        let labels = series.labels.unwrap();
                        found.extend(series.floats.iter().map(|float| (labels.to_string(), float.time, float.value)));
                        Ok(())
                    };
                    let read = if version == "2.0.0" {
                        message::each_v2(&bytes, take)
                    } else {
                        message::each_v1(&bytes, take)
                    };
                    read.unwrap();
                    samples.lock().unwrap().extend(found);
                }
                let mut response = Response::new(body::empty());
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response
            }
        };
        task.spawn("listener", serve::http::serve(task.child("listener"), listener, None, Default::default(), handler));
        Self { url, taken, asked, task }
    }

    async fn wait(&self, count: usize) -> Samples {
        for _ in 0..600 {
            let taken = self.taken.lock().unwrap().clone();
            if taken.len() >= count {
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("only {:?} came", self.taken.lock().unwrap());
    }
}

async fn sending(dir: &std::path::Path, url: &str, more: &str) -> (Metrics, Task) {
    let file = dir.join("prometheus.yml");
    let text = format!(
        "global: {{external_labels: {{region: eu}}}}\nremote_write:\n- url: {url}\n  name: there\n  {more}\n  queue_config: {{batch_send_deadline: 50ms, max_backoff: 100ms, max_samples_per_send: 2}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let task = Task::root("test");
    let metrics = Metrics::open(&task, Settings { config: Some(file), ..Settings::new(dir.join("data")) }).unwrap();
    start::start(&metrics, None).await.unwrap();
    (metrics, task)
}

fn append(metrics: &Metrics, name: &str, samples: &[(i64, f64)]) {
    let storage = metrics.storage();
    let series = storage.series(&Labels::from_pairs([("__name__", name)])).unwrap();
    let mut batch = Batch::default();
    samples.iter().for_each(|(time, value)| batch.float(series, *time, *value));
    storage.append(&batch, Durability::Logged).unwrap();
}

#[tokio::test]
async fn samples_arrive_in_order_after_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(vec![503, 500]).await;
    let (metrics, _task) = sending(dir.path(), &receiver.url, "remote_timeout: 5s").await;
    append(&metrics, "a", &[(1, 1.0), (2, 2.0), (3, 3.0)]);
    append(&metrics, "a", &[(4, 4.0), (5, 5.0)]);
    let labels = "{__name__=\"a\", region=\"eu\"}".to_owned();
    let expected: Samples = (1..=5).map(|n| (labels.clone(), n, n as f64)).collect();
    assert_eq!(receiver.wait(5).await, expected);
    metrics.close(Duration::from_secs(5)).await.unwrap();
    receiver.task.drain(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_was_not_taken_is_sent_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let (metrics, _task) = sending(dir.path(), "http://127.0.0.1:1/write", "remote_timeout: 5s").await;
    append(&metrics, "a", &[(1, 1.0), (2, 2.0)]);
    metrics.close(Duration::from_secs(5)).await.unwrap();
    let receiver = Receiver::new(Vec::new()).await;
    let (metrics, _task) = sending(dir.path(), &receiver.url, "remote_timeout: 5s").await;
    append(&metrics, "a", &[(3, 3.0)]);
    let times: Vec<i64> = receiver.wait(3).await.iter().map(|sample| sample.1).collect();
    assert_eq!(times, [1, 2, 3]);
    metrics.close(Duration::from_secs(5)).await.unwrap();
    receiver.task.drain(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn series_are_relabelled_and_old_receivers_get_the_first_version() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(vec![415]).await;
    let more = "protobuf_message: io.prometheus.write.v2.Request\n  write_relabel_configs: [{source_labels: [__name__], regex: drop.*, action: drop}, {target_label: site, replacement: x}]";
    let (metrics, _task) = sending(dir.path(), &receiver.url, more).await;
    append(&metrics, "dropped", &[(1, 1.0)]);
    append(&metrics, "kept", &[(1, 1.0)]);
    let labels = "{__name__=\"kept\", region=\"eu\", site=\"x\"}".to_owned();
    assert_eq!(receiver.wait(1).await, [(labels, 1, 1.0)]);
    let asked = receiver.asked.lock().unwrap().clone();
    assert_eq!(asked, [(415, "2.0.0".to_owned()), (204, "0.1.0".to_owned())]);
    metrics.close(Duration::from_secs(5)).await.unwrap();
    receiver.task.drain(Duration::from_secs(1)).await;
}

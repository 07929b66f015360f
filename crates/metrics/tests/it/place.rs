//! Metrics in a directory that goes with the test, with a few series in it.

use http::{HeaderMap, Method, Request, StatusCode};
use metrics::{Metrics, config::Config, settings::Settings, web::door::Door};
use serde_json::Value;
use serve::body;
use task::Task;
use tsdb::{
    batch::{Batch, Durability},
    labels::Labels,
    sample::Exemplar,
};

/// The time of the last sample: seconds since 1970.
pub const NOW: i64 = 1_700_000_000;

pub struct Place {
    pub metrics: Metrics,
    _task: Task,
    _dir: tempfile::TempDir,
}

/// What was answered.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answered {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Place {
    /// Nothing in it.
    pub fn empty(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(dir.path().join("data"));
        settings.web.remote_write_receiver = true;
        settings.web.admin = true;
        change(&mut settings);
        let task = Task::root("test");
        let metrics = Metrics::open(&task, settings).unwrap();
        Self { metrics, _task: task, _dir: dir }
    }

    /// Five minutes of three series, a sample every 15 s, and an exemplar.
    pub fn filled() -> Self {
        let place = Self::empty(|_| {});
        let storage = place.metrics.storage();
        let mut batch = Batch::default();
        for (instance, factor) in [("a", 1.0), ("b", 2.0)] {
            let labels = [("__name__", "requests_total"), ("instance", instance), ("job", "shop")];
            let series = storage.series(&Labels::from_pairs(labels)).unwrap();
            for step in 0..=20 {
                batch.float(series, (NOW - 300 + 15 * step) * 1000, factor * 15.0 * step as f64);
            }
            if instance == "a" {
                let labels = Labels::from_pairs([("trace_id", "t1")]);
                batch.exemplar(series, Exemplar { labels, value: 0.5, timestamp: Some(NOW * 1000) });
            }
        }
        let up = storage.series(&Labels::from_pairs([("__name__", "up"), ("markup", "<b>&")])).unwrap();
        batch.float(up, NOW * 1000 + 5, f64::INFINITY);
        let outcome = storage.append(&batch, Durability::Logged).unwrap();
        assert_eq!(outcome.rejected, []);
        place
    }

    /// Has a configuration be in force, as far as the API is concerned.
    pub fn configure(&self, text: &str) {
        self.metrics.load(&Config::parse(text, |_| None).unwrap());
    }

    /// A request as a program on this machine makes it.
    pub async fn request(&self, request: http::request::Builder, sent: impl Into<bytes::Bytes>) -> Answered {
        let door = Door { gate: None, open: true, local_only: true };
        let request = request.header("host", "127.0.0.1:9090").body(body::full(sent.into())).unwrap();
        let response = self.metrics.answer(&door, request).await;
        let (parts, body) = response.into_parts();
        let bytes = body::read(body, 64 << 20).await.unwrap().to_vec();
        Answered { status: parts.status, headers: parts.headers, bytes }
    }

    pub async fn get(&self, address: &str) -> Answered {
        self.request(Request::builder().method(Method::GET).uri(escaped(address)), "").await
    }

    pub async fn post(&self, address: &str, form: &str) -> Answered {
        let request = Request::post(escaped(address)).header("content-type", "application/x-www-form-urlencoded");
        self.request(request, escaped(form)).await
    }
}

/// What may not stand in an address as it is.
fn escaped(address: &str) -> String {
    let pairs = [(" ", "%20"), ("\"", "%22"), ("{", "%7B"), ("}", "%7D"), ("<", "%3C"), ("|", "%7C")];
    pairs.iter().fold(address.to_owned(), |address, (from, to)| address.replace(from, to))
}

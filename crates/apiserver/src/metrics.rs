//! What the server counts of itself, under upstream's names, in the text format of Prometheus.
//!
//! <https://kubernetes.io/docs/reference/instrumentation/metrics/>

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use counts::{
    counter,
    page::{Page, braces},
    process,
};
use http::Response;
use serve::body::Body;

use crate::{call::Call, registry::Served};

/// Upper bounds of the duration histogram, in seconds: upstream's.
const BOUNDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// Upper bounds of what is left of client certificates, in seconds: half an hour to a year.
const EXPIRY: &[f64] = &[
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

/// Counters of one server.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<Labels, Counts>>,
    watches: Mutex<BTreeMap<GroupVersionResource, Arc<AtomicI64>>>,
    /// Requests that change something, and those that read.
    in_flight: [Arc<AtomicI64>; 2],
    counts: counter::Counts,
}

type GroupVersionResource = (&'static str, &'static str, &'static str);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: bool,
    code: u16,
}

#[derive(Debug, Default)]
struct Counts {
    total: u64,
    seconds: f64,
    buckets: [u64; BOUNDS.len()],
}

/// Counts a request until it is answered.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a watch as long as it lives.
#[derive(Debug)]
pub struct OpenWatch(Arc<AtomicI64>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Different sets of labels that are kept: enough for every kind and verb, and a bound for hostile paths.
const SERIES: usize = 5000;

impl Metrics {
    /// Counts an answered request.
    pub fn request(&self, call: &Call, response: &Response<Body>, took: Duration) {
        let info = &call.info;
        let scope = match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
            (false, ..) => "",
            (true, false, _) => "resource",
            (true, true, false) => "namespace",
            (true, true, true) => "cluster",
        };
        let verb = match info.verb.as_str() {
            "create" => "POST".to_owned(),
            "update" => "PUT".to_owned(),
            "get" | "list" | "watch" | "patch" | "delete" | "deletecollection" | "post" | "put" | "head"
            | "options" | "proxy" => info.verb.to_uppercase(),
            _ => "other".to_owned(),
        };
        let unknown = info.is_resource && response.status() == 404 && info.name.is_empty();
        let text = |text: &String| if unknown { String::new() } else { text.clone() };
        let labels = Labels {
            verb,
            group: text(&info.group),
            version: text(&info.version),
            resource: text(&info.resource),
            subresource: text(&info.subresource),
            scope,
            dry_run: call.query.get("dryRun").is_some(),
            code: response.status().as_u16(),
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= SERIES && !requests.contains_key(&labels) {
            return;
        }
        let counts = requests.entry(labels).or_default();
        counts.total += 1;
        let seconds = took.as_secs_f64();
        counts.seconds += seconds;
        for (bucket, bound) in counts.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Counts a watch until the result is dropped.
    pub fn open_watch(&self, served: &Served) -> OpenWatch {
        let kind = &served.kind;
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let gauge = watches.entry((kind.group, kind.version, kind.plural)).or_default();
        gauge.fetch_add(1, Ordering::Relaxed);
        OpenWatch(gauge.clone())
    }

    /// Counts a client certificate that was believed; it ends in so many seconds.
    pub fn certificate(&self, seconds: i64) {
        self.counts.observe("apiserver_client_certificate_expiration_seconds", EXPIRY, &[], seconds as f64);
    }

    /// Counts a request that is being answered until the result is dropped.
    pub fn begin(&self, reading: bool) -> InFlight {
        let gauge = self.in_flight[usize::from(reading)].clone();
        gauge.fetch_add(1, Ordering::Relaxed);
        InFlight(gauge)
    }

    /// The page. `objects` are those stored, by resource; `apis` say of each API behind this server whether it answers.
    pub fn page(&self, objects: &[(String, usize)], apis: &[(String, bool)]) -> Page {
        let mut page = Page::default();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals = page.family("apiserver_request_total", "counter");
        for (labels, counts) in requests.iter() {
            let code = labels.code.to_string();
            let mut all = vec![("code", code.as_str()), ("component", "apiserver"), ("dry_run", labels.dry_run())];
            all.extend(labels.common());
            totals.add(&all, counts.total);
        }
        let mut durations = BTreeMap::<String, Counts>::new();
        let mut within = BTreeMap::<String, Counts>::new();
        for (labels, counts) in requests.iter() {
            let mut common = vec![("component", "apiserver")];
            common.extend(labels.common());
            let mut text = String::new();
            braces(&mut text, &common);
            // Watches and what is dry are no objectives of service levels.
            if labels.verb != "WATCH" && labels.verb != "CONNECT" && !labels.dry_run {
                within.entry(text).or_default().add(counts);
            }
            common.insert(1, ("dry_run", labels.dry_run()));
            let mut text = String::new();
            braces(&mut text, &common);
            durations.entry(text).or_default().add(counts);
        }
        drop(requests);
        let mut family = page.family("apiserver_request_duration_seconds", "histogram");
        for (labels, counts) in &durations {
            family.histogram(labels, &BOUNDS, &counts.buckets, counts.total, counts.seconds);
        }
        for name in ["apiserver_request_sli_duration_seconds", "apiserver_request_slo_duration_seconds"] {
            let mut family = page.family(name, "histogram");
            for (labels, counts) in &within {
                family.histogram(labels, &BOUNDS, &counts.buckets, counts.total, counts.seconds);
            }
        }
        for ((group, version, resource), gauge) in self.watches.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [
                ("component", "apiserver"),
                ("group", group),
                ("resource", resource),
                ("scope", ""),
                ("subresource", ""),
                ("verb", "WATCH"),
                ("version", version),
            ];
            page.gauge("apiserver_longrunning_requests", &labels, gauge.load(Ordering::Relaxed));
        }
        for (kind, gauge) in ["mutating", "readOnly"].into_iter().zip(&self.in_flight) {
            let labels = [("request_kind", kind)];
            page.gauge("apiserver_current_inflight_requests", &labels, gauge.load(Ordering::Relaxed));
        }
        for (resource, count) in objects {
            page.gauge("apiserver_storage_objects", &[("resource", resource)], count);
            page.gauge("apiserver_resource_objects", &resource_labels(resource), count);
        }
        for (name, available) in apis {
            page.gauge("aggregator_unavailable_apiservice", &[("name", name)], u8::from(!available));
        }
        let labels = [("git_version", crate::plain::VERSION.2), ("platform", "linux")];
        page.gauge("kubernetes_build_info", &labels, 1);
        self.counts.write(&mut page, "apiserver_");
        for prefix in ["workqueue_", "rest_client_"] {
            counter::Counts::process().write(&mut page, prefix);
        }
        process::write(&mut page);
        page
    }
}

/// `deployments.apps` as group and resource.
fn resource_labels(name: &str) -> [(&'static str, &str); 2] {
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    [("group", group), ("resource", resource)]
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.total += other.total;
        self.seconds += other.seconds;
        for (bucket, own) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += own;
        }
    }
}

impl Labels {
    fn dry_run(&self) -> &'static str {
        if self.dry_run { "All" } else { "" }
    }

    fn common(&self) -> [(&'static str, &str); 6] {
        [
            ("group", &self.group),
            ("resource", &self.resource),
            ("scope", self.scope),
            ("subresource", &self.subresource),
            ("verb", &self.verb),
            ("version", &self.version),
        ]
    }
}

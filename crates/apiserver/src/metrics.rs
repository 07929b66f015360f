//! What the server counts of itself, under upstream's names, in the text format of Prometheus.
//!
//! <https://kubernetes.io/docs/reference/instrumentation/metrics/>

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::Response;
use serve::body::Body;

use crate::{call::Call, registry::Served};

/// Upper bounds of the duration histogram, in seconds: upstream's.
const BOUNDS: [f64; 20] =
    [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0];

/// Counters of one server.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<Labels, Counts>>,
    watches: Mutex<BTreeMap<GroupVersionResource, Arc<AtomicI64>>>,
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

    /// The text.
    pub fn text(&self, objects: &[(String, usize)]) -> String {
        let mut out = String::new();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        out.push_str("# HELP apiserver_request_total Requests answered.\n# TYPE apiserver_request_total counter\n");
        for (labels, counts) in requests.iter() {
            let dry_run = if labels.dry_run { "All" } else { "" };
            _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{}\",component=\"apiserver\",dry_run=\"{dry_run}\",{}}} {}",
                labels.code,
                labels.common(),
                counts.total
            );
        }
        out.push_str(
            "# HELP apiserver_request_duration_seconds Time to answer requests.\n# TYPE apiserver_request_duration_seconds histogram\n",
        );
        let mut durations: BTreeMap<(String, bool), Counts> = BTreeMap::new();
        for (labels, counts) in requests.iter() {
            let sum = durations.entry((labels.common(), labels.dry_run)).or_default();
            sum.total += counts.total;
            sum.seconds += counts.seconds;
            for (bucket, own) in sum.buckets.iter_mut().zip(counts.buckets) {
                *bucket += own;
            }
        }
        for ((common, dry_run), counts) in &durations {
            let dry_run = if *dry_run { "All" } else { "" };
            let labels = format!("component=\"apiserver\",dry_run=\"{dry_run}\",{common}");
            for (bound, bucket) in BOUNDS.iter().zip(counts.buckets) {
                _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {bucket}");
            }
            _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {}", counts.total);
            _ = writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {}", counts.seconds);
            _ = writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {}", counts.total);
        }
        drop(requests);
        out.push_str("# HELP apiserver_longrunning_requests Watches that are open.\n# TYPE apiserver_longrunning_requests gauge\n");
        for ((group, version, resource), gauge) in self.watches.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            _ = writeln!(
                out,
                "apiserver_longrunning_requests{{component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"\",subresource=\"\",verb=\"WATCH\",version=\"{version}\"}} {}",
                gauge.load(Ordering::Relaxed)
            );
        }
        out.push_str("# HELP apiserver_storage_objects Stored objects.\n# TYPE apiserver_storage_objects gauge\n");
        for (resource, count) in objects {
            _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
        }
        out
    }
}

impl Labels {
    fn common(&self) -> String {
        let clean = |text: &str| text.replace(['\\', '"', '\n'], "_");
        format!(
            "group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            clean(&self.group),
            clean(&self.resource),
            self.scope,
            clean(&self.subresource),
            clean(&self.verb),
            clean(&self.version)
        )
    }
}

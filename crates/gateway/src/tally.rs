//! What is counted of requests: how many by status, how long they took, by route and backend.
//!
//! A request touches atomic numbers only. Series stay while a route has them; they are written when somebody asks. Their
//! labels `namespace` and `service` are the backend's, by which autoscalers ask for an object's metrics.
//!
//! | family | type | labels beside the route's and the backend's |
//! |---|---|---|
//! | `gateway_requests_total` | counter | `code` |
//! | `gateway_request_duration_seconds` | histogram | |
//! | `gateway_requests_in_flight` | gauge | |
//! | `gateway_retries_total` | counter | |
//! | `gateway_failed_attempts_total` | counter | |

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use counts::page::{self, Page};
use http::StatusCode;

/// Upper bounds of durations, seconds.
const BOUNDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Statuses that are counted by themselves; of others a hundred together, as `2xx`.
const CODES: [u16; 29] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 431,
    499, 500, 501, 502, 503, 504,
];

/// Different series at most; what comes on top is counted without its labels.
const SERIES: usize = 20_000;

/// What is counted of one route's requests to one backend.
#[derive(Debug, Default)]
pub struct Series {
    labels: Vec<(&'static str, String)>,
    codes: [AtomicU64; CODES.len()],
    others: [AtomicU64; 6],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    active: AtomicI64,
    retries: AtomicU64,
    failures: AtomicU64,
}

impl Series {
    /// A request begins.
    pub fn began(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    /// A request is over.
    pub fn ended(&self, status: StatusCode, took: Duration) {
        self.active.fetch_sub(1, Relaxed);
        match CODES.binary_search(&status.as_u16()) {
            Ok(at) => self.codes[at].fetch_add(1, Relaxed),
            Err(_) => self.others[usize::from(status.as_u16() / 100).min(5)].fetch_add(1, Relaxed),
        };
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A request that began here goes on in another series.
    pub fn moved(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    /// A request is sent once more.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// An attempt did not get through.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    fn write(&self, page: &mut Page) {
        let pairs: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut labels = String::new();
        page::braces(&mut labels, &pairs);
        let mut requests = page.family("gateway_requests_total", "counter");
        let named = CODES.iter().map(ToString::to_string).zip(&self.codes);
        let others = (0..6).map(|hundred| format!("{hundred}xx")).zip(&self.others);
        for (code, count) in named.chain(others) {
            let count = count.load(Relaxed);
            if count > 0 {
                let mut pairs = pairs.clone();
                pairs.push(("code", &code));
                requests.add(&pairs, count);
            }
        }
        let mut sum = 0;
        let buckets: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| {
                sum += bucket.load(Relaxed);
                sum
            })
            .collect();
        let seconds = self.nanoseconds.load(Relaxed) as f64 / 1e9;
        let mut durations = page.family("gateway_request_duration_seconds", "histogram");
        durations.histogram(&labels, &BOUNDS, &buckets[..BOUNDS.len()], sum, seconds);
        page.family("gateway_requests_in_flight", "gauge").written("", &labels, self.active.load(Relaxed));
        page.family("gateway_retries_total", "counter").written("", &labels, self.retries.load(Relaxed));
        page.family("gateway_failed_attempts_total", "counter").written("", &labels, self.failures.load(Relaxed));
    }
}

/// All series.
#[derive(Debug, Default)]
pub struct Tally {
    series: Mutex<HashMap<Vec<(&'static str, String)>, Arc<Series>>>,
    rest: Arc<Series>,
}

/// Whose requests are counted.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// `HTTPRoute` or `Ingress`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Tally {
    /// The series of a route's requests to a Service and port; of those that no backend gets without.
    pub fn series(&self, route: Route<'_>, backend: Option<(&str, &str, u16)>) -> Arc<Series> {
        let (namespace, service, port) = backend.unwrap_or((route.namespace, "", 0));
        let port = if port == 0 { String::new() } else { port.to_string() };
        let labels = vec![
            ("route_kind", route.kind.to_owned()),
            ("route_namespace", route.namespace.to_owned()),
            ("route", route.name.to_owned()),
            ("namespace", namespace.to_owned()),
            ("service", service.to_owned()),
            ("port", port),
        ];
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&labels) {
            return known.clone();
        }
        if all.len() >= SERIES {
            return self.rest.clone();
        }
        let series = Arc::new(Series { labels: labels.clone(), ..Series::default() });
        all.insert(labels, series.clone());
        series
    }

    /// Counts what no route matches.
    pub fn unmatched(&self) -> &Arc<Series> {
        &self.rest
    }

    /// Forgets series that no route has any more.
    pub fn prune(&self) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, series| Arc::strong_count(series) > 1);
    }

    /// Writes all families.
    pub fn write(&self, page: &mut Page) {
        let all: Vec<Arc<Series>> =
            self.series.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut all: Vec<&Arc<Series>> = all.iter().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all.into_iter().chain([&self.rest]).for_each(|series| series.write(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: Route<'_> = Route { kind: "HTTPRoute", namespace: "shop", name: "front" };

    #[test]
    fn requests_are_counted_by_route_backend_and_status() {
        let tally = Tally::default();
        let series = tally.series(ROUTE, Some(("shop", "orders", 80)));
        for (status, millis) in [(200, 2), (200, 700), (418, 4), (503, 70_000)] {
            series.began();
            series.ended(StatusCode::from_u16(status).unwrap(), Duration::from_millis(millis));
        }
        series.began();
        let mut page = Page::default();
        tally.write(&mut page);
        let text = page.text();
        let labels = "route_kind=\"HTTPRoute\",route_namespace=\"shop\",route=\"front\",namespace=\"shop\",service=\"orders\",\
                      port=\"80\"";
        for line in [
            format!("gateway_requests_total{{{labels},code=\"200\"}} 2\n"),
            format!("gateway_requests_total{{{labels},code=\"4xx\"}} 1\n"),
            format!("gateway_requests_total{{{labels},code=\"503\"}} 1\n"),
            format!("gateway_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 2\n"),
            format!("gateway_request_duration_seconds_bucket{{{labels},le=\"60\"}} 3\n"),
            format!("gateway_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 4\n"),
            format!("gateway_requests_in_flight{{{labels}}} 1\n"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }

    #[test]
    fn statuses_are_in_order_so_that_they_are_found() {
        assert!(CODES.is_sorted());
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn series_last_as_long_as_their_routes() {
        let tally = Tally::default();
        let kept = tally.series(ROUTE, None);
        drop(tally.series(ROUTE, Some(("a", "b", 1))));
        tally.prune();
        assert_eq!(tally.series.lock().unwrap().len(), 1);
        assert!(Arc::ptr_eq(&kept, &tally.series(ROUTE, None)));
    }
}

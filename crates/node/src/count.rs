//! What the node counts of its own doing, and how counts are written down for Prometheus.
//!
//! ```text
//! work, probes, pressure ─ add, took ─▶ Counts ─▶ Page ─▶ /metrics, /metrics/probes
//! ```
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Different sets of labels that are kept of all counts together; more are not counted.
const SERIES: usize = 20_000;
/// Upper bounds of durations, seconds: Prometheus' usual ones, and longer ones, since images are pulled too.
const BOUNDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// Labels: name and value, in the order in which they are written.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page of samples in the text format.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Begins a family; `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str) {
        let _infallible = writeln!(self.0, "# TYPE {name} {kind}");
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        if !labels.is_empty() {
            self.0.push_str(&braced(labels));
        }
        let _infallible = writeln!(self.0, " {value}");
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: &str, value: impl Display) {
        self.family(name, kind);
        self.sample(name, &[], value);
    }

    /// The text.
    pub fn text(self) -> String {
        self.0
    }
}

fn braced(labels: Labels<'_>) -> String {
    let mut out = String::from("{");
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    out.push('}');
    out
}

#[derive(Clone, Debug, Default)]
struct Times {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

/// Labels as they are written, which is what series are told apart by.
type Series<T> = BTreeMap<&'static str, BTreeMap<String, T>>;

#[derive(Debug, Default)]
struct Inner {
    totals: Series<u64>,
    times: Series<Times>,
    series: usize,
}

/// Counts since the node's process began. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<Inner>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more.
    pub fn add(&self, name: &'static str, labels: Labels<'_>) {
        let inner = &mut *self.lock();
        let entry = inner.totals.entry(name).or_default();
        *slot(entry, &mut inner.series, labels).unwrap_or(&mut 0) += 1;
    }

    /// Counts something that took so long.
    pub fn took(&self, name: &'static str, labels: Labels<'_>, duration: Duration) {
        let inner = &mut *self.lock();
        let entry = inner.times.entry(name).or_default();
        let Some(times) = slot(entry, &mut inner.series, labels) else { return };
        let seconds = duration.as_secs_f64();
        times.count += 1;
        times.seconds += seconds;
        for (bucket, bound) in times.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Counts a request to the runtime, under upstream's names.
    pub fn operation(&self, kind: &str, duration: Duration, well: bool) {
        let labels = [("operation_type", kind)];
        self.add("kubelet_runtime_operations_total", &labels);
        self.took("kubelet_runtime_operations_duration_seconds", &labels, duration);
        if !well {
            self.add("kubelet_runtime_operations_errors_total", &labels);
        }
    }

    /// Forgets the series of `prefix`'s families that have a label of this value: of a pod that is gone.
    pub fn forget(&self, prefix: &str, label: &str, value: &str) {
        let part = braced(&[(label, value)]);
        let part = part.trim_start_matches('{').trim_end_matches('}');
        let inner = &mut *self.lock();
        let mut gone = 0;
        for (_, series) in inner.totals.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
            let before = series.len();
            series.retain(|labels, _| !labels.contains(part));
            gone += before - series.len();
        }
        for (_, series) in inner.times.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
            let before = series.len();
            series.retain(|labels, _| !labels.contains(part));
            gone += before - series.len();
        }
        inner.series -= gone.min(inner.series);
    }

    /// Writes the families whose names begin so.
    pub fn write(&self, page: &mut Page, prefix: &str) {
        let inner = self.lock();
        for (name, series) in inner.totals.iter().filter(|(name, _)| name.starts_with(prefix)) {
            page.family(name, "counter");
            for (labels, total) in series {
                let _infallible = writeln!(page.0, "{name}{labels} {total}");
            }
        }
        for (name, series) in inner.times.iter().filter(|(name, _)| name.starts_with(prefix)) {
            page.family(name, "histogram");
            for (labels, times) in series {
                let open = match labels.strip_suffix('}') {
                    Some(open) => format!("{open},"),
                    None => "{".to_owned(),
                };
                for (bucket, bound) in times.buckets.iter().zip(BOUNDS) {
                    let _infallible = writeln!(page.0, "{name}_bucket{open}le=\"{bound}\"}} {bucket}");
                }
                let _infallible = writeln!(page.0, "{name}_bucket{open}le=\"+Inf\"}} {}", times.count);
                let _infallible = writeln!(page.0, "{name}_sum{labels} {}", times.seconds);
                let _infallible = writeln!(page.0, "{name}_count{labels} {}", times.count);
            }
        }
    }
}

fn slot<'a, T: Default>(series: &'a mut BTreeMap<String, T>, all: &mut usize, labels: Labels<'_>) -> Option<&'a mut T> {
    let key = if labels.is_empty() { String::new() } else { braced(labels) };
    if !series.contains_key(&key) {
        if *all >= SERIES {
            return None;
        }
        *all += 1;
    }
    Some(series.entry(key).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_in_the_text_format() {
        let counts = Counts::default();
        counts.add("a_total", &[("kind", "x\"\\\n"), ("uid", "1")]);
        counts.add("a_total", &[("kind", "x\"\\\n"), ("uid", "1")]);
        counts.took("a_seconds", &[], Duration::from_millis(40));
        let mut page = Page::default();
        counts.write(&mut page, "a_");
        let text = page.text();
        assert!(text.starts_with("# TYPE a_total counter\na_total{kind=\"x\\\"\\\\\\n\",uid=\"1\"} 2\n"), "{text}");
        assert!(text.contains("a_seconds_bucket{le=\"0.025\"} 0\na_seconds_bucket{le=\"0.05\"} 1\n"), "{text}");
        assert!(text.ends_with("a_seconds_bucket{le=\"+Inf\"} 1\na_seconds_sum 0.04\na_seconds_count 1\n"), "{text}");
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let counts = Counts::default();
        for uid in ["1", "12"] {
            counts.add("prober_total", &[("pod_uid", uid), ("result", "successful")]);
        }
        counts.forget("prober_", "pod_uid", "1");
        let mut page = Page::default();
        counts.write(&mut page, "prober_");
        let wanted = "# TYPE prober_total counter\nprober_total{pod_uid=\"12\",result=\"successful\"} 1\n";
        assert_eq!(page.text(), wanted);
    }

    #[test]
    fn series_are_bounded() {
        let counts = Counts::default();
        for index in 0..SERIES + 10 {
            counts.add("a_total", &[("n", &index.to_string())]);
        }
        assert_eq!(counts.lock().totals["a_total"].len(), SERIES);
    }
}

//! Sums that a part keeps while it works: counts, gauges and durations, by name and labels, as many as are bounded.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::page::{self, Labels, Number, Page};

/// Different sets of labels that are kept of all counts together; more are not counted.
const SERIES: usize = 20_000;

/// Upper bounds of durations, seconds: Prometheus' usual ones, and longer ones, since images are pulled too.
pub const USUAL: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

#[derive(Clone, Debug)]
struct Times {
    bounds: &'static [f64],
    buckets: Box<[u64]>,
    count: u64,
    seconds: f64,
}

/// Labels as they are written, which is what series are told apart by.
type Series<T> = BTreeMap<&'static str, BTreeMap<String, T>>;

#[derive(Debug, Default)]
struct Inner {
    totals: Series<u64>,
    gauges: Series<f64>,
    times: Series<Times>,
    series: usize,
}

/// Counts since they were made. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<Inner>>);

static PROCESS: LazyLock<Counts> = LazyLock::new(Counts::default);

impl Counts {
    /// Those of the whole process: for what is used by many parts at once, as connections and work queues are.
    pub fn process() -> &'static Counts {
        &PROCESS
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more.
    pub fn add(&self, name: &'static str, labels: Labels<'_>) {
        self.add_many(name, labels, 1);
    }

    /// Counts that many more.
    pub fn add_many(&self, name: &'static str, labels: Labels<'_>, more: u64) {
        let inner = &mut *self.lock();
        let entry = inner.totals.entry(name).or_default();
        if let Some(total) = slot(entry, &mut inner.series, labels, || 0) {
            *total += more;
        }
    }

    /// Says how much there is now.
    pub fn set(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        self.change(name, labels, |gauge| *gauge = value);
    }

    /// Says that there is more now, or less.
    pub fn change_by(&self, name: &'static str, labels: Labels<'_>, difference: f64) {
        self.change(name, labels, |gauge| *gauge += difference);
    }

    fn change(&self, name: &'static str, labels: Labels<'_>, change: impl FnOnce(&mut f64)) {
        let inner = &mut *self.lock();
        let entry = inner.gauges.entry(name).or_default();
        if let Some(gauge) = slot(entry, &mut inner.series, labels, || 0.0) {
            change(gauge);
        }
    }

    /// Counts something that took so long.
    pub fn took(&self, name: &'static str, labels: Labels<'_>, duration: Duration) {
        self.observe(name, USUAL, labels, duration.as_secs_f64());
    }

    /// Counts something of that size, in a histogram with these upper bounds, which are always the same for a name.
    pub fn observe(&self, name: &'static str, bounds: &'static [f64], labels: Labels<'_>, size: f64) {
        let inner = &mut *self.lock();
        let entry = inner.times.entry(name).or_default();
        let new = || Times { bounds, buckets: vec![0; bounds.len()].into(), count: 0, seconds: 0.0 };
        let Some(times) = slot(entry, &mut inner.series, labels, new) else { return };
        times.count += 1;
        times.seconds += size;
        for (bucket, bound) in times.buckets.iter_mut().zip(times.bounds) {
            *bucket += u64::from(size <= *bound);
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
        let mut part = String::new();
        page::braces(&mut part, &[(label, value)]);
        let part = part.trim_start_matches('{').trim_end_matches('}');
        let inner = &mut *self.lock();
        let gone = without(&mut inner.totals, prefix, part)
            + without(&mut inner.gauges, prefix, part)
            + without(&mut inner.times, prefix, part);
        inner.series -= gone.min(inner.series);
    }

    /// Writes the families whose names begin so.
    pub fn write(&self, page: &mut Page, prefix: &str) {
        let inner = self.lock();
        for (name, series) in inner.totals.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let mut family = page.family(Cow::Borrowed(*name), "counter");
            series.iter().for_each(|(labels, total)| family.written("", labels, total));
        }
        for (name, series) in inner.gauges.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let mut family = page.family(Cow::Borrowed(*name), "gauge");
            series.iter().for_each(|(labels, value)| family.written("", labels, Number(*value)));
        }
        for (name, series) in inner.times.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let mut family = page.family(Cow::Borrowed(*name), "histogram");
            for (labels, times) in series {
                family.histogram(labels, times.bounds, &times.buckets, times.count, times.seconds);
            }
        }
    }
}

/// Takes the series of `prefix`'s families that have this label away, and tells how many they were.
fn without<T>(families: &mut Series<T>, prefix: &str, part: &str) -> usize {
    let mut gone = 0;
    for (_, series) in families.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
        let before = series.len();
        series.retain(|labels, _| !labels.contains(part));
        gone += before - series.len();
    }
    gone
}

fn slot<'a, T>(
    series: &'a mut BTreeMap<String, T>,
    all: &mut usize,
    labels: Labels<'_>,
    new: impl FnOnce() -> T,
) -> Option<&'a mut T> {
    let mut key = String::new();
    page::braces(&mut key, labels);
    if !series.contains_key(&key) {
        if *all >= SERIES {
            return None;
        }
        *all += 1;
    }
    Some(series.entry(key).or_insert_with(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(counts: &Counts, prefix: &str) -> String {
        let mut page = Page::default();
        counts.write(&mut page, prefix);
        page.text()
    }

    #[test]
    fn counts_are_written_in_the_text_format() {
        let counts = Counts::default();
        counts.add("a_total", &[("kind", "x\"\\\n"), ("uid", "1")]);
        counts.add("a_total", &[("kind", "x\"\\\n"), ("uid", "1")]);
        counts.took("a_seconds", &[], Duration::from_millis(40));
        counts.took("a_seconds", &[("b", "c")], Duration::from_secs(400));
        counts.set("a_now", &[], 3.0);
        counts.change_by("a_now", &[], -1.0);
        let text = text(&counts, "a_");
        for line in [
            "# TYPE a_total counter\na_total{kind=\"x\\\"\\\\\\n\",uid=\"1\"} 2\n",
            "# TYPE a_now gauge\na_now 2\n",
            "a_seconds_bucket{le=\"0.025\"} 0\na_seconds_bucket{le=\"0.05\"} 1\n",
            "a_seconds_bucket{le=\"+Inf\"} 1\na_seconds_sum 0.04\na_seconds_count 1\n",
            "a_seconds_bucket{b=\"c\",le=\"300\"} 0\na_seconds_bucket{b=\"c\",le=\"+Inf\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let counts = Counts::default();
        for uid in ["1", "12"] {
            counts.add("prober_total", &[("pod_uid", uid), ("result", "successful")]);
        }
        counts.forget("prober_", "pod_uid", "1");
        let wanted = "# TYPE prober_total counter\nprober_total{pod_uid=\"12\",result=\"successful\"} 1\n";
        assert_eq!(text(&counts, "prober_"), wanted);
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

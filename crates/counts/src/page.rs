//! A page of samples in the text format: families in the order of their names, each with its type and all of its samples, in
//! whatever order they were added.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Display, Write as _},
};

/// Labels: name and value, in the order in which they are written.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The media type of a page.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of samples.
#[derive(Debug, Default)]
pub struct Page(BTreeMap<Cow<'static, str>, Family>);

#[derive(Debug, Default)]
struct Family {
    kind: &'static str,
    samples: String,
}

impl Page {
    /// Begins a family, or goes on with it; `kind` is `counter`, `gauge`, `histogram` or `untyped`.
    pub fn family(&mut self, name: impl Into<Cow<'static, str>>, kind: &'static str) -> Samples<'_> {
        let name = name.into();
        let samples =
            &mut self.0.entry(name.clone()).or_insert_with(|| Family { kind, samples: String::new() }).samples;
        Samples { name, out: samples }
    }

    /// A gauge.
    pub fn gauge(&mut self, name: impl Into<Cow<'static, str>>, labels: Labels<'_>, value: impl Display) {
        self.family(name, "gauge").add(labels, value);
    }

    /// A counter.
    pub fn counter(&mut self, name: impl Into<Cow<'static, str>>, labels: Labels<'_>, value: impl Display) {
        self.family(name, "counter").add(labels, value);
    }

    /// Something of which nobody says whether it only grows.
    pub fn untyped(&mut self, name: impl Into<Cow<'static, str>>, labels: Labels<'_>, value: impl Display) {
        self.family(name, "untyped").add(labels, value);
    }

    /// The text. Families without samples are left out.
    pub fn text(self) -> String {
        let families = self.0.into_iter().filter(|(_, family)| !family.samples.is_empty());
        let mut out = String::new();
        for (name, family) in families {
            let _infallible = writeln!(out, "# TYPE {name} {}", family.kind);
            out.push_str(&family.samples);
        }
        out
    }
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'a> {
    name: Cow<'static, str>,
    out: &'a mut String,
}

impl Samples<'_> {
    /// One sample.
    pub fn add(&mut self, labels: Labels<'_>, value: impl Display) {
        self.part("", labels, value);
    }

    /// One sample of a name that is longer than the family's, as a histogram's `_bucket`.
    pub fn part(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        self.out.push_str(&self.name);
        self.out.push_str(suffix);
        braces(self.out, labels);
        let _infallible = writeln!(self.out, " {value}");
    }

    /// One sample whose labels are written already, braces included.
    pub fn written(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let _infallible = writeln!(self.out, "{}{suffix}{labels} {value}", self.name);
    }

    /// A histogram's samples: how many were at most each bound, how many there were, and their sum. `labels` as
    /// [`Samples::written`] wants them.
    pub fn histogram(&mut self, labels: &str, bounds: &[f64], buckets: &[u64], count: u64, sum: f64) {
        let open = match labels.strip_suffix('}') {
            Some(open) => format!("{open},"),
            None => "{".to_owned(),
        };
        for (bound, bucket) in bounds.iter().zip(buckets) {
            let _infallible = writeln!(self.out, "{}_bucket{open}le=\"{bound}\"}} {bucket}", self.name);
        }
        let _infallible = writeln!(self.out, "{}_bucket{open}le=\"+Inf\"}} {count}", self.name);
        self.written("_sum", labels, Number(sum));
        self.written("_count", labels, count);
    }
}

/// A number as the format wants it: infinities and what is no number have names of their own there.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            infinite if infinite == f64::INFINITY => f.write_str("+Inf"),
            infinite if infinite == f64::NEG_INFINITY => f.write_str("-Inf"),
            large if large.abs() >= 1e21 => write!(f, "{large:e}"),
            number => write!(f, "{number}"),
        }
    }
}

/// Labels as they are written; nothing where there are none.
pub fn braces(out: &mut String, labels: Labels<'_>) {
    for (index, (name, value)) in labels.iter().enumerate() {
        out.push(if index > 0 { ',' } else { '{' });
        out.push_str(name);
        out.push_str("=\"");
        escape(out, value);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
}

/// A label's value, escaped.
pub fn escape(out: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_whole_and_in_order_however_they_were_added() {
        let mut page = Page::default();
        page.gauge("b", &[("device", "x\"\\\n")], 1);
        page.counter("a_total", &[], 2.5);
        page.gauge("b", &[("device", "y")], Number(f64::INFINITY));
        page.family("c", "gauge");
        let wanted = "# TYPE a_total counter\na_total 2.5\n# TYPE b gauge\nb{device=\"x\\\"\\\\\\n\"} 1\n\
                      b{device=\"y\"} +Inf\n";
        assert_eq!(page.text(), wanted);
    }

    #[test]
    fn numbers_are_written_as_the_format_names_them() {
        let cases = [(f64::NAN, "NaN"), (f64::NEG_INFINITY, "-Inf"), (0.1, "0.1"), (1e18, "1000000000000000000")];
        for (number, wanted) in cases {
            assert_eq!(Number(number).to_string(), wanted);
        }
    }
}

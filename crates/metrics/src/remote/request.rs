//! What is sent: requests of remote write, versions 1 and 2, made of samples of series.

use std::{collections::HashMap, sync::Arc};

use tsdb::{Metadata, column::HistogramValue, labels::Labels, sample::Exemplar};

use super::message::{self, KINDS};
use crate::proto::Writer;

/// Which message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`
    One,
    /// `io.prometheus.write.v2.Request`
    Two,
}

impl Version {
    /// The type of the body.
    pub fn kind(self) -> &'static str {
        match self {
            Self::One => "application/x-protobuf",
            Self::Two => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// What the header of the version says.
    pub fn number(self) -> &'static str {
        match self {
            Self::One => "0.1.0",
            Self::Two => "2.0.0",
        }
    }
}

/// A series as it is sent: with external labels, after relabelling.
#[derive(Debug, PartialEq)]
pub struct Sent {
    /// Its labels.
    pub labels: Labels,
    /// What it is, where that is known.
    pub metadata: Option<Arc<Metadata>>,
}

/// A value to be sent.
#[derive(Clone, Debug)]
pub enum Value {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(HistogramValue),
    /// An exemplar; its time is that of the item.
    Exemplar(Exemplar),
}

/// A value of a series at a time.
#[derive(Clone, Debug)]
pub struct Item {
    /// The series.
    pub series: Arc<Sent>,
    /// Milliseconds since 1970.
    pub time: i64,
    /// The value.
    pub value: Value,
}

/// Items by series, each in the order in which they came; series in the order of their first items. Receivers take the floats
/// of a group before its histograms, so a series that goes from one to the other has several groups.
fn grouped(items: &[Item]) -> Vec<(&Arc<Sent>, Vec<&Item>)> {
    let mut places: HashMap<*const Sent, (usize, Option<bool>)> = HashMap::new();
    let mut groups: Vec<(&Arc<Sent>, Vec<&Item>)> = Vec::new();
    for item in items {
        let float = match &item.value {
            Value::Float(_) => Some(true),
            Value::Histogram(_) => Some(false),
            Value::Exemplar(_) => None,
        };
        let (place, holds) = places.entry(Arc::as_ptr(&item.series)).or_insert((groups.len(), float));
        if float.is_some() && *holds != float {
            if holds.is_some() {
                *place = groups.len();
            }
            *holds = float;
        }
        match groups.get_mut(*place) {
            Some(group) => group.1.push(item),
            None => groups.push((&item.series, vec![item])),
        }
    }
    groups
}

/// The request that holds these items.
pub fn write(version: Version, items: &[Item]) -> Vec<u8> {
    match version {
        Version::One => write_v1(items),
        Version::Two => write_v2(items),
    }
}

fn write_pairs(out: &mut Writer, labels: &Labels) {
    for (name, value) in labels {
        out.message(1, |pair| {
            pair.text(1, name);
            pair.text(2, value);
        });
    }
}

fn write_v1(items: &[Item]) -> Vec<u8> {
    let mut request = Writer::default();
    for (series, items) in grouped(items) {
        request.message(1, |out| {
            write_pairs(out, &series.labels);
            for item in &items {
                match &item.value {
                    Value::Float(value) => out.message(2, |out| {
                        out.double(1, *value);
                        out.varint(2, item.time as u64);
                    }),
                    Value::Exemplar(exemplar) => out.message(3, |out| {
                        write_pairs(out, &exemplar.labels);
                        out.double(2, exemplar.value);
                        out.varint(3, item.time as u64);
                    }),
                    Value::Histogram(value) => out.message(4, |out| message::write_histogram(out, item.time, value)),
                }
            }
        });
    }
    request.0
}

/// Descriptions of families, as version 1 sends them by themselves.
pub fn write_descriptions<'a>(families: impl IntoIterator<Item = (&'a str, &'a Metadata)>) -> Vec<u8> {
    let mut request = Writer::default();
    for (name, metadata) in families {
        request.message(3, |out| {
            out.varint(1, kind(metadata));
            out.text(2, name);
            out.text(4, &metadata.help);
            out.text(5, &metadata.unit);
        });
    }
    request.0
}

fn kind(metadata: &Metadata) -> u64 {
    KINDS.iter().position(|kind| *kind == metadata.kind).unwrap_or(0) as u64
}

/// Strings of a request, each once; the first is empty.
struct Symbols<'a> {
    numbers: HashMap<&'a str, u64>,
    list: Vec<&'a str>,
}

impl<'a> Symbols<'a> {
    fn number(&mut self, text: &'a str) -> u64 {
        *self.numbers.entry(text).or_insert_with(|| {
            self.list.push(text);
            self.list.len() as u64 - 1
        })
    }

    fn refs(&mut self, labels: &'a Labels) -> Vec<u64> {
        labels.iter().flat_map(|(name, value)| [name, value]).map(|text| self.number(text)).collect()
    }
}

fn write_v2(items: &[Item]) -> Vec<u8> {
    let mut symbols = Symbols { numbers: HashMap::from([("", 0)]), list: vec![""] };
    let mut all = Writer::default();
    for (series, items) in grouped(items) {
        let mut out = Writer::default();
        out.varints(1, symbols.refs(&series.labels));
        for item in &items {
            match &item.value {
                Value::Float(value) => out.message(2, |out| {
                    out.double(1, *value);
                    out.varint(2, item.time as u64);
                }),
                Value::Histogram(value) => out.message(3, |out| message::write_histogram(out, item.time, value)),
                Value::Exemplar(exemplar) => {
                    let refs = symbols.refs(&exemplar.labels);
                    out.message(4, |out| {
                        out.varints(1, refs);
                        out.double(2, exemplar.value);
                        out.varint(3, item.time as u64);
                    });
                }
            }
        }
        if let Some(metadata) = &series.metadata {
            let (help, unit) = (symbols.number(&metadata.help), symbols.number(&metadata.unit));
            out.message(5, |out| {
                out.varint(1, kind(metadata));
                out.varint(3, help);
                out.varint(4, unit);
            });
        }
        all.bytes(5, &out.0);
    }
    let mut request = Writer::default();
    symbols.list.iter().for_each(|symbol| request.text(4, symbol));
    request.0.extend_from_slice(&all.0);
    request.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_that_goes_from_floats_to_histograms_stays_in_order() {
        let series = Arc::new(Sent { labels: Labels::from_pairs([("__name__", "a")]), metadata: None });
        let item = |time: i64, value: Value| Item { series: series.clone(), time, value };
        let histogram = || Value::Histogram(HistogramValue::stale_integer());
        let items =
            [item(1, Value::Float(1.0)), item(2, histogram()), item(3, histogram()), item(4, Value::Float(2.0))];
        let times: Vec<Vec<i64>> =
            grouped(&items).iter().map(|group| group.1.iter().map(|item| item.time).collect()).collect();
        assert_eq!(times, [vec![1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn what_is_sent_is_what_receivers_read() {
        let metadata = Metadata { kind: "counter".into(), unit: "seconds".into(), help: "Time.".into() };
        let series = |name: &str| {
            Arc::new(Sent {
                labels: Labels::from_pairs([("__name__", name), ("job", "a")]),
                metadata: Some(Arc::new(metadata.clone())),
            })
        };
        let (one, two) = (series("one"), series("two"));
        let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), value: 0.5, timestamp: Some(2) };
        let item = |series: &Arc<Sent>, time: i64, value: Value| Item { series: series.clone(), time, value };
        let items = [
            item(&one, 1, Value::Float(1.5)),
            item(&two, 1, Value::Float(f64::INFINITY)),
            item(&one, 2, Value::Exemplar(exemplar.clone())),
            item(&one, 3, Value::Float(2.5)),
        ];
        for version in [Version::One, Version::Two] {
            let mut found = Vec::new();
            let take = |series| {
                found.push(series);
                Ok(())
            };
            let bytes = write(version, &items);
            match version {
                Version::One => message::each_v1(&bytes, take).unwrap(),
                Version::Two => message::each_v2(&bytes, take).unwrap(),
            }
            assert_eq!(found.len(), 2);
            assert_eq!(found[0].labels.as_ref().unwrap(), &one.labels);
            let floats: Vec<_> = found[0].floats.iter().map(|sample| (sample.time, sample.value)).collect();
            assert_eq!(floats, [(1, 1.5), (3, 2.5)]);
            assert_eq!(found[0].exemplars[0].as_ref().unwrap(), &exemplar);
            let described = found[1].metadata.as_ref().map(|metadata| metadata.as_ref().unwrap().clone());
            assert_eq!(described, (version == Version::Two).then(|| metadata.clone()));
        }
    }
}

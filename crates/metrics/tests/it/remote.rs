//! Remote write and read over HTTP.

use std::sync::Arc;

use http::{Request, StatusCode};
use metrics::{
    proto::{Field, Reader, Writer},
    remote::request::{self, Item, Sent, Value, Version},
};
use serde_json::json;
use tsdb::{column::HistogramValue, histogram::Histogram};

use crate::place::{Answered, NOW, Place};

const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

fn packed(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

async fn write(place: &Place, kind: &str, message: &[u8]) -> Answered {
    let request = Request::post("/api/v1/write").header("content-type", kind).header("content-encoding", "snappy");
    place.request(request, packed(message)).await
}

/// Series of one label beside the name, with samples at times.
fn v2(series: &[(&str, &[(f64, i64)])]) -> Vec<u8> {
    let mut request = Writer::default();
    let mut symbols = vec!["", "__name__", "written", "nth"];
    symbols.extend(series.iter().map(|series| series.0));
    symbols.iter().for_each(|symbol| request.text(4, symbol));
    for (nth, (_, samples)) in series.iter().enumerate() {
        request.message(5, |out| {
            out.varints(1, [1, 2, 3, 4 + nth as u64]);
            for (value, time) in *samples {
                out.message(2, |out| {
                    out.double(1, *value);
                    out.varint(2, *time as u64);
                });
            }
        });
    }
    request.0
}

fn written(answer: &Answered) -> &str {
    answer.headers["x-prometheus-remote-write-samples-written"].to_str().unwrap()
}

#[tokio::test]
async fn what_is_right_is_written_and_what_is_wrong_is_told() {
    let place = Place::empty(|_| {});
    let now = NOW * 1000;
    let answer = write(&place, V2, &v2(&[("a", &[(1.0, now), (2.0, now + 1)]), ("b", &[(3.0, now)])])).await;
    assert_eq!((answer.status, written(&answer)), (StatusCode::NO_CONTENT, "3"), "{}", answer.text());
    // The same again does no harm; another value for the same time, and a time before, are told.
    let answer = write(&place, V2, &v2(&[("a", &[(2.0, now + 1)]), ("b", &[(4.0, now)]), ("c", &[(5.0, now)])])).await;
    assert_eq!((answer.status, written(&answer)), (StatusCode::BAD_REQUEST, "2"));
    assert_eq!(answer.text(), "duplicate sample for timestamp for series {__name__=\"written\", nth=\"b\"}\n");
    let far = jiff::Timestamp::now().as_millisecond() + 3_600_000;
    let answer = write(&place, V2, &v2(&[("a", &[(1.0, now - 1)]), ("d", &[(1.0, far)])])).await;
    assert_eq!((answer.status, written(&answer)), (StatusCode::BAD_REQUEST, "0"));
    assert_eq!(
        answer.text(),
        "out of bounds: timestamp is too far in the future for series {__name__=\"written\", nth=\"d\"}\n\
         out of order sample for series {__name__=\"written\", nth=\"a\"}\n"
    );
    let answer = write(&place, V2, &v2(&[("e", &[])])).await;
    assert!(answer.text().starts_with("TimeSeries must contain at least one sample or histogram"));
    let count = place.get(&format!("/api/v1/query?query=count(written)&time={NOW}")).await.json();
    assert_eq!(count["data"]["result"][0]["value"], json!([NOW, "3"]));
}

#[tokio::test]
async fn a_series_may_go_from_floats_to_histograms_and_back_in_one_request() {
    let place = Place::empty(|_| {});
    let labels = tsdb::labels::Labels::from_pairs([("__name__", "mixed")]);
    let series = Arc::new(Sent { labels, metadata: None });
    let histogram = || {
        Value::Histogram(HistogramValue::Integer(Arc::new(Histogram {
            count: 1,
            zero_count: 1,
            ..Histogram::default()
        })))
    };
    let values = [Value::Float(1.0), histogram(), histogram(), Value::Float(2.0)];
    let items = values.into_iter().enumerate();
    let items = items.map(|(nth, value)| Item { series: series.clone(), time: NOW * 1000 + nth as i64, value });
    let answer = write(&place, V2, &request::write(Version::Two, &items.collect::<Vec<_>>())).await;
    let histograms = &answer.headers["x-prometheus-remote-write-histograms-written"];
    assert_eq!((answer.status, written(&answer)), (StatusCode::NO_CONTENT, "2"), "{}", answer.text());
    assert_eq!(histograms, "2");
}

#[tokio::test]
async fn hostile_bodies_are_refused() {
    let place = Place::empty(|_| {});
    // Says of itself that it is 4 GiB long.
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    let raw = |bytes: Vec<u8>| {
        let request = Request::post("/api/v1/write").header("content-type", V2);
        place.request(request, bytes)
    };
    assert_eq!(raw(bomb.to_vec()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(raw(b"no snappy".to_vec()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(raw(vec![0; 33 << 20]).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(raw(packed(&vec![0; 33 << 20])).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(write(&place, V2, &[0x2a, 0xff, 0x01]).await.status, StatusCode::BAD_REQUEST);
    let answer = write(&place, "application/json", b"{}").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let closed = Place::empty(|settings| settings.web.remote_write_receiver = false);
    assert_eq!(write(&closed, V2, b"").await.status, StatusCode::NOT_FOUND);
}

fn read_request(name: &str, chunked: bool) -> Vec<u8> {
    let mut request = Writer::default();
    request.message(1, |query| {
        query.varint(1, ((NOW - 60) * 1000) as u64);
        query.varint(2, (NOW * 1000) as u64);
        query.message(3, |matcher| {
            matcher.text(2, "__name__");
            matcher.text(3, name);
        });
        query.message(3, |matcher| {
            matcher.text(2, "region");
            matcher.text(3, "eu");
        });
    });
    if chunked {
        request.varints(2, [1]);
    }
    packed(&request.0)
}

fn fields(bytes: &[u8]) -> Vec<(u32, Field<'_>)> {
    let mut reader = Reader(bytes);
    std::iter::from_fn(|| reader.field().unwrap()).collect()
}

#[tokio::test]
async fn samples_are_read_with_the_external_labels() {
    let place = Place::filled();
    place.configure("global: {external_labels: {region: eu}}");
    let answer = place.request(Request::post("/api/v1/read"), read_request("requests_total", false)).await;
    assert_eq!((answer.status, answer.headers["content-encoding"].to_str().unwrap()), (StatusCode::OK, "snappy"));
    let bytes = snap::raw::Decoder::new().decompress_vec(&answer.bytes).unwrap();
    let results = fields(&bytes);
    assert_eq!(results.len(), 1);
    let series = fields(results[0].1.bytes().unwrap());
    assert_eq!(series.len(), 2);
    let first = fields(series[0].1.bytes().unwrap());
    let names: Vec<&str> = first
        .iter()
        .filter(|field| field.0 == 1)
        .map(|field| fields(field.1.bytes().unwrap())[0].1.text().unwrap())
        .collect();
    assert_eq!(names, ["__name__", "instance", "job", "region"]);
    assert_eq!(first.iter().filter(|field| field.0 == 2).count(), 5);
}

#[tokio::test]
async fn chunks_are_streamed_in_frames_with_checksums() {
    let place = Place::filled();
    place.configure("global: {external_labels: {region: eu}}");
    let answer = place.request(Request::post("/api/v1/read"), read_request("requests_total", true)).await;
    assert_eq!(answer.headers["content-type"], "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    let mut rest = &answer.bytes[..];
    let mut frames = 0;
    while !rest.is_empty() {
        let mut reader = Reader(rest);
        let length = reader.varint().unwrap() as usize;
        let (sum, after) = reader.0.split_at(4);
        let (frame, after) = after.split_at(length);
        assert_eq!(sum, tsdb::prometheus::checksum(&[frame]).to_be_bytes());
        let series = fields(fields(frame)[0].1.bytes().unwrap());
        let chunk = series.iter().find(|field| field.0 == 2).unwrap();
        let chunk = fields(chunk.1.bytes().unwrap());
        let mut columns = tsdb::column::Columns::default();
        tsdb::prometheus::read_chunk(1, chunk[3].1.bytes().unwrap(), &mut columns).unwrap();
        assert_eq!(columns.times.len(), 5);
        frames += 1;
        rest = after;
    }
    assert_eq!(frames, 2);
}

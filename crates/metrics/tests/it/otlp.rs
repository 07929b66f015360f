//! Samples that come by OpenTelemetry's protocol, as protocol buffers and as JSON.

use std::io::Write;

use http::{Request, StatusCode};
use metrics::proto::Writer;
use serde_json::json;

use crate::place::{Answered, NOW, Place};

const PATH: &str = "/api/v1/otlp/v1/metrics";

fn open(yaml: &str) -> Place {
    let place = Place::empty(|settings| settings.web.otlp_receiver = true);
    place.configure(yaml);
    place
}

async fn send(place: &Place, kind: &str, body: impl Into<bytes::Bytes>) -> Answered {
    place.request(Request::post(PATH).header("content-type", kind), body).await
}

fn attribute(out: &mut Writer, number: u32, name: &str, value: &str) {
    out.message(number, |pair| {
        pair.text(1, name);
        pair.message(2, |any| any.text(1, value));
    });
}

/// A counter of a service.
fn message(value: f64) -> Vec<u8> {
    let mut request = Writer::default();
    request.message(1, |resource| {
        resource.message(1, |out| attribute(out, 1, "service.name", "shop"));
        resource.message(2, |scope| {
            scope.message(2, |metric| {
                metric.text(1, "http.server.requests");
                metric.text(3, "{request}");
                metric.message(7, |sum| {
                    sum.message(1, |point| {
                        attribute(point, 7, "http.route", "/");
                        // Fixed numbers of eight bytes are written as floats are.
                        point.double(3, f64::from_bits(NOW as u64 * 1_000_000_000));
                        point.double(4, value);
                    });
                    sum.varint(2, 2);
                    sum.varint(3, 1);
                });
            });
        });
    });
    request.0
}

async fn asked(place: &Place, query: &str) -> serde_json::Value {
    let answer = place.get(&format!("/api/v1/query?query={query}&time={NOW}")).await.json();
    answer["data"]["result"].clone()
}

#[tokio::test]
async fn points_become_samples_and_wrong_ones_are_told() {
    let place = open("");
    let answer = send(&place, "application/x-protobuf", message(5.0)).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, ""));
    let found = asked(&place, "http_server_requests_total").await;
    let labels = json!({"__name__": "http_server_requests_total", "http_route": "/", "job": "shop"});
    assert_eq!((&found[0]["metric"], &found[0]["value"][1]), (&labels, &json!("5")));
    let again = send(&place, "application/x-protobuf", message(6.0)).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(again.text().starts_with("duplicate sample for timestamp for series"), "{}", again.text());
}

#[tokio::test]
async fn json_and_gzip_are_taken_too() {
    let place = open("otlp: {translation_strategy: NoUTF8EscapingWithSuffixes}");
    let text = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeMetrics": [{"metrics": [
            {"name": "queue.size", "unit": "1", "gauge": {"dataPoints": [
                {"timeUnixNano": (NOW * 1_000_000_000).to_string(), "asInt": "7", "attributes": [
                    {"key": "n", "value": {"intValue": "3"}}]}]}},
            {"name": "wait", "unit": "s", "exponentialHistogram": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
                "dataPoints": [{"timeUnixNano": NOW * 1_000_000_000, "count": "3", "sum": 4, "scale": 0,
                    "positive": {"offset": 0, "bucketCounts": ["1", 2]}}]}}]}]}]});
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.to_string().as_bytes()).unwrap();
    let request = Request::post(PATH).header("content-type", "application/json").header("content-encoding", "gzip");
    let answer = place.request(request, packed.finish().unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let found = asked(&place, "{\"queue.size_ratio\"}").await;
    let labels = json!({"__name__": "queue.size_ratio", "job": "shop", "n": "3"});
    assert_eq!((&found[0]["metric"], &found[0]["value"][1]), (&labels, &json!("7")));
    assert_eq!(asked(&place, "histogram_count(wait_seconds)").await[0]["value"][1], "3");
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_nothing_of_a_wrong_one_is_written() {
    let place = open("");
    for (kind, body) in [
        ("text/plain", b"x".to_vec()),
        ("application/x-protobuf", vec![0x0a, 0x7f]),
        ("application/x-protobuf", [0x0a, 0x00].repeat(2 << 20)),
        ("application/json", b"{".to_vec()),
        ("application/json", br#"{"resourceMetrics": 1}"#.to_vec()),
        ("application/json", format!("[{}1]", "1,".repeat(3 << 20)).into_bytes()),
    ] {
        let answer = send(&place, kind, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{kind}: {}", answer.text());
    }
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(&vec![0; 40 << 20]).unwrap();
    let request =
        Request::post(PATH).header("content-type", "application/x-protobuf").header("content-encoding", "gzip");
    let answer = place.request(request, bomb.finish().unwrap()).await;
    assert!(answer.text().contains("decoded size exceeds"), "{}", answer.text());
    // A sum of unspecified temporality beside a sound one.
    let mut both = Writer(message(1.0));
    both.message(1, |resource| {
        resource.message(2, |scope| {
            scope.message(2, |metric| {
                metric.text(1, "odd");
                metric.message(7, |sum| sum.message(1, |point| point.double(4, 1.0)));
            });
        });
    });
    let answer = send(&place, "application/x-protobuf", both.0).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.text(), "invalid temporality and type combination for metric \"odd\"\n");
    assert_eq!(asked(&place, "{__name__=~\".%2B\"}").await, json!([]));
    let closed = Place::empty(|_| {});
    assert_eq!(send(&closed, "application/x-protobuf", message(1.0)).await.status, StatusCode::NOT_FOUND);
}

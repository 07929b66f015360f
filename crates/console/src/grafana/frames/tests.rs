//! Times, expressions, frames.

use super::*;

#[test]
fn times_are_understood_as_grafana_writes_them() {
    let cases = [
        (json!(5), Some(5)),
        (json!("1700000000000"), Some(1_700_000_000_000)),
        (json!("now"), Some(1_000_000_000)),
        (json!("now-1h"), Some(1_000_000_000 - 3_600_000)),
        (json!("now+2d"), Some(1_000_000_000 + 2 * 86_400_000)),
        (json!("now-"), None),
        (json!("now-1q"), None),
        (json!("now-99999999999999999y"), None),
        (json!("later"), None),
    ];
    for (text, expected) in cases {
        assert_eq!(moment(&text, 1_000_000_000), expected, "{text}");
    }
}

#[test]
fn intervals_stand_in_expressions() {
    let text =
        with_intervals("rate(a[$__rate_interval]) + b[${__interval}] + $__interval_ms + $__range_s", 30_000, 3_600_000);
    assert_eq!(text, "rate(a[60s]) + b[30s] + 30000 + 3600");
    assert_eq!(escaped("a{b=\"é\"}"), "a%7Bb%3D%22%C3%A9%22%7D");
}

#[test]
fn values_that_json_cannot_say_stand_beside() {
    let data = json!({"resultType": "matrix", "result": [
        {"metric": {"__name__": "up", "job": "a"}, "values": [[1, "1.5"], [2.5, "NaN"], [3, "+Inf"], [4, "-Inf"]]},
    ]});
    let query = json!({"refId": "A"});
    let frames = frames(&data, &query, 15_000, "up");
    assert_eq!(frames[0]["data"]["values"], json!([[1000, 2500, 3000, 4000], [1.5, null, null, null]]));
    assert_eq!(frames[0]["data"]["entities"], json!([null, {"NaN": [1], "Inf": [2], "NegInf": [3]}]));
    assert_eq!(frames[0]["schema"]["name"], json!("up{job=\"a\"}"));
    assert_eq!(frames[0]["schema"]["fields"][1]["labels"], json!({"__name__": "up", "job": "a"}));
}

#[test]
fn legends_are_filled_in() {
    let labels = json!({"job": "a", "pod": "b"});
    let cases =
        [("{{job}}/{{ pod }}", "a/b"), ("{{none}}-", "-"), ("{{job", "{{job"), ("__auto", "{job=\"a\", pod=\"b\"}")];
    for (format, expected) in cases {
        assert_eq!(legend(&labels, format, "x"), expected, "{format}");
    }
    assert_eq!(legend(&json!({}), "", "sum(x)"), "sum(x)");
}

//! Names as OpenTelemetry's specification and Prometheus' translator give them.

use super::{LabelNames, Shape, metric, unit};

#[test]
fn names_of_metrics_get_suffixes_once() {
    use Shape::{Counter, Gauge, Other};
    for (name, of, shape, expected) in [
        ("system.cpu.time", "s", Counter, "system_cpu_time_seconds_total"),
        ("http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
        ("memory_bytes", "By", Gauge, "memory_bytes"),
        ("used", "1", Gauge, "used_ratio"),
        ("used", "1", Counter, "used_total"),
        ("speed", "m/s", Gauge, "speed_meters_per_second"),
        ("speed", "{thing}/s", Gauge, "speed_per_second"),
        ("things", "{thing}", Gauge, "things"),
        ("requests_total", "", Counter, "requests_total"),
        ("total.requests", "", Counter, "requests_total"),
        ("2xx", "", Gauge, "_2xx"),
        ("a..b__c", "", Gauge, "a_b_c"),
        ("odd", "°F", Gauge, "odd_F"),
        ("usage", "%", Gauge, "usage_percent"),
        ("disk", "foo/bar", Gauge, "disk_foo_per_bar"),
    ] {
        assert_eq!(metric(name, of, shape, true, false).as_deref(), Ok(expected), "{name} {of}");
    }
    assert!(metric("", "", Gauge, true, false).unwrap_err().contains("resulted in empty name"));
    assert!(metric("äöü", "", Gauge, false, false).unwrap_err().contains("resulted in empty name"));
}

#[test]
fn strategies_replace_characters_and_add_suffixes_by_turns() {
    let all = |suffixed, utf8| metric("a.b_c", "s", Shape::Counter, suffixed, utf8).unwrap();
    assert_eq!(all(true, false), "a_b_c_seconds_total");
    assert_eq!(all(false, false), "a_b_c");
    assert_eq!(all(true, true), "a.b_c_seconds_total");
    assert_eq!(all(false, true), "a.b_c");
    let free = |name: &str, unit, shape| metric(name, unit, shape, true, true).unwrap();
    assert_eq!(free("x.total", "", Shape::Counter), "x_total");
    assert_eq!(free("x.ratio", "1", Shape::Gauge), "x_ratio");
    assert_eq!(free("x.seconds", "s", Shape::Gauge), "x.seconds");
    assert_eq!(free("x.per_second", "m/s", Shape::Gauge), "x_meters_per_second");
    assert_eq!(free("total", "", Shape::Counter), "total_total");
    assert_eq!(free("é_ütotal", "", Shape::Counter), "é_ütotal_total");
}

#[test]
fn names_of_labels_are_made_plain() {
    let names = |keyed, several| LabelNames { utf8: false, keyed, several };
    for (label, keyed, several, expected) in [
        ("http.method", true, true, "http_method"),
        ("_private", true, true, "key_private"),
        ("_private", false, true, "_private"),
        ("__name__", true, true, "__name__"),
        ("0day", true, true, "key_0day"),
        ("a..b", true, true, "a__b"),
        ("a..b", true, false, "a_b"),
        ("__a..b__", true, false, "__a_b__"),
        ("ä", false, true, ""),
    ] {
        match expected {
            "" => assert!(names(keyed, several).name(label).is_err(), "{label}"),
            expected => assert_eq!(names(keyed, several).name(label).as_deref(), Ok(expected), "{label}"),
        }
    }
    let free = LabelNames { utf8: true, keyed: true, several: true };
    assert_eq!(free.name("http.method").as_deref(), Ok("http.method"));
    assert!(free.name("___").is_err() && free.name("").is_err());
}

#[test]
fn units_are_told_by_their_names() {
    for (of, utf8, expected) in [
        ("s", false, "seconds"),
        ("By/s", false, "bytes_per_second"),
        ("1", false, ""),
        ("{packet}", false, ""),
        ("°F", false, "F"),
        ("°F", true, "°F"),
    ] {
        assert_eq!(unit(of, utf8), expected, "{of}");
    }
}

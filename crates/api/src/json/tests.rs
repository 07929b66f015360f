//! Tests of `json`: cases as data where there are many.

use super::*;
use serde_json::json;

fn parsed(text: &str) -> Value {
    parse(text.as_bytes()).unwrap().value
}

#[test]
fn canonical_bytes_begin_with_kind_version_and_metadata() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": {"b": 1, "a": [true, null, "x\"\u{1}\n"]}, "data": {},
        "metadata": {"name": "a", "resourceVersion": "12"},
    });
    let canonical = to_canonical(&pod);
    let expected = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"data":{},"spec":{"a":[true,null,"x\"\u0001\n"],"b":1}}"#;
    assert_eq!(std::str::from_utf8(&canonical).unwrap(), expected);
    assert_eq!(to_canonical(&json!({"metadata": {"resourceVersion": "1"}})), r#"{"metadata":{}}"#);
    assert_eq!(to_canonical(&json!({"kind": "A", "metadata": 1})), r#"{"kind":"A","metadata":{}}"#);
    assert_eq!(to_canonical(&json!([])), r#"{"metadata":{}}"#);
    let back = from_stored(&canonical, 12).unwrap();
    assert_eq!(back, pod);
}

#[test]
fn the_version_is_spliced_just_inside_metadata() {
    let name = r#"a"metadata":{"#;
    let cases = [
        (
            json!({"kind": name, "apiVersion": "v1", "metadata": {"name": name}}),
            json!({"kind": name, "apiVersion": "v1", "metadata": {"name": name, "resourceVersion": "7"}}),
        ),
        (json!({"kind": "A", "x": 1}), json!({"kind": "A", "x": 1, "metadata": {"resourceVersion": "7"}})),
    ];
    for (object, expected) in cases {
        let canonical = to_canonical(&object);
        let spliced = Spliced::new(&canonical, 7);
        let length = spliced.len();
        let whole = spliced.pieces().concat();
        assert_eq!((parsed(std::str::from_utf8(&whole).unwrap()), whole.len()), (expected.clone(), length));
        let mut out = Vec::new();
        append_object(&mut out, &canonical, 7);
        assert_eq!(out, whole);
        let mut item = Vec::new();
        append_item(&mut item, &canonical, 7);
        let mut without = expected;
        without.as_object_mut().unwrap().remove("kind");
        without.as_object_mut().unwrap().remove("apiVersion");
        assert_eq!(serde_json::from_slice::<Value>(&item).unwrap(), without);
    }
    assert_eq!(Spliced::new(&Bytes::from_static(b"[]"), 7).pieces().concat(), b"[]");
}

#[test]
fn numbers_are_exact_and_written_as_go_writes_them() {
    let cases = [
        ("0", "0"),
        ("-0", "0"),
        ("9223372036854775807", "9223372036854775807"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709552000"),
        ("1.0", "1"),
        ("1e3", "1000"),
        ("1e21", "1e+21"),
        ("1.5e-7", "1.5e-7"),
        ("0.1", "0.1"),
        ("-2.5", "-2.5"),
    ];
    for (text, expected) in cases {
        let mut out = Vec::new();
        write(&mut out, &parsed(text));
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
    }
}

#[test]
fn duplicate_keys_are_reported_once_with_their_path_and_the_last_wins() {
    let text = br#"{"a":1,"a":2,"s":{"c":[{"n":1,"n":2},{"n":1}],"c2":0},"a":3}"#;
    let parsed = parse(text).unwrap();
    assert_eq!(parsed.duplicates, ["a", "s.c[0].n"]);
    assert_eq!(parsed.value["a"], 3);
    let many = format!("{{{}}}", (0..500).map(|i| format!("\"k{i}\":1,\"k{i}\":2")).collect::<Vec<_>>().join(","));
    assert_eq!(parse(many.as_bytes()).unwrap().duplicates.len(), 100);
}

#[test]
fn malformed_documents_are_refused_in_gos_words() {
    let cases = [
        ("", "unexpected end of JSON input"),
        ("{\"a\":", "unexpected end of JSON input"),
        ("hello", "invalid character 'h' looking for beginning of value"),
        ("tru!", "invalid character '!' in literal true (expecting 'e')"),
        ("{a}", "invalid character 'a' looking for beginning of object key string"),
        ("{\"a\",", "invalid character ',' after object key"),
        ("{\"a\":1]", "invalid character ']' after object key:value pair"),
        ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("{}x", "invalid character 'x' after top-level value"),
        ("\"a\nb\"", "invalid character '\\n' in string literal"),
        ("\"\\x\"", "invalid character 'x' in string escape code"),
        ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("01", "invalid character '1' after top-level value"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1ex", "invalid character 'x' in exponent of numeric literal"),
        ("'a'", "invalid character '\\'' looking for beginning of value"),
        ("\"\\u", "unexpected end of JSON input"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text.as_bytes()).unwrap_err().0, expected, "{text}");
    }
    assert!(parse(b"1e999").unwrap_err().0.contains("number 1e999"));
}

#[test]
fn strings_decode_as_go_decodes_them() {
    assert_eq!(parsed(r#""\u00e9\ud83d\ude00\ud83dx\udc00\/\b\f""#), "\u{e9}\u{1f600}\u{fffd}x\u{fffd}/\u{8}\u{c}");
    assert_eq!(parse(b"\"a\xffb\"").unwrap().value, "a\u{fffd}b");
}

#[test]
fn nesting_is_bounded() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(parse(deep(MAX_DEPTH + 1).as_bytes()).unwrap_err().0, "exceeded max depth of 128");
    assert!(parse("{\"a\":".repeat(1_000_000).as_bytes()).is_err());
}

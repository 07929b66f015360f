//! Changes of headers, and what is not passed on.

use super::*;

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: value.into() }
}

#[test]
fn headers_are_set_added_and_removed() {
    let change = HeaderChange {
        set: vec![header("X-Set", "new")],
        add: vec![header("X-Add", "more"), header("bad name", "x")],
        remove: vec!["X-Gone".into()],
    };
    let mut headers = map(&[("x-set", "a"), ("x-set", "b"), ("x-add", "first"), ("x-gone", "1")]);
    Edit::of(&change).apply(&mut headers);
    assert_eq!(headers, map(&[("x-set", "new"), ("x-add", "first"), ("x-add", "more")]));
}

#[test]
fn what_concerns_one_connection_is_not_passed_on() {
    let mut headers = map(&[
        ("connection", "close, X-Mine, authorization, Content-Length"),
        ("x-mine", "1"),
        ("authorization", "kept"),
        ("content-length", "3"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
    ]);
    end_to_end(&mut headers, false);
    assert_eq!(headers, map(&[("authorization", "kept"), ("content-length", "3"), ("te", "trailers")]));
}

#[test]
fn an_upgrade_is_asked_for_anew() {
    let mut headers = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("a", "b")]);
    end_to_end(&mut headers, true);
    assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket"), ("a", "b")]));
}

#[test]
fn clients_do_not_say_who_they_are() {
    let mut headers =
        map(&[("x-forwarded-for", "10.1.1.1"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "x")]);
    forwarded(&mut headers, Some([10, 0, 0, 1].into()), false, Some(HeaderValue::from_static("a.com")));
    let wanted =
        map(&[("x-forwarded-for", "10.1.1.1, 10.0.0.1"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "a.com")]);
    assert_eq!(headers, wanted);
}

//! Matches of requests, their order, redirections and weights.

use http::Request;

use super::*;
use crate::kinds::{Match, NamedMatch};

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn named(kind: &str, name: &str, value: &str) -> NamedMatch {
    NamedMatch { kind: Some(kind.into()), name: name.into(), value: value.into() }
}

#[test]
fn all_conditions_of_a_match_hold_at_once() {
    let wanted = Match {
        path: Some(kinds::PathMatch { kind: Some("PathPrefix".into()), value: Some("/api".into()) }),
        headers: vec![named("Exact", "Version", "two"), named("Exact", "version", "ignored")],
        query_params: vec![named("RegularExpression", "page", "[0-9]+")],
        method: Some("GET".into()),
    };
    let conditions = Conditions::of(&wanted).unwrap();
    let cases = [
        ("GET", "/api/x?page=12", vec![("version", "two")], true),
        ("POST", "/api/x?page=12", vec![("version", "two")], false),
        ("GET", "/apix?page=12", vec![("version", "two")], false),
        ("GET", "/api/x?page=12a", vec![("version", "two")], false),
        ("GET", "/api/x", vec![("version", "two")], false),
        ("GET", "/api/x?page=12", vec![("version", "one")], false),
        ("GET", "/api/x?page=12", vec![("version", "two"), ("version", "three")], false),
        ("GET", "/api/x?page=12", vec![], false),
    ];
    for (method, uri, headers, expected) in cases {
        let parts = parts(method, uri, &headers);
        assert_eq!(conditions.match_request(parts.uri.path(), &parts), expected, "{method} {uri} {headers:?}");
    }
}

#[test]
fn matches_are_ordered_as_the_specification_says() {
    let of = |kind: &str, value: &str, method: Option<&str>, headers: usize, query: usize| {
        let many = |count: usize| (0..count).map(|index| named("Exact", &format!("n{index}"), "v")).collect();
        let path = kinds::PathMatch { kind: Some(kind.into()), value: Some(value.into()) };
        let wanted = Match {
            path: Some(path),
            headers: many(headers),
            query_params: many(query),
            method: method.map(Into::into),
        };
        Conditions::of(&wanted).unwrap().rank()
    };
    let falling = [
        of("Exact", "/a", None, 0, 0),
        of("RegularExpression", "/a.*", None, 0, 0),
        of("PathPrefix", "/abc", None, 0, 0),
        of("PathPrefix", "/a", Some("GET"), 0, 0),
        of("PathPrefix", "/a", None, 2, 0),
        of("PathPrefix", "/a", None, 1, 3),
        of("PathPrefix", "/a", None, 1, 0),
        of("PathPrefix", "/a", None, 0, 1),
        of("PathPrefix", "/a", None, 0, 0),
        of("PathPrefix", "/", Some("GET"), 5, 5),
    ];
    assert!(falling.windows(2).all(|pair| pair[0] > pair[1]), "{falling:?}");
}

#[test]
fn redirections_keep_what_they_do_not_name() {
    let plain = Entrance { secure: false, port: 80, https_port: 443, http_port: 80 };
    let other = Entrance { secure: false, port: 8080, https_port: 8443, http_port: 8080 };
    let to = |change: fn(&mut Redirect)| {
        let mut redirect = Redirect { status: StatusCode::FOUND, ..Redirect::default() };
        change(&mut redirect);
        redirect
    };
    let cases = [
        (to(|_| ()), plain, "http://a.com/x/y?q"),
        (to(|_| ()), other, "http://a.com:8080/x/y?q"),
        (to(|to| to.scheme = Some("https".into())), plain, "https://a.com/x/y?q"),
        (to(|to| to.scheme = Some("https".into())), other, "https://a.com:8443/x/y?q"),
        (to(|to| to.port = Some(8083)), plain, "http://a.com:8083/x/y?q"),
        (to(|to| to.host = Some("b.com".into())), plain, "http://b.com/x/y?q"),
        (to(|to| to.path = Some(PathChange::Full("/z".into()))), plain, "http://a.com/z?q"),
        (to(|to| to.path = Some(PathChange::Prefix("/z".into()))), plain, "http://a.com/z/y?q"),
    ];
    for (redirect, entrance, expected) in cases {
        assert_eq!(redirect.location(entrance, "a.com", "/x/y", 2, Some("q")), expected, "{redirect:?}");
    }
}

#[test]
fn weights_share_requests_exactly() {
    let mut counts = [0; 4];
    for random in 0..100 {
        counts[weighted([8, 0, 2, 0].into_iter(), random).unwrap()] += 1;
    }
    assert_eq!(counts, [80, 0, 20, 0]);
    assert_eq!(weighted([0, 0].into_iter(), 7), None);
    assert_eq!(weighted([].into_iter(), 7), None);
}

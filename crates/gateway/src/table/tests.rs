//! Which of several rules a request gets.

use http::Request;

use super::*;
use crate::kinds::{Match, PathMatch};

fn entry(route: i64, kind: &str, path: &str) -> Entry {
    let wanted =
        Match { path: Some(PathMatch { kind: Some(kind.into()), value: Some(path.into()) }), ..Match::default() };
    let conditions = Conditions::of(&wanted).unwrap();
    Entry { conditions, order: (false, (route, String::new()), 0, 0), rule: Arc::default() }
}

fn found(table: &Table, host: &str, path: &str) -> Option<i64> {
    let parts = Request::builder().uri(path).body(()).unwrap().into_parts().0;
    table.find(80, host, path, &parts).map(|entry| entry.order.1.0)
}

#[test]
fn a_request_gets_the_best_match_of_the_most_exact_host() {
    let mut table = Table::default();
    let any = Pattern::Any;
    let host = |text| Pattern::of(Some(text));
    for (name, entry) in [
        ("", entry(1, "PathPrefix", "/")),
        ("", entry(2, "PathPrefix", "/a")),
        ("", entry(3, "Exact", "/a/b")),
        ("", entry(4, "PathPrefix", "/a")),
        ("*.x.com", entry(5, "PathPrefix", "/")),
        ("www.x.com", entry(6, "PathPrefix", "/a")),
    ] {
        table.add(80, &any, host(name), entry);
    }
    table.order();
    let cases = [
        ("y.com", "/", Some(1)),
        ("y.com", "/a/c", Some(2)),
        ("y.com", "/a/b", Some(3)),
        ("q.x.com", "/a/b", Some(5)),
        ("www.x.com", "/a/b", Some(6)),
        // What the most exact host does not match, the next one gets.
        ("www.x.com", "/b", Some(5)),
    ];
    for (host, path, expected) in cases {
        assert_eq!(found(&table, host, path), expected, "{host} {path}");
    }
}

#[test]
fn listeners_are_apart() {
    let mut table = Table::default();
    let host = |text| Pattern::of(Some(text));
    table.add(80, &Pattern::Any, Pattern::Any, entry(1, "PathPrefix", "/"));
    table.listen(80, &host("*.x.com"));
    table.add(80, &host("www.x.com"), host("www.x.com"), entry(2, "PathPrefix", "/a"));
    table.order();
    assert_eq!(found(&table, "y.com", "/"), Some(1));
    // The listener of that host has no routes, and the one of all hosts is not asked instead.
    assert_eq!(found(&table, "q.x.com", "/"), None);
    assert_eq!(found(&table, "www.x.com", "/"), None);
    assert_eq!(found(&table, "www.x.com", "/a"), Some(2));
    assert!(found(&Table::default(), "y.com", "/").is_none());
}

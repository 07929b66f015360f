//! What is a dashboard, and which fit a search.

use super::*;

fn of(text: &str) -> Option<Dashboard> {
    Dashboard::parse(Origin::File("a.json".into()), "", text)
}

#[test]
fn every_built_in_dashboard_is_one_with_a_uid_of_its_own() {
    let mut uids = std::collections::BTreeSet::new();
    for (name, text) in DASHBOARDS {
        let dashboard = Dashboard::parse(Origin::BuiltIn, "", text).unwrap_or_else(|| panic!("{name}"));
        assert!(!dashboard.text("title").is_empty(), "{name}");
        assert!(uids.insert(dashboard.text("uid").to_owned()), "{name}");
    }
}

#[test]
fn exports_and_bare_dashboards_are_understood_and_anything_else_is_not() {
    assert_eq!(of(r#"{"title": "T", "uid": "u", "panels": []}"#).unwrap().text("uid"), "u");
    assert_eq!(of(r#"{"dashboard": {"title": "T", "rows": []}, "meta": {}}"#).unwrap().text("title"), "T");
    assert_eq!(of(r#"{"title": "T", "panels": []}"#).unwrap().text("uid").len(), 20);
    for text in ["", "[]", "{}", r#"{"title": "T"}"#, r#"{"panels": 1}"#] {
        assert!(of(text).is_none(), "{text}");
    }
}

#[test]
fn a_search_knows_words_tags_and_uids() {
    let dashboard = of(r#"{"title": "Node Full", "uid": "n", "tags": ["linux", "node"], "panels": []}"#).unwrap();
    let cases = [
        ("", true),
        ("query=node+full", true),
        ("query=NODE%20F", true),
        ("query=pod", false),
        ("tag=linux&tag=node", true),
        ("tag=linux&tag=x", false),
        ("dashboardUIDs=n", true),
        ("dashboardUIDs=x", false),
        ("type=dash-folder", false),
    ];
    for (query, expected) in cases {
        assert_eq!(Search::of(query).fits(&dashboard), expected, "{query}");
    }
}

#[test]
fn titles_become_addresses() {
    for (title, expected) in [("Node Exporter / Full", "node-exporter-full"), ("한글", "-"), ("", "-")] {
        assert_eq!(slug(title), expected);
    }
    assert!(plain("a/../b").is_err() && plain("").is_err() && plain("a-b.c").is_ok());
}

//! Each action on label sets.

use tsdb::labels::Labels;

use super::*;
use crate::yaml;

/// Rules as YAML, labels before, labels behind; `None` if dropped.
const CASES: &[(&str, &[(&str, &str)], Option<&[(&str, &str)]>)] = &[
    (
        "- {source_labels: [a], regex: 'f(.*)', target_label: d, separator: ';', replacement: 'ch${1}-ch${1}', action: replace}",
        &[("a", "foo"), ("b", "bar"), ("c", "baz")],
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")]),
    ),
    (
        "- {source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'}\n- {source_labels: [c, a], regex: '(b).*b(.*)ba(.*)', target_label: d, replacement: '$1$2$2$3'}",
        &[("a", "foo"), ("b", "bar"), ("c", "baz")],
        Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz"), ("d", "boooom")]),
    ),
    ("- {source_labels: [a], regex: '.*o.*', action: drop}", &[("a", "foo")], None),
    ("- {source_labels: [a], regex: 'o', action: drop}", &[("a", "foo")], Some(&[("a", "foo")])),
    ("- {source_labels: [a], regex: 'no-match', action: keep}", &[("a", "foo")], None),
    ("- {source_labels: [a], regex: 'f|foo', action: keep}", &[("a", "foo")], Some(&[("a", "foo")])),
    ("- {source_labels: [a], regex: 'a.*', action: keep}", &[("a", "abc\nx")], Some(&[("a", "abc\nx")])),
    (
        "- {source_labels: [a], target_label: b, replacement: 'b$1'}",
        &[("a", "foo")],
        Some(&[("a", "foo"), ("b", "bfoo")]),
    ),
    ("- {source_labels: [a], target_label: b, replacement: x}", &[("c", "y")], Some(&[("c", "y"), ("b", "x")])),
    ("- {source_labels: [a], regex: 'f', target_label: b, replacement: x}", &[("a", "foo")], Some(&[("a", "foo")])),
    ("- {source_labels: [a], target_label: a, replacement: ''}", &[("a", "foo"), ("b", "x")], Some(&[("b", "x")])),
    (
        "- {source_labels: [c], target_label: d, separator: ';', action: hashmod, modulus: 1000}",
        &[("a", "foo"), ("b", "bar"), ("c", "baz")],
        Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "976")]),
    ),
    (
        "- {source_labels: [a], target_label: d, action: hashmod, modulus: 1000}",
        &[("a", "foo\nbar")],
        Some(&[("a", "foo\nbar"), ("d", "734")]),
    ),
    (
        "- {regex: '(b.*)', replacement: 'bar_${1}', action: labelmap}",
        &[("a", "foo"), ("b1", "bar"), ("b2", "baz")],
        Some(&[("a", "foo"), ("b1", "bar"), ("b2", "baz"), ("bar_b1", "bar"), ("bar_b2", "baz")]),
    ),
    (
        "- {regex: '__meta_(my.*)', replacement: '${1}', action: labelmap}",
        &[("a", "foo"), ("__meta_my_bar", "aaa"), ("__meta_other", "ccc")],
        Some(&[("a", "foo"), ("__meta_my_bar", "aaa"), ("__meta_other", "ccc"), ("my_bar", "aaa")]),
    ),
    ("- {regex: 'b.*', action: labeldrop}", &[("a", "1"), ("b1", "2"), ("b2", "3")], Some(&[("a", "1")])),
    ("- {regex: 'b.*', action: labelkeep}", &[("a", "1"), ("b1", "2")], Some(&[("b1", "2")])),
    (
        "- {source_labels: [foo], action: uppercase, target_label: up}\n- {source_labels: [foo], action: LowerCase, target_label: down}",
        &[("foo", "bAr123Foo")],
        Some(&[("foo", "bAr123Foo"), ("up", "BAR123FOO"), ("down", "bar123foo")]),
    ),
    (
        "- {source_labels: [p], action: keepequal, target_label: q}",
        &[("p", "1"), ("q", "1")],
        Some(&[("p", "1"), ("q", "1")]),
    ),
    ("- {source_labels: [p], action: keepequal, target_label: q}", &[("p", "1"), ("q", "2")], None),
    ("- {source_labels: [p], action: dropequal, target_label: q}", &[("p", "1"), ("q", "1")], None),
    (
        "- {source_labels: [p], action: dropequal, target_label: q}",
        &[("p", "1"), ("q", "2")],
        Some(&[("p", "1"), ("q", "2")]),
    ),
    (
        "- {source_labels: [__meta], regex: '(?:.+,|^)path:(\\d+).*', target_label: __port, replacement: '$1'}",
        &[("__meta", "__meta_sd_tags:path:80,x")],
        Some(&[("__meta", "__meta_sd_tags:path:80,x")]),
    ),
    (
        "- {source_labels: [t], regex: 'port:(?P<port>\\d+)', target_label: 'p_${port}', replacement: 'is ${port} $$ $nobody.'}",
        &[("t", "port:80")],
        Some(&[("t", "port:80"), ("p_80", "is 80 $ .")]),
    ),
    ("- {source_labels: [n], regex: '(.*)', target_label: '${1}', replacement: x}", &[("n", "")], Some(&[("n", "")])),
];

fn rules(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules: Vec<Rule> = Vec::new();
    yaml::read(text, &mut rules)?;
    validate(&mut rules, Names::Utf8)?;
    Ok(rules)
}

#[test]
fn rules_do_to_labels_what_prometheus_does() {
    for (text, before, behind) in CASES {
        let rules = rules(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut builder = Builder::new(&Labels::from_pairs(before.iter().copied()));
        let kept = apply(&rules, &mut builder);
        let found = kept.then(|| builder.labels());
        assert_eq!(found, behind.map(|pairs| Labels::from_pairs(pairs.iter().copied())), "{text}");
    }
}

#[test]
fn rules_that_make_no_sense_are_refused_with_the_reason() {
    let cases = [
        ("- {action: nothing}", "unknown relabel action \"nothing\""),
        ("- {action: }", "relabel action cannot be empty"),
        ("- {action: replace}", "relabel configuration for replace action requires 'target_label' value"),
        ("- {action: hashmod, target_label: a}", "relabel configuration for hashmod requires non-zero modulus"),
        ("- {action: lowercase, target_label: a, replacement: b}", "'replacement' can not be set for lowercase action"),
        (
            "- {action: keepequal, target_label: a, regex: x}",
            "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        (
            "- {action: labelkeep, regex: a, source_labels: [b]}",
            "labelkeep action requires only 'regex', and no other fields",
        ),
        ("- {action: keep, source_labels: [a], regex: '('}", "error parsing regexp"),
        ("- {regexx: a}", "field regexx not found in type relabel.plain"),
    ];
    for (text, wanted) in cases {
        let error = rules(text).expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn legacy_names_bound_what_targets_may_be() {
    for (target, valid) in [
        ("a", true),
        ("a-b", false),
        ("${1}", true),
        ("$1_x", true),
        ("x${nam", false),
        ("${ab}c-d", false),
        ("$", false),
        ("1a", false),
    ] {
        let mut rule = Rule { target_label: target.into(), ..Rule::default() };
        assert_eq!(rule.validate(Names::Legacy).is_ok(), valid, "{target}");
    }
}

#[test]
fn an_expression_that_would_take_too_much_memory_is_refused() {
    assert!(Pattern::new(&"a{1000}".repeat(1000)).is_err());
    assert!(Pattern::new(&"a".repeat(100_000)).is_err());
    assert!(Pattern::new("((a{0,9}){0,9}){0,9}").is_ok());
}

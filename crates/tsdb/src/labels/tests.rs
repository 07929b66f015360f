//! Tests of label sets.

use super::*;

#[test]
fn labels_come_back_sorted_and_without_empty_values() {
    let labels = Labels::from_pairs([("zone", "b"), ("job", "api"), ("gone", ""), ("zone", "c")]);
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("job", "api"), ("zone", "c")]);
    assert_eq!((labels.get("zone"), labels.get("gone"), labels.len()), ("c", "", 2));
    assert_eq!(labels.to_string(), r#"{job="api", zone="c"}"#);
}

#[test]
fn lengths_past_one_digit_are_kept() {
    for length in [1, 63, 64, 65, 4095, 4096, 300_000] {
        let value = "é".repeat(length);
        let labels = Labels::from_pairs([("a", value.as_str()), ("b", "x")]);
        assert_eq!((labels.get("a"), labels.get("b")), (value.as_str(), "x"));
    }
}

#[test]
fn order_is_by_pairs_and_not_by_stored_bytes() {
    let sorted = [
        Labels::empty(),
        Labels::from_pairs([("a", "1")]),
        Labels::from_pairs([("a", "1"), ("b", "1")]),
        Labels::from_pairs([("a", "10")]),
        Labels::from_pairs([("aa", "1")]),
    ];
    assert!(sorted.is_sorted());
}

#[test]
fn quoting_escapes_as_go_does() {
    assert_eq!(
        quote("a\"b\\\n\u{7f}é\u{a0}\u{200b}\u{1f600}\u{301}"),
        "\"a\\\"b\\\\\\n\\x7fé\\u00a0\\u200b\u{1f600}\u{301}\""
    );
}

#[test]
fn a_builder_changes_and_removes() {
    let base = Labels::from_pairs([("a", "1"), ("b", "2"), ("c", "3")]);
    let mut builder = Builder::new(&base);
    assert_eq!(
        builder.set("b", "").set("d", "4").set("a", "9").labels(),
        Labels::from_pairs([("a", "9"), ("c", "3"), ("d", "4")])
    );
    assert_eq!(base.without(|name| name == "b"), Labels::from_pairs([("a", "1"), ("c", "3")]));
}

use serde_json::json;

use super::*;

#[test]
fn a_path_is_written_as_upstream_writes_it() {
    let spec = Path::new("spec");
    let containers = spec.child("containers");
    assert_eq!(containers.index(2).child("name").to_string(), "spec.containers[2].name");
    assert_eq!(Path::ROOT.child("metadata").child("labels").key("a/b").to_string(), "metadata.labels[a/b]");
}

#[test]
fn errors_are_worded_as_upstream_words_them() {
    let at = Path::new("spec").child("x").to_string();
    for (error, text) in [
        (FieldError::required(&at, ""), "spec.x: Required value"),
        (FieldError::required(&at, "must not be empty"), "spec.x: Required value: must not be empty"),
        (FieldError::invalid(&at, "a\"b", "no"), r#"spec.x: Invalid value: "a\"b": no"#),
        (FieldError::invalid(&at, 70000, "too big"), "spec.x: Invalid value: 70000: too big"),
        (FieldError::invalid(&at, json!({"a": "<"}), "no"), r#"spec.x: Invalid value: {"a":"\u003c"}: no"#),
        (
            FieldError::not_supported(&at, "z", &["A", "B"]),
            r#"spec.x: Unsupported value: "z": supported values: "A", "B""#,
        ),
        (FieldError::duplicate(&at, "z"), r#"spec.x: Duplicate value: "z""#),
        (FieldError::forbidden(&at, "not here"), "spec.x: Forbidden: not here"),
        (FieldError::too_long(&at, 63), "spec.x: Too long: may not be more than 63 bytes"),
        (FieldError::too_many(&at, 5, 1), "spec.x: Too many: 5: must have at most 1 item"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn several_errors_stand_in_brackets_each_once() {
    let (a, b) = (FieldError::required("a", ""), FieldError::required("b", ""));
    assert_eq!(aggregate(std::slice::from_ref(&a)), "a: Required value");
    assert_eq!(aggregate(&[a.clone(), b, a]), "[a: Required value, b: Required value]");
}

//! What is read of YAML, and what is refused where.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Debug, Default, PartialEq)]
struct Inner {
    deep: bool,
    list: Vec<String>,
}

impl Record for Inner {
    const TYPE: &'static str = "test.Inner";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("deep", &mut self.deep);
        fields.list("list", &mut self.list, "a hole in list");
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Outer {
    name: String,
    number: u64,
    kept: f64,
    inner: Option<Inner>,
    map: BTreeMap<String, String>,
}

impl Default for Outer {
    fn default() -> Self {
        Self { name: "default".into(), number: 7, kept: 1.5, inner: None, map: BTreeMap::new() }
    }
}

impl Record for Outer {
    const TYPE: &'static str = "test.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("name", &mut self.name);
        fields.field("number", &mut self.number);
        fields.always("kept", &mut self.kept);
        fields.field("inner", &mut self.inner);
        fields.field("map", &mut self.map);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.name == "wrong" { Err("name is wrong".into()) } else { Ok(()) }
    }
}

fn outer(text: &str) -> Result<Outer, String> {
    let mut outer = Outer::default();
    read(text, &mut outer).map(|()| outer)
}

#[test]
fn absent_fields_keep_their_defaults_and_null_empties_them() {
    assert_eq!(outer("").unwrap(), Outer::default());
    assert_eq!(outer("name: x").unwrap(), Outer { name: "x".into(), ..Outer::default() });
    assert_eq!(outer("name:\nnumber: ~").unwrap(), Outer { name: String::new(), number: 0, ..Outer::default() });
}

#[test]
fn scalars_are_what_yaml_of_go_takes_them_for() {
    for (text, wanted) in [("yes", true), ("on", true), ("False", false), ("n", false)] {
        assert_eq!(outer(&format!("inner: {{deep: {text}}}")).unwrap().inner.unwrap().deep, wanted, "{text}");
    }
    for (text, wanted) in [("0x10", 16), ("1_000", 1000), ("010", 8), ("0b11", 3), ("5.0", 5)] {
        assert_eq!(outer(&format!("number: {text}")).unwrap().number, wanted, "{text}");
    }
    assert_eq!(outer("name: 12").unwrap().name, "12");
    assert_eq!(outer("name: !!binary aGk=").unwrap().name, "hi");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let cases = [
        ("name: x\nfoo: 1", "yaml: unmarshal errors:\n  line 2: field foo not found in type test.plain"),
        ("name: x\nname: y", "yaml: unmarshal errors:\n  line 2: field name already set in type test.plain"),
        ("number: abc", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `abc` into uint"),
        ("number: abcdefghijklm", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `abcdefg...` into uint"),
        ("number: -1", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!int `-1` into uint"),
        ("name: [a]", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into string"),
        (
            "inner:\n  deep: 3\n  bar: x",
            "yaml: unmarshal errors:\n  line 2: cannot unmarshal !!int `3` into bool\n  line 3: field bar not found in type test.Inner",
        ),
        ("name: wrong", "name is wrong"),
        ("inner: {list: [a, null]}", "a hole in list"),
        ("name: !!binary '*'", "yaml: !!binary value contains invalid base64 data"),
    ];
    for (text, wanted) in cases {
        assert_eq!(outer(text).unwrap_err(), wanted, "{text}");
    }
    assert!(outer("name: {").unwrap_err().starts_with("yaml: line "));
}

#[test]
fn anchors_and_merges_are_resolved_and_bounded() {
    let merged = outer("map: &m\n  a: x\n  b: y\ninner: {deep: true}\n").unwrap();
    assert_eq!(merged.map.len(), 2);
    let text = "base: &b {name: n, number: 3}\nrest:\n  <<: *b\n  number: 4\n";
    let node = parse(text).unwrap().unwrap();
    let mut found = Outer::default();
    read_node(node.get("rest").unwrap(), &mut found).unwrap();
    assert_eq!((found.name.as_str(), found.number), ("n", 4));
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(",")));
    }
    assert!(parse(&bomb).unwrap_err().contains("excessive aliasing"));
    let deep = "[".repeat(500) + &"]".repeat(500);
    assert!(parse(&deep).is_err());
}

#[test]
fn printing_quotes_what_would_be_read_as_something_else() {
    let cases = [
        ("plain", "plain"),
        ("true", "\"true\""),
        ("12", "\"12\""),
        ("", "\"\""),
        ("a: b", "'a: b'"),
        ("it's", "it's"),
        ("'x", "'''x'"),
        ("(.*)", "(.*)"),
        ("*x", "'*x'"),
        (";", ";"),
        ("$1", "$1"),
        ("1:30", "\"1:30\""),
        ("15s", "15s"),
        ("<secret>", "<secret>"),
        ("a\tb", "\"a\\tb\""),
    ];
    for (text, wanted) in cases {
        assert_eq!(Print::Text(text.into()).text().trim_end(), wanted, "{text}");
    }
}

#[test]
fn what_is_printed_reads_as_the_same() {
    let mut value = Outer { name: "two\nlines\n".into(), ..Outer::default() };
    value.inner = Some(Inner { deep: true, list: vec!["- x".into(), "y".into(), "# z".into()] });
    value.map.insert("k: y".into(), "no".into());
    let text = print(&value);
    assert_eq!(outer(&text).unwrap(), value, "{text}");
    assert_eq!(print(&Outer::default()), "name: default\nnumber: 7\nkept: 1.5\n");
}

//! Input that nobody would send: nothing may panic or hang, whatever it says.

use api::crd::{self, Structural, column};
use api::patch;
use api::schema::Type;
use api::structural::{self, UnknownFields};
use api::{json, proto};
use serde_json::{Map, Value, json};

/// A generator of numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

/// Words that mean something somewhere.
const KEYS: &[&str] = &[
    "spec",
    "metadata",
    "name",
    "containers",
    "labels",
    "type",
    "properties",
    "items",
    "additionalProperties",
    "default",
    "enum",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "required",
    "pattern",
    "format",
    "nullable",
    "minimum",
    "maxLength",
    "multipleOf",
    "ports",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "volumes",
    "finalizers",
    "x-kubernetes-int-or-string",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-validations",
    "versions",
    "schema",
    "data",
    "openAPIV3Schema",
    "additionalPrinterColumns",
    "jsonPath",
    "subresources",
    "names",
    "plural",
    "kind",
    "apiVersion",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "op",
    "path",
    "from",
    "value",
    "template",
    "resources",
    "limits",
    "cpu",
    "creationTimestamp",
    "managedFields",
    "fieldsV1",
    "",
    "é",
    "conversion",
    "webhook",
    "url",
];
const TEXTS: &[&str] = &[
    "",
    "a",
    "object",
    "array",
    "string",
    "integer",
    "number",
    "map",
    "set",
    "atomic",
    "delete",
    "replace",
    "merge",
    "add",
    "remove",
    "move",
    "copy",
    "test",
    "/spec",
    "/spec/-",
    "/a/0",
    "/~1",
    "~",
    "1Gi",
    "-1.5e3",
    "9999999999999999999999",
    "2024-02-29T01:02:03Z",
    "2024-13-40T99:99:99+99:99",
    "AAE=",
    "=",
    "^a+$",
    "(",
    "[[:alpha:]]",
    "a{2,1}",
    "\\p{",
    "\\",
    ".spec.x",
    ".a[?(@.b==1)]",
    "{",
    "é",
    "\u{0}",
    "date-time",
    "uuid",
    "ipv4",
    "cidr",
    "email",
    "duration",
    "Webhook",
    "None",
    "Namespaced",
    "http://é",
    "https://a#b?c",
];

fn document(dice: &mut Dice, depth: usize) -> Value {
    match dice.roll(if depth == 0 { 8 } else { 16 }) {
        0 => Value::Null,
        1 => json!(dice.roll(2) == 0),
        2 => json!(dice.roll(10)),
        3 => json!([-1i64, i64::MIN, i64::MAX][dice.roll(3)]),
        4 => json!([1.5, -0.0, 1e300, 1e-300][dice.roll(4)]),
        5..8 => json!(dice.pick(TEXTS)),
        8..11 => Value::Array((0..dice.roll(4)).map(|_| document(dice, depth - 1)).collect()),
        _ => {
            let members = (0..dice.roll(5)).map(|_| (dice.pick(KEYS).to_owned(), document(dice, depth - 1)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

#[test]
fn nothing_panics_on_any_document() {
    let mut dice = Dice(7);
    let types: Vec<Type> = Type::all().collect();
    for _ in 0..4000 {
        let (one, other) = (document(&mut dice, 6), document(&mut dice, 6));
        let of = types[dice.roll(types.len())];
        let mut checked = one.clone();
        if structural::check(of, &mut checked, UnknownFields::Strict).is_ok() && proto::has_form(of) {
            structural::complete(of, &mut checked.clone());
            let bytes = proto::encode(of, &checked).unwrap_or_default();
            let _ = proto::decode(of, &bytes);
        }
        let _ = proto::encode(of, &one);
        let pod = Type::named("io.k8s.api.core.v1.Pod").unwrap();
        let _ = patch::strategic(pod, &mut one.clone(), &other);
        let _ = patch::merge(&mut one.clone(), &other);
        let operations = Value::Array((0..3).map(|_| document(&mut dice, 2)).collect());
        let _ = patch::json(&mut one.clone(), &operations);
        let path = dice.pick(TEXTS);
        let operation = json!([{"op": dice.pick(&["add", "remove", "replace", "move", "copy", "test"]), "path": path, "from": "/spec", "value": other}]);
        let _ = patch::json(&mut one.clone(), &operation);
        let canonical = json::to_canonical(&one);
        json::from_stored(&canonical, 7).unwrap();
        if let Ok(path) = column::Path::parse(path) {
            let _ = path.find(&one);
        }
    }
}

#[test]
fn nothing_panics_on_any_custom_resource() {
    let mut dice = Dice(11);
    let mut compiled = 0;
    for _ in 0..4000 {
        let mut schema = document(&mut dice, 7);
        if let Value::Object(map) = &mut schema {
            map.insert("type".to_owned(), "object".into());
        }
        let object = document(&mut dice, 5);
        let definition = json!({"metadata": {"name": "a"}, "spec": {"group": dice.pick(TEXTS), "names": document(&mut dice, 2),
            "conversion": document(&mut dice, 4), "versions": [{"name": dice.pick(TEXTS), "schema": {"openAPIV3Schema": schema},
            "subresources": document(&mut dice, 3), "additionalPrinterColumns": [document(&mut dice, 2)],
            "selectableFields": [{"jsonPath": dice.pick(TEXTS)}]}]}, "status": document(&mut dice, 3)});
        let _ = crd::definition_errors(&definition, None);
        let _ = crd::definition_errors(&definition, Some(&object));
        compiled += usize::from(Structural::compile(&schema).is_ok());
        // Also schemas that would be refused.
        let structural = Structural::of_checked(&schema);
        let mut decoded = object.clone();
        let _ = structural.decode(&mut decoded, &[], UnknownFields::Warn);
        let _ = structural.validate(&decoded);
        let _ = structural.validate_update(&decoded, &object);
    }
    assert!(compiled > 50, "{compiled}");
}

#[test]
fn nothing_panics_on_any_bytes() {
    let mut dice = Dice(13);
    let types: Vec<Type> = Type::all().filter(|t| proto::has_form(*t)).collect();
    for _ in 0..20_000 {
        let bytes: Vec<u8> =
            (0..dice.roll(60)).map(|_| [0x0a, 0x12, 0x08, 0x01, 0x00, dice.roll(256) as u8][dice.roll(6)]).collect();
        let of = types[dice.roll(types.len())];
        let _ = proto::decode(of, &bytes);
        let _ = proto::decode_envelope(&[proto::MAGIC.as_slice(), &bytes].concat());
        let _ = json::parse(&bytes);
        let text: String = (0..dice.roll(30))
            .map(|_| dice.pick(&["{", "}", "[", "]", "\"a\"", ":", ",", "1", "-", "e", ".", "\\u", "true", " "]))
            .collect();
        let _ = json::parse(text.as_bytes());
        let _ = column::Path::parse(&text);
    }
}

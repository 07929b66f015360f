//! An object against its schema, with upstream's messages (those of its OpenAPI validator, which counts matches to choose
//! the errors of the closest `anyOf` and `oneOf` alternative).

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use serde_json::{Number, Value};

use super::{Additional, Checks, JsonType, Node, Types, format};
use crate::schema::ListType;
use crate::validate::{FieldError, FieldErrorKind};

/// Checks `new`; faults of parts that equal those of `old` are let pass. `base` is the path of the value, none for a whole
/// object.
pub(super) fn validate(node: &Node, new: &Value, old: Option<&Value>, base: Option<&str>) -> Vec<FieldError> {
    let outcome = ratcheted(node, new, old, &Place::Root);
    let at = |name: &str| {
        let name = name.strip_prefix('.').unwrap_or(name);
        match base {
            None => name.to_owned(),
            Some(base) if name.is_empty() => base.to_owned(),
            Some(base) => format!("{base}.{name}"),
        }
    };
    // Upstream prints the path of an error without a place as Go prints a nil pointer.
    let nowhere = base.unwrap_or("<nil>");
    let field_error = |fault: Fault| match fault.about {
        None => FieldError::invalid(nowhere, "", fault.message),
        Some(About { name, kind, value }) => {
            let path = if name.is_empty() { nowhere.to_owned() } else { at(&name) };
            match kind {
                What::Required => FieldError::required(path, ""),
                What::Enumeration(allowed) => FieldError::not_supported(path, value, &allowed),
                What::TooLong(most) => FieldError::too_long(path, usize::try_from(most).unwrap_or(0)),
                What::TooMany(actual, most) => FieldError::too_many(path, actual, usize::try_from(most).unwrap_or(0)),
                What::Type => FieldError::new(FieldErrorKind::TypeInvalid, path, Some(value), fault.message),
                What::Other => FieldError::invalid(path, value, fault.message),
            }
        }
    };
    outcome.faults.into_iter().map(field_error).collect()
}

/// Where a value is.
enum Place<'a> {
    Root,
    Property(&'a Place<'a>, &'a str),
    /// An additional property: written with a dot even at the root.
    Additional(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root => Ok(()),
            Place::Property(Place::Root, name) => f.write_str(name),
            Place::Property(parent, name) | Place::Additional(parent, name) => write!(f, "{parent}.{name}"),
            Place::Index(parent, i) => write!(f, "{parent}[{i}]"),
        }
    }
}

struct Fault {
    message: String,
    /// None for faults that upstream's validator reports without a place.
    about: Option<About>,
}

struct About {
    name: String,
    kind: What,
    value: Value,
}

enum What {
    Required,
    Enumeration(Vec<String>),
    TooLong(i64),
    TooMany(usize, i64),
    Type,
    Other,
}

/// How many faults of an object are told.
const MAX_FAULTS: usize = 200;

#[derive(Default)]
struct Outcome {
    faults: Vec<Fault>,
    matched: u64,
}

impl Outcome {
    fn add(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS && !self.faults.iter().any(|f| f.message == fault.message) {
            self.faults.push(fault);
        }
    }

    fn merge(&mut self, other: Outcome) {
        self.matched += other.matched;
        other.faults.into_iter().for_each(|f| self.add(f));
    }

    fn general(&mut self, message: String) {
        self.add(Fault { message, about: None });
    }

    fn fault(&mut self, place: &Place<'_>, kind: What, value: Value, rest: impl fmt::Display) {
        let name = place.to_string();
        let message = format!("{name} in body {rest}");
        self.add(Fault { message, about: Some(About { name, kind, value }) });
    }
}

/// Checks a value; nothing is wrong with what did not change.
fn ratcheted(node: &Node, new: &Value, old: Option<&Value>, place: &Place<'_>) -> Outcome {
    let mut outcome = check(node, new, old, place);
    if !outcome.faults.is_empty() && old == Some(new) {
        outcome.faults.clear();
    }
    outcome
}

fn check(node: &Node, value: &Value, old: Option<&Value>, place: &Place<'_>) -> Outcome {
    let mut all = Outcome::default();
    let checks = node.checks.as_deref();
    if node.types != Types::Any || checks.is_some_and(|c| c.format.is_some()) || value.is_null() {
        all.merge(check_type(node, value, place));
        all.matched += 1;
    }
    if value.is_null() {
        all.matched -= 1;
        if let Some(checks) = checks {
            check_enumeration(checks, value, place, &mut all);
        }
        return all;
    }
    static NONE: LazyLock<Checks> = LazyLock::new(Checks::default);
    let rules = checks.unwrap_or(&NONE);
    all.merge(check_alternatives(rules, value, old, place));
    all.matched += 1;
    match value {
        Value::String(text) => {
            check_string(rules, text, place, &mut all);
            all.matched += 1 + u64::from(rules.format.is_some());
        }
        Value::Number(number) => {
            check_number(node, rules, number, place, &mut all);
            all.matched += 2;
        }
        Value::Array(items) => {
            all.merge(check_items(node, rules, items, old, place));
            all.matched += 2;
        }
        _ => {}
    }
    check_enumeration(rules, value, place, &mut all);
    all.matched += 1;
    if value.is_object() {
        all.merge(check_object(node, rules, value, old, place));
        all.matched += 1;
    }
    all.matched += 1;
    all
}

fn check_type(node: &Node, value: &Value, place: &Place<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let words = match node.types {
        Types::Any => "",
        Types::One(one) => one.word(),
        Types::IntOrString => "integer,string",
    };
    let mut wrong = |wanted: &str, found: &str| {
        outcome.fault(place, What::Type, found.into(), format_args!("must be of type {wanted}: \"{found}\""));
    };
    if value.is_null() {
        if node.types != Types::Any && !node.nullable {
            wrong(words, "null");
            return outcome;
        }
        outcome.matched = 1;
        return outcome;
    }
    let (found, native) = match value {
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
        Value::Number(n) if n.is_f64() => ("number", "float64"),
        _ => ("integer", "int64"),
    };
    let wanted = |one: JsonType| match node.types {
        Types::Any => false,
        Types::One(own) => own == one,
        Types::IntOrString => matches!(one, JsonType::Integer | JsonType::String),
    };
    let integral = value.as_f64().is_some_and(|f| f.fract() == 0.0);
    let matches = match found {
        "boolean" => wanted(JsonType::Boolean),
        "string" => wanted(JsonType::String),
        "array" => wanted(JsonType::Array),
        "object" => wanted(JsonType::Object),
        "number" => wanted(JsonType::Number) || integral && wanted(JsonType::Integer),
        _ => wanted(JsonType::Integer) || wanted(JsonType::Number),
    };
    let format = node.checks.as_ref().and_then(|c| c.format.as_deref()).unwrap_or_default();
    let text_like = matches!(value, Value::String(_) | Value::Array(_));
    if !format.is_empty() && !text_like && !matches && format != native {
        wrong(format, native);
        return outcome;
    }
    let numeric = wanted(JsonType::Number) || wanted(JsonType::Integer);
    if !matches && (numeric || format.is_empty() || !text_like) {
        wrong(words, found);
        return outcome;
    }
    outcome.matched = 1;
    outcome
}

impl JsonType {
    fn word(self) -> &'static str {
        match self {
            JsonType::Array => "array",
            JsonType::Boolean => "boolean",
            JsonType::Integer => "integer",
            JsonType::Number => "number",
            JsonType::Object => "object",
            JsonType::String => "string",
        }
    }
}

/// `anyOf`, `oneOf`, `allOf` and `not`.
fn check_alternatives(rules: &Checks, value: &Value, old: Option<&Value>, place: &Place<'_>) -> Outcome {
    let mut all = Outcome { matched: 1, ..Outcome::default() };
    let closer = |best: &Option<Outcome>, other: &Outcome| best.as_ref().is_none_or(|b| other.matched > b.matched);
    if !rules.any_of.is_empty() {
        let mut best: Option<Outcome> = None;
        let mut succeeded = false;
        for schema in &rules.any_of {
            let outcome = check(schema, value, old, place);
            succeeded = outcome.faults.is_empty();
            if succeeded || closer(&best, &outcome) {
                best = Some(outcome);
            }
            if succeeded {
                break;
            }
        }
        if !succeeded {
            all.general(format!("\"{place}\" must validate at least one schema (anyOf)"));
        }
        best.into_iter().for_each(|b| all.merge(b));
    }
    if !rules.one_of.is_empty() {
        let (mut best, mut first): (Option<Outcome>, Option<Outcome>) = (None, None);
        let mut validated = 0;
        for schema in &rules.one_of {
            let outcome = check(schema, value, old, place);
            if outcome.faults.is_empty() {
                validated += 1;
                best = None;
                first.get_or_insert(outcome);
            } else if validated == 0 && closer(&best, &outcome) {
                best = Some(outcome);
            }
        }
        let problem = match validated {
            0 => Some("Found none valid".to_owned()),
            1 => None,
            n => Some(format!("Found {n} valid alternatives")),
        };
        match problem {
            Some(problem) => {
                all.general(format!("\"{place}\" must validate one and only one schema (oneOf). {problem}"));
                best.into_iter().for_each(|b| all.merge(b));
            }
            None => first.into_iter().for_each(|f| all.merge(f)),
        }
    }
    if !rules.all_of.is_empty() {
        let mut validated = 0;
        for schema in &rules.all_of {
            let outcome = check(schema, value, old, place);
            validated += usize::from(outcome.faults.is_empty());
            all.merge(outcome);
        }
        if validated != rules.all_of.len() {
            let none = if validated == 0 { ". None validated" } else { "" };
            all.general(format!("\"{place}\" must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(schema) = &rules.not
        && check(schema, value, old, place).faults.is_empty()
    {
        all.general(format!("\"{place}\" must not validate the schema (not)"));
    }
    all
}

fn check_string(rules: &Checks, text: &str, place: &Place<'_>, all: &mut Outcome) {
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(most) = rules.max_length.filter(|most| length() > *most) {
        all.fault(place, What::TooLong(most), text.into(), format_args!("should be at most {most} chars long"));
    } else if let Some(least) = rules.min_length.filter(|least| length() < *least) {
        all.fault(place, What::Other, text.into(), format_args!("should be at least {least} chars long"));
    } else if let Some(pattern) = &rules.pattern
        && !pattern.matches(text)
    {
        all.fault(place, What::Other, text.into(), format_args!("should match '{}'", pattern.source()));
    }
    if let Some(format) = &rules.format
        && !format::holds(format, text)
    {
        let quoted = crate::status::quote(text);
        all.fault(place, What::Type, text.into(), format_args!("must be of type {format}: {quoted}"));
    }
}

/// A number as Go's `%v` prints a float64.
fn go_float(f: f64) -> String {
    if f != 0.0 && !(1e-4..1e21).contains(&f.abs()) {
        let text = format!("{f:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    f.to_string()
}

fn check_number(node: &Node, rules: &Checks, number: &Number, place: &Place<'_>, all: &mut Outcome) {
    let value = || Value::Number(number.clone());
    let float = number.as_f64().unwrap_or_default();
    let native = number.as_i64();
    let format = rules.format.as_deref().unwrap_or_default();
    // Whether a number fits the type and format; upstream does not ask where the type is ambiguous.
    let fits = |f: f64, i: Option<i64>| match (node.types, format) {
        (Types::One(JsonType::Integer), "int32") => {
            i.map_or(f.fract() == 0.0 && f.abs() <= 2_147_483_648.0, |i| i32::try_from(i).is_ok())
        }
        (Types::One(JsonType::Integer), _) => {
            i.is_some() || f.fract() == 0.0 && (-9.223_372_036_854_775e18..9.223_372_036_854_775e18).contains(&f)
        }
        (Types::One(JsonType::Number), "float") => f.abs() <= f64::from(f32::MAX),
        _ => true,
    };
    let unfit = |prefix: &str| {
        let of = match (node.types, format) {
            (Types::One(one), "") => format!("{} (default format)", one.word()),
            (Types::One(one), format) => format!("{} with format {format}", one.word()),
            _ => String::new(),
        };
        format!("{prefix} value must be of type {of} in {place}")
    };
    if !fits(float, native) {
        all.general(unfit("Checked"));
    }
    if let Some(factor) = rules.multiple_of {
        let fit = fits(factor, None);
        if !fit {
            all.general(unfit("MultipleOf"));
        }
        let exact = native.filter(|_| fit);
        let (multiple, shown) = match exact {
            Some(n) => (factor as i64 > 0 && n % (factor as i64) == 0, (factor as i64).to_string()),
            None => {
                let ratio = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
                (factor > 0.0 && (ratio - ratio.round()).abs() <= 1e-9 * ratio.abs().max(1.0), go_float(factor))
            }
        };
        if !multiple && (exact.map_or(factor, |_| (factor as i64) as f64)) <= 0.0 {
            all.general(format!("factor MultipleOf declared for {place} must be positive: {shown}"));
        } else if !multiple {
            all.fault(place, What::Other, value(), format_args!("should be a multiple of {shown}"));
        }
    }
    let bounds = [
        (rules.minimum, rules.exclusive_minimum, "Minimum boundary", "greater than"),
        (rules.maximum, rules.exclusive_maximum, "Maximum boundary", "less than"),
    ];
    for (bound, exclusive, name, word) in bounds {
        let Some(bound) = bound else { continue };
        let fit = fits(bound, None);
        if !fit {
            all.general(unfit(name));
        }
        let (order, shown) = match native.filter(|_| fit) {
            Some(n) => (n.cmp(&(bound as i64)), (bound as i64).to_string()),
            None => (float.total_cmp(&bound), go_float(bound)),
        };
        let outside = if word == "less than" { order.is_gt() } else { order.is_lt() };
        if outside || exclusive && order.is_eq() {
            let equal = if exclusive { "" } else { " or equal to" };
            all.fault(place, What::Other, value(), format_args!("should be {word}{equal} {shown}"));
        }
    }
}

/// Items of the old list by what tells them apart: only lists of type map can say which item continues which.
fn previous<'v>(node: &Node, rules: &Checks, old: Option<&'v Value>) -> HashMap<Vec<u8>, &'v Value> {
    let items = old.and_then(Value::as_array).filter(|_| node.list_type == Some(ListType::Map));
    items.into_iter().flatten().rev().map(|item| (identity(rules, item), item)).collect()
}

fn identity(rules: &Checks, item: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for key in &rules.list_map_keys {
        crate::json::write(&mut bytes, item.get(key.as_ref()).unwrap_or(&Value::Null));
        bytes.push(b',');
    }
    bytes
}

fn check_items(node: &Node, rules: &Checks, items: &[Value], old: Option<&Value>, place: &Place<'_>) -> Outcome {
    let mut all = Outcome::default();
    if let Some(schema) = &node.items {
        let before = previous(node, rules, old);
        for (i, item) in items.iter().enumerate() {
            let old = if before.is_empty() { None } else { before.get(&identity(rules, item)).copied() };
            all.merge(ratcheted(schema, item, old, &Place::Index(place, i)));
        }
    }
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(least) = rules.min_items.filter(|least| count < *least) {
        all.fault(place, What::Other, count.into(), format_args!("should have at least {least} items"));
    }
    if let Some(most) = rules.max_items.filter(|most| count > *most) {
        let kind = What::TooMany(items.len(), most);
        all.fault(place, kind, count.into(), format_args!("should have at most {most} items"));
    }
    if rules.unique_items && (1..items.len()).any(|i| items[..i].contains(&items[i])) {
        all.fault(place, What::Other, "".into(), "shouldn't contain duplicates");
    }
    all
}

fn check_enumeration(rules: &Checks, value: &Value, place: &Place<'_>, all: &mut Outcome) {
    let equal = |allowed: &Value| match (allowed, value) {
        (_, Value::Null) => false,
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    };
    if rules.enumeration.is_empty() || rules.enumeration.iter().any(equal) {
        return;
    }
    let words = rules.enumeration.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let words: Vec<String> = words.collect();
    let rest = format!("should be one of [{}]", words.join(" "));
    all.fault(place, What::Enumeration(words), value.clone(), rest);
}

fn check_object(node: &Node, rules: &Checks, value: &Value, old: Option<&Value>, place: &Place<'_>) -> Outcome {
    let mut all = Outcome::default();
    let Value::Object(map) = value else { return all };
    let count = i64::try_from(map.len()).unwrap_or(i64::MAX);
    if let Some(least) = rules.min_properties.filter(|least| count < *least) {
        all.fault(place, What::Other, count.into(), format_args!("should have at least {least} properties"));
    }
    if let Some(most) = rules.max_properties.filter(|most| count > *most) {
        let kind = What::TooMany(map.len(), most);
        all.fault(place, kind, count.into(), format_args!("should have at most {most} properties"));
    }
    // Parts of atomic maps are not compared with the old ones, nor kind and apiVersion.
    let before = |key: &str| {
        let apart = node.atomic_map || matches!(place, Place::Root) && matches!(key, "kind" | "apiVersion");
        old.filter(|_| !apart).and_then(|o| o.get(key))
    };
    for (key, value) in map.iter().filter(|(k, _)| node.property(k).is_none()) {
        match &node.additional {
            Additional::Forbidden => {
                let name = place.to_string();
                let message = format!("{name}.{key} in body is a forbidden property");
                let about = About { name, kind: What::Other, value: key.as_str().into() };
                all.add(Fault { message, about: Some(about) });
            }
            Additional::Schema(schema) => {
                all.merge(ratcheted(schema, value, before(key), &Place::Additional(place, key)));
            }
            Additional::Unset | Additional::Allowed => {}
        }
    }
    for (name, schema) in &node.properties {
        if let Some(value) = map.get(name.as_ref()) {
            all.merge(ratcheted(schema, value, before(name), &Place::Property(place, name)));
        }
    }
    for name in rules.required.iter().filter(|name| !map.contains_key(name.as_ref())) {
        let place = format!("{place}.{name}");
        let message = format!("{place} in body is required");
        all.add(Fault { message, about: Some(About { name: place, kind: What::Required, value: Value::Null }) });
    }
    all
}

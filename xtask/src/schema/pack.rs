//! Packs the facts into the table that `api::schema` reads in place; the layout is described there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Packages kept beside those that upstream's OpenAPI document has definitions of.
const PACKAGES: &[&str] = &[
    "io.k8s.api.admission.v1",
    "io.k8s.api.apidiscovery.v2",
    "io.k8s.apimachinery.pkg.apis.meta.v1",
    "io.k8s.apimachinery.pkg.runtime",
];

/// Order is the number in the table: `api::schema::Kind`.
const KINDS: &[&str] = &[
    "string",
    "bool",
    "int32",
    "int64",
    "double",
    "bytes",
    "intOrString",
    "quantity",
    "time",
    "microTime",
    "duration",
    "rawExtension",
    "fieldsV1",
    "json",
    "schemaOrArray",
    "schemaOrBool",
    "schemaOrStringArray",
    "any",
    "list",
    "map",
    "ref",
];

/// Order is the number in the table.
const LIST_TYPES: &[&str] = &["", "atomic", "set", "map"];
const MAP_TYPES: &[&str] = &["", "atomic", "granular"];
const STRATEGIES: &[&str] = &["", "merge", "replace", "retainKeys", "merge,retainKeys"];

/// Makes the table of `types` (what `facts.go` prints) and upstream's OpenAPI v2 `definitions`.
pub fn pack(types: &[Value], definitions: &Value) -> Result<Vec<u8>> {
    let all: BTreeMap<&str, &Value> = types.iter().map(|t| (text(&t["name"]), t)).collect();
    let kept = kept(&all, definitions)?;
    let mut packer =
        Packer { types: kept.iter().enumerate().map(|(i, n)| (*n, i as u16)).collect(), ..Packer::default() };
    packer.strings = strings(&kept, &all, definitions);
    let mut rows = Vec::new();
    for name in &kept {
        let t = all[name];
        let first_field = packer.field_count;
        let mut fields: Vec<&Value> = array(&t["fields"]).iter().collect();
        fields.sort_by_key(|f| f["number"].as_u64().unwrap_or(0));
        for field in fields {
            packer.field(field).with_context(|| format!("{name}: field {}", field["go"]))?;
        }
        let first_kind = packer.kind_count;
        for kind in kinds(name, t, definitions) {
            for part in kind {
                let at = packer.string(&part)?;
                packer.kinds.extend(at.to_le_bytes());
            }
            packer.kind_count += 1;
        }
        let unions = if t["unions"].is_null() { String::new() } else { t["unions"].to_string() };
        for number in
            [packer.string(name)?, packer.string(text(&t["go"]))?, first_field, packer.field_count - first_field]
        {
            rows.extend(number.to_le_bytes());
        }
        let map_type = position(MAP_TYPES, text(&t["mapType"]))?;
        for number in [u16::from(map_type), first_kind, packer.kind_count - first_kind, packer.string(&unions)?] {
            rows.extend(number.to_le_bytes());
        }
    }
    packer.finish(rows, kept.len())
}

/// Names of the types that go into the table, sorted.
fn kept<'a>(all: &BTreeMap<&'a str, &'a Value>, definitions: &Value) -> Result<Vec<&'a str>> {
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = Vec::new();
    for name in all.keys() {
        let package = name.rsplit_once('.').map_or("", |(p, _)| p);
        if !definitions[*name].is_null() || PACKAGES.contains(&package) || package.ends_with("api.core.v1") {
            open.push(name);
        }
    }
    while let Some(name) = open.pop() {
        if kept.insert(name) {
            let t = all.get(name).with_context(|| format!("no type {name}"))?;
            for field in array(&t["fields"]) {
                let mut shape = &field["shape"];
                while !shape.is_null() {
                    if let Some(reference) = shape["ref"].as_str() {
                        open.push(all.get_key_value(reference).with_context(|| format!("no type {reference}"))?.0);
                    }
                    shape = &shape["elem"];
                }
            }
        }
    }
    Ok(kept.into_iter().collect())
}

/// Group, version and kind under which a type is served.
fn kinds(name: &str, t: &Value, definitions: &Value) -> Vec<[String; 3]> {
    let published = &definitions[name]["x-kubernetes-group-version-kind"];
    if published.is_array() {
        return array(published).iter().map(|k| ["group", "version", "kind"].map(|p| text(&k[p]).to_owned())).collect();
    }
    let own = |kind: &[String; 3]| {
        let group = kind[0].split('.').next().unwrap_or_default();
        let group = if group.is_empty() { "core" } else { group };
        name.contains(&format!(".api.{group}.{}.", kind[1]))
    };
    let split = |k: &Value| {
        let mut parts = text(k).split('/').map(str::to_owned);
        [(); 3].map(|()| parts.next().unwrap_or_default())
    };
    array(&t["kinds"]).iter().map(split).filter(own).collect()
}

/// Every string of the table, sorted; the first is the empty one.
fn strings<'a>(kept: &[&'a str], all: &BTreeMap<&'a str, &'a Value>, definitions: &Value) -> BTreeMap<String, u16> {
    let mut set = BTreeSet::from([String::new()]);
    for name in kept {
        let t = all[name];
        set.insert((*name).to_owned());
        set.insert(text(&t["go"]).to_owned());
        if !t["unions"].is_null() {
            set.insert(t["unions"].to_string());
        }
        set.extend(kinds(name, t, definitions).into_iter().flatten());
        for field in array(&t["fields"]) {
            set.extend(["name", "go", "mergeKey"].map(|k| text(&field[k]).to_owned()));
            set.extend([map_keys(field), enumeration(field), default(field)]);
            let mut shape = &field["shape"];
            while !shape.is_null() {
                set.insert(text(&shape["go"]).to_owned());
                shape = &shape["elem"];
            }
        }
    }
    set.into_iter().enumerate().map(|(i, s)| (s, i as u16)).collect()
}

fn map_keys(field: &Value) -> String {
    array(&field["mapKeys"]).iter().map(text).collect::<Vec<_>>().join(",")
}

fn enumeration(field: &Value) -> String {
    array(&field["enum"]).iter().map(text).collect::<Vec<_>>().join("\n")
}

fn default(field: &Value) -> String {
    if field["hasDefault"] == true {
        field.get("default").map_or("null".to_owned(), Value::to_string)
    } else {
        String::new()
    }
}

#[derive(Default)]
struct Packer<'a> {
    strings: BTreeMap<String, u16>,
    types: HashMap<&'a str, u16>,
    shapes: Vec<u8>,
    known_shapes: HashMap<[u8; 6], u16>,
    fields: Vec<u8>,
    field_count: u16,
    kinds: Vec<u8>,
    kind_count: u16,
}

impl Packer<'_> {
    fn string(&self, s: &str) -> Result<u16> {
        self.strings.get(s).copied().with_context(|| format!("string {s:?} not collected"))
    }

    fn shape(&mut self, shape: &Value) -> Result<u16> {
        let kind = position(KINDS, text(&shape["kind"]))?;
        let elem = if let Some(reference) = shape["ref"].as_str() {
            *self.types.get(reference).with_context(|| format!("type {reference} not kept"))?
        } else if shape["elem"].is_object() {
            self.shape(&shape["elem"])?
        } else {
            0
        };
        let flags = u8::from(shape["pointer"] == true) | u8::from(shape["wrapped"] == true) << 1;
        let ([a, b], [c, d]) = (elem.to_le_bytes(), self.string(text(&shape["go"]))?.to_le_bytes());
        let row = [kind, flags, a, b, c, d];
        let next = u16::try_from(self.known_shapes.len())?;
        if let Some(known) = self.known_shapes.get(&row) {
            return Ok(*known);
        }
        self.shapes.extend(row);
        self.known_shapes.insert(row, next);
        Ok(next)
    }

    fn field(&mut self, field: &Value) -> Result<()> {
        let shape = self.shape(&field["shape"])?;
        let number = u16::try_from(field["number"].as_u64().unwrap_or(0))?;
        let flags = ["required", "omitEmpty", "omitZero", "inline"];
        let flags = flags.iter().enumerate().map(|(bit, k)| u8::from(field[*k] == true) << bit).sum::<u8>();
        for number in [self.string(text(&field["name"]))?, self.string(text(&field["go"]))?, number, shape] {
            self.fields.extend(number.to_le_bytes());
        }
        self.fields.extend([
            flags,
            position(LIST_TYPES, text(&field["listType"]))?,
            position(MAP_TYPES, text(&field["mapType"]))?,
            position(STRATEGIES, text(&field["strategy"]))?,
        ]);
        for s in [map_keys(field), text(&field["mergeKey"]).to_owned(), enumeration(field), default(field)] {
            let at = self.string(&s)?;
            self.fields.extend(at.to_le_bytes());
        }
        self.field_count = self.field_count.checked_add(1).context("too many fields")?;
        Ok(())
    }

    fn finish(self, types: Vec<u8>, type_count: usize) -> Result<Vec<u8>> {
        let mut table = b"MDT1".to_vec();
        ensure!(self.strings.len() < usize::from(u16::MAX), "too many strings");
        let counts =
            [self.strings.len(), type_count, self.field_count.into(), self.shapes.len() / 6, self.kind_count.into()];
        for count in counts {
            table.extend(u32::try_from(count)?.to_le_bytes());
        }
        let mut bytes = Vec::new();
        for s in self.strings.keys() {
            table.extend(u32::try_from(bytes.len())?.to_le_bytes());
            bytes.extend(s.as_bytes());
        }
        table.extend(u32::try_from(bytes.len())?.to_le_bytes());
        for section in [types, self.fields, self.shapes, self.kinds, bytes] {
            table.extend(section);
        }
        Ok(table)
    }
}

fn position(names: &[&str], name: &str) -> Result<u8> {
    match names.iter().position(|n| *n == name) {
        Some(at) => Ok(at as u8),
        None => bail!("unknown word {name:?}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

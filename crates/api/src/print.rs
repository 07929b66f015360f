//! Objects as rows of a table: what `kubectl get` shows.
//!
//! The server makes the cells, so that clients need not know kinds. [`Printer`] knows the columns of one kind, built in or
//! from a CustomResourceDefinition's `additionalPrinterColumns`; [`table`] puts rows together. [`partial`] and
//! [`partial_list`] show metadata alone. Column names and cells are upstream's (`pkg/printers` of k8s.io/kubernetes v1.37.1),
//! since scripts read them.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::kinds::{self, Kind};
use crate::meta::{self, View};
use path::JsonPath;

pub mod age;
mod cells;
mod columns;
mod metrics;
pub mod path;
mod pod;
#[cfg(test)]
mod tests;

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Heading; clients show it in capitals.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: String,
    /// OpenAPI format; `name` marks the column that names the object.
    pub format: String,
    /// For people.
    pub description: String,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: i64,
}

impl Column {
    fn to_value(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority})
    }
}

/// How much of each object goes into its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// Its metadata (`includeObject=Metadata`, the default).
    #[default]
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

impl Include {
    /// From the query parameter `includeObject`; the error is upstream's message.
    pub fn parse(text: &str) -> Result<Include, String> {
        match text {
            "" | "Metadata" => Ok(Include::Metadata),
            "Object" => Ok(Include::Object),
            "None" => Ok(Include::None),
            other => Err(format!(
                "includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                crate::status::quote(other)
            )),
        }
    }
}

/// Columns and cells of one kind.
#[derive(Debug, Clone)]
pub struct Printer {
    kind: Kind,
    columns: Vec<Column>,
    /// For custom resources: where each column but the first has its value.
    paths: Option<Vec<Option<JsonPath>>>,
}

/// Columns of a built-in kind, those of `-o wide` included.
pub fn columns(kind: &Kind) -> Vec<Column> {
    columns::of(kind)
}

/// Cells of an object of a built-in kind.
pub fn row(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    Printer::built_in(kind).cells(object, now)
}

impl Printer {
    /// For a built-in kind.
    pub fn built_in(kind: &Kind) -> Printer {
        Printer { kind: *kind, columns: columns::of(kind), paths: None }
    }

    /// For a custom resource, from `additionalPrinterColumns` of the version that is served. Without any, its age is shown.
    pub fn custom(kind: &Kind, additional: &Value) -> Printer {
        let mut columns = vec![columns::name()];
        let mut paths = Vec::new();
        let view = View::new(additional);
        if view.items_slice().is_empty() {
            let mut age = columns::column("Age", "date", "", 0);
            age.description =
                "Custom resource definition column (in JSONPath format): .metadata.creationTimestamp".to_owned();
            columns.push(age);
            paths.push(JsonPath::parse(".metadata.creationTimestamp"));
        }
        for column in view.items_slice().iter().map(View::new) {
            let path = column.text("jsonPath");
            let description = match column.text("description") {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                own => own.to_owned(),
            };
            columns.push(Column {
                name: column.text("name").to_owned(),
                kind: column.text("type").to_owned(),
                format: column.text("format").to_owned(),
                description,
                priority: column.int("priority").unwrap_or(0),
            });
            paths.push(JsonPath::parse(path));
        }
        Printer { kind: *kind, columns, paths: Some(paths) }
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The cells of an object, one a column.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        if let Some(paths) = &self.paths {
            let mut cells = vec![Value::from(meta::name(object))];
            for (column, path) in self.columns.iter().skip(1).zip(paths) {
                let value = path.as_ref().and_then(|path| path.first(object));
                cells.push(value.map_or(Value::Null, |value| custom_cell(&column.kind, value, now)));
            }
            return cells;
        }
        let stored = (self.kind.group, self.kind.kind, self.kind.version);
        match stored {
            ("events.k8s.io", "Event", _) => self.converted("", "v1", object, now),
            ("autoscaling", "HorizontalPodAutoscaler", "v1") => self.converted("autoscaling", "v2", object, now),
            _ => cells::of(&self.kind, object, now),
        }
    }

    fn converted(&self, group: &str, version: &str, object: &Value, now: Timestamp) -> Vec<Value> {
        let Some(to) = kinds::find(group, version, self.kind.plural) else { return Vec::new() };
        let mut object = object.clone();
        kinds::convert(&self.kind, to, &mut object);
        cells::of(to, &object, now)
    }

    /// A whole row.
    pub fn row(&self, object: &Value, include: Include, now: Timestamp) -> Value {
        let mut row = Map::new();
        row.insert("cells".to_owned(), self.cells(object, now).into());
        let conditions = if self.kind.is("", "Pod") { pod::conditions(object) } else { None };
        if let Some(conditions) = conditions {
            row.insert("conditions".to_owned(), conditions);
        }
        let object = match include {
            Include::Metadata => Some(partial(object)),
            Include::Object => Some(object.clone()),
            Include::None => None,
        };
        if let Some(object) = object {
            row.insert("object".to_owned(), object);
        }
        row.into()
    }
}

fn custom_cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)).into()
        }
        ("number", Value::Number(number)) => number.as_f64().into(),
        ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::String(_)) => value.clone(),
        ("string", value) => value.to_string().into(),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(_) => age::since(text, now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

/// A Table of rows made by [`Printer::row`]. `list_metadata` is the list's (or the single object's resourceVersion), as an object.
pub fn table(printer: &Printer, rows: Vec<Value>, list_metadata: Value, headers: bool) -> Value {
    let mut rows = rows;
    if printer.kind.is("storage.k8s.io", "StorageClass") && rows.len() > 1 {
        mark_default_class(&mut rows);
    }
    let columns: Vec<Value> = if headers { printer.columns.iter().map(Column::to_value).collect() } else { Vec::new() };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata, "columnDefinitions": columns, "rows": rows})
}

/// In a list, the class that claims without a class get is marked: the youngest that calls itself the default.
fn mark_default_class(rows: &mut [Value]) {
    let is_default = |row: &Value| {
        let object = row.get("object").unwrap_or(&Value::Null);
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|annotation| meta::annotation(object, annotation) == "true")
    };
    let key = |row: &Value| {
        let object = row.get("object").unwrap_or(&Value::Null);
        (meta::creation_timestamp(object).unwrap_or("").to_owned(), std::cmp::Reverse(meta::name(object).to_owned()))
    };
    let default = rows.iter_mut().filter(|row| is_default(row)).max_by_key(|row| key(row));
    if let Some(cell) = default.and_then(|row| row.pointer_mut("/cells/0"))
        && let Some(name) = cell.as_str()
    {
        *cell = format!("{name} (default)").into();
    }
}

/// An object's metadata alone, as a PartialObjectMetadata.
pub fn partial(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// Metadata of several objects, as a PartialObjectMetadataList.
pub fn partial_list(items: Vec<Value>, list_metadata: Value) -> Value {
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata, "items": items})
}

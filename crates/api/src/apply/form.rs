//! What is known of a value's type where fields are owned: from the schema table, from a custom resource's schema, or from
//! nothing but the value.
//!
//! ```text
//! Form ── atom(value) ──► Map   fields, entries, atomic or not
//!                         List  atomic, set, or map with its keys
//!                         Scalar
//! ```
//!
//! A type may allow several of them (`int-or-string`, custom schemas without a type): the value decides.

use std::sync::LazyLock;

use serde_json::Value;

use crate::crd::{Additional, JsonType, Node, Structural, Types};
use crate::schema::{Field, Kind, ListType, Shape, Type};
use crate::structural::printed_zero;

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub enum Form<'s> {
    /// A struct of the schema table.
    Type(Type),
    /// A field of one: its extensions count, too.
    Field(Field),
    /// An item or entry of one.
    Shape(Shape),
    /// A value of a custom resource.
    Custom(Custom<'s>),
    /// A scalar of this type.
    Scalar(Scalar),
    /// Unknown: objects are merged by their entries, lists as a whole.
    Deduced,
    /// Unknown: replaced as a whole.
    Untyped,
}

/// A value of a custom resource: its schema, and what that inherits.
#[derive(Clone, Copy, Debug)]
pub struct Custom<'s> {
    node: &'s Node,
    /// Has `apiVersion`, `kind` and `metadata` that the schema need not name.
    resource: bool,
    /// A schema on the way from the root preserves unknown fields.
    preserve: bool,
}

/// The types of scalars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    String,
    /// A number.
    Numeric,
    /// `true` or `false`.
    Boolean,
    /// Any of them.
    Any,
}

/// How the items of a list belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Items<'s> {
    /// The list is one value.
    Atomic,
    /// Each item is told by its value.
    Set,
    /// Each item is told by its keys.
    Map(Keys<'s>),
}

/// The keys of a list of type map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys<'s> {
    /// Those of a field.
    Field(Field),
    /// Those of a custom schema.
    Custom(&'s [Box<str>]),
    /// The one that patches merge by.
    One(&'static str),
}

/// A list's type.
#[derive(Clone, Copy, Debug)]
pub struct List<'s> {
    /// How items belong together.
    pub items: Items<'s>,
    /// Their type.
    pub element: Form<'s>,
}

/// The type of a struct or map.
#[derive(Clone, Copy, Debug)]
pub struct Map<'s> {
    /// It is one value.
    pub atomic: bool,
    fields: Fields<'s>,
    /// Type of entries that are no fields; none may be there without it.
    entries: Entries<'s>,
}

#[derive(Clone, Copy, Debug)]
enum Fields<'s> {
    None,
    Type(Type),
    Custom(Custom<'s>),
}

#[derive(Clone, Copy, Debug)]
enum Entries<'s> {
    None,
    Shape(Shape),
    Custom(Custom<'s>),
    Deduced,
    Untyped,
}

/// What a value is taken for.
#[derive(Clone, Copy, Debug)]
pub enum Atom<'s> {
    /// A struct or map.
    Map(Map<'s>),
    /// A list.
    List(List<'s>),
    /// A scalar.
    Scalar(Scalar),
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

static METADATA: LazyLock<Option<Type>> = LazyLock::new(|| Type::named(OBJECT_META));

impl<'s> Form<'s> {
    /// The type of a custom resource's objects.
    pub fn resource(schema: &'s Structural) -> Form<'s> {
        let node = schema.root();
        Form::Custom(Custom { node, resource: true, preserve: node.preserve })
    }

    /// What the value is taken for: of the allowed ones the one that it is, else the first that is allowed.
    pub fn atom(self, value: &Value) -> Atom<'s> {
        let (map, list, scalar) = match value {
            Value::Object(_) => (self.as_map(), None, None),
            Value::Array(_) => (None, self.as_list(), None),
            Value::Null => (None, None, None),
            _ => (None, None, self.as_scalar()),
        };
        let found = map.map(Atom::Map).or_else(|| list.map(Atom::List)).or_else(|| scalar.map(Atom::Scalar));
        found.unwrap_or_else(|| self.first())
    }

    fn first(self) -> Atom<'s> {
        let map = self.as_map().map(Atom::Map);
        let scalar = || self.as_scalar().map(Atom::Scalar);
        let list = || self.as_list().map(Atom::List);
        map.or_else(scalar).or_else(list).unwrap_or(Atom::Scalar(Scalar::Any))
    }

    /// The struct or map that it allows.
    pub fn as_map(self) -> Option<Map<'s>> {
        let (shape, word) = match self {
            Form::Type(of) => return Some(Map::of(of, "")),
            Form::Field(field) => (field.shape(), field.map_type()),
            Form::Shape(shape) => (shape, ""),
            Form::Custom(custom) => return custom.as_map(),
            Form::Scalar(_) => return None,
            Form::Deduced => {
                return Some(Map { atomic: false, fields: Fields::None, entries: Entries::Deduced });
            }
            Form::Untyped => return Some(Map { atomic: true, fields: Fields::None, entries: Entries::Untyped }),
        };
        match shape.kind() {
            Kind::Ref => shape.reference().map(|of| Map::of(of, word)),
            Kind::Map => shape.elem().map(|elem| Map {
                atomic: word == "atomic",
                fields: Fields::None,
                entries: Entries::Shape(elem),
            }),
            Kind::RawExtension => Form::Untyped.as_map(),
            kind if is_free(kind) => Form::Deduced.as_map(),
            _ => None,
        }
    }

    /// The list that it allows.
    pub fn as_list(self) -> Option<List<'s>> {
        let atomic = |element| Some(List { items: Items::Atomic, element });
        let (shape, field) = match self {
            Form::Field(field) => (field.shape(), Some(field)),
            Form::Shape(shape) => (shape, None),
            Form::Custom(custom) => return custom.as_list(),
            Form::Deduced | Form::Untyped => return atomic(Form::Untyped),
            Form::Type(_) | Form::Scalar(_) => return None,
        };
        match shape.kind() {
            Kind::List => {
                let element = Form::Shape(shape.elem()?);
                Some(List { items: field.map_or(Items::Atomic, items_of), element })
            }
            Kind::RawExtension => atomic(Form::Untyped),
            kind if is_free(kind) => atomic(Form::Untyped),
            _ => None,
        }
    }

    fn as_scalar(self) -> Option<Scalar> {
        let shape = match self {
            Form::Field(field) => field.shape(),
            Form::Shape(shape) => shape,
            Form::Custom(custom) => return custom.as_scalar(),
            Form::Scalar(scalar) => return Some(scalar),
            Form::Deduced | Form::Untyped => return Some(Scalar::Any),
            Form::Type(_) => return None,
        };
        match shape.kind() {
            Kind::String | Kind::Bytes | Kind::Duration => Some(Scalar::String),
            Kind::Bool => Some(Scalar::Boolean),
            Kind::Int32 | Kind::Int64 | Kind::Double => Some(Scalar::Numeric),
            Kind::List | Kind::Map | Kind::Ref | Kind::FieldsV1 => None,
            _ => Some(Scalar::Any),
        }
    }
}

/// Kinds of the table that the published document says nothing of.
fn is_free(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Json | Kind::Any | Kind::FieldsV1 | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStringArray
    )
}

/// A list that says nothing is merged as patches merge it.
fn items_of(field: Field) -> Items<'static> {
    match field.list_type() {
        ListType::Atomic => Items::Atomic,
        ListType::Set => Items::Set,
        ListType::Map => Items::Map(Keys::Field(field)),
        ListType::Unset if !field.patch_strategy().merge => Items::Atomic,
        ListType::Unset if field.merge_key().is_empty() => Items::Set,
        ListType::Unset => Items::Map(Keys::One(field.merge_key())),
    }
}

impl<'s> Keys<'s> {
    /// Their names.
    pub fn names(self) -> Vec<&'s str> {
        match self {
            Keys::Field(field) => field.map_keys().collect(),
            Keys::Custom(names) => names.iter().map(AsRef::as_ref).collect(),
            Keys::One(name) => vec![name],
        }
    }
}

impl<'s> Map<'s> {
    fn of(of: Type, word: &str) -> Map<'s> {
        let word = if word.is_empty() { of.map_type() } else { word };
        Map { atomic: word == "atomic", fields: Fields::Type(of), entries: Entries::None }
    }

    /// Whether a struct has that field.
    pub fn has_field(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    fn field(&self, name: &str) -> Option<Form<'s>> {
        match self.fields {
            Fields::None => None,
            Fields::Type(of) => of.field(name).map(Form::Field),
            Fields::Custom(custom) => custom.field(name),
        }
    }

    /// The type of a field or entry; none where it is not allowed.
    pub fn member(&self, name: &str) -> Option<Form<'s>> {
        self.lookup(name).map(|(form, _)| form)
    }

    /// The same, and whether it is a field.
    pub fn lookup(&self, name: &str) -> Option<(Form<'s>, bool)> {
        if let Some(field) = self.field(name) {
            return Some((field, true));
        }
        let entry = match self.entries {
            Entries::None => return None,
            Entries::Shape(shape) => Form::Shape(shape),
            Entries::Custom(custom) => Form::Custom(custom),
            Entries::Deduced => Form::Deduced,
            Entries::Untyped => Form::Untyped,
        };
        Some((entry, false))
    }

    /// Fields that upstream prints although nobody set them, with what it prints, sorted by name.
    pub(super) fn always(&self) -> &'static [(&'static str, Value)] {
        match self.fields {
            Fields::Type(of) => always(of),
            _ => &[],
        }
    }

    /// The default of a key of a list's items.
    pub fn key_default(&self, name: &str) -> Option<Value> {
        match self.fields {
            Fields::Type(of) => {
                let text = of.field(name)?.default();
                serde_json::from_str(text).ok()
            }
            Fields::Custom(custom) => custom.node.property(name)?.default.as_deref().cloned(),
            Fields::None => None,
        }
        .filter(|value| !value.is_null())
    }

    /// Whether it holds nothing but what the values say.
    pub fn is_deduced(&self) -> bool {
        matches!((self.fields, self.entries), (Fields::None, Entries::Deduced | Entries::Untyped))
    }
}

impl<'s> Custom<'s> {
    fn below(self, node: &'s Node) -> Form<'s> {
        let preserve = self.preserve || node.preserve;
        Form::Custom(Custom { node, resource: node.embedded, preserve })
    }

    fn field(self, name: &str) -> Option<Form<'s>> {
        if self.resource {
            match (name, *METADATA) {
                ("metadata", Some(metadata)) => return Some(Form::Type(metadata)),
                ("apiVersion" | "kind", _) => return Some(Form::Scalar(Scalar::String)),
                _ => {}
            }
        }
        self.node.property(name).map(|node| self.below(node))
    }

    fn as_map(self) -> Option<Map<'s>> {
        if !matches!(self.node.types, Types::Any | Types::IntOrString | Types::One(JsonType::Object)) {
            return None;
        }
        let entries = match &self.node.additional {
            Additional::Schema(node) => match self.below(node) {
                Form::Custom(custom) => Entries::Custom(custom),
                _ => Entries::Deduced,
            },
            Additional::Allowed => Entries::Deduced,
            Additional::Forbidden => Entries::None,
            Additional::Unset if self.preserve || self.node.properties.is_empty() && !self.resource => Entries::Deduced,
            Additional::Unset => Entries::None,
        };
        let free = self.node.properties.is_empty() && !self.resource;
        let fields = if free { Fields::None } else { Fields::Custom(self) };
        Some(Map { atomic: self.node.atomic_map, fields, entries })
    }

    fn as_list(self) -> Option<List<'s>> {
        if !matches!(self.node.types, Types::Any | Types::IntOrString | Types::One(JsonType::Array)) {
            return None;
        }
        let items = match self.node.list_type {
            Some(ListType::Set) => Items::Set,
            Some(ListType::Map) => Items::Map(Keys::Custom(self.node.list_map_keys())),
            _ => Items::Atomic,
        };
        let element = self.node.items.as_deref().map_or(Form::Untyped, |node| self.below(node));
        Some(List { items, element })
    }

    fn as_scalar(self) -> Option<Scalar> {
        match self.node.types {
            Types::Any | Types::IntOrString => Some(Scalar::Any),
            Types::One(JsonType::String) if self.node.has_format() => Some(Scalar::Any),
            Types::One(JsonType::String) => Some(Scalar::String),
            Types::One(JsonType::Boolean) => Some(Scalar::Boolean),
            Types::One(JsonType::Integer | JsonType::Number) => Some(Scalar::Numeric),
            Types::One(JsonType::Array | JsonType::Object) => None,
        }
    }
}

/// The fields of every type that are always printed, worked out once.
fn always(of: Type) -> &'static [(&'static str, Value)] {
    type Printed = Box<[(&'static str, Value)]>;
    static TABLE: LazyLock<Vec<Printed>> = LazyLock::new(|| {
        let printed = |of: Type| -> Printed {
            let fields = of.properties().into_iter();
            let mut found: Vec<_> = fields.filter_map(|field| Some((field.name(), printed_zero(field)?))).collect();
            found.sort_by_key(|(name, _)| *name);
            found.into()
        };
        Type::all().map(printed).collect()
    });
    TABLE.get(of.index()).map_or(&[], AsRef::as_ref)
}

//! What the fields of every API type are: the one table from which everything generic is derived.
//!
//! The table is made by `cargo xtask schema` from upstream's published definitions and read in place: nothing is parsed
//! at start and nothing is on the heap. A [`Type`], a [`Field`] and a [`Shape`] are row numbers.
//!
//! Layout, little endian:
//!
//! ```text
//! "MDT1"  strings: u32  types: u32  fields: u32  shapes: u32  kinds: u32          counts
//! strings+1 x u32                                                                 offsets into the text
//! types  x { name go first_field fields map_type first_kind kinds unions : u16 }  sorted by name
//! fields x { name go number shape : u16  flags list_type map_type strategy : u8  map_keys merge_key enum default : u16 }
//! shapes x { kind flags : u8  elem go : u16 }
//! kinds  x { group version kind : u16 }
//! text                                                                            strings sorted
//! ```
//!
//! Names are those of upstream's OpenAPI document (`io.k8s.api.core.v1.Pod`). Embedded Go structs are fields without a
//! JSON name of their own ([`Field::inline`]), because they are messages of their own in protobuf.

#[cfg(test)]
mod tests;

use std::fmt;

static TABLE: &[u8] = include_bytes!("schema/table.bin");

const HEADER: usize = 24;
const TYPE: usize = 16;
const FIELD: usize = 20;
const SHAPE: usize = 6;
const KIND: usize = 6;

/// Where the sections begin, known at compile time.
struct Sections {
    strings: usize,
    types: usize,
    fields: usize,
    shapes: usize,
    kinds: usize,
    text: usize,
}

const fn number32(at: usize) -> usize {
    u32::from_le_bytes([TABLE[at], TABLE[at + 1], TABLE[at + 2], TABLE[at + 3]]) as usize
}

const SECTIONS: Sections = {
    let types = HEADER + 4 * (number32(4) + 1);
    let fields = types + TYPE * number32(8);
    let shapes = fields + FIELD * number32(12);
    let kinds = shapes + SHAPE * number32(16);
    Sections { strings: HEADER, types, fields, shapes, kinds, text: kinds + KIND * number32(20) }
};

/// A number that changes when the table does.
pub(crate) fn fingerprint() -> u64 {
    TABLE.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn number(at: usize) -> u16 {
    u16::from_le_bytes([TABLE[at], TABLE[at + 1]])
}

fn string(index: u16) -> &'static str {
    let at = SECTIONS.strings + 4 * usize::from(index);
    let bytes = &TABLE[SECTIONS.text + number32(at)..SECTIONS.text + number32(at + 4)];
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The number of a string of the table; strings are sorted.
fn find_string(text: &str) -> Option<u16> {
    let (mut low, mut high) = (0, number32(4));
    while low < high {
        let middle = (low + high) / 2;
        match string(middle as u16).cmp(text) {
            std::cmp::Ordering::Equal => return Some(middle as u16),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// An API type: a struct of upstream's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Type(u16);

/// A field of a [`Type`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Field(u16);

/// The form of a value: a scalar, a list or map of shapes, or a [`Type`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape(u16);

/// What a [`Shape`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A string, also of a named type.
    String,
    /// A boolean.
    Bool,
    /// A signed integer of 32 bits.
    Int32,
    /// A signed integer of 64 bits.
    Int64,
    /// A double-precision number.
    Double,
    /// Bytes, a base64 string in JSON.
    Bytes,
    /// An integer of 32 bits or a string.
    IntOrString,
    /// A quantity such as `100m`: a string, or a number in requests.
    Quantity,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// A Go duration such as `1m30s`.
    Duration,
    /// Any object, kept as it came.
    RawExtension,
    /// The set of fields of a managed-fields entry.
    FieldsV1,
    /// Any JSON.
    Json,
    /// `JSONSchemaPropsOrArray` of apiextensions.
    SchemaOrArray,
    /// `JSONSchemaPropsOrBool` of apiextensions.
    SchemaOrBool,
    /// `JSONSchemaPropsOrStringArray` of apiextensions.
    SchemaOrStringArray,
    /// Any JSON, without a protobuf form.
    Any,
    /// A list of [`Shape::elem`].
    List,
    /// A map from strings to [`Shape::elem`].
    Map,
    /// The struct [`Shape::reference`].
    Ref,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Not said; treated as atomic.
    Unset,
    /// Replaced as a whole.
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Structs, told apart by [`Field::map_keys`].
    Map,
}

impl ListType {
    /// The word of the OpenAPI extension; empty when not said.
    pub fn word(self) -> &'static str {
        match self {
            ListType::Unset => "",
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        }
    }
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists are merged by the merge key (or as sets), not replaced.
    pub merge: bool,
    /// Maps are replaced, not merged.
    pub replace: bool,
    /// Fields that the patch's `$retainKeys` does not list are dropped.
    pub retain_keys: bool,
}

const STRATEGIES: [&str; 5] = ["", "merge", "replace", "retainKeys", "merge,retainKeys"];
const MAP_TYPES: [&str; 3] = ["", "atomic", "granular"];

impl Type {
    /// The type of an OpenAPI definition's name, such as `io.k8s.api.core.v1.Pod`.
    pub fn named(name: &str) -> Option<Type> {
        let (mut low, mut high) = (0, number32(8));
        while low < high {
            let middle = (low + high) / 2;
            let found = Type(middle as u16);
            match found.name().cmp(name) {
                std::cmp::Ordering::Equal => return Some(found),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The type that is served as this group (empty for core), version and kind.
    ///
    /// Types of every group (`DeleteOptions`, `WatchEvent`) are found in any group.
    pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<Type> {
        let served = [group, version, kind].map(find_string);
        if let [Some(group), Some(version), Some(kind)] = served {
            let row = |i: &usize| {
                let at = SECTIONS.kinds + KIND * i;
                number(at + 4) == kind && number(at + 2) == version && number(at) == group
            };
            if let Some(row) = (0..number32(20)).find(row) {
                return Type::of_kind_row(row);
            }
        }
        // Options and events are registered in each group.
        let name = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}");
        let anywhere = kind.ends_with("Options") || matches!(kind, "WatchEvent" | "Status");
        Type::named(&name).filter(|_| anywhere || group == "meta.k8s.io")
    }

    /// The type whose kinds this row of the table is among: they follow each other as types do.
    fn of_kind_row(row: usize) -> Option<Type> {
        let (mut low, mut high) = (0, number32(8));
        while low < high {
            let middle = (low + high) / 2;
            let found = Type(middle as u16);
            let end = usize::from(found.at(5)) + usize::from(found.at(6));
            if end <= row { low = middle + 1 } else { high = middle }
        }
        (low < number32(8)).then_some(Type(low as u16))
    }

    /// Its place among [`Type::all`].
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    /// Every type, by name.
    pub fn all() -> impl Iterator<Item = Type> {
        (0..number32(8)).map(|i| Type(i as u16))
    }

    fn at(self, column: usize) -> u16 {
        number(SECTIONS.types + TYPE * usize::from(self.0) + 2 * column)
    }

    /// Name in the OpenAPI document.
    pub fn name(self) -> &'static str {
        string(self.at(0))
    }

    /// Name without the package: `Pod`.
    pub fn short_name(self) -> &'static str {
        self.name().rsplit('.').next().unwrap_or_default()
    }

    /// Name in Go's error messages: `v1.Pod`.
    pub fn go_name(self) -> &'static str {
        string(self.at(1))
    }

    /// Fields by protobuf number (those without one first), embedded structs as one field each.
    pub fn fields(self) -> impl Iterator<Item = Field> + Clone {
        let first = self.at(2);
        (first..first + self.at(3)).map(Field)
    }

    /// The field of this JSON name, also of embedded structs.
    pub fn field(self, name: &str) -> Option<Field> {
        let mut embedded = None;
        for field in self.fields() {
            if field.inline() {
                embedded = embedded.or_else(|| field.shape().reference()?.field(name));
            } else if field.name() == name {
                return Some(field);
            }
        }
        embedded
    }

    /// The field of this protobuf number.
    pub fn numbered(self, number: u32) -> Option<Field> {
        self.fields().find(|f| f.number() == number).filter(|_| number != 0)
    }

    /// The field of this JSON name with the Go names of the embedded structs that lead to it, outermost first.
    pub fn field_path(self, name: &str) -> Option<(Vec<&'static str>, Field)> {
        let own = self.fields().find(|f| !f.inline() && f.name() == name);
        own.map(|f| (Vec::new(), f)).or_else(|| {
            self.fields().filter(|f| f.inline()).find_map(|outer| {
                let (mut path, field) = outer.shape().reference()?.field_path(name)?;
                path.insert(0, outer.go_name());
                Some((path, field))
            })
        })
    }

    /// Fields as JSON has them: those of embedded structs in place of the struct.
    pub fn properties(self) -> Vec<Field> {
        let mut properties = Vec::new();
        for field in self.fields() {
            match field.shape().reference().filter(|_| field.inline()) {
                Some(embedded) => properties.extend(embedded.properties()),
                None => properties.push(field),
            }
        }
        properties
    }

    /// `x-kubernetes-map-type`; empty when not said.
    pub fn map_type(self) -> &'static str {
        MAP_TYPES[usize::from(self.at(4)).min(2)]
    }

    /// Group, version and kind under which the type is served.
    pub fn kinds(self) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        let first = usize::from(self.at(5));
        (first..first + usize::from(self.at(6))).map(|i| {
            let at = SECTIONS.kinds + KIND * i;
            (string(number(at)), string(number(at + 2)), string(number(at + 4)))
        })
    }

    /// `x-kubernetes-unions` as JSON; empty when not said.
    pub fn unions(self) -> &'static str {
        string(self.at(7))
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Field {
    fn base(self) -> usize {
        SECTIONS.fields + FIELD * usize::from(self.0)
    }

    fn flag(self, bit: u8) -> bool {
        TABLE[self.base() + 8] & (1 << bit) != 0
    }

    fn text(self, column: usize) -> &'static str {
        string(number(self.base() + column))
    }

    /// JSON name; empty for embedded structs.
    pub fn name(self) -> &'static str {
        self.text(0)
    }

    /// Go name.
    pub fn go_name(self) -> &'static str {
        self.text(2)
    }

    /// Protobuf field number; 0 where there is none (`kind` and `apiVersion`).
    pub fn number(self) -> u32 {
        number(self.base() + 4).into()
    }

    /// What the field holds.
    pub fn shape(self) -> Shape {
        Shape(number(self.base() + 6))
    }

    /// Required in the OpenAPI document.
    pub fn required(self) -> bool {
        self.flag(0)
    }

    /// Left out of JSON when empty (`omitempty`).
    pub fn omit_empty(self) -> bool {
        self.flag(1)
    }

    /// Left out of JSON when zero (`omitzero`).
    pub fn omit_zero(self) -> bool {
        self.flag(2)
    }

    /// An embedded struct: its fields are those of the outer object.
    pub fn inline(self) -> bool {
        self.flag(3)
    }

    /// How server-side apply and patches treat a list.
    pub fn list_type(self) -> ListType {
        match TABLE[self.base() + 9] {
            1 => ListType::Atomic,
            2 => ListType::Set,
            3 => ListType::Map,
            _ => ListType::Unset,
        }
    }

    /// `x-kubernetes-map-type`; empty when not said.
    pub fn map_type(self) -> &'static str {
        MAP_TYPES[usize::from(TABLE[self.base() + 10]).min(2)]
    }

    /// How a strategic merge patch treats the field.
    pub fn patch_strategy(self) -> PatchStrategy {
        let at = TABLE[self.base() + 11];
        PatchStrategy { merge: matches!(at, 1 | 4), replace: at == 2, retain_keys: matches!(at, 3 | 4) }
    }

    /// `x-kubernetes-patch-strategy`; empty when not said.
    pub fn patch_strategy_word(self) -> &'static str {
        STRATEGIES[usize::from(TABLE[self.base() + 11]).min(4)]
    }

    /// Keys of a list of type map.
    pub fn map_keys(self) -> impl Iterator<Item = &'static str> {
        self.text(12).split(',').filter(|k| !k.is_empty())
    }

    /// The key by which a strategic merge patch finds a list's item; empty when not said.
    pub fn merge_key(self) -> &'static str {
        self.text(14)
    }

    /// Values that the field may have; none when any.
    pub fn enumeration(self) -> impl Iterator<Item = &'static str> {
        let text = self.text(16);
        text.split('\n').filter(move |_| !text.is_empty())
    }

    /// The OpenAPI document's default as JSON; empty when there is none.
    pub fn default(self) -> &'static str {
        self.text(18)
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.go_name(), self.number())
    }
}

impl Shape {
    fn base(self) -> usize {
        SECTIONS.shapes + SHAPE * usize::from(self.0)
    }

    /// What the shape is.
    pub fn kind(self) -> Kind {
        const KINDS: [Kind; 21] = [
            Kind::String,
            Kind::Bool,
            Kind::Int32,
            Kind::Int64,
            Kind::Double,
            Kind::Bytes,
            Kind::IntOrString,
            Kind::Quantity,
            Kind::Time,
            Kind::MicroTime,
            Kind::Duration,
            Kind::RawExtension,
            Kind::FieldsV1,
            Kind::Json,
            Kind::SchemaOrArray,
            Kind::SchemaOrBool,
            Kind::SchemaOrStringArray,
            Kind::Any,
            Kind::List,
            Kind::Map,
            Kind::Ref,
        ];
        KINDS[usize::from(TABLE[self.base()]).min(20)]
    }

    /// A Go pointer: absent and zero differ.
    pub fn pointer(self) -> bool {
        TABLE[self.base() + 1] & 1 != 0
    }

    /// A list that is a message with one repeated field in protobuf.
    pub fn wrapped(self) -> bool {
        TABLE[self.base() + 1] & 2 != 0
    }

    /// Shape of a list's or map's values.
    pub fn elem(self) -> Option<Shape> {
        matches!(self.kind(), Kind::List | Kind::Map).then(|| Shape(number(self.base() + 2)))
    }

    /// The struct of a [`Kind::Ref`], and `JSONSchemaProps` of the kinds that contain one.
    pub fn reference(self) -> Option<Type> {
        matches!(self.kind(), Kind::Ref | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStringArray)
            .then(|| Type(number(self.base() + 2)))
    }

    /// Go's name in error messages: `[]v1.Container`.
    pub fn go_name(self) -> &'static str {
        string(number(self.base() + 4))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind(), self.go_name())
    }
}

//! Errors about fields, worded as upstream words them, and the paths that they name.
//!
//! A [`Path`] is a chain on the stack, written out only when there is an error to report, so that checking a valid object
//! allocates nothing for its paths. Facts from `pkg/util/validation/field` of k8s.io/apimachinery.

use std::fmt;

use serde_json::Value;

use crate::status::quote;

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    /// Something that must be given is not there.
    Required,
    /// The value is malformed or out of bounds.
    Invalid,
    /// The value is none of those allowed.
    NotSupported,
    /// The value must be unique and is not.
    Duplicate,
    /// The value would be fine elsewhere, but not here.
    Forbidden,
    /// The text is too long.
    TooLong,
    /// The text is too short.
    TooShort,
    /// The list has too many items.
    TooMany,
    /// The list has too few items.
    TooFew,
    /// What the value names does not exist.
    NotFound,
    /// The value has the wrong type.
    TypeInvalid,
    /// The fault is the server's.
    Internal,
}

impl FieldErrorKind {
    /// The machine-readable reason in a Status' causes.
    pub fn reason(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooShort => "FieldValueTooShort",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::TooFew => "FieldValueTooFew",
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            FieldErrorKind::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooShort => "Too short",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::TooFew => "Too few",
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        use FieldErrorKind::*;
        matches!(self, Invalid | TypeInvalid | NotSupported | NotFound | Duplicate | TooMany | TooFew)
    }
}

/// One fault of one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Where: `spec.containers[0].name`.
    pub path: String,
    /// The offending value; `None` where messages leave it out.
    pub value: Option<Value>,
    /// What would be right; may be empty.
    pub detail: String,
}

impl FieldError {
    /// An error of any kind.
    pub fn new(
        kind: FieldErrorKind,
        path: impl fmt::Display,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> FieldError {
        FieldError { kind, path: path.to_string(), value, detail: detail.into() }
    }

    /// Something that must be given is not there.
    pub fn required(path: impl fmt::Display, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Required, path, None, detail)
    }

    /// The value is malformed or out of bounds.
    pub fn invalid(path: impl fmt::Display, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// The value has the wrong type.
    pub fn type_invalid(path: impl fmt::Display, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// The value is none of those allowed, which are listed in the order given.
    pub fn not_supported<S: AsRef<str>>(path: impl fmt::Display, value: impl Into<Value>, allowed: &[S]) -> FieldError {
        let allowed: Vec<String> = allowed.iter().map(|value| quote(value.as_ref())).collect();
        let detail =
            if allowed.is_empty() { String::new() } else { format!("supported values: {}", allowed.join(", ")) };
        FieldError::new(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// The value must be unique and is not.
    pub fn duplicate(path: impl fmt::Display, value: impl Into<Value>) -> FieldError {
        FieldError::new(FieldErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// What the value names does not exist.
    pub fn not_found(path: impl fmt::Display, value: impl Into<Value>) -> FieldError {
        FieldError::new(FieldErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// The value would be fine elsewhere, but not here.
    pub fn forbidden(path: impl fmt::Display, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Forbidden, path, None, detail)
    }

    /// The text is longer than `most` bytes.
    pub fn too_long(path: impl fmt::Display, most: usize) -> FieldError {
        let unit = if most == 1 { "byte" } else { "bytes" };
        FieldError::new(FieldErrorKind::TooLong, path, None, format!("may not be more than {most} {unit}"))
    }

    /// The text is longer than `most` characters.
    pub fn too_long_characters(path: impl fmt::Display, most: usize) -> FieldError {
        let unit = if most == 1 { "character" } else { "characters" };
        FieldError::new(FieldErrorKind::TooLong, path, None, format!("may not be more than {most} {unit}"))
    }

    /// The list has more than `most` items.
    pub fn too_many(path: impl fmt::Display, actual: usize, most: usize) -> FieldError {
        let unit = if most == 1 { "item" } else { "items" };
        let detail = format!("must have at most {most} {unit}");
        FieldError::new(FieldErrorKind::TooMany, path, Some(actual.into()), detail)
    }

    /// The fault is the server's.
    pub fn internal(path: impl fmt::Display, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Internal, path, None, detail)
    }

    /// The message without the path, as it stands in a Status' causes.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        if self.kind.shows_value() {
            match &self.value {
                None => {}
                Some(Value::String(value)) => text = format!("{text}: {}", quote(value)),
                Some(value) => text = format!("{text}: {}", go_json(value)),
            }
        }
        if !self.detail.is_empty() {
            text = format!("{text}: {}", self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// JSON with `<`, `>` and `&` escaped, as Go's encoder writes it.
fn go_json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escaped.push_str(&format!("\\u{:04x}", letter as u32)),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Errors as one message: the only one, or all in brackets, each once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut messages: Vec<String> = Vec::new();
    for error in errors {
        let message = error.to_string();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.len() {
        0 => String::new(),
        1 => messages.remove(0),
        _ => format!("[{}]", messages.join(", ")),
    }
}

/// Where in an object: a chain of steps that borrows its parent.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself. Its members have no leading dot.
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A member of the object itself, or a path already written out.
    pub const fn new(name: &'a str) -> Path<'a> {
        Path { parent: None, step: Step::Name(name) }
    }

    /// A member: `.name`.
    pub const fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Name(name) }
    }

    /// An item of a list: `[0]`.
    pub const fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of a map: `[key]`.
    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    fn is_root(&self) -> bool {
        matches!(self.step, Step::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Name(name) => {
                if self.parent.is_some_and(|parent| !parent.is_root()) {
                    f.write_str(".")?;
                }
                f.write_str(name)
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// Errors as they are found, in order.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// None yet.
    pub fn new() -> Errors {
        Errors::default()
    }

    /// What was found.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    /// Forgets what was found.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many were found.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds any error.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Adds [`FieldError::required`].
    pub fn required(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::required(path, detail));
    }

    /// Adds [`FieldError::invalid`].
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, value, detail));
    }

    /// Adds [`FieldError::not_supported`].
    pub fn not_supported<S: AsRef<str>>(&mut self, path: &Path<'_>, value: impl Into<Value>, allowed: &[S]) {
        self.push(FieldError::not_supported(path, value, allowed));
    }

    /// Adds [`FieldError::duplicate`].
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(FieldError::duplicate(path, value));
    }

    /// Adds [`FieldError::not_found`].
    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(FieldError::not_found(path, value));
    }

    /// Adds [`FieldError::forbidden`].
    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    /// Adds [`FieldError::too_long`].
    pub fn too_long(&mut self, path: &Path<'_>, most: usize) {
        self.push(FieldError::too_long(path, most));
    }

    /// Adds [`FieldError::too_many`].
    pub fn too_many(&mut self, path: &Path<'_>, actual: usize, most: usize) {
        self.push(FieldError::too_many(path, actual, most));
    }
}

//! Which objects of a resource a list or a watch is about: a place in key order, labels and fields.

use api::{
    kinds::{self, Kind},
    selector::{Fields, Labels},
    status::Status,
};

use crate::{object::Object, options::ListOptions, path::RequestInfo, registry::Resource, scan};

/// A selection.
#[derive(Debug, Clone)]
pub struct Selection {
    prefix: Box<str>,
    exact: bool,
    labels: Option<Labels>,
    fields: Option<(Fields, Shape)>,
    /// The node that pods must be on, which is looked at before anything is parsed.
    node: Option<Box<str>>,
}

/// The form in which fields are looked at: that of the version that was asked for, not of the one that is stored.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// The version that was asked for.
    served: Kind,
    /// The stored one, where it is another and objects are to be converted first.
    stored: Option<Kind>,
}

impl Shape {
    fn of(resource: &Resource, version: usize) -> Self {
        let served = resource.versions[version].kind;
        let stored = resource.versions[resource.storage()].kind;
        let differs = (stored.group, stored.version) != (served.group, served.version);
        Self { served, stored: (differs && resource.definition.is_none()).then_some(stored) }
    }

    fn matches(&self, fields: &Fields, object: &Object) -> bool {
        match self.stored {
            None => fields.matches(&self.served, &object.value()),
            Some(stored) => {
                let mut value = object.owned();
                kinds::convert(&stored, &self.served, &mut value);
                fields.matches(&self.served, &value)
            }
        }
    }
}

impl Selection {
    /// All objects whose keys begin with `prefix`.
    pub fn everything(prefix: &str) -> Self {
        Self { prefix: prefix.into(), exact: false, labels: None, fields: None, node: None }
    }

    /// All objects of a namespace that have these labels.
    pub fn labelled(prefix: &str, labels: Labels) -> Self {
        Self { labels: Some(labels), ..Self::everything(prefix) }
    }

    /// What a request selects.
    pub fn parse(
        resource: &Resource,
        version: usize,
        info: &RequestInfo,
        options: &ListOptions,
    ) -> Result<Self, Status> {
        let kind = resource.versions[version].kind;
        let namespace = if kind.namespaced { info.namespace.as_str() } else { "" };
        let mut selection = Self::everything(&resource.scope(namespace));
        if !options.labels.is_empty() {
            let labels = Labels::parse(&options.labels)
                .map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))?;
            selection.labels = Some(labels).filter(|labels| !labels.is_everything());
        }
        let selectable = resource.definition.as_ref().map_or(&[][..], |definition| definition.selectable(kind.version));
        let fields = Fields::parse_custom(&kind, &options.fields, selectable).map_err(Status::bad_request)?;
        let pinned = fields.exact("metadata.name").map(str::to_owned);
        if !info.name.is_empty() && pinned.as_ref().is_some_and(|name| *name != info.name) {
            return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        if kind.namespaced
            && info.namespace.is_empty()
            && let Some(namespace) = fields.exact("metadata.namespace").filter(|namespace| !namespace.is_empty())
        {
            selection.prefix = resource.scope(namespace).into();
        }
        let whole = kind.namespaced && *selection.prefix == *resource.prefix;
        let name = Some(info.name.clone()).filter(|name| !name.is_empty()).or(pinned);
        if let Some(name) = name.filter(|name| !name.is_empty() && !whole) {
            selection.prefix = format!("{}{name}", selection.prefix).into();
            selection.exact = true;
            if fields.to_string() == format!("metadata.name={name}") {
                return Ok(selection);
            }
        }
        if !fields.is_everything() {
            selection.node = fields.exact("spec.nodeName").map(Into::into);
            selection.fields = Some((fields, Shape::of(resource, version)));
        }
        Ok(selection)
    }

    /// The same whatever the fields.
    pub fn without_fields(&self) -> Self {
        Self { fields: None, node: None, ..self.clone() }
    }

    /// Whether fields decide.
    pub fn has_fields(&self) -> bool {
        self.fields.is_some()
    }

    /// Where the keys of all selected objects begin.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The one key that is selected, if it is one.
    pub fn exact(&self) -> Option<&str> {
        self.exact.then_some(&self.prefix)
    }

    /// The node that pods must be on.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// All pods of a namespace that are on a node.
    pub fn on_node(prefix: &str, node: &str) -> Self {
        Self { node: Some(node.into()), ..Self::everything(prefix) }
    }

    /// Whether the key alone decides.
    pub fn is_plain(&self) -> bool {
        self.labels.is_none() && self.fields.is_none() && self.node.is_none()
    }

    /// Whether the key lies within the selection.
    pub fn covers(&self, key: &str) -> bool {
        if self.exact { key == &*self.prefix } else { key.starts_with(&*self.prefix) }
    }

    /// Whether an object whose key is covered is selected.
    pub fn matches(&self, object: &Object) -> bool {
        self.labels.as_ref().is_none_or(|labels| labels.matches_with(|name| object.label(name)))
            && self
                .node
                .as_ref()
                .is_none_or(|node| scan::text(object.bytes(), &["spec", "nodeName"]).unwrap_or_default() == **node)
            && self.fields.as_ref().is_none_or(|(fields, shape)| shape.matches(fields, object))
    }
}

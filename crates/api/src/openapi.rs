//! OpenAPI documents, written from the [schema](crate::schema) table, the kinds and the schemas of custom resources.
//!
//! | path | what |
//! |---|---|
//! | `/openapi/v2` | [`v2`], or [`v2_protobuf`]: one document of everything |
//! | `/openapi/v3` | [`v3_index`]: where the documents are, each with a hash for caching |
//! | `/openapi/v3/apis/GROUP/VERSION`, `/openapi/v3/api/v1` | [`v3`] |
//!
//! Clients read them for `kubectl explain`, for patch strategies, and to learn whether `fieldValidation` is supported
//! (operations say which parameters they take). Nothing is kept: a document is written when it is asked for, straight from
//! the table to bytes. Descriptions are those that come with `k8s-openapi`.
//!
//! Specifications: [OpenAPI 2.0](https://spec.openapis.org/oas/v2.0.html), [3.0](https://spec.openapis.org/oas/v3.0.3.html).

mod custom;
mod definitions;
mod descriptions;
mod paths;
mod protobuf;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::kinds::Kind;
use descriptions::Descriptions;
use writer::Writer;

/// A served resource.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// Its kind.
    pub kind: &'a Kind,
    /// `openAPIV3Schema` of a custom resource that has one: an object of JSON, as text.
    pub schema: Option<&'a [u8]>,
    /// `selectableFields` of a custom resource: paths such as `.spec.color`.
    pub selectable: &'a [&'a str],
}

impl<'a> Resource<'a> {
    /// A built-in resource.
    pub fn built_in(kind: &'a Kind) -> Resource<'a> {
        Resource { kind, schema: None, selectable: &[] }
    }
}

/// The two forms of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    V2,
    V3,
}

impl Form {
    fn reference(self, name: &str) -> String {
        match self {
            Form::V2 => format!("#/definitions/{name}"),
            Form::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// Name of the definition of a kind's objects, or of another kind in its group and version.
fn definition_name(kind: &Kind, name: &str) -> String {
    if let Some((package, _)) = kind.schema.rsplit_once('.') {
        return format!("{package}.{name}");
    }
    let group: Vec<&str> = kind.group.rsplit('.').collect();
    format!("{}.{}.{name}", group.join("."), kind.version)
}

/// A hash of the document of these resources: it changes when the document does.
pub fn hash(resources: &[Resource<'_>]) -> String {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    crate::schema::fingerprint().hash(&mut hasher);
    for resource in resources {
        let kind = resource.kind;
        (kind.group, kind.version, kind.kind, kind.plural, kind.namespaced, kind.verbs).hash(&mut hasher);
        for sub in kind.subresources {
            (sub.name, sub.kind, sub.verbs).hash(&mut hasher);
        }
        resource.schema.hash(&mut hasher);
        resource.selectable.hash(&mut hasher);
    }
    format!("{:016X}", hasher.finish())
}

/// The index of v3 documents: pairs of a path (`apis/apps/v1`) and the [`hash`] of its document.
pub fn v3_index<'a>(documents: impl IntoIterator<Item = (&'a str, String)>) -> Vec<u8> {
    let mut out = Writer::new();
    out.object(|out| {
        out.key("paths").object(|out| {
            for (path, hash) in documents {
                out.key(path).object(|out| {
                    out.key("serverRelativeURL").string(&format!("/openapi/v3/{path}?hash={hash}"));
                });
            }
        });
    });
    out.finish()
}

/// The v3 document of the resources of one group and version.
pub fn v3(resources: &[Resource<'_>]) -> Vec<u8> {
    let descriptions = Descriptions::of(resources);
    let mut out = Writer::new();
    out.object(|out| {
        out.key("openapi").string("3.0.0");
        info(out);
        out.key("paths").object(|out| paths::write(out, resources, Form::V3));
        out.key("components").object(|out| {
            out.key("schemas").object(|out| schemas(out, resources, &descriptions, Form::V3));
            security(out.key("securitySchemes"));
        });
    });
    out.finish()
}

/// The v2 document of all resources.
pub fn v2(resources: &[Resource<'_>]) -> Vec<u8> {
    let descriptions = Descriptions::of(resources);
    let mut out = Writer::new();
    out.object(|out| {
        out.key("swagger").string("2.0");
        info(out);
        out.key("paths").object(|out| paths::write(out, resources, Form::V2));
        out.key("definitions").object(|out| schemas(out, resources, &descriptions, Form::V2));
        security(out.key("securityDefinitions"));
        out.key("security").raw(br#"[{"BearerToken":[]}]"#);
    });
    out.finish()
}

/// The v2 document as protobuf, for `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`.
pub fn v2_protobuf(resources: &[Resource<'_>]) -> Vec<u8> {
    // The document is our own: it parses.
    crate::json::parse(&v2(resources)).map(|p| protobuf::document(&p.value)).unwrap_or_default()
}

fn info(out: &mut Writer) {
    out.key("info").raw(br#"{"title":"Kubernetes","version":"v1.37.1"}"#);
}

fn security(out: &mut Writer) {
    let scheme = br#"{"BearerToken":{"description":"Bearer Token authentication","in":"header","name":"authorization","type":"apiKey"}}"#;
    out.raw(scheme);
}

/// Writes the definitions of the resources and of everything that they refer to.
fn schemas(out: &mut Writer, resources: &[Resource<'_>], descriptions: &Descriptions, form: Form) {
    let mut names = BTreeSet::new();
    for name in definitions::ALWAYS {
        definitions::reach(name, &mut names);
    }
    for resource in resources {
        let kind = resource.kind;
        definitions::reach(kind.schema, &mut names);
        if !kind.is_custom() && !kind.list_kind.is_empty() {
            definitions::reach(&definition_name(kind, kind.list_kind), &mut names);
        }
        for sub in kind.subresources {
            definitions::reach(sub.schema, &mut names);
        }
    }
    for name in names {
        out.key(name);
        definitions::write(out, name, descriptions, form);
    }
    for resource in resources.iter().filter(|r| r.kind.is_custom()) {
        custom::write(out, resource, descriptions, form);
    }
}

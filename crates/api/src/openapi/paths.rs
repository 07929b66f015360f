//! Operations: which parameters, bodies and answers each path has.

use super::writer::Writer;
use super::{Form, Resource, definition_name};
use crate::kinds::{Kind, Sub};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const OBJECTS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: [&str; 5] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];

/// Query parameters by action: name and type.
fn parameters(action: &str) -> &'static [(&'static str, &'static str)] {
    match action {
        "list" | "watchlist" => &[
            ("allowWatchBookmarks", "boolean"),
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
            ("watch", "boolean"),
        ],
        "post" | "put" => &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")],
        "patch" => {
            &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")]
        }
        "delete" => &[
            ("dryRun", "string"),
            ("gracePeriodSeconds", "integer"),
            ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
            ("orphanDependents", "boolean"),
            ("propagationPolicy", "string"),
        ],
        "deletecollection" => &[
            ("continue", "string"),
            ("dryRun", "string"),
            ("fieldSelector", "string"),
            ("gracePeriodSeconds", "integer"),
            ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("orphanDependents", "boolean"),
            ("propagationPolicy", "string"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
        ],
        _ => &[],
    }
}

/// Writes `{"group":..,"kind":..,"version":..}`.
pub(super) fn group_version_kind(out: &mut Writer, group: &str, version: &str, kind: &str) {
    out.object(|out| {
        out.key("group").string(group);
        out.key("kind").string(kind);
        out.key("version").string(version);
    });
}

/// Writes the paths of the resources.
pub(super) fn write(out: &mut Writer, resources: &[Resource<'_>], form: Form) {
    let mut group_versions: Vec<&Kind> = Vec::new();
    for resource in resources {
        let kind = resource.kind;
        if !group_versions.iter().any(|k| (k.group, k.version) == (kind.group, kind.version)) {
            group_versions.push(kind);
            discovery(out, kind, form);
        }
    }
    for resource in resources {
        let kind = resource.kind;
        let root = root(kind);
        let collection = match kind.namespaced {
            true => format!("{root}/namespaces/{{namespace}}/{}", kind.plural),
            false => format!("{root}/{}", kind.plural),
        };
        let object = definition_name(kind, kind.kind);
        let list = definition_name(kind, kind.list_kind);
        let status = format!("{META}Status");
        let scope = if kind.namespaced { "Namespaced" } else { "" };
        let operation =
            |action, method, verb, answer| Operation { kind, action, method, verb, scope, sub: None, body: "", answer };
        let mut on_collection = Vec::new();
        if kind.allows("list") {
            on_collection.push(operation("list", "get", "list", list.as_str()));
        }
        if kind.allows("create") {
            on_collection.push(Operation { body: &object, ..operation("post", "post", "create", object.as_str()) });
        }
        if kind.allows("deletecollection") {
            on_collection.push(operation("deletecollection", "delete", "delete", status.as_str()));
        }
        path(out, &collection, kind.namespaced, false, &on_collection, form);
        let mut on_object = Vec::new();
        if kind.allows("get") {
            on_object.push(operation("get", "get", "read", object.as_str()));
        }
        if kind.allows("update") {
            on_object.push(Operation { body: &object, ..operation("put", "put", "replace", object.as_str()) });
        }
        if kind.allows("delete") {
            let answer = if matches!(kind.kind, "Pod") { object.as_str() } else { status.as_str() };
            on_object.push(operation("delete", "delete", "delete", answer));
        }
        if kind.allows("patch") {
            on_object.push(operation("patch", "patch", "patch", object.as_str()));
        }
        path(out, &format!("{collection}/{{name}}"), kind.namespaced, true, &on_object, form);
        for sub in kind.subresources {
            subresource(out, kind, sub, &collection, &object, form);
        }
        if kind.namespaced && kind.allows("list") {
            let everywhere = Operation { scope: "ForAllNamespaces", ..operation("list", "get", "list", list.as_str()) };
            path(out, &format!("{root}/{}", kind.plural), false, false, &[everywhere], form);
        }
    }
}

fn root(kind: &Kind) -> String {
    match kind.group {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    }
}

fn discovery(out: &mut Writer, kind: &Kind, form: Form) {
    out.key(&format!("{}/", root(kind))).object(|out| {
        out.key("get").object(|out| {
            out.key("operationId").string(&format!("get{}APIResources", group_name(kind)));
            let answer = format!("{META}APIResourceList");
            if form == Form::V2 {
                media(out.key("produces"), &OBJECTS);
            }
            answers(out, &["200"], &answer, form);
            tags(out, kind);
        });
    });
}

fn subresource(out: &mut Writer, kind: &Kind, sub: &Sub, collection: &str, object: &str, form: Form) {
    // Streams and proxies have no typed bodies.
    if sub.schema.is_empty() && !(kind.is_custom() && sub.name == "status") {
        return;
    }
    let body = if sub.schema.is_empty() { object } else { sub.schema };
    let scope = if kind.namespaced { "Namespaced" } else { "" };
    let operation =
        |action, method, verb, body| Operation { kind, action, method, verb, scope, sub: Some(sub), body, answer: "" };
    let mut operations = Vec::new();
    for verb in sub.verbs {
        operations.push(match *verb {
            "get" => operation("get", "get", "read", ""),
            "update" => operation("put", "put", "replace", body),
            "patch" => operation("patch", "patch", "patch", ""),
            "create" => operation("post", "post", "create", body),
            _ => continue,
        });
    }
    for operation in &mut operations {
        operation.answer = body;
    }
    let place = format!("{collection}/{{name}}/{}", sub.name);
    path(out, &place, kind.namespaced, true, &operations, form);
}

struct Operation<'a> {
    kind: &'a Kind,
    action: &'static str,
    method: &'static str,
    verb: &'static str,
    scope: &'static str,
    sub: Option<&'a Sub>,
    /// Definition of the body; empty when there is none (patches and deletions have one of their own).
    body: &'a str,
    answer: &'a str,
}

fn path(out: &mut Writer, place: &str, namespaced: bool, named: bool, operations: &[Operation<'_>], form: Form) {
    if operations.is_empty() {
        return;
    }
    out.key(place).object(|out| {
        for operation in operations {
            out.key(operation.method).object(|out| operation.write(out, form));
        }
        out.key("parameters").array(|out| {
            for name in [named.then_some("name"), namespaced.then_some("namespace")].into_iter().flatten() {
                parameter(out, name, "path", "string", form);
            }
            parameter(out, "pretty", "query", "string", form);
        });
    });
}

fn parameter(out: &mut Writer, name: &str, place: &str, kind: &str, form: Form) {
    out.object(|out| {
        out.key("in").string(place);
        out.key("name").string(name);
        if place == "path" {
            out.key("required").boolean(true);
        }
        match form {
            Form::V2 => {
                out.key("type").string(kind);
                out.key("uniqueItems").boolean(true);
            }
            Form::V3 => out.key("schema").object(|out| {
                out.key("type").string(kind);
                out.key("uniqueItems").boolean(true);
            }),
        }
    });
}

impl Operation<'_> {
    fn write(&self, out: &mut Writer, form: Form) {
        let custom = self.kind.is_custom();
        // Custom resources have neither protobuf nor strategic merge patches.
        let objects = if custom { &OBJECTS[..2] } else { &OBJECTS[..] };
        let (media_types, body) = match self.action {
            "patch" => (
                PATCHES.iter().copied().filter(|t| !custom || !t.contains("strategic")).collect(),
                format!("{META}Patch"),
            ),
            "delete" | "deletecollection" => (objects.to_vec(), format!("{META}DeleteOptions")),
            _ => (objects.to_vec(), self.body.to_owned()),
        };
        let required = !self.action.starts_with("delete");
        if form == Form::V2 && !body.is_empty() {
            media(out.key("consumes"), &media_types);
        }
        let sub = self.sub.map(|s| title(s.name)).unwrap_or_default();
        let name = format!("{}{}", self.kind.kind, sub);
        let collection = if self.action == "deletecollection" { "Collection" } else { "" };
        let id = match self.scope {
            "ForAllNamespaces" => format!("{}{}{name}ForAllNamespaces", self.verb, group_name(self.kind)),
            scope => format!("{}{}{collection}{scope}{name}", self.verb, group_name(self.kind)),
        };
        out.key("operationId").string(&id);
        let query = parameters(self.action);
        if !query.is_empty() || (form == Form::V2 && !body.is_empty()) {
            out.key("parameters").array(|out| {
                if form == Form::V2 && !body.is_empty() {
                    out.object(|out| {
                        out.key("in").string("body");
                        out.key("name").string("body");
                        if required {
                            out.key("required").boolean(true);
                        }
                        out.key("schema").object(|out| out.key("$ref").string(&form.reference(&body)));
                    });
                }
                query.iter().for_each(|(name, kind)| parameter(out, name, "query", kind, form));
            });
        }
        if form == Form::V3 && !body.is_empty() {
            out.key("requestBody").object(|out| {
                out.key("content").object(|out| content(out, &media_types, &body, form));
                if required {
                    out.key("required").boolean(true);
                }
            });
        }
        if form == Form::V2 {
            media(out.key("produces"), objects);
        }
        let codes: &[&str] = match self.action {
            "post" => &["200", "201", "202"],
            "put" | "patch" => &["200", "201"],
            "delete" => &["200", "202"],
            _ => &["200"],
        };
        answers(out, codes, self.answer, form);
        tags(out, self.kind);
        out.key("x-kubernetes-action").string(self.action);
        let (group, version, kind) = match self.sub {
            Some(sub) if !sub.schema.is_empty() => (sub.group, sub.version, sub.kind),
            _ => (self.kind.group, self.kind.version, self.kind.kind),
        };
        group_version_kind(out.key("x-kubernetes-group-version-kind"), group, version, kind);
    }
}

fn media(out: &mut Writer, types: &[&str]) {
    out.array(|out| types.iter().for_each(|t| out.string(t)));
}

fn content(out: &mut Writer, types: &[&str], body: &str, form: Form) {
    for media_type in types {
        out.key(media_type).object(|out| {
            out.key("schema").object(|out| out.key("$ref").string(&form.reference(body)));
        });
    }
}

fn answers(out: &mut Writer, codes: &[&str], body: &str, form: Form) {
    out.key("responses").object(|out| {
        for code in codes {
            out.key(code).object(|out| {
                let word = match *code {
                    "200" => "OK",
                    "201" => "Created",
                    _ => "Accepted",
                };
                if form == Form::V3 {
                    out.key("content").object(|out| content(out, &OBJECTS[..1], body, form));
                }
                out.key("description").string(word);
                if form == Form::V2 {
                    out.key("schema").object(|out| out.key("$ref").string(&form.reference(body)));
                }
            });
        }
        out.key("401").object(|out| out.key("description").string("Unauthorized"));
    });
}

fn tags(out: &mut Writer, kind: &Kind) {
    let name = group_name(kind);
    out.key("tags").array(|out| {
        let mut tag = String::new();
        for (i, c) in name.chars().enumerate() {
            if i > 0 && c == 'V' && name[i + 1..].starts_with(|c: char| c.is_ascii_digit()) {
                tag.push('_');
            }
            tag.push(c.to_ascii_lowercase());
        }
        out.string(&tag);
    });
}

fn title(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// `CoreV1`, `RbacAuthorizationV1`
fn group_name(kind: &Kind) -> String {
    let group = kind.group.strip_suffix(".k8s.io").unwrap_or(kind.group);
    let group = if group.is_empty() { "core" } else { group };
    group.split(['.', '-']).map(title).chain([title(kind.version)]).collect()
}

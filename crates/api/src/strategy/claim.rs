//! PersistentVolumeClaims: the two ways to name a data source are kept alike.

use serde_json::{Value, json};

use crate::meta::{self, View};

/// Copies `dataSource` to `dataSourceRef` or back, and drops a `dataSource` of a kind that cannot be one.
pub fn prepare(object: &mut Value) {
    let spec = View::new(object).at("spec");
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    let core = |view: View<'_>| view.text("apiGroup").is_empty() && view.text("kind") == "PersistentVolumeClaim";
    let snapshot =
        |view: View<'_>| view.text("apiGroup") == "snapshot.storage.k8s.io" && view.text("kind") == "VolumeSnapshot";
    let keep_source = !source.exists() || reference.exists() || core(source) || snapshot(source);
    let copy_to = |view: View<'_>| {
        let mut copy = json!({"kind": view.text("kind"), "name": view.text("name")});
        if view.has("apiGroup") {
            copy["apiGroup"] = view.text("apiGroup").into();
        }
        copy
    };
    let filled = match (source.exists() && keep_source, reference.exists()) {
        (true, false) => Some(("dataSourceRef", copy_to(source))),
        (false, true) if reference.text("namespace").is_empty() => Some(("dataSource", copy_to(reference))),
        _ => None,
    };
    if !keep_source {
        meta::object_at(object, "spec").remove("dataSource");
    }
    if let Some((member, value)) = filled {
        meta::object_at(object, "spec").insert(member.to_owned(), value);
    }
}

//! One stored object in another version or group than it is stored in.
//!
//! Most kinds have one version. Where there are two, they differ in names of fields (events), in what they can say
//! (autoscalers), or only in `apiVersion` (custom resources). What custom resources with a conversion webhook become is for
//! that to say; its answers are kept as long as the stored object is.
//!
//! ```text
//! stored v1 ─ asked for v2 ─┬─ built in: kinds::convert
//!                           ├─ strategy None: apiVersion, defaults, pruning
//!                           └─ strategy Webhook: ConversionReview ─ metadata restored ─ defaults, pruning
//! ```
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/>

use std::{sync::Arc, time::Duration};

use api::{
    json, kinds, meta,
    meta::View,
    status::{Reason, Status},
};
use serde_json::{Value, json};

use crate::{
    custom::{Conversion, Definition},
    encode,
    object::Object,
    registry::{Resource, Served},
    server::Server,
};

/// How long a webhook may take, as upstream has it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Objects sent to a webhook at a time.
const BATCH: usize = 500;

/// A stored object as `served` shows it, where nobody has to be asked.
pub fn to(resource: &Resource, served: &Served, mut value: Value) -> Value {
    match &resource.definition {
        Some(definition) => {
            meta::set_type(&mut value, &served.kind.gvk());
            definition.refresh(served.kind.version, &mut value);
        }
        None => kinds::convert(&resource.versions[resource.storage()].kind, &served.kind, &mut value),
    }
    value
}

/// A stored object as a tree, in the version of `served`.
pub async fn read(
    server: &Server,
    resource: &Resource,
    served: &Served,
    object: &Arc<Object>,
) -> Result<Value, Status> {
    let shown = shown(server, resource, served, vec![object.clone()]).await?;
    Ok(encode::tree(resource, served, shown.first().unwrap_or(object)).into_owned())
}

/// Stored objects in a form that can be shown in the version of `served`: as they are, or converted by the webhook.
pub async fn shown(
    server: &Server,
    resource: &Resource,
    served: &Served,
    mut objects: Vec<Arc<Object>>,
) -> Result<Vec<Arc<Object>>, Status> {
    let Some((definition, conversion)) = asks(resource) else { return Ok(objects) };
    let mut missing = Vec::new();
    for (position, object) in objects.iter_mut().enumerate() {
        if object.head() == &*served.head {
            continue;
        }
        match object.converted(definition.since, &served.head) {
            Some(known) => *object = known,
            None => missing.push(position),
        }
    }
    for batch in missing.chunks(BATCH) {
        let trees = batch.iter().map(|position| objects[*position].owned()).collect();
        let converted = ask(server, definition, conversion, served, trees).await?;
        for (position, value) in batch.iter().zip(converted) {
            let stored = &objects[*position];
            let object = Object::finished(stored.key().clone(), json::to_canonical(&value), stored.revision());
            stored.keep_converted(definition.since, object.clone());
            objects[*position] = object;
        }
    }
    Ok(objects)
}

/// Whether a webhook decides what objects look like. Even in the version in which they are stored: what was written before
/// that version became the stored one is of another.
pub fn is_foreign(resource: &Resource) -> bool {
    asks(resource).is_some()
}

fn asks(resource: &Resource) -> Option<(&Definition, &Conversion)> {
    let definition = resource.definition.as_deref()?;
    Some((definition, definition.conversion.as_ref()?))
}

/// An object of one served version in another.
pub async fn between(
    server: &Server,
    resource: &Resource,
    from: &Served,
    to: &Served,
    mut value: Value,
) -> Result<Value, Status> {
    if let Some((definition, conversion)) = asks(resource) {
        return one(ask(server, definition, conversion, to, vec![value]).await?);
    }
    match &resource.definition {
        Some(_) => meta::set_type(&mut value, &to.kind.gvk()),
        None => kinds::convert(&from.kind, &to.kind, &mut value),
    }
    Ok(value)
}

/// An object of `served` in the version in which it is stored.
pub async fn to_storage(
    server: &Server,
    resource: &Resource,
    served: &Served,
    mut value: Value,
) -> Result<Value, Status> {
    let Some(definition) = &resource.definition else {
        let storage = &resource.versions[resource.storage()].kind;
        if (storage.group, storage.version) != (served.kind.group, served.kind.version) {
            kinds::convert(&served.kind, storage, &mut value);
        }
        return Ok(value);
    };
    // The stored version need not be served.
    let stored = definition.stored_type();
    match &definition.conversion {
        Some(conversion) if stored != served.kind.gvk() => {
            one(review(server, definition, conversion, &stored, vec![value]).await?)
        }
        _ => {
            meta::set_type(&mut value, &stored);
            Ok(value)
        }
    }
}

fn one(converted: Vec<Value>) -> Result<Value, Status> {
    converted.into_iter().next().ok_or_else(|| Status::internal("a conversion came to nothing"))
}

/// Converts, and completes what came back with defaults, without unknown fields.
async fn ask(
    server: &Server,
    definition: &Definition,
    conversion: &Conversion,
    served: &Served,
    objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let mut converted = review(server, definition, conversion, &served.kind.gvk(), objects).await?;
    for value in &mut converted {
        definition.refresh(served.kind.version, value);
    }
    Ok(converted)
}

/// One question to a webhook. Objects that are of the version already are left out of it.
async fn review(
    server: &Server,
    definition: &Definition,
    conversion: &Conversion,
    wanted: &meta::Gvk,
    objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let desired = wanted.api_version();
    let to_convert: Vec<&Value> =
        objects.iter().filter(|object| View::new(object).text("apiVersion") != desired).collect();
    let Some(first) = to_convert.first() else { return Ok(objects) };
    let source = View::new(first).text("apiVersion").to_owned();
    let failed = |why: String| {
        let text = format!("conversion webhook for {source}, Kind={} {why}", wanted.kind);
        Status::new(500, Reason::Unknown, text, None)
    };
    let Some(version) = conversion.review else {
        return Err(failed("failed: no supported conversion review versions".to_owned()));
    };
    let uid = server.new_uid();
    let question = json!({
        "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": { "uid": uid, "desiredAPIVersion": desired, "objects": to_convert },
    });
    let answer = conversion.remote.post(server, &question, PATIENCE, false).await;
    let answer = answer.map_err(|why| failed(format!("failed: {why}")))?;
    let mut converted =
        answered(&answer, &uid, version, to_convert.len()).map_err(|why| failed(format!("failed: {why}")))?.into_iter();
    let mut all = Vec::with_capacity(objects.len());
    for (position, original) in objects.into_iter().enumerate() {
        if View::new(&original).text("apiVersion") == desired {
            all.push(original);
            continue;
        }
        let Some(mut new) = converted.next() else { return Err(failed("returned too few objects".to_owned())) };
        checked(&original, &mut new, wanted)
            .map_err(|why| failed(format!("returned invalid converted object at index {position}: {why}")))?;
        all.push(new);
    }
    tracing::trace!(definition = definition.name, objects = all.len(), "converted");
    Ok(all)
}

/// The objects of an answer.
fn answered(answer: &Value, uid: &str, version: &str, expected: usize) -> Result<Vec<Value>, String> {
    let view = View::new(answer);
    let response = view.at("response");
    if version == "v1"
        && (view.text("apiVersion"), view.text("kind")) != ("apiextensions.k8s.io/v1", "ConversionReview")
    {
        let (own, kind) = (view.text("apiVersion"), view.text("kind"));
        return Err(format!(
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {own}, Kind={kind}"
        ));
    }
    if !response.exists() {
        return Err("no response provided".to_owned());
    }
    if version == "v1" && response.text("uid") != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", response.text("uid")));
    }
    let result = response.at("result");
    match (result.text("status"), result.text("message")) {
        ("Success", _) => {}
        (status, "") => return Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => return Err(message.to_owned()),
    }
    let objects = response.slice("convertedObjects");
    if objects.len() != expected {
        return Err(format!("returned {} objects, expected {expected}", objects.len()));
    }
    Ok(objects.to_vec())
}

/// What a webhook may not change: type, name, namespace and uid must be right, and of metadata only labels and annotations
/// are taken.
fn checked(original: &Value, new: &mut Value, wanted: &meta::Gvk) -> Result<(), String> {
    let view = View::new(new);
    if view.text("apiVersion") != wanted.api_version() {
        let (expected, got) = (wanted.api_version(), view.text("apiVersion"));
        return Err(format!("invalid groupVersion (expected {expected}, received {got})"));
    }
    if view.text("kind") != wanted.kind {
        return Err(format!("invalid kind (expected {}, received {})", wanted.kind, view.text("kind")));
    }
    if !view.at("metadata").value().is_object() {
        return Err("missing metadata in converted object".to_owned());
    }
    for (what, own, got) in [
        ("name", meta::name(original), meta::name(new)),
        ("namespace", meta::namespace(original), meta::namespace(new)),
        ("UID", meta::uid(original), meta::uid(new)),
    ] {
        if own != got {
            return Err(format!("must have the same {what}: {own} != {got}"));
        }
    }
    let mut metadata = original.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let own = new.pointer(&format!("/metadata/{field}")).filter(|own| !own.is_null()).cloned();
        match own {
            None => _ = metadata.remove(field),
            Some(Value::Object(map)) if map.values().all(Value::is_string) => {
                metadata.insert(field.to_owned(), map.into());
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    new["metadata"] = metadata.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_changes_no_metadata_but_labels_and_annotations() {
        let wanted = meta::Gvk::new("example.com", "v2", "Thing");
        let original = json!({"kind": "Thing", "apiVersion": "example.com/v1", "metadata": {"name": "a", "uid": "u", "generation": 3}});
        let answer = |metadata: Value| json!({"kind": "Thing", "apiVersion": "example.com/v2", "metadata": metadata});
        let mut new = answer(json!({"name": "a", "uid": "u", "generation": 9, "labels": {"x": "y"}}));
        checked(&original, &mut new, &wanted).unwrap();
        assert_eq!(new["metadata"], json!({"name": "a", "uid": "u", "generation": 3, "labels": {"x": "y"}}));
        for (metadata, why) in [
            (json!({"name": "b", "uid": "u"}), "same name"),
            (json!({"name": "a", "uid": "v"}), "same UID"),
            (json!({"name": "a", "uid": "u", "labels": {"x": 1}}), "invalid metadata.labels"),
            (Value::Null, "missing metadata"),
        ] {
            let error = checked(&original, &mut answer(metadata), &wanted).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn answers_are_for_the_question_and_complete() {
        let answer = |response: Value| json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
        let good = answer(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}));
        assert_eq!(answered(&good, "u", "v1", 1).unwrap().len(), 1);
        assert!(answered(&good, "other", "v1", 1).unwrap_err().contains("expected response.uid"));
        assert!(answered(&good, "u", "v1", 2).unwrap_err().contains("returned 1 objects, expected 2"));
        let bad = answer(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}}));
        assert_eq!(answered(&bad, "u", "v1", 1).unwrap_err(), "no");
    }
}

//! Space that images, containers and volumes take: `GET /system/df`.

use std::collections::BTreeMap;

use http::Response;
use serde_json::{Value, json};
use serve::Body;

use crate::{
    Engine, answer,
    call::Query,
    container::list,
    error::{Error, Result},
    image, volume,
};

/// Answers with the kinds that are asked for: all, where none is.
pub(crate) async fn answer(engine: &Engine, query: &Query) -> Result<Response<Body>> {
    const KINDS: [&str; 4] = ["image", "container", "volume", "build-cache"];
    if let Some(unknown) = query.all("type").find(|kind| !kind.is_empty() && !KINDS.contains(kind)) {
        return Err(Error::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| query.filled("type").is_none() || query.all("type").any(|asked| asked == kind);
    let mut shown = json!({"LayersSize": 0, "Images": null, "Containers": null, "Volumes": null, "BuildCache": null,
                           "BuilderSize": 0});
    if wanted("image") {
        shown["LayersSize"] = engine.images().usage().await?.bytes.into();
        shown["Images"] = images(engine);
    }
    if wanted("container") {
        let mut found = Vec::new();
        for container in engine.containers().all() {
            found.push(list::summary(engine, &container, true).await);
        }
        shown["Containers"] = found.into();
    }
    if wanted("build-cache") {
        let (records, bytes) = cache(engine);
        shown["BuildCache"] = records.into();
        shown["BuilderSize"] = bytes.into();
    }
    if wanted("volume") {
        shown["Volumes"] = volume::usage(engine).await?.into();
    }
    answer::json(&shown)
}

/// Images with the number of containers that were made from them, and the bytes of layers that others have too.
fn images(engine: &Engine) -> Value {
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for container in engine.containers().all() {
        *users.entry(container.look(|record| record.image.clone())).or_default() += 1;
    }
    let images = engine.images().list();
    let shared = image::list::shared(engine, &images);
    let familiar = |names: &[String]| names.iter().map(|name| image::list::familiar(name)).collect::<Vec<_>>();
    let shown = images.into_iter().map(|image| {
        let id = image.id.to_string();
        json!({
            "Id": id, "ParentId": "", "RepoTags": familiar(&image.names), "RepoDigests": familiar(&image.digests),
            "Created": image::list::created(&image).as_second(), "Size": image.size,
            "SharedSize": shared.get(&image.id).copied().unwrap_or(0),
            "Labels": image::list::labels(&image),
            "Containers": users.get(&id).copied().unwrap_or(0),
        })
    });
    shown.collect::<Vec<_>>().into()
}

/// Records of the cache of builds, and their bytes.
fn cache(engine: &Engine) -> (Vec<Value>, u64) {
    let cache = engine.builder().cache();
    let records = cache.list();
    let bytes = records.iter().map(|(_, record)| record.bytes).sum();
    let shown = records.into_iter().map(|(key, record)| {
        json!({
            "ID": key.to_string(), "Type": "regular", "Description": record.title,
            "InUse": cache.is_in_use(record.layer), "Shared": false, "Size": record.bytes,
            "CreatedAt": record.created.to_string(), "LastUsedAt": record.used.to_string(), "UsageCount": record.uses,
        })
    });
    (shown.collect(), bytes)
}

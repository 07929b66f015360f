//! Space that images, containers and volumes take: `GET /system/df`.

use std::collections::BTreeMap;

use http::Response;
use serde_json::{Value, json};
use serve::Body;

use crate::{Engine, answer, call::Query, container::list, error::Result, volume};

/// Answers with the kinds that are asked for: all, where none is.
pub(crate) async fn answer(engine: &Engine, query: &Query) -> Result<Response<Body>> {
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
    if wanted("volume") {
        shown["Volumes"] = volume::usage(engine).await?.into();
    }
    answer::json(&shown)
}

/// Images with the number of containers that were made from them.
fn images(engine: &Engine) -> Value {
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for container in engine.containers().all() {
        *users.entry(container.look(|record| record.image.clone())).or_default() += 1;
    }
    let shown = engine.images().list().into_iter().map(|image| {
        let id = image.id.to_string();
        let created = image.config.created().as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        json!({
            "Id": id, "ParentId": "", "RepoTags": image.names, "RepoDigests": image.digests,
            "Created": created.map_or(0, jiff::Timestamp::as_second), "Size": image.size, "SharedSize": 0,
            "Labels": image.config.config().as_ref().and_then(|config| config.labels().clone()),
            "Containers": users.get(&id).copied().unwrap_or(0),
        })
    });
    shown.collect::<Vec<_>>().into()
}

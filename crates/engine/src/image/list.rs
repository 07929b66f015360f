//! All images, one image, and how it came to be.

use std::collections::{BTreeMap, HashMap};

use ::image::Image;
use http::Response;
use jiff::Timestamp;
use oci::{Digest, Reference};
use serde_json::{Value, json};
use serve::Body;

use super::find;
use crate::{
    Engine, answer,
    call::Call,
    error::{Error, Result},
    filter::Filters,
};

const FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// `GET /images/json`.
pub(crate) fn all(engine: &Engine, call: &Call) -> Result<Response<Body>> {
    let filters = Filters::of(&call.query, FILTERS)?;
    let store = engine.images();
    let shared = call.query.flag("shared-size");
    let mut images = engine.seen_images();
    images.sort_by_key(|image| std::cmp::Reverse((created(image), image.id.clone())));
    let shared_bytes = self::shared(engine, &images);
    let bound = |name: &str| -> Result<Option<Timestamp>> {
        filters.get(name).first().map(|image| find(engine, image).map(|image| created(&image))).transpose()
    };
    let (before, since, until) = (bound("before")?, bound("since")?, filters.until()?);
    let dangling = filters.flag("dangling")?;
    let mut shown = Vec::new();
    for image in &images {
        let at = created(image);
        let fits = before.is_none_or(|before| at < before)
            && since.is_none_or(|since| at > since)
            && until.is_none_or(|until| at < until)
            && dangling.is_none_or(|dangling| dangling == image.names.is_empty())
            && filters.labels(&labels(image));
        if !fits {
            continue;
        }
        let names: Vec<&String> = image.names.iter().filter(|name| matches(&filters, name)).collect();
        if filters.has("reference") && names.is_empty() {
            continue;
        }
        let shared_bytes = shared_bytes.get(&image.id).copied().unwrap_or(0);
        let used = store.snapshots_of(&image.id).len();
        let mut document = json!({
            "Id": image.id,
            "ParentId": "",
            "RepoTags": names.iter().map(|name| familiar(name)).collect::<Vec<_>>(),
            "RepoDigests": image.digests.iter().map(|name| familiar(name)).collect::<Vec<_>>(),
            "Created": at.as_second(),
            "Size": image.size,
            "SharedSize": if shared { i64::try_from(shared_bytes).unwrap_or(i64::MAX) } else { -1 },
            "Labels": labels(image),
            "Containers": if call.version >= 43 && shared { i64::try_from(used).unwrap_or(-1) } else { -1 },
        });
        if call.version < 44 {
            document["VirtualSize"] = image.size.into();
        }
        shown.push(document);
    }
    answer::json(&shown)
}

/// Bytes of an image's layers that other images have too.
pub(crate) fn shared(engine: &Engine, images: &[Image]) -> HashMap<Digest, u64> {
    let layers = images.iter().map(|image| (image.id.clone(), engine.images().layers(image)));
    let layers: HashMap<Digest, Vec<(Digest, u64)>> = layers.collect();
    let mut users: HashMap<&Digest, usize> = HashMap::new();
    for (chain, _) in layers.values().flatten() {
        *users.entry(chain).or_default() += 1;
    }
    let bytes = |all: &Vec<(Digest, u64)>| {
        all.iter().filter(|(chain, _)| users.get(chain).is_some_and(|users| *users > 1)).map(|(_, bytes)| bytes).sum()
    };
    layers.iter().map(|(id, all)| (id.clone(), bytes(all))).collect()
}

/// When an image was made; the beginning of time where nobody says.
pub(crate) fn created(image: &Image) -> Timestamp {
    image.config.created().as_deref().and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn labels(image: &Image) -> BTreeMap<String, String> {
    let config = image.config.config().as_ref();
    config.and_then(|config| config.labels().clone()).unwrap_or_default().into_iter().collect()
}

/// A name as people write it.
pub(crate) fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar())
}

/// Whether a name fits a `reference` filter, which is a pattern of the familiar name with or without its tag.
fn matches(filters: &Filters, name: &str) -> bool {
    let Ok(reference) = Reference::parse(name) else { return false };
    let whole = reference.familiar();
    let bare = whole.rsplit_once(':').map_or(whole.as_str(), |(bare, _)| bare);
    filters.any("reference", |pattern| {
        glob(pattern.as_bytes(), whole.as_bytes())
            || glob(pattern.as_bytes(), bare.as_bytes())
            || glob(pattern.as_bytes(), name.as_bytes())
    })
}

/// Go's `path.Match`: `*` and `?` stop at slashes.
pub(crate) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where the last star stands, and how far its part of the text goes.
    let (mut at, mut star, mut position) = (0, None, 0);
    while position < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(b'?') if text[position] != b'/' => (at, position) = (at + 1, position + 1),
            Some(letter) if *letter == text[position] && *letter != b'?' => (at, position) = (at + 1, position + 1),
            _ => match star {
                Some((back, from)) if text[from] != b'/' => {
                    star = Some((back, from + 1));
                    (at, position) = (back + 1, from + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

/// The configuration as it stands in the image.
pub(crate) fn document(engine: &Engine, image: &Image) -> Result<Value> {
    let path = engine.images().blob(&image.id);
    let path = path.ok_or_else(|| Error::failed(format!("the configuration of {} is gone", image.id)))?;
    let text = std::fs::read(&path)
        .map_err(|error| Error::failed(format!("read the configuration of {}: {error}", image.id)))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::failed(format!("read the configuration of {}: {error}", image.id)))
}

/// `GET /images/NAME/json`.
pub(crate) fn one(engine: &Engine, call: &Call, name: &str) -> Result<Response<Body>> {
    let image = find(engine, name)?;
    let document = document(engine, &image)?;
    let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    let store = engine.images();
    let mut shown = json!({
        "Id": image.id,
        "RepoTags": image.names.iter().map(|name| familiar(name)).collect::<Vec<_>>(),
        "RepoDigests": image.digests.iter().map(|name| familiar(name)).collect::<Vec<_>>(),
        "Parent": "",
        "Comment": document["history"].as_array().and_then(|all| all.last()).and_then(|last| last["comment"].as_str()).unwrap_or_default(),
        "Created": text("created"),
        "DockerVersion": "",
        "Author": text("author"),
        "Config": config(&document["config"], call.version),
        "Architecture": text("architecture"),
        "Os": if document["os"].is_string() { text("os") } else { "linux".to_owned() },
        "Size": image.size,
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {
                "UpperDir": image.layers.first(),
                "LowerDir": image.layers.iter().skip(1).map(|layer| layer.to_string_lossy()).collect::<Vec<_>>().join(":"),
            },
        },
        "RootFS": {"Type": "layers", "Layers": image.config.rootfs().diff_ids()},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    });
    if let Some(variant) = document["variant"].as_str() {
        shown["Variant"] = variant.into();
    }
    if call.version < 44 {
        shown["VirtualSize"] = image.size.into();
    }
    if call.version >= 48
        && let Some(path) = store.blob(&image.manifest)
    {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        shown["Descriptor"] = json!({"mediaType": oci::media::OCI_MANIFEST, "digest": image.manifest, "size": size});
    }
    answer::json(&shown)
}

/// The part of a configuration that containers begin with. Up to 1.49 clients find fields in it that images never have.
fn config(config: &Value, version: u32) -> Value {
    let mut shown = json!({
        "User": "", "Env": null, "Cmd": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
        "Volumes": null,
    });
    if version < 50 {
        for (name, value) in [
            ("Hostname", json!("")),
            ("Domainname", json!("")),
            ("AttachStdin", json!(false)),
            ("AttachStdout", json!(false)),
            ("AttachStderr", json!(false)),
            ("Tty", json!(false)),
            ("OpenStdin", json!(false)),
            ("StdinOnce", json!(false)),
            ("Image", json!("")),
        ] {
            shown[name] = value;
        }
    }
    if let (Some(all), Some(own)) = (shown.as_object_mut(), config.as_object()) {
        all.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    shown
}

/// `GET /images/NAME/history`.
pub(crate) fn history(engine: &Engine, name: &str) -> Result<Response<Body>> {
    let image = find(engine, name)?;
    let document = document(engine, &image)?;
    let mut sizes = engine.images().layers(&image).into_iter().map(|(_, bytes)| bytes);
    let entries = document["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = entries.iter().filter(|entry| entry["empty_layer"] != true).count();
    // Layers that nothing is said about, as imported images have them, lie below those that were made from them here.
    let untold = sizes.len().saturating_sub(told);
    let at = created(&image).as_second();
    let mut shown: Vec<Value> = Vec::new();
    for size in sizes.by_ref().take(untold) {
        shown.push(
            json!({"Id": "<missing>", "Created": at, "CreatedBy": "", "Tags": null, "Size": size, "Comment": ""}),
        );
    }
    for entry in entries {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let size = if entry["empty_layer"] == true { 0 } else { sizes.next().unwrap_or(0) };
        shown.push(json!({
            "Id": "<missing>",
            "Created": text("created").parse::<Timestamp>().map_or(0, |time| time.as_second()),
            "CreatedBy": text("created_by"),
            "Tags": null,
            "Size": size,
            "Comment": text("comment"),
        }));
    }
    shown.reverse();
    if let Some(newest) = shown.first_mut() {
        newest["Id"] = json!(image.id);
        newest["Tags"] = image.names.iter().map(|name| familiar(name)).collect::<Vec<_>>().into();
    }
    answer::json(&shown)
}

//! Pushing, to registries that behave and to others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{
    Store,
    pull::{Credentials, Error, Patience, Pull, Trust},
    push::{Progress, Push, State},
};
use oci::Digest;

use crate::{
    archive::{Tar, gzip},
    place::{Place, Sample, is_root, plain},
    registry::{Registry, Reply, Seen, reply},
};

/// What a registry has been given: blobs by digest, manifests by target, uploads by number.
#[derive(Default)]
struct Kept {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    uploads: Vec<Vec<u8>>,
}

type Shared = Arc<Mutex<Kept>>;

/// How a registry takes what is pushed. Blobs of the repository `other` may be mounted.
fn takes(kept: &Shared, seen: &Seen) -> Option<Reply> {
    let mut kept = kept.lock().unwrap();
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let rest = path.strip_prefix("/v2/team/app/")?;
    match (seen.method.as_str(), rest) {
        ("HEAD", rest) => {
            let digest = rest.strip_prefix("blobs/")?;
            kept.blobs.contains_key(digest).then(|| reply(200, &[], "").unwrap()).or_else(|| reply(404, &[], ""))
        }
        ("POST", "blobs/uploads/") => {
            if query.contains("from=team%2Fother") {
                let digest = query.split('&').find_map(|pair| pair.strip_prefix("mount=")).unwrap();
                kept.blobs.insert(digest.to_owned(), Vec::new());
                return reply(201, &[], "");
            }
            kept.uploads.push(Vec::new());
            reply(202, &[("location", &format!("/v2/team/app/blobs/uploads/{}?s=1", kept.uploads.len() - 1))], "")
        }
        ("GET" | "PATCH" | "PUT", rest) if rest.starts_with("blobs/uploads/") => {
            let number: usize = rest.rsplit('/').next().unwrap().parse().unwrap();
            let upload = kept.uploads.get_mut(number)?;
            let from =
                seen.header("content-range").map_or(0, |range| range.split('-').next().unwrap().parse().unwrap());
            if seen.method == "PATCH" && from != upload.len() {
                return reply(416, &[], "");
            }
            upload.extend_from_slice(&seen.body);
            let range = format!("0-{}", upload.len().saturating_sub(1));
            let headers = [("location", path), ("range", &range)];
            if seen.method != "PUT" {
                return reply(if seen.method == "GET" { 204 } else { 202 }, &headers, "");
            }
            let upload = upload.clone();
            let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest=")).unwrap();
            if Digest::sha256(&upload).as_str() != digest {
                return reply(400, &[], r#"{"errors":[{"code":"DIGEST_INVALID","message":"other content"}]}"#);
            }
            kept.blobs.insert(digest.to_owned(), upload);
            reply(201, &[], "")
        }
        ("PUT", rest) => {
            let target = rest.strip_prefix("manifests/")?;
            kept.manifests.insert(target.to_owned(), seen.body.to_vec());
            reply(201, &[("docker-content-digest", Digest::sha256(&seen.body).as_str())], "")
        }
        _ => None,
    }
}

fn push() -> Push {
    let access = Pull {
        trust: Trust::Configured,
        patience: Patience {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(2),
            tries: 4,
            silence: Duration::MAX,
            pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(50),
        },
        ..Pull::default()
    };
    Push { access, progress: None }
}

fn sample() -> Sample {
    Sample::new(&[
        (Tar::new().directory("etc/").file("etc/base", "base").finish(), gzip),
        (Tar::new().file("text", "text").finish(), plain),
    ])
}

async fn loaded(place: &Place) -> (Store, Sample) {
    let (store, sample) = (place.store().await, sample());
    store.load(std::io::Cursor::new(sample.docker_archive(&["app:1"]).finish())).await.unwrap();
    (store, sample)
}

#[tokio::test]
async fn an_image_arrives_whole_and_what_is_there_is_not_sent_again() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (store, sample) = loaded(&place).await;
    let kept = Shared::default();
    let registry = Registry::start({
        let kept = kept.clone();
        move |seen, _| takes(&kept, seen)
    })
    .await;
    let reference = registry.reference("team/app:1");
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let how =
        Push { progress: Some(Arc::new(move |progress: Progress| listener.lock().unwrap().push(progress))), ..push() };
    let pushed = store.push("app:1", &reference, &how).await.unwrap();

    let manifest = kept.lock().unwrap().manifests["1"].clone();
    assert_eq!((pushed.digest.clone(), pushed.size), (Digest::sha256(&manifest), manifest.len() as u64));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["config"]["digest"], sample.id().as_str());
    for (layer, archive) in manifest["layers"].as_array().unwrap().iter().zip(["base", "text"]) {
        assert_eq!(layer["mediaType"], oci::media::OCI_LAYER_GZIP);
        let blob = kept.lock().unwrap().blobs[layer["digest"].as_str().unwrap()].clone();
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(blob.as_slice()), &mut tar).unwrap();
        assert!(tar.windows(4).any(|window| window == archive.as_bytes()), "{archive}");
    }
    let states: Vec<State> = told.lock().unwrap().drain(..).map(|progress| progress.state).collect();
    assert_eq!(states.iter().filter(|state| **state == State::Pushed).count(), 2);
    // It is known by that digest from now on, and the layers that were compressed once are not compressed again.
    let image = store.get("app:1").unwrap();
    assert!(image.digests.contains(&reference.with_digest(pushed.digest.clone()).to_string()), "{:?}", image.digests);
    registry.forget();
    let again = store.push("app:1", &reference, &how).await.unwrap();
    assert_eq!(again, pushed);
    assert_eq!((registry.count("PATCH", ""), registry.count("POST", "")), (0, 0));
    let states: Vec<State> = told.lock().unwrap().iter().map(|progress| progress.state.clone()).collect();
    assert_eq!(states.iter().filter(|state| **state == State::Exists).count(), 2);
}

#[tokio::test]
async fn layers_are_mounted_from_repositories_that_have_them() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let store = place.store().await;
    let sample = Sample::new(&[(Tar::new().file("a", "a").finish(), gzip)]);
    let kept = Shared::default();
    let registry = Registry::start({
        let kept = kept.clone();
        move |seen, _| takes(&kept, seen)
    })
    .await;
    registry.put_image("team/other", "1", &sample);
    store.pull(&registry.reference("team/other:1"), &push().access).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let how = Push {
        progress: Some(Arc::new(move |progress: Progress| listener.lock().unwrap().push(progress.state))),
        ..push()
    };
    store.push(&registry.name("team/other:1"), &registry.reference("team/app:2"), &how).await.unwrap();
    assert_eq!((registry.count("PATCH", ""), registry.count("POST", "mount=")), (0, 2));
    assert!(told.lock().unwrap().contains(&State::Mounted("team/other".into())));
    assert_eq!(kept.lock().unwrap().manifests["2"], sample.manifest());
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_broke_or_begins_anew() {
    if !is_root() {
        return;
    }
    for forgotten in [false, true] {
        let place = Place::new();
        let (store, _) = loaded(&place).await;
        let kept = Shared::default();
        let registry = Registry::start({
            let kept = kept.clone();
            move |seen, before| {
                if seen.method == "PATCH" && before == 0 && seen.header("content-range").is_none() {
                    // Half of it arrives.
                    let half = Seen { body: seen.body.slice(..seen.body.len() / 2), ..seen.clone() };
                    let first = half.path.contains("uploads/0");
                    if first {
                        takes(&kept, &half);
                        return reply(503, &[], "");
                    }
                }
                if forgotten && seen.method == "GET" && seen.path.contains("uploads/0") {
                    return reply(404, &[], "");
                }
                takes(&kept, seen)
            }
        })
        .await;
        store.push("app:1", &registry.reference("team/app:1"), &push()).await.unwrap();
        let resumed = registry.seen().iter().filter(|seen| seen.header("content-range").is_some()).count();
        assert_eq!(resumed, usize::from(!forgotten), "forgotten: {forgotten}");
        assert_eq!(registry.count("POST", "uploads"), 3 + usize::from(forgotten));
        assert!(kept.lock().unwrap().manifests.contains_key("1"));
    }
}

#[tokio::test]
async fn tokens_allow_to_push_and_refusals_are_told() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (store, _) = loaded(&place).await;
    let kept = Shared::default();
    let registry = Registry::start({
        let kept = kept.clone();
        move |seen, _| {
            if seen.path.starts_with("/token") {
                let right = format!("Basic {}", STANDARD.encode("user:right"));
                let scope = seen.path.contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush");
                let good = seen.header("authorization") == Some(&right) && scope;
                return if good { reply(200, &[], r#"{"token":"t"}"#) } else { reply(401, &[], "") };
            }
            if seen.header("authorization") == Some("Bearer t") {
                return takes(&kept, seen);
            }
            let host = seen.header("host").unwrap_or_default();
            let challenge = format!(r#"Bearer realm="http://{host}/token",scope="repository:team/app:pull""#);
            reply(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    let reference = registry.reference("team/app:1");
    let with = |password: &str| {
        let mut how = push();
        how.access.credentials = vec![Credentials::Password { username: "user".into(), password: password.into() }];
        how
    };
    let refused = store.push("app:1", &reference, &with("wrong")).await.unwrap_err();
    assert!(matches!(refused, Error::Denied(_)), "{refused:?}");
    assert!(kept.lock().unwrap().manifests.is_empty());
    store.push("app:1", &reference, &with("right")).await.unwrap();
    assert!(kept.lock().unwrap().manifests.contains_key("1"));
    let unknown = store.push("nothing:1", &reference, &push()).await.unwrap_err();
    assert!(matches!(unknown, Error::NotFound(_)), "{unknown:?}");
}

#[tokio::test]
async fn a_registry_that_keeps_something_else_is_noticed() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (store, _) = loaded(&place).await;
    let kept = Shared::default();
    let registry = Registry::start(move |seen, _| match seen.path.contains("/manifests/") {
        true => reply(201, &[("docker-content-digest", Digest::sha256(b"other").as_str())], ""),
        false => takes(&kept, seen),
    })
    .await;
    let error = store.push("app:1", &registry.reference("team/app:1"), &push()).await.unwrap_err();
    assert!(format!("{error:#}").contains("says that it has"), "{error:#}");
    assert!(store.get("app:1").unwrap().digests.is_empty());
}

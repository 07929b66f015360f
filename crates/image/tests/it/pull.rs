//! Pulling, from registries that behave and from others.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{
    Image, Store,
    pull::{Credentials, Error, Patience, Pull, Registries, Trust, upstream},
};
use oci::{Digest, Reference, media};

use crate::{
    archive::{Tar, gzip, zstd},
    place::{Place, Sample, is_root, plain},
    registry::{Ends, Registry, Reply, reply, usual},
};

fn sample(text: &str) -> Sample {
    // Content that does not compress, so that there is something to break off.
    let mut noise = Vec::new();
    let mut state = text.len() as u64 + 1;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend_from_slice(&state.to_be_bytes());
    }
    let noise = crate::archive::Header { path: "noise", ..Default::default() }.with(&noise);
    Sample::new(&[
        (Tar::new().directory("etc/").file("etc/base", "base").finish(), gzip),
        (noise.file("text", text).finish(), zstd),
    ])
}

/// Not waiting long, and not looking at this machine's environment.
pub fn pull() -> Pull {
    Pull {
        trust: Trust::Configured,
        patience: Patience {
            connect: Duration::from_secs(5),
            answer: Duration::from_millis(400),
            tries: 4,
            silence: Duration::MAX,
            pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(50),
        },
        ..Pull::default()
    }
}

fn with(yaml: &str) -> Pull {
    Pull { registries: Arc::new(Registries::parse(yaml).unwrap()), ..pull() }
}

/// A store and a registry that has `app:1`.
pub async fn setting(
    rule: impl Fn(&crate::registry::Seen, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Place, Store, Registry, Sample) {
    let place = Place::new();
    let store = place.store().await;
    let registry = Registry::start(rule).await;
    let sample = sample("hello");
    registry.put_image("team/app", "1", &sample);
    (place, store, registry, sample)
}

#[track_caller]
fn is_whole(image: &Image, sample: &Sample) {
    assert_eq!(image.id, sample.id());
    assert_eq!(std::fs::read_to_string(image.layers[0].join("text")).unwrap(), "hello");
    assert_eq!(std::fs::read_to_string(image.layers[1].join("etc/base")).unwrap(), "base");
}

/// Nothing half-made is left, nor visible. The threads that wrote when a pull failed notice it by themselves.
pub async fn is_clean(place: &Place, store: &Store) {
    assert!(store.list().is_empty());
    for _ in 0..100 {
        if std::fs::read_dir(place.path("store/tmp")).unwrap().count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for directory in ["tmp", "images", "names"] {
        let left: Vec<_> = std::fs::read_dir(place.path("store").join(directory)).unwrap().collect();
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
}

#[tokio::test]
async fn an_image_is_pulled_once_and_then_only_asked_about() {
    if !is_root() {
        return;
    }
    let (_place, store, registry, sample) = setting(|_, _| None).await;
    let reference = registry.reference("team/app:1");
    let steps = Arc::new(Mutex::new(Vec::new()));
    let noted = steps.clone();
    let pull = Pull { progress: Some(Arc::new(move |step| noted.lock().unwrap().push(step))), ..pull() };
    let image = store.pull(&reference, &pull).await.unwrap();
    is_whole(&image, &sample);
    let digest = Digest::sha256(&sample.manifest());
    assert_eq!(image.names, [reference.to_string()]);
    assert_eq!(image.digests, [reference.with_digest(digest.clone()).to_string()]);
    let last =
        steps.lock().unwrap().iter().rfind(|step| step.layer == Digest::sha256(&sample.layers[1])).cloned().unwrap();
    assert_eq!((last.done, last.total), (sample.layers[1].len() as u64, sample.layers[1].len() as u64));

    registry.forget();
    let again = store.pull(&reference, &pull).await.unwrap();
    assert_eq!(again.id, image.id);
    assert_eq!((registry.seen().len(), registry.count("HEAD", "/manifests/1")), (1, 1));
    // By digest, not even that.
    registry.forget();
    let pinned = store.pull(&reference.with_digest(digest.clone()), &pull).await.unwrap();
    assert_eq!((pinned.id, registry.seen().len()), (image.id, 0));
    // A new image under the same tag, sharing the lowest layer.
    let mut second = self::sample("changed");
    second.layers[0] = sample.layers[0].clone();
    registry.put_image("team/app", "1", &second);
    let moved = store.pull(&reference, &pull).await.unwrap();
    assert_eq!(moved.id, second.id());
    assert_eq!(
        registry.count("GET", Digest::sha256(&sample.layers[0]).as_str()),
        0,
        "a layer that is here is not fetched"
    );
    assert!(store.get(sample.id().as_str()).unwrap().names.is_empty());
}

#[tokio::test]
async fn of_an_index_the_image_for_this_machine_is_taken() {
    if !is_root() {
        return;
    }
    let (_place, store, registry, sample) = setting(|_, _| None).await;
    let manifest = sample.manifest();
    let entry = |digest: Digest, size: usize, platform: &str| {
        let (os, architecture) = platform.split_once('/').unwrap();
        serde_json::json!({
            "mediaType": media::DOCKER_MANIFEST, "digest": digest, "size": size,
            "platform": {"os": os, "architecture": architecture},
        })
    };
    let machine = oci::index::Machine::host().to_string();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::DOCKER_LIST,
        "manifests": [
            entry(Digest::sha256(b"other"), 5, "linux/s390x"),
            entry(Digest::sha256(&manifest), manifest.len(), &machine),
            entry(Digest::sha256(b"attestation"), 5, "unknown/unknown"),
        ],
    });
    let index = serde_json::to_vec(&index).unwrap();
    registry.put_document("team/app", "many", media::DOCKER_LIST, &index);
    let reference = registry.reference("team/app:many");
    let image = store.pull(&reference, &pull()).await.unwrap();
    is_whole(&image, &sample);
    assert_eq!(image.digests, [reference.with_digest(Digest::sha256(&index)).to_string()], "as the registry names it");
    // The manifest's own digest is known as well.
    assert!(store.get(&reference.with_digest(Digest::sha256(&manifest)).to_string()).is_some());

    let other =
        serde_json::json!({"schemaVersion": 2, "manifests": [entry(Digest::sha256(b"other"), 5, "linux/s390x")]});
    registry.put_document("team/app", "other", media::OCI_INDEX, &serde_json::to_vec(&other).unwrap());
    let error = store.pull(&registry.reference("team/app:other"), &pull()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)) && error.to_string().contains(&machine), "{error}");
}

#[tokio::test]
async fn dockers_own_media_types_are_understood_and_its_first_schema_is_refused() {
    if !is_root() {
        return;
    }
    let (_place, store, registry, sample) = setting(|_, _| None).await;
    let manifest = String::from_utf8(sample.manifest()).unwrap();
    let docker = manifest
        .replace(media::OCI_MANIFEST, media::DOCKER_MANIFEST)
        .replace(media::OCI_CONFIG, media::DOCKER_CONFIG)
        .replace(media::OCI_LAYER_GZIP, media::DOCKER_LAYER_GZIP);
    registry.put_document("team/app", "docker", media::DOCKER_MANIFEST, docker.as_bytes());
    is_whole(&store.pull(&registry.reference("team/app:docker"), &pull()).await.unwrap(), &sample);

    let cases: [(&str, &str); 4] = [
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
        (r#"{"schemaVersion":2,"config":{},"manifests":[]}"#, "neither a manifest nor an index"),
        ("<html>", "read manifest"),
        (&manifest.replace(media::OCI_CONFIG, "application/vnd.cncf.helm.config.v1+json"), "not an image"),
    ];
    for (document, reason) in cases {
        registry.put_document("team/app", "odd", media::OCI_MANIFEST, document.as_bytes());
        let error = store.pull(&registry.reference("team/app:odd"), &pull()).await.unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#} does not say {reason}");
    }
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_resumed_where_it_broke() {
    if !is_root() {
        return;
    }
    for (ends, ranges) in [(Ends::Broken(50_000), true), (Ends::Broken(50_000), false), (Ends::Stalled(50_000), true)] {
        let layer = sample("hello").layers[1].clone();
        let path = format!("/v2/team/app/blobs/{}", Digest::sha256(&layer));
        let (_place, store, registry, sample) = setting(move |seen, before| {
            if seen.path != path {
                return None;
            }
            let served = [(path.clone(), (String::new(), layer.clone()))].into();
            let mut whole = usual(seen, &served);
            match before {
                // Twice, the second time within what remains.
                0 => whole.ends = ends,
                1 if ranges => whole.ends = Ends::Broken(50_000),
                _ if !ranges => return reply(200, &[], layer.clone()),
                _ => {}
            }
            Some(whole)
        })
        .await;
        let image = store.pull(&registry.reference("team/app:1"), &pull()).await.unwrap();
        is_whole(&image, &sample);
        let asked: Vec<_> = registry
            .seen()
            .iter()
            .filter(|seen| seen.path.contains(Digest::sha256(&sample.layers[1]).as_str()))
            .map(|seen| seen.header("range").unwrap_or("-").to_owned())
            .collect();
        match ranges {
            true => assert_eq!(asked, ["-", "bytes=50000-", "bytes=100000-"]),
            false => assert_eq!(asked, ["-", "bytes=50000-"]),
        }
    }
}

#[tokio::test]
async fn a_blob_that_breaks_off_again_and_again_is_given_up() {
    if !is_root() {
        return;
    }
    let (place, store, registry, _) = setting(|seen, _| {
        let blob = seen.path.contains("/blobs/") && seen.header("range").is_some();
        let first =
            seen.path.contains("/blobs/") && seen.path.contains(Digest::sha256(&sample("hello").layers[1]).hex());
        match (first, blob) {
            (true, false) => {
                Some(Reply { ends: Ends::Broken(1000), ..reply(200, &[], sample("hello").layers[1].clone())? })
            }
            (true, true) => Some(Reply {
                ends: Ends::Broken(0),
                ..reply(206, &[("content-range", "bytes 1000-1999/2000")], vec![0; 1000])?
            }),
            _ => None,
        }
    })
    .await;
    let error = store.pull(&registry.reference("team/app:1"), &pull()).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("after 1000 of")), "{error}");
    is_clean(&place, &store).await;
}

#[tokio::test]
async fn content_that_is_not_what_was_promised_is_refused() {
    if !is_root() {
        return;
    }
    let layer = sample("hello").layers[1].clone();
    let (flipped, longer, shorter) = {
        let mut flipped = layer.clone();
        *flipped.last_mut().unwrap() ^= 1;
        (flipped, [layer.clone(), vec![0; 10]].concat(), layer[..layer.len() - 1].to_vec())
    };
    let cases = [(flipped, ""), (longer, "expected"), (shorter, "expected")];
    for (body, reason) in cases {
        let path = format!("/blobs/{}", Digest::sha256(&layer));
        let (place, store, registry, _) =
            setting(move |seen, _| if seen.path.ends_with(&path) { reply(200, &[], body.clone()) } else { None }).await;
        let error = store.pull(&registry.reference("team/app:1"), &pull()).await.unwrap_err();
        assert!(matches!(&error, Error::Other(_)) && format!("{error:#}").contains(reason), "{error:#}");
        is_clean(&place, &store).await;
        assert!(store.blob(&Digest::sha256(&layer)).is_none());
    }
    // A layer whose archive is not the one that the configuration names.
    let (place, store, registry, good) = setting(|_, _| None).await;
    let swapped = Sample { layers: vec![gzip(&Tar::new().file("x", "x").finish()), good.layers[1].clone()], ..good };
    registry.put_image("team/app", "2", &swapped);
    let error = store.pull(&registry.reference("team/app:2"), &pull()).await.unwrap_err();
    assert!(format!("{error:#}").contains("configuration says"), "{error:#}");
    is_clean(&place, &store).await;
    // A manifest other than asked for, and one without end.
    let digest = Digest::sha256(b"something else");
    registry.put(&format!("team/app/manifests/{digest}"), media::OCI_MANIFEST, &swapped.manifest());
    let pinned = registry.reference("team/app").with_digest(digest);
    let error = store.pull(&pinned, &pull()).await.unwrap_err();
    assert!(format!("{error:#}").contains("another digest"), "{error:#}");
    registry.put_document("team/app", "huge", media::OCI_MANIFEST, &vec![b' '; 5 << 20]);
    let error = store.pull(&registry.reference("team/app:huge"), &pull()).await.unwrap_err();
    assert!(format!("{error:#}").contains("longer than"), "{error:#}");
    is_clean(&place, &store).await;
}

/// A registry that wants tokens from itself: for `user:right`, or for anybody where `anonymous`.
fn token_rule(anonymous: bool, expires: u32) -> impl Fn(&crate::registry::Seen, usize) -> Option<Reply> + Send + Sync {
    let issued = Mutex::new(0);
    move |seen, _| {
        let right = format!("Basic {}", STANDARD.encode("user:right"));
        if seen.path.starts_with("/token") {
            if seen.method == http::Method::POST {
                let body = String::from_utf8_lossy(&seen.body).into_owned();
                assert!(
                    body.contains("grant_type=refresh_token") && body.contains("scope=repository%3Ateam%2Fapp%3Apull")
                );
                let good = body.contains("refresh_token=refresh%2Fme");
                return if good { reply(200, &[], r#"{"access_token":"t0"}"#) } else { reply(401, &[], "") };
            }
            assert!(seen.path.contains("service=here") && seen.path.contains("scope=repository%3Ateam%2Fapp%3Apull"));
            return match seen.header("authorization") {
                Some(shown) if shown != right => reply(401, &[], r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
                None if !anonymous => reply(403, &[], "{}"),
                _ => {
                    let mut issued = issued.lock().unwrap();
                    *issued += 1;
                    reply(200, &[], format!(r#"{{"token":"t{issued}","expires_in":{expires}}}"#))
                }
            };
        }
        let now = issued.lock().unwrap();
        match seen.header("authorization") {
            Some(shown) if shown == format!("Bearer t{now}") || shown == "Bearer fixed" => None,
            _ => {
                let host = seen.header("host").unwrap();
                let challenge =
                    format!(r#"Bearer realm="http://{host}/token",service="here",scope="repository:team/app:pull""#);
                reply(
                    401,
                    &[("www-authenticate", &challenge)],
                    r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#,
                )
            }
        }
    }
}

fn password(password: &str) -> Credentials {
    Credentials::Password { username: "user".into(), password: password.into() }
}

#[tokio::test]
async fn tokens_are_fetched_with_the_first_credentials_that_do() {
    if !is_root() {
        return;
    }
    let pulled = |credentials: Vec<Credentials>, anonymous: bool| async move {
        let (_place, store, registry, sample) = setting(token_rule(anonymous, 300)).await;
        let pull = Pull { credentials, ..pull() };
        let image = store.pull(&registry.reference("team/app:1"), &pull).await?;
        is_whole(&image, &sample);
        Ok::<_, Error>(registry.count("GET", "/token"))
    };
    assert_eq!(pulled(vec![password("right")], false).await.unwrap(), 1, "one token for all requests");
    assert_eq!(pulled(vec![], true).await.unwrap(), 1);
    assert_eq!(pulled(vec![password("wrong"), password("right")], false).await.unwrap(), 2);
    assert_eq!(pulled(vec![password("wrong")], true).await.unwrap(), 2, "at last without any");
    assert_eq!(pulled(vec![Credentials::Identity("refresh/me".into())], false).await.unwrap(), 0);
    assert_eq!(pulled(vec![Credentials::Token("fixed".into())], false).await.unwrap(), 0);
    for refused in [vec![], vec![password("wrong")], vec![Credentials::Identity("other".into())]] {
        let error = pulled(refused, false).await.unwrap_err();
        assert!(matches!(&error, Error::Denied(text) if text.contains("team/app")), "{error}");
    }
}

#[tokio::test]
async fn a_login_is_no_better_for_what_nobody_may() {
    let registry = Registry::start(token_rule(true, 300)).await;
    registry.put("", "application/json", b"{}");
    let reference = registry.reference("team/app:1");
    upstream::login(&reference, &pull(), password("right")).await.unwrap();
    let error = upstream::login(&reference, &pull(), password("wrong")).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error:#}");
}

#[tokio::test]
async fn names_and_passwords_from_the_configuration_are_shown_to_who_asks() {
    if !is_root() {
        return;
    }
    let rule = |seen: &crate::registry::Seen, _| {
        let right = format!("Basic {}", STANDARD.encode("user:right"));
        match seen.header("authorization") {
            Some(shown) if shown == right => None,
            _ => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
        }
    };
    let (_place, store, registry, sample) = setting(rule).await;
    let reference = registry.reference("team/app:1");
    let error = store.pull(&reference, &pull()).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");
    let yaml = format!("configs: {{\"{}\": {{auth: {{username: user, password: right}}}}}}", registry.address);
    is_whole(&store.pull(&reference, &with(&yaml)).await.unwrap(), &sample);
    // Nothing is shown before it is asked for.
    assert_eq!(registry.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    if !is_root() {
        return;
    }
    let (_place, store, registry, sample) = setting(|seen, before| match (before, seen.path.contains("/blobs/")) {
        (0, _) => reply(429, &[("retry-after", "0")], ""),
        (1, true) => reply(503, &[("retry-after", "100000")], ""),
        (2, true) => reply(500, &[], ""),
        _ => None,
    })
    .await;
    is_whole(&store.pull(&registry.reference("team/app:1"), &pull()).await.unwrap(), &sample);

    let (place, store, registry, _) = setting(|_, _| reply(503, &[], r#"{"errors":[{"code":"BUSY"}]}"#)).await;
    let error = store.pull(&registry.reference("team/app:1"), &pull()).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(_)), "{error}");
    assert_eq!(registry.seen().len(), 4, "as often as patience says");
    is_clean(&place, &store).await;
    let gone = registry.reference("team/app:1");
    drop(registry);
    let error = store.pull(&gone, &pull()).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn who_stays_silent_is_not_tried_again() {
    if !is_root() {
        return;
    }
    /// How often somebody is asked who takes connections and closes them.
    async fn asked(silence: Duration) -> usize {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("{}/team/app:1", listener.local_addr().unwrap());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        std::thread::spawn(move || {
            for _closed in listener.incoming() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let place = Place::new();
        let patience = Patience { silence, ..pull().patience };
        let reference = Reference::parse(&name).unwrap();
        let error = place.store().await.pull(&reference, &Pull { patience, ..pull() }).await.unwrap_err();
        assert!(matches!(&error, Error::Unavailable(_)), "{error}");
        count.load(Ordering::Relaxed)
    }
    let (patient, impatient) = (asked(Duration::MAX).await, asked(Duration::ZERO).await);
    assert!(patient >= 4 && impatient <= patient - 3, "{patient} times and {impatient} times");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    if !is_root() {
        return;
    }
    let (_place, store, registry, sample) = setting(|_, _| None).await;
    let reference = registry.reference("team/app:2");
    let error = store.pull(&reference, &pull()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    assert_eq!(error.to_string(), format!("{reference}: not found"));
    // A layer that is missing.
    let partial = Sample { layers: vec![sample.layers[0].clone(), gzip(&Tar::new().finish())], ..sample };
    registry.put_document("team/app", "3", media::OCI_MANIFEST, &partial.manifest());
    let error = store.pull(&registry.reference("team/app:3"), &pull()).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(text) if text.contains("blobs/")), "{error}");
}

#[tokio::test]
async fn blobs_elsewhere_are_fetched_without_credentials() {
    if !is_root() {
        return;
    }
    let elsewhere = Registry::start(|_, _| None).await;
    elsewhere.put_blobs("store", &sample("hello"));
    let address = elsewhere.address;
    let rule = token_rule(true, 300);
    let (_place, store, registry, sample) = setting(move |seen, before| {
        if let Some(reply) = rule(seen, before) {
            return Some(reply);
        }
        // Another name for the same machine is another host, too.
        let (_, blob) = seen.path.split_once("/blobs/")?;
        reply(307, &[("location", &format!("http://{address}/v2/store/blobs/{blob}"))], "")
    })
    .await;
    is_whole(&store.pull(&registry.reference("team/app:1"), &pull()).await.unwrap(), &sample);
    assert_eq!(elsewhere.seen().len(), 3);
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));

    let (_place, store, registry, _) =
        setting(|seen, _| seen.path.contains("/blobs/").then(|| reply(302, &[("location", &seen.path)], ""))?).await;
    let error = store.pull(&registry.reference("team/app:1"), &pull()).await.unwrap_err();
    assert!(format!("{error:#}").contains("more than 6 times"), "{error:#}");
}

#[tokio::test]
async fn mirrors_are_asked_first_and_see_no_credentials_of_the_registry() {
    if !is_root() {
        return;
    }
    let (_place, store, registry, sample) = setting(token_rule(false, 300)).await;
    // One that would like to know.
    let curious = Registry::start(|_, _| reply(401, &[("www-authenticate", "Basic realm=\"x\"")], "")).await;
    let empty = Registry::start(|_, _| None).await;
    let failing = Registry::start(|_, _| reply(500, &[], "")).await;
    let mirror = Registry::start(|seen, _| {
        // It has no layers, though.
        seen.path.contains(Digest::sha256(&self::sample("hello").layers[0]).as_str()).then(|| reply(404, &[], ""))?
    })
    .await;
    mirror.put_image("cache/app", "1", &sample);
    let yaml = format!(
        "mirrors:\n  \"{}\":\n    endpoint: [\"http://{}\", \"http://{}\", \"http://{}\", \"http://{}\"]\n    rewrite: {{\"^team/(.*)$\": \"cache/$1\"}}\n",
        registry.address, curious.address, empty.address, failing.address, mirror.address
    );
    let pull = Pull { credentials: vec![password("right")], ..with(&yaml) };
    is_whole(&store.pull(&registry.reference("team/app:1"), &pull).await.unwrap(), &sample);
    for asked in [&curious, &empty, &failing, &mirror] {
        let seen = asked.seen();
        assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_none()));
        let namespace = format!("ns={}", registry.address.to_string().replace(':', "%3A"));
        assert!(seen.iter().all(|seen| seen.path.starts_with("/v2/cache/app/") && seen.path.ends_with(&namespace)));
    }
    assert_eq!(registry.count("GET", "/blobs/"), 1 + 1, "only what the mirror lacks, after one challenge");
}

#[tokio::test]
async fn certificates_are_checked_unless_told_otherwise() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, &key);
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (certificate, key)
    };
    let (server, server_key) = issue("127.0.0.1");
    let (client, client_key) = issue("client");
    std::fs::write(place.path("ca.pem"), authority_certificate.pem()).unwrap();
    std::fs::write(place.path("client.pem"), client.pem()).unwrap();
    std::fs::write(place.path("client.key"), client_key.serialize_pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = |wants_client: bool| {
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match wants_client {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority_certificate.der().clone()).unwrap();
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = rustls::pki_types::PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
        Arc::new(builder.with_single_cert(vec![server.der().clone()], key).unwrap())
    };
    let ca = format!("ca_file: {}", place.path("ca.pem").display());
    let own = format!(
        "{ca}, cert_file: {}, key_file: {}",
        place.path("client.pem").display(),
        place.path("client.key").display()
    );
    for (wants_client, settings, works) in [
        (false, Some(ca.as_str()), true),
        (false, Some("insecure_skip_verify: true"), true),
        (false, Some("ca_file: /gone.pem"), false),
        (true, Some(ca.as_str()), false),
        (true, Some(own.as_str()), true),
        // Nothing said: on loopback HTTPS is tried, its certificate is from nobody known, and plain HTTP is refused.
        (false, None, false),
    ] {
        let registry = Registry::with_tls(Some(tls(wants_client)), |_, _| None).await;
        let sample = sample("hello");
        registry.put_image("team/app", "1", &sample);
        let yaml = match settings {
            Some(settings) => format!("configs: {{\"{}\": {{tls: {{{settings}}}}}}}", registry.address),
            None => String::new(),
        };
        let here = Place::new();
        let store = here.store().await;
        let outcome = store.pull(&registry.reference("team/app:1"), &with(&yaml)).await;
        assert_eq!(outcome.is_ok(), works, "client {wants_client}, {settings:?}: {outcome:?}");
        if let Ok(image) = outcome {
            is_whole(&image, &sample);
        }
    }
}

#[tokio::test]
async fn pulls_at_the_same_time_share_their_downloads() {
    if !is_root() {
        return;
    }
    let (_place, store, registry, sample) = setting(|_, _| None).await;
    // Another image on the same lowest layer, and the same blob twice in one image.
    let shared = Tar::new().directory("etc/").file("etc/base", "base").finish();
    let other = Sample::new(&[
        (shared, gzip),
        (Tar::new().file("own", "own").finish(), plain),
        (Tar::new().file("own", "own").finish(), plain),
    ]);
    registry.put_image("team/app", "2", &other);
    let (one, two) = (registry.reference("team/app:1"), registry.reference("team/app:2"));
    let pull = pull();
    let pulls: Vec<&Reference> = vec![&one, &two, &one, &one, &two];
    let images =
        futures::future::try_join_all(pulls.into_iter().map(|reference| store.pull(reference, &pull))).await.unwrap();
    is_whole(&images[0], &sample);
    assert_eq!(images[1].layers.len(), 3);
    assert_eq!(images[0].layers.last(), images[1].layers.last(), "one directory for both");
    for layer in sample.layers.iter().chain(&other.layers) {
        assert_eq!(registry.count("GET", Digest::sha256(layer).as_str()), 1);
    }
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_nothing() {
    if !is_root() {
        return;
    }
    let (place, store, registry, _) = setting(|seen, _| {
        let layer = sample("hello").layers[1].clone();
        let this = seen.path.contains(Digest::sha256(&layer).as_str());
        this.then(|| Some(Reply { ends: Ends::Stalled(50_000), ..reply(200, &[], layer)? }))?
    })
    .await;
    let reference = registry.reference("team/app:1");
    let patient = Pull { patience: Patience::default(), ..pull() };
    let given_up = tokio::time::timeout(Duration::from_millis(500), store.pull(&reference, &patient)).await;
    assert!(given_up.is_err());
    is_clean(&place, &store).await;
    store.collect_garbage(u64::MAX, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(store.usage().await.unwrap().bytes, 0, "what was complete was garbage");
}

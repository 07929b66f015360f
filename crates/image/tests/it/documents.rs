//! Manifests, indexes and names that mean harm: from a registry, and from an archive.

use std::sync::atomic::Ordering;

use image::pull::Error;
use oci::{Digest, media};
use serde_json::{Value, json};

use crate::{
    archive::{Header, Tar},
    load::{load, sample},
    place::{Place, is_root},
    pull::{is_clean, pull, setting},
    registry::{Ends, Registry, Reply},
};

const MIB: usize = 1 << 20;
/// What is read of something endless, with everything that connections hold on their way.
const FEW: usize = 24 * MIB;

/// 100 MB of white space, as JSON may have it.
fn endless(media_type: &str) -> Option<Reply> {
    let headers = vec![("content-type", media_type.to_owned())];
    Some(Reply { status: 200, headers, body: vec![b' '; MIB], ends: Ends::Repeated(100) })
}

fn entry(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

fn index(entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries}).to_string().into_bytes()
}

/// The index of an index of ... of a document, each with its own entry; the last one is the outermost.
fn nested(innermost: (&str, &[u8]), depth: usize) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for _ in 0..depth {
        let (media_type, document) = match all.last() {
            None => innermost,
            Some(index) => (media::OCI_INDEX, index.as_slice()),
        };
        all.push(index(&[entry(media_type, &Digest::sha256(document), document.len() as u64)]));
    }
    all
}

/// Pulls what has to fail; what is said of it.
async fn refused(store: &image::Store, registry: &Registry, name: &str) -> String {
    let error = store.pull(&registry.reference(name), &pull()).await.unwrap_err();
    assert!(!matches!(error, Error::Denied(_)), "{error:#}");
    format!("{error:#}")
}

#[tokio::test]
async fn of_a_hundred_megabytes_of_json_no_more_is_read_than_a_document_may_have() {
    if !is_root() {
        return;
    }
    let far = Digest::sha256(b"far");
    let endless_at = ["/manifests/big", "/blobs/sha256:", "/token", far.as_str()].map(str::to_owned);
    let (place, store, registry, sample) = setting(move |seen, _| {
        if seen.method == http::Method::GET && endless_at.iter().any(|part| seen.path.contains(part)) {
            return endless(media::OCI_MANIFEST);
        }
        let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
        let guarded = seen.path.contains("/guarded/");
        guarded.then(|| crate::registry::reply(401, &[("www-authenticate", &realm)], "").unwrap())
    })
    .await;
    registry.put_document("other/app", "index", media::OCI_INDEX, &index(&[entry(media::OCI_MANIFEST, &far, 100)]));
    let config = |size: u64| {
        let config = entry(media::OCI_CONFIG, &Digest::sha256(&sample.config), size);
        let document = json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": []});
        document.to_string().into_bytes()
    };
    registry.put_document("team/app", "large", media::OCI_MANIFEST, &config(100 << 20));
    registry.put_document("team/app", "lying", media::OCI_MANIFEST, &config(100));
    for (name, reason) in [
        ("team/app:big", "longer than 4194304 bytes"),
        ("other/app:index", "longer than 4194304 bytes"),
        ("team/app:large", "its configuration has 104857600 bytes"),
        ("team/app:lying", "longer than 100 bytes"),
        ("guarded/app:1", "read the token"),
    ] {
        registry.sent.store(0, Ordering::Relaxed);
        let said = refused(&store, &registry, name).await;
        assert!(said.contains(reason), "{name}: {said}");
        let sent = registry.sent.load(Ordering::Relaxed);
        assert!(sent < FEW, "{name}: {sent} bytes were taken");
    }
    is_clean(&place, &store).await;
}

#[tokio::test]
async fn indexes_are_followed_a_few_steps_deep_and_never_in_a_circle() {
    if !is_root() {
        return;
    }
    let (place, store, registry, sample) = setting(|_, _| None).await;
    let manifest = sample.manifest();
    registry.put_blobs("deep/app", &sample);
    registry.put_document("deep/app", "0", media::OCI_MANIFEST, &manifest);
    for (number, document) in nested((media::OCI_MANIFEST, &manifest), 300).iter().enumerate() {
        registry.put_document("deep/app", &(number + 1).to_string(), media::OCI_INDEX, document);
    }
    for deep in [5, 6, 300] {
        registry.forget();
        let said = refused(&store, &registry, &format!("deep/app:{deep}")).await;
        assert!(said.contains("nested deeper than 4"), "{said}");
        assert!(registry.count("GET", "/manifests/") <= 6, "{}", registry.count("GET", "/manifests/"));
    }
    // An index that names itself, and two that name each other: only a registry that lies can have them.
    let [one, two] = [Digest::sha256(b"one"), Digest::sha256(b"two")];
    let to = |digest: &Digest| index(&[entry(media::OCI_INDEX, digest, 200)]);
    for (tag, leads_to, served) in
        [("itself", &one, vec![(&one, &one)]), ("pair", &one, vec![(&one, &two), (&two, &one)])]
    {
        registry.forget();
        registry.put_document("circle/app", tag, media::OCI_INDEX, &to(leads_to));
        for (at, names) in served {
            registry.put(&format!("circle/app/manifests/{at}"), media::OCI_INDEX, &to(names));
        }
        let said = refused(&store, &registry, &format!("circle/app:{tag}")).await;
        assert!(said.contains("another digest"), "{said}");
        assert!(registry.count("GET", "/manifests/") <= 2);
    }
    is_clean(&place, &store).await;
    // As deep as is followed, and the same image by a tag of its own.
    let image = store.pull(&registry.reference("deep/app:4"), &pull()).await.unwrap();
    assert_eq!(image.id, sample.id());
}

#[tokio::test]
async fn sizes_and_digests_that_are_not_those_of_the_content_are_noticed() {
    if !is_root() {
        return;
    }
    let (place, store, registry, sample) = setting(|_, _| None).await;
    let manifest = sample.manifest();
    let (digest, size) = (Digest::sha256(&manifest), manifest.len() as u64);
    registry.put_document("team/app", "image", media::OCI_MANIFEST, &manifest);
    let mut negative = entry(media::OCI_MANIFEST, &digest, size);
    negative["size"] = json!(-1);
    let mut text = entry(media::OCI_MANIFEST, &digest, size);
    text["digest"] = json!("sha256:../../../../etc/passwd");
    for (tag, entry, reason) in [
        ("short", entry(media::OCI_MANIFEST, &digest, size - 1), "what refers to it says"),
        ("long", entry(media::OCI_MANIFEST, &digest, size + 1), "what refers to it says"),
        ("huge", entry(media::OCI_MANIFEST, &digest, u64::MAX), "has 18446744073709551615 bytes"),
        ("gone", entry(media::OCI_MANIFEST, &Digest::sha256(b"gone"), size), "not found"),
        ("negative", negative, "read index"),
        ("path", text, "read index"),
    ] {
        registry.put_document("team/app", tag, media::OCI_INDEX, &index(&[entry]));
        let said = refused(&store, &registry, &format!("team/app:{tag}")).await;
        assert!(said.contains(reason), "{tag}: {said}");
    }
    let deep = format!("{{\"layers\":{}", "[".repeat(4 * MIB - 100));
    for (tag, document) in [
        ("deep", deep.into_bytes()),
        ("both", [b"{\"manifests\":[],".as_slice(), &manifest[1..]].concat()),
        ("twice", [b"{\"layers\":[],".as_slice(), &manifest[1..]].concat()),
        ("text", b"<html>".to_vec()),
        ("empty", Vec::new()),
    ] {
        registry.put_document("team/app", tag, media::OCI_MANIFEST, &document);
        let said = refused(&store, &registry, &format!("team/app:{tag}")).await;
        assert!(said.contains("manifest"), "{tag}: {said}");
    }
    is_clean(&place, &store).await;
}

/// A layout whose index leads to a document, with further documents among its blobs.
fn layout(entry: &Value, documents: &[(Digest, Vec<u8>)]) -> Vec<u8> {
    let mut tar = sample().layout(std::slice::from_ref(entry));
    for (digest, document) in documents {
        let path = format!("blobs/sha256/{}", digest.hex());
        tar = tar.entry(Header { path: &path, ..Default::default() }, document);
    }
    tar.finish()
}

#[tokio::test]
async fn archives_whose_documents_lie_are_refused_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let manifest = sample().manifest();
    let all = nested((media::OCI_MANIFEST, &manifest), 300);
    let documents: Vec<(Digest, Vec<u8>)> =
        all.iter().map(|document| (Digest::sha256(document), document.clone())).collect();
    let deep = |depth: usize| {
        let (digest, document) = &documents[depth - 1];
        layout(&entry(media::OCI_INDEX, digest, document.len() as u64), &documents)
    };
    let one = Digest::sha256(b"one");
    let itself = index(&[entry(media::OCI_INDEX, &one, 200)]);
    let of_manifest = |size: u64| layout(&entry(media::OCI_MANIFEST, &Digest::sha256(&manifest), size), &[]);
    let size = manifest.len() as u64;
    let spaces = " ".repeat(100 * MIB);
    let small = |name: &str, text: &str| Tar::new().file(name, text).finish();
    let docker = |config: &str, layers: &str| {
        let text = format!(r#"[{{"Config":"{config}","RepoTags":["a:1"],"Layers":[{layers}]}}]"#);
        Tar::new().file("manifest.json", &text).file("config.json", "{}").symlink("a", "b").symlink("b", "a")
    };
    let cases = [
        (deep(5), "nested deeper than 4"),
        (deep(300), "nested deeper than 4"),
        (layout(&entry(media::OCI_INDEX, &one, 200), &[(one.clone(), itself)]), "another digest"),
        (of_manifest(size + 1), "what refers to it says"),
        (of_manifest(1), "what refers to it says"),
        (of_manifest(u64::MAX), "what refers to it says"),
        (small("index.json", &spaces), "more than 4194304 bytes"),
        (small("manifest.json", &spaces), "more than 4194304 bytes"),
        (docker("config.json", "").file("config.json", &" ".repeat(9 * MIB)).finish(), "more than 8388608 bytes"),
        (small("index.json", &"[".repeat(MIB)), "read index.json"),
        (small("manifest.json", &"[".repeat(MIB)), "read manifest.json"),
        // Nothing but what is in the archive is read, and links in a circle lead nowhere.
        (docker("/etc/hostname", "").finish(), "/etc/hostname is missing"),
        (docker("../../../../../../etc/hostname", "").finish(), "is missing"),
        (docker("a", "").finish(), "a is missing"),
        (docker("config.json", r#""../../../etc/hostname""#).finish(), "is missing"),
    ];
    for (archive, reason) in cases {
        let place = Place::new();
        let store = place.store().await;
        let said = format!("{:#}", load(&store, archive).await.unwrap_err());
        assert!(said.contains(reason), "{said} does not say {reason:?}");
        is_clean(&place, &store).await;
        assert_eq!(std::fs::read_dir(place.path("store/layers")).unwrap().count(), 0, "{reason}");
    }
    let place = Place::new();
    let store = place.store().await;
    assert_eq!(load(&store, deep(4)).await.unwrap()[0].id, sample().id());
}

#[tokio::test]
async fn names_in_archives_lead_nowhere_else() {
    if !is_root() {
        return;
    }
    for name in [
        "../../../../etc/passwd:1",
        "..",
        ".",
        "/etc/passwd",
        "a/../../b:1",
        "a/./b:1",
        "a//b:1",
        "host.io/../b:1",
        "../host.io/b:1",
        "a:../../b",
        "a:..",
        "a:.b",
        "a\\b:1",
        "a%2f..%2fb:1",
        "a\u{0}b:1",
        "host.io:5000/../../a:1",
        "a@sha256:../../../../etc/passwd",
    ] {
        let place = Place::new();
        let store = place.store().await;
        let good = sample();
        let annotated = good.layout(&[good.entry(&[(oci::archive::ANNOTATION_NAME, name)])]).finish();
        for archive in [good.docker_archive(&[name]).finish(), annotated] {
            let said = format!("{:#}", load(&store, archive).await.unwrap_err());
            assert!(said.contains("invalid reference format"), "{name:?}: {said}");
        }
        is_clean(&place, &store).await;
        let beside: Vec<_> =
            std::fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(beside, ["store"], "{name:?}");
    }
    // A layout in a directory is not left either.
    let place = Place::new();
    std::fs::write(place.path("outside.json"), r#"{"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#).unwrap();
    let directory = place.path("layout");
    std::fs::create_dir(&directory).unwrap();
    let absolute = place.path("outside.json").display().to_string();
    let store = place.store().await;
    for config in ["../outside.json", "a/../../outside.json", &absolute] {
        let text = json!([{"Config": config, "RepoTags": ["a:1"], "Layers": []}]).to_string();
        std::fs::write(directory.join("manifest.json"), text).unwrap();
        let said = format!("{:#}", store.load_path(&directory).await.unwrap_err());
        assert!(said.contains("is missing"), "{config}: {said}");
    }
}

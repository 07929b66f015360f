//! Only manifests are taken for manifests.

use serde_json::{Value, json};

use super::*;

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(content), "size": content.len()})
}

fn image() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, b"{}"),
        "layers": [descriptor(media::OCI_LAYER_GZIP, b"layer")],
    })
}

fn read(document: &Value, content_type: Option<&str>) -> Result<Parsed, String> {
    Parsed::read(document.to_string().as_bytes(), content_type)
}

#[test]
fn an_image_refers_to_its_configuration_and_layers() {
    let parsed = read(&image(), Some(media::OCI_MANIFEST)).unwrap();
    let digests: Vec<_> = parsed.blobs.iter().map(|entry| (entry.digest.clone(), entry.size)).collect();
    assert_eq!(digests, [(Digest::sha256(b"{}"), 2), (Digest::sha256(b"layer"), 5)]);
    assert_eq!(parsed.artifact_type.as_deref(), Some(media::OCI_CONFIG));
    assert_eq!(parsed.subject, None);
}

#[test]
fn layers_that_are_elsewhere_need_not_be_here() {
    let mut image = image();
    let media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    image["layers"].as_array_mut().unwrap().push(descriptor(media_type, b"foreign"));
    let parsed = read(&image, None).unwrap();
    assert_eq!((parsed.blobs.len(), parsed.foreign.len()), (2, 1));
    assert_eq!(parsed.refers().len(), 3);
}

#[test]
fn the_kind_of_an_artifact_is_what_it_says() {
    let mut artifact = image();
    artifact["artifactType"] = json!("application/x");
    artifact["subject"] = descriptor(media::OCI_MANIFEST, b"subject");
    artifact["annotations"] = json!({"a": "b"});
    let parsed = read(&artifact, None).unwrap();
    assert_eq!(parsed.artifact_type.as_deref(), Some("application/x"));
    assert_eq!(parsed.subject, Some(Digest::sha256(b"subject")));
    assert_eq!(parsed.annotations["a"], "b");
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(media::OCI_MANIFEST, b"m")]});
    let parsed = read(&index, None).unwrap();
    assert_eq!((parsed.media_type.as_str(), parsed.artifact_type), (media::OCI_INDEX, None));
}

#[test]
fn what_is_no_manifest_is_refused_with_a_reason() {
    let with = |key: &str, value: Value| {
        let mut image = image();
        image[key] = value;
        image
    };
    let mut lying = descriptor(media::OCI_LAYER, b"layer");
    lying["data"] = json!(STANDARD.encode(b"other"));
    let mut negative = descriptor(media::OCI_LAYER, b"layer");
    negative["size"] = json!(-1);
    let cases = [
        (json!([]), None, "neither"),
        (json!({"schemaVersion": 2}), None, "neither"),
        (with("manifests", json!([])), None, "neither"),
        (with("schemaVersion", json!(1)), None, "schemaVersion"),
        (json!({"schemaVersion": 1, "fsLayers": []}), None, "schema 1"),
        (image(), Some(media::DOCKER_MANIFEST), "own media type"),
        (image(), Some("text/html"), "own media type"),
        (with("mediaType", json!("text/html")), Some("text/html"), "not what this is"),
        (with("layers", json!([lying])), None, "something else"),
        (with("layers", json!([negative])), None, "invalid value"),
        (with("layers", json!([{"digest": "sha256:../x", "size": 1, "mediaType": "x"}])), None, "digest"),
        (json!({"schemaVersion": 2, "layers": []}), None, "no config"),
    ];
    for (document, content_type, reason) in cases {
        let error = read(&document, content_type).unwrap_err();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
    }
    assert!(Parsed::read(b"\xff", None).is_err());
    assert!(Parsed::read("[".repeat(100_000).as_bytes(), None).is_err());
}

//! Choosing among platforms, as data.

use oci_spec::image::ImageIndex;

use super::*;

fn index(platforms: &[Option<&str>]) -> ImageIndex {
    let manifests: Vec<_> = platforms
        .iter()
        .enumerate()
        .map(|(number, platform)| {
            let mut entry = serde_json::json!({
                "mediaType": crate::media::OCI_MANIFEST, "digest": format!("sha256:{number:064x}"), "size": 2
            });
            if let Some(platform) = platform {
                let parts: Vec<_> = platform.split('/').collect();
                entry["platform"] = serde_json::json!({"os": parts[0], "architecture": parts[1]});
                if let Some(variant) = parts.get(2) {
                    entry["platform"]["variant"] = (*variant).into();
                }
            }
            entry
        })
        .collect();
    serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": manifests})).unwrap()
}

#[test]
fn the_best_platform_is_chosen() {
    let machine = |text: &str, variants: &[&str]| Machine {
        variants: variants.iter().map(|&variant| variant.into()).collect(),
        ..Machine::parse(text).unwrap()
    };
    let amd64 = machine("linux/amd64", &["v1"]);
    let arm = machine("linux/arm", &["v7", "v6", "v5"]);
    type Case<'a> = (&'a Machine, &'a [Option<&'a str>], Option<usize>);
    let cases: &[Case] = &[
        (&amd64, &[Some("linux/arm64"), Some("linux/amd64")], Some(1)),
        (&amd64, &[Some("linux/amd64"), Some("unknown/unknown")], Some(0)),
        (&amd64, &[Some("windows/amd64"), Some("linux/arm64")], None),
        (&amd64, &[Some("linux/amd64/v3"), Some("linux/amd64")], Some(1)),
        (&amd64, &[None, Some("linux/amd64")], Some(1)),
        (&amd64, &[None], Some(0)),
        (&arm, &[Some("linux/arm/v5"), Some("linux/arm/v7"), Some("linux/arm/v6")], Some(1)),
        (&arm, &[Some("linux/arm/v8"), Some("linux/arm/v6")], Some(1)),
    ];
    for (machine, platforms, expected) in cases {
        let index = index(platforms);
        let chosen = choose(index.manifests(), machine)
            .map(|entry| index.manifests().iter().position(|other| other == entry).unwrap());
        assert_eq!(chosen, *expected, "{machine} among {platforms:?}");
    }
}

#[test]
fn a_platform_flag_is_parsed() {
    assert_eq!(Machine::parse("linux/arm/v7").unwrap().variants, ["v7"]);
    assert_eq!(Machine::parse("linux"), None);
    assert_eq!(Machine::parse("linux/arm/v7/x"), None);
}

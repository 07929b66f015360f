//! Tests of `image` and what is below it.

use std::{path::PathBuf, sync::Arc};

use ::image::Image;
use serde_json::json;

use super::{
    changes::changed,
    decoded,
    list::glob,
    message::{progress, size},
    remove::{Deed, Holder, decide},
};

fn image(names: &[&str], digests: &[&str]) -> Image {
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "history": []});
    let digest = oci::Digest::sha256(b"x");
    Image {
        id: digest.clone(),
        manifest: digest,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        digests: digests.iter().map(|name| (*name).to_owned()).collect(),
        config: Arc::new(serde_json::from_value(config).unwrap()),
        size: 0,
        layers: Vec::<PathBuf>::new(),
    }
}

#[test]
fn names_go_before_images_and_nothing_that_is_used_goes() {
    let one = "docker.io/library/a:1";
    let digest = "docker.io/library/a@sha256:0";
    let both = image(&[one, "docker.io/library/a:2"], &[digest]);
    let last = image(&[one], &[digest]);
    let two = image(&[one, "docker.io/other/a:1"], &[]);
    let bare = image(&[], &[digest]);
    let running = [Holder { id: "r".repeat(64), running: true }];
    let stopped = [Holder { id: "s".repeat(64), running: false }];
    let untag = |name: &str| Ok(Deed::Untag(name.to_owned()));
    for (image, named, holders, force, expected) in [
        (&both, Some(one), &running[..], false, untag(one)),
        (&last, Some(one), &[], false, Ok(Deed::Delete)),
        (&last, Some(digest), &[], false, untag(digest)),
        (&bare, Some(digest), &[], false, Ok(Deed::Delete)),
        (&last, Some(one), &stopped, false, Err("must force")),
        (&last, Some(one), &running, true, untag(one)),
        (&last, None, &[], false, Ok(Deed::Delete)),
        (&both, None, &[], false, Ok(Deed::Delete)),
        (&two, None, &[], false, Err("multiple repositories")),
        (&two, None, &[], true, Ok(Deed::Delete)),
        (&last, None, &running, true, Err("cannot be forced")),
        (&last, None, &stopped, false, Err("must be forced")),
        (&last, None, &stopped, true, Ok(Deed::Delete)),
    ] {
        let decided = decide(image, named, holders, force);
        match (decided, expected) {
            (Ok(deed), Ok(wanted)) => assert_eq!(deed, wanted, "{named:?} {holders:?} {force}"),
            (Err(error), Err(part)) => assert!(error.starts_with("conflict: ") && error.contains(part), "{error}"),
            (decided, expected) => panic!("{decided:?} instead of {expected:?}: {named:?} {holders:?} {force}"),
        }
    }
}

#[test]
fn patterns_match_as_in_go() {
    for (pattern, text, expected) in [
        ("busybox", "busybox", true),
        ("busy*", "busybox", true),
        ("busy*", "busy/box", false),
        ("*/box", "busy/box", true),
        ("b?sybox:*", "busybox:latest", true),
        ("?", "/", false),
        ("*:1*3", "a:123123", true),
        ("", "a", false),
        ("**", "ab", true),
    ] {
        assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    }
}

#[test]
fn changes_are_instructions_that_touch_the_configuration_only() {
    let list = |changes: &[&str]| changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>();
    let config = json!({"Env": ["A=1"], "Cmd": ["sh"]});
    let made =
        changed(config.clone(), &list(&["ENV B=2", "CMD [\"x\", \"y\"]", "EXPOSE 80", "LABEL a=b", "WORKDIR /w"]))
            .unwrap();
    assert_eq!(made["Env"], json!(["A=1", "B=2"]));
    assert_eq!(made["Cmd"], json!(["x", "y"]));
    assert_eq!(made["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!((&made["Labels"]["a"], &made["WorkingDir"]), (&json!("b"), &json!("/w")));
    assert_eq!(changed(config.clone(), &[]).unwrap(), config);
    for (change, reason) in
        [("RUN x", "RUN is not a valid change command"), ("FROM a", "FROM is not"), ("EXPOSE x", "changes:")]
    {
        let error = changed(config.clone(), &list(&[change])).unwrap_err().message;
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn messages_are_drawn_as_docker_draws_them() {
    for (bytes, expected) in [(0, "0B"), (999, "999B"), (1000, "1kB"), (1234, "1.234kB"), (12_345_678, "12.35MB")] {
        assert_eq!(size(bytes), expected);
    }
    let message = progress("Downloading", "ab", 512, 1024);
    assert_eq!(message["progressDetail"], json!({"current": 512, "total": 1024}));
    assert_eq!(message["progress"], format!("[{}>{}] {:>8}/1.024kB", "=".repeat(25), " ".repeat(24), "512B"));
}

#[test]
fn headers_are_decoded_however_they_are_encoded() {
    for text in ["eyJhIjoiPz8_In0=", "eyJhIjoiPz8/In0", "eyJhIjoiPz8_In0"] {
        assert_eq!(decoded(text).unwrap(), br#"{"a":"???"}"#, "{text}");
    }
    assert_eq!(decoded("%%"), None);
}

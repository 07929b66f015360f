//! Images made of directories: what went in comes out of the layer again.

use std::{
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
            net::UnixListener,
        },
    },
    path::Path,
};

use image::{
    Image, Store,
    commit::{Changes, TreeOptions},
};
use rustix::fs::{FileType, Mode, XattrFlags};
use serde_json::json;

use crate::place::{Place, is_root};

const OPAQUE: &str = "trusted.overlay.opaque";

fn config(command: &str) -> serde_json::Value {
    json!({ "architecture": "amd64", "os": "linux", "config": { "Cmd": [command] } })
}

fn changes(directory: &Path, newest: Option<i64>) -> Changes {
    let directory = std::fs::File::open(directory).unwrap();
    Changes { directory: Some(OwnedFd::from(directory)), options: TreeOptions { overlay: true, newest } }
}

async fn commit(store: &Store, base: Option<&Image>, directory: &Path) -> Image {
    store.commit(base, changes(directory, None), config("x"), &["made:1".parse().unwrap()]).await.unwrap()
}

/// Everything about the files below a directory that a layer keeps.
fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let status = path.symlink_metadata().unwrap();
            let content = match status.file_type() {
                kind if kind.is_dir() => {
                    left.push(path.clone());
                    "directory".to_owned()
                }
                kind if kind.is_symlink() => format!("-> {}", std::fs::read_link(&path).unwrap().display()),
                kind if kind.is_file() => format!("{:?}", std::fs::read(&path).unwrap()),
                kind => format!("{kind:?} {}", status.rdev()),
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let (mode, owner, time) = (status.mode(), (status.uid(), status.gid()), status.mtime());
            lines.push(format!("{name} {mode:o} {owner:?} {} {time} {content}", status.nlink()));
        }
    }
    lines.sort();
    lines
}

#[tokio::test]
async fn a_directory_becomes_a_layer_with_all_that_is_in_it() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (store, upper) = (place.store().await, place.path("upper"));
    let deep = upper.join("d/".to_owned() + &"long-name/".repeat(20));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("имя"), "deep").unwrap();
    std::fs::write(upper.join("program"), vec![7; 100_000]).unwrap();
    std::fs::set_permissions(upper.join("program"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::hard_link(upper.join("program"), upper.join("again")).unwrap();
    std::fs::write(upper.join("owned"), "").unwrap();
    std::os::unix::fs::chown(upper.join("owned"), Some(3_000_000_000), Some(5)).unwrap();
    symlink("t".repeat(150), upper.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        upper.join("null"),
        FileType::CharacterDevice,
        Mode::from(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("pipe"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    rustix::fs::setxattr(upper.join("owned"), "user.color", b"blue", XattrFlags::empty()).unwrap();
    let before = listing(&upper);
    let socket = UnixListener::bind(upper.join("socket")).unwrap();
    let image = commit(&store, None, &upper).await;
    drop(socket);
    assert_eq!(listing(&image.layers[0]), before);
    let mut color = [0; 8];
    let length = rustix::fs::getxattr(image.layers[0].join("owned"), "user.color", &mut color).unwrap();
    assert_eq!(&color[..length], b"blue");
    assert_eq!(image.names, ["docker.io/library/made:1"]);
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["x"]);
    let copy = listing(&image.layers[0]).into_iter().find(|line| line.starts_with("again ")).unwrap();
    assert!(copy.contains(" 2 "), "two names, one file: {copy}");
}

#[tokio::test]
async fn what_a_container_removed_is_gone_from_the_image() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (store, upper) = (place.store().await, place.path("upper"));
    std::fs::create_dir_all(upper.join("kept")).unwrap();
    std::fs::write(upper.join("gone"), "1").unwrap();
    let base = commit(&store, None, &upper).await;

    let upper = place.path("second");
    std::fs::create_dir_all(upper.join("emptied")).unwrap();
    std::fs::write(upper.join("emptied/new"), "2").unwrap();
    rustix::fs::setxattr(upper.join("emptied"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
    // Two marks may be names of one inode, as overlayfs makes them.
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    std::fs::hard_link(upper.join("gone"), upper.join("gone too")).unwrap();
    let image = commit(&store, Some(&base), &upper).await;
    assert_eq!(image.layers[1], base.layers[0], "the base's layer is shared");
    let top = &image.layers[0];
    for name in ["gone", "gone too"] {
        let mark = top.join(name).symlink_metadata().unwrap();
        assert!(mark.file_type().is_char_device() && mark.rdev() == 0, "{name}");
    }
    let mut value = [0; 4];
    assert_eq!(rustix::fs::getxattr(top.join("emptied"), OPAQUE, &mut value).unwrap(), 1);
    let archive = std::fs::read(store.blob(&layers(&store, &image)[1].parse().unwrap()).unwrap()).unwrap();
    for name in [".wh.gone", ".wh.gone too", "emptied/.wh..wh..opq"] {
        assert!(archive.windows(name.len()).any(|window| window == name.as_bytes()), "{name} is not in the archive");
    }
    assert_eq!(store.get("made:1").unwrap().id, image.id, "the name moved on");
    assert!(store.get(&base.id.to_string()).is_some());
}

/// Digests of an image's layers, the lowest first.
fn layers(store: &Store, image: &Image) -> Vec<String> {
    let manifest = std::fs::read(store.blob(&image.manifest).unwrap()).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn capabilities_that_a_user_namespace_gave_hold_everywhere() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (store, upper) = (place.store().await, place.path("upper"));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::write(upper.join("server"), "").unwrap();
    // CAP_NET_BIND_SERVICE, effective; revision 3, of the namespace whose root is 100,000.
    let mut given = [0; 24];
    given[..6].copy_from_slice(&[1, 0, 0, 3, 0, 4]);
    given[20..].copy_from_slice(&100_000_u32.to_le_bytes());
    rustix::fs::setxattr(upper.join("server"), "security.capability", &given, XattrFlags::empty()).unwrap();
    let image = commit(&store, None, &upper).await;
    let mut kept = [0; 32];
    let length = rustix::fs::getxattr(image.layers[0].join("server"), "security.capability", &mut kept).unwrap();
    assert_eq!((&kept[..6], length), (&[1, 0, 0, 2, 0, 4][..], 20));
}

#[tokio::test]
async fn the_same_tree_makes_the_same_image_whatever_its_times() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let store = place.store().await;
    let mut ids = Vec::new();
    for (name, order) in [("one", ["a", "b", "c"]), ("two", ["c", "a", "b"])] {
        let upper = place.path(name);
        std::fs::create_dir_all(upper.join("d")).unwrap();
        for file in order {
            std::fs::write(upper.join("d").join(file), file).unwrap();
        }
        let image = store.commit(None, changes(&upper, Some(0)), config("x"), &[]).await.unwrap();
        assert!(image.names.is_empty());
        ids.push(image.id);
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_change_of_the_configuration_makes_no_layer() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (store, upper) = (place.store().await, place.path("upper"));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::write(upper.join("a"), "1").unwrap();
    let base = commit(&store, None, &upper).await;
    let nothing = || Changes { directory: None, options: TreeOptions::default() };
    let image = store.commit(Some(&base), nothing(), config("y"), &[]).await.unwrap();
    assert_eq!(image.layers, base.layers);
    assert_ne!(image.id, base.id);
    let empty = store.commit(None, nothing(), config("z"), &[]).await.unwrap();
    assert!(empty.layers.is_empty());
    let error = store.commit(None, nothing(), json!([]), &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "the configuration is no object");
}

#[tokio::test]
async fn directories_too_deep_in_one_another_are_refused_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (store, upper) = (place.store().await, place.path("upper"));
    std::fs::create_dir_all(upper.join("d/".repeat(600))).unwrap();
    let error = store.commit(None, changes(&upper, None), config("x"), &[]).await.unwrap_err();
    assert!(format!("{error:#}").contains("more than 512 deep"), "{error:#}");
    let left = std::fs::read_dir(place.path("store/tmp")).unwrap().count();
    assert_eq!(left, 0, "temporary files are left");
}

//! Loading, saving, naming, snapshots, garbage.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use oci::{Digest, Reference};

use crate::{
    archive::{Header, Tar, gzip, zstd},
    place::{Place, Sample, is_root, plain},
};

pub fn sample() -> Sample {
    let base = Tar::new()
        .directory("./")
        .header(Header { path: "tmp/", kind: b'5', mode: 0o1777, ..Default::default() })
        .header(Header { path: "srv/", kind: b'5', mode: 0o710, uid: 12, gid: 13, ..Default::default() })
        .file("etc/hostname", "base")
        .file("old/thing", "old");
    let top = Tar::new()
        .file("tmp/note", "no entry for tmp here")
        .file("srv/www/index.html", "hello")
        .file("etc/.wh.hostname", "")
        .file("old/.wh..wh..opq", "");
    Sample::new(&[(base.finish(), gzip), (top.finish(), zstd)])
}

pub async fn load(store: &image::Store, archive: Vec<u8>) -> anyhow::Result<Vec<image::Image>> {
    store.load(std::io::Cursor::new(archive)).await
}

#[tokio::test]
async fn docker_archives_and_layouts_give_the_same_image() {
    if !is_root() {
        return;
    }
    let sample = sample();
    let name = "docker.io/library/sample:1";
    let layout = sample.layout(&[sample.entry(&[(oci::archive::ANNOTATION_NAME, name)])]);
    let both = {
        let paths: Vec<_> =
            sample.layers.iter().map(|layer| format!("blobs/sha256/{}", Digest::sha256(layer).hex())).collect();
        let config = format!("blobs/sha256/{}", sample.id().hex());
        let manifest = serde_json::json!([{"Config": config, "RepoTags": ["sample:1"], "Layers": paths}]);
        let header = Header { path: "manifest.json", ..Default::default() };
        sample
            .layout(&[sample.entry(&[(oci::archive::ANNOTATION_REF_NAME, "1")])])
            .entry(header, &serde_json::to_vec(&manifest).unwrap())
    };
    let docker = sample.docker_archive(&["sample:1"]);
    for (form, archive) in [
        ("docker", docker.clone().finish()),
        ("docker in gzip", gzip(&docker.clone().finish())),
        ("docker in zstd", zstd(&docker.finish())),
        ("layout", layout.finish()),
        ("both", both.finish()),
    ] {
        let place = Place::new();
        let store = place.store().await;
        let images = load(&store, archive).await.unwrap_or_else(|error| panic!("{form}: {error:#}"));
        assert_eq!(images.len(), 1, "{form}");
        let image = &images[0];
        assert_eq!((&image.id, &image.names), (&sample.id(), &vec![name.to_owned()]), "{form}");
        assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/bin/hello"]);
        // Top first.
        let (top, base) = (&image.layers[0], &image.layers[1]);
        assert_eq!(std::fs::read_to_string(base.join("etc/hostname")).unwrap(), "base");
        assert!(top.join("etc/hostname").symlink_metadata().unwrap().file_type().is_char_device());
        let mut mark = [0; 4];
        let length = rustix::fs::getxattr(top.join("old"), "trusted.overlay.opaque", &mut mark[..]).unwrap();
        assert_eq!(&mark[..length], b"y");
        // Directories that the top layer only implies look like those below.
        let of = |name: &str| top.join(name).metadata().unwrap();
        assert_eq!(of("tmp").mode() & 0o7777, 0o1777, "{form}");
        assert_eq!((of("srv").mode() & 0o7777, of("srv").uid(), of("srv").gid()), (0o710, 12, 13));
        assert_eq!(of("srv/www").mode() & 0o7777, 0o755);
        assert_eq!(store.get("sample:1").unwrap().id, image.id);
        assert_eq!(store.get(&image.id.hex()[..12]).unwrap().id, image.id);
        assert_eq!(store.get(image.id.as_str()).unwrap().id, image.id);
        assert!(store.get("sample").is_none());
    }
}

#[tokio::test]
async fn what_is_saved_can_be_loaded_again() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let store = place.store().await;
    load(&store, sample().docker_archive(&["sample:1", "other:2"]).finish()).await.unwrap();
    let path = place.path("saved.tar");
    store.save(&["sample:1".into()], tokio::fs::File::create(&path).await.unwrap()).await.unwrap();
    let second = Place::new();
    let copy = second.store().await;
    let images = copy.load_path(&path).await.unwrap();
    assert_eq!(images[0].names, ["docker.io/library/sample:1"]);
    assert_eq!(images[0].id, sample().id());
    assert_eq!(images[0].manifest, store.get("sample:1").unwrap().manifest);
    // And as a directory.
    let directory = place.path("layout");
    std::fs::create_dir(&directory).unwrap();
    let unpacked = std::process::Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(&directory).status();
    if unpacked.is_ok_and(|status| status.success()) {
        let third = Place::new();
        let images = third.store().await.load_path(&directory).await.unwrap();
        assert_eq!(images[0].id, sample().id());
    }
}

#[tokio::test]
async fn an_archive_that_does_not_hold_what_it_says_is_refused() {
    if !is_root() {
        return;
    }
    let good = sample();
    let entry = good.entry(&[(oci::archive::ANNOTATION_NAME, "docker.io/library/sample:1")]);
    // A layer with other content than its name says.
    let mut wrong = good.layout(std::slice::from_ref(&entry));
    let layer = &good.layers[0][..];
    let at = wrong.0.windows(layer.len()).position(|window| window == layer).unwrap();
    wrong.0[at + layer.len() / 2] ^= 1;
    // A configuration that names other layers.
    let other = Sample { layers: vec![gzip(&Tar::new().file("x", "x").finish()); 2], ..sample() };
    let cases = [
        (other.docker_archive(&["sample:1"]).finish(), "its archive has digest"),
        (Sample { layers: good.layers[..1].to_vec(), ..sample() }.docker_archive(&["a:1"]).finish(), "names 2 layers"),
        (good.docker_archive(&["Not/A/Name"]).finish(), "must be lowercase"),
        (Tar::new().file("hello", "hello").finish(), "no images in it"),
        (Tar::new().file("manifest.json", "[{]").finish(), "read manifest.json"),
        (Tar::new().file("manifest.json", r#"[{"Config":"gone.json"}]"#).finish(), "gone.json is missing"),
        (
            Tar::new()
                .file(
                    "index.json",
                    r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:../../x","size":1}]}"#,
                )
                .finish(),
            "read index.json",
        ),
        (b"no archive".to_vec(), "truncated"),
    ];
    for (archive, reason) in cases {
        let place = Place::new();
        let store = place.store().await;
        let error = format!("{:#}", load(&store, archive).await.unwrap_err());
        assert!(error.contains(reason), "{error} does not say {reason:?}");
        assert!(store.list().is_empty());
        assert_eq!(std::fs::read_dir(place.path("store/layers")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(place.path("store/tmp")).unwrap().count(), 0);
    }
    let place = Place::new();
    assert!(load(&place.store().await, wrong.finish()).await.is_err());
}

#[tokio::test]
async fn names_move_and_images_go_with_their_last_one() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let store = place.store().await;
    let first = load(&store, sample().docker_archive(&["app:1"]).finish()).await.unwrap().remove(0);
    let other = Sample::new(&[(Tar::new().file("x", "x").finish(), plain)]);
    let second = load(&store, other.docker_archive(&["app:1", "app:2"]).finish()).await.unwrap().remove(0);
    assert_eq!(store.get("app:1").unwrap().id, second.id);
    assert!(store.get(first.id.as_str()).unwrap().names.is_empty(), "the first one has lost its name");
    store.tag(first.id.as_str(), &Reference::parse("back:1").unwrap()).await.unwrap();
    assert_eq!(store.get("back:1").unwrap().id, first.id);

    let removed = store.remove("app:2").await.unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    let removed = store.remove("app:1").await.unwrap();
    assert_eq!(removed.deleted, [second.id]);
    assert_eq!(store.remove("app:1").await.unwrap(), image::store::Removed::default());
    assert_eq!(store.list().len(), 1);
    assert_eq!(std::fs::read_dir(place.path("store/layers")).unwrap().count(), 2);
    drop(store);

    // All of it is on disk.
    let store = place.store().await;
    assert_eq!(store.list().iter().map(|image| image.id.clone()).collect::<Vec<_>>(), std::slice::from_ref(&first.id));
    assert_eq!(store.get("back:1").unwrap().layers, first.layers);
    let removed = store.remove(first.id.as_str()).await.unwrap();
    assert_eq!(removed.deleted, [first.id]);
    assert!(removed.bytes > 0);
    for directory in ["layers", "images", "names", "blobs/sha256"] {
        assert_eq!(std::fs::read_dir(place.path("store").join(directory)).unwrap().count(), 0, "{directory}");
    }
}

#[tokio::test]
async fn a_snapshot_keeps_its_layers_until_released() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let store = place.store().await;
    let image = load(&store, sample().docker_archive(&["app:1"]).finish()).await.unwrap().remove(0);
    let snapshot = store.snapshot(&image, "c1").await.unwrap();
    assert_eq!(snapshot.lowers, image.layers);
    assert!(snapshot.upper.is_dir() && snapshot.work.is_dir());
    assert_eq!(store.snapshot(&image, "c1").await.unwrap(), snapshot, "the same again");
    std::fs::write(snapshot.upper.join("written"), vec![1; 10_000]).unwrap();
    assert!(store.snapshot_usage("c1").await.unwrap().bytes >= 10_000);
    for bad in ["", "a/b", "..", ".hidden", &"x".repeat(129)] {
        assert!(store.snapshot(&image, bad).await.is_err(), "{bad:?}");
    }

    store.collect_garbage(0, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(store.list().len(), 1, "an image in use is no garbage");
    store.remove("app:1").await.unwrap();
    assert!(store.list().is_empty());
    assert!(snapshot.lowers.iter().all(|lower| lower.is_dir()));
    drop(store);
    let store = place.store().await;
    assert_eq!(store.find_snapshot("c1").unwrap(), snapshot, "found again after a restart");
    store.collect_garbage(0, std::time::Duration::ZERO).await.unwrap();
    assert!(snapshot.lowers.iter().all(|lower| lower.is_dir()));
    store.release("c1").await.unwrap();
    store.release("c1").await.unwrap();
    assert!(snapshot.lowers.iter().all(|lower| !lower.exists()));
    assert!(store.snapshots().is_empty());
}

#[tokio::test]
async fn the_overlay_of_a_snapshot_is_what_the_image_says() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let store = place.store().await;
    let image = load(&store, sample().docker_archive(&["app:1"]).finish()).await.unwrap().remove(0);
    let snapshot = store.snapshot(&image, "c1").await.unwrap();
    let merged = place.path("merged");
    std::fs::create_dir(&merged).unwrap();
    let lowers: Vec<_> = snapshot.lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lowers.join(":"),
        snapshot.upper.display(),
        snapshot.work.display()
    );
    // In a mount namespace of its own, on a thread that ends with it.
    std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("overlay", &merged, "overlay", rustix::mount::MountFlags::empty(), options.as_c_str())
            .unwrap();
        let names = |path: &str| {
            let mut names: Vec<_> = std::fs::read_dir(merged.join(path))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(""), ["etc", "old", "srv", "tmp"]);
        assert!(names("etc").is_empty() && names("old").is_empty(), "whiteout and opaque directory hide");
        assert_eq!(merged.join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
        std::fs::write(merged.join("tmp/new"), "new").unwrap();
        assert_eq!(names("tmp"), ["new", "note"]);
    })
    .join()
    .unwrap();
    assert!(snapshot.upper.join("tmp/new").exists());
}

#[tokio::test]
async fn the_least_recently_used_image_goes_first() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let store = place.store().await;
    let content = "x".repeat(100_000);
    for number in 0..4 {
        let layer = Tar::new().file(&format!("f{number}"), &content).finish();
        let name = format!("app:{number}");
        load(&store, Sample::new(&[(layer, plain)]).docker_archive(&[&name]).finish()).await.unwrap();
    }
    let full = store.usage().await.unwrap().bytes;
    let removed = store.collect_garbage(full - 1, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(removed.untagged, ["docker.io/library/app:0"]);
    assert!(store.usage().await.unwrap().bytes <= full - removed.bytes);
    let removed = store.collect_garbage(0, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(removed.untagged.len(), 3);
    assert_eq!(store.usage().await.unwrap().bytes, 0);
}

#[tokio::test]
async fn what_a_crash_leaves_is_removed_and_damage_is_not_trusted() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let store = place.store().await;
    load(&store, sample().docker_archive(&["app:1"]).finish()).await.unwrap();
    let other = Sample::new(&[(Tar::new().file("x", "x").finish(), plain)]);
    let image = load(&store, other.docker_archive(&["other:1"]).finish()).await.unwrap().remove(0);
    assert!(image::Store::open(&place.path("store"), crate::place::options(crate::place::child())).await.is_err());
    drop(store);
    std::fs::create_dir_all(place.path("store/tmp/7/fs/half")).unwrap();
    std::fs::create_dir_all(place.path("store/layers/99/fs")).unwrap();
    std::fs::create_dir_all(place.path("store/snapshots/torn/upper")).unwrap();
    std::fs::write(place.path("store/names/torn"), "{").unwrap();
    // A layer of the second image is lost.
    std::fs::remove_dir_all(image.layers[0].parent().unwrap()).unwrap();
    let store = place.store().await;
    assert_eq!(store.list().len(), 1);
    assert!(store.get("app:1").is_some() && store.get("other:1").is_none());
    assert!(store.snapshots().is_empty());
    // It can be loaded again, under a number that was never used.
    load(&store, other.docker_archive(&["other:1"]).finish()).await.unwrap();
    assert!(store.get("other:1").unwrap().layers[0].ends_with("100/fs"));
    for _ in 0..100 {
        if std::fs::read_dir(place.path("store/trash")).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("leftovers are still there");
}

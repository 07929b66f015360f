//! Killed at any moment, a store opens whole.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use oci::Digest;

use crate::{
    archive::{Header, Tar, gzip},
    place::{Place, Sample, child, is_root, options, plain},
};

/// Marks a start of this executable that loads and removes until it is killed. Followed by the store's directory.
const BUSY: &str = "busy-in-";

fn samples() -> Vec<(String, Sample)> {
    let base = Tar::new().directory("etc/").file("etc/base", &"base".repeat(10_000)).finish();
    (0..3)
        .map(|number| {
            let content = format!("content {number}").repeat(20_000);
            let top = Header { path: "top", ..Default::default() }.with(content.as_bytes()).finish();
            (format!("app:{number}"), Sample::new(&[(base.clone(), plain), (top, gzip)]))
        })
        .collect()
}

#[test]
fn a_store_that_was_killed_at_work_opens_whole() {
    if let Some(directory) = std::env::args().find_map(|argument| argument.strip_prefix(BUSY).map(str::to_owned)) {
        work(directory.as_ref());
    }
    if !is_root() {
        return;
    }
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut seen, mut kills) = (0, 0);
    for round in 0..25_u64 {
        let mut busy = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::a_store_that_was_killed_at_work_opens_whole", "--test-threads=1"])
            .arg(format!("{BUSY}{}", place.path("store").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + round * 37 % 400));
        busy.kill().unwrap();
        kills += usize::from(!busy.wait().unwrap().success());
        runtime.block_on(async {
            // The unpacker that the killed process had started ends with it, its lock too.
            let store = place.store().await;
            for image in store.list() {
                seen += 1;
                let (_, sample) = samples().into_iter().find(|(_, sample)| sample.id() == image.id).unwrap();
                assert_eq!(image.layers.len(), 2);
                assert_eq!(std::fs::read_to_string(image.layers[1].join("etc/base")).unwrap().len(), 40_000);
                assert_eq!(std::fs::read(image.layers[0].join("top")).unwrap().len(), 180_000);
                for blob in sample.layers.iter().chain([&sample.config]) {
                    let path = store.blob(&Digest::sha256(blob)).unwrap();
                    assert_eq!(&std::fs::read(path).unwrap(), blob);
                }
            }
            for name in store.list().iter().flat_map(|image| &image.names) {
                assert!(store.get(name).is_some());
            }
            assert_eq!(std::fs::read_dir(place.path("store/tmp")).unwrap().count(), 0);
        });
    }
    assert!(kills == 25 && seen > 0, "{kills} kills, {seen} images seen");
    runtime.block_on(async {
        let store = place.store().await;
        for (name, sample) in samples() {
            store.load(std::io::Cursor::new(sample.docker_archive(&[&name]).finish())).await.unwrap();
        }
        assert_eq!(store.list().len(), 3);
        store.collect_garbage(0, std::time::Duration::ZERO).await.unwrap();
        assert_eq!(store.usage().await.unwrap().bytes, 0, "what crashes left was garbage");
    });
}

fn work(directory: &std::path::Path) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = image::Store::open(directory, options(child())).await.unwrap();
        loop {
            for (name, sample) in samples() {
                let archive = sample.docker_archive(&[&name]).finish();
                let image = store.load(std::io::Cursor::new(archive)).await.unwrap().remove(0);
                store.snapshot(&image, "c1").await.unwrap();
                store.release("c1").await.unwrap();
                if let Some(other) = store.list().into_iter().find(|other| other.id != image.id) {
                    store.remove(other.id.as_str()).await.unwrap();
                }
            }
        }
    })
}

//! What was acknowledged is there after `kill -9`, and nothing is served that is not whole; a full disk is told.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use image::content::{Content, Options};
use oci::Digest;
use registry::{auth::Door, blobs::Blobs, cache::Cache};
use serve::body;
use tokio::net::TcpListener;

use crate::server::{Server, ask, bytes, manifest};

const DIR: &str = "REGISTRY_TEST_DIR";

/// The child of the test below: serves until it is killed.
#[test]
#[ignore = "started by the test below"]
fn serve_until_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::start(Path::new(&dir)).await;
        println!("address {}", server.address);
        std::future::pending::<()>().await;
    });
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path) -> (Killed, std::net::SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::serve_until_killed", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| line.rsplit_once("address ")?.1.trim().parse().ok());
    (Killed(child), address.expect("the child serves"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_during_pushes_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let blobs: Arc<Mutex<Vec<Digest>>> = Arc::default();
    let images: Arc<Mutex<Vec<(String, Digest)>>> = Arc::default();
    let seeds = Arc::new(AtomicU64::new(1));
    for round in 0..6_u64 {
        let (child, address) = start(dir.path());
        let pushing = (0..4).map(|_| {
            let (blobs, images, seeds) = (blobs.clone(), images.clone(), seeds.clone());
            async move {
                loop {
                    let seed = seeds.fetch_add(1, Ordering::SeqCst);
                    let layer = bytes(seed, 200_000);
                    for content in [layer.clone(), b"{}".to_vec()] {
                        let digest = Digest::sha256(&content);
                        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
                        match ask(address, Method::POST, &path, &[], body::full(content)).await {
                            Ok(reply) if reply.status == StatusCode::CREATED => blobs.lock().unwrap().push(digest),
                            _ => return,
                        }
                    }
                    let (text, tag) = (manifest(&[&layer]).to_string(), format!("t{seed}"));
                    let digest = Digest::sha256(text.as_bytes());
                    let path = format!("/v2/a/manifests/{tag}");
                    match ask(address, Method::PUT, &path, &[], body::full(text)).await {
                        Ok(reply) if reply.status == StatusCode::CREATED => images.lock().unwrap().push((tag, digest)),
                        _ => return,
                    }
                }
            }
        });
        let before = images.lock().unwrap().len();
        let killing = async {
            while images.lock().unwrap().len() < before + 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(17 * round)).await;
            tokio::task::spawn_blocking(move || drop(child)).await.unwrap();
        };
        let pushing = futures::future::join_all(pushing.map(|push| async {
            // A connection to a killed server may also hang in the kernel's queue.
            let _ = tokio::time::timeout(Duration::from_secs(20), push).await;
        }));
        tokio::join!(pushing, killing);
    }
    let server = Server::start(dir.path()).await;
    let (blobs, images) = (blobs.lock().unwrap().clone(), images.lock().unwrap().clone());
    assert!(images.len() >= 18, "too little was pushed to say anything: {}", images.len());
    for digest in &blobs {
        let reply = server.get(&format!("/v2/a/blobs/{digest}")).await;
        assert!(reply.status == StatusCode::OK && digest.matches(&reply.body), "{digest}: {}", reply.status);
    }
    for (tag, digest) in &images {
        let reply = server.get(&format!("/v2/a/manifests/{tag}")).await;
        assert!(reply.status == StatusCode::OK && digest.matches(&reply.body), "{tag}: {}", reply.status);
    }
    // Whatever else has a name is whole too.
    for entry in std::fs::read_dir(dir.path().join("content/blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let digest: Digest = format!("sha256:{}", entry.file_name().to_str().unwrap()).parse().unwrap();
        assert!(digest.matches(&std::fs::read(entry.path()).unwrap()), "{digest}");
    }
    server.stop().await;
}

/// A file system of a few megabytes, unmounted with its owner.
struct Small(tempfile::TempDir);

impl Small {
    /// None without the right to mount, which fails the test where `CI` is set.
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted.is_ok_and(|output| output.status.success()) {
            true => Some(Self(dir)),
            false if std::env::var_os("CI").is_some() => panic!("no right to mount"),
            false => None,
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_the_rest_as_it_was() {
    let Some(small) = Small::mount(8) else { return };
    let dir = small.0.path().to_owned();
    let server = Server::start(&dir).await;
    let digest = server.push_image("a", "v1", &bytes(1, 1 << 20)).await;
    let large = bytes(2, 12 << 20);
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(&large));
    let reply = server.ask(Method::POST, &path, &[], large.clone()).await;
    assert_eq!(reply.status, StatusCode::INSUFFICIENT_STORAGE, "{:?}", reply.body);
    let uploads = std::fs::read_dir(dir.join("content/uploads")).unwrap().count();
    assert_eq!(uploads, 0, "what does not fit takes space");
    // To the last byte, and still every answer is true.
    let mut kept = Vec::new();
    for seed in 3..40 {
        let content = bytes(seed, 300_000);
        let digest = Digest::sha256(&content);
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        match server.ask(Method::POST, &path, &[], content).await.status {
            StatusCode::CREATED => kept.push(digest),
            StatusCode::INSUFFICIENT_STORAGE => break,
            other => panic!("{other}"),
        }
    }
    assert!(!kept.is_empty() && kept.len() < 37);
    server.stop().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let content = Content::open(&dir.join("content"), Options::default()).await.unwrap();
    let grace = Duration::from_secs(3600);
    let server = Server::over(&dir, grace, Door::open(), Cache::default(), Blobs::Own(content), listener).await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.header("docker-content-digest"), digest.as_str());
    for digest in kept {
        assert!(digest.matches(&server.get(&format!("/v2/a/blobs/{digest}")).await.body));
    }
    server.stop().await;
}

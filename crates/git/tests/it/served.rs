//! What `git` itself makes of repositories that are served here.

use std::{convert::Infallible, fs, path::Path, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use git::{
    Limits,
    id::Format,
    repository::{Repository, Update},
    smart::{self, Service},
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::server::Work;

/// One repository at `/one.git`, which refuses to change `refs/heads/kept`.
struct Door {
    url: String,
    repository: Arc<Repository>,
    runtime: tokio::runtime::Runtime,
}

type Answer = StreamBody<futures::stream::BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

async fn serve(repository: Arc<Repository>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let (parts, body) = request.into_parts();
    let answer = match smart::route(&parts.method, parts.uri.path(), parts.uri.query()) {
        Some(("/one.git", service)) => {
            let body = BodyStream::new(body).filter_map(|frame| async move {
                match frame {
                    Ok(frame) => frame.into_data().ok().map(Ok),
                    Err(error) => Some(Err(std::io::Error::other(error))),
                }
            });
            let body = body.boxed();
            let refused = |update: &Update| (update.name == "refs/heads/kept").then(|| "it is kept".to_owned());
            let done = match service {
                Service::Fetch => smart::fetch(repository, &parts.headers, body).await,
                Service::Push => smart::push(repository, &parts.headers, body, refused, |_, _| {}).await,
                _ => Ok(smart::advertise(&repository, service, &parts.headers)),
            };
            done.unwrap_or_else(|error| smart::refuse(StatusCode::BAD_REQUEST, &error.to_string()))
        }
        _ => smart::refuse(StatusCode::NOT_FOUND, "no such repository"),
    };
    Ok(answer.map(|body| StreamBody::new(body.map(|piece| piece.map(Frame::data)).boxed())))
}

impl Door {
    fn open(path: &Path, format: Format, limits: Limits) -> Self {
        Repository::create(path, "main", format).unwrap();
        let repository = Arc::new(Repository::open(path, limits).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/one.git", listener.local_addr().unwrap());
        let served = repository.clone();
        runtime.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| serve(served.clone(), request));
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, repository, runtime }
    }

    fn head(&self, name: &str) -> String {
        self.repository.references().get(name).map(|target| target.id.to_string()).unwrap_or_default()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let runtime =
            std::mem::replace(&mut self.runtime, tokio::runtime::Builder::new_current_thread().build().unwrap());
        runtime.shutdown_background();
    }
}

fn start(work: &Work) -> Door {
    Door::open(&work.path("served"), Format::Sha1, Limits::default())
}

/// Whether `git` finds nothing wrong with what is on disk.
fn sound(work: &Work) {
    work.git("served", &["fsck", "--full", "--strict"]);
}

#[test]
fn a_push_and_a_clone_bring_the_same_files() {
    let Some(work) = Work::new() else { return };
    let door = start(&work);
    work.repository("one", &[("a", "1\n"), ("deep/er/b", "2\n"), ("run", "#!/bin/sh\n")]);
    work.git("one", &["push", &door.url, "main"]);
    sound(&work);
    for version in ["0", "2"] {
        let into = format!("clone-{version}");
        work.git("", &["-c", &format!("protocol.version={version}"), "clone", &door.url, &into]);
        assert_eq!(fs::read_to_string(work.path(&into).join("deep/er/b")).unwrap(), "2\n");
        assert_eq!(work.git(&into, &["rev-parse", "HEAD"]), door.head("refs/heads/main"));
        assert_eq!(work.git(&into, &["branch", "--show-current"]), "main");
    }
}

#[test]
fn ten_thousand_files_and_a_hundred_commits_are_pushed_cloned_and_fetched() {
    let Some(work) = Work::new() else { return };
    let door = start(&work);
    let files: Vec<(String, String)> =
        (0..10_000).map(|n| (format!("d{}/e{}/f{n}", n % 37, n % 11), format!("file {n}\n"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    work.repository("one", &files);
    work.git("one", &["remote", "add", "origin", &door.url]);
    work.git("one", &["push", "origin", "main"]);
    work.git("", &["clone", &door.url, "two"]);
    for n in 0..100 {
        work.write(&format!("one/d{}/changed", n % 37), &format!("{n}\n"));
        work.git("one", &["add", "."]);
        work.git("one", &["commit", "--quiet", &format!("--message={n}")]);
        if n % 10 == 0 {
            work.git("one", &["push", "--quiet", "origin", "main"]);
        }
    }
    work.git("one", &["push", "--quiet", "origin", "main"]);
    for version in ["0", "2"] {
        let setting = format!("protocol.version={version}");
        work.git("two", &["-c", &setting, "fetch", "origin"]);
        assert_eq!(work.git("two", &["rev-parse", "origin/main"]), door.head("refs/heads/main"));
        work.git("two", &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    }
    work.git("two", &["pull", "--quiet", "origin", "main"]);
    work.git("two", &["fsck", "--full"]);
    assert_eq!(work.git("two", &["rev-list", "--count", "HEAD"]), "101");
    assert_eq!(fs::read_to_string(work.path("two/d25/changed")).unwrap(), "99\n");
    sound(&work);
}

#[test]
fn a_fetch_sends_only_what_is_missing() {
    let Some(work) = Work::new() else { return };
    let door = start(&work);
    let large = "0123456789abcdef".repeat(10_000);
    work.repository("one", &[("large", &large), ("a", "1\n")]);
    work.git("one", &["push", &door.url, "main"]);
    work.git("", &["clone", &door.url, "two"]);
    work.write("one/a", "2\n");
    work.git("one", &["commit", "--quiet", "--all", "--message=two"]);
    work.git("one", &["push", &door.url, "main"]);
    work.git("two", &["config", "fetch.unpackLimit", "1"]);
    work.git("two", &["fetch", "origin"]);
    let newest = fs::read_dir(work.path("two/.git/objects/pack")).unwrap().map(|entry| entry.unwrap());
    let packs: Vec<u64> = newest
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".pack"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    // One commit, one tree, one file.
    assert!(packs.len() == 2 && packs.iter().any(|length| *length < 600), "{packs:?}");
}

#[test]
fn shallow_clones_deepen_and_become_whole() {
    let Some(work) = Work::new() else { return };
    let door = start(&work);
    work.repository("one", &[("a", "0\n")]);
    for n in 1..20 {
        work.write("one/a", &format!("{n}\n"));
        let date = format!("2024-02-{n:02}T00:00:00Z");
        work.git("one", &["-c", "core.x=1", "commit", "--quiet", "--all", &format!("--message={n}"), "--date", &date]);
    }
    work.git("one", &["push", &door.url, "main"]);
    for version in ["0", "2"] {
        let (setting, into) = (format!("protocol.version={version}"), format!("shallow-{version}"));
        let git = |arguments: &[&str]| work.git(&into, &[&["-c", setting.as_str()], arguments].concat());
        work.git("", &["-c", &setting, "clone", "--depth=1", &door.url, &into]);
        assert_eq!(git(&["rev-list", "--count", "HEAD"]), "1");
        git(&["fetch", "--depth=5"]);
        assert_eq!(git(&["rev-list", "--count", "HEAD"]), "5");
        git(&["fetch", "--deepen=3"]);
        assert_eq!(git(&["rev-list", "--count", "HEAD"]), "8");
        git(&["fetch", "--unshallow"]);
        assert_eq!(git(&["rev-list", "--count", "HEAD"]), "20");
        git(&["fsck", "--full"]);
        let below = format!("excluding-{version}");
        let old = work.git("one", &["rev-parse", "HEAD~4"]);
        if version == "2" {
            work.git("one", &["tag", "old", &old]);
            work.git("one", &["push", &door.url, "old"]);
        } else {
            work.git("one", &["push", &door.url, &format!("{old}:refs/tags/old")]);
        }
        work.git("", &["-c", &setting, "clone", "--shallow-exclude=old", &door.url, &below]);
        assert_eq!(work.git(&below, &["rev-list", "--count", "HEAD"]), "4");
        work.git("one", &["push", &door.url, ":refs/tags/old"]);
    }
}

#[test]
fn partial_clones_fetch_what_they_need_later() {
    let Some(work) = Work::new() else { return };
    let door = start(&work);
    work.repository("one", &[("a", "1\n"), ("d/large", &"x".repeat(50_000)), ("d/e/f", "3\n")]);
    work.git("one", &["push", &door.url, "main"]);
    for (name, filter, missing) in [
        ("none", "blob:none", 3),
        ("limit", "blob:limit=1k", 1),
        ("treeless", "tree:0", 1),
        ("both", "combine:blob:none+tree:2", 1),
    ] {
        work.git("", &["clone", "--no-checkout", &format!("--filter={filter}"), &door.url, name]);
        let listed = work.git(name, &["rev-list", "--objects", "--all", "--missing=print"]);
        let lacks = listed.lines().filter(|line| line.starts_with('?')).count();
        assert!(lacks >= missing, "{filter}: {listed}");
        work.git(name, &["checkout", "--quiet", "main"]);
        assert_eq!(fs::read_to_string(work.path(name).join("d/e/f")).unwrap(), "3\n");
    }
}

#[test]
fn pushes_are_forced_deleted_atomic_and_refused() {
    let Some(work) = Work::new() else { return };
    let door = start(&work);
    work.repository("one", &[("a", "1\n")]);
    work.git("one", &["push", &door.url, "main", "main:refs/heads/other/branch"]);
    let first = door.head("refs/heads/main");
    work.git("one", &["commit", "--quiet", "--amend", "--message=another"]);
    let fails = |arguments: &[&str]| {
        let output = std::process::Command::new("git").current_dir(work.path("one")).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} went well");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(fails(&["push", &door.url, "main"]).contains("rejected"));
    assert_eq!(door.head("refs/heads/main"), first);
    work.git("one", &["push", "--force", &door.url, "main"]);
    assert_ne!(door.head("refs/heads/main"), first);
    let told = fails(&["push", &door.url, ":main"]);
    assert!(told.contains("deletion of the current branch prohibited"), "{told}");
    let told = fails(&["push", &door.url, "main:refs/heads/kept"]);
    assert!(told.contains("it is kept"), "{told}");
    let told = fails(&["push", &door.url, "main:refs/heads/other"]);
    assert!(told.contains("a folder of this"), "{told}");
    fails(&["push", "--atomic", &door.url, "main:refs/heads/kept", "main:refs/heads/new"]);
    assert_eq!(door.head("refs/heads/new"), "");
    work.git("one", &["push", &door.url, ":refs/heads/other/branch"]);
    assert_eq!(door.head("refs/heads/other/branch"), "");
    work.git("one", &["tag", "--annotate", "--message=x", "v1"]);
    work.git("one", &["push", &door.url, "v1"]);
    let tag = door.repository.references().get("refs/tags/v1").unwrap();
    assert_eq!(tag.peeled.map(|id| id.to_string()), Some(door.head("refs/heads/main")));
    work.git("", &["clone", &door.url, "two"]);
    assert_eq!(work.git("two", &["describe"]), "v1");
    sound(&work);
}

#[test]
fn what_was_pushed_is_there_after_opening_it_again_and_in_one_pack() {
    let Some(work) = Work::new() else { return };
    let door = start(&work);
    work.repository("one", &[("a", "0\n")]);
    for n in 0..30 {
        work.write("one/a", &format!("{n}\n{}", "line\n".repeat(1000)));
        work.git("one", &["commit", "--quiet", "--all", &format!("--message={n}")]);
        work.git("one", &["push", "--quiet", &door.url, "main"]);
    }
    let packs = || {
        let names = fs::read_dir(work.path("served/objects/pack")).unwrap();
        names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".pack")).count()
    };
    assert!(packs() < 30, "{}", packs());
    fs::write(work.path("served/objects/pack/tmp-left"), "x").unwrap();
    let again = Repository::open(&work.path("served"), Limits::default()).unwrap();
    assert_eq!(
        again.references().get("refs/heads/main").unwrap().id.to_string(),
        work.git("one", &["rev-parse", "HEAD"])
    );
    again.repack().unwrap();
    assert_eq!(packs(), 1);
    assert!(!work.path("served/objects/pack/tmp-left").exists());
    sound(&work);
    drop(door);
    let door = Door::open(&work.path("served"), Format::Sha1, Limits::default());
    work.git("", &["clone", &door.url, "two"]);
    assert_eq!(work.git("two", &["rev-list", "--count", "HEAD"]), "31");
}

#[test]
fn hostile_packs_and_requests_are_refused_and_leave_nothing() {
    let Some(work) = Work::new() else { return };
    let limits = Limits { pack: 20_000, ..Limits::default() };
    let door = Door::open(&work.path("served"), Format::Sha1, limits);
    work.repository("one", &[("a", "1\n")]);
    // A tree that names the repository itself, made behind git's back.
    let blob = work.git("one", &["rev-parse", "HEAD:a"]);
    fs::write(work.path("one/tree"), format!("100644 blob {blob}\t.GIT\n")).unwrap();
    let tree = std::process::Command::new("git")
        .current_dir(work.path("one"))
        .args(["mktree"])
        .stdin(fs::File::open(work.path("one/tree")).unwrap())
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let commit = work.git("one", &["commit-tree", "-m", "x", tree.trim()]);
    let fails = |arguments: &[&str]| {
        let output = std::process::Command::new("git").current_dir(work.path("one")).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} went well");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = fails(&["push", &door.url, &format!("{commit}:refs/heads/bad")]);
    assert!(told.contains("the repository itself is not in it"), "{told}");
    // Content that does not compress.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(60_000)
    .collect();
    fs::write(work.path("one/noise"), noise).unwrap();
    work.git("one", &["add", "noise"]);
    work.git("one", &["commit", "--quiet", "--message=noise"]);
    fails(&["push", &door.url, "main"]);
    // A commit whose tree never comes.
    let body = format!("{} {} refs/heads/x\0report-status", "0".repeat(40), commit);
    let mut request = Vec::new();
    git::packet::line(&mut request, &body);
    git::packet::flush(&mut request);
    let client = |path: &str, request: Vec<u8>| {
        let address = door.url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /one.git/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            request.len()
        );
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        std::io::Write::write_all(&mut stream, &request).unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(client("git-receive-pack", request).contains("missing necessary objects"));
    assert!(client("git-receive-pack", b"zzzz".to_vec()).starts_with("HTTP/1.1 400"));
    assert!(client("git-upload-pack", b"0014command=explode\n0000".to_vec()).contains("ERR"));
    assert!(client("git-upload-pack", b"fff".to_vec()).contains("HTTP/1.1 200"));
    assert_eq!(door.repository.references().iter().count(), 0);
    let left = fs::read_dir(work.path("served/objects/pack")).unwrap().count();
    assert_eq!(left, 0, "packs are left");
}

#[test]
fn repositories_of_the_longer_hash_are_served_too() {
    let Some(work) = Work::new() else { return };
    let door = Door::open(&work.path("served"), Format::Sha256, Limits::default());
    fs::create_dir_all(work.path("one")).unwrap();
    work.git("one", &["init", "--quiet", "--object-format=sha256"]);
    work.write("one/a", "1\n");
    work.git("one", &["add", "."]);
    work.git("one", &["commit", "--quiet", "--message=one"]);
    work.git("one", &["push", &door.url, "main"]);
    work.git("", &["clone", &door.url, "two"]);
    assert_eq!(work.git("two", &["rev-parse", "HEAD"]).len(), 64);
    sound(&work);
}

/// Not a test of its own: the server that [`nothing_that_was_acknowledged_is_lost_when_the_server_is_killed`] kills.
#[test]
#[ignore = "started by another test"]
fn serves_until_it_is_killed() {
    let Some(path) = std::env::var_os("MADANG_TEST_SERVED") else { return };
    let door = Door::open(Path::new(&path), Format::Sha1, Limits::default());
    fs::write(Path::new(&path).join("url.new"), &door.url).unwrap();
    fs::rename(Path::new(&path).join("url.new"), Path::new(&path).join("url")).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_server_is_killed() {
    let Some(work) = Work::new() else { return };
    let served = work.path("served");
    fs::create_dir_all(&served).unwrap();
    work.repository("one", &[("a", "0\n")]);
    let (mut last, mut lost) = (String::new(), 0);
    for round in 0..25_u64 {
        let _gone = fs::remove_file(served.join("url"));
        let mut server = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "served::serves_until_it_is_killed", "--ignored"])
            .env("MADANG_TEST_SERVED", &served)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let url = loop {
            if let Ok(url) = fs::read_to_string(served.join("url")) {
                break url;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        work.write("one/a", &format!("{round}\n{}", "line\n".repeat(2000)));
        work.git("one", &["commit", "--quiet", "--all", &format!("--message={round}")]);
        let mut push = std::process::Command::new("git")
            .current_dir(work.path("one"))
            .args(["push", "--quiet", &url, "main"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // From before its first request to after its answer.
        std::thread::sleep(std::time::Duration::from_millis(round * 4));
        server.kill().unwrap();
        server.wait().unwrap();
        let acknowledged = push.wait().unwrap().success();
        let kept = Repository::open(&served, Limits::default()).unwrap();
        let head = kept.references().get("refs/heads/main").map(|target| target.id.to_string()).unwrap_or_default();
        let pushed = work.git("one", &["rev-parse", "HEAD"]);
        assert!(!acknowledged || head == pushed, "round {round}: acknowledged, and not there");
        // What was not acknowledged is there as a whole or not at all.
        assert!(head == last || head == pushed, "round {round}: {head} is neither the old nor the new commit");
        lost += u32::from(head != pushed);
        last = head;
        if !last.is_empty() {
            sound(&work);
        }
    }
    assert!(lost > 0, "no push was interrupted");
}

//! Clones over SSH of what `git` made, from a server whose `git-upload-pack` is `git`'s own.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use git::{
    Error,
    changes::between,
    clone::{Options, check_out, resolve},
    id::Id,
    remote::{Remote, Ways},
    ssh::{Access, Agent, Dial, Patience, Stream, hosts::Known, keys::Key},
};

use crate::{
    client::exchange,
    server::{Server, Work},
    sshd::{Like, Sshd},
};

const KEY: &str = include_str!("../../testdata/keys/ed25519");
const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKgzTaP1O59xnCMk1Jxv8/gh6KpCMgF1UcjblzBvmTOT";
const OTHER: &str = include_str!("../../testdata/keys/other");
const LOCKED: &str = include_str!("../../testdata/keys/locked");
const LOCKED_PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK8rO/gozIpQ8fiofSZWt1FbaKU6vbnzPSvU8dkwdBJJ";
const RSA: &str = include_str!("../../testdata/keys/rsa-pkcs1");
const RSA_PUBLIC: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDCQxMDw38oBqpN9XmKUcMvVlFeoZcyJXZWvUaYOWnFYL4Z7qVUz7hJl4jNK1xjDG0CkOFDBnh5zVvC3oO3Z35bjSfGNnd2OPW0HLZWUbVAFUKjNzj3nkFHdPCTdp1FIsJSw8GmGi0eiCrADoW6G9qH36ZpAY89OpmPGadbIiXg0s6YUgJJXmH3KkUqNvj926XEd55eANigDNcImIIwmz5LcOBNUmacev0TrZ3EJvJEN0AVKwuPUu4O8oZOaJD6tGq8ADYgee3Ve/z2YI3Trlf740l1ZV6xXquy0HqpjxyPr1r8DE7xOrtko2Jxwrgnx6KiALpLyq0IMdMOPFSjAErh";
const CURVE: &str = include_str!("../../testdata/keys/ecdsa-sec1");
const CURVE_PUBLIC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBhAA7E4ZvyJOXzhQJAU3VZ/s18GOsSi3A0zuc9goz/pUD1M0+iA6XyaGO4IQb4zbCKJe2pyoeSlAQtMZs3moTw=";

fn like(versions: bool) -> Like {
    let allowed = [PUBLIC, LOCKED_PUBLIC, RSA_PUBLIC, CURVE_PUBLIC].map(str::to_owned).to_vec();
    Like { versions, allowed }
}

fn dial() -> Dial {
    Arc::new(|host, port| {
        Box::pin(async move { Ok(Box::new(tokio::net::TcpStream::connect((host.as_str(), port)).await?) as Stream) })
    })
}

fn access(known: &str, key: &str) -> Access {
    Access {
        dial: dial(),
        user: None,
        keys: vec![Key::parse(key, None).unwrap()],
        agent: None,
        hosts: Known::parse(known, "the file of this test"),
        keyless: "give the test a key".to_owned(),
        patience: Patience { connect: Duration::from_secs(60), silence: Duration::from_secs(60) },
    }
}

fn ways(access: Access) -> Ways {
    Ways { web: exchange(), ssh: Some(Arc::new(access)) }
}

async fn clone(work: &Work, url: &str, name: &str, ways: &Ways, options: Options) -> Result<(Id, PathBuf), Error> {
    let remote = Remote::open(url, None, ways).await?;
    let resolved = resolve(&remote, name).await?;
    let into = tempfile::tempdir_in(work.0.path())?.keep();
    let scratch = work.path("scratch");
    fs::create_dir_all(&scratch)?;
    let commit = check_out(remote, &resolved, &into, &Options { scratch, ..options }, ways).await?;
    Ok((commit, into))
}

async fn refused(url: &str, ways: &Ways) -> String {
    match Remote::open(url, None, ways).await {
        Ok(remote) => panic!("{remote:?}: it was let in"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn branches_tags_and_commits_come_in_either_version_of_the_protocol() {
    let Some(work) = Work::new() else { return };
    let large: String = (0..40_000).map(|line| format!("line {line}\n")).collect();
    work.repository("a.git", &[("README", "one\n"), ("large", &large)]);
    let first = work.git("a.git", &["rev-parse", "HEAD"]);
    work.git("a.git", &["tag", "--annotate", "--message=v", "v1"]);
    work.write("a.git/README", "one and a half\n");
    work.git("a.git", &["commit", "--quiet", "--all", "--message=middle"]);
    let middle = work.git("a.git", &["rev-parse", "HEAD"]);
    work.write("a.git/README", "two\n");
    work.git("a.git", &["commit", "--quiet", "--all", "--message=second"]);
    work.git("a.git", &["branch", "feature/x"]);
    let second = work.git("a.git", &["rev-parse", "HEAD"]);
    for versions in [true, false] {
        let sshd = Sshd::start("127.0.0.1", work.0.path(), like(versions));
        let ways = ways(access(&sshd.line(), KEY));
        for (name, commit, readme) in [
            ("", &second, "two\n"),
            ("main", &second, "two\n"),
            ("feature/x", &second, "two\n"),
            ("v1", &first, "one\n"),
            (second.as_str(), &second, "two\n"),
            // No reference leads there directly.
            (middle.as_str(), &middle, "one and a half\n"),
        ] {
            let (id, place) = clone(&work, &sshd.url("a.git"), name, &ways, Options::default()).await.unwrap();
            assert_eq!(id.to_string(), *commit, "{name}");
            assert_eq!(fs::read_to_string(place.join("README")).unwrap(), readme, "{name}");
            assert_eq!(fs::read_to_string(place.join("large")).unwrap(), large, "{name}");
        }
        let missing = clone(&work, &sshd.url("a.git"), "nothing", &ways, Options::default()).await.unwrap_err();
        assert!(matches!(missing, Error::NoReference(_)), "{missing:?}");
        let nobodys = "1".repeat(40);
        assert!(clone(&work, &sshd.url("a.git"), &nobodys, &ways, Options::default()).await.is_err());
        // An id that the server does not have is an error of the second version, and the remote is none the worse.
        let remote = Remote::open(&sshd.url("a.git"), None, &ways).await.unwrap();
        let limits = git::Limits::default();
        let wrong = remote.fetch(&[Id::parse(&nobodys).unwrap()], None, &mut Vec::new(), &limits).await;
        assert_eq!(wrong.is_err(), versions);
        let mut pack = Vec::new();
        remote.fetch(&[Id::parse(&second).unwrap()], None, &mut pack, &limits).await.unwrap();
        assert!(pack.starts_with(b"PACK"));
        let history = between(&remote, Id::parse(&first).unwrap(), Id::parse(&second).unwrap(), work.0.path()).await;
        assert_eq!(history.unwrap().expect("it leaves files out").len(), 2);
        let ran = sshd.ran.lock().unwrap();
        assert!(ran.iter().all(|(command, _)| command == "git-upload-pack '/a.git'"), "{ran:?}");
        assert_eq!(ran[0].1.as_deref(), versions.then_some("version=2"));
        // Names and files come on one line, in the second version several packs; after an error, and after a first version's pack, a
        // new line is opened.
        assert_eq!(ran.len(), if versions { 10 } else { 11 });
    }
}

#[tokio::test]
async fn a_kept_repository_goes_on_as_git_does() {
    let Some(work) = Work::new() else { return };
    work.repository("a.git", &[("x", "1\n")]);
    let sshd = Sshd::start("127.0.0.1", work.0.path(), like(true));
    let options = Options { keep: true, ..Options::default() };
    let url = sshd.url("a.git");
    let (id, place) = clone(&work, &url, "main", &ways(access(&sshd.line(), KEY)), options).await.unwrap();
    let place = place.file_name().unwrap().to_str().unwrap();
    assert_eq!(work.git(place, &["rev-parse", "HEAD"]), id.to_string());
    assert_eq!(work.git(place, &["status", "--porcelain"]), "");
    assert_eq!(work.git(place, &["remote", "get-url", "origin"]), url);
}

#[tokio::test]
async fn keys_of_all_kinds_let_in_and_others_do_not() {
    let Some(work) = Work::new() else { return };
    work.repository("a.git", &[("x", "1")]);
    let sshd = Sshd::start("127.0.0.1", work.0.path(), like(true));
    let url = sshd.url("a.git");
    let with = |keys: Vec<Key>| ways(Access { keys, ..access(&sshd.line(), KEY) });
    let plain = |text: &str| Key::parse(text, None).unwrap();
    let locked = Key::read(LOCKED.to_owned(), Some("pass phrase".to_owned())).await.unwrap();
    for key in [plain(KEY), locked, plain(RSA), plain(CURVE)] {
        Remote::open(&url, None, &with(vec![plain(OTHER), key.clone()]))
            .await
            .unwrap_or_else(|e| panic!("{key:?}: {e}"));
    }
    let error = refused(&url, &with(vec![plain(OTHER)])).await;
    assert!(error.contains("takes none of the keys SHA256:") && error.contains("me@[127.0.0.1]"), "{error}");
    let error = refused(&url, &with(Vec::new())).await;
    assert!(error.contains("give the test a key"), "{error}");
    // Another user's door; who asks is said by the address, else by the credentials.
    let error = refused(&url.replace("me@", "you@"), &with(vec![plain(KEY)])).await;
    assert!(error.contains("you@"), "{error}");
    let nobody = url.replace("me@", "");
    assert!(refused(&nobody, &with(vec![plain(KEY)])).await.contains("git@"));
    let me = ways(Access { user: Some("me".to_owned()), ..access(&sshd.line(), KEY) });
    Remote::open(&nobody, None, &me).await.unwrap();
    assert!(refused(&url, &exchange().into()).await.contains("not fetched over SSH from here"));
}

#[derive(Clone)]
struct Willing;

impl russh::keys::agent::server::Agent for Willing {}

#[tokio::test]
async fn an_agents_keys_let_in() {
    let Some(work) = Work::new() else { return };
    work.repository("a.git", &[("x", "1")]);
    let sshd = Sshd::start("127.0.0.1", work.0.path(), like(true));
    let path = work.path("agent");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let accepted = futures::stream::unfold(listener, async |listener| {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    let serving = russh::keys::agent::server::serve(Box::pin(accepted), Willing);
    let asking = async {
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let mut client = russh::keys::agent::client::AgentClient::connect(stream);
        for key in [OTHER, RSA] {
            client.add_identity(&russh::keys::decode_secret_key(key, None).unwrap(), &[]).await.unwrap();
        }
        let agent: Agent = Arc::new(move || {
            let path = path.clone();
            Box::pin(async move { Ok(Some(Box::new(tokio::net::UnixStream::connect(path).await?) as Stream)) })
        });
        let with = |agent| ways(Access { keys: Vec::new(), agent: Some(agent), ..access(&sshd.line(), KEY) });
        Remote::open(&sshd.url("a.git"), None, &with(agent)).await.unwrap();
        let none: Agent = Arc::new(|| Box::pin(std::future::ready(Ok(None))));
        assert!(refused(&sshd.url("a.git"), &with(none)).await.contains("give the test a key"));
    };
    tokio::select! {
        _ = serving => panic!("the agent ended"),
        () = asking => {}
    }
}

#[tokio::test]
async fn a_host_is_believed_only_by_the_key_that_is_known() {
    let Some(work) = Work::new() else { return };
    work.repository("a.git", &[("x", "1")]);
    let sshd = Sshd::start("127.0.0.1", work.0.path(), like(true));
    let url = sshd.url("a.git");
    let fingerprint = sshd.host_key.fingerprint(Default::default()).to_string();
    let place = format!("[127.0.0.1]:{}", sshd.port);
    let mine = sshd.line();
    let portless = mine.replace(&place, "127.0.0.1");
    for unknown in ["", &portless, &format!("@cert-authority {mine}")] {
        let error = refused(&url, &ways(access(unknown, KEY))).await;
        assert!(error.contains("is not known") && error.contains(&fingerprint), "{unknown:?}: {error}");
        assert!(error.contains(&place) && error.contains("the file of this test"), "{error}");
    }
    let error = refused(&url, &ways(access(&format!("{place} {PUBLIC}\n"), KEY))).await;
    assert!(error.contains("not the one that is known") && error.contains(&fingerprint), "{error}");
    let error = refused(&url, &ways(access(&format!("{mine}@revoked {mine}"), KEY))).await;
    assert!(error.contains("revoked"), "{error}");
    assert!(sshd.ran.lock().unwrap().is_empty(), "something ran");
    // Of its kinds of keys the one that is known is asked for, and a line of another kind is of no use.
    let error = refused(&url, &ways(access(&format!("{place} {CURVE_PUBLIC}\n"), KEY))).await;
    assert!(error.contains("not the one that is known"), "{error}");
    Remote::open(&url, None, &ways(access(&format!("{place} {PUBLIC}\n{mine}"), KEY))).await.unwrap();
}

#[tokio::test]
async fn paths_are_what_they_say_whatever_the_shell_makes_of_them() {
    let Some(work) = Work::new() else { return };
    let sshd = Sshd::start("127.0.0.1", work.0.path(), like(true));
    let ways = ways(access(&sshd.line(), KEY));
    for name in ["a b.git", "it's.git", "$(touch made)`touch made`.git", "a!b\"c\\d.git", ";touch made;.git", "é.git"]
    {
        work.repository(name, &[("x", name)]);
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let short = format!("me@[127.0.0.1:{}]:{name}", sshd.port);
        for url in [sshd.url(&encoded), short] {
            let (_, place) = clone(&work, &url, "", &ways, Options::default()).await.unwrap();
            assert_eq!(fs::read_to_string(place.join("x")).unwrap(), name, "{url}");
        }
    }
    assert!(!work.path("made").exists(), "a shell took a path for a command");
    let ran = sshd.ran.lock().unwrap().len();
    for url in ["ssh://-oProxyCommand=touch%20made/a", "-oProxyCommand=touch made:a", "me@127.0.0.1:-upload-pack=x"] {
        assert!(refused(url, &ways).await.contains("option"), "{url}");
    }
    assert_eq!(sshd.ran.lock().unwrap().len(), ran);
    let error = refused(&sshd.url("none.git"), &ways).await;
    assert!(error.contains("does not appear to be a git repository") && error.contains("128"), "{error}");
}

#[tokio::test]
async fn submodules_come_from_where_they_are_with_the_same_key() {
    let Some(work) = Work::new() else { return };
    let sshd = Sshd::start("127.0.0.1", work.0.path(), like(true));
    let server = Server::start(work.0.path());
    work.repository("lib.git", &[("lib", "l")]);
    work.repository("web.git", &[("web", "w")]);
    // `git` itself does not come in here: what it would write is written.
    let modules = |name: &str, lines: &[(&str, &str)]| {
        work.repository(name, &[("app", "a")]);
        let entry = |(path, url): &(&str, &str)| format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        work.write(&format!("{name}/.gitmodules"), &lines.iter().map(entry).collect::<String>());
        for (path, _) in lines {
            let id = work.git(if *path == "web" { "web.git" } else { "lib.git" }, &["rev-parse", "HEAD"]);
            work.git(name, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},{path}")]);
        }
        work.git(name, &["add", ".gitmodules"]);
        work.git(name, &["commit", "--quiet", "--message=with"]);
    };
    let short = format!("me@[127.0.0.1:{}]:lib.git", sshd.port);
    modules("app.git", &[("relative", "../lib.git"), ("whole", &sshd.url("lib.git")), ("short", &short)]);
    let ways = ways(access(&sshd.line(), KEY));
    // Over HTTP, too, a submodule may be one of SSH.
    for url in [sshd.url("app.git"), format!("me@[127.0.0.1:{}]:app.git", sshd.port), format!("{}/app.git", server.url)]
    {
        let (_, place) = clone(&work, &url, "", &ways, Options::default()).await.unwrap();
        for path in ["relative", "whole", "short"] {
            assert_eq!(fs::read_to_string(place.join(path).join("lib")).unwrap(), "l", "{url}: {path}");
        }
    }
    modules("less.git", &[("web", &format!("{}/web.git", server.url))]);
    let error = clone(&work, &sshd.url("less.git"), "", &ways, Options::default()).await.unwrap_err().to_string();
    assert!(error.contains("less safe"), "{error}");
}

#[tokio::test]
async fn servers_that_say_nothing_or_nonsense_are_not_waited_for() {
    let patience = Patience { connect: Duration::from_millis(300), silence: Duration::from_millis(300) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Connections wait in the kernel, and nobody ever takes them.
    let quiet = ways(Access { patience, ..access("", KEY) });
    let url = format!("ssh://me@127.0.0.1:{port}/a");
    let error = refused(&url, &quiet).await;
    assert!(error.contains("does not answer"), "{error}");
    for nonsense in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"",
        &[b'x'; 100_000],
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let answer = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // Whoever asked may have gone.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, nonsense).await;
            }
        };
        tokio::select! {
            error = refused(&url, &quiet) => assert!(error.contains("127.0.0.1"), "{error}"),
            () = answer => {}
        }
    }
    let nobody: Dial = Arc::new(|_, _| Box::pin(std::future::ready(Err(std::io::ErrorKind::ConnectionRefused.into()))));
    let error = refused(&url, &ways(Access { dial: nobody, ..access("", KEY) })).await;
    assert!(error.contains("connect to 127.0.0.1"), "{error}");
}

//! Files of the web and repositories, as `ADD` and contexts ask for them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use build::{
    client::Given,
    source::{Fetch, Fetched, Fetching, Remote, fetch, fetch_context},
};

use crate::{
    repositories::{Server, Work},
    web::{Web, answer},
};

fn fetching(directory: &Path, secrets: &[(&str, &str)]) -> Fetching {
    let secrets: BTreeMap<String, Vec<u8>> =
        secrets.iter().map(|(id, secret)| ((*id).to_owned(), secret.as_bytes().to_vec())).collect();
    let client = Arc::new(Given { secrets, ..Given::default() });
    Fetching {
        directory: directory.to_owned(),
        trust: image::pull::Trust::Configured,
        registries: Default::default(),
        client,
        abroad: false,
    }
}

fn remote(text: String) -> Remote {
    Remote { text, ..Remote::default() }
}

fn content(fetched: &Fetched) -> String {
    fs::read_to_string(fetched.directory.join(fetched.file.as_deref().unwrap())).unwrap()
}

#[tokio::test]
async fn a_file_has_its_name_its_mode_and_the_time_of_its_last_change() {
    let place = tempfile::tempdir().unwrap();
    let web = Web::start(|asked| match asked.path.as_str() {
        "/dated.txt?x=1" => answer("200 OK\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "dated"),
        "/" => answer("200 OK\r\nContent-Disposition: attachment; filename=\"../named\"", "named"),
        "/moved" => answer("302 Found\r\nLocation: /dated.txt?x=1", ""),
        _ => answer("200 OK", "plain"),
    });
    let how = fetching(place.path(), &[]);
    for (path, name, text, time) in [
        ("/dated.txt?x=1", "dated.txt", "dated", 784_111_777),
        ("/", "named", "named", 0),
        ("/moved", "moved", "dated", 784_111_777),
        ("/a%20b", "a b", "plain", 0),
    ] {
        let fetched = fetch(&how, &remote(format!("{}{path}", web.url))).await.unwrap();
        assert_eq!((fetched.file.as_deref(), content(&fetched).as_str()), (Some(name), text), "{path}");
        let status = fs::metadata(fetched.directory.join(name)).unwrap();
        assert_eq!((status.mode() & 0o7777, status.mtime()), (0o600, time), "{path}");
    }
}

#[tokio::test]
async fn an_unchanged_file_is_not_fetched_again_and_a_changed_one_is() {
    let place = tempfile::tempdir().unwrap();
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let web = Web::start(move |asked| {
        let tag = format!("\"v{}\"", now.load(Ordering::SeqCst));
        match asked.header("if-none-match") {
            Some(known) if known == tag => answer("304 Not Modified", ""),
            _ => answer(&format!("200 OK\r\nETag: {tag}"), &tag),
        }
    });
    let how = fetching(place.path(), &[]);
    let source = remote(format!("{}/x", web.url));
    let first = fetch(&how, &source).await.unwrap();
    let second = fetch(&how, &source).await.unwrap();
    assert_eq!((first.directory, first.identity), (second.directory.clone(), second.identity.clone()));
    version.store(2, Ordering::SeqCst);
    let third = fetch(&how, &source).await.unwrap();
    assert_eq!(content(&third), "\"v2\"");
    assert_ne!(second.identity, third.identity);
    assert_eq!(content(&second), "\"v1\"");
    assert_eq!(web.count(), 3);
    // With a checksum nobody is asked.
    let hash = oci::Digest::sha256(b"\"v2\"").to_string();
    fetch(&how, &Remote { checksum: Some(hash), ..source.clone() }).await.unwrap();
    assert_eq!(web.count(), 3);
}

#[tokio::test]
async fn what_is_not_as_promised_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let web = Web::start(|asked| match asked.path.as_str() {
        "/short" => answer("200 OK\r\nContent-Length: 10", "short"),
        "/huge" => answer("200 OK\r\nContent-Length: 99999999999999", ""),
        "/circle" => answer("302 Found\r\nLocation: /circle", ""),
        "/file" => answer("302 Found\r\nLocation: file:///etc/passwd", ""),
        "/gone" => answer("404 Not Found", "x"),
        _ => answer("200 OK", "good"),
    });
    let how = fetching(place.path(), &[]);
    for (path, checksum, says) in [
        ("/short", None, ""),
        ("/huge", None, "at most"),
        ("/circle", None, "redirects more than"),
        ("/file", None, ""),
        ("/gone", None, "invalid response status 404"),
        ("/good", Some(format!("sha256:{}", "0".repeat(64))), "digest mismatch"),
        ("/good", Some("md5:0".to_owned()), "invalid checksum"),
        ("/good", Some("abc".to_owned()), "invalid checksum"),
        ("/r.git?nothing=1", None, "unexpected query"),
    ] {
        let source = Remote { checksum, ..remote(format!("{}{path}", web.url)) };
        let error = format!("{:#}", fetch(&how, &source).await.unwrap_err());
        assert!(error.contains(says) && error.contains(path), "{path}: {error}");
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (text, says) in [
        ("git://host/a", "https://"),
        ("ssh://git@-oProxyCommand=x/a", "option"),
        (&format!("ssh://git@127.0.0.1:{port}/a"), "connect to 127.0.0.1"),
    ] {
        let error = format!("{:#}", fetch(&how, &remote(text.to_owned())).await.unwrap_err());
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(fs::read_dir(place.path().join("under-way")).unwrap().count(), 0, "something half-made is left");
}

#[tokio::test]
async fn credentials_are_shown_to_their_host_alone_and_what_they_brought_is_not_kept() {
    let place = tempfile::tempdir().unwrap();
    let other = Web::start(|asked| answer("200 OK", asked.header("authorization").unwrap_or("nothing")));
    let elsewhere = format!("302 Found\r\nLocation: {}/x", other.url);
    let web = Web::start(move |asked| match asked.path.as_str() {
        "/moved" => answer(&elsewhere, ""),
        _ => answer("200 OK", asked.header("authorization").unwrap_or("nothing")),
    });
    let how = fetching(place.path(), &[("HTTP_AUTH_TOKEN_127.0.0.1", "secret")]);
    let shown = fetch(&how, &remote(format!("{}/x", web.url))).await.unwrap();
    assert_eq!(content(&shown), "Bearer secret");
    let path = shown.directory.clone();
    drop(shown);
    assert!(!path.exists(), "what came with a token was kept");
    let moved = fetch(&how, &remote(format!("{}/moved", web.url))).await.unwrap();
    assert_eq!(content(&moved), "nothing");
    let how = fetching(place.path(), &[]);
    let user = web.url.replace("http://", "http://user:pass@");
    assert_eq!(content(&fetch(&how, &remote(format!("{user}/x"))).await.unwrap()), "Basic dXNlcjpwYXNz");
}

#[tokio::test]
async fn repositories_are_kept_by_commit_and_asked_for_what_their_names_lead_to() {
    let Some(work) = Work::new() else { return };
    let place = tempfile::tempdir().unwrap();
    work.repository("a.git", &[("docs/x", "one"), ("y", "y")]);
    let first = work.git("a.git", &["rev-parse", "HEAD"]);
    let server = Server::start(work.0.path());
    let how = fetching(place.path(), &[]);
    let source = remote(format!("{}/a.git#main:docs", server.url));
    let one = fetch(&how, &source).await.unwrap();
    assert_eq!(fs::read_to_string(one.directory.join("x")).unwrap(), "one");
    assert_eq!(one.file, None);
    let again = fetch(&how, &source).await.unwrap();
    assert_eq!((&one.directory, &one.identity), (&again.directory, &again.identity));
    work.write("a.git/docs/x", "two");
    work.git("a.git", &["commit", "--quiet", "--all", "--message=second"]);
    let two = fetch(&how, &source).await.unwrap();
    assert_eq!(fs::read_to_string(two.directory.join("x")).unwrap(), "two");
    let short = Remote { checksum: Some(first[..7].to_owned()), ..source.clone() };
    let error = format!("{:#}", fetch(&how, &short).await.unwrap_err());
    assert!(error.contains("expected checksum to match"), "{error}");
    let fixed = Remote { checksum: Some(first[..7].to_owned()), ..remote(format!("{}/a.git#{first}", server.url)) };
    let kept = Remote { keep_git_dir: Some(true), ..fixed.clone() };
    let fixed = fetch(&how, &fixed).await.unwrap();
    assert_eq!(fs::read_to_string(fixed.directory.join("docs/x")).unwrap(), "one");
    let kept = fetch(&how, &kept).await.unwrap();
    assert!(kept.directory.join(".git/HEAD").exists() && !fixed.directory.join(".git").exists());
}

#[tokio::test]
async fn a_context_is_a_repository_an_archive_or_a_dockerfile() {
    let Some(work) = Work::new() else { return };
    let place = tempfile::tempdir().unwrap();
    work.repository("a.git", &[("Dockerfile", "FROM scratch\n")]);
    let server = Server::start(work.0.path());
    let web = Web::start(|asked| match asked.path.as_str() {
        "/archive" => answer("200 OK", [0x1f, 0x8b, 8, 0]),
        "/binary" => answer("200 OK", [0xff, 0xfe, 0]),
        _ => answer("200 OK", "FROM scratch\n"),
    });
    let how = fetching(place.path(), &[]);
    let how = &how;
    let context = async |text: String| fetch_context(how, &text).await;
    assert!(matches!(context(format!("{}/a.git", server.url)).await.unwrap(), Fetch::Directory(_)));
    assert!(matches!(context(format!("{}/archive", web.url)).await.unwrap(), Fetch::Archive(_)));
    assert!(
        matches!(context(format!("{}/Dockerfile", web.url)).await.unwrap(), Fetch::Dockerfile(text) if text == "FROM scratch\n")
    );
    assert!(context(format!("{}/binary", web.url)).await.is_err());
}

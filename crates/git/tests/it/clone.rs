//! Clones of what `git` made.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use git::{
    Error, Limits,
    clone::{Options, check_out, resolve},
    id::Id,
    remote::Remote,
};

use crate::{
    client::exchange,
    server::{Server, Work},
};

struct Clone<'a> {
    server: &'a Server,
    work: &'a Work,
    repository: &'a str,
    name: &'a str,
    options: Options,
}

impl Clone<'_> {
    async fn run(self, into: &str) -> Result<(Id, PathBuf), Error> {
        let url = format!("{}/{}", self.server.url, self.repository);
        let ways = exchange().into();
        let remote = Remote::open(&url, None, &ways).await?;
        let resolved = resolve(&remote, self.name).await?;
        let (into, scratch) = (self.work.path(into), self.work.path("scratch"));
        fs::create_dir_all(&into)?;
        fs::create_dir_all(&scratch)?;
        let options = Options { scratch, ..self.options };
        let commit = check_out(remote, &resolved, &into, &options, &ways).await?;
        assert_eq!(fs::read_dir(&options.scratch)?.count(), 0, "packs are left");
        Ok((commit, into))
    }
}

fn clone<'a>(server: &'a Server, work: &'a Work, repository: &'a str, name: &'a str) -> Clone<'a> {
    Clone { server, work, repository, name, options: Options::default() }
}

fn read(place: &Path, name: &str) -> String {
    fs::read_to_string(place.join(name)).unwrap()
}

fn names(place: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn branches_tags_commits_and_heads_are_checked_out() {
    let Some(work) = Work::new() else { return };
    let large: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    work.repository("a.git", &[("README", "one\n"), ("src/main.c", "int main;\n"), ("large", &large)]);
    let first = work.git("a.git", &["rev-parse", "HEAD"]);
    work.git("a.git", &["tag", "--annotate", "--message=v", "v1"]);
    work.git("a.git", &["tag", "light"]);
    symlink("/etc/passwd", work.path("a.git/link")).unwrap();
    work.write("a.git/run.sh", "#!/bin/sh\n");
    fs::set_permissions(work.path("a.git/run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    work.write("a.git/README", "two\n");
    work.write("a.git/large", &large.replace("line 77\n", "line seventy-seven\n"));
    work.git("a.git", &["add", "--all"]);
    work.git("a.git", &["commit", "--quiet", "--message=second"]);
    work.git("a.git", &["branch", "feature/x"]);
    work.git("a.git", &["update-ref", "refs/pull/42/head", &first]);
    work.git("a.git", &["gc", "--quiet"]);
    let second = work.git("a.git", &["rev-parse", "HEAD"]);
    let server = Server::start(work.0.path());
    let cases = [
        ("", &second, "two\n"),
        ("main", &second, "two\n"),
        ("feature/x", &second, "two\n"),
        ("refs/heads/main", &second, "two\n"),
        ("v1", &first, "one\n"),
        ("refs/tags/v1", &first, "one\n"),
        ("light", &first, "one\n"),
        ("pull/42/head", &first, "one\n"),
        (first.as_str(), &first, "one\n"),
    ];
    for (at, (name, commit, readme)) in cases.into_iter().enumerate() {
        let (id, place) = clone(&server, &work, "a.git", name).run(&format!("out-{at}")).await.unwrap();
        assert_eq!((id.to_string(), read(&place, "README")), (commit.clone(), readme.to_owned()), "{name}");
    }
    let place = work.path("out-0");
    assert_eq!(names(&place), ["README", "large", "link", "run.sh", "src"]);
    assert_eq!(read(&place, "large"), read(&work.path("a.git"), "large"));
    assert_eq!(fs::read_link(place.join("link")).unwrap(), Path::new("/etc/passwd"));
    let mode = |name: &str| fs::metadata(place.join(name)).unwrap().mode() & 0o7777;
    assert_eq!([mode("run.sh"), mode("README"), mode("src")], [0o755, 0o644, 0o755]);
    for missing in ["nothing", "refs/heads/v1", "0123456", "-x", "a b", &"1".repeat(40)] {
        let error = clone(&server, &work, "a.git", missing).run("none").await.unwrap_err();
        let known = matches!(error, Error::NoReference(_) | Error::Remote(_));
        assert!(known, "{missing}: {error:?}");
    }
    let error = clone(&server, &work, "b.git", "").run("none").await.unwrap_err();
    assert!(matches!(error, Error::Refused { status, .. } if status == 404), "{error:?}");
}

#[tokio::test]
async fn a_subdirectory_and_the_time_of_the_commit_are_taken() {
    let Some(work) = Work::new() else { return };
    work.repository("a.git", &[("docs/deep/a.md", "a"), ("docs/b.md", "b"), ("c", "c")]);
    symlink("docs", work.path("a.git/alias")).unwrap();
    work.git("a.git", &["add", "--all"]);
    work.git("a.git", &["commit", "--quiet", "--amend", "--no-edit"]);
    let time: i64 = work.git("a.git", &["log", "-1", "--format=%ct"]).parse().unwrap();
    let server = Server::start(work.0.path());
    let sub = |path: &str| Options { subdirectory: path.to_owned(), commit_time: true, ..Options::default() };
    let (_, place) = Clone { options: sub("docs"), ..clone(&server, &work, "a.git", "") }.run("out").await.unwrap();
    assert_eq!(names(&place), ["b.md", "deep"]);
    for name in ["b.md", "deep", "deep/a.md", ""] {
        assert_eq!(fs::metadata(place.join(name)).unwrap().mtime(), time, "{name}");
    }
    for path in ["c", "alias", "none", ".."] {
        let error = Clone { options: sub(path), ..clone(&server, &work, "a.git", "") }.run("out-2").await.unwrap_err();
        assert!(error.to_string().contains("invalid subdir"), "{error}");
    }
}

#[tokio::test]
async fn a_kept_repository_is_clean_and_whole_to_git() {
    let Some(work) = Work::new() else { return };
    work.repository("a.git", &[("x/y", "1\n"), ("run", "#!/bin/sh\n")]);
    work.write("a.git/x/y", "2\n");
    work.git("a.git", &["commit", "--quiet", "--all", "--message=second"]);
    work.git("a.git", &["tag", "--annotate", "--message=v", "v1"]);
    work.git("a.git", &["gc", "--quiet"]);
    let server = Server::start(work.0.path());
    let options = Options { keep: true, ..Options::default() };
    let (id, _) = Clone { options, ..clone(&server, &work, "a.git", "v1") }.run("out").await.unwrap();
    assert_eq!(work.git("out", &["rev-parse", "HEAD"]), id.to_string());
    assert_eq!(work.git("out", &["rev-parse", "refs/tags/v1^{commit}"]), id.to_string());
    assert_eq!(work.git("out", &["status", "--porcelain"]), "");
    work.git("out", &["fsck", "--strict"]);
    assert_eq!(work.git("out", &["log", "--format=%s"]), "second");
    assert_eq!(work.git("out", &["remote", "get-url", "origin"]), format!("{}/a.git", server.url));
    // The clone goes on from here as any other.
    work.git("out", &["fetch", "--quiet", "--unshallow"]);
    assert_eq!(work.git("out", &["log", "--format=%s"]), "second\nfirst");
}

#[tokio::test]
async fn submodules_come_along_from_their_own_remotes() {
    let Some(work) = Work::new() else { return };
    work.repository("inner.git", &[("inner", "i")]);
    work.repository("lib.git", &[("lib", "l")]);
    let server = Server::start(work.0.path());
    let inner = format!("{}/inner.git", server.url);
    work.git("lib.git", &["submodule", "--quiet", "add", &inner, "deps/inner"]);
    work.git("lib.git", &["commit", "--quiet", "--message=with"]);
    work.repository("app.git", &[("sub/app", "a")]);
    work.git("app.git", &["submodule", "--quiet", "add", "../lib.git", "sub/lib"]);
    work.git("app.git", &["commit", "--quiet", "--message=with"]);
    let (_, place) = clone(&server, &work, "app.git", "").run("out").await.unwrap();
    assert_eq!(read(&place, "sub/lib/deps/inner/inner"), "i");
    let skip = Options { skip_modules: true, ..Options::default() };
    let (_, place) = Clone { options: skip, ..clone(&server, &work, "app.git", "") }.run("skipped").await.unwrap();
    assert_eq!(names(&place.join("sub/lib")), [""; 0]);
    let sub = Options { subdirectory: "sub".to_owned(), ..Options::default() };
    let (_, place) = Clone { options: sub, ..clone(&server, &work, "app.git", "") }.run("sub").await.unwrap();
    assert_eq!((read(&place, "lib/lib"), read(&place, "app")), ("l".to_owned(), "a".to_owned()));
    let few = Options { limits: Limits { modules: 1, ..Limits::default() }, ..Options::default() };
    let error = Clone { options: few, ..clone(&server, &work, "app.git", "") }.run("few").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn trees_that_were_made_to_deceive_stay_in_their_directory() {
    let Some(work) = Work::new() else { return };
    work.repository("a.git", &[("x", "1")]);
    work.git("a.git", &["config", "http.receivepack", "true"]);
    let blob = work.git("a.git", &["rev-parse", "HEAD:x"]);
    work.write("target", "../escaped");
    let link = work.git("a.git", &["hash-object", "-w", "../target"]);
    let below = work.git("a.git", &["rev-parse", "HEAD^{tree}"]);
    let raw = |id: &str| Id::parse(id).unwrap().bytes().to_vec();
    let entry = |mode: &str, name: &str, id: &str| [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &raw(id)].concat();
    let trees = [
        // A link, and a directory of the same name to write through it.
        ("twice", [entry("120000", "d", &link), entry("40000", "d", &below)].concat()),
        ("up", entry("100644", "..", &blob)),
        ("path", entry("100644", "../escaped", &blob)),
        ("hooks", entry("40000", ".GIT", &below)),
    ];
    for (branch, tree) in trees {
        fs::write(work.path("tree"), tree).unwrap();
        let tree = work.git("a.git", &["hash-object", "-w", "-t", "tree", "--literally", "../tree"]);
        let commit = work.git("a.git", &["commit-tree", "-m", branch, &tree]);
        work.git("a.git", &["update-ref", &format!("refs/heads/{branch}"), &commit]);
    }
    let server = Server::start(work.0.path());
    fs::create_dir(work.path("escaped")).unwrap();
    for branch in ["twice", "up", "path", "hooks"] {
        let result = clone(&server, &work, "a.git", branch).run(&format!("in-{branch}")).await;
        assert!(matches!(result, Err(Error::Invalid(_))), "{branch}: {result:?}");
    }
    assert_eq!(names(&work.path("escaped")), [""; 0]);
    let limits = Limits { checkout: 0, ..Limits::default() };
    let small = Options { limits, ..Options::default() };
    let result = Clone { options: small, ..clone(&server, &work, "a.git", "") }.run("small").await;
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    let limits = Limits { pack: 10, ..Limits::default() };
    let small = Options { limits, ..Options::default() };
    let result = Clone { options: small, ..clone(&server, &work, "a.git", "") }.run("small-2").await;
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
}

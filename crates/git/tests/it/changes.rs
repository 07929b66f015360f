//! What has happened between commits that `git` made.

use git::{
    changes::{How, between},
    id::Id,
    remote::Remote,
};

use crate::{
    client::exchange,
    server::{Server, Work},
};

#[tokio::test]
async fn what_commits_have_changed_is_told_newest_first_without_fetching_files() {
    let Some(work) = Work::new() else { return };
    work.repository(
        "a.git",
        &[("README", "one\n"), ("src/main.c", "int main;\n"), ("src/old/gone.c", "x\n"), ("was", "file\n")],
    );
    let first = work.git("a.git", &["rev-parse", "HEAD"]);
    work.write("a.git/README", "two\n");
    work.write("a.git/src/new.c", "int new;\n");
    work.git("a.git", &["add", "--all"]);
    work.git("a.git", &["commit", "--quiet", "--message=Say more\n\nA second paragraph."]);
    let second = work.git("a.git", &["rev-parse", "HEAD"]);
    work.git("a.git", &["checkout", "--quiet", "-b", "side", &first]);
    work.git("a.git", &["rm", "--quiet", "-r", "src/old", "was"]);
    work.write("a.git/was/a", "directory\n");
    work.git("a.git", &["add", "--all"]);
    work.git(
        "a.git",
        &["-c", "user.name=B C", "-c", "user.email=b@example.org", "commit", "--quiet", "--message=Side"],
    );
    let side = work.git("a.git", &["rev-parse", "HEAD"]);
    work.git("a.git", &["checkout", "--quiet", "main"]);
    work.git("a.git", &["merge", "--quiet", "--no-ff", "--message=merge", "side"]);
    let merged = work.git("a.git", &["rev-parse", "HEAD"]);
    let server = Server::start(work.0.path());
    let scratch = tempfile::tempdir().unwrap();
    let told = async |old: &str, new: &str| {
        let remote = Remote::open(&format!("{}/a.git", server.url), None, &exchange().into()).await.unwrap();
        let (old, new) = (Id::parse(old).unwrap(), Id::parse(new).unwrap());
        between(&remote, old, new, scratch.path()).await.unwrap().expect("the server leaves files out")
    };
    let all = told(&first, &merged).await;
    let mut ids: Vec<String> = all.iter().map(|change| change.id.to_string()).collect();
    ids.sort();
    let mut expected = [second.clone(), side.clone()];
    expected.sort();
    assert_eq!(ids, expected, "merges are not told of");
    let of = |id: &str| all.iter().find(|change| change.id.to_string() == *id).unwrap();
    let paths = |id: &str| of(id).paths.iter().map(|(how, path)| (*how, path.as_str())).collect::<Vec<_>>();
    assert_eq!(paths(&second), [(How::Modified, "README"), (How::Added, "src/new.c")]);
    assert_eq!(paths(&side), [(How::Removed, "src/old/gone.c"), (How::Added, "was/a"), (How::Removed, "was")]);
    assert_eq!(of(&second).message, "Say more\n\nA second paragraph.\n");
    assert_eq!((of(&side).author.as_str(), of(&side).email.as_str()), ("B C", "b@example.org"));
    assert_eq!(told(&merged, &merged).await, []);
    // Back: nothing that the old does not lead to.
    assert_eq!(told(&merged, &first).await, []);
    // A branch that was thrown away and made anew.
    assert_eq!(told(&second, &side).await.len(), 1);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

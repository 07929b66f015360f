//! Mounts of steps, as files of this machine. They need root.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, PermissionsExt, symlink},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use build::{
    client::{Client, Given, Held},
    dockerfile::Mount,
    ignore::Ignore,
    mounts::{Ground, Made, Ready, prepare},
    tree::Tree,
};
use task::Task;

struct Place {
    directory: tempfile::TempDir,
    ignore: &'static str,
    given: Given,
}

impl Place {
    /// None without root; that is an error in CI.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "no root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        for name in ["context/sub", "stage/sub", "upper/sub", "scratch", "caches"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let place = Self { directory, ignore: "", given: Given::default() };
        place.write("context/sub/a", "context");
        place.write("context/secret.env", "ignored");
        place.write("stage/sub/a", "stage");
        place.write("stage/sub/b", "below");
        place.write("upper/sub/a", "above");
        symlink("/sub", place.path("stage/link")).unwrap();
        symlink("../../../../../../../../etc", place.path("stage/out")).unwrap();
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn prepare(&self, mounts: &[&str]) -> anyhow::Result<Ready> {
        let context = OwnedFd::from(fs::File::open(self.path("context"))?);
        let context = Arc::new(Tree::context(context, Ignore::parse(self.ignore).unwrap(), Vec::new()));
        let origins = BTreeMap::from([
            (
                "stage".to_owned(),
                Arc::new(Tree::layers(vec![self.path("upper"), self.path("stage")], "stage".into(), Vec::new())),
            ),
            ("one".to_owned(), Arc::new(Tree::layers(vec![self.path("stage")], "one".into(), Vec::new()))),
        ]);
        let client: Arc<dyn Client> = Arc::new(self.given.clone());
        let task = Task::root("test");
        let scratch = tempfile::tempdir_in(self.path("scratch"))?.keep();
        let ground = Ground {
            caches: self.path("caches"),
            realm: "",
            scratch,
            context: &context,
            origins: &origins,
            client: &client,
            working_dir: "/work",
            task: &task,
            users: None,
        };
        let mounts: Vec<Mount> =
            mounts.iter().map(|text| Mount::parse(text, &|text| Ok(text.to_owned())).unwrap()).collect();
        prepare(&ground, &mounts).await
    }

    async fn one(&self, mount: &str) -> (Ready, PathBuf, String, bool) {
        let ready = self.prepare(&[mount]).await.unwrap();
        let [Made::Bind { source, target, read_only, .. }] = ready.mounts.as_slice() else {
            panic!("{mount}: {:?}", ready.mounts)
        };
        let (source, target, read_only) = (source.clone(), target.clone(), *read_only);
        (ready, source, target, read_only)
    }

    async fn error(&self, mount: &str) -> String {
        match self.prepare(&[mount]).await {
            Ok(ready) => panic!("{mount}: {:?}", ready.mounts),
            Err(error) => format!("{error:#}"),
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn binds_show_the_context_a_stage_or_an_image_and_stay_within() {
    let Some(mut place) = Place::new() else { return };
    let (ready, source, target, read_only) = place.one("target=src").await;
    assert_eq!((read(&source.join("sub/a")).as_str(), target.as_str(), read_only), ("context", "/work/src", true));
    drop(ready);
    for (mount, name, text) in [
        ("from=stage,target=/s", "sub/a", "above"),
        ("from=stage,target=/s", "sub/b", "below"),
        ("from=stage,source=sub,target=/s", "a", "above"),
        ("from=stage,source=/link/../sub/a,target=/s", "", "above"),
        ("from=one,source=link,target=/s", "b", "below"),
    ] {
        let (ready, source, _, _) = place.one(mount).await;
        let path = if name.is_empty() { source } else { source.join(name) };
        assert_eq!(read(&path), text, "{mount}");
        assert!(fs::write(&path, "x").is_err(), "{mount} is writable");
        drop(ready);
        assert!(!path.exists(), "{mount} stays");
    }
    for (mount, says) in [
        ("from=stage,source=none,target=/s", "no such file"),
        ("from=stage,source=/out,target=/s", "no such file"),
        ("from=nobody,target=/s", "neither a stage"),
        ("target=/", "invalid mount target"),
    ] {
        let error = place.error(mount).await;
        assert!(error.contains(says), "{mount}: {error}");
    }
    // What is ignored is not seen, whoever owns the files of a context, they are root's.
    place.ignore = "*.env\nsub\n!sub/a";
    std::os::unix::fs::chown(place.path("context/sub/a"), Some(1234), Some(1234)).unwrap();
    let (_ready, source, _, _) = place.one("target=/s").await;
    assert!(!source.join("secret.env").exists());
    assert_eq!(fs::metadata(source.join("sub/a")).unwrap().uid(), 0);
}

#[tokio::test]
async fn writes_to_a_bind_are_thrown_away() {
    let Some(place) = Place::new() else { return };
    for mount in ["target=/s,rw", "from=stage,target=/s,rw", "from=one,target=/s,rw"] {
        let (ready, source, _, read_only) = place.one(mount).await;
        assert!(!read_only);
        fs::write(source.join("sub/a"), "changed").unwrap();
        fs::write(source.join("new"), "new").unwrap();
        drop(ready);
        let (_ready, source, _, _) = place.one(mount).await;
        assert_ne!(read(&source.join("sub/a")), "changed", "{mount}");
        assert!(!source.join("new").exists(), "{mount}");
    }
    assert_eq!(read(&place.path("context/sub/a")), "context");
    assert_eq!(read(&place.path("upper/sub/a")), "above");
}

#[tokio::test]
async fn caches_stay_and_are_told_apart() {
    let Some(place) = Place::new() else { return };
    let (ready, source, ..) = place.one("type=cache,target=/root/.cache").await;
    fs::write(source.join("x"), "kept").unwrap();
    drop(ready);
    let (_, source, target, read_only) = place.one("type=cache,id=/root/.cache,target=other,ro").await;
    assert_eq!((read(&source.join("x")).as_str(), target.as_str(), read_only), ("kept", "/work/other", true));
    let (_, source, ..) = place.one("type=cache,target=/root/.cache,mode=0700,uid=7,gid=8").await;
    let status = fs::metadata(&source).unwrap();
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (7, 8, 0o700));
    assert!(!source.join("x").exists());
    let (_, source, ..) = place.one("type=cache,target=/c,from=stage,source=link").await;
    assert_eq!((read(&source.join("a")), read(&source.join("b"))), ("above".to_owned(), "below".to_owned()));
    assert!(place.error("type=cache,target=/c,from=stage,source=none").await.contains("no such"));
}

#[tokio::test]
async fn secrets_are_files_in_memory_or_variables() {
    let Some(mut place) = Place::new() else { return };
    place.given.secrets.insert("token".to_owned(), b"s3cret".to_vec());
    place.given.secrets.insert("binary".to_owned(), vec![0xff, 0]);
    let (ready, source, target, read_only) = place.one("type=secret,id=token").await;
    let status = fs::metadata(&source).unwrap();
    assert_eq!((read(&source).as_str(), target.as_str(), read_only), ("s3cret", "/run/secrets/token", true));
    assert_eq!((status.mode() & 0o7777, status.uid()), (0o400, 0));
    let kind = rustix::fs::statfs(&source).unwrap().f_type;
    assert_eq!(kind, 0x0102_1994, "a secret is on a disk");
    drop(ready);
    assert!(!source.exists(), "a secret stays");
    let (_ready, source, target, _) = place.one("type=secret,target=x/token,mode=0444,uid=5,gid=6").await;
    let status = fs::metadata(&source).unwrap();
    assert_eq!((target.as_str(), status.mode() & 0o7777, status.uid(), status.gid()), ("/work/x/token", 0o444, 5, 6));
    let ready = place.prepare(&["type=secret,id=token,env=TOKEN"]).await.unwrap();
    assert_eq!((ready.environment.as_slice(), ready.mounts.len()), (["TOKEN=s3cret".to_owned()].as_slice(), 0));
    let ready = place.prepare(&["type=secret,id=token,env=TOKEN,target=/t"]).await.unwrap();
    assert_eq!((ready.environment.len(), ready.mounts.len()), (1, 1));
    let ready = place.prepare(&["type=secret,id=none", "type=secret,id=none,env=X"]).await.unwrap();
    assert!(ready.mounts.is_empty() && ready.environment.is_empty());
    for (mount, says) in [
        ("type=secret,id=none,required", "secret none: not found"),
        ("type=secret,id=binary,env=X", "is not text"),
        ("type=secret,id=token,env=A=B", "no variable's name"),
    ] {
        let error = place.error(mount).await;
        assert!(error.contains(says) && !error.contains("s3cret"), "{mount}: {error}");
    }
}

#[tokio::test]
async fn a_socket_leads_to_the_agent_and_ends_with_the_step() {
    let Some(mut place) = Place::new() else { return };
    let agent = place.path("agent");
    let listener = UnixListener::bind(&agent).unwrap();
    let answering = std::thread::spawn(move || {
        let mut question = [0; 5];
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut question).unwrap();
        stream.write_all(KEYS).unwrap();
        question
    });
    place.given.agents.insert("default".to_owned(), Held::Socket(agent));
    let (ready, source, target, _) = place.one("type=ssh,mode=0660,uid=3").await;
    assert_eq!(target, "/run/buildkit/ssh_agent.0");
    assert_eq!(ready.agent.as_deref(), Some(target.as_str()));
    let status = fs::metadata(&source).unwrap();
    assert_eq!((status.permissions().mode() & 0o777, status.uid()), (0o660, 3));
    let path = source.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        // Have no keys any more. The agent itself does not hear of it.
        stream.write_all(&[0, 0, 0, 1, 19]).unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0, 0, 0, 1, 5]);
        stream.write_all(WHICH).unwrap();
        let mut answer = [0; KEYS.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *KEYS);
    });
    asked.await.unwrap();
    assert_eq!(answering.join().unwrap(), *WHICH);
    drop(ready);
    for _ in 0..100 {
        if UnixStream::connect(&source).is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the socket still answers");
}

/// Asks an agent which keys it has.
const WHICH: &[u8; 5] = &[0, 0, 0, 1, 11];
/// None.
const KEYS: &[u8; 9] = &[0, 0, 0, 5, 12, 0, 0, 0, 0];

#[tokio::test]
async fn a_step_goes_without_an_agent_that_is_not_required() {
    let Some(mut place) = Place::new() else { return };
    place.given.agents.insert("other".to_owned(), Held::Socket(place.path("none")));
    for mount in ["type=ssh", "type=ssh,required=false", "type=ssh,id=third"] {
        let ready = place.prepare(&[mount]).await.unwrap();
        assert!(ready.mounts.is_empty(), "{mount}");
        assert_eq!(ready.agent.as_deref(), Some("/run/buildkit/ssh_agent.0"), "{mount}");
    }
    // The variable is the first one's, and every one is counted.
    let ready = place.prepare(&["type=ssh,target=/a", "type=ssh,id=other", "type=ssh,id=other"]).await.unwrap();
    let targets: Vec<_> = ready.mounts.iter().map(Made::target).collect();
    assert_eq!(
        (targets.as_slice(), ready.agent.as_deref()),
        (["/run/buildkit/ssh_agent.1", "/run/buildkit/ssh_agent.2"].as_slice(), Some("/a"))
    );
    for (mount, says) in [
        ("type=ssh,required", "no SSH key \"default\" forwarded from the client: pass --ssh default"),
        ("type=ssh,id=third,required=true", "no SSH key \"third\" forwarded from the client: pass --ssh third"),
        ("type=ssh,source=/x", "ssh does not support source"),
    ] {
        let error = place.error(mount).await;
        assert!(error.contains(says), "{mount}: {error}");
    }
}

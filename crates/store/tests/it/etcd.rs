//! The store in etcd: the contract, against an etcd that the test starts and ends.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use store::{Error, Revision, Store, Txn};

use crate::contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_keeps_the_contract() {
    let Some(server) = Server::start() else { return };
    contract::check(server.connect().await).await;
}

#[tokio::test]
async fn a_member_that_is_gone_is_passed_over() {
    let Some(server) = Server::start() else { return };
    let gone = format!("http://127.0.0.1:{}", free_port());
    let store = Store::etcd(&[gone.clone(), server.endpoint.clone()]).await.expect("connect");
    store.commit(Txn::put("/a", "1", Revision::ABSENT)).await.expect("commit");
    assert!(store.get("/a").await.expect("get").0.is_some());
    let error = Store::etcd(&[gone]).await.expect_err("connected to nothing");
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_watch_ends_when_etcd_does_and_resumes_after_it() {
    let Some(mut server) = Server::start() else { return };
    let store = server.connect().await;
    let mut watch = store.watch("/", Revision::INITIAL).await.expect("watch");
    store.commit(Txn::put("/a", "1", Revision::ABSENT)).await.expect("commit");
    let first = watch.next().await.expect("first batch");
    server.stop();
    let error = watch.next().await.expect_err("the watch went on without etcd");
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    let error = store.commit(Txn::put("/b", "1", Revision::ABSENT)).await.expect_err("committed without etcd");
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    server.restart();
    store.commit(Txn::put("/c", "1", Revision::ABSENT)).await.expect("commit");
    let mut watch = store.watch("/", first.revision).await.expect("watch");
    assert_eq!(&**watch.next().await.expect("next batch").events[0].key(), "/c");
}

#[tokio::test]
async fn a_backup_of_etcd_becomes_an_embedded_store() {
    let Some(server) = Server::start() else { return };
    let store = server.connect().await;
    for number in 0..1500 {
        let txn = Txn::put(format!("/{number:04}"), vec![number as u8; 700], Revision::ABSENT);
        store.commit(txn).await.expect("commit");
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("backup");
    let backup = store.backup(&mut tokio::fs::File::create(&file).await.expect("create")).await.expect("backup");
    assert_eq!(backup.bytes, file.metadata().expect("metadata").len());
    let restored = Store::restore(&file, &dir.path().join("store")).expect("restore");
    assert_eq!((restored.revision, restored.entries), (backup.revision, 1500));
    let copy = Store::embedded(&dir.path().join("store"), Default::default()).await.expect("open");
    let all = |page: store::Page| page.entries;
    assert!(
        all(copy.range("", None, None, 0).await.expect("range"))
            == all(store.range("", None, None, 0).await.expect("range"))
    );
}

/// An etcd of one member in a temporary directory.
struct Server {
    program: PathBuf,
    endpoint: String,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    /// Starts one; says so when there is no etcd to start, and fails where it must be there.
    fn start() -> Option<Self> {
        let Some(program) = find() else {
            assert!(std::env::var_os("CI").is_none(), "there is no etcd: set MADANG_ETCD or put it on PATH");
            eprintln!("did not run: there is no etcd (MADANG_ETCD, PATH or the cache of xtask)");
            return None;
        };
        let dir = tempfile::tempdir().expect("temporary directory");
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let mut server = Self { program, endpoint, dir, child: None };
        server.restart();
        Some(server)
    }

    fn restart(&mut self) {
        // A port that is free twice in a row may be the same one.
        let mut peers = std::iter::repeat_with(|| format!("http://127.0.0.1:{}", free_port()));
        let peer = peers.find(|peer| *peer != self.endpoint).expect("another port");
        let log = std::fs::File::create(self.dir.path().join("log")).expect("log file");
        let mut command = Command::new(&self.program);
        command.arg("--data-dir").arg(self.dir.path().join("data")).args(["--name", "test"]);
        for (flag, value) in [
            ("--listen-client-urls", &self.endpoint),
            ("--advertise-client-urls", &self.endpoint),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &format!("test={peer}")),
        ] {
            command.args([flag, value]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("start etcd");
        self.child = Some(child);
        self.wait();
    }

    fn wait(&mut self) {
        let address = self.endpoint.trim_start_matches("http://").to_owned();
        let begun = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            let ended = self.child.as_mut().expect("running").try_wait().expect("look at etcd");
            if ended.is_some() || begun.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!("etcd did not start: {ended:?}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("end etcd");
            child.wait().expect("wait for etcd");
        }
    }

    async fn connect(&self) -> Store {
        Store::etcd(std::slice::from_ref(&self.endpoint)).await.expect("connect")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MADANG_ETCD") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("MADANG_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/madang")));
    let places = std::env::split_paths(&path).chain(cache.map(|cache| cache.join("bin")));
    places.map(|place| place.join("etcd")).find(|program| program.is_file())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

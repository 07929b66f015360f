//! A server whose state is in etcd.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use e2e::Place;

use crate::shared::{self, fresh_in, pod};

/// etcd inside a place, with its files.
struct Etcd {
    child: Child,
    dir: PathBuf,
}

impl Etcd {
    fn start(place: &Place, client: u16, peer: u16) -> Self {
        let program = std::env::var_os("MADANG_ETCD").unwrap_or_else(|| "etcd".into());
        let dir = std::env::temp_dir().join(format!("madang-etcd-{}", std::process::id()));
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut command = place.command(PathBuf::from(program));
        command.arg("--data-dir").arg(&dir).args(["--log-level", "error", "--unsafe-no-fsync"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]).stdin(Stdio::null());
        Self { child: command.spawn().expect("start etcd"), dir }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait().map(drop));
        if let Err(error) = ended.and_then(|()| std::fs::remove_dir_all(&self.dir)) {
            eprintln!("end etcd: {error}");
        }
    }
}

#[test]
#[ignore = "a server more: cargo xtask test --full"]
fn a_server_on_etcd_keeps_what_it_was_told_and_finds_its_pods_again() {
    if shared::lacks(shared::missing()) {
        return;
    }
    let place = Place::new(4).expect("a place");
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let (client, peer) = (free(), free());
    let _etcd = Etcd::start(&place, client, peer);
    let store = format!("etcd:http://127.0.0.1:{client}");
    let mut cluster = fresh_in(place, 4, &["--store", &store]);
    let kubectl = cluster.kubectl("default");
    kubectl.until(&["get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    kubectl.apply(&pod("stays", "while true; do sleep 1; done"));
    kubectl.run(&["create", "secret", "generic", "word", "--from-literal=word=plaintext"]).good();
    for n in 0..50 {
        kubectl.run(&["create", "configmap", &format!("n{n}")]).good();
    }
    kubectl.run(&["wait", "--for=condition=Ready", "pod/stays", "--timeout=60s"]).good();
    let id = kubectl.field("pod/stays", "{.status.containerStatuses[0].containerID}");
    // Nothing is kept here, and no secret is readable there.
    let kept = Command::new("grep")
        .arg("-rqa")
        .arg("plaintext")
        .arg(std::env::temp_dir().join(format!("madang-etcd-{}", std::process::id())))
        .status();
    assert_eq!(kept.expect("run grep").code(), Some(1), "the secret is in etcd's files");
    cluster.kill().unwrap();
    cluster.serve().unwrap();
    let kubectl = cluster.kubectl("default");
    let names = kubectl.run(&["get", "configmaps", "-o", "name"]).good();
    assert_eq!(names.lines().filter(|name| name.starts_with("configmap/n")).count(), 50, "{names}");
    assert_eq!(kubectl.field("pod/stays", "{.status.containerStatuses[0].containerID}"), id);
    assert_eq!(kubectl.field("secret/word", "{.data.word}"), "cGxhaW50ZXh0");
    // A watch goes on with what came in between.
    kubectl.run(&["delete", "pod", "stays", "--timeout=60s"]).good();
}

//! Joining a container's streams.

use std::time::Duration;

use container::shim::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::sandbox::{Sandbox, as_root, typed};

async fn start(pod: &Sandbox, script: &str, change: impl FnOnce(&mut Stdio)) {
    let mut stdio = pod.stdio("c");
    change(&mut stdio);
    pod.shim.create("c", &typed(&pod.spec(script)), &pod.rootfs("c"), &stdio).await.unwrap();
    pod.shim.start("c").await.unwrap();
}

#[test]
fn who_joins_gets_output_from_then_on_and_the_log_gets_all() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        start(&pod, "echo before; read line; echo after $line; echo err >&2", |stdio| stdio.stdin = true).await;
        while pod.output("c").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut attached = pod.shim.attach("c", true).await.unwrap();
        let mut second = pod.shim.attach("c", false).await.unwrap();
        attached.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
        let (mut out, mut error, mut other) = (String::new(), String::new(), String::new());
        attached.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        attached.stderr.take().unwrap().read_to_string(&mut error).await.unwrap();
        second.stdout.take().unwrap().read_to_string(&mut other).await.unwrap();
        assert_eq!((out.as_str(), error.as_str(), other.as_str()), ("after word\n", "err\n", "after word\n"));
        pod.exit("c").await;
        assert_eq!(pod.output("c"), "before\nafter word\nerr\n");
        pod.end().await;
    });
}

#[test]
fn input_stays_open_when_its_first_writer_goes_or_ends_when_it_was_to_be_once() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        start(&pod, "while read line; do echo got $line; done; echo end", |stdio| stdio.stdin = true).await;
        for word in ["one", "two"] {
            let mut attached = pod.shim.attach("c", true).await.unwrap();
            attached.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(pod.output("c"), "got one\ngot two\n");
        pod.shim.delete("c", true).await.unwrap();
        assert_eq!(pod.exit("c").await.code, 137);
        start(&pod, "cat; echo end", |stdio| (stdio.stdin, stdio.stdin_once) = (true, true)).await;
        let mut attached = pod.shim.attach("c", true).await.unwrap();
        attached.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
        drop(attached);
        assert_eq!(pod.exit("c").await.code, 0);
        assert!(pod.output("c").ends_with("word\nend\n"), "{}", pod.output("c"));
        pod.end().await;
    });
}

#[test]
fn much_input_arrives_whole() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        start(&pod, "sleep 0.2; wc -c", |stdio| (stdio.stdin, stdio.stdin_once) = (true, true)).await;
        let mut attached = pod.shim.attach("c", true).await.unwrap();
        let mut stdin = attached.stdin.take().unwrap();
        stdin.write_all(&vec![b'x'; 500_000]).await.unwrap();
        drop(stdin);
        assert_eq!(pod.exit("c").await.code, 0);
        assert_eq!(pod.output("c"), "500000\n");
        pod.end().await;
    });
}

#[test]
fn a_slow_reader_gets_everything() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        start(&pod, "read go; seq 1 100000", |stdio| stdio.stdin = true).await;
        let mut attached = pod.shim.attach("c", true).await.unwrap();
        attached.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut out = String::new();
        attached.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        assert_eq!(out.lines().count(), 100_000);
        pod.exit("c").await;
        assert_eq!(pod.output("c"), out);
        pod.end().await;
    });
}

#[test]
fn a_reader_that_goes_does_not_disturb() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        start(&pod, "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done", |_| {}).await;
        for _ in 0..5 {
            drop(pod.shim.attach("c", true).await);
        }
        assert_eq!(pod.exit("c").await.code, 0);
        assert_eq!(pod.output("c"), "1\n2\n3\n4\n5\n");
        pod.end().await;
    });
}

#[test]
fn a_terminal_is_shared_logged_and_resized() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let script = "tty; ls -l /dev/console | cut -c1; read x; stty size; echo got $x; echo err >&2";
        start(&pod, script, |stdio| (stdio.terminal, stdio.stdin) = (true, true)).await;
        let mut attached = pod.shim.attach("c", true).await.unwrap();
        while !pod.output("c").ends_with("c\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pod.shim.resize("c", 20, 30).await.unwrap();
        attached.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
        let mut out = String::new();
        attached.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        assert!(out.ends_with("20 30\r\ngot word\r\nerr\r\n"), "{out:?}");
        assert_eq!(pod.exit("c").await.code, 0);
        assert_eq!(pod.output("c"), "/dev/pts/0\nc\nword\n20 30\ngot word\nerr\n");
        pod.end().await;
    });
}

#[test]
fn input_without_a_reader_is_nothing() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        start(&pod, "cat; echo end; ls -l /proc/self/fd/0 | sed 's/.*-> //'", |_| {}).await;
        assert_eq!(pod.exit("c").await.code, 0);
        assert_eq!(pod.output("c"), "end\n/dev/null\n");
        pod.end().await;
    });
}

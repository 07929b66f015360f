//! `RUN`: what a step is, and what it leaves.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use build::{progress::Progress, request::Error};
use runtime::description::SandboxConfig;

use crate::place::{Place, as_root};

const BASE: &str = "FROM test.madang.dev/busybox:1\n";

#[test]
fn steps_run_as_the_file_says() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        for (instructions, wanted) in [
            ("RUN echo hello", "hello\n"),
            ("RUN [\"/bin/echo\", \"exec form\"]", "exec form\n"),
            ("RUN <<EOF\necho one\necho two\nEOF", "one\ntwo\n"),
            ("RUN <<EOF\n#!/bin/cat\nthe script\nEOF", "#!/bin/cat\nthe script\n"),
            ("ENV A=1\nARG B=2\nRUN echo $A $B", "1 2\n"),
            ("WORKDIR /w\nRUN pwd", "/w\n"),
            ("USER web\nRUN id -u; id -g; echo $HOME", "1000\n50\n/\n"),
            ("USER 5:6\nRUN id -u; id -g", "5\n6\n"),
            ("SHELL [\"/bin/echo\", \"by\"]\nRUN shell", "by shell\n"),
            ("RUN hostname", "buildkitsandbox\n"),
            ("RUN echo error >&2", "error\n"),
            ("RUN --mount=type=tmpfs,target=/m echo x > /m/f && cat /m/f", "x\n"),
            ("RUN --mount=type=bind,target=/m cat /m/a", "1"),
            ("RUN ls /sys/class/net", "lo\n"),
        ] {
            let mut request = place.request(&format!("{BASE}{instructions}\n"), &context);
            request.options.no_cache = true;
            let (built, told) = place.build(request).await;
            assert!(built.is_ok(), "{instructions}: {}{}", built.unwrap_err().show(), told.output);
            assert_eq!(told.output, wanted, "{instructions}");
        }
    });
}

#[test]
fn what_a_step_writes_stays_and_nothing_else() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let dockerfile = format!(
            "{BASE}RUN --mount=type=bind,target=/mnt/ctx echo x > /made && rm /bin/vi && mkdir /d && chmod 700 /d\n\
             RUN rm -r /tmp && mkdir /tmp && echo y > /tmp/y\n"
        );
        let found = place.files(place.request(&dockerfile, &context)).await.unwrap();
        let has = |name: &str| found.iter().find(|line| line.split(' ').next() == Some(name));
        assert_eq!(has("made").map(String::as_str), Some("made 644 0:0 x"));
        assert_eq!(has("d").map(String::as_str), Some("d 700 0:0 dir"));
        assert_eq!(has("tmp/y").map(String::as_str), Some("tmp/y 644 0:0 y"));
        for gone in ["bin/vi", "mnt", "mnt/ctx", "etc/resolv.conf", "etc/hosts", "etc/hostname"] {
            assert_eq!(has(gone), None, "{gone}");
        }
        assert!(has("bin/ls").is_some());
    });
}

#[test]
fn a_step_that_fails_shows_its_line_and_its_last_words() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let dockerfile = format!("{BASE}RUN true\nRUN echo the reason && exit 3\n");
        let (built, _) = place.build(place.request(&dockerfile, &context)).await;
        let error = built.unwrap_err();
        let shown = error.show();
        assert!(shown.contains("   3 | >>> RUN echo the reason && exit 3"), "{shown}");
        assert!(shown.contains("the reason\n------"), "{shown}");
        assert!(shown.contains("did not complete successfully: exit code: 3"), "{shown}");
        let (built, _) = place.build(place.request(&format!("{BASE}RUN [\"/none\"]\n"), &context)).await;
        assert!(built.unwrap_err().show().contains("/none"));
    });
}

#[test]
fn stages_run_side_by_side_and_those_not_needed_not_at_all() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let stage = |name: &str| format!("{} AS {name}\nRUN sleep 2 && echo {name} > /{name}\n", BASE.trim_end());
        let dockerfile = format!(
            "{}{}{}{} AS unused\nRUN exit 1\nFROM scratch\nCOPY --from=x /x /\nCOPY --from=y /y /\nCOPY --from=z /z /\n",
            stage("x"),
            stage("y"),
            stage("z"),
            BASE.trim_end()
        );
        let begin = Instant::now();
        let found = place.files(place.request(&dockerfile, &context)).await.unwrap();
        assert_eq!(found, ["x 644 0:0 x", "y 644 0:0 y", "z 644 0:0 z"]);
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let mut request = place.request(&dockerfile, &context);
        request.options.target = Some("y".into());
        let found = place.files(request).await.unwrap();
        assert!(found.contains(&"y 644 0:0 y".to_owned()));
    });
}

#[test]
fn nothing_runs_on_when_nobody_waits() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let dockerfile = format!("{BASE}RUN sleep 1000\n");
        // The one who waits goes.
        let (progress, mut events) = Progress::channel();
        let build = place.builder.build(place.request(&dockerfile, &context), &progress);
        tokio::select! {
            _ = build => panic!("it ended"),
            () = async {
                while place.runtime.list_containers(None).is_empty() {
                    let _ = events.recv().await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            } => {}
        }
        gone(&place).await;
        // The reader goes.
        let (progress, mut events) = Progress::channel();
        let listen = async move {
            for _ in 0..6 {
                let _ = events.recv().await;
            }
        };
        let (built, ()) = tokio::join!(place.builder.build(place.request(&dockerfile, &context), &progress), listen);
        assert!(matches!(built, Err(Error::Canceled)), "{built:?}");
        gone(&place).await;
    });
}

/// The processes of a place's shims: they are called by the ids of their sandboxes.
fn shims(ids: &BTreeSet<String>) -> Vec<String> {
    let commands = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&command).replace('\0', " "))
    });
    commands.filter(|command| command.contains("madang-shim") && ids.iter().any(|id| command.contains(id))).collect()
}

#[test]
fn a_sandbox_that_is_given_up_while_it_is_made_leaves_no_process() {
    let ids = std::sync::Mutex::new(BTreeSet::new());
    let known = &ids;
    // Its end waits for threads that still start something.
    as_root(async move {
        let place = Place::new().await;
        for number in 0..40 {
            let config = SandboxConfig {
                name: "given-up".into(),
                namespace: "test".into(),
                uid: format!("{}given-up-{number}", runtime::steps::UID_PREFIX),
                no_network: true,
                ..SandboxConfig::default()
            };
            // At whatever it is then.
            let patience = Duration::from_micros(500 * number);
            let _ = tokio::time::timeout(patience, place.runtime.run_pod_sandbox(config)).await;
            for sandbox in place.runtime.list_sandboxes() {
                known.lock().unwrap().insert(sandbox.record.id.clone());
                place.runtime.remove_pod_sandbox(&sandbox.record.id).await.unwrap();
            }
        }
        assert!(place.runtime.list_sandboxes().is_empty());
        let left = std::fs::read_dir(place.path("runtime/sandboxes")).unwrap().count();
        assert_eq!((left, std::fs::read_dir(place.path("run")).unwrap().count()), (0, 0));
    });
    let ids = ids.into_inner().unwrap();
    let left = shims(&ids);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_a_killed_server_has_left_is_removed_at_the_next_start() {
    as_root(async {
        let mut place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let dockerfile = format!("{BASE}RUN echo kept > /kept\nRUN sleep 1000\n");
        let request = place.request(&dockerfile, &context);
        let (builder, task) = (place.builder.clone(), place.task.clone());
        task.spawn("asks", async move {
            let (progress, mut events) = Progress::channel();
            let listen = async { while events.recv().await.is_some() {} };
            let _ = tokio::join!(builder.build(request, &progress), listen);
        });
        while !place
            .runtime
            .list_containers(None)
            .iter()
            .any(|record| record.config.command.iter().any(|word| word.contains("sleep")))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let before = place.store.drafts().len();
        // Nothing gets to clean up.
        place.task.drain(Duration::ZERO).await;
        place.again().await;
        assert!(place.runtime.list_sandboxes().is_empty(), "{:?}", place.runtime.list_sandboxes());
        assert_eq!(std::fs::read_dir(place.path("build/tmp")).unwrap().count(), 0);
        assert!(place.store.drafts().len() < before, "{before} drafts before");
        // What was done is still there.
        let (built, told) = place.build(place.request(&format!("{BASE}RUN echo kept > /kept\n"), &context)).await;
        built.unwrap();
        assert!(told.done().is_empty(), "{:?}", told.done());
    });
}

async fn gone(place: &Place) {
    let begin = Instant::now();
    loop {
        let scratch = std::fs::read_dir(place.path("build/tmp")).unwrap().count();
        if place.runtime.list_sandboxes().is_empty() && scratch == 0 {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", place.runtime.list_sandboxes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

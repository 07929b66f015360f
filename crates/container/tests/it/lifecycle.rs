//! Create, start, end, delete; and what is left of it.

use std::{fs, time::Duration};

use container::{
    protocol::State,
    shim::{Error, Exits, Shim},
};
use serde_json::json;

use crate::sandbox::{Sandbox, as_root};

#[test]
fn a_container_runs_and_its_end_is_told_and_written_down() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec("echo hello; echo oops >&2; exit 3");
        let pid = pod.create("c", &spec).await.unwrap();
        assert!(pid > 0);
        let state = &pod.shim.info().await.unwrap().containers[0];
        assert_eq!((state.id.as_str(), state.status, state.pid), ("c", State::Created, Some(pid)));
        pod.shim.start("c").await.unwrap();
        let exit = pod.exit("c").await;
        assert_eq!((exit.code, exit.signal, exit.oom), (3, None, false));
        assert_eq!(pod.output("c"), "hello\noops\n");
        let state = pod.shim.info().await.unwrap().containers[0].clone();
        assert_eq!((state.status, state.pid, state.exit), (State::Stopped, None, Some(exit)));
        let written = Exits::read(&pod.path("state")).unwrap();
        assert_eq!(written.get("c"), Some(exit));
        pod.shim.delete("c", false).await.unwrap();
        assert!(pod.shim.info().await.unwrap().containers.is_empty());
        pod.end().await;
    });
}

#[test]
fn a_container_waits_for_its_start() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec("echo started");
        pod.create("c", &spec).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(pod.output("c"), "");
        pod.shim.start("c").await.unwrap();
        assert_eq!(pod.exit("c").await.code, 0);
        assert!(matches!(pod.shim.start("c").await, Err(Error::State(_))));
        assert_eq!(pod.output("c"), "started\n");
        pod.end().await;
    });
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec("echo never");
        pod.create("c", &spec).await.unwrap();
        pod.shim.kill("c", libc::SIGKILL, false).await.unwrap();
        assert_eq!(pod.exit("c").await.signal, Some(libc::SIGKILL));
        pod.shim.delete("c", false).await.unwrap();
        pod.create("d", &spec).await.unwrap();
        pod.shim.delete("d", true).await.unwrap();
        assert_eq!(pod.group.children(), Vec::<String>::new());
        pod.end().await;
    });
}

#[test]
fn signals_end_containers_with_their_number() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec("trap 'exit 7' TERM; while :; do sleep 0.01; done");
        pod.start("c", &spec).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        pod.shim.kill("c", libc::SIGTERM, false).await.unwrap();
        assert_eq!(pod.exit("c").await.code, 7);
        let spec = pod.spec("sleep 100 & sleep 100");
        pod.start("d", &spec).await.unwrap();
        pod.shim.kill("d", libc::SIGKILL, true).await.unwrap();
        let exit = pod.exit("d").await;
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        // Signals to what has ended are no error.
        pod.shim.kill("d", libc::SIGTERM, false).await.unwrap();
        pod.end().await;
    });
}

#[test]
fn names_and_states_are_checked() {
    as_root(async {
        let pod = Sandbox::new().await;
        let spec = pod.spec("sleep 100");
        assert!(matches!(pod.shim.start("c").await, Err(Error::NotFound(_))));
        assert!(matches!(pod.shim.delete("c", true).await, Err(Error::NotFound(_))));
        pod.start("c", &spec).await.unwrap();
        assert!(matches!(pod.create("c", &spec).await, Err(Error::Exists(_))));
        assert!(matches!(pod.shim.delete("c", false).await, Err(Error::State(_))));
        assert!(pod.create("a/b", &spec).await.is_err());
        assert!(pod.create("..", &spec).await.is_err());
        pod.end().await;
    });
}

#[test]
fn a_failed_creation_leaves_nothing() {
    as_root(async {
        let pod = Sandbox::new().await;
        let mut spec = pod.spec("true");
        spec["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/nowhere", "type": "bind", "source": "/does/not/exist", "options": ["rbind"],
        }));
        let error = pod.create("c", &spec).await.unwrap_err().to_string();
        assert!(error.contains("/does/not/exist"), "{error}");
        assert_eq!(pod.group.children(), Vec::<String>::new());
        assert!(pod.shim.info().await.unwrap().containers.is_empty());
        // The name is free again.
        let spec = pod.spec("true");
        pod.create("c", &spec).await.unwrap();
        pod.end().await;
    });
}

#[test]
fn programs_that_cannot_run_are_told_apart() {
    as_root(async {
        let pod = Sandbox::new().await;
        let not_found = pod.create("a", &pod.spec_of(&["missing"])).await.unwrap_err();
        assert!(
            matches!(&not_found, Error::ProgramNotFound(text)
            if text == "exec: \"missing\": executable file not found in $PATH"),
            "{not_found:?}"
        );
        let not_found = pod.create("b", &pod.spec_of(&["/no/such"])).await.unwrap_err();
        assert!(
            matches!(&not_found, Error::ProgramNotFound(text)
            if text == "exec: \"/no/such\": no such file or directory"),
            "{not_found:?}"
        );
        let refused = pod.create("c", &pod.spec_of(&["plain"])).await.unwrap_err();
        assert!(
            matches!(&refused, Error::ProgramNotExecutable(text)
            if text == "exec: \"plain\": permission denied"),
            "{refused:?}"
        );
        let directory = pod.create("d", &pod.spec_of(&["/etc"])).await.unwrap_err();
        assert!(matches!(directory, Error::ProgramNotExecutable(_)), "{directory:?}");
        pod.end().await;
    });
}

#[test]
fn a_shim_outlives_its_daemon_and_is_found_again() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec("sleep 0.3; echo done");
        let pid = pod.start("c", &spec).await.unwrap();
        // All handles go, as when the daemon dies.
        let (shim, socket) = (pod.shim.pid(), pod.path("shim.sock"));
        pod.shim = Shim::connect(&pod.task, &socket).await.unwrap();
        pod.events = pod.shim.events();
        assert_eq!(pod.shim.pid(), shim);
        let parent = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(parent.contains(&format!("PPid:\t{shim}\n")));
        assert_eq!(pod.exit("c").await.code, 0);
        assert_eq!(pod.output("c"), "done\n");
        let session = fs::read_to_string(format!("/proc/{shim}/stat")).unwrap();
        let fields: Vec<_> = session.rsplit_once(") ").unwrap().1.split(' ').collect();
        assert_eq!(fields[3], shim.to_string(), "the shim leads a session of its own");
        pod.end().await;
    });
}

#[test]
fn what_happened_while_nobody_was_connected_is_in_the_state() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec("exit 5");
        pod.create("c", &spec).await.unwrap();
        pod.shim.start("c").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        pod.shim = Shim::connect(&pod.task, &pod.path("shim.sock")).await.unwrap();
        let state = pod.shim.info().await.unwrap().containers[0].clone();
        assert_eq!(state.exit.map(|exit| exit.code), Some(5));
        pod.end().await;
    });
}

#[test]
fn malformed_requests_end_a_connection_and_nothing_else() {
    use std::io::{Read, Write};
    as_root(async {
        let pod = Sandbox::new().await;
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[4, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 4]] {
            let mut stream = std::os::unix::net::UnixStream::connect(pod.path("shim.sock")).unwrap();
            stream.write_all(bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        }
        assert!(pod.shim.info().await.unwrap().containers.is_empty());
        pod.end().await;
    });
}

#[test]
fn a_socket_path_may_be_longer_than_an_address() {
    as_root(async {
        let long = "long".repeat(40);
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join(&long);
        fs::create_dir_all(&nested).unwrap();
        let socket = nested.join("shim.sock");
        let pod = Sandbox::with(|spec| spec.socket = socket.clone()).await;
        Shim::connect(&pod.task, &socket).await.unwrap();
        pod.end().await;
    });
}

#[test]
fn a_shim_keeps_nothing_of_what_is_gone() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let shim = pod.shim.pid();
        let descriptors = || fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count();
        let heap = || {
            let text = fs::read_to_string(format!("/proc/{shim}/status")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let mut first = None;
        for round in 0..30 {
            let id = format!("c{round}");
            pod.start(&id, &pod.spec("echo out; sleep 1000")).await.unwrap();
            let mut attached = pod.shim.attach(&id, true).await.unwrap();
            drop(attached.stdin.take());
            drop(attached);
            pod.shim.exec(&id, &pod.process(&["missing"]), false, false).await.unwrap_err();
            for terminal in [false, true] {
                let exec = pod.shim.exec(&id, &pod.process(&["true"]), terminal, false).await.unwrap();
                crate::sandbox::finish(exec).await;
            }
            pod.create("bad", &pod.spec_of(&["missing"])).await.unwrap_err();
            drop(Shim::connect(&pod.task, &pod.path("shim.sock")).await.unwrap());
            pod.shim.delete(&id, true).await.unwrap();
            pod.exit(&id).await;
            if round == 4 {
                first = Some((descriptors(), heap()));
            }
        }
        let (open, kilobytes) = first.unwrap();
        assert!(descriptors() <= open + 1, "{open} descriptors became {}", descriptors());
        assert!(heap() <= kilobytes + 64, "{kilobytes} KiB became {}", heap());
        pod.end().await;
    });
}

#[test]
fn many_containers_live_side_by_side() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        for number in 0..40 {
            let id = format!("c{number}");
            pod.start(&id, &pod.spec(&format!("echo {number}; exit {number}"))).await.unwrap();
        }
        let mut missing: std::collections::BTreeSet<_> = (0..40).map(|number| format!("c{number}")).collect();
        while !missing.is_empty() {
            let container::shim::Event::Exited { id, exit } = pod.events.next().await.unwrap() else { continue };
            assert_eq!(exit.code, id[1..].parse::<i32>().unwrap());
            assert_eq!(pod.output(&id), format!("{}\n", &id[1..]));
            missing.remove(&id);
        }
        assert_eq!(Exits::read(&pod.path("state")).unwrap().iter().count(), 40);
        pod.end().await;
    });
}

#[test]
fn a_daemon_that_dies_in_the_middle_of_anything_leaves_the_shim_well() {
    use prost::Message;
    use std::io::Write;
    as_root(async {
        let mut pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        // A request is cut at every few bytes, as by a daemon that is killed while it writes.
        let exec = container::protocol::Exec { id: "c".into(), exec: "x".into(), ..Default::default() };
        let call = container::protocol::Call::Exec(exec.into());
        let request = container::protocol::Request { number: 1, call: Some(call) };
        assert!(request.encoded_len() > 8);
        let frame = container::protocol::encode(&request, 0);
        for length in 0..=frame.len() {
            let mut stream = std::os::unix::net::UnixStream::connect(pod.path("shim.sock")).unwrap();
            stream.write_all(&frame[..length]).unwrap();
        }
        let exec = pod.shim.exec("c", &pod.process(&["echo", "well"]), false, false).await.unwrap();
        assert_eq!(crate::sandbox::finish(exec).await.1, "well\n");
        pod.shim.kill("c", libc::SIGKILL, false).await.unwrap();
        assert_eq!(pod.exit("c").await.code, 137);
        pod.end().await;
    });
}
